//! Turns of the core for a stream, over a store in memory: appended, read by a
//! group, acknowledged, and removed when newer ones are enough.

use weir_core::command::{Command, DestinationId, GroupConfig, Source, StreamConfig};
use weir_core::memory_store::MemoryStore;
use weir_message::Batch;

use crate::Scenario;
use crate::chunk::{MESSAGES, batch};
use crate::machine::{self, Machine, ack, attach, count, create_stream, delivered, publish};

const GROUP: &str = "readers";

pub(crate) struct Stream {
    machine: Machine,
    batch: Batch,
}

impl Stream {
    pub(crate) fn new() -> Self {
        let mut machine = Machine::over(MemoryStore::new(0));
        let config = StreamConfig { messages_max: 4_096, ..StreamConfig::default() };
        let id = DestinationId(1);
        let group = Command::PutGroup {
            stream: id,
            group: GROUP.to_owned(),
            config: GroupConfig::default(),
        };
        let consumer = attach(Source::Group(id, GROUP.to_owned()), 2 * MESSAGES as u32);
        machine.turn([create_stream(1, config), group, consumer]);
        Self { machine, batch: batch(MESSAGES) }
    }
}

impl Scenario for Stream {
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
