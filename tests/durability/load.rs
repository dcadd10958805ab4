//! Publishers that write down what was acknowledged. They run on a thread of their
//! own, and end when their connection does.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_client::{Client, Confirmation, Level, Message};
use weir_tests::Random;

use crate::broker::{block_on, connect};
use crate::message::{Id, payload};
use crate::proof::DEADLINE;

/// What one producer publishes.
#[derive(Clone, Debug)]
pub(crate) struct Producing {
    /// Unique over all runs of a test.
    pub(crate) producer: u32,
    /// Where to; the producer is the key.
    pub(crate) subject: &'static str,
    /// What its acknowledgements must name, at least.
    pub(crate) level: Level,
    /// Most messages of one receipt.
    pub(crate) batch_max: usize,
    /// Most receipts on their way.
    pub(crate) depth: usize,
    /// Longest payload, bytes.
    pub(crate) bytes_max: usize,
}

impl Producing {
    /// Small messages in small batches, several on their way.
    pub(crate) fn to(producer: u32, subject: &'static str, level: Level) -> Self {
        Self { producer, subject, level, batch_max: 16, depth: 8, bytes_max: 900 }
    }

    /// To a destination of level `disk`, each message when the one before is
    /// acknowledged.
    pub(crate) fn one_by_one(producer: u32, subject: &'static str) -> Self {
        Self { batch_max: 1, depth: 1, ..Self::to(producer, subject, Level::Disk) }
    }
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent; nobody said what became of it.
    Unknown,
    /// Acknowledged at the level that was asked for.
    Acknowledged,
    /// Refused.
    Refused,
}

/// What one producer did.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) producing: Producing,
    /// By number.
    pub(crate) fates: Vec<Fate>,
    /// Shortest time from sending to the acknowledgement.
    pub(crate) fastest: Option<Duration>,
    /// What an acknowledgement said that it must not.
    pub(crate) complaints: Vec<String>,
}

impl Line {
    /// Of a producer that has sent nothing.
    pub(crate) fn silent(producing: Producing) -> Self {
        Self { producing, fates: Vec::new(), fastest: None, complaints: Vec::new() }
    }

    /// The messages of that fate.
    pub(crate) fn of(&self, fate: Fate) -> impl Iterator<Item = Id> {
        let producer = self.producing.producer;
        let numbers = (0_u64..).zip(&self.fates).filter(move |(_, found)| **found == fate);
        numbers.map(move |(number, _)| Id { producer, number })
    }
}

#[derive(Default)]
struct Progress {
    acknowledged: u64,
    ended: bool,
}

struct Shared {
    progress: Mutex<Progress>,
    moved: Condvar,
}

/// A load that runs.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<Line>>,
}

impl Load {
    /// Starts publishing, all producers over one connection.
    pub(crate) fn start(address: &str, producers: Vec<Producing>, mut random: Random) -> Self {
        let shared = Arc::new(Shared { progress: Mutex::default(), moved: Condvar::new() });
        let (address, told) = (address.to_owned(), shared.clone());
        let thread = std::thread::spawn(move || {
            let _end = End(told.clone());
            block_on(async move {
                let Ok(client) = connect(&address).await else {
                    return producers.into_iter().map(Line::silent).collect();
                };
                let tasks = producers.into_iter().map(|producing| {
                    let random = Random::seeded(random.number());
                    tokio::spawn(produce(client.clone(), producing, told.clone(), random))
                });
                let tasks: Vec<_> = tasks.collect();
                let mut lines = Vec::new();
                for task in tasks {
                    lines.push(task.await.unwrap());
                }
                lines
            })
        });
        Self { shared, thread }
    }

    /// Messages acknowledged by now.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.progress.lock().unwrap().acknowledged
    }

    /// Waits until so many messages are acknowledged. A load that ends before would leave
    /// next to nothing that can be lost.
    #[track_caller]
    pub(crate) fn reach(&self, acknowledged: u64) {
        assert!(self.reach_within(acknowledged, DEADLINE), "the load does not get on");
        let found = self.acknowledged();
        assert!(found >= acknowledged, "the load has ended at {found} of {acknowledged} messages");
    }

    /// As [`Load::reach`], or until the load has ended; false when that took longer than
    /// `time`.
    pub(crate) fn reach_within(&self, acknowledged: u64, time: Duration) -> bool {
        let progress = self.shared.progress.lock().unwrap();
        let wanting =
            |progress: &mut Progress| progress.acknowledged < acknowledged && !progress.ended;
        let waited = self.shared.moved.wait_timeout_while(progress, time, wanting).unwrap();
        !waited.1.timed_out()
    }

    /// Waits until the connection is lost. What the producers know.
    pub(crate) fn lines(self) -> Vec<Line> {
        self.thread.join().expect("the load ends well")
    }
}

struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if let Ok(mut progress) = self.0.progress.lock() {
            progress.ended = true;
        }
        self.0.moved.notify_all();
    }
}

/// A receipt that is on its way.
struct Waiting {
    first: u64,
    count: u64,
    sent: Instant,
    confirmation: Confirmation,
}

async fn produce(
    client: Client,
    producing: Producing,
    shared: Arc<Shared>,
    mut random: Random,
) -> Line {
    let mut publisher = client.publisher();
    let key = producing.producer.to_string();
    let mut waiting = VecDeque::new();
    let (mut fates, mut fastest, mut complaints) = (Vec::new(), None, Vec::new());
    let line = 'publish: loop {
        while waiting.len() >= producing.depth {
            let next = waiting.pop_front().expect("one is waiting");
            if !settle(next, &producing, &mut fates, &mut fastest, &mut complaints, &shared).await {
                break 'publish waiting;
            }
        }
        let (first, sent) = (fates.len() as u64, Instant::now());
        for _ in 0..=random.below(producing.batch_max) {
            let id = Id { producer: producing.producer, number: fates.len() as u64 };
            let len = random.below(producing.bytes_max);
            let payload = payload(id, len);
            let message = Message::new(producing.subject).key(&key).payload(&payload);
            if publisher.send(&message).await.is_err() {
                break 'publish waiting;
            }
            fates.push(Fate::Unknown);
        }
        let confirmation = publisher.take();
        let count = fates.len() as u64 - first;
        waiting.push_back(Waiting { first, count, sent, confirmation });
    };
    for next in line {
        settle(next, &producing, &mut fates, &mut fastest, &mut complaints, &shared).await;
    }
    Line { producing, fates, fastest, complaints }
}

/// Writes down what a receipt says. False when the connection is lost.
async fn settle(
    waiting: Waiting,
    producing: &Producing,
    fates: &mut [Fate],
    fastest: &mut Option<Duration>,
    complaints: &mut Vec<String>,
    shared: &Shared,
) -> bool {
    let Waiting { first, count, sent, confirmation } = waiting;
    let Ok(receipt) = confirmation.await else { return false };
    let took = sent.elapsed();
    let range = first as usize..(first + count) as usize;
    fates[range.clone()].fill(Fate::Acknowledged);
    for refusal in &receipt.refusals {
        let from = (first + refusal.position) as usize;
        fates[from..from + refusal.count as usize].fill(Fate::Refused);
    }
    let acknowledged =
        fates[range].iter().filter(|fate| **fate == Fate::Acknowledged).count() as u64;
    if acknowledged > 0 {
        *fastest = Some(fastest.map_or(took, |fastest| fastest.min(took)));
    }
    let is_short = receipt.messages != count || receipt.stored != acknowledged;
    if is_short || acknowledged > 0 && receipt.level < producing.level {
        complaints.push(format!("{count} messages from {first} were answered with {receipt:?}"));
    }
    shared.progress.lock().unwrap().acknowledged += acknowledged;
    shared.moved.notify_all();
    true
}

/// Lets time pass, where the time itself is what a test is about.
pub(crate) fn pause(time: Duration) {
    let nothing = Mutex::new(());
    let guard = nothing.lock().unwrap();
    let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
}
