//! Turns of the core for queues, over a store in memory: all messages to one queue
//! that is consumed, and each to another of a thousand.

use bytes::Bytes;
use weir_core::command::{Command, DestinationId, Lone, QueueConfig, Source};
use weir_core::memory_store::MemoryStore;
use weir_message::Batch;

use crate::Scenario;
use crate::chunk::{MESSAGES, batch};
use crate::machine::{self, Machine, ack, attach, count, create_queue, delivered, publish};

/// Published, handed over, acknowledged.
pub(crate) struct OneQueue {
    machine: Machine,
    batch: Batch,
}

impl OneQueue {
    pub(crate) fn new() -> Self {
        let mut machine = Machine::over(MemoryStore::new(0));
        let consumer = attach(Source::Queue(DestinationId(1)), 2 * MESSAGES as u32);
        machine.turn([create_queue(1, QueueConfig::default()), consumer]);
        Self { machine, batch: batch(MESSAGES) }
    }
}

impl Scenario for OneQueue {
    fn messages(&self) -> u64 {
        MESSAGES as u64
    }

    fn turn(&mut self) -> u64 {
        let publish = publish(1, self.batch.clone(), 0..MESSAGES as u32);
        let effects = self.machine.turn([publish]);
        let (kept, tags) = (machine::kept(effects.as_slice()), delivered(effects.as_slice()));
        drop(effects);
        self.machine.turn(tags.map(ack));
        kept.min(count(tags))
    }
}

/// Queues that messages are spread over.
pub(crate) const QUEUES: u32 = 1_000;

/// Publishes of one message each, to queues picked at random.
pub(crate) struct Spread {
    messages: Vec<Bytes>,
    /// State of the numbers that choose the queues.
    random: u64,
}

impl Spread {
    pub(crate) fn new() -> Self {
        // As a session hands over what a read spreads: neighbours in memory.
        let all = batch(MESSAGES);
        let one = |row: usize| all.bytes.slice(all.start(row)..all.start(row + 1));
        Self { messages: (0..MESSAGES).map(one).collect(), random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Those of one read.
    pub(crate) fn publishes(&mut self) -> [Command; 1] {
        let random = &mut self.random;
        let messages = (0..).zip(&self.messages).map(|(row, message)| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let destination = DestinationId(1 + (*random % u64::from(QUEUES)) as u32);
            Lone { destination, row, message: message.clone() }
        });
        [machine::spread(messages.collect())]
    }
}

/// Nobody consumes: what many queues cost a publisher.
pub(crate) struct Scatter {
    machine: Machine,
    spread: Spread,
}

impl Scatter {
    pub(crate) fn new() -> Self {
        let mut machine = Machine::over(MemoryStore::new(0));
        machine.turn((1..=QUEUES).map(|id| create_queue(id, QueueConfig::default())));
        Self { machine, spread: Spread::new() }
    }
}

impl Scenario for Scatter {
    fn messages(&self) -> u64 {
        MESSAGES as u64
    }

    fn turn(&mut self) -> u64 {
        machine::kept(self.machine.turn(self.spread.publishes()).as_slice())
    }
}
