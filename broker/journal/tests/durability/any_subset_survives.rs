//! D3: whatever subset of what was not synced survives a power cut, what was
//! acknowledged is there, and nothing is that was not written.

use crate::proof::Proof;
use crate::side_by_side::side_by_side;
use crate::world::World;

#[test]
fn any_subset_survives() {
    let (mut proof, seeds) = Proof::of_seeds("any_subset_survives", 300, 1_000_000);
    let cuts: u64 = side_by_side(&seeds, lives).into_iter().sum();
    proof.figure(format!("4 lives each, {cuts} ended by a power cut; 0 lost, 0 made up"));
}

/// The lives of one seed. How many of them a power cut ended.
fn lives(seed: u64) -> u64 {
    let mut cuts = 0;
    let mut world = World::new(seed);
    for _life in 0..4 {
        let steps = 20 + world.below(300);
        world.run(steps);
        let safe = world.safe();
        world.stop();
        let cut = world.below(4) > 0;
        cuts += u64::from(cut);
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
    cuts
}
