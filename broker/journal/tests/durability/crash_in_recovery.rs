//! D12: the power goes during each call with which a start, or one of the first
//! turns after it, changes something, and again during the start that follows. A
//! start changes nothing that the next would need, and no start that crashed leaves
//! the mark of a clean stop.

use crate::proof::Proof;
use crate::world::World;

#[test]
fn crash_in_recovery() {
    let (mut proof, seeds) = Proof::of_seeds("crash_in_recovery", 6, 60);
    let mut points = 0;
    for seed in seeds {
        let mut base = World::new(seed);
        let steps = 300 + base.below(600);
        assert!(base.churn(steps), "seed {seed}");
        let safe = base.safe();
        base.stop();
        let crash = base.below(u64::MAX);
        base.files.crash(crash);
        let mut nth = 0;
        loop {
            nth += 1;
            let mut world = base.fork();
            world.random = weir_journal::sim::Seeded::new(seed << 32 | nth);
            let (mut safe, mut cuts) = (safe, 0);
            for _twice in 0..2 {
                let (found, was_cut) = start_and_cut(&mut world, nth, safe);
                safe = found;
                cuts += u64::from(was_cut);
            }
            world.start();
            let report = world.journal().report().clone();
            assert!(report.damage.is_empty(), "seed {seed} call {nth}: {}", report.summary());
            assert!(!report.clean, "seed {seed} call {nth}: counts as stopped cleanly");
            world.check(safe, true);
            points += cuts;
            if cuts == 0 {
                break;
            }
        }
    }
    proof.figure(format!("{points} power cuts, at every call, twice; 0 lost"));
}

/// Starts and does a few turns, with a power cut during the `nth` changing call.
/// What is safe then, and whether it came to the cut.
fn start_and_cut(world: &mut World, nth: u64, mut safe: (u64, u64)) -> ((u64, u64), bool) {
    world.files.cut_power_at(nth);
    if world.try_start().is_ok() && world.files.has_power() {
        let report = world.journal().report().clone();
        assert!(report.damage.is_empty(), "seed {}: {}", world.seed, report.summary());
        assert!(!report.clean, "seed {} call {nth}: counts as stopped cleanly", world.seed);
        // What a start has found is safe from there on.
        world.check(safe, true);
        let turns = world.churn(40);
        safe = world.safe();
        assert!(turns || !world.files.has_power(), "seed {} call {nth}", world.seed);
    }
    let was_cut = !world.files.has_power();
    world.stop();
    let crash = world.below(u64::MAX);
    world.files.crash(crash);
    (safe, was_cut)
}
