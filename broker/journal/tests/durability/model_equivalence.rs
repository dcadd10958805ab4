//! S7: a broker over the journal and one over memory are given the same commands at
//! the same times, and restarted at the same moments. What everybody gets is the
//! same, in the same order.
//!
//! The two stores need not agree on everything. What they need not is left out, or kept
//! from making a difference:
//! - The journal knows the bytes of messages that have left memory as an average. That is
//!   exact where all messages of a log are as long as each other: the queue and the stream
//!   whose bytes are bounded are such, and only of those bytes are compared.
//! - A step of a compaction pass ends by what reads of the store come to. The compacted
//!   stream keeps so little that a pass is always one step.
//! - Of a moment in whose place messages were released, one store finds the beginning of the
//!   gap and the other its end: the compacted stream is not asked for moments. Retention by
//!   age goes on to the gap's end.
//! - What is kept at level memory ends with a process over the journal, and outlives it in
//!   the store in memory, which goes from hand to hand: no level is set to that.

mod changes;
mod operations;
mod places;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weir_core::command::{Command, DestinationId, Level, QueueConfig};
use weir_core::effect::{Effect, Reply, Run, Stats};
use weir_core::env::Now;
use weir_core::memory_store::MemoryStore;
use weir_core::shard::Shard;
use weir_core::store::Store;
use weir_journal::Journal;
use weir_journal::sim::{Seeded, SimFiles};

use crate::proof::Proof;
use crate::shard::{Driven, Got, create_queue, messages_of};
use crate::world::{TestClock, config};
use places::{KEYED, PLACES, Place, is_even};

/// Operations of one run.
const OPERATIONS: u32 = 10_000;
/// The first number of dead-letter queues that the shard makes itself, and one past the
/// last. What else is made has numbers below.
const OWN: u32 = 1_000;
const OWN_END: u32 = 2_000;

/// What every test has done, some of it by what came of it: what is asked for and does
/// nothing would make no difference either.
const KINDS: [&str; 17] = [
    "restarts",
    "queues altered",
    "streams altered",
    "groups altered",
    "messages removed by that",
    "messages refused for their bytes",
    "queues deleted",
    "streams deleted",
    "groups deleted",
    "dead-letter queues made",
    "dead-letter queues deleted",
    "deletions with deliveries out",
    "messages compacted",
    "messages purged",
    "leases extended",
    "groups moved",
    "publishes delayed",
];

/// What one client has seen, line by line.
type Seen = BTreeMap<(u64, u32), Vec<String>>;

/// How often each of [`KINDS`] was done.
type Counts = BTreeMap<&'static str, u64>;

struct Pair {
    memory: Driven,
    journal: Driven,
    files: SimFiles,
    clock: Arc<TestClock>,
    places: [Place; PLACES],
    /// The number of what is made next: none is used twice.
    numbers: u32,
    /// Dead-letter queues there are, and how many ever were made.
    dead: BTreeMap<String, DestinationId>,
    dead_made: u32,
    requests: u32,
    /// Deliveries that nothing was said about, by connection.
    open: BTreeMap<u64, Vec<Got>>,
    /// Messages that the compacted stream says it has compacted since it was made or
    /// the process began.
    compacted: u64,
    counts: Counts,
}

fn open_journal(files: &SimFiles, clock: &Arc<TestClock>) -> (Box<dyn Store>, Journal) {
    let disk = Arc::new(files.clone());
    let journal = Journal::open_stepped(disk, clock.clone(), config(), 1).unwrap();
    assert!(journal.report().damage.is_empty(), "{}", journal.report().summary());
    let store = journal.store(Box::new(|| {}));
    (Box::new(store), journal)
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (files, clock) = (SimFiles::new(seed), Arc::new(TestClock::default()));
        let now = Now { steady_ms: 0, wall_ms: 1_000_000 };
        let store = MemoryStore::new(0).claiming(Level::Disk);
        let memory = Shard::new(Box::new(store), OWN..OWN_END);
        let (store, journal) = open_journal(&files, &clock);
        let shard = Shard::new(store, OWN..OWN_END);
        let journal = Arc::new(Mutex::new(journal));
        let mut pair = Self {
            memory: Driven { shard: memory, journal: None, now },
            journal: Driven { shard, journal: Some(journal), now },
            files,
            clock,
            places: Place::all(),
            numbers: PLACES as u32 + 1,
            dead: BTreeMap::new(),
            dead_made: 0,
            requests: 0,
            open: BTreeMap::new(),
            compacted: 0,
            counts: Counts::new(),
        };
        pair.make(&format!("seed {seed}"));
        pair
    }

    /// Makes the queues, the streams and their groups that there are.
    fn make(&mut self, what: &str) {
        let places: Vec<Place> =
            self.places.iter().filter(|place| place.is_there).cloned().collect();
        let dead = self.dead.clone();
        let kept = QueueConfig { level: Level::Disk, ..QueueConfig::default() };
        let commands = || {
            let places = places.iter().flat_map(Place::make);
            let dead = dead.iter().map(|(name, id)| create_queue(id.0, name, kept.clone()));
            places.chain(dead).collect()
        };
        self.both(what, &commands);
    }

    /// Another process over what the stores hold.
    fn restart(&mut self, random: &mut Seeded, what: &str) {
        let own = OWN + self.dead_made..OWN_END;
        let empty = Shard::new(Box::new(MemoryStore::new(0)), 0..0);
        let store = std::mem::replace(&mut self.memory.shard, empty).into_store();
        self.memory.shard = Shard::new(store, own.clone());
        let empty = Shard::new(Box::new(MemoryStore::new(0)), 0..0);
        drop(std::mem::replace(&mut self.journal.shard, empty));
        let journal = self.journal.journal.take();
        let journal = Arc::into_inner(journal.unwrap()).unwrap().into_inner().unwrap();
        match random.below(3) {
            0 => journal.close().unwrap(),
            1 => drop(journal),
            _ => {
                // Nothing is under way: everything is as safe as it can be asked to be.
                journal.step().unwrap();
                drop(journal);
            }
        }
        self.files.kill();
        let (store, journal) = open_journal(&self.files, &self.clock);
        self.journal.shard = Shard::new(store, own);
        self.journal.journal = Some(Arc::new(Mutex::new(journal)));
        (self.memory.now.steady_ms, self.journal.now.steady_ms) = (5, 5);
        self.open.clear();
        self.keep_compacted();
        self.count("restarts", 1);
        let what = format!("{what}, restarted");
        self.make(&what);
        self.look(&what);
    }

    /// Has both do the same. What came of it, when it is the same.
    fn both(&mut self, what: &str, make: &dyn Fn() -> Vec<Command>) -> Vec<Effect> {
        self.same(what, |driven| driven.turn(make()).unwrap())
    }

    /// Lets time pass for both.
    fn wait(&mut self, what: &str, ms: u64) {
        self.clock.advance(ms);
        self.same(what, |driven| driven.wait(ms).unwrap());
    }

    fn same(&mut self, what: &str, run: impl Fn(&mut Driven) -> Vec<Effect>) -> Vec<Effect> {
        let (ours, theirs) = (run(&mut self.memory), run(&mut self.journal));
        let (model, found) = (seen(&ours), seen(&theirs));
        assert!(model == found, "{what}:\nover memory {model:#?}\nover the journal {found:#?}");
        self.note(&ours);
        ours
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Deliver { connection, runs, .. } => {
                    let open = self.open.entry(connection.0).or_default();
                    open.extend(runs.iter().flat_map(messages_of));
                }
                Effect::QueueMade { name, id } => {
                    self.dead.insert(name.clone(), *id);
                    self.dead_made += 1;
                    self.count("dead-letter queues made", 1);
                }
                Effect::Reply { reply: Reply::Stats(stats), .. } => self.note_stats(stats),
                _ => {}
            }
        }
    }

    fn note_stats(&mut self, stats: &Stats) {
        if stats.name == self.places[KEYED].name {
            self.compacted = stats.compacted;
        }
        if let Some(place) = self.places.iter_mut().find(|place| place.name == stats.name) {
            place.start = stats.starts[0];
        }
    }

    fn count(&mut self, kind: &'static str, times: u64) {
        *self.counts.entry(kind).or_insert(0) += times;
    }

    /// Counts what was compacted so far: from here on it is told anew.
    fn keep_compacted(&mut self) {
        let compacted = std::mem::take(&mut self.compacted);
        self.count("messages compacted", compacted);
    }
}

/// One of them, each as likely.
fn one_of<'a, T>(random: &mut Seeded, all: &'a [T]) -> &'a T {
    &all[random.below(all.len() as u64) as usize]
}

/// What everybody sees, in order.
fn seen(effects: &[Effect]) -> Seen {
    let mut seen = Seen::new();
    let mut add = |who: (u64, u32), line: String| seen.entry(who).or_default().push(line);
    for effect in effects {
        match effect {
            Effect::Published { connection, receipt, count, rows, outcome } => {
                add((connection.0, 0), format!("{receipt:?} {count} {rows:?} {outcome:?}"));
            }
            Effect::Deliver { connection, subscription, runs } => {
                for line in lines(runs) {
                    add((connection.0, subscription.0), line);
                }
            }
            Effect::Reply { connection, request, reply } => {
                add((connection.0, 0), format!("{request:?} {}", words(reply)));
            }
            Effect::Ended { connection, subscription, reason } => {
                add((connection.0, subscription.0), format!("ended {reason:?}"));
            }
            Effect::Pressed { queue, free } => add((0, 0), format!("{queue:?} has {free:?}")),
            Effect::QueueMade { name, id } => add((0, 0), format!("made {name} {id:?}")),
            // Messages that are lost among them: nothing is damaged here.
            other => panic!("not expected here: {other:?}"),
        }
    }
    seen
}

/// A line for each message. How they are divided among runs is the store's affair.
fn lines(runs: &[Run]) -> Vec<String> {
    let mut lines = Vec::new();
    for run in runs {
        for Got { tag, partition, offset, attempt, message } in messages_of(run) {
            let (time_ms, text) = (run.time_ms, message.escape_ascii());
            lines.push(format!("#{tag} {partition}:{offset} of {time_ms} try {attempt} {text}"));
        }
    }
    lines
}

fn words(reply: &Reply) -> String {
    match reply {
        Reply::Records { runs, next, start, end } => {
            format!("{start}..{end} next {next}: {:#?}", lines(runs))
        }
        Reply::Stats(stats) => {
            let mut stats = stats.clone();
            if !is_even(&stats.name) {
                // Bytes of what has left memory are an estimate.
                stats.bytes = 0;
            }
            format!("{stats:?}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn model_equivalence() {
    let (mut proof, seeds) = Proof::of_seeds("model_equivalence", 12, 200);
    let (mut counts, mut runs) = (Counts::new(), 0);
    for seed in seeds {
        runs += 1;
        let mut random = Seeded::new(seed);
        let mut pair = Pair::new(seed);
        for operation in 0..OPERATIONS {
            pair.step(&mut random, &format!("seed {seed} operation {operation}"));
        }
        pair.look(&format!("seed {seed} at the end"));
        pair.keep_compacted();
        for (kind, times) in pair.counts {
            *counts.entry(kind).or_insert(0) += times;
        }
    }
    let times = |kind: &str| counts.get(kind).copied().unwrap_or(0);
    let done = KINDS.map(|kind| format!("{} {kind}", times(kind)));
    proof.figure(format!("{OPERATIONS} operations each, {}, 0 differences", done.join(", ")));
    // One seed is run to be looked at: it need not have all.
    for kind in KINDS {
        assert!(runs == 1 || times(kind) > 0, "not once: {kind}");
    }
}
