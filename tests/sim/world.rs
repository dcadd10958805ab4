//! A broker without sockets, threads or a clock: the directory and several
//! shards, with the commands of many sessions between them in seeded order.
//!
//! Commands of one session for one shard keep their order, as they do on a
//! connection; everything else may happen in any order. What goes in and what
//! comes out is compared with the [model](crate::model) at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, Lone, Publish, ReceiptId, RequestId, Settlement,
    Source, Spread, SubscriptionId, Verb,
};
use weir_core::directory::{Directory, Resolved, Settings};
use weir_core::effect::{Effect, Reply, Run, Stats};
use weir_core::env::Now;
use weir_core::memory_store::{Faults, MemoryStore};
use weir_core::name::{Name, Pattern};
use weir_core::rejection::Rejection;
use weir_core::shard::Shard;
use weir_message::{Batch, View};

use crate::model::{Attached, Consumer, Destination, Group, Held, Message, Outcome, Rule};
use crate::policies::LEASE_MS;
use crate::random::Random;

pub(crate) const SHARDS: u32 = 3;
/// Length of a lease under the built-in plan, ms.
pub(crate) const BUILT_IN_LEASE_MS: u64 = 30_000;
const WALL_MS: u64 = 1_700_000_000_000;

/// A channel subscription, for the naive matcher.
pub(crate) struct Listening {
    pub(crate) consumer: Consumer,
    pub(crate) pattern: Pattern,
    pub(crate) share: Option<Name>,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now_ms: u64,
    pub(crate) directory: Directory,
    pub(crate) listening: Vec<Listening>,
    pub(crate) destinations: BTreeMap<DestinationId, Destination>,
    pub(crate) deleted: BTreeSet<DestinationId>,
    pub(crate) attached: BTreeMap<Consumer, Attached>,
    /// Deliveries in the hands of each consumer, as it sees them.
    pub(crate) hands: BTreeMap<Consumer, Vec<u64>>,
    pub(crate) faults: Vec<Arc<Faults>>,
    pub(crate) stats: BTreeMap<RequestId, Stats>,
    /// The requests that asked for them.
    pub(crate) asked: BTreeMap<DestinationId, RequestId>,
    /// What the broker did, so that a run that did nothing is noticed.
    pub(crate) tally: Tally,
    pub(crate) transcript: Option<String>,
    /// How safely queues and streams are to be kept.
    pub(crate) level: Level,
    shards: Vec<Shard>,
    /// What sessions have sent to each shard, and it has not taken yet.
    lines: BTreeMap<(ConnectionId, u32), VecDeque<Command>>,
    attaching: BTreeMap<(ConnectionId, RequestId), (Consumer, Attached)>,
    /// Those that have said goodbye. What was delivered to them once or never
    /// before they did comes before the answer.
    detaching: BTreeMap<Consumer, Attached>,
    /// With the moment at which the shard took it, steady ms.
    settling: BTreeMap<(ConnectionId, RequestId), (Consumer, Settlement, u64)>,
    pulling: BTreeMap<(ConnectionId, RequestId), u32>,
    reading: BTreeMap<(ConnectionId, RequestId), DestinationId>,
    /// By row, where a message went to and its number.
    receipts: BTreeMap<(ConnectionId, ReceiptId), BTreeMap<u32, (DestinationId, u64)>>,
    requests: u32,
    pub(crate) restarts: u32,
    resolved: Resolved,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kept: u64,
    /// Commands with messages for several queues.
    pub(crate) spread: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) again: u64,
    pub(crate) settled: u64,
    pub(crate) dead: u64,
    pub(crate) policies_failed: u64,
    pub(crate) restarts: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.spread += other.spread;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.again += other.again;
        self.settled += other.settled;
        self.dead += other.dead;
        self.policies_failed += other.policies_failed;
        self.restarts += other.restarts;
    }
}

impl World {
    pub(crate) fn new(seed: u64, records: bool) -> Self {
        let directory = Directory::new(SHARDS);
        // Answers and deliveries wait for a store that is slow to be safe.
        let level = if seed.is_multiple_of(2) { Level::Memory } else { Level::Disk };
        let store = |_| MemoryStore::new(1 << 24).claiming(level);
        let stores: Vec<_> = (0..SHARDS).map(store).collect();
        let faults = stores.iter().map(MemoryStore::faults).collect();
        let shards = stores
            .into_iter()
            .zip(0..)
            .map(|(store, shard)| Shard::new(Box::new(store), directory.shard_ids(shard)));
        Self {
            random: Random::new(seed),
            now_ms: 1,
            listening: Vec::new(),
            destinations: BTreeMap::new(),
            deleted: BTreeSet::new(),
            attached: BTreeMap::new(),
            hands: BTreeMap::new(),
            faults,
            stats: BTreeMap::new(),
            asked: BTreeMap::new(),
            tally: Tally::default(),
            level,
            transcript: records.then(String::new),
            shards: shards.collect(),
            lines: BTreeMap::new(),
            attaching: BTreeMap::new(),
            detaching: BTreeMap::new(),
            settling: BTreeMap::new(),
            pulling: BTreeMap::new(),
            reading: BTreeMap::new(),
            receipts: BTreeMap::new(),
            requests: 0,
            restarts: 0,
            resolved: Resolved::default(),
            directory,
        }
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Puts a command into the line between a session and a shard.
    pub(crate) fn send(&mut self, from: ConnectionId, shard: u32, command: Command) {
        self.lines.entry((from, shard)).or_default().push_back(command);
    }

    /// A consumer settles something, unless it is not one any more.
    pub(crate) fn say(&mut self, consumer: Consumer, settlement: Settlement) {
        let Some(shard) = self.attached.get(&consumer).map(|it| it.shard) else { return };
        let command = Command::Settle {
            connection: consumer.0,
            subscription: consumer.1,
            request: Some(self.request()),
            settlements: vec![settlement],
        };
        self.send(consumer.0, shard, command);
    }

    /// Everything sent has arrived.
    pub(crate) fn is_quiet(&self) -> bool {
        self.lines.values().all(VecDeque::is_empty)
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.shards.iter().filter_map(Shard::next_deadline).min()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_quiet() && self.hands.values().all(Vec::is_empty)
    }

    /// Publishes messages, and hands them over to whoever listens. `bodies` are
    /// number, key (0 for none) and subject of each.
    pub(crate) fn publish(
        &mut self,
        from: ConnectionId,
        bodies: &[(u64, u64, String)],
        delay_ms: u32,
    ) {
        let mut batches: BTreeMap<DestinationId, (u32, weir_message::BatchBuilder, Vec<u32>)> =
            BTreeMap::new();
        for (row, (number, key, subject)) in bodies.iter().enumerate() {
            let mut resolved = std::mem::take(&mut self.resolved);
            self.directory.resolve(subject, &mut resolved);
            self.check_resolved(subject, &resolved);
            let key = if *key == 0 { String::new() } else { format!("k{key}") };
            let mut message = Vec::new();
            let payload = number.to_be_bytes();
            weir_message::encode(&mut message, subject, key.as_bytes(), &[], &payload);
            for target in &resolved.destinations {
                let batch = batches.entry(target.id).or_default();
                batch.0 = target.shard;
                batch.1.push(&message);
                batch.2.push(row as u32);
            }
            self.resolved = resolved;
        }
        let mut alone: BTreeMap<u32, Vec<Lone>> = BTreeMap::new();
        for (destination, (shard, mut batch, rows)) in batches {
            let batch = batch.take();
            if let (&[row], 0) = (&rows[..], delay_ms)
                && self.random.chance(70)
            {
                let of_shard = alone.entry(shard).or_default();
                // The model tells the copies of one message apart by their receipts.
                if of_shard.iter().all(|one| one.row != row) {
                    of_shard.push(Lone { destination, row, message: batch.bytes });
                    continue;
                }
            }
            let receipt = Some(ReceiptId(self.request().0));
            let whole = rows.len() == bodies.len() && self.random.chance(50);
            let rows = if whole { Vec::new() } else { rows };
            let publish = Publish {
                destination,
                connection: from,
                receipt,
                batch,
                rows: rows.into(),
                delay_ms,
            };
            self.send(from, shard, Command::Publish(publish));
        }
        // As a session sends what it has read for many queues.
        for (shard, messages) in alone {
            self.tally.spread += u64::from(messages.len() > 1);
            let receipt = Some(ReceiptId(self.request().0));
            let spread = Spread { connection: from, receipt, messages };
            self.send(from, shard, Command::Spread(spread));
        }
    }

    /// The directory against a naive matcher.
    fn check_resolved(&self, subject: &str, resolved: &Resolved) {
        let listening = || self.listening.iter().filter(|one| one.pattern.matches(subject));
        let mut expected: Vec<Consumer> =
            listening().filter(|one| one.share.is_none()).map(|one| one.consumer).collect();
        let found = resolved.subscribers.iter().map(|it| (it.connection, it.subscription));
        let mut found: Vec<Consumer> = found.collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{subject} finds other subscribers");

        let mut groups: BTreeMap<&str, BTreeSet<Consumer>> = BTreeMap::new();
        for one in listening() {
            if let Some(share) = &one.share {
                groups.entry(share.as_str()).or_default().insert(one.consumer);
            }
        }
        let mut expected: Vec<_> = groups.into_values().collect();
        let members = |share| resolved.members(share).iter();
        let mut found: Vec<BTreeSet<Consumer>> = resolved
            .shares
            .iter()
            .map(|share| members(share).map(|it| (it.connection, it.subscription)).collect())
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{subject} finds other share groups");

        let mut expected: Vec<DestinationId> = self
            .directory
            .list()
            .filter(|one| one.subjects.iter().any(|pattern| pattern.matches(subject)))
            .map(|one| one.id)
            .collect();
        expected.sort_unstable();
        let found: Vec<_> = resolved.destinations.iter().map(|target| target.id).collect();
        assert_eq!(found, expected, "{subject} finds other destinations");
    }

    /// One turn of a shard: some commands in seeded order, perhaps a tick.
    pub(crate) fn turn(&mut self, shard: u32, commands_max: u64) {
        let now = Now { steady_ms: self.now_ms, wall_ms: WALL_MS + self.now_ms };
        let mut effects = Vec::new();
        for _ in 0..commands_max {
            let waiting =
                self.lines.iter().filter(|(key, line)| key.1 == shard && !line.is_empty());
            let keys: Vec<_> = waiting.map(|(&key, _)| key).collect();
            if keys.is_empty() {
                break;
            }
            let key = *self.random.pick(&keys);
            let command = self.lines.get_mut(&key).and_then(VecDeque::pop_front);
            let command = command.expect("the line is not empty");
            self.note(shard, "<", &text_of(&command));
            self.before(shard, &command);
            self.shards[shard as usize].apply(now, command, &mut effects);
            self.observe(shard, &mut effects);
        }
        let due = self.shards[shard as usize].next_deadline().is_some_and(|at| at <= self.now_ms);
        if due && self.random.chance(90) || self.random.chance(5) {
            self.note(shard, "<", "tick");
            self.shards[shard as usize].tick(now, &mut effects);
            self.observe(shard, &mut effects);
        }
        self.shards[shard as usize].commit(now, &mut effects).expect("the store does not fail");
        self.observe(shard, &mut effects);
    }

    /// Every shard takes what was sent to it.
    pub(crate) fn deliver_all(&mut self) {
        while !self.is_quiet() {
            (0..SHARDS).for_each(|shard| self.turn(shard, u64::MAX));
        }
    }

    /// Other shards over the same stores, with what the directory knows.
    pub(crate) fn restart(&mut self, operator: ConnectionId) {
        self.restarts += 1;
        self.tally.restarts += 1;
        let before = std::mem::take(&mut self.shards);
        for (shard, number) in before.into_iter().zip(0..) {
            let mut ids = self.directory.shard_ids(number);
            // Numbers of queues that are deleted are not used again either.
            ids.start += 1_000 * self.restarts;
            self.shards.push(Shard::new(shard.into_store(), ids));
        }
        let untold = std::mem::take(&mut self.receipts).into_values();
        for (destination, number) in untold.flat_map(BTreeMap::into_values) {
            let destination = self.destinations.get_mut(&destination).expect("known");
            let message = destination.messages.get_mut(&number).expect("published");
            message.outcome = Outcome::Untold;
        }
        for destination in self.destinations.values_mut() {
            destination.groups.values_mut().for_each(Group::start_again);
        }
        self.lines.clear();
        self.attached.clear();
        self.hands.clear();
        self.attaching.clear();
        self.detaching.clear();
        self.settling.clear();
        self.pulling.clear();
        self.reading.clear();
        for (shard, command) in self.makings() {
            self.send(operator, shard, command);
        }
    }

    /// The commands that make what the directory knows.
    fn makings(&self) -> Vec<(u32, Command)> {
        let mut makings = Vec::new();
        for found in self.directory.list() {
            let (id, name) = (found.id, found.name.to_string());
            let made = match found.settings.clone() {
                Settings::Queue(config) => Command::CreateQueue { id, name, config },
                Settings::Stream(config) => Command::CreateStream { id, name, config },
            };
            makings.push((found.shard, made));
            for (group, config) in &found.groups {
                let (group, config) = (group.to_string(), config.clone());
                makings.push((found.shard, Command::PutGroup { stream: id, group, config }));
            }
        }
        makings
    }

    fn note(&mut self, shard: u32, sign: &str, text: &str) {
        if let Some(transcript) = &mut self.transcript {
            writeln!(transcript, "{} {shard} {sign} {text}", self.now_ms)
                .expect("text can be written to a string");
        }
    }

    /// Tells the model what the shard is about to do.
    fn before(&mut self, shard: u32, command: &Command) {
        match command {
            Command::Publish(publish) => self.before_publish(publish),
            Command::Spread(spread) => {
                let publishes = spread.clone().publishes();
                publishes.for_each(|publish| self.before_publish(&publish));
            }
            Command::Attach { connection, subscription, request, source, credit, .. } => {
                let (destination, group) = match source {
                    Source::Queue(id) => (*id, String::new()),
                    Source::Group(id, group) => (*id, group.clone()),
                };
                let granted = u64::from(*credit);
                let attached = Attached { destination, group, shard, granted, last_tag: 0 };
                let consumer = (*connection, *subscription);
                self.attaching.insert((*connection, *request), (consumer, attached));
            }
            Command::Detach { connection, subscription, .. } => {
                let consumer = (*connection, *subscription);
                if let Some(attached) = self.attached.get(&consumer) {
                    self.detaching.insert(consumer, attached.clone());
                }
                self.lose(consumer);
            }
            Command::Disconnect { connection } => {
                let of_shard = |(consumer, attached): &(&Consumer, &Attached)| {
                    consumer.0 == *connection && attached.shard == shard
                };
                let gone: Vec<_> =
                    self.attached.iter().filter(of_shard).map(|(&consumer, _)| consumer).collect();
                gone.into_iter().for_each(|consumer| self.lose_in_model(consumer));
            }
            Command::Credit { connection, subscription, amount } => {
                if let Some(attached) = self.attached.get_mut(&(*connection, *subscription)) {
                    attached.granted += u64::from(*amount);
                }
            }
            Command::Pull { connection, subscription, request, max, .. } => {
                self.pulling.insert((*connection, *request), *max);
                if let Some(attached) = self.attached.get_mut(&(*connection, *subscription)) {
                    attached.granted += u64::from(*max);
                }
            }
            Command::Settle { connection, subscription, request, settlements } => {
                let request = request.expect("the simulator always asks");
                let consumer = (*connection, *subscription);
                let settlement = settlements[0];
                let asked = (consumer, settlement, self.now_ms);
                self.settling.insert((*connection, request), asked);
                if let Some(attached) = self.attached.get(&consumer).cloned() {
                    let (tags, now_ms) = (settlement.first..=settlement.last, self.now_ms);
                    let group = self.group_of(&attached);
                    match settlement.verb {
                        // Until the answer comes, the shorter lease is believed.
                        Verb::Extend { by_ms } => group.extend(consumer, tags, |held, lease_ms| {
                            held.min(now_ms + lease_of(by_ms, lease_ms))
                        }),
                        _ => group.leave(consumer, tags),
                    }
                }
            }
            Command::Seek { stream, group, to, .. } => {
                let has_gaps = *to != weir_core::command::Start::Earliest;
                let destination = self.destinations.get_mut(stream).expect("a known stream");
                destination.groups.get_mut(group).expect("a known group").forget(has_gaps);
            }
            Command::Read { connection, request, stream, .. } => {
                self.reading.insert((*connection, *request), *stream);
            }
            Command::Delete { id } => drop(self.deleted.insert(*id)),
            Command::BindDelivery { binding, policy, .. } => {
                let planned = policy.is_some() && binding != "once";
                let lease_ms = if planned { u64::from(LEASE_MS) } else { BUILT_IN_LEASE_MS };
                self.set_lease(binding, lease_ms);
            }
            _ => {}
        }
    }

    fn before_publish(&mut self, publish: &Publish) {
        let destination =
            self.destinations.get_mut(&publish.destination).expect("a known destination");
        let receipt = publish.receipt.expect("the simulator always asks");
        let rows = self.receipts.entry((publish.connection, receipt)).or_default();
        for (at, bytes) in publish.batch.iter().enumerate() {
            let row = publish.rows.get(at).copied().unwrap_or(at as u32);
            let (number, key) = read(bytes);
            let delay_ms = if destination.is_stream { 0 } else { u64::from(publish.delay_ms) };
            let due_ms = self.now_ms + delay_ms;
            let message = Message { key, outcome: Outcome::Pending, due_ms };
            assert!(destination.messages.insert(number, message).is_none(), "numbers are new");
            destination.lanes.entry(key).or_default().push(number);
            rows.insert(row, (publish.destination, number));
        }
    }

    /// A consumer leaves, or was ended.
    pub(crate) fn lose(&mut self, consumer: Consumer) {
        self.lose_in_model(consumer);
        self.hands.remove(&consumer);
    }

    fn lose_in_model(&mut self, consumer: Consumer) {
        if let Some(attached) = self.attached.remove(&consumer) {
            self.group_of(&attached).lose_consumer(consumer);
        }
    }

    fn group_of(&mut self, attached: &Attached) -> &mut Group {
        let destination =
            self.destinations.get_mut(&attached.destination).expect("a known destination");
        destination.groups.get_mut(&attached.group).expect("a known group")
    }

    fn observe(&mut self, shard: u32, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            if self.transcript.is_some() {
                self.note(shard, ">", &format!("{effect:?}"));
            }
            match effect {
                Effect::Published { connection, receipt, count, rows, outcome } => {
                    self.published((connection, receipt), count, rows, outcome);
                }
                Effect::Deliver { connection, subscription, runs } => {
                    runs.iter().for_each(|run| self.delivered((connection, subscription), run));
                }
                Effect::Reply { connection, request, reply } => {
                    self.replied((connection, request), reply);
                }
                Effect::Ended { connection, subscription, .. } => {
                    self.lose((connection, subscription));
                }
                Effect::Lost { .. } => panic!("nothing is damaged here: {effect:?}"),
                Effect::QueueMade { name, id } => self.queue_made(&name, id),
                Effect::Pressed { .. } => {}
                Effect::PolicyFailed { .. } => self.policy_failed(&effect),
            }
        }
    }

    fn published(
        &mut self,
        key: (ConnectionId, ReceiptId),
        count: u32,
        rows: Vec<u32>,
        outcome: Result<Level, Rejection>,
    ) {
        let places = self.receipts.get_mut(&key).expect("a receipt of ours");
        let rows = if rows.is_empty() { (0..count).collect() } else { rows };
        assert_eq!(rows.len(), count as usize);
        for row in rows {
            let (destination, number) = places.remove(&row).expect("each row is told of once");
            let destination = self.destinations.get_mut(&destination).expect("known");
            let message = destination.messages.get_mut(&number).expect("published");
            match outcome {
                Ok(_) => {
                    message.outcome = Outcome::Kept;
                    self.tally.kept += 1;
                }
                Err(_) => {
                    message.outcome = Outcome::Refused;
                    self.tally.refused += 1;
                }
            }
        }
    }

    fn delivered(&mut self, consumer: Consumer, run: &Run) {
        let attached = match self.attached.get_mut(&consumer) {
            Some(attached) => attached,
            None => {
                let attached = self.detaching.get_mut(&consumer);
                let attached = attached.expect("deliveries go to who is there");
                let group = &self.destinations[&attached.destination].groups[&attached.group];
                assert_eq!(group.rule, Rule::AtMostOnce, "only what is settled comes late");
                attached
            }
        };
        assert_eq!(run.tag, attached.last_tag + 1, "delivery tags rise by one");
        attached.last_tag += u64::from(run.count);
        let attached = attached.clone();
        let is_there = self.attached.contains_key(&consumer);
        let batch = Batch::from_bytes(run.bytes.clone()).expect("whole messages");
        assert_eq!(batch.len(), run.count as usize);
        assert!(run.time_ms <= WALL_MS + self.now_ms);
        if is_there {
            self.hands.entry(consumer).or_default().extend(run.tag..=attached.last_tag);
        }
        for (bytes, tag) in batch.iter().zip(run.tag..) {
            let (message, _) = read(bytes);
            let destination = self.destinations.get_mut(&attached.destination).expect("known");
            self.tally.delivered += 1;
            self.tally.again += u64::from(run.attempt > 1);
            if destination.name.ends_with("/dead") {
                destination.dead.insert(message);
                let source = destination.name.clone();
                self.died(&source, message);
            } else {
                let (group, attempt) = (&attached.group, run.attempt);
                destination.check_delivery(group, consumer, message, attempt, self.now_ms);
            }
            let now_ms = self.now_ms;
            let group = self.group_of(&attached);
            let lease_end_ms = match group.rule {
                Rule::AtMostOnce => u64::MAX,
                _ => now_ms + group.lease_ms,
            };
            if is_there {
                group.held.insert((consumer, tag), Held { message, lease_end_ms });
            }
            let in_hand = group.in_hand(consumer, now_ms);
            assert!(in_hand <= attached.granted, "{consumer:?} holds more than its credit");
        }
    }

    /// A message was found in the dead-letter queue `dead`.
    fn died(&mut self, dead: &str, message: u64) {
        let source = dead.trim_end_matches("/dead");
        let (name, group) = source.split_once('/').unwrap_or((source, ""));
        // A name may have belonged to several queues, one after the other.
        let mut sources = self.destinations.values_mut().filter(|it| it.name == name);
        let source = sources.find(|it| it.messages.contains_key(&message));
        let source = source.unwrap_or_else(|| panic!("{dead}: {message} comes from nowhere"));
        let known = &source.messages[&message];
        assert!(known.is_there(), "{message} died before it was kept");
        let rules = source.groups.get_mut(group).expect("a known group");
        self.tally.dead += 1;
        // A stream's group may have gone back to before it died.
        if !source.is_stream {
            rules.finished.insert(message);
        }
    }

    fn replied(&mut self, key: (ConnectionId, RequestId), reply: Reply) {
        if let Some((consumer, attached)) = self.attaching.remove(&key) {
            match reply {
                Reply::Done => drop(self.attached.insert(consumer, attached)),
                reply => assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}"),
            }
        } else if let Some((consumer, settlement, taken_ms)) = self.settling.remove(&key) {
            if let Reply::Count { done, unknown } = reply {
                self.settled(consumer, settlement, taken_ms, (done, unknown));
            }
        } else if let Some(max) = self.pulling.remove(&key) {
            if let Reply::Count { done, .. } = reply {
                assert!(done <= u64::from(max), "a pull brings no more than it asked for");
            }
        } else if let Some(stream) = self.reading.remove(&key) {
            self.records(stream, &reply);
        } else if let Reply::Stats(stats) = reply {
            self.stats.insert(key.1, *stats);
        }
    }

    fn settled(
        &mut self,
        consumer: Consumer,
        settlement: Settlement,
        taken_ms: u64,
        (done, unknown): (u64, u64),
    ) {
        let Settlement { first, last, verb } = settlement;
        assert_eq!(done + unknown, last - first + 1, "every tag is answered for");
        let Some(attached) = self.attached.get(&consumer).cloned() else { return };
        self.tally.settled += done;
        let group = self.group_of(&attached);
        if let Verb::Extend { by_ms } = verb {
            if unknown == 0 {
                let end_ms = |_, lease_ms| taken_ms + lease_of(by_ms, lease_ms);
                group.extend(consumer, first..=last, end_ms);
            }
            return;
        }
        for tag in first..=last {
            let Some(held) = group.leaving.remove(&(consumer, tag)) else { continue };
            match verb {
                _ if done == 0 => {}
                _ if unknown > 0 => drop(group.unsure.insert(held.message)),
                Verb::Ack => group.finish(consumer, held.message),
                Verb::Reject { .. } => {
                    group.rejected.insert(held.message);
                    group.finish(consumer, held.message);
                }
                Verb::Extend { .. } | Verb::Nack { .. } => {}
            }
        }
    }

    /// A range of a stream was read.
    fn records(&mut self, stream: DestinationId, reply: &Reply) {
        let Reply::Records { runs, next, start, end } = reply else { return };
        assert!(start <= end && next <= end);
        let mut offset = *start;
        for run in runs {
            assert!(run.offset >= offset, "records rise");
            offset = run.offset + u64::from(run.count);
            let batch = Batch::from_bytes(run.bytes.clone()).expect("whole messages");
            for bytes in batch.iter() {
                let message = &self.destinations[&stream].messages[&read(bytes).0];
                // It may be safe a moment before its publisher is told so.
                assert_ne!(message.outcome, Outcome::Refused, "what is read was kept");
            }
        }
        assert!(offset <= *next || runs.is_empty(), "next lies behind what was read");
    }

    fn queue_made(&mut self, name: &str, id: DestinationId) {
        self.directory.adopt_queue(name, id).expect("no stream is called that");
        let group = Group::new(Rule::AtLeastOnce, BUILT_IN_LEASE_MS);
        let dead = Destination {
            name: name.to_owned(),
            messages: BTreeMap::new(),
            lanes: BTreeMap::new(),
            groups: BTreeMap::from([(String::new(), group)]),
            dead: BTreeSet::new(),
            is_stream: false,
            is_lossy: false,
        };
        assert!(self.destinations.insert(id, dead).is_none(), "{name} was made twice");
    }

    fn policy_failed(&mut self, effect: &Effect) {
        let Effect::PolicyFailed { binding, .. } = effect else { return };
        self.tally.policies_failed += 1;
        self.set_lease(binding, BUILT_IN_LEASE_MS);
    }

    /// Groups of the destination `name` (bindings are named like it) lease for
    /// so long from now on.
    fn set_lease(&mut self, name: &str, lease_ms: u64) {
        for destination in self.destinations.values_mut().filter(|it| it.name == name) {
            destination.groups.values_mut().for_each(|group| group.lease_ms = lease_ms);
        }
    }
}

/// Length of a lease that is extended by `by_ms`, in a group's.
fn lease_of(by_ms: u32, lease_ms: u64) -> u64 {
    if by_ms == 0 { lease_ms } else { u64::from(by_ms) }
}

/// Number and key of a message.
fn read(bytes: &[u8]) -> (u64, u64) {
    let view = View::of(bytes).expect("a message");
    let number = u64::from_be_bytes(view.payload.try_into().expect("eight bytes"));
    let key = std::str::from_utf8(view.key).ok().and_then(|key| key.strip_prefix('k'));
    (number, key.and_then(|key| key.parse().ok()).unwrap_or(0))
}

/// A command as a line of the transcript; policies have no text.
fn text_of(command: &Command) -> String {
    match command {
        Command::Publish(publish) => format!("{publish:?}"),
        Command::Spread(spread) => format!("{spread:?}"),
        Command::Attach { connection, subscription, source, credit, .. } => {
            format!("attach {connection:?} {subscription:?} {source:?} {credit}")
        }
        Command::Detach { connection, subscription, .. } => {
            format!("detach {connection:?} {subscription:?}")
        }
        Command::Disconnect { connection } => format!("disconnect {connection:?}"),
        Command::Settle { connection, subscription, settlements, .. } => {
            format!("settle {connection:?} {subscription:?} {settlements:?}")
        }
        Command::Credit { connection, subscription, amount } => {
            format!("credit {connection:?} {subscription:?} {amount}")
        }
        Command::Pull { connection, subscription, max, wait_ms, .. } => {
            format!("pull {connection:?} {subscription:?} {max} {wait_ms}")
        }
        Command::Seek { stream, group, partition, to, .. } => {
            format!("seek {stream:?} {group} {partition:?} {to:?}")
        }
        Command::BindDelivery { binding, policy, .. } => {
            format!("bind {binding} {}", policy.is_some())
        }
        Command::Delete { id } => format!("delete {id:?}"),
        Command::CreateQueue { id, name, .. } => format!("queue {id:?} {name}"),
        _ => "another command".to_owned(),
    }
}

/// The subscription numbers of a session never come again.
pub(crate) fn next_number(last: &mut u32) -> SubscriptionId {
    *last += 1;
    SubscriptionId(*last)
}
