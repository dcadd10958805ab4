//! Steady traffic for tests of what else happens meanwhile: numbered messages,
//! published with confirmation, consumed from a queue and acked. At the end every
//! number must have arrived once.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;
use weir_client::{Client, ConsumeOptions, Consumer, Create, CreateQueue, Message};
use weir_tests::{TestBroker, until};

/// Messages of one receipt.
const BATCH: u64 = 64;
/// Between two receipts: load, but not all of the machine.
const PACE: Duration = Duration::from_millis(2);
/// Consumers of the queue.
const CONSUMERS: usize = 2;

/// Makes a queue that keeps what is published to `subjects`.
pub(crate) async fn make_queue(client: &Client, name: &str, subjects: &str) {
    let subjects = vec![subjects.to_owned()];
    let queue = CreateQueue { name: name.to_owned(), subjects, ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    /// Its number.
    pub(crate) row: u64,
    /// Where it was sent by the policies.
    pub(crate) subject: String,
}

/// Runs until [`Traffic::finish`].
pub(crate) struct Traffic {
    figures: Arc<Figures>,
    publishing: JoinHandle<()>,
    consuming: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Figures {
    stop: AtomicBool,
    confirmed: AtomicU64,
    arrived: AtomicU64,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Traffic {
    /// Publishes to `prefix.0` to `prefix.15` and consumes `queue`, which is there
    /// and keeps what the policies make of these subjects.
    pub(crate) async fn start(broker: &TestBroker, prefix: &str, queue: &str) -> Self {
        let figures = Arc::new(Figures::default());
        let mut consuming = Vec::new();
        for _ in 0..CONSUMERS {
            let client = broker.client().await;
            let options = ConsumeOptions::credit(500);
            let consumer = client.consume_with(queue, options).await.unwrap();
            consuming.push(tokio::spawn(consume(consumer, figures.clone())));
        }
        let subjects = (0..16).map(|n| format!("{prefix}.{n}")).collect();
        let publishing = publish(broker.client().await, subjects, figures.clone());
        Self { figures, publishing: tokio::spawn(publishing), consuming }
    }

    /// Waits until so many more messages have been confirmed and have arrived.
    pub(crate) async fn more(&self, count: u64) {
        let confirmed = self.figures.confirmed.load(SeqCst) + count;
        until("more traffic", async || {
            assert!(!self.publishing.is_finished(), "the publisher gave up");
            self.figures.confirmed.load(SeqCst) >= confirmed
                && self.figures.arrived.load(SeqCst) >= confirmed
        })
        .await;
    }

    /// Stops, waits for the last message, and checks that each arrived once.
    pub(crate) async fn finish(self) -> Vec<Arrival> {
        let Self { figures, publishing, consuming } = self;
        figures.stop.store(true, SeqCst);
        publishing.await.unwrap();
        let published = figures.confirmed.load(SeqCst);
        until("all that was confirmed arrives", async || {
            assert!(consuming.iter().all(|task| !task.is_finished()), "a consumer gave up");
            figures.arrived.load(SeqCst) >= published
        })
        .await;
        consuming.iter().for_each(JoinHandle::abort);
        let mut arrivals = std::mem::take(&mut *figures.arrivals.lock().unwrap());
        arrivals.sort();
        let rows: Vec<u64> = arrivals.iter().map(|arrival| arrival.row).collect();
        for (expected, row) in (0..published).zip(&rows) {
            assert_eq!(*row, expected, "a message is lost or was doubled");
        }
        assert_eq!(rows.len() as u64, published, "a message was doubled");
        arrivals
    }
}

/// Publishes numbered messages; each batch is confirmed, whole, before the next.
async fn publish(client: Client, subjects: Vec<String>, figures: Arc<Figures>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = 0;
    while !figures.stop.load(SeqCst) {
        pace.tick().await;
        let keys: Vec<String> = (next..next + BATCH).map(|row| row.to_string()).collect();
        let message = |key| {
            let subject = &subjects[next as usize / 64 % subjects.len()];
            Message::new(subject).key(key).payload("x")
        };
        let messages: Vec<Message<'_>> = keys.iter().map(message).collect();
        let receipt = client.publish_confirmed(&messages).await.unwrap();
        assert_eq!(receipt.refusals, [], "nothing of the others is refused");
        assert_eq!((receipt.stored, receipt.unrouted), (BATCH, 0), "one copy of each is kept");
        next += BATCH;
        figures.confirmed.fetch_add(BATCH, SeqCst);
    }
}

async fn consume(mut consumer: Consumer, figures: Arc<Figures>) {
    while let Some(batch) = consumer.next_batch().await.unwrap() {
        let arrival = |delivery: weir_client::DeliveryRef<'_>| {
            assert_eq!(delivery.attempt(), 1, "nothing is delivered again");
            let view = delivery.view();
            let row = std::str::from_utf8(view.key).unwrap().parse().unwrap();
            Arrival { row, subject: view.subject.to_owned() }
        };
        figures.arrivals.lock().unwrap().extend(batch.iter().map(arrival));
        batch.ack();
        figures.arrived.fetch_add(batch.len() as u64, SeqCst);
    }
}
