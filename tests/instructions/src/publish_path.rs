//! The whole way of a publish at level disk but for sockets, tasks and policies:
//! bytes from the wire, a command, a turn, a synced block of the journal, the turn
//! after it, the answer's bytes. What a session does in between (routes, receipts)
//! is the server's, whose build would take minutes.

use weir_core::command::{Level, QueueConfig};
use weir_core::effect::Effect;
use weir_journal::Journal;
use weir_message::BatchBuilder;
use weir_protocol::answer::encode_published;

use crate::Scenario;
use crate::chunk::{MESSAGES, Reader, frames};
use crate::disk;
use crate::machine::{self, Machine, create_queue, publish};
use crate::turn::{QUEUES, Spread};

pub(crate) struct PublishPath {
    journal: Journal,
    machine: Machine,
    received: Vec<u8>,
    reader: Reader,
    /// The answers that were encoded last.
    answers: Vec<u8>,
}

impl PublishPath {
    pub(crate) fn new() -> Self {
        let journal = disk::journal(|_| {});
        let mut machine = Machine::over(journal.store(Box::new(|| {})));
        let config = QueueConfig { level: Level::Disk, ..QueueConfig::default() };
        machine.turn([create_queue(1, config)]);
        let (reader, answers) = (Reader::default(), Vec::new());
        Self { journal, machine, received: frames(1), reader, answers }
    }
}

impl Scenario for PublishPath {
    fn messages(&self) -> u64 {
        MESSAGES as u64
    }

    fn turn(&mut self) -> u64 {
        let chunk = self.reader.read(&self.received);
        let parts = &self.reader.parts;
        let (first, last) = (parts[0].start, parts[parts.len() - 1].end);
        let mut builder = BatchBuilder::default();
        let ends = parts.iter().map(|part| part.end - first);
        builder.push_run(&chunk[first as usize..last as usize], ends);
        let publish = publish(1, builder.take(), 0..parts.len() as u32);
        assert_eq!(machine::kept(self.machine.turn([publish]).as_slice()), 0, "not synced yet");
        assert!(self.journal.step_writer());
        self.answers.clear();
        let mut kept = 0;
        for effect in self.machine.turn([]) {
            let Effect::Published { count, outcome: Ok(Level::Disk), .. } = effect else {
                continue;
            };
            kept += u64::from(count);
            let (level, id) = (weir_protocol::Level::Disk, self.reader.requests[0]);
            encode_published(&mut self.answers, id, level, u64::from(count), 0, 0, &[]);
        }
        std::hint::black_box(&self.answers);
        kept
    }
}

/// As [`PublishPath`], from the commands to the turn that tells what is synced, for
/// messages that are each for another queue.
pub(crate) struct ScatterPath {
    journal: Journal,
    machine: Machine,
    spread: Spread,
}

impl ScatterPath {
    pub(crate) fn new() -> Self {
        let journal = disk::journal(|_| {});
        let mut machine = Machine::over(journal.store(Box::new(|| {})));
        let config = QueueConfig { level: Level::Disk, ..QueueConfig::default() };
        machine.turn((1..=QUEUES).map(|id| create_queue(id, config.clone())));
        assert!(journal.step_writer());
        Self { journal, machine, spread: Spread::new() }
    }
}

impl Scenario for ScatterPath {
    fn messages(&self) -> u64 {
        MESSAGES as u64
    }

    fn turn(&mut self) -> u64 {
        let now = machine::kept(self.machine.turn(self.spread.publishes()).as_slice());
        assert_eq!(now, 0, "not synced yet");
        assert!(self.journal.step_writer());
        machine::kept(self.machine.turn([]).as_slice())
    }
}
