//! Seeded simulation: many sessions over the directory and several shards, in
//! virtual time, over stores that hold back and fill up, under policies that
//! plan, pick by chance and fail.
//!
//! Every run checks while it goes that nothing is delivered that was not kept,
//! nothing after its ack, no key out of order, no credit exceeded, no row told
//! of twice; and at its end, with all faults gone, that every message kept was
//! settled, is dead, or is parked and counted. A failure names its seed:
//! `WEIR_SIM_SEEDS=<from>..<to> cargo test -p weir-tests --test sim` runs it
//! again, or a thousand others.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that reports its seed")]

mod closing;
mod model;
mod policies;
mod random;
mod sessions;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use sessions::Simulation;
use world::Tally;

/// Seeds of an ordinary test run.
const SEEDS: Range<u64> = 0..200;
/// Steps of one run before everything is brought to its end.
const STEPS: u32 = 1_500;

/// The seeds asked for: `WEIR_SIM_SEEDS` is a number of them, or `from..to`.
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("WEIR_SIM_SEEDS") else { return SEEDS };
    let number = |text: &str| text.trim().parse().expect("WEIR_SIM_SEEDS: <count> or <from>..<to>");
    match asked.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&asked),
    }
}

fn run(seed: u64, records: bool) -> (Tally, String) {
    let mut simulation = Simulation::new(seed, records);
    let whole = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            simulation.step();
        }
        closing::close(&mut simulation);
    }));
    let transcript = simulation.world.transcript.unwrap_or_default();
    if let Err(panic) = whole {
        eprintln!("{transcript}");
        eprintln!("seed {seed} failed; WEIR_SIM_SEEDS={seed}..{} runs it alone", seed + 1);
        resume_unwind(panic);
    }
    (simulation.world.tally, transcript)
}

#[test]
fn nothing_is_lost_overtaken_or_delivered_after_its_ack() {
    let mut sum = Tally::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        // A single seed is run to be looked at: what it did is printed too.
        let (tally, _) = run(seed, seeds.end - seeds.start == 1);
        sum.add(&tally);
    }
    eprintln!("seeds {seeds:?}: {sum:?}");
    if seeds.end - seeds.start >= 100 {
        let least = [
            sum.kept,
            sum.spread,
            sum.refused,
            sum.delivered,
            sum.again,
            sum.settled,
            sum.dead,
            sum.policies_failed,
            sum.restarts,
        ];
        assert!(least.iter().all(|&count| count > 20), "the simulation lost its point: {sum:?}");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [7, 8, 9] {
        let (_, first) = run(seed, true);
        let (_, second) = run(seed, true);
        assert!(first.len() > 10_000, "the transcript is empty");
        let differs = first.lines().zip(second.lines()).position(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: two runs part at this line");
        assert_eq!(first, second, "seed {seed}");
    }
}
