//! D3: whatever subset of what was not synced survives a power cut, what was
//! acknowledged is there, and nothing is that was not written.

use crate::world::{World, seeds};

#[test]
fn any_subset_survives() {
    for seed in seeds(300, 10_000) {
        let mut world = World::new(seed);
        for _life in 0..4 {
            let steps = 20 + world.below(300);
            world.run(steps);
            let safe = world.safe();
            world.stop();
            let cut = world.below(4) > 0;
            if cut {
                let crash = world.below(u64::MAX);
                world.files.crash(crash);
            } else {
                world.files.kill();
            }
            world.start();
            let report = world.journal().report();
            assert!(report.damage.is_empty(), "seed {seed}: {}", report.summary());
            world.check(safe, cut);
        }
    }
}
