//! What a broker must offer to be measured: the traits that every driver fills.
//!
//! Their calls work on batches, so that a boxed future per call costs nothing
//! that shows. Each publisher, producer and receiver is a connection of its own.

use std::path::Path;

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::server::Server;
use crate::stamp::Batch;
use crate::tally::Tally;

/// The answer of a driver's call.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// What is asked of a broker, and how safely it must keep messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// Publish and subscribe; nothing is kept.
    PubSub,
    /// A work queue.
    Queue(Sync),
    /// A replayable log.
    Stream(Sync),
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sync {
    /// Whatever the broker's default is; not synced to the disk for each.
    Default,
    /// Synced to the disk.
    Synced,
}

impl Sync {
    /// Its word in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Synced => "synced",
        }
    }
}

impl Case {
    /// What it is, for lists of configurations.
    pub(crate) fn label(self) -> String {
        match self {
            Self::PubSub => "pub/sub".to_owned(),
            Self::Queue(sync) => format!("queue, {}", sync.name()),
            Self::Stream(sync) => format!("stream, {}", sync.name()),
        }
    }

    /// The word for its durability in tables.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            Self::PubSub => "none",
            Self::Queue(sync) | Self::Stream(sync) => sync.name(),
        }
    }
}

/// How messages with confirmation are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Messages that may be unconfirmed.
    pub(crate) window: usize,
    /// Messages handed over by one call.
    pub(crate) batch: usize,
}

/// A broker that can be measured.
pub(crate) trait Driver: Send + std::marker::Sync {
    /// Its name in tables.
    fn name(&self) -> String;

    /// Version of server and client.
    fn version(&self) -> Result<String>;

    /// How it is configured for a case, one line; `None` when it does not offer it.
    fn about(&self, case: Case) -> Option<String>;

    /// Starts a server of its own in `folder`.
    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running>;
}

/// A server that runs, and the way to its clients.
pub(crate) struct Running {
    /// The process.
    pub(crate) server: Server,
    /// Its clients.
    pub(crate) broker: Box<dyn Broker>,
}

fn not_offered<'a, T>(what: &'static str) -> Answer<'a, T> {
    Box::pin(async move { anyhow::bail!("this driver has no {what}") })
}

/// Makes clients of one running server. What a broker does not offer stays as it is.
pub(crate) trait Broker: Send + std::marker::Sync {
    /// A publisher without confirmation.
    fn publisher(&self, _subject: String) -> Answer<'_, Box<dyn Publish>> {
        not_offered("publish and subscribe")
    }
    /// A listener; it is subscribed when this returns.
    fn listener(&self, _subject: String) -> Answer<'_, Box<dyn Receive>> {
        not_offered("publish and subscribe")
    }
    /// Makes a queue.
    fn make_queue(&self, _queue: String) -> Answer<'_, ()> {
        not_offered("queues")
    }
    /// A producer with confirmation.
    fn producer(&self, _queue: String, _pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        not_offered("queues")
    }
    /// A consumer that acknowledges what it has shown to its tally.
    fn consumer(&self, _queue: String, _credit: usize) -> Answer<'_, Box<dyn Receive>> {
        not_offered("queues")
    }
    /// Makes a stream of one partition.
    fn make_stream(&self, _stream: String) -> Answer<'_, ()> {
        not_offered("streams")
    }
    /// A producer that appends to a stream.
    fn appender(&self, _stream: String, _pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        not_offered("streams")
    }
    /// A reader from the start of a stream.
    fn reader(&self, _stream: String) -> Answer<'_, Box<dyn Receive>> {
        not_offered("streams")
    }
}

/// Publishes and forgets.
pub(crate) trait Publish: Send {
    /// Hands a batch over; waits only where the client makes it wait.
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()>;
    /// Waits until everything handed over has left the client.
    fn flush(&mut self) -> Answer<'_, ()>;
}

/// Publishes with confirmation, as many at a time as its pace allows.
pub(crate) trait Produce: Send {
    /// Hands a batch over; waits while the window is full.
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()>;
    /// Waits until everything is confirmed.
    fn settle(&mut self) -> Answer<'_, ()>;
}

/// Receives.
pub(crate) trait Receive: Send {
    /// Waits for messages, a tenth of a second at the most, shows them to the tally,
    /// and acknowledges them where the broker wants that.
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()>;
    /// Messages that the broker has told this receiver it skipped.
    fn told(&self) -> u64 {
        0
    }
}
