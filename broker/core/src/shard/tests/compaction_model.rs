//! Compaction against a plain list of everything that was published: random publishes,
//! consumers, seeks, settings, retention and restarts, with passes cut into small steps.
//!
//! After every turn: what is gone was allowed to go, the last message of a key never;
//! figures are what a count gives. At the end, what is left is the last of each key.

use std::collections::{BTreeMap, BTreeSet};

use weir_message::{BatchBuilder, encode, key_hash};

use super::super::{Destination, Shard};
use crate::command::*;
use crate::effect::{Effect, Reply, Run};
use crate::env::Now;
use crate::memory_store::MemoryStore;
use crate::store::Records;
use crate::stream::compaction::Budget;
use crate::stream::holes::Holes;

const STREAM: DestinationId = DestinationId(1);
const PARTITIONS: u16 = 2;
const GROUPS: [&str; 2] = ["free", "keyed"];
const HOUR_MS: u64 = 3_600_000;

/// Partition and offset.
type Place = (u16, u64);

#[derive(Clone, Debug)]
struct Known {
    key: Vec<u8>,
    payload: Vec<u8>,
    time_ms: u64,
    /// A crash leaves it.
    safe: bool,
}

#[derive(Default)]
struct Reading {
    seen: BTreeSet<Place>,
    /// Last offset of a first delivery, per partition and key where that is the order,
    /// or else per consumer.
    last: BTreeMap<(u16, ConnectionId, Vec<u8>), u64>,
    held: BTreeMap<(ConnectionId, u64), Place>,
}

struct Model {
    dice: u64,
    shard: Option<Shard>,
    now: Now,
    config: StreamConfig,
    budget: Budget,
    faults: std::sync::Arc<crate::memory_store::Faults>,
    known: BTreeMap<Place, Known>,
    /// What of it can be read.
    have: BTreeSet<Place>,
    groups: BTreeMap<&'static str, Reading>,
    consumers: BTreeMap<ConnectionId, &'static str>,
    connections: u64,
    payloads: u32,
    /// Shortest settings so far: what they allow to go.
    tombstone_ms: u64,
    compacted: bool,
    /// Retention may have taken what a consumer holds: then its key goes on.
    retained: bool,
    infos: Vec<(u64, Vec<u64>)>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let store = MemoryStore::new(0).claiming(Level::Disk);
        let faults = store.faults();
        let mut model = Self {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            shard: Some(Shard::new(Box::new(store), 1000..1100)),
            now: Now { steady_ms: 0, wall_ms: 1_000_000 },
            config: StreamConfig {
                partitions: PARTITIONS,
                level: Level::Disk,
                compact: true,
                tombstone_ms: 200,
                ..StreamConfig::default()
            },
            budget: Budget::default(),
            faults,
            known: BTreeMap::new(),
            have: BTreeSet::new(),
            groups: BTreeMap::new(),
            consumers: BTreeMap::new(),
            connections: 10,
            payloads: 0,
            tombstone_ms: 200,
            compacted: true,
            retained: false,
            infos: Vec::new(),
        };
        model.budget = Budget {
            step_bytes: 1 + model.roll(300) as usize,
            keys_max: 1 + model.roll(9) as usize,
            gaps_max: 1 + model.roll(40) as usize,
            every_ms: 1 + model.roll(60),
        };
        model.make();
        model
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % below
    }

    fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().unwrap()
    }

    /// Makes stream and groups, in a new shard or one that goes on.
    fn make(&mut self) {
        let budget = self.budget;
        self.shard().passes.budget = budget;
        let config = self.config.clone();
        self.turn(vec![Command::CreateStream { id: STREAM, name: "s".into(), config }]);
        for (order, group) in GROUPS.iter().enumerate() {
            let config = GroupConfig { order: order as u8, ..GroupConfig::default() };
            self.turn(vec![Command::PutGroup { stream: STREAM, group: (*group).into(), config }]);
        }
    }

    fn turn(&mut self, commands: Vec<Command>) {
        let (now, mut effects) = (self.now, Vec::new());
        for command in commands {
            self.shard().apply(now, command, &mut effects);
        }
        self.learn();
        self.shard().tick(now, &mut effects);
        self.shard().commit(now, &mut effects).unwrap();
        self.learn();
        effects.into_iter().for_each(|effect| self.judge(effect));
        self.check();
    }

    fn records(&self, partition: u16, mut from: u64) -> Vec<Records> {
        let shard = self.shard.as_ref().unwrap();
        let Some(Destination::Stream(stream)) = shard.destinations.get(&STREAM) else {
            return Vec::new();
        };
        let log = stream.parts[usize::from(partition)];
        let mut all = Vec::new();
        loop {
            let mut some = Vec::new();
            shard.store.read(log, from, 200, &mut some).unwrap();
            let Some(last) = some.last() else { return all };
            from = last.offset + last.batch.len() as u64;
            all.extend(some);
        }
    }

    /// What has become readable, before anything could take it away.
    fn learn(&mut self) {
        let safe = self.config.level > Level::Memory;
        for partition in 0..PARTITIONS {
            let of_it = self.known.range((partition, 0)..(partition + 1, 0)).next_back();
            let next = of_it.map_or(0, |(place, _)| place.1 + 1);
            for records in self.records(partition, next) {
                for row in 0..records.batch.len() {
                    let message = records.batch.view(row);
                    let known = Known {
                        key: message.key.to_vec(),
                        payload: message.payload.to_vec(),
                        time_ms: records.time_ms,
                        safe,
                    };
                    self.known.insert((partition, records.offset + row as u64), known);
                    self.have.insert((partition, records.offset + row as u64));
                }
            }
        }
    }

    fn judge(&mut self, effect: Effect) {
        match effect {
            Effect::Deliver { connection, runs, .. } => {
                for run in runs {
                    self.judge_run(connection, &run);
                }
            }
            Effect::Reply { reply: Reply::Stats(stats), .. } => {
                assert_eq!(stats.messages, stats.kept.iter().sum::<u64>());
                self.infos.push((stats.messages, stats.kept));
            }
            _ => {}
        }
    }

    fn judge_run(&mut self, connection: ConnectionId, run: &Run) {
        let name = self.consumers[&connection];
        let reading = self.groups.entry(name).or_default();
        let mut at = 0;
        for k in 0..u64::from(run.count) {
            let parts = weir_message::parse(&run.bytes, at).unwrap();
            let message = parts.view(&run.bytes);
            at = parts.end as usize;
            let place = (run.partition, run.offset + k);
            let known = &self.known[&place];
            assert_eq!((message.key, message.payload), (&known.key[..], &known.payload[..]));
            if run.attempt == 1 && !reading.seen.contains(&place) {
                let line = match &known.key[..] {
                    key if name == "keyed" && !key.is_empty() => (ConnectionId(0), key.to_vec()),
                    _ => (connection, Vec::new()),
                };
                let last = reading.last.insert((place.0, line.0, line.1), place.1);
                assert!(last.is_none_or(|last| last < place.1), "{place:?} after {last:?}");
            }
            if name == "keyed" && !known.key.is_empty() && !self.retained {
                let others = reading.held.values().map(|held| (held.0, &self.known[held].key));
                assert!(others.into_iter().all(|other| other != (place.0, &known.key)));
            }
            reading.seen.insert(place);
            reading.held.insert((connection, run.tag + k), place);
        }
    }

    /// What is gone was allowed to go, and books and figures agree with a count.
    fn check(&mut self) {
        let mut now_there = BTreeSet::new();
        for partition in 0..PARTITIONS {
            for records in self.records(partition, 0) {
                let offsets = records.offset..records.offset + records.batch.len() as u64;
                now_there.extend(offsets.map(|offset| (partition, offset)));
            }
        }
        assert!(now_there.is_subset(&self.have), "what was gone came back");
        let gone: Vec<Place> = self.have.difference(&now_there).copied().collect();
        for place in gone {
            self.check_gone(place, &now_there);
        }
        self.have = now_there;
        self.check_books();
    }

    fn check_gone(&self, place: Place, now_there: &BTreeSet<Place>) {
        let one = &self.known[&place];
        let behind = || self.known.range((place.0, place.1 + 1)..(place.0 + 1, 0));
        let live = behind().filter(|(place, _)| self.have.contains(place)).count() as u64;
        let live = live + self.unreadable(place.0);
        if self.config.messages_max > 0 && live >= self.config.messages_max {
            return;
        }
        assert!(self.compacted, "{place:?} is gone, and nothing takes it");
        assert!(!one.key.is_empty(), "{place:?} has no key and is gone");
        let newer = behind().any(|(_, other)| other.key == one.key && (other.safe || !one.safe));
        let age_ms = self.now.wall_ms - one.time_ms;
        let is_old = one.payload.is_empty() && age_ms >= self.tombstone_ms;
        assert!(newer || is_old, "the last of its key is gone: {place:?} {one:?}");
        if !newer {
            let hidden = self.known.range((place.0, 0)..place);
            let mut hidden = hidden.filter(|(_, other)| other.key == one.key);
            assert!(hidden.all(|(place, _)| !now_there.contains(place)), "{place:?} hid something");
        }
    }

    fn check_books(&self) {
        let shard = self.shard.as_ref().unwrap();
        let Some(Destination::Stream(stream)) = shard.destinations.get(&STREAM) else { return };
        for (partition, &log) in stream.parts.iter().enumerate() {
            let bounds = shard.store.bounds(log);
            let progress = &stream.progress[partition];
            assert_eq!(progress.holes, Holes::of(&*shard.store, log));
            let first = shard.store.settled(log, bounds.start);
            assert!(first.is_none_or(|first| first.start > bounds.start), "it begins with a hole");
            let place = |offset| (partition as u16, offset);
            let readable = self.have.range(place(0)..place(bounds.stable)).count() as u64;
            assert_eq!(progress.kept(bounds), readable + bounds.end - bounds.stable);
            for group in stream.groups.values() {
                let part = &shard.groups[group].parts[partition];
                let (cursor, next) = (part.cursor, part.slots.next());
                let open = |offset: u64| {
                    let settled = shard.store.settled(cursor, offset);
                    settled.is_none_or(|settled| settled.start > offset)
                };
                let left = self.have.range(place(next)..place(bounds.stable.max(next)));
                let left = left.filter(|place| open(place.1)).count() as u64;
                let unstable = bounds.end - bounds.stable.max(next);
                assert_eq!(part.untaken(&*shard.store), left + unstable, "from {next}: {part:?}");
            }
        }
        shard.groups.values().for_each(|group| group.check_books());
        let steps = shard.deadlines.iter().filter(|one| matches!(one.1, super::super::Owner::Pass));
        assert_eq!(steps.count(), usize::from(shard.passes.is_at_work()));
    }

    fn publish(&mut self) -> Command {
        let mut batch = BatchBuilder::default();
        for _ in 0..=self.roll(5) {
            let (key, size) = (self.roll(9), self.roll(30) as usize);
            self.payloads += 1;
            let mut payload = format!("{} ", self.payloads).into_bytes();
            payload.resize(payload.len() + size, b'x');
            let key = if key == 0 { String::new() } else { format!("k{key}") };
            if self.roll(5) == 0 {
                payload.clear();
            }
            let mut bytes = Vec::new();
            encode(&mut bytes, "s", key.as_bytes(), &[], &payload);
            batch.push(&bytes);
        }
        let (destination, connection, receipt) = (STREAM, ConnectionId(1), Some(ReceiptId(0)));
        let (batch, rows, delay_ms) = (batch.take(), Rows::new(), 0);
        Command::Publish(Publish { destination, connection, receipt, batch, rows, delay_ms })
    }

    fn attach(&mut self) -> Command {
        let group = GROUPS[self.roll(2) as usize];
        self.attach_to(group)
    }

    fn attach_to(&mut self, group: &'static str) -> Command {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.consumers.insert(connection, group);
        Command::Attach {
            connection,
            subscription: SubscriptionId(1),
            request: RequestId(1),
            source: Source::Group(STREAM, group.into()),
            credit: 1 + self.roll(6) as u32,
            name: String::new(),
            labels: String::new(),
        }
    }

    /// Settles one delivery that somebody holds.
    fn settle(&mut self) -> Option<Command> {
        let name = GROUPS[self.roll(2) as usize];
        let count = self.groups.get(name)?.held.len() as u64;
        let which = self.roll(count.max(1)) as usize;
        let nacks = self.roll(4) == 0;
        let reading = self.groups.get_mut(name)?;
        let (&(connection, tag), _) = reading.held.iter().nth(which)?;
        reading.held.remove(&(connection, tag));
        let verb = if nacks { Verb::Nack { delay_ms: 3, code: 0 } } else { Verb::Ack };
        let settlements = vec![Settlement { first: tag, last: tag, verb }];
        let (subscription, request) = (SubscriptionId(1), None);
        Some(Command::Settle { connection, subscription, request, settlements })
    }

    fn seek(&mut self, group: &'static str) -> Command {
        let reading = self.groups.entry(group).or_default();
        reading.held.clear();
        // It is all to be seen again.
        *reading = Reading::default();
        Command::Seek {
            connection: ConnectionId(1),
            request: RequestId(1),
            stream: STREAM,
            group: group.into(),
            partition: None,
            to: Start::Earliest,
        }
    }

    fn alter(&mut self) -> Command {
        self.config.compact = self.roll(3) > 0;
        self.config.tombstone_ms = [0, 50, 200, HOUR_MS][self.roll(4) as usize];
        self.config.messages_max = [0, 0, 0, 25][self.roll(4) as usize];
        let config = self.config.clone();
        self.note_settings();
        Command::AlterStream { id: STREAM, config }
    }

    fn note_settings(&mut self) {
        self.compacted = self.config.compact;
        self.tombstone_ms = self.config.tombstone_ms;
        self.retained |= self.config.messages_max > 0;
    }

    fn restart(&mut self) {
        // What was kept back until now is learned of while its level is known.
        self.faults.hold_stable(false);
        self.turn(Vec::new());
        let store = self.shard.take().unwrap().into_store();
        self.shard = Some(Shard::new(store, 1000..1100));
        self.now.steady_ms = 0;
        self.consumers.clear();
        for reading in self.groups.values_mut() {
            // What was not settled comes again, in order.
            reading.held.clear();
            reading.last.clear();
        }
        self.known.values_mut().for_each(|known| known.safe = true);
        self.make();
    }

    /// Passes `ms`, deadline by deadline.
    fn wait(&mut self, ms: u64) {
        let until = self.now.steady_ms + ms;
        while let Some(at) = self.shard().next_deadline().filter(|&at| at <= until) {
            self.go_to(at.max(self.now.steady_ms));
            self.turn(Vec::new());
        }
        self.go_to(until);
    }

    fn go_to(&mut self, steady_ms: u64) {
        self.now.wall_ms += steady_ms - self.now.steady_ms;
        self.now.steady_ms = steady_ms;
    }

    fn step(&mut self) {
        let command = match self.roll(34) {
            0..=9 => Some(self.publish()),
            10 | 11 if self.consumers.len() < 6 => Some(self.attach()),
            12..=19 => self.settle(),
            20 => {
                let first = self.consumers.pop_first();
                first.map(|(connection, group)| {
                    let held = &mut self.groups.entry(group).or_default().held;
                    held.retain(|(of, _), _| *of != connection);
                    Command::Disconnect { connection }
                })
            }
            21 if self.roll(3) == 0 => {
                let group = GROUPS[self.roll(2) as usize];
                Some(self.seek(group))
            }
            22 if self.roll(3) == 0 => Some(self.alter()),
            23 if self.roll(4) == 0 => return self.restart(),
            24 => {
                let on = self.roll(2) == 0;
                self.faults.hold_stable(on);
                None
            }
            25 if !self.is_held() => {
                self.config.level = [Level::Memory, Level::Disk][self.roll(2) as usize];
                let config = self.config.clone();
                Some(Command::AlterStream { id: STREAM, config })
            }
            26 => {
                let (connection, request) = (ConnectionId(1), RequestId(1));
                Some(Command::Info { connection, request, id: STREAM })
            }
            _ => {
                let ms = self.roll(20);
                return self.wait(ms);
            }
        };
        self.turn(command.into_iter().collect());
    }

    /// Whether something appended is not readable yet: its level would be guessed.
    fn is_held(&self) -> bool {
        (0..PARTITIONS).any(|partition| self.unreadable(partition) > 0)
    }

    fn unreadable(&self, partition: u16) -> u64 {
        let shard = self.shard.as_ref().unwrap();
        let Some(Destination::Stream(stream)) = shard.destinations.get(&STREAM) else { return 0 };
        let bounds = shard.store.bounds(stream.parts[usize::from(partition)]);
        bounds.end - bounds.stable
    }

    /// Everything comes to rest: what is left, and what the groups have seen of it.
    fn end(&mut self) {
        self.restart();
        self.config = StreamConfig { compact: true, tombstone_ms: 100, ..self.config.clone() };
        self.config.messages_max = 0;
        self.note_settings();
        self.shard().passes.budget = Budget::default();
        let config = self.config.clone();
        self.turn(vec![Command::AlterStream { id: STREAM, config }]);
        self.wait(50 * HOUR_MS);
        let retained = |place: &Place, floor: &BTreeMap<u16, u64>| place.1 >= floor[&place.0];
        let floor: BTreeMap<u16, u64> = (0..PARTITIONS)
            .map(|partition| {
                let first = self.have.range((partition, 0)..(partition + 1, 0)).next();
                (partition, first.map_or(u64::MAX, |place| place.1))
            })
            .collect();
        let mut last: BTreeMap<&[u8], Place> = BTreeMap::new();
        for (place, known) in &self.known {
            last.insert(&known.key, *place);
        }
        for (place, known) in &self.known {
            let is_last = known.key.is_empty() || last[&known.key[..]] == *place;
            let is_tombstone = !known.key.is_empty() && known.payload.is_empty();
            let wanted = is_last && !is_tombstone && retained(place, &floor);
            assert_eq!(self.have.contains(place), wanted, "{place:?} {known:?}");
        }
        for name in GROUPS {
            self.drain(name);
            let seen = &self.groups[name].seen;
            assert!(self.have.is_subset(seen), "{name} has not seen everything");
            let seek = self.seek(name);
            self.turn(vec![seek]);
            self.drain(name);
            assert_eq!(self.groups[name].seen, self.have, "{name}");
        }
        let (connection, request) = (ConnectionId(1), RequestId(1));
        self.turn(vec![Command::Info { connection, request, id: STREAM }]);
        assert_eq!(self.infos.last().unwrap().0, self.have.len() as u64);
    }

    /// A consumer takes all that is left, and acknowledges it.
    fn drain(&mut self, name: &'static str) {
        let command = self.attach_to(name);
        self.turn(vec![command]);
        loop {
            let reading = self.groups.entry(name).or_default();
            let Some(((connection, tag), _)) = reading.held.pop_first() else { break };
            let settlements = vec![Settlement { first: tag, last: tag, verb: Verb::Ack }];
            let (subscription, request) = (SubscriptionId(1), None);
            let settle = Command::Settle { connection, subscription, request, settlements };
            self.turn(vec![settle]);
        }
        let group = self.shard().groups.values().find(|group| group.identity.name() == name);
        let lag = group.map(|group| group.live()).unwrap();
        assert_eq!(lag, 0);
        let connection = *self.consumers.keys().next().unwrap();
        self.turn(vec![Command::Disconnect { connection }]);
        self.consumers.clear();
    }
}

/// Cases come from `WEIR_CASES`.
#[test]
fn the_last_message_of_a_key_is_never_lost() {
    let cases = std::env::var("WEIR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let mut gone = 0;
    for seed in 0..cases {
        let played = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..300).for_each(|_| model.step());
            model.end();
            model.known.len() - model.have.len()
        });
        let text = |panic: &(dyn std::any::Any + Send)| panic.downcast_ref::<String>().cloned();
        gone += played.unwrap_or_else(|panic| panic!("seed {seed}: {:?}", text(&*panic)));
    }
    assert!(gone > 100 * cases as usize, "too little was compacted to say anything: {gone}");
}

/// The model knows where a key lives.
#[test]
fn keys_stay_in_their_partition() {
    let mut model = Model::new(7);
    (0..100).for_each(|_| model.step());
    for ((partition, _), known) in model.known.iter().filter(|(_, known)| !known.key.is_empty()) {
        assert_eq!(key_hash(&known.key) as u16 % PARTITIONS, *partition);
    }
}
