//! Anything at any time, in any order, the senseless included: the shard does
//! not panic, its books agree after every turn, and time that stands still
//! changes nothing.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use weir_message::{BatchBuilder, View, encode};

use super::super::Shard;
use crate::command::*;
use crate::effect::Effect;
use crate::env::Now;
use crate::memory_store::{Faults, MemoryStore};
use crate::policy::*;
use crate::stream::compaction::Budget;

/// A policy that wishes at random and fails at times.
struct Whim {
    seed: u64,
    plan: Plan,
    number: u64,
}

impl Whim {
    fn roll(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.seed >> 33) % below
    }

    fn fails(&mut self) -> Result<(), Failure> {
        match self.roll(40) {
            0 => Err(Failure::Refused("no".to_owned())),
            1 => Err(Failure::Restarted("trap".to_owned())),
            2 if self.roll(5) == 0 => Err(Failure::Broken("trap".to_owned())),
            _ => Ok(()),
        }
    }
}

impl DeliveryPolicy for Whim {
    fn generation(&self) -> Generation {
        Generation { number: self.number, digest: "w".into() }
    }
    fn powers(&self) -> Powers {
        let (drop, dead_letter) = (self.number % 3 == 0, self.number % 2 == 0);
        Powers { drop, dead_letter, ..Powers::default() }
    }
    fn reads_messages(&self) -> bool {
        self.number % 2 == 0
    }
    fn classify(&mut self, _: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        Ok(vec![0; subjects.len()])
    }
    fn open(&mut self, _: u64, _: &GroupInfo<'_>) -> Result<Plan, Failure> {
        self.fails()?;
        Ok(self.plan.clone())
    }
    fn join(&mut self, _: u64, _: &Joining<'_>) -> Result<(), Failure> {
        self.fails()
    }
    fn close(&mut self, _: u64, _: u32) {}
    fn step(
        &mut self,
        _: u64,
        events: &[Event],
        ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let shown = events.iter().filter(|event| event.kind == event::READY).count();
        let bodies = if self.reads_messages() { shown } else { 0 };
        assert_eq!(bodies, ready.len(), "a body for every ready message it looks at");
        self.fails()?;
        for event in events {
            let kind = [1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8][self.roll(12) as usize];
            let consumer = match event.consumer {
                0 => 1 + self.roll(6) as u32,
                consumer => consumer,
            };
            let value = self.roll(80) as u32;
            let (group, message) = (event.group, event.message ^ u64::from(self.roll(9) == 0));
            actions.push(Action { kind, code: 0, group, consumer, value, message });
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

/// Judges by payload.
struct Picky;

impl DeliveryFilter for Picky {
    fn generation(&self) -> Generation {
        Generation::default()
    }
    fn filter(&mut self, now_ms: u64, messages: &[ReadyMessage<'_>], verdicts: &mut Vec<Verdict>) {
        for message in messages {
            let payload = View::of(message.bytes).unwrap().payload;
            verdicts.push(match payload.first().map_or(4, |first| first % 8) {
                0 => Verdict::Drop,
                1 => Verdict::Divert("picky".to_owned()),
                2 if now_ms % 3 == 0 => Verdict::Hold,
                3 => Verdict::Rewrite(message.bytes.to_vec()),
                _ => Verdict::Keep,
            });
        }
    }
}

struct Chaos {
    shard: Shard,
    faults: Arc<Faults>,
    now: Now,
    bindings: u64,
    effects: Vec<Effect>,
}

const QUEUE: DestinationId = DestinationId(1);
const STREAM: DestinationId = DestinationId(2);

impl Chaos {
    fn new() -> Self {
        let store = MemoryStore::new(20_000);
        let faults = store.faults();
        let mut shard = Shard::new(Box::new(store), 1000..1002);
        // Some turns of some connections are full.
        shard.bound_turns(50);
        shard.passes.budget = Budget { step_bytes: 30, keys_max: 2, gaps_max: 4, every_ms: 20 };
        let now = Now { steady_ms: 0, wall_ms: 77 };
        let mut chaos = Self { shard, faults, now, bindings: 0, effects: Vec::new() };
        for op in [0, 1, 2] {
            chaos.step((op, 0, 0));
        }
        chaos
    }

    fn command(&mut self, (op, a, b): (u8, u16, u16)) -> Option<Command> {
        let (id, stream) = (if a % 2 == 0 { QUEUE } else { STREAM }, STREAM);
        let group = format!("g{}", b % 2);
        let connection = ConnectionId(u64::from(a % 4));
        let subscription = SubscriptionId(u32::from(a / 4 % 2));
        let request = RequestId(u32::from(b));
        let order = (b % 3) as u8;
        let to = [
            Start::Earliest,
            Start::Latest,
            Start::Offset(u64::from(b % 30)),
            Start::Time(77 + u64::from(b)),
        ];
        let to = to[usize::from(a / 8 % 4)];
        Some(match op {
            0 => {
                let messages_max = u64::from(a % 5) * 20;
                let config =
                    QueueConfig { messages_max, bytes_max: 0, level: Level::Memory, order };
                match b % 2 {
                    0 => Command::CreateQueue { id: QUEUE, name: "orders".into(), config },
                    _ => Command::AlterQueue { id, config },
                }
            }
            1 => {
                let config = StreamConfig {
                    partitions: 1 + a % 3,
                    messages_max: u64::from(b % 4) * 8,
                    bytes_max: u64::from(b / 4 % 4) * 200,
                    age_ms_max: u64::from(b / 16 % 4) * 40,
                    level: Level::Memory,
                    compact: a / 3 % 2 == 0,
                    tombstone_ms: u64::from(a % 60),
                };
                match b % 2 {
                    0 => Command::CreateStream { id: STREAM, name: "flights".into(), config },
                    _ => Command::AlterStream { id, config },
                }
            }
            2 => {
                let config = GroupConfig { start: to, order, options: format!("{}", b % 5) };
                Command::PutGroup { stream, group, config }
            }
            3 if b % 5 == 0 => Command::DeleteGroup { stream, group },
            4 if b % 7 == 0 => Command::Delete { id },
            3..=7 => self.publish(id, connection, a, b),
            8 | 9 => {
                let source = match a % 3 {
                    0 => Source::Group(STREAM, group),
                    1 => Source::Queue(QUEUE),
                    _ => Source::Queue(DestinationId(1000 + u32::from(b % 2))),
                };
                let credit = u32::from(b % 7);
                let (name, labels) = (String::new(), String::new());
                Command::Attach { connection, subscription, request, source, credit, name, labels }
            }
            10 => Command::Detach { connection, subscription, request },
            11 => Command::Credit { connection, subscription, amount: u32::from(b % 5) },
            12 => {
                let (max, wait_ms) = (u32::from(b % 6), u32::from(b / 6 % 50));
                Command::Pull { connection, subscription, request, max, wait_ms }
            }
            13..=17 => {
                let first = u64::from(b % 40);
                let verb = match a / 16 % 8 {
                    0..=3 => Verb::Ack,
                    4 | 5 => Verb::Nack { delay_ms: u32::from(b % 3) * 9, code: 0 },
                    6 => Verb::Extend { by_ms: u32::from(b % 200) },
                    _ => Verb::Reject { code: 2 },
                };
                let settlements = vec![Settlement { first, last: first + u64::from(b % 9), verb }];
                Command::Settle { connection, subscription, request: Some(request), settlements }
            }
            18 => Command::Seek { connection, request, stream, group, partition: None, to },
            19 => {
                let (partition, messages_max, bytes_max) = (b % 3, u32::from(a % 9), 300);
                let from = to;
                Command::Read {
                    connection,
                    request,
                    stream,
                    partition,
                    from,
                    messages_max,
                    bytes_max,
                }
            }
            20 => Command::Info { connection, request, id },
            21 if b % 3 == 0 => Command::Purge { connection, request, id },
            22 => Command::Disconnect { connection },
            29 => Command::Pause { connection },
            30 => Command::Resume { connection },
            23 | 24 => self.bind(a, b),
            25 => {
                let filter = (b % 2 == 0).then(|| Box::new(Picky) as Box<dyn DeliveryFilter>);
                Command::BindFilter { binding: "picky".into(), scope: everything(a), filter }
            }
            _ => return None,
        })
    }

    fn publish(&self, to: DestinationId, connection: ConnectionId, a: u16, b: u16) -> Command {
        let mut batch = BatchBuilder::default();
        for row in 0..b % 12 {
            let key = [(a % 100 + row * 5) as u8 % 4];
            let mut bytes = Vec::new();
            let key = if key[0] == 0 { &[][..] } else { &key[..] };
            let payload = [(b % 1000 + row) as u8, 1, 2];
            let payload = if a % 16 == 1 { &[][..] } else { &payload[..] };
            encode(&mut bytes, "s", key, &[], payload);
            batch.push(&bytes);
        }
        Command::Publish(Publish {
            destination: to,
            connection,
            receipt: Some(ReceiptId(0)),
            batch: batch.take(),
            rows: Rows::new(),
            delay_ms: if b % 6 == 0 { u32::from(a % 90) } else { 0 },
        })
    }

    fn bind(&mut self, a: u16, b: u16) -> Command {
        self.bindings += 1;
        let plan = Plan {
            interest: if a % 3 == 0 { 0 } else { u32::from(a) | 0x802 },
            chooser: (b % 4) as u8,
            spread: (b / 4 % 2) as u8,
            ack: u8::from(b / 8 % 4 > 0),
            order: (b / 32 % 3) as u8,
            exhausted: (b / 96 % 3) as u8,
            lease_ms: u32::from(a % 100),
            attempts: u32::from(b % 4),
            retry_first_ms: u32::from(a % 20),
            retry_max_ms: 50,
            retry_growth: u32::from(a),
            window: u32::from(a % 9),
            per_consumer: u32::from(b % 5),
            tick_ms: u32::from(a % 2) * 30,
            undecided_ms_max: 60,
            bytes_per_consumer: u32::from(a / 7 % 3) * 40,
        };
        let number = self.bindings;
        let whim = Whim { seed: u64::from(a) << 16 | u64::from(b), plan, number };
        let policy = (b % 6 > 0).then(|| Box::new(whim) as Box<dyn DeliveryPolicy>);
        let binding = format!("whim{}", a % 2);
        Command::BindDelivery { binding, scope: everything(a), policy }
    }

    fn step(&mut self, step: (u8, u16, u16)) {
        let (op, a, b) = step;
        match op {
            26 => self.now.steady_ms += u64::from(b % 60),
            27 => self.faults.hold_stable(a % 2 == 0),
            28 => self.faults.no_space(a % 4 == 0),
            _ => {}
        }
        self.now.wall_ms = 77 + self.now.steady_ms;
        let command = self.command(step);
        let before = self.effects.len();
        if let Some(command) = command {
            self.shard.apply(self.now, command, &mut self.effects);
        }
        self.turn();
        // The same moment again: nothing more comes of it, but for a policy
        // that goes on and on.
        if self.shard.unfinished_ms.is_none() && before < self.effects.len() {
            let settled = self.effects.len();
            self.turn();
            if self.bindings == 0 {
                assert_eq!(self.effects.len(), settled, "{:?}", &self.effects[settled..]);
            }
        }
    }

    fn turn(&mut self) {
        self.shard.tick(self.now, &mut self.effects);
        self.shard.commit(self.now, &mut self.effects).unwrap();
        let shard = &self.shard;
        for group in shard.groups.values().filter(|group| !group.dirty) {
            group.check_books();
        }
        for (key, (group, consumer)) in &shard.consumers {
            let consumer = &shard.groups[group].consumers[consumer];
            assert_eq!(*key, (consumer.connection, consumer.subscription));
        }
        let attached: usize = shard.groups.values().map(|group| group.consumers.len()).sum();
        assert_eq!(attached, shard.consumers.len());
    }
}

fn everything(rank: u16) -> Scope {
    let all = vec!["*".to_owned(), "*/*".to_owned()];
    Scope { queues: all.clone(), groups: all, order: i32::from(rank % 3) }
}

fn play(steps: &[(u8, u16, u16)]) -> Vec<String> {
    let mut chaos = Chaos::new();
    steps.iter().for_each(|&step| chaos.step(step));
    chaos.effects.iter().map(|effect| format!("{effect:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("WEIR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(192),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7_2026),
        ..ProptestConfig::default()
    })]

    #[test]
    fn books_agree_whatever_happens(
        steps in proptest::collection::vec((0_u8..31, any::<u16>(), any::<u16>()), 1..250),
    ) {
        let first = play(&steps);
        prop_assert_eq!(first, play(&steps));
    }
}
