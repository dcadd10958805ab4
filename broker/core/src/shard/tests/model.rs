//! Random work against what must always be true.
//!
//! The model knows the messages it published and what the shard said about them;
//! it does not know how the shard works. After every turn the shard's own books
//! are checked too.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use weir_message::{BatchBuilder, View, encode};

use super::super::{Destination, Shard};
use crate::command::*;
use crate::effect::{Effect, Reply, Run};
use crate::env::Now;
use crate::memory_store::MemoryStore;
use crate::policy::*;

const QUEUE: DestinationId = DestinationId(1);
const STREAM: DestinationId = DestinationId(2);
const PUBLISHER: ConnectionId = ConnectionId(1);

/// A policy with a plan and, for chooser 0, a consumer for everything.
struct Planned {
    plan: Plan,
    number: u64,
    line: Vec<(u32, u32, u32)>,
}

impl DeliveryPolicy for Planned {
    fn generation(&self) -> Generation {
        Generation { number: self.number, digest: "m".into() }
    }
    fn powers(&self) -> Powers {
        Powers { dead_letter: true, ..Powers::default() }
    }
    fn reads_messages(&self) -> bool {
        false
    }

    fn classify(&mut self, _: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        Ok(vec![0; subjects.len()])
    }
    fn open(&mut self, _: u64, _: &GroupInfo<'_>) -> Result<Plan, Failure> {
        Ok(self.plan.clone())
    }
    fn join(&mut self, _: u64, _: &Joining<'_>) -> Result<(), Failure> {
        Ok(())
    }
    fn close(&mut self, _: u64, group: u32) {
        self.line.retain(|one| one.0 != group);
    }
    fn step(
        &mut self,
        _: u64,
        events: &[Event],
        _: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        for event in events {
            let of_it =
                |one: &&mut (u32, u32, u32)| one.0 == event.group && one.1 == event.consumer;
            match event.kind {
                event::JOINED => self.line.push((event.group, event.consumer, event.value)),
                event::LEFT => {
                    self.line.retain(|one| (one.0, one.1) != (event.group, event.consumer))
                }
                event::CREDIT => {
                    self.line.iter_mut().filter(of_it).for_each(|one| one.2 += event.value)
                }
                event::READY => {
                    let open = |one: &&mut (u32, u32, u32)| one.0 == event.group && one.2 > 0;
                    let Some(one) = self.line.iter_mut().find(open) else {
                        // Nobody has room: ask again soon.
                        let (kind, value) = (action::RETRY, 20);
                        let (group, message) = (event.group, event.message);
                        actions.push(Action { kind, group, message, value, ..Action::default() });
                        continue;
                    };
                    one.2 -= 1;
                    let (group, consumer, message) = (event.group, one.1, event.message);
                    let kind = action::DISPATCH;
                    actions.push(Action { kind, group, consumer, message, ..Action::default() });
                }
                _ => {}
            }
        }
        Ok(())
    }
    fn save(&mut self, _: u64) -> Option<(u32, Vec<u8>)> {
        None
    }
    fn load(&mut self, _: u64, _: u32, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// What the model knows of one group: "queue" or a stream's group.
#[derive(Default)]
struct Seen {
    /// Acknowledged for good.
    acked: BTreeSet<u32>,
    rejected: BTreeSet<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Which {
    Queue,
    Group(u8),
}

struct Held {
    which: Which,
    granted: u32,
    /// Tag to message, as far as the consumer knows.
    tags: BTreeMap<u64, u32>,
}

struct Model {
    shard: Shard,
    now: Now,
    order: u8,
    next_message: u32,
    next_connection: u64,
    keys: BTreeMap<u32, u8>,
    accepted: BTreeMap<Which, Vec<u32>>,
    seen: BTreeMap<Which, Seen>,
    consumers: BTreeMap<ConnectionId, Held>,
    asked: Vec<(ConnectionId, Vec<u32>, Verb)>,
    transcript: Vec<String>,
}

impl Model {
    fn new(order: u8) -> Self {
        let mut model = Self {
            shard: Shard::new(Box::new(MemoryStore::new(0)), 1000..1100),
            now: Now { steady_ms: 0, wall_ms: 5_000 },
            order,
            next_message: 0,
            next_connection: 100,
            keys: BTreeMap::new(),
            accepted: BTreeMap::new(),
            seen: BTreeMap::new(),
            consumers: BTreeMap::new(),
            asked: Vec::new(),
            transcript: Vec::new(),
        };
        let config = QueueConfig { messages_max: 60, bytes_max: 0, level: Level::Memory, order };
        model.run(vec![Command::CreateQueue { id: QUEUE, name: "orders".into(), config }]);
        let config =
            StreamConfig { partitions: 2, level: Level::Memory, ..StreamConfig::default() };
        model.run(vec![Command::CreateStream { id: STREAM, name: "flights".into(), config }]);
        for group in ["g0", "g1"] {
            let config = GroupConfig { order, ..GroupConfig::default() };
            model.run(vec![Command::PutGroup { stream: STREAM, group: group.into(), config }]);
        }
        model
    }

    fn run(&mut self, commands: Vec<Command>) {
        let mut effects = Vec::new();
        for command in commands {
            self.shard.apply(self.now, command, &mut effects);
        }
        self.shard.tick(self.now, &mut effects);
        self.shard.commit(self.now, &mut effects).unwrap();
        // The answer to a rejection leaves behind what the rejection made room for.
        effects.sort_by_key(|effect| !matches!(effect, Effect::Reply { .. }));
        for effect in effects {
            self.transcript.push(format!("{effect:?}"));
            self.judge(effect);
        }
        self.check_books();
    }

    fn judge(&mut self, effect: Effect) {
        match effect {
            Effect::Deliver { connection, runs, .. } => {
                runs.iter().for_each(|run| self.judge_run(connection, run));
            }
            Effect::Reply { connection, reply: Reply::Count { done, .. }, .. } => {
                let place = self.asked.iter().position(|asked| asked.0 == connection);
                let Some(place) = place else { return };
                let (_, messages, verb) = self.asked.remove(place);
                assert!(done as usize <= messages.len());
                // Single settlements only, so `done` says it all.
                if done == 1 {
                    self.settled(connection, messages[0], verb);
                }
            }
            Effect::Published { receipt, rows, count, outcome, .. } => {
                let (which, first) = match receipt.0 & 1 {
                    0 => (Which::Queue, receipt.0 >> 1),
                    _ => (Which::Group(0), receipt.0 >> 1),
                };
                let rows = if rows.is_empty() { (0..count).collect() } else { rows };
                if outcome.is_ok() {
                    let messages = rows.iter().map(|row| first + row);
                    self.accepted.entry(which).or_default().extend(messages);
                }
            }
            _ => {}
        }
    }

    fn settled(&mut self, connection: ConnectionId, message: u32, verb: Verb) {
        let Some(held) = self.consumers.get(&connection) else { return };
        let seen = self.seen.entry(held.which).or_default();
        match verb {
            Verb::Ack => drop(seen.acked.insert(message)),
            Verb::Reject { .. } => drop(seen.rejected.insert(message)),
            _ => {}
        }
    }

    fn judge_run(&mut self, connection: ConnectionId, run: &Run) {
        let held = self.consumers.get_mut(&connection).expect("deliveries go to consumers");
        let mut at = 0;
        for k in 0..u64::from(run.count) {
            let parts = weir_message::parse(&run.bytes, at).unwrap();
            at = parts.end as usize;
            let payload = View::of(&run.bytes[parts.start as usize..at]).unwrap().payload;
            let message = u32::from_be_bytes(payload.try_into().unwrap());
            held.tags.insert(run.tag + k, message);
            let seen = self.seen.entry(held.which).or_default();
            assert!(!seen.acked.contains(&message), "{message} delivered after its ack");
            assert!(!seen.rejected.contains(&message), "{message} delivered after its rejection");
            let key = self.keys[&message];
            if self.order == 1 && key > 0 {
                let earlier = self.keys.range(..message).filter(|(_, other)| **other == key);
                let of = if held.which == Which::Queue { Which::Queue } else { Which::Group(0) };
                let accepted = self.accepted.get(&of);
                for (other, _) in earlier {
                    let known = accepted.is_some_and(|all| all.binary_search(other).is_ok());
                    let over = seen.acked.contains(other) || seen.rejected.contains(other);
                    assert!(!known || over, "{message} before {other} of the same key");
                }
            }
        }
        assert_eq!(at, run.bytes.len());
    }

    /// The shard's own books agree with each other.
    fn check_books(&self) {
        for group in self.shard.groups.values() {
            let stats = group.stats(&*self.shard.store);
            let ends: u64 =
                group.parts.iter().map(|part| self.shard.store.bounds(part.log).end).sum();
            let parts = stats.ready + stats.in_flight + stats.delayed + stats.parked;
            assert_eq!(stats.lag, parts, "every message is somewhere");
            if group.plan.ack == 1 {
                let over = stats.acked + stats.dead_lettered + stats.dropped;
                assert!(over + stats.lag >= ends, "published = settled + kept");
            }
            for consumer in group.consumers.values() {
                assert_eq!(consumer.picked, 0);
                assert!(consumer.outgoing.is_empty());
                let held: u64 =
                    consumer.deliveries.iter().map(|(_, held)| u64::from(held.bytes)).sum();
                assert_eq!(held, consumer.bytes_in_flight);
                if let Some(known) = self.consumers.get(&consumer.connection) {
                    let total = consumer.credit + consumer.in_flight();
                    assert_eq!(total, known.granted, "credit is neither made nor lost");
                }
            }
        }
        let Some(Destination::Queue(queue)) = self.shard.destinations.get(&QUEUE) else { return };
        let group = &self.shard.groups[&queue.group];
        assert!(queue.messages(group, &*self.shard.store) <= 60, "the bound holds");
    }

    fn publish(&mut self, to: DestinationId, count: u32, seed: u16) {
        let mut batch = BatchBuilder::default();
        let first = self.next_message;
        for row in 0..count {
            let key = ((u32::from(seed) + row * 7) % 5) as u8;
            let message = first + row;
            self.keys.insert(message, key);
            let key = if key == 0 { Vec::new() } else { vec![b'k', key] };
            let mut bytes = Vec::new();
            encode(&mut bytes, "s", &key, &[], &message.to_be_bytes());
            batch.push(&bytes);
        }
        self.next_message += count;
        let receipt = Some(ReceiptId(first << 1 | u32::from(to == STREAM)));
        let delay_ms = if seed.is_multiple_of(11) { 40 } else { 0 };
        self.run(vec![Command::Publish(Publish {
            destination: to,
            connection: PUBLISHER,
            receipt,
            batch: batch.take(),
            rows: Rows::new(),
            delay_ms,
        })]);
    }

    fn attach(&mut self, which: Which, credit: u32) {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let source = match which {
            Which::Queue => Source::Queue(QUEUE),
            Which::Group(group) => Source::Group(STREAM, format!("g{group}")),
        };
        self.consumers.insert(connection, Held { which, granted: credit, tags: BTreeMap::new() });
        self.run(vec![Command::Attach {
            connection,
            subscription: SubscriptionId(1),
            request: RequestId(0),
            source,
            credit,
            name: String::new(),
            labels: String::new(),
        }]);
    }

    fn consumer(&self, choice: u16) -> Option<ConnectionId> {
        let all = self.consumers.len();
        (all > 0).then(|| *self.consumers.keys().nth(usize::from(choice) % all).unwrap())
    }

    fn settle(&mut self, connection: ConnectionId, choice: u16, verb: Verb) {
        let Some(held) = self.consumers.get(&connection) else { return };
        if held.tags.is_empty() {
            return;
        }
        let tags = &held.tags;
        let (&tag, &message) = tags.iter().nth(usize::from(choice) % tags.len()).unwrap();
        self.asked.push((connection, vec![message], verb));
        let settlements = vec![Settlement { first: tag, last: tag, verb }];
        let request = Some(RequestId(1));
        let subscription = SubscriptionId(1);
        self.run(vec![Command::Settle { connection, subscription, request, settlements }]);
    }

    fn leave(&mut self, connection: ConnectionId, says_so: bool) {
        self.consumers.remove(&connection);
        let command = if says_so {
            let (subscription, request) = (SubscriptionId(1), RequestId(0));
            Command::Detach { connection, subscription, request }
        } else {
            Command::Disconnect { connection }
        };
        self.run(vec![command]);
    }

    fn rebind(&mut self, seed: u16, number: u64) {
        let plan = Plan {
            interest: if seed.is_multiple_of(4) { 0x7ffe } else { 0 },
            chooser: (seed % 4) as u8,
            order: self.order,
            lease_ms: 200,
            retry_first_ms: u32::from(seed % 3) * 10,
            window: 5 + u32::from(seed % 50),
            per_consumer: u32::from(seed % 2) * 4,
            ..Plan::AT_LEAST_ONCE
        };
        let all = vec!["*".to_owned(), "*/*".to_owned()];
        let scope = Scope { queues: all.clone(), groups: all, order: 0 };
        let policy = Planned { plan, number, line: Vec::new() };
        let policy = (seed % 5 != 4).then(|| Box::new(policy) as Box<dyn DeliveryPolicy>);
        self.run(vec![Command::BindDelivery { binding: "m".into(), scope, policy }]);
    }

    fn step(&mut self, (op, a, b): (u8, u16, u16)) {
        let which = [Which::Queue, Which::Group(0), Which::Group(1)][usize::from(b % 3)];
        let consumer = self.consumer(a);
        match (op, consumer) {
            (0 | 1, _) => {
                self.publish(if a % 2 == 0 { QUEUE } else { STREAM }, 1 + u32::from(b % 9), b)
            }
            (2, _) if self.consumers.len() < 8 => self.attach(which, u32::from(a % 6)),
            (3..=5, Some(consumer)) => self.settle(consumer, b, Verb::Ack),
            (6, Some(consumer)) => {
                let delay_ms = u32::from(b % 2) * 30;
                self.settle(consumer, b / 2, Verb::Nack { delay_ms, code: 0 });
            }
            (7, Some(consumer)) => self.settle(consumer, b, Verb::Reject { code: 1 }),
            (8, Some(consumer)) => self.leave(consumer, b % 2 == 0),
            (9, Some(connection)) => {
                let amount = u32::from(b % 4);
                self.consumers.get_mut(&connection).unwrap().granted += amount;
                let subscription = SubscriptionId(1);
                self.run(vec![Command::Credit { connection, subscription, amount }]);
            }
            (10, _) => {
                self.now.steady_ms += u64::from(b % 150);
                self.now.wall_ms += u64::from(b % 150);
                self.run(vec![]);
            }
            (11, _) => self.rebind(b, self.now.steady_ms + 1),
            (12, Some(consumer)) => {
                self.settle(consumer, b, Verb::Extend { by_ms: u32::from(b % 300) })
            }
            // Time that stands still changes nothing.
            _ => self.run(vec![]),
        }
    }

    /// Lets everything be delivered and acknowledged, then counts.
    fn drain(&mut self) {
        self.rebind(4, u64::MAX);
        for consumer in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.leave(consumer, true);
        }
        for which in [Which::Queue, Which::Group(0), Which::Group(1)] {
            self.attach(which, 1000);
        }
        for _ in 0..2000 {
            let mut idle = true;
            for connection in self.consumers.keys().copied().collect::<Vec<_>>() {
                while let Some((&tag, _)) = self.consumers[&connection].tags.first_key_value() {
                    idle = false;
                    self.settle(connection, 0, Verb::Ack);
                    self.consumers.get_mut(&connection).unwrap().tags.remove(&tag);
                }
            }
            match self.shard.next_deadline() {
                Some(at) => {
                    let by = at.saturating_sub(self.now.steady_ms);
                    self.now.steady_ms += by;
                    self.now.wall_ms += by;
                    self.run(vec![]);
                }
                None if idle => break,
                None => {}
            }
        }
        for group in self.shard.groups.values() {
            if !group.identity.full_name.ends_with("/dead") {
                let stats = group.stats(&*self.shard.store);
                assert_eq!(stats.lag, 0, "{}: {stats:?}", group.identity.full_name);
            }
        }
        for which in [Which::Queue, Which::Group(0), Which::Group(1)] {
            let of = if which == Which::Queue { Which::Queue } else { Which::Group(0) };
            let seen = self.seen.entry(which).or_default();
            for message in self.accepted.get(&of).into_iter().flatten() {
                let over = seen.acked.contains(message) || seen.rejected.contains(message);
                assert!(over, "{message} was accepted and is lost for {which:?}");
            }
        }
        let rejected: usize = self.seen.values().map(|seen| seen.rejected.len()).sum();
        let dead = self.shard.destinations.values().filter_map(|destination| match destination {
            Destination::Queue(queue) if queue.name.ends_with("/dead") => Some(queue.published),
            _ => None,
        });
        assert_eq!(dead.sum::<u64>(), rejected as u64, "each rejected message is kept once");
    }
}

fn play(order: u8, steps: &[(u8, u16, u16)]) -> Vec<String> {
    let mut model = Model::new(order);
    steps.iter().for_each(|&step| model.step(step));
    model.drain();
    model.transcript
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("WEIR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(192),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_261_121),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_acknowledged_is_lost_and_order_is_kept(
        order in 0_u8..3,
        steps in proptest::collection::vec((0_u8..14, any::<u16>(), any::<u16>()), 1..150),
    ) {
        play(order, &steps);
    }

    #[test]
    fn the_same_work_has_the_same_effects(
        order in 0_u8..3,
        steps in proptest::collection::vec((0_u8..14, any::<u16>(), any::<u16>()), 1..60),
    ) {
        prop_assert_eq!(play(order, &steps), play(order, &steps));
    }
}
