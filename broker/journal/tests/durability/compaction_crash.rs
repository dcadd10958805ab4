//! D13: a stream is compacted while the power goes, processes are killed and the keeper files,
//! checkpoints and deletes. Of every key, the last message that was acknowledged as
//! synced is there, or a later one; one that was deleted stays so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, RequestId, Start, StreamConfig,
};
use weir_core::effect::{Effect, Reply};
use weir_core::env::Clock;
use weir_core::shard::Shard;
use weir_core::store::StoreError;
use weir_journal::Journal;
use weir_journal::sim::{Seeded, SimFiles};

use crate::proof::Proof;
use crate::shard::{Driven, messages_of, publish};
use crate::world::{TestClock, config};

const STREAM: u32 = 1;
const KEYS: u64 = 12;
/// Longer than from one pass to the next.
const LONG_MS: u64 = 11_000;

/// Of one key.
#[derive(Default)]
struct Known {
    /// The last that was acknowledged at level disk, and at level os or more.
    synced: Option<u64>,
    written: Option<u64>,
    /// Those without a payload.
    tombstones: Vec<u64>,
}

struct Life {
    driven: Driven,
    known: BTreeMap<u64, Known>,
    /// Key and number of the messages of each receipt.
    receipts: Vec<Vec<(u64, u64)>>,
    numbers: u64,
    level: Level,
    compacted: u64,
}

fn stream(level: Level) -> StreamConfig {
    // A life lasts for minutes: most tombstones go in the next.
    StreamConfig { level, compact: true, tombstone_ms: 30_000, ..StreamConfig::default() }
}

/// A broker over what is on the disk, at `steady_ms`.
fn start(files: &SimFiles, clock: &Arc<TestClock>) -> Driven {
    let journal = Journal::open_stepped(Arc::new(files.clone()), clock.clone(), config(), 1);
    let journal = journal.unwrap();
    assert!(journal.report().damage.is_empty(), "{}", journal.report().summary());
    let store = Box::new(journal.store(Box::new(|| {})));
    let (journal, now) = (Some(Arc::new(Mutex::new(journal))), clock.now());
    let mut driven = Driven { shard: Shard::new(store, 10..20), journal, now };
    let (id, config) = (DestinationId(STREAM), stream(Level::Disk));
    let create = Command::CreateStream { id, name: "prices".into(), config };
    driven.hasty_turn(vec![create]).unwrap();
    driven
}

impl Life {
    fn take(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Published { receipt, outcome: Ok(level), .. } => {
                    for &(key, number) in &self.receipts[receipt.0 as usize] {
                        let known = self.known.entry(key).or_default();
                        if *level == Level::Disk {
                            known.synced = known.synced.max(Some(number));
                        }
                        if *level >= Level::Os {
                            known.written = known.written.max(Some(number));
                        }
                    }
                }
                Effect::Reply { reply: Reply::Stats(stats), .. } => {
                    assert_eq!(stats.messages, stats.kept[0]);
                    self.compacted = stats.compacted;
                }
                _ => {}
            }
        }
    }

    fn publish(&mut self, random: &mut Seeded) -> Command {
        let mut numbers = Vec::new();
        let mut messages = Vec::new();
        for _ in 0..=random.below(8) {
            let key = random.below(KEYS);
            self.numbers += 1;
            let payload = vec![b'x'; random.below(3_000) as usize];
            let payload = if random.below(6) == 0 { Vec::new() } else { payload };
            if payload.is_empty() {
                self.known.entry(key).or_default().tombstones.push(self.numbers);
            }
            let mut message = Vec::new();
            let (subject, name) = (format!("s.{}", self.numbers), format!("k{key}"));
            weir_message::encode(&mut message, &subject, name.as_bytes(), &[], &payload);
            messages.push(message);
            numbers.push((key, self.numbers));
        }
        self.receipts.push(numbers);
        publish(STREAM, self.receipts.len() as u32 - 1, &messages, 0)
    }

    fn busy(&mut self, random: &mut Seeded, clock: &TestClock) -> Result<(), StoreError> {
        for _ in 0..80 {
            let command = match random.below(12) {
                0 => {
                    self.level = [Level::Memory, Level::Os, Level::Disk][random.below(3) as usize];
                    let config = stream(self.level);
                    Command::AlterStream { id: DestinationId(STREAM), config }
                }
                1 => {
                    let (connection, request) = (ConnectionId(1), RequestId(1));
                    Command::Info { connection, request, id: DestinationId(STREAM) }
                }
                2 | 3 => {
                    let ms = [1, 5, LONG_MS][random.below(3) as usize];
                    clock.advance(ms);
                    let effects = self.driven.wait(ms)?;
                    self.take(&effects);
                    continue;
                }
                _ => self.publish(random),
            };
            let effects = match random.below(3) {
                0 => self.driven.hasty_turn(vec![command])?,
                _ => self.driven.turn(vec![command])?,
            };
            self.take(&effects);
        }
        Ok(())
    }
}

/// Everything that can be read: keys with the numbers of their messages, in order.
fn read(driven: &mut Driven) -> BTreeMap<u64, Vec<u64>> {
    let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut from = 0;
    loop {
        let command = Command::Read {
            connection: ConnectionId(1),
            request: RequestId(1),
            stream: DestinationId(STREAM),
            partition: 0,
            from: Start::Offset(from),
            messages_max: 7,
            bytes_max: 4_000,
        };
        let effects = driven.hasty_turn(vec![command]).unwrap();
        let found = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Records { runs, next, end, .. }, .. } => {
                Some((runs, next, end))
            }
            _ => None,
        });
        let (runs, next, end) = found.unwrap();
        for got in runs.iter().flat_map(messages_of) {
            assert!(got.offset >= from, "offsets rise");
            from = got.offset + 1;
            let view = weir_message::View::of(&got.message).unwrap();
            let number = view.subject.trim_start_matches("s.").parse().unwrap();
            let key = std::str::from_utf8(view.key).unwrap().trim_start_matches('k');
            all.entry(key.parse().unwrap()).or_default().push(number);
        }
        from = next;
        if from >= end {
            return all;
        }
    }
}

#[test]
fn compaction_crash() {
    let (mut proof, seeds) = Proof::of_seeds("compaction_crash", 150, 3_000);
    let (mut cuts, mut compacted) = (0, 0);
    for seed in seeds {
        let mut random = Seeded::new(seed);
        let (files, clock) = (SimFiles::new(seed), Arc::new(TestClock::default()));
        let mut known = BTreeMap::new();
        let mut numbers = 0;
        for _life in 0..4 {
            let driven = start(&files, &clock);
            let (receipts, level) = (Vec::new(), Level::Disk);
            let mut life = Life { driven, known, receipts, numbers, level, compacted: 0 };
            let power_cut = random.below(2) == 0;
            if power_cut {
                files.cut_power_at(1 + random.below(600));
            }
            let done = life.busy(&mut random, &clock);
            assert!(done.is_ok() || !files.has_power(), "seed {seed}: {done:?}");
            cuts += u64::from(power_cut);
            compacted += life.compacted;
            (known, numbers) = (life.known, life.numbers);
            drop(life.driven);
            if power_cut {
                files.crash(random.number());
            } else {
                files.kill();
            }
            let there = read(&mut start(&files, &clock));
            check(&format!("seed {seed}"), &there, &known, power_cut);
            files.kill();
            // What survived is synced by the start; what did not, is no promise any more.
            for (key, known) in &mut known {
                let last = there.get(key).and_then(|numbers| numbers.last().copied());
                (known.synced, known.written) = (known.synced.max(last), known.synced.max(last));
            }
        }
    }
    proof.figure(format!("{cuts} power cuts, {compacted} messages compacted; 0 lost"));
    assert!(cuts > 0 && compacted > 0);
}

fn check(
    what: &str,
    there: &BTreeMap<u64, Vec<u64>>,
    known: &BTreeMap<u64, Known>,
    power_cut: bool,
) {
    for (key, known) in known {
        let promised = if power_cut { known.synced } else { known.written.max(known.synced) };
        let Some(promised) = promised else { continue };
        let numbers = there.get(key).map_or(&[][..], |numbers| numbers);
        assert!(numbers.is_sorted(), "{what}: key {key}: {numbers:?}");
        let deleted = known.tombstones.iter().any(|&tombstone| tombstone >= promised);
        let kept = numbers.last().is_some_and(|&last| last >= promised);
        let gone = numbers.is_empty() && deleted;
        assert!(kept || gone, "{what}: key {key}: {promised} was promised, there is {numbers:?}");
    }
}
