//! Several lives of a broker over one data folder: what was published in all of
//! them, and what each found when it started.

use std::path::Path;
use std::time::Duration;

use weir_client::{
    Client, ConsumeOptions, Create, CreateQueue, CreateStream, Error, Level, Read, Start,
};
use weir_tests::Random;

use crate::broker::{Broker, Setup, check_folder};
use crate::check::{self, Faults, History, Settled};
use crate::load::{Line, Load, Producing};
use crate::message::{Id, identity};
use crate::proof::Proof;

/// A queue at level `disk`.
pub(crate) const WORK: &str = "work";
/// A queue at level `os`.
pub(crate) const QUICK: &str = "quick";
/// A stream at level `disk`.
pub(crate) const FLOW: &str = "flow";
/// A stream at level `os`.
pub(crate) const LOOSE: &str = "loose";
/// Partitions of the streams.
pub(crate) const PARTITIONS: u16 = 3;
/// Longest payload of most runs, bytes.
const SMALL_BYTES_MAX: usize = 900;
/// Longest payload of the others, bytes: a run fills a dozen journal files.
const BIG_BYTES_MAX: usize = 8 << 10;
/// Lives over one folder; then it is emptied and checked to the last message.
const LIVES_PER_FOLDER: u32 = 8;
/// Longest wait of a pull.
const PULL: Duration = Duration::from_millis(300);
/// Pulls that bring nothing before a queue counts as stuck.
const PULLS_MAX: u32 = 100;

/// See the file's head.
pub(crate) struct Story {
    lines: Vec<Line>,
    flow: Vec<History>,
    loose: Vec<History>,
    /// Whether what level `os` acknowledged must survive.
    os_survives: bool,
    /// Acknowledged messages of level `os` that are lost.
    pub(crate) lost_os: u64,
}

impl Story {
    /// Makes the queues and streams in a broker that has none.
    pub(crate) fn begin(broker: &Broker, os_survives: bool) -> Self {
        broker.with(async |client| {
            for (name, level) in [(WORK, Level::Disk), (QUICK, Level::Os)] {
                client.create(queue(name, level)).await.unwrap();
            }
            for (name, level) in [(FLOW, Level::Disk), (LOOSE, Level::Os)] {
                client.create(stream(name, level)).await.unwrap();
            }
        });
        let none = vec![History::default(); usize::from(PARTITIONS)];
        Self { lines: Vec::new(), flow: none.clone(), loose: none, os_survives, lost_os: 0 }
    }

    /// Producers that nobody has seen yet, for each destination. Now and then they
    /// publish so much that journal files are filed and checkpoints made meanwhile.
    pub(crate) fn producers(&self, random: &mut Random) -> Vec<Producing> {
        let bytes_max = if random.below(3) == 0 { BIG_BYTES_MAX } else { SMALL_BYTES_MAX };
        let first = self.lines.len() as u32;
        let to = [
            (WORK, Level::Disk),
            (FLOW, Level::Disk),
            (FLOW, Level::Disk),
            (QUICK, Level::Os),
            (LOOSE, Level::Os),
            (LOOSE, Level::Os),
        ];
        let numbered = (first..).zip(to);
        let producing =
            |(producer, (to, level))| Producing { bytes_max, ..Producing::to(producer, to, level) };
        numbered.map(producing).collect()
    }

    /// Adds what producers know.
    pub(crate) fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    /// Adds what a reader saw.
    pub(crate) fn saw(&mut self, seen: &[History], faults: &mut Faults) {
        for (known, seen) in self.flow.iter_mut().zip(seen) {
            for (offset, id) in (0..).zip(&seen.records) {
                known.observe(offset, *id, faults);
            }
        }
    }

    /// Messages acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        let of = |line: &Line| line.of(crate::load::Fate::Acknowledged).count() as u64;
        self.lines.iter().map(of).sum()
    }

    fn of(&self, destination: &str) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.producing.subject == destination).collect()
    }

    /// Reads the streams as a broker that has just started has them, and judges.
    #[track_caller]
    pub(crate) fn check(&mut self, broker: &Broker, moment: &str) {
        let mut faults = Faults::default();
        for line in &self.lines {
            for complaint in &line.complaints {
                faults.add(|| format!("producer {}: {complaint}", line.producing.producer));
            }
        }
        for (name, histories) in [(FLOW, &mut self.flow), (LOOSE, &mut self.loose)] {
            read_again(broker, name, histories, &mut faults);
        }
        check::stream(&self.of(FLOW), &self.flow, &mut faults);
        let loose = self.of(LOOSE);
        if self.os_survives {
            check::stream(&loose, &self.loose, &mut faults);
        } else {
            self.lost_os = check::stream_prefix(&loose, &self.loose, &mut faults);
        }
        faults.none(moment);
    }

    /// Empties the queues, and judges what was in them.
    #[track_caller]
    pub(crate) fn finish(&self, broker: &Broker, moment: &str) {
        let (work, mut quick) = broker.with(async |client| {
            (drain(&client, WORK).await.unwrap(), drain(&client, QUICK).await.unwrap())
        });
        let mut faults = Faults::default();
        check::in_order(&work, &mut faults);
        check::in_order(&quick, &mut faults);
        check::queue(&self.of(WORK), &Settled::default(), &work, &[], &mut faults);
        if self.os_survives {
            check::queue(&self.of(QUICK), &Settled::default(), &quick, &[], &mut faults);
        } else {
            quick.sort_unstable();
            check::stream_prefix(&self.of(QUICK), &[History { records: quick }], &mut faults);
        }
        faults.none(moment);
    }
}

/// Lives of brokers below `parent` until the proof has its runs. `crash` ends one
/// in the middle of its load, and tells what the producers know.
pub(crate) fn lives(
    proof: &mut Proof,
    parent: &Path,
    os_survives: bool,
    mut crash: impl FnMut(Broker, Load, &mut Random, &mut Story) -> Vec<Line>,
) {
    let (mut acknowledged, mut lost_os) = (0, 0);
    let mut run = 0;
    while run < proof.runs() {
        let data = parent.join(format!("data-{run}"));
        let setup = Setup::over(&data);
        let mut broker = Broker::start(&setup);
        let mut story = Story::begin(&broker, os_survives);
        for _ in 0..LIVES_PER_FOLDER.min(proof.runs() - run) {
            let mut random = proof.random(run);
            let producers = story.producers(&mut random);
            let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
            let lines = crash(broker, load, &mut random, &mut story);
            story.add(lines);
            broker = Broker::start(&setup);
            story.check(&broker, &format!("run {run}"));
            run += 1;
        }
        story.finish(&broker, &format!("the queues behind run {}", run - 1));
        broker.stop();
        check_folder(&data);
        acknowledged += story.acknowledged();
        lost_os += story.lost_os;
        std::fs::remove_dir_all(&data).unwrap();
    }
    proof.figure(format!("{acknowledged} messages acknowledged, 0 lost"));
    if !os_survives {
        proof.figure(format!("at level `os` {lost_os} lost, each time a suffix"));
    }
}

/// A queue of that level.
pub(crate) fn queue(name: &str, level: Level) -> Create {
    let level = Some(level);
    Create::Queue(CreateQueue { name: name.to_owned(), level, ..CreateQueue::default() })
}

/// A stream of that level.
pub(crate) fn stream(name: &str, level: Level) -> Create {
    Create::Stream(CreateStream {
        name: name.to_owned(),
        partitions: PARTITIONS,
        level: Some(level),
        ..CreateStream::default()
    })
}

/// Reads a stream from its first record to its last. What was seen before must be
/// there again.
pub(crate) fn read_again(
    broker: &Broker,
    stream: &str,
    histories: &mut [History],
    faults: &mut Faults,
) {
    broker.with(async |client| {
        for (partition, history) in (0..).zip(histories) {
            let known = history.records.len() as u64;
            let end = match read_on(&client, stream, partition, 0, history, faults).await {
                Ok(end) => end,
                Err(error) => {
                    faults.add(|| format!("{stream}/{partition} cannot be read: {error}"));
                    continue;
                }
            };
            if end < known {
                faults.add(|| {
                    format!("{stream}/{partition} ends at {end}, and was seen up to {known}")
                });
            }
        }
    });
}

/// Reads from an offset to the end; where the end is.
pub(crate) async fn read_on(
    client: &Client,
    stream: &str,
    partition: u16,
    from: u64,
    history: &mut History,
    faults: &mut Faults,
) -> Result<u64, Error> {
    let mut next = from;
    loop {
        let from = Start::Offset(next);
        let stream = stream.to_owned();
        let read = Read { stream, partition, from, messages_max: Some(1000), bytes_max: None };
        let range = client.read(read).await?;
        for record in &range.records {
            if record.offset() != next {
                let found = record.offset();
                faults.add(|| format!("behind offset {next} of {partition} comes {found}"));
            }
            next = record.offset() + 1;
            match identity(record.payload()) {
                Ok(id) => history.observe(record.offset(), id, faults),
                Err(wrong) => faults.add(|| format!("{partition}/{}: {wrong}", record.offset())),
            }
        }
        if range.next < next {
            faults.add(|| format!("{partition}: behind {next} one reads on at {}", range.next));
        }
        if range.records.is_empty() || next >= range.end {
            return Ok(next);
        }
    }
}

/// Takes everything out of a queue that has no other consumers.
pub(crate) async fn drain(client: &Client, queue: &str) -> Result<Vec<Id>, Error> {
    let mut consumer = client.consume_with(queue, ConsumeOptions::credit(0)).await?;
    let mut found = Vec::new();
    let mut vain = 0;
    loop {
        if let Some(batch) = consumer.pull(1000, PULL).await? {
            for delivery in &batch {
                let id = identity(delivery.payload());
                found.push(id.unwrap_or_else(|wrong| panic!("{queue}: {wrong}")));
            }
            batch.ack();
            consumer.flush().await?;
            vain = 0;
        } else if client.queue_info(queue).await?.messages == 0 {
            return Ok(found);
        } else {
            vain += 1;
            assert!(vain < PULLS_MAX, "{queue} is not empty and hands out nothing");
        }
    }
}
