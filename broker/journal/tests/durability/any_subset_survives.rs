//! D3: whatever subset of what was not synced survives a power cut, what was
//! acknowledged is there, and nothing is that was not written.

use weir_core::command::Level;
use weir_core::store::Store;

use crate::world::{World, seeds};

/// One step of a busy store.
pub fn step(world: &mut World) -> bool {
    let name = format!("queue/{}", world.below(4));
    match world.below(20) {
        0..8 => {
            let count = 1 + world.below(6);
            let level = if world.below(3) == 0 { Level::Os } else { Level::Disk };
            world.append(&name, count, level)
        }
        8..11 => {
            let log = world.log(&name);
            let bounds = world.store().bounds(log);
            if bounds.stable > bounds.start {
                let from = bounds.start + world.below(bounds.stable - bounds.start);
                let to = (from + 1 + world.below(8)).min(bounds.stable);
                let level = if world.below(2) == 0 { Level::Os } else { Level::Disk };
                world.release(&name, from, to, level);
            }
            true
        }
        11 => {
            let (key, value) = (format!("key/{}", world.below(5)), world.below(1_000).to_string());
            world.commit() && world.put(&key, value.as_bytes())
        }
        12..16 => world.commit(),
        16 | 17 => {
            let _more = world.journal.as_ref().unwrap().step_writer();
            true
        }
        _ => {
            world.clock.advance(3);
            world.journal.as_ref().unwrap().step().is_ok() && world.commit()
        }
    }
}

#[test]
fn any_subset_survives() {
    for seed in seeds(300) {
        let mut world = World::new(seed);
        for _life in 0..4 {
            let steps = 20 + world.below(300);
            for _ in 0..steps {
                if !step(&mut world) {
                    panic!("seed {seed}: nothing was to fail: {:?}", world.store().commit());
                }
            }
            let safe = world.safe();
            world.stop();
            let cut = world.below(4) > 0;
            if cut {
                let crash = world.below(u64::MAX);
                world.files.crash(crash);
            } else {
                world.files.kill();
            }
            let before = world.files.paths();
            if std::env::var("WEIR_DURABILITY_SEED").is_ok() {
                eprintln!("{cut} {safe:?} {before:?}");
                for path in before.iter().filter(|path| path.contains("/j-")) {
                    use weir_journal::format::{Found, Identity, Kind, read_block, store_tag};
                    let bytes = world.files.bytes(path).unwrap();
                    let seq = u64::from_str_radix(&path[10..26], 16).unwrap();
                    let identity = Identity {
                        store_tag: store_tag(0x5eed_5eed, Kind::Journal),
                        file_sequence: seq,
                    };
                    let mut at = 4096;
                    let mut line = String::new();
                    while let Found::Block(block) = read_block(&bytes, at, identity) {
                        line += &format!(" {}@{at}", block.head.number);
                        at += block.len;
                    }
                    eprintln!("{path}: {line} then {at} of {}", bytes.len());
                }
            }
            world.start();
            let report = world.journal.as_ref().unwrap().report();
            assert!(report.damage.is_empty(), "seed {seed}: {}", report.summary());
            world.check(safe, cut);
        }
    }
}
