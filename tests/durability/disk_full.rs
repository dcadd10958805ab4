//! D8: the disk fills up. Publishers are told, consumers go on, and publishing goes
//! on by itself when there is room again. Nobody crashes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_client::{Client, ErrorCode, Level, Message};

use crate::broker::{Broker, Setup};
use crate::check::{self, Faults, History, Settled};
use crate::disk::Disk;
use crate::load::{Fate, Line, Producing, pause};
use crate::message::{Id, payload};
use crate::proof::{DEADLINE, Proof};
use crate::story::{FLOW, PARTITIONS, Story, WORK, drain, read_again};

/// Megabytes of the disk.
const DISK_MIB: u32 = 64;
/// Megabytes that must stay free.
const FREE_MIB: u32 = 12;
/// Longest until publishing goes on, from the moment on at which there is room.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a message.
const MESSAGE_BYTES: usize = 24 << 10;
/// Messages that the stream takes while there is room, each time: few, as nobody frees what
/// they take.
const STREAM_MESSAGES: usize = 8;

#[test]
fn disk_full_and_back() {
    let mut proof = Proof::begin("disk_full_and_back", (1, 20));
    let mut slowest = Duration::ZERO;
    let mut refused = 0;
    for _ in 0..proof.runs() {
        let disk = Disk::memory("disk_full_and_back", DISK_MIB);
        let Some(disk) = proof.needs(disk) else { return };
        let found = fills(&disk);
        slowest = slowest.max(found.0);
        refused += found.1;
    }
    proof.figure(format!(
        "{refused} publishes refused with `no_space`, 0 crashes; publishing resumed after {} ms \
         at most",
        slowest.as_millis()
    ));
}

fn fills(disk: &Disk) -> (Duration, u64) {
    let data = disk.path().join("data");
    // More in memory than on disk: it is the disk that is full.
    let setup = Setup { free_mib_min: FREE_MIB, memory_mib: 256, ..Setup::over(&data) };
    let broker = Broker::start(&setup);
    let _ = Story::begin(&broker, true);
    let mut writer = Writer::new();
    let mut faults = Faults::default();
    let mut records = vec![History::default(); usize::from(PARTITIONS)];

    // It fills with what is kept in it.
    broker.with(async |client| {
        writer.append(&client).await;
        writer.until(&client, WORK, Outcome::NoSpace).await;
        writer.until(&client, FLOW, Outcome::NoSpace).await;
    });
    // Readers and consumers go on, and these make the room.
    read_again(&broker, FLOW, &mut records, &mut faults);
    let mut found = broker.with(async |client| drain(&client, WORK).await.unwrap());
    let drained = writer.resumes(&broker, &data, "the queue was emptied");
    broker.with(async |client| writer.append(&client).await);

    // Somebody else takes the rest, and again what consumers make free.
    let ballast = [1, 2].map(|part| data.with_extension(format!("ballast-{part}")));
    for part in &ballast {
        fill(part);
        broker.with(async |client| writer.until(&client, WORK, Outcome::NoSpace).await);
        found.extend(broker.with(async |client| drain(&client, WORK).await.unwrap()));
    }
    fill(&ballast[1]);
    broker.with(async |client| writer.until(&client, WORK, Outcome::NoSpace).await);
    for part in &ballast {
        std::fs::remove_file(part).unwrap();
    }
    let freed = writer.resumes(&broker, &data, "somebody else's files were removed");

    // And what was acknowledged in all that is there, after a start as well.
    broker.kill();
    let broker = Broker::start(&setup);
    read_again(&broker, FLOW, &mut records, &mut faults);
    found.extend(broker.with(async |client| drain(&client, WORK).await.unwrap()));
    broker.stop();
    let Writer { work, flow } = writer;
    check::queue(&[&work], &Settled::default(), &found, &[], &mut faults);
    check::stream(&[&flow], &records, &mut faults);
    faults.none("the disk was full");
    let refused = work.of(Fate::Refused).count() + flow.of(Fate::Refused).count();
    (drained.max(freed), refused as u64)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    NoSpace,
}

/// Publishes one message at a time, and writes down what became of it.
struct Writer {
    /// What it sent to the queue.
    work: Line,
    /// What it sent to the stream.
    flow: Line,
}

impl Writer {
    fn new() -> Self {
        let line = |producer, to| Line::silent(Producing::to(producer, to, Level::Disk));
        Self { work: line(1, WORK), flow: line(2, FLOW) }
    }

    async fn publish(&mut self, client: &Client, to: &str) -> Outcome {
        let line = if to == WORK { &mut self.work } else { &mut self.flow };
        let id = Id { producer: line.producing.producer, number: line.fates.len() as u64 };
        let payload = payload(id, MESSAGE_BYTES);
        let message = [Message::new(to).payload(&payload)];
        let receipt = client.publish_confirmed(&message).await.expect("the broker answers");
        let outcome = match receipt.refusals.first() {
            None => Outcome::Stored,
            Some(refusal) if refusal.code == ErrorCode::NoSpace => Outcome::NoSpace,
            Some(refusal) => panic!("refused with {refusal:?}"),
        };
        let is_stored = outcome == Outcome::Stored;
        line.fates.push(if is_stored { Fate::Acknowledged } else { Fate::Refused });
        outcome
    }

    /// Has the stream take what it is to keep.
    async fn append(&mut self, client: &Client) {
        for _ in 0..STREAM_MESSAGES {
            self.until(client, FLOW, Outcome::Stored).await;
        }
    }

    /// Publishes until that is the outcome.
    async fn until(&mut self, client: &Client, to: &str, outcome: Outcome) {
        let begun = Instant::now();
        while self.publish(client, to).await != outcome {
            assert!(begun.elapsed() < DEADLINE, "waited in vain for {outcome:?}");
            if outcome == Outcome::Stored {
                pause(Duration::from_millis(10));
            }
        }
    }

    /// How long it takes until publishing goes on.
    fn resumes(&mut self, broker: &Broker, data: &Path, behind: &str) -> Duration {
        let begun = Instant::now();
        let before = files(data);
        broker.with(async |client| self.until(&client, WORK, Outcome::Stored).await);
        let took = begun.elapsed();
        assert!(
            took < RESUMES_WITHIN,
            "{behind}, and publishing goes on only after {took:?}; the files were {before:#?} and \
             are {:#?}",
            files(data)
        );
        took
    }
}

/// A file that takes whatever is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 64 << 10];
    while file.write_all(&zeros).is_ok() {}
}

/// Each file below a folder with its size.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)),
            Ok(metadata) => found.push(format!("{} {}", metadata.len(), path.display())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}
