//! What clients do, and what befalls the broker meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use weir_core::command::{
    Command, ConnectionId, DestinationId, GroupConfig, QueueConfig, Settlement, Source, Start,
    StreamConfig, Verb,
};
use weir_core::directory::{Kind, Settings};
use weir_core::name::{Name, Pattern};
use weir_core::policy::{DeliveryPolicy, Scope};

use crate::model::{Destination, Group, Rule};
use crate::policies::{Planned, Wild, at_most_once, by_key, everyone, three_tries};
use crate::world::{BUILT_IN_LEASE_MS, Listening, SHARDS, World, next_number};

/// Who makes destinations and binds policies.
const OPERATOR: ConnectionId = ConnectionId(1);

/// Subjects that publishers use.
const SUBJECTS: [&str; 14] = [
    "work.a",
    "work.b",
    "ordered.a",
    "bounded.a",
    "retry.a",
    "once.a",
    "wild.a",
    "spread.a",
    "keyed.a",
    "events.a",
    "short.a",
    "brief.a",
    "all.a",
    "nowhere",
];

/// Patterns of channel subscriptions.
const PATTERNS: [&str; 8] = ["work.a", "work.*", ">", "*.a", "all.>", "nowhere", "wor*.*", "*o*.a"];

/// Queues: name, most messages, order, rule.
const QUEUES: [(&str, u64, u8, Rule); 8] = [
    ("work", 0, 0, Rule::AtLeastOnce),
    ("ordered", 0, 1, Rule::InOrder),
    ("bounded", 12, 0, Rule::AtLeastOnce),
    ("retry", 0, 0, Rule::AtLeastOnce),
    ("once", 0, 0, Rule::AtMostOnce),
    ("wild", 0, 0, Rule::AtLeastOnce),
    ("spread", 0, 0, Rule::Everyone),
    ("keyed", 0, 0, Rule::InOrder),
];

/// Queues that a policy of the same name serves.
const BOUND: [&str; 5] = ["retry", "once", "wild", "spread", "keyed"];

struct Session {
    connection: ConnectionId,
    last_number: u32,
}

pub(crate) struct Simulation {
    pub(crate) world: World,
    sessions: Vec<Session>,
    connections: u64,
    published: u64,
    generation: u64,
}

impl Simulation {
    pub(crate) fn new(seed: u64, records: bool) -> Self {
        let world = World::new(seed, records);
        let mut simulation =
            Self { world, sessions: Vec::new(), connections: 1, published: 0, generation: 0 };
        for (name, messages_max, order, rule) in QUEUES {
            simulation.make_queue(name, messages_max, order, rule);
        }
        simulation.make_stream("events", 3, 0, &[("audit", 1), ("replay", 0)]);
        simulation.make_stream("short", 1, 10, &[("late", 0)]);
        for name in BOUND {
            simulation.bind(name);
        }
        // Everybody finds a broker that is set up.
        for shard in 0..SHARDS {
            simulation.world.turn(shard, u64::MAX);
        }
        for _ in 0..4 {
            let session = simulation.new_session();
            simulation.sessions.push(session);
        }
        simulation
    }

    fn new_session(&mut self) -> Session {
        self.connections += 1;
        Session { connection: ConnectionId(self.connections), last_number: 0 }
    }

    pub(crate) fn step(&mut self) {
        let at = self.world.random.below(self.sessions.len() as u64) as usize;
        match self.world.random.below(100) {
            0..=24 => self.publish(at),
            25..=44 => self.settle(),
            45..=52 => self.consume(at),
            53..=54 => self.subscribe(at),
            55..=56 => self.unsubscribe(),
            57..=59 => self.detach(),
            60..=61 => self.disconnect(at),
            62..=65 => self.more_credit(),
            66..=67 => self.seek(at),
            68 => self.read(at),
            69..=71 => self.fault(),
            72 => self.operate(),
            73..=79 => {
                let ms = [1, 1, 5, 20, 100, 500, 2_000, 20_000];
                self.world.now_ms += *self.world.random.pick(&ms);
            }
            _ => {
                let shard = self.world.random.below(u64::from(SHARDS)) as u32;
                let commands_max = self.world.random.below(8);
                self.world.turn(shard, commands_max);
            }
        }
    }

    // What an operator does.

    fn make_queue(&mut self, name: &str, messages_max: u64, order: u8, rule: Rule) {
        let level = self.world.level;
        let config = QueueConfig { messages_max, bytes_max: 0, level, order };
        let lease_ms = BUILT_IN_LEASE_MS;
        let groups = BTreeMap::from([(String::new(), Group::new(rule, lease_ms))]);
        let id = self.make(name, Settings::Queue(config.clone()), groups, false);
        let shard = self.world.directory.shard_of(name);
        let name = name.to_owned();
        self.world.send(OPERATOR, shard, Command::CreateQueue { id, name, config });
    }

    fn make_stream(
        &mut self,
        name: &str,
        partitions: u16,
        messages_max: u64,
        groups: &[(&str, u8)],
    ) {
        let config = StreamConfig {
            partitions,
            messages_max,
            level: self.world.level,
            ..StreamConfig::default()
        };
        let rule = |order| if order == 1 { Rule::InOrder } else { Rule::AtLeastOnce };
        let models = groups
            .iter()
            .map(|&(group, order)| (group.to_owned(), Group::new(rule(order), BUILT_IN_LEASE_MS)));
        let settings = Settings::Stream(config.clone());
        let id = self.make(name, settings, models.collect(), messages_max > 0);
        let shard = self.world.directory.shard_of(name);
        let (operator, stream) = (OPERATOR, name.to_owned());
        self.world.send(operator, shard, Command::CreateStream { id, name: stream, config });
        for &(group, order) in groups {
            let config = GroupConfig { start: Start::Earliest, order, options: String::new() };
            let checked = Name::parse_group(group).unwrap();
            self.world.directory.create_group(name, &checked, config.clone()).unwrap();
            let group = group.to_owned();
            self.world.send(operator, shard, Command::PutGroup { stream: id, group, config });
        }
    }

    fn make(
        &mut self,
        name: &str,
        settings: Settings,
        groups: BTreeMap<String, Group>,
        is_lossy: bool,
    ) -> DestinationId {
        let mut subjects = vec![Pattern::parse(&format!("{name}.*")).unwrap()];
        if ["work", "ordered", "retry", "events", "keyed"].contains(&name) {
            subjects.push(Pattern::parse("all.>").unwrap());
            subjects.push(Pattern::parse("al*.a").unwrap());
        }
        let is_stream = settings.kind() == Kind::Stream;
        let checked = Name::parse(name).unwrap();
        let created = self.world.directory.create(&checked, subjects, settings).unwrap();
        assert!(created.is_new, "{name} was there");
        let destination = Destination {
            name: name.to_owned(),
            messages: BTreeMap::new(),
            lanes: BTreeMap::new(),
            groups,
            dead: BTreeSet::new(),
            is_stream,
            is_lossy,
        };
        self.world.destinations.insert(created.id, destination);
        created.id
    }

    /// Puts the next generation of a policy in place, on its shard.
    fn bind(&mut self, name: &str) {
        self.generation += 1;
        let generation = self.generation;
        let planned = |plan| -> Box<dyn DeliveryPolicy> { Box::new(Planned { generation, plan }) };
        let policy = match name {
            "retry" => planned(three_tries()),
            "once" => planned(at_most_once()),
            "spread" => planned(everyone()),
            "keyed" => planned(by_key()),
            _ => Box::new(Wild::new(generation, self.world.random.next())),
        };
        let scope = Scope { queues: vec![name.to_owned()], groups: Vec::new(), order: 0 };
        let shard = self.world.directory.shard_of(name);
        let command =
            Command::BindDelivery { binding: name.to_owned(), scope, policy: Some(policy) };
        self.world.send(OPERATOR, shard, command);
    }

    /// No policy decides any more.
    pub(crate) fn unbind_all(&mut self) {
        for name in BOUND {
            // A group that hands every message to everybody, or for good, has
            // to go on as it began for its promise to be checked.
            if name == "wild" {
                let binding = name.to_owned();
                let shard = self.world.directory.shard_of(name);
                let scope = Scope::default();
                let command = Command::BindDelivery { binding, scope, policy: None };
                self.world.send(OPERATOR, shard, command);
            }
        }
    }

    fn operate(&mut self) {
        if self.world.random.chance(10) {
            return self.restart();
        }
        if self.world.random.chance(60) {
            let name = *self.world.random.pick(&BOUND);
            return self.bind(name);
        }
        match self.world.directory.find("brief").map(|it| it.id) {
            None => self.make_queue("brief", 0, 0, Rule::AtLeastOnce),
            Some(id) => {
                self.world.directory.delete("brief", Kind::Queue).unwrap();
                let shard = self.world.directory.shard_of("brief");
                self.world.send(OPERATOR, shard, Command::Delete { id });
            }
        }
    }

    /// The broker is another process over the same stores: what clients had sent
    /// has arrived, what they would have been told has not.
    fn restart(&mut self) {
        self.world.deliver_all();
        for at in 0..self.sessions.len() {
            self.disconnect(at);
        }
        self.world.restart(OPERATOR);
        for name in BOUND {
            self.bind(name);
        }
        self.world.deliver_all();
    }

    fn fault(&mut self) {
        let (hold, full) = (self.world.random.chance(40), self.world.random.chance(20));
        let faults = self.world.random.pick(&self.world.faults.clone()).clone();
        faults.hold_stable(hold);
        faults.no_space(full);
    }

    // What clients do.

    fn publish(&mut self, at: usize) {
        let random = &mut self.world.random;
        let subject = *random.pick(&SUBJECTS);
        let mut bodies = Vec::new();
        for _ in 0..=random.below(6) {
            self.published += 1;
            let subject = if random.chance(20) { *random.pick(&SUBJECTS) } else { subject };
            bodies.push((self.published, random.below(4), subject.to_owned()));
        }
        let delay_ms = if random.chance(10) { random.below(3_000) as u32 } else { 0 };
        self.world.publish(self.sessions[at].connection, &bodies, delay_ms);
    }

    fn consume(&mut self, at: usize) {
        let all: Vec<_> = self.world.directory.list().cloned().collect();
        let destination = self.world.random.pick(&all).clone();
        let groups: Vec<_> = destination.groups.keys().cloned().collect();
        let source = match groups.is_empty() {
            true => Source::Queue(destination.id),
            false => Source::Group(destination.id, self.world.random.pick(&groups).clone()),
        };
        let session = &mut self.sessions[at];
        let command = Command::Attach {
            connection: session.connection,
            subscription: next_number(&mut session.last_number),
            request: self.world.request(),
            source,
            credit: self.world.random.below(12) as u32,
            name: String::new(),
            labels: String::new(),
        };
        self.world.send(session.connection, destination.shard, command);
    }

    /// One consumer says something of what it holds.
    fn settle(&mut self) {
        let hands = self.world.hands.iter().filter(|(_, tags)| !tags.is_empty());
        let holders: Vec<_> = hands.map(|(&consumer, _)| consumer).collect();
        if holders.is_empty() {
            return;
        }
        let consumer = *self.world.random.pick(&holders);
        let tags = self.world.hands.get_mut(&consumer).unwrap();
        let first_at = self.world.random.below(tags.len() as u64) as usize;
        let mut last_at = first_at;
        while last_at + 1 < tags.len()
            && tags[last_at + 1] == tags[last_at] + 1
            && self.world.random.chance(60)
        {
            last_at += 1;
        }
        let (first, last) = (tags[first_at], tags[last_at]);
        let random = &mut self.world.random;
        let verb = match random.below(20) {
            0..=12 => Verb::Ack,
            13..=15 => {
                Verb::Nack { delay_ms: *random.pick(&[0, 0, 5, 300]), code: random.below(3) as u8 }
            }
            16..=17 => Verb::Extend { by_ms: *random.pick(&[0, 50, 1_000]) },
            18 => Verb::Reject { code: random.below(3) as u8 },
            // Forgets about it: the lease must end.
            _ => {
                tags.drain(first_at..=last_at);
                return;
            }
        };
        if !matches!(verb, Verb::Extend { .. }) {
            tags.drain(first_at..=last_at);
        }
        self.world.say(consumer, Settlement { first, last, verb });
    }

    fn subscribe(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        let text = *self.world.random.pick(&PATTERNS);
        let pattern = Pattern::parse(text).unwrap();
        let share = match self.world.random.below(4) {
            0 => Some(Name::parse("workers").unwrap()),
            1 => Some(Name::parse("others").unwrap()),
            _ => None,
        };
        let consumer = (session.connection, next_number(&mut session.last_number));
        let subscribed =
            self.world.directory.subscribe(consumer.0, consumer.1, &pattern, share.as_ref());
        assert_eq!(subscribed, Ok(()));
        self.world.listening.push(Listening { consumer, pattern, share });
    }

    fn unsubscribe(&mut self) {
        if !self.world.listening.is_empty() {
            let at = self.world.random.below(self.world.listening.len() as u64) as usize;
            let gone = self.world.listening.swap_remove(at);
            self.world.directory.unsubscribe(gone.consumer.0, gone.consumer.1).unwrap();
        }
    }

    fn detach(&mut self) {
        let there: Vec<_> = self.world.attached.iter().map(|(&id, it)| (id, it.shard)).collect();
        if there.is_empty() {
            return;
        }
        let ((connection, subscription), shard) = *self.world.random.pick(&there);
        let request = self.world.request();
        self.world.hands.remove(&(connection, subscription));
        let command = Command::Detach { connection, subscription, request };
        self.world.send(connection, shard, command);
    }

    fn disconnect(&mut self, at: usize) {
        let session = self.new_session();
        let gone = std::mem::replace(&mut self.sessions[at], session);
        self.end(gone.connection);
    }

    /// A connection is gone: the directory knows at once, each shard in its time.
    fn end(&mut self, connection: ConnectionId) {
        let listened = self.world.listening.iter().filter(|it| it.consumer.0 == connection);
        let listened = listened.count();
        assert_eq!(self.world.directory.disconnect(connection), listened);
        self.world.listening.retain(|it| it.consumer.0 != connection);
        self.world.hands.retain(|consumer, _| consumer.0 != connection);
        for shard in 0..SHARDS {
            self.world.send(connection, shard, Command::Disconnect { connection });
        }
    }

    /// Every client goes.
    pub(crate) fn end_all(&mut self) {
        for session in std::mem::take(&mut self.sessions) {
            self.end(session.connection);
        }
    }

    fn more_credit(&mut self) {
        let there: Vec<_> = self.world.attached.iter().map(|(&id, it)| (id, it.shard)).collect();
        if there.is_empty() {
            return;
        }
        let ((connection, subscription), shard) = *self.world.random.pick(&there);
        let amount = self.world.random.below(8) as u32 + 1;
        let command = match self.world.random.below(3) {
            0 => {
                let request = self.world.request();
                let wait_ms = self.world.random.below(2_000) as u32;
                Command::Pull { connection, subscription, request, max: amount, wait_ms }
            }
            _ => Command::Credit { connection, subscription, amount },
        };
        self.world.send(connection, shard, command);
    }

    fn seek(&mut self, at: usize) {
        let stream = self.world.directory.find("events").unwrap();
        let (stream, shard) = (stream.id, stream.shard);
        let (connection, request) = (self.sessions[at].connection, self.world.request());
        let random = &mut self.world.random;
        let (group, to) = match random.below(5) {
            0 => ("audit", Start::Earliest),
            1 => ("replay", Start::Earliest),
            2 => ("replay", Start::Latest),
            3 => ("replay", Start::Offset(random.below(10))),
            _ => ("replay", Start::Time(1_700_000_000_000 + random.below(50_000))),
        };
        let (group, partition) = (group.to_owned(), None);
        let command = Command::Seek { connection, request, stream, group, partition, to };
        self.world.send(connection, shard, command);
    }

    fn read(&mut self, at: usize) {
        let name = *self.world.random.pick(&["events", "short"]);
        let stream = self.world.directory.find(name).unwrap();
        let (stream, shard) = (stream.id, stream.shard);
        let (connection, request) = (self.sessions[at].connection, self.world.request());
        let random = &mut self.world.random;
        let command = Command::Read {
            connection,
            request,
            stream,
            partition: random.below(4) as u16,
            from: *random.pick(&[Start::Earliest, Start::Latest, Start::Offset(3)]),
            messages_max: random.below(10) as u32 + 1,
            bytes_max: random.below(400) as u32,
        };
        self.world.send(connection, shard, command);
    }
}
