//! The disk is full at any point: appends are refused as such, and the store goes on;
//! what was acknowledged is there, and once there is room again there is no need of a
//! restart. A start over a full disk may be refused.

use std::collections::BTreeMap;

use weir_core::command::Level;
use weir_core::store::{Store, StoreError};
use weir_journal::OpenError;

use crate::world::{World, count};

#[test]
fn disk_full_simulated() {
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for case in 1..=count(150, 2_000) {
        let mut world = World::new(case);
        let steps = world.below(500);
        world.run(steps);
        let room = world.files.used_bytes() + world.below(600 << 10);
        world.files.set_room(room);
        *tally.entry(fill(&mut world)).or_default() += 1;
        if world.below(4) == 0 {
            let safe = world.safe();
            world.stop();
            world.files.kill();
            match world.try_start() {
                Ok(()) => {}
                Err(OpenError::Io { error, .. }) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "case {case}");
                    *tally.entry("no start while full").or_default() += 1;
                    world.files.set_room(u64::MAX);
                    world.files.kill();
                    world.start();
                }
                Err(error) => panic!("case {case}: {error}"),
            }
            let report = world.journal().report().clone();
            assert!(report.damage.is_empty(), "case {case}: {}", report.summary());
            world.check((safe.1, safe.1), true);
        }
        world.files.set_room(1 << 40);
        assert!(world.settle(), "case {case}: stopped though there is room again");
        let name = "queue/0";
        world.try_append(name, &[100], Level::Disk).unwrap_or_else(|error| {
            panic!("case {case}: there is room again, and still: {error}");
        });
        assert!(world.settle());
        let safe = world.safe();
        world.stop();
        world.files.crash(case);
        world.start();
        assert!(world.journal().report().damage.is_empty(), "case {case}");
        world.check(safe, true);
    }
    println!("disk_full_simulated: {tally:?}");
    assert!(tally.contains_key("refused"), "no publish was refused");
}

/// Works until there is no room. How that showed.
fn fill(world: &mut World) -> &'static str {
    let case = world.seed;
    for _ in 0..3_000 {
        let name = format!("queue/{}", world.below(3));
        let lengths: Vec<usize> =
            (0..world.below(4)).map(|_| world.below(2_000) as usize).collect();
        match world.try_append(&name, &lengths, Level::Disk) {
            Ok(()) => {}
            Err(StoreError::NoSpace) => {
                assert!(world.journal().figures().has_no_space, "case {case}");
                // Consumers go on.
                let bounds = world.bounds(&name);
                if bounds.stable > bounds.start {
                    world.release(&name, bounds.start, bounds.start + 1, Level::Disk);
                }
                assert!(world.commit(), "case {case}: {:?}", world.store().commit());
                return "refused";
            }
            Err(error) => panic!("case {case}: {error}"),
        }
        world.clock.advance(5);
        let goes_on = world.commit() && world.journal().step().is_ok();
        assert!(goes_on, "case {case}: {:?}", world.store().commit());
    }
    "never full"
}
