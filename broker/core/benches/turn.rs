//! What a turn of the core costs over a store in memory, by what 256 messages of 128
//! bytes are published to. `cargo bench -p weir-core --bench turn`.

#![allow(missing_docs)]

use std::cell::RefCell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weir_core::command::{
    Command, ConnectionId, DestinationId, GroupConfig, Publish, QueueConfig, ReceiptId, RequestId,
    Rows, Settlement, Source, StreamConfig, SubscriptionId, Verb,
};
use weir_core::effect::Effect;
use weir_core::env::Now;
use weir_core::memory_store::MemoryStore;
use weir_core::shard::Shard;
use weir_message::{Batch, BatchBuilder};

const MESSAGES: u32 = 256;
const QUEUES: u32 = 1_000;
const CONNECTION: ConnectionId = ConnectionId(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
const NOW: Now = Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 };

/// A shard over an empty store, with what these commands make.
struct Turns {
    shard: Shard,
    effects: Vec<Effect>,
}

impl Turns {
    fn after(commands: impl IntoIterator<Item = Command>) -> Self {
        let shard = Shard::new(Box::new(MemoryStore::new(0)), 1_000_000..1_000_100);
        let mut turns = Self { shard, effects: Vec::new() };
        turns.turn(commands);
        turns
    }

    fn turn(&mut self, commands: impl IntoIterator<Item = Command>) -> &[Effect] {
        self.effects.clear();
        for command in commands {
            self.shard.apply(NOW, command, &mut self.effects);
        }
        self.shard.commit(NOW, &mut self.effects).expect("memory does not fail");
        &self.effects
    }

    /// Publishes, and acknowledges all that was handed over.
    fn publish_and_ack(&mut self, batch: &Batch) {
        let effects = self.turn([publish(1, batch, 0..MESSAGES)]);
        let runs = effects.iter().filter_map(|effect| match effect {
            Effect::Deliver { runs, .. } => Some(runs),
            _ => None,
        });
        let verb = Verb::Ack;
        let settlements: Vec<Settlement> = runs
            .flatten()
            .map(|run| Settlement {
                first: run.tag,
                last: run.tag + u64::from(run.count) - 1,
                verb,
            })
            .collect();
        assert!(!settlements.is_empty(), "nothing was handed over");
        let (connection, subscription) = (CONNECTION, SUBSCRIPTION);
        let settle = Command::Settle { connection, subscription, request: None, settlements };
        black_box(self.turn([settle]));
    }
}

fn batch(messages: u32) -> Batch {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "flights.short.late", b"LAX", &[], &[b'x'; 128]);
    let mut builder = BatchBuilder::default();
    (0..messages).for_each(|_| builder.push(&message));
    builder.take()
}

fn publish(id: u32, batch: &Batch, rows: std::ops::Range<u32>) -> Command {
    Command::Publish(Publish {
        destination: DestinationId(id),
        connection: CONNECTION,
        receipt: Some(ReceiptId(1)),
        batch: batch.clone(),
        rows: Rows::from_iter(rows),
        delay_ms: 0,
    })
}

fn create_queue(id: u32) -> Command {
    let config = QueueConfig::default();
    Command::CreateQueue { id: DestinationId(id), name: format!("queue-{id}"), config }
}

fn attach(source: Source) -> Command {
    Command::Attach {
        connection: CONNECTION,
        subscription: SUBSCRIPTION,
        request: RequestId(1),
        source,
        credit: 2 * MESSAGES,
        name: String::new(),
        labels: String::new(),
    }
}

fn purge(id: u32) -> Command {
    Command::Purge { connection: CONNECTION, request: RequestId(1), id: DestinationId(id) }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn, 256 messages of 128 B");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    let all = batch(MESSAGES);
    group.bench_function("a queue: publish, deliver, ack", |bencher| {
        let mut turns = Turns::after([create_queue(1), attach(Source::Queue(DestinationId(1)))]);
        bencher.iter(|| turns.publish_and_ack(&all));
    });
    group.bench_function("1000 queues: publish", |bencher| {
        let turns = RefCell::new(Turns::after((1..=QUEUES).map(create_queue)));
        let (one, mut at) = (batch(1), 0);
        // 389 and 1,000 have no factor in common: every queue has its turn.
        let queues = |turn: u32| (0..MESSAGES).map(move |row| 1 + (turn + row) * 389 % QUEUES);
        bencher.iter_batched(
            || {
                // Nobody consumes: without this memory would grow as long as it runs.
                turns.borrow_mut().turn(queues(at).map(purge));
                at = (at + MESSAGES) % QUEUES;
                (0..).zip(queues(at)).map(|(row, id)| publish(id, &one, row..row + 1))
            },
            |commands| black_box(turns.borrow_mut().turn(commands).len()),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a stream: publish, deliver to a group, ack", |bencher| {
        let config = StreamConfig { messages_max: 4_096, ..StreamConfig::default() };
        let (id, group) = (DestinationId(1), "readers".to_owned());
        let mut turns = Turns::after([
            Command::CreateStream { id, name: "stream-1".into(), config },
            Command::PutGroup { stream: id, group: group.clone(), config: GroupConfig::default() },
            attach(Source::Group(id, group)),
        ]);
        bencher.iter(|| turns.publish_and_ack(&all));
    });
    group.finish();
}

criterion_group!(turn, benches);
criterion_main!(turn);
