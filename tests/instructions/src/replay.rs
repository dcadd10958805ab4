//! A stream is read back from the journal's blocks, which have left memory, and the
//! answers are encoded.

use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, RequestId, Start, StreamConfig,
};
use weir_core::effect::{Effect, Reply};
use weir_journal::Journal;
use weir_protocol::RunHeader;
use weir_protocol::answer::encode_records;

use crate::Scenario;
use crate::chunk::{MESSAGES, batch};
use crate::disk;
use crate::machine::{Machine, create_stream, publish};

/// Turns that fill the stream; it is read again from the start when it ends.
const BATCHES: u64 = 64;
/// Messages of one read.
const READ: u32 = 16 * MESSAGES as u32;
/// Of so much memory for bodies next to nothing of the stream is left.
const RESIDENT_BYTES: u64 = 64 << 10;

pub(crate) struct Replay {
    _journal: Journal,
    machine: Machine,
    next: u64,
    /// Of the messages of one read.
    bytes: u32,
    answers: Vec<u8>,
}

impl Replay {
    pub(crate) fn new() -> Self {
        let journal = disk::journal(|config| config.resident_bytes_max = RESIDENT_BYTES);
        let mut machine = Machine::over(journal.store(Box::new(|| {})));
        let config = StreamConfig { level: Level::Disk, ..StreamConfig::default() };
        machine.turn([create_stream(1, config)]);
        let bytes = batch(READ as usize).bytes.len() as u32;
        for _ in 0..BATCHES {
            machine.turn([publish(1, batch(MESSAGES), 0..MESSAGES as u32)]);
            assert!(journal.step_writer());
            machine.turn([]);
        }
        Self { _journal: journal, machine, next: 0, bytes, answers: Vec::new() }
    }
}

impl Scenario for Replay {
    fn messages(&self) -> u64 {
        u64::from(READ)
    }

    fn turn(&mut self) -> u64 {
        let read = Command::Read {
            connection: ConnectionId(1),
            request: RequestId(1),
            stream: DestinationId(1),
            partition: 0,
            from: Start::Offset(self.next % (BATCHES * MESSAGES as u64)),
            messages_max: READ,
            bytes_max: self.bytes,
        };
        self.answers.clear();
        let mut count = 0;
        for effect in self.machine.turn([read]) {
            let Effect::Reply { reply: Reply::Records { runs, next, start, end }, .. } = effect
            else {
                continue;
            };
            let runs = runs.iter().map(|run| {
                count += u64::from(run.count);
                let header = RunHeader {
                    offset: run.offset,
                    time_ms: run.time_ms,
                    attempt: run.attempt,
                    count: run.count,
                    ..RunHeader::default()
                };
                (header, run.bytes.as_ref())
            });
            let id = weir_protocol::RequestId(1);
            encode_records(&mut self.answers, id, (start, end, next), runs);
            self.next = next;
        }
        std::hint::black_box(&self.answers);
        count
    }
}
