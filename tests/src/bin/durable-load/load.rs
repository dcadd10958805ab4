//! What the parts do as clients: windows of messages, long appends, reading all back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_client::{
    Client, Confirmation, ConsumeOptions, Consumer, Create, CreateQueue, CreateStream,
    DeliveryBatch, Level, Message, PublisherOptions, Start,
};
use weir_tests::Random;

/// Length of one side of a round.
pub(crate) const SIDE: Duration = Duration::from_secs(3);
/// Bytes of a message of a long append.
pub(crate) const LONG_BYTES: usize = 1_024;
/// Bytes of messages that a long append has on their way.
const WINDOW_BYTES: usize = 8 << 20;
/// Credit of who reads all back.
const CREDIT: u32 = 8_192;
/// Longest time without a delivery before what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn make_queue(client: &Client, name: &str, level: Level) {
    let queue = CreateQueue { name: name.into(), level: Some(level), ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
}

/// A stream of one partition at level `os`, of the messages of its name.
pub(crate) async fn make_stream(client: &Client, name: &str) {
    let stream =
        CreateStream { name: name.into(), level: Some(Level::Os), ..CreateStream::default() };
    client.create(Create::Stream(stream)).await.unwrap();
}

pub(crate) fn wide() -> PublisherOptions {
    PublisherOptions { window_bytes_max: WINDOW_BYTES }
}

/// What a window came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windowed {
    /// All of them confirmed.
    pub(crate) messages: u64,
    /// From the first to the last confirmation.
    pub(crate) took: Duration,
}

impl Windowed {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }
}

/// Keeps `window` messages of 128 bytes in flight, each with its own confirmation, each
/// to one of `names` at random. All must be on disk.
pub(crate) async fn windowed(client: &Client, window: usize, names: &[String]) -> Windowed {
    let payload = [b'x'; 128];
    let mut random = Random::seeded(window as u64);
    let mut publisher = client.publisher();
    let mut open = VecDeque::with_capacity(window);
    let (started, mut messages) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        while open.len() < window {
            let name = &names[random.below(names.len())];
            publisher.send(&Message::new(name).payload(&payload)).await.unwrap();
            open.push_back(publisher.take());
        }
        // Half of them at once: what a client with a window does.
        for _ in 0..window.div_ceil(2) {
            on_disk(open.pop_front().unwrap()).await;
            messages += 1;
        }
    }
    for confirmation in open {
        on_disk(confirmation).await;
        messages += 1;
    }
    Windowed { messages, took: started.elapsed() }
}

async fn on_disk(confirmation: Confirmation) {
    let receipt = confirmation.await.unwrap();
    let first = receipt.refusals.first();
    assert_eq!((receipt.stored, receipt.level), (1, Level::Disk), "{first:?}");
}

/// Publishes so many bytes in messages of 1 KiB, each with its number, and waits for the
/// last receipt. How many messages.
pub(crate) async fn fill(client: &Client, subject: &str, bytes: u64) -> u64 {
    let mut publisher = client.publisher_with(wide());
    let mut payload = [b'x'; LONG_BYTES];
    let messages = bytes / LONG_BYTES as u64;
    for number in 0..messages {
        payload[..8].copy_from_slice(&number.to_le_bytes());
        publisher.send(&Message::new(subject).payload(&payload)).await.unwrap();
    }
    let receipt = publisher.flush().await.unwrap();
    assert_eq!(receipt.stored, messages, "{:?}", receipt.refusals.first());
    assert!(receipt.level >= Level::Os, "kept at {:?}", receipt.level);
    messages
}

/// The next deliveries; `None` when none came for long.
async fn next(consumer: &mut Consumer) -> Option<DeliveryBatch> {
    let batch = tokio::time::timeout(SILENCE_MAX, consumer.next_batch()).await.ok()?;
    Some(batch.unwrap().expect("the client is open"))
}

fn greedy() -> ConsumeOptions {
    ConsumeOptions { auto_ack: true, ..ConsumeOptions::credit(CREDIT) }
}

/// A consumer of all that a queue holds.
pub(crate) async fn queue_reader(client: &Client, queue: &str) -> Consumer {
    client.consume_with(queue, greedy()).await.unwrap()
}

/// A consumer of all that a stream holds.
pub(crate) async fn stream_reader(client: &Client, stream: &str) -> Consumer {
    client.create_group(stream, "reader", Start::Earliest).await.unwrap();
    client.consume_group(stream, "reader", greedy()).await.unwrap()
}

/// Reads a stream from its beginning, and only counts. How long it took.
pub(crate) async fn replay(client: &Client, stream: &str, messages: u64) -> Duration {
    let started = Instant::now();
    let mut consumer = stream_reader(client, stream).await;
    let mut read = 0;
    while read < messages {
        let batch = next(&mut consumer).await;
        read += batch.expect("messages are missing").len() as u64;
    }
    let took = started.elapsed();
    assert_eq!(read, messages);
    took
}

/// What [`drain`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) missing: u64,
    /// Deliveries of what had been there before.
    pub(crate) again: u64,
    pub(crate) took: Duration,
}

/// Consumes until each of the messages that [`fill`] has numbered was there.
pub(crate) async fn drain(consumer: &mut Consumer, messages: u64) -> Drained {
    let mut seen = vec![false; messages as usize];
    let (started, mut missing, mut again) = (Instant::now(), messages, 0);
    while missing > 0 {
        let Some(batch) = next(consumer).await else { break };
        for delivery in &batch {
            let number = u64::from_le_bytes(delivery.payload()[..8].try_into().unwrap());
            if std::mem::replace(&mut seen[number as usize], true) {
                again += 1;
            } else {
                missing -= 1;
            }
        }
    }
    Drained { missing, again, took: started.elapsed() }
}
