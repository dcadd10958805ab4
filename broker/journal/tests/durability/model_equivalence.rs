//! S7: a broker over the journal and one over memory are given the same commands at
//! the same times, and restarted at the same moments. What everybody gets is the
//! same, in the same order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use weir_core::command::{
    Command, ConnectionId, DestinationId, GroupConfig, Level, QueueConfig, RequestId, Source,
    Start, StreamConfig, SubscriptionId, Verb,
};
use weir_core::effect::{Effect, Reply};
use weir_core::env::Now;
use weir_core::memory_store::MemoryStore;
use weir_core::shard::Shard;
use weir_core::store::Store;
use weir_journal::Journal;
use weir_journal::sim::{Seeded, SimFiles};

use crate::proof::Proof;
use crate::shard::{Driven, Got, create_queue, message, messages_of, publish, settle};
use crate::world::{TestClock, config};

const QUEUES: u32 = 2;
const STREAM: u32 = 3;
/// Operations of one run.
const OPERATIONS: u32 = 10_000;
/// The first number of dead-letter queues that the shard makes itself.
const OWN: u32 = 1_000;

/// What one client has seen, line by line.
type Seen = BTreeMap<(u64, u32), Vec<String>>;

struct Pair {
    memory: Driven,
    journal: Driven,
    files: SimFiles,
    clock: Arc<TestClock>,
    /// Dead-letter queues there are, in the order in which they were made.
    dead: Vec<String>,
    requests: u32,
    /// Deliveries that nothing was said about, by connection.
    open: BTreeMap<u64, Vec<Got>>,
    restarts: u32,
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
        let memory = Shard::new(Box::new(store), OWN..OWN + 100);
        let (store, journal) = open_journal(&files, &clock);
        let shard = Shard::new(store, OWN..OWN + 100);
        let journal = Arc::new(Mutex::new(journal));
        let mut pair = Self {
            memory: Driven { shard: memory, journal: None, now },
            journal: Driven { shard, journal: Some(journal), now },
            files,
            clock,
            dead: Vec::new(),
            requests: 0,
            open: BTreeMap::new(),
            restarts: 0,
        };
        pair.make();
        pair
    }

    /// Makes the queues, the stream and its groups.
    fn make(&mut self) {
        for driven in [&mut self.memory, &mut self.journal] {
            let queue =
                |level, messages_max| QueueConfig { level, messages_max, ..QueueConfig::default() };
            let stream = StreamConfig {
                partitions: 2,
                messages_max: 300,
                level: Level::Disk,
                ..StreamConfig::default()
            };
            let mut commands = vec![
                create_queue(1, "one", queue(Level::Disk, 60)),
                create_queue(2, "two", queue(Level::Os, 0)),
            ];
            commands.push(Command::CreateStream {
                id: DestinationId(STREAM),
                name: "stream".to_owned(),
                config: stream,
            });
            for (number, order) in [("a", 0), ("b", 1)] {
                let config = GroupConfig { order, ..GroupConfig::default() };
                commands.push(Command::PutGroup {
                    stream: DestinationId(STREAM),
                    group: number.to_owned(),
                    config,
                });
            }
            for (id, name) in (OWN..).zip(&self.dead) {
                commands.push(create_queue(id, name, queue(Level::Disk, 0)));
            }
            driven.turn(commands).unwrap();
        }
    }

    /// Another process over what the stores hold.
    fn restart(&mut self, random: &mut Seeded) {
        let first = OWN + self.dead.len() as u32;
        let empty = Shard::new(Box::new(MemoryStore::new(0)), 0..0);
        let store = std::mem::replace(&mut self.memory.shard, empty).into_store();
        self.memory.shard = Shard::new(store, first..OWN + 100);
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
        self.journal.shard = Shard::new(store, first..OWN + 100);
        self.journal.journal = Some(Arc::new(Mutex::new(journal)));
        (self.memory.now.steady_ms, self.journal.now.steady_ms) = (5, 5);
        self.open.clear();
        self.restarts += 1;
        self.make();
    }

    /// Has both do the same. What both see, when it is the same.
    fn both(&mut self, what: &str, make: &dyn Fn() -> Vec<Command>, wait_ms: u64) {
        let run = |driven: &mut Driven| match wait_ms {
            0 => driven.turn(make()).unwrap(),
            ms => driven.wait(ms).unwrap(),
        };
        let (ours, theirs) = (run(&mut self.memory), run(&mut self.journal));
        let (model, found) = (seen(&ours), seen(&theirs));
        assert!(model == found, "{what}:\nover memory {model:#?}\nover the journal {found:#?}");
        for effect in &ours {
            match effect {
                Effect::Deliver { connection, runs, .. } => {
                    let open = self.open.entry(connection.0).or_default();
                    open.extend(runs.iter().flat_map(messages_of));
                }
                Effect::QueueMade { name, .. } => self.dead.push(name.clone()),
                _ => {}
            }
        }
    }

    fn step(&mut self, random: &mut Seeded, what: &str) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let connection = 2 + random.below(4);
        let (who, subscription) = (ConnectionId(connection), SubscriptionId(1));
        match random.below(32) {
            0..10 => {
                let to = 1 + random.below(3) as u32;
                let delay = if to < STREAM && random.below(5) == 0 { 200 } else { 0 };
                let some: Vec<Vec<u8>> = (0..1 + random.below(6))
                    .map(|row| {
                        let key = random.below(4).to_string();
                        let text = format!("{}/{row}/{}", self.requests, random.below(9));
                        message(&key, &text.repeat(1 + random.below(40) as usize))
                    })
                    .collect();
                let receipt = self.requests;
                self.both(what, &|| vec![publish(to, receipt, &some, delay)], 0);
            }
            10..13 => {
                let stream = DestinationId(STREAM);
                let source = match random.below(4) {
                    0 => Source::Group(stream, "a".to_owned()),
                    1 => Source::Group(stream, "b".to_owned()),
                    which => Source::Queue(DestinationId(which as u32 - 1)),
                };
                let credit = 1 + random.below(20) as u32;
                let attach = || Command::Attach {
                    connection: who,
                    subscription,
                    request,
                    source: source.clone(),
                    credit,
                    name: "c".to_owned(),
                    labels: String::new(),
                };
                self.both(what, &|| vec![attach()], 0);
            }
            13..20 => {
                let Some(open) = self.open.get_mut(&connection).filter(|open| !open.is_empty())
                else {
                    return;
                };
                let count = 1 + random.below(open.len() as u64) as usize;
                let some: Vec<Got> = open.drain(..count).collect();
                let verb = match random.below(9) {
                    0 => Verb::Nack { delay_ms: 50, code: 1 },
                    1 => Verb::Reject { code: 2 },
                    _ => Verb::Ack,
                };
                let words = || {
                    let one = |got: &Got| settle(connection, got.tag, got.tag, verb);
                    some.iter().map(one).collect()
                };
                self.both(what, &words, 0);
            }
            20..22 => {
                let amount = 1 + random.below(9) as u32;
                let credit = || Command::Credit { connection: who, subscription, amount };
                self.both(what, &|| vec![credit()], 0);
            }
            22 => {
                self.open.remove(&connection);
                self.both(what, &|| vec![Command::Disconnect { connection: who }], 0);
            }
            23 => {
                let detach = || Command::Detach { connection: who, subscription, request };
                self.both(what, &|| vec![detach()], 0);
            }
            24 => {
                let to = match random.below(3) {
                    0 => Start::Earliest,
                    1 => Start::Latest,
                    _ => Start::Offset(random.below(100)),
                };
                let group = if random.below(2) == 0 { "a" } else { "b" };
                let seek = || Command::Seek {
                    connection: who,
                    request,
                    stream: DestinationId(STREAM),
                    group: group.to_owned(),
                    partition: None,
                    to,
                };
                self.both(what, &|| vec![seek()], 0);
            }
            25 | 26 => {
                let (from, partition) = (Start::Offset(random.below(200)), random.below(2) as u16);
                let read = || Command::Read {
                    connection: who,
                    request,
                    stream: DestinationId(STREAM),
                    partition,
                    from,
                    messages_max: 50,
                    bytes_max: 20_000,
                };
                self.both(what, &|| vec![read()], 0);
            }
            27 => {
                let id = DestinationId(1 + random.below(3) as u32);
                self.both(what, &|| vec![Command::Info { connection: who, request, id }], 0);
            }
            28 => {
                let id = DestinationId(1 + random.below(u64::from(QUEUES)) as u32);
                if random.below(8) == 0 {
                    self.both(what, &|| vec![Command::Purge { connection: who, request, id }], 0);
                }
            }
            29 | 30 => {
                let ms = 1 + random.below(400);
                self.clock.advance(ms);
                self.both(what, &Vec::new, ms);
            }
            _ => {
                if random.below(6) == 0 {
                    self.restart(random);
                }
            }
        }
    }
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
                for got in runs.iter().flat_map(messages_of) {
                    add((connection.0, subscription.0), format!("{got:?}"));
                }
            }
            Effect::Reply { connection, request, reply } => {
                add((connection.0, 0), format!("{request:?} {}", words(reply)));
            }
            Effect::Ended { connection, subscription, reason } => {
                add((connection.0, subscription.0), format!("ended {reason:?}"));
            }
            Effect::Pressed { queue, free } => {
                add((0, 0), format!("{queue:?} has {:?}", free.map(|free| free.messages)));
            }
            Effect::QueueMade { name, id } => add((0, 0), format!("made {name} {id:?}")),
            other => panic!("not expected here: {other:?}"),
        }
    }
    seen
}

fn words(reply: &Reply) -> String {
    match reply {
        Reply::Records { runs, next, start, end } => {
            let rows: Vec<Got> = runs.iter().flat_map(messages_of).collect();
            format!("{start}..{end} next {next}: {rows:?}")
        }
        Reply::Stats(stats) => {
            // Bytes of what has left memory are an estimate.
            let mut stats = stats.clone();
            stats.bytes = 0;
            format!("{stats:?}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn model_equivalence() {
    let (mut proof, seeds) = Proof::of_seeds("model_equivalence", 12, 200);
    let (mut restarts, mut dead) = (0, 0);
    for seed in seeds {
        let mut random = Seeded::new(seed);
        let mut pair = Pair::new(seed);
        for operation in 0..OPERATIONS {
            pair.step(&mut random, &format!("seed {seed} operation {operation}"));
        }
        (restarts, dead) = (restarts + pair.restarts, dead + pair.dead.len());
    }
    proof.figure(format!(
        "{OPERATIONS} operations each, {restarts} restarts, {dead} dead-letter queues, \
         0 differences"
    ));
    assert!(restarts > 0 && dead > 0);
}
