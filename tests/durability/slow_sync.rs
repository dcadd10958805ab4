//! D15: each sync takes two seconds. Memory stays within its bound, order is kept,
//! and no acknowledgement comes before the sync that it speaks of.

use std::time::{Duration, Instant};

use weir_client::Level;
use weir_tests::Random;

use crate::broker::{Broker, Setup};
use crate::load::{Load, Producing};
use crate::proof::{DEADLINE, Proof, is_full};
use crate::story::{FLOW, Story, WORK};
use crate::trace::{self, Delay, Delaying, SYNCS};

/// How long a sync takes.
const DELAY_MS: u64 = 2000;
/// Publishers that send far more than the broker may keep.
const PRODUCERS: u32 = 8;
/// Bodies that the broker may keep in memory.
const MEMORY_MIB: u32 = 64;
/// What it may hold besides: what waits for the disk, lines to connections, and what
/// allocators keep back.
const BESIDES_MIB: u64 = 64;

#[test]
fn slow_sync() {
    let mut proof = Proof::begin("slow_sync", (1, 3));
    if proof.needs(trace::available()).is_none() {
        return;
    }
    let folder = proof.folder();
    for run in 0..proof.runs() {
        let mut random = proof.random(run);
        let data = folder.join(format!("data-{run}"));
        let memory_mib = MEMORY_MIB;
        let setup = Setup { memory_mib, journal_file_mib: 64, ..Setup::over(&data) };
        let broker = Broker::start(&setup);
        let mut story = Story::begin(&broker, true);
        let before = broker.resident_bytes();
        let delay = (Delay::Behind, DELAY_MS);
        let log = data.with_extension("trace");
        let delaying = Delaying::attach(broker.process_id(), SYNCS, delay, log);
        // One that looks for each acknowledgement at once. The others learn of theirs
        // when the broker takes more from them, which says nothing about the syncs.
        let careful = vec![Producing::one_by_one(PRODUCERS, WORK)];
        let careful = Load::start(&broker.address, careful, Random::seeded(random.number()));
        // Far more on its way than the broker may keep.
        let producers = (0..PRODUCERS).map(|producer| Producing {
            bytes_max: 8 << 10,
            batch_max: 64,
            depth: 128,
            ..Producing::to(producer, if producer % 2 == 0 { WORK } else { FLOW }, Level::Disk)
        });
        let more = Random::seeded(random.number());
        let load = Load::start(&broker.address, producers.collect(), more);
        let syncs = if is_full() { 20 } else { 5 };
        let (mut most, begun) = (before, Instant::now());
        // Without one of the careful nothing is known of when acknowledgements come.
        let has_none = |load: &Load| load.acknowledged() == 0;
        while delaying.delayed() < syncs || has_none(&load) || has_none(&careful) {
            assert!(begun.elapsed() < 2 * DEADLINE, "nothing is acknowledged");
            load.reach_within(u64::MAX, Duration::from_millis(20));
            most = most.max(broker.resident_bytes());
        }
        let slowed = load.acknowledged();
        broker.kill();
        drop(delaying);
        let lines = [load.lines(), careful.lines()].concat();
        for fastest in lines.iter().filter_map(|line| line.fastest) {
            let is_honest = fastest >= Duration::from_millis(DELAY_MS);
            assert!(is_honest, "acknowledged after {fastest:?}, before any sync was over");
        }
        story.add(lines);
        let broker = Broker::start(&setup);
        story.check(&broker, &format!("run {run}"));
        story.finish(&broker, &format!("the queues of run {run}"));
        broker.stop();
        let grown = (most - before) >> 20;
        let allowed = u64::from(MEMORY_MIB) + BESIDES_MIB;
        assert!(grown <= allowed, "memory grew by {grown} MiB, {allowed} are allowed");
        proof.figure(format!(
            "{syncs} syncs of {DELAY_MS} ms: {slowed} messages acknowledged, memory grew by \
             {grown} MiB of {allowed} allowed"
        ));
        std::fs::remove_dir_all(&data).unwrap();
    }
}
