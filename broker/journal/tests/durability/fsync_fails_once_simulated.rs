//! A sync or a write fails once, at any place: the store stops for good, nothing
//! is acknowledged from there on, neither what the failed call covered nor what
//! came later, and a new start finds all that was acknowledged before, for good.

use weir_core::command::Level;
use weir_core::store::{Store, StoreError};
use weir_journal::sim::{Effect, Fault, Operation};

use crate::world::{World, seeds};

#[test]
fn fsync_fails_once_simulated() {
    let operations = [Operation::Sync, Operation::Write, Operation::SyncFolder, Operation::Rename];
    let mut fenced = 0;
    for k in seeds(50, 50) {
        for operation in operations {
            for seed in 0..crate::world::count(2, 20).min(20) {
                fenced += u64::from(fail(k, operation, seed << 16 | k));
            }
        }
    }
    println!("fsync_fails_once_simulated: {fenced} times fenced");
    assert!(fenced > 0);
}

/// The `k`-th operation fails. Whether the store was fenced.
fn fail(k: u64, operation: Operation, seed: u64) -> bool {
    let what = format!("{operation:?} {k} seed {seed}");
    let mut world = World::new(seed);
    world.files.arm(Fault::new(operation, k, Effect::Error));
    let mut safe = world.safe();
    let is_fenced = (0..3_000).any(|_| {
        let before = world.safe();
        let failed = !world.step() || world.store().commit().is_err();
        // The first call that fails may come after blocks that were good.
        safe = if failed { world.safe() } else { before.max(world.safe()) };
        failed
    });
    if is_fenced {
        let stables: Vec<u64> = stables(&mut world);
        for _ in 0..5 {
            assert!(matches!(world.store().commit(), Err(StoreError::Fenced(_))), "{what}");
            let refused = world.try_append("queue/0", &[9], Level::Disk);
            assert!(matches!(refused, Err(StoreError::Fenced(_))), "{what}: {refused:?}");
            assert!(!world.put("key/0", b"9"), "{what}: a put was acknowledged");
            assert!(world.journal().step().is_err(), "{what}");
            assert_eq!(world.safe(), safe, "{what}: more is safe after the failure");
        }
        assert_eq!(self::stables(&mut world), stables, "{what}: a stable end moved");
    }
    // The process ends; the operating system lives on, with what it believes.
    world.stop();
    world.files.kill();
    world.start();
    let report = world.journal().report().clone();
    assert!(report.damage.is_empty(), "{what}: {}", report.summary());
    world.check((safe.1, safe.1), true);
    // What was found and served is safe from here on, whatever the disk had kept
    // of what the failed sync was to bring there.
    assert!(world.append("queue/0", 1, Level::Disk) && world.settle(), "{what}");
    world.lose_power(&format!("{what}, power cut"));
    is_fenced
}

fn stables(world: &mut World) -> Vec<u64> {
    let open: Vec<_> = world.open.values().copied().collect();
    open.into_iter().map(|log| world.store().bounds(log).stable).collect()
}
