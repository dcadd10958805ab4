//! D13: the power goes while logs are released, trimmed, removed and made again,
//! and while the keeper files, checkpoints and deletes. No record that was kept is
//! gone, and what was removed does not come back once that was promised.

use weir_core::store::Store;

use crate::proof::Proof;
use crate::world::World;

#[test]
fn retention_crash() {
    let (mut proof, seeds) = Proof::of_seeds("retention_crash", 200, 5_000);
    let (mut cuts, mut removed) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        for life in 0..4 {
            let before = world.files.operations();
            let steps = 100 + world.below(500);
            // Somewhere in this life, so far as one can tell.
            let nth = 1 + world.below(3 * steps);
            world.files.cut_power_at(nth);
            let done = world.churn(steps) && (world.below(2) > 0 || world.settle());
            if !done && world.files.has_power() {
                panic!("seed {seed} life {life}: {:?}", world.store().commit());
            }
            cuts += u64::from(!world.files.has_power());
            removed += world.logs.values().filter(|log| log.removed.is_some()).count();
            assert!(world.files.operations() > before);
            world.lose_power(&format!("seed {seed} life {life}"));
        }
    }
    proof.figure(format!("{cuts} power cuts, {removed} removals under way; 0 lost, 0 back"));
    assert!(cuts > 0 && removed > 0);
}
