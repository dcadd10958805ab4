//! What is done to the two brokers, chosen by the seed: ordinary traffic, most of it.

use weir_core::command::{
    Command, ConnectionId, DestinationId, RequestId, Settlement, Source, Start, SubscriptionId,
    Verb,
};
use weir_core::effect::{Effect, Reply, Stats};
use weir_core::rejection::Rejection;
use weir_journal::sim::Seeded;

use super::places::{EVEN, KEYED, ONE, PARTITIONS, STREAM, Settings, TWO};
use super::{Pair, one_of};
use crate::shard::{Got, flush, publish, settle};

/// Longer than from one pass of compaction to the next.
const LONG_MS: u64 = 11_000;
/// The one consumer of each connection.
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
/// Who only looks.
const ONLOOKER: ConnectionId = ConnectionId(9);

/// Who asks for something, in which request.
#[derive(Clone, Copy)]
pub(super) struct Who {
    connection: ConnectionId,
    request: RequestId,
}

impl Who {
    pub(super) fn info(self, id: DestinationId) -> Command {
        Command::Info { connection: self.connection, request: self.request, id }
    }
}

impl Pair {
    pub(super) fn step(&mut self, random: &mut Seeded, what: &str) {
        self.requests += 1;
        let connection = ConnectionId(2 + random.below(4));
        let who = Who { connection, request: RequestId(self.requests) };
        if random.one_in(8) {
            self.make_missing(random, what);
        }
        match random.below(36) {
            0..10 => self.publish(random, what),
            10..13 => self.attach(who, random, what),
            13..20 => self.settle(who, random, what),
            20..22 => {
                let (subscription, amount) = (SUBSCRIPTION, 1 + random.below(9) as u32);
                let credit = || Command::Credit { connection, subscription, amount };
                self.both(what, &|| vec![credit()]);
            }
            22 => {
                self.open.remove(&connection.0);
                self.both(what, &|| vec![Command::Disconnect { connection }]);
            }
            23 => {
                let (subscription, request) = (SUBSCRIPTION, who.request);
                let detach = || Command::Detach { connection, subscription, request };
                self.both(what, &|| vec![detach()]);
            }
            24 => self.seek(who, random, what),
            25 | 26 => self.read(who, random, what),
            27 => {
                let id = self.any(random);
                self.both(what, &|| vec![who.info(id)]);
            }
            28 => {
                if random.one_in(4) {
                    self.purge(who, random, what);
                }
            }
            29 | 30 => self.wait(what, 1 + random.below(400)),
            31 => {
                if random.one_in(6) {
                    self.restart(random, what);
                }
            }
            32 => {
                if random.one_in(2) {
                    self.alter(who, random, what);
                }
            }
            33 => {
                if random.one_in(4) {
                    self.delete(who, random, what);
                }
            }
            34 => self.extend(who, random, what),
            _ => {
                if random.one_in(6) {
                    self.wait(what, LONG_MS + random.below(1_000));
                    self.look(what);
                }
            }
        }
    }

    fn publish(&mut self, random: &mut Seeded, what: &str) {
        let places = [ONE, ONE, TWO, TWO, EVEN, EVEN, STREAM, STREAM, STREAM, KEYED, KEYED, KEYED];
        let place = &self.places[*one_of(random, &places)];
        let (to, receipt) = (place.id.0, self.requests);
        let delay_ms = if place.is_queue() && random.one_in(5) { 200 } else { 0 };
        let some: Vec<Vec<u8>> =
            (0..1 + random.below(6)).map(|row| place.message(receipt, row, random)).collect();
        let is_unbounded =
            matches!(&place.settings, Settings::Queue(config) if config.messages_max == 0);
        let is_delayed = delay_ms > 0 && place.is_there;
        let effects = self.both(what, &|| vec![publish(to, receipt, &some, delay_ms)]);
        if is_unbounded {
            let refused = effects.iter().map(|effect| match effect {
                Effect::Published { count, outcome: Err(Rejection::QueueFull), .. } => *count,
                _ => 0,
            });
            self.count("messages refused for their bytes", refused.map(u64::from).sum());
        }
        self.count("publishes delayed", u64::from(is_delayed));
    }

    fn attach(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let source = self.source(random);
        let credit = 1 + random.below(20) as u32;
        let attach = || Command::Attach {
            connection: who.connection,
            subscription: SUBSCRIPTION,
            request: who.request,
            source: source.clone(),
            credit,
            name: "c".to_owned(),
            labels: String::new(),
        };
        self.both(what, &|| vec![attach()]);
    }

    /// What a consumer attaches to; it may be deleted.
    fn source(&self, random: &mut Seeded) -> Source {
        if random.one_in(10)
            && let Some((_, id)) = self.some_dead(random)
        {
            return Source::Queue(id);
        }
        let place = one_of(random, &self.places);
        if place.is_queue() {
            return Source::Queue(place.id);
        }
        Source::Group(place.id, one_of(random, &place.groups).name.to_owned())
    }

    /// A dead-letter queue, if there is one.
    pub(super) fn some_dead(&self, random: &mut Seeded) -> Option<(String, DestinationId)> {
        let count = self.dead.len() as u64;
        let which = if count > 0 { random.below(count) as usize } else { return None };
        self.dead.iter().nth(which).map(|(name, id)| (name.clone(), *id))
    }

    /// A queue or a stream; it may be deleted.
    fn any(&self, random: &mut Seeded) -> DestinationId {
        let dead = if random.one_in(5) { self.some_dead(random) } else { None };
        dead.map_or_else(|| one_of(random, &self.places).id, |(_, id)| id)
    }

    fn settle(&mut self, who: Who, random: &mut Seeded, what: &str) {
        if random.one_in(12) {
            self.both(what, &|| vec![flush(who.connection.0, who.request.0)]);
            return;
        }
        let open = self.open.get_mut(&who.connection.0).filter(|open| !open.is_empty());
        let Some(open) = open else { return };
        let count = 1 + random.below(open.len() as u64) as usize;
        let some: Vec<Got> = open.drain(..count).collect();
        let verb = match random.below(9) {
            0 => Verb::Nack { delay_ms: *one_of(random, &[0, 50, 50, 3_000]), code: 1 },
            1 => Verb::Reject { code: 2 },
            _ => Verb::Ack,
        };
        if random.one_in(4) {
            self.settle_and_ask(who, &some, verb, what);
        } else {
            let each = || {
                let one = |got: &Got| settle(who.connection.0, got.tag, got.tag, verb);
                some.iter().map(one).collect()
            };
            self.both(what, &each);
        }
    }

    /// Keeps some deliveries for longer, or not for as long.
    fn extend(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let open = self.open.get(&who.connection.0).filter(|open| !open.is_empty());
        let Some(open) = open else { return };
        let count = 1 + random.below(open.len() as u64) as usize;
        let some = open[..count].to_vec();
        let verb = Verb::Extend { by_ms: *one_of(random, &[0, 100, 60_000]) };
        let extended = self.settle_and_ask(who, &some, verb, what);
        self.count("leases extended", extended);
    }

    /// Settles deliveries together. Of how many that was known.
    fn settle_and_ask(&mut self, who: Who, some: &[Got], verb: Verb, what: &str) -> u64 {
        let one = |got: &Got| Settlement { first: got.tag, last: got.tag, verb };
        let settle = || Command::Settle {
            connection: who.connection,
            subscription: SUBSCRIPTION,
            request: Some(who.request),
            settlements: some.iter().map(one).collect(),
        };
        done(&self.both(what, &|| vec![settle()]))
    }

    fn seek(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let place = &self.places[*one_of(random, &[STREAM, STREAM, KEYED])];
        let (stream, group) = (place.id, one_of(random, &place.groups).name);
        let to = place.somewhere(self.memory.now.wall_ms, random);
        let partition = *one_of(random, &[None, None, Some(0), Some(1), Some(PARTITIONS)]);
        let seek = || Command::Seek {
            connection: who.connection,
            request: who.request,
            stream,
            group: group.to_owned(),
            partition,
            to,
        };
        let effects = self.both(what, &|| vec![seek()]);
        let is_done = |effect: &Effect| matches!(effect, Effect::Reply { reply: Reply::Done, .. });
        self.count("groups moved", u64::from(effects.iter().any(is_done)));
    }

    fn read(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let place = &self.places[*one_of(random, &[STREAM, STREAM, KEYED])];
        let (stream, from) = (place.id, place.somewhere(self.memory.now.wall_ms, random));
        let partition = random.below(u64::from(PARTITIONS)) as u16;
        let read = || Command::Read {
            connection: who.connection,
            request: who.request,
            stream,
            partition,
            from,
            messages_max: 50,
            bytes_max: 20_000,
        };
        self.both(what, &|| vec![read()]);
    }

    fn purge(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let Who { connection, request } = who;
        let id = self.any(random);
        let effects = self.both(what, &|| vec![Command::Purge { connection, request, id }]);
        self.count("messages purged", done(&effects));
    }

    /// Looks at the figures of all there is, and at the first messages of each partition. No
    /// bound of bytes ends a read: where such a one does is the store's affair.
    pub(super) fn look(&mut self, what: &str) {
        self.requests += 1;
        let who = Who { connection: ONLOOKER, request: RequestId(self.requests) };
        let places = self.places.iter().map(|place| place.id);
        let all: Vec<DestinationId> = places.chain(self.dead.values().copied()).collect();
        let streams = [STREAM, KEYED].map(|at| self.places[at].id);
        let read = |stream, partition| Command::Read {
            connection: who.connection,
            request: who.request,
            stream,
            partition,
            from: Start::Earliest,
            messages_max: 400,
            bytes_max: 1 << 20,
        };
        let commands = || {
            let mut commands: Vec<Command> = all.iter().map(|&id| who.info(id)).collect();
            for stream in streams {
                commands.extend((0..PARTITIONS).map(|partition| read(stream, partition)));
            }
            commands
        };
        self.both(&format!("{what}, looked at"), &commands);
    }
}

/// How many an operation has affected, by its answer.
fn done(effects: &[Effect]) -> u64 {
    let done = effects.iter().map(|effect| match effect {
        Effect::Reply { reply: Reply::Count { done, .. }, .. } => *done,
        _ => 0,
    });
    done.sum()
}

/// The figures among the answers.
pub(super) fn stats_of(effects: &[Effect]) -> Vec<&Stats> {
    let stats = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { reply: Reply::Stats(stats), .. } => Some(&**stats),
        _ => None,
    });
    stats.collect()
}
