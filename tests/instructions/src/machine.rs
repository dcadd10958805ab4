//! A shard, driven turn by turn as its task does it.

use weir_core::command::{
    Command, ConnectionId, DestinationId, Lone, Publish, QueueConfig, ReceiptId, RequestId, Rows,
    Settlement, Source, Spread, StreamConfig, SubscriptionId, Verb,
};
use weir_core::effect::Effect;
use weir_core::env::Now;
use weir_core::shard::Shard;
use weir_core::store::Store;
use weir_message::Batch;

const CONNECTION: ConnectionId = ConnectionId(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
/// Numbers for dead-letter queues, which nothing here needs.
const SPARE_IDS: std::ops::Range<u32> = 1_000_000..1_000_100;

pub(crate) struct Machine {
    shard: Shard,
    now: Now,
    effects: Vec<Effect>,
}

impl Machine {
    pub(crate) fn over(store: impl Store + 'static) -> Self {
        let now = Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 };
        Self { shard: Shard::new(Box::new(store), SPARE_IDS), now, effects: Vec::new() }
    }

    /// A millisecond later: does what is asked and ends the turn.
    pub(crate) fn turn(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
    ) -> std::vec::Drain<'_, Effect> {
        self.now.steady_ms += 1;
        self.now.wall_ms += 1;
        for command in commands {
            self.shard.apply(self.now, command, &mut self.effects);
        }
        self.shard.tick(self.now, &mut self.effects);
        self.shard.commit(self.now, &mut self.effects).expect("the store does not fail");
        self.effects.drain(..)
    }
}

pub(crate) fn create_queue(id: u32, config: QueueConfig) -> Command {
    Command::CreateQueue { id: DestinationId(id), name: format!("queue-{id}"), config }
}

pub(crate) fn create_stream(id: u32, config: StreamConfig) -> Command {
    Command::CreateStream { id: DestinationId(id), name: format!("stream-{id}"), config }
}

pub(crate) fn attach(source: Source, credit: u32) -> Command {
    Command::Attach {
        connection: CONNECTION,
        subscription: SUBSCRIPTION,
        request: RequestId(1),
        source,
        credit,
        name: String::new(),
        labels: String::new(),
    }
}

/// `rows` are the messages' in the publisher's read.
pub(crate) fn publish(id: u32, batch: Batch, rows: std::ops::Range<u32>) -> Command {
    Command::Publish(Publish {
        destination: DestinationId(id),
        connection: CONNECTION,
        receipt: Some(ReceiptId(1)),
        batch,
        rows: Rows::from_iter(rows),
        delay_ms: 0,
    })
}

/// Each to a queue of its own.
pub(crate) fn spread(messages: Vec<Lone>) -> Command {
    Command::Spread(Spread { connection: CONNECTION, receipt: Some(ReceiptId(1)), messages })
}

pub(crate) fn ack((first, last): (u64, u64)) -> Command {
    Command::Settle {
        connection: CONNECTION,
        subscription: SUBSCRIPTION,
        request: None,
        settlements: vec![Settlement { first, last, verb: Verb::Ack }],
    }
}

/// Messages that were kept.
pub(crate) fn kept<'a>(effects: impl IntoIterator<Item = &'a Effect>) -> u64 {
    let count = |effect: &Effect| match effect {
        Effect::Published { count, outcome: Ok(_), .. } => u64::from(*count),
        _ => 0,
    };
    effects.into_iter().map(count).sum()
}

/// First and last delivery tag of what was handed over.
pub(crate) fn delivered<'a>(effects: impl IntoIterator<Item = &'a Effect>) -> Option<(u64, u64)> {
    let mut tags = None;
    for effect in effects {
        let Effect::Deliver { runs, .. } = effect else { continue };
        for run in runs {
            let last = run.tag + u64::from(run.count) - 1;
            tags = Some((tags.map_or(run.tag, |(first, _)| first), last));
        }
    }
    tags
}

/// Number of messages with these tags.
pub(crate) fn count(tags: Option<(u64, u64)>) -> u64 {
    tags.map_or(0, |(first, last)| last + 1 - first)
}
