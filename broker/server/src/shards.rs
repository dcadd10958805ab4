//! The way to the shards: one bounded inbox each, in batches and in bytes.
//!
//! A full inbox makes the sender wait, so its connection is not read and TCP
//! tells the client. Commands of one sender arrive in the order they were sent.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use weir_core::command::{Command, DestinationId};

use crate::limits::{INBOX_BATCHES_MAX, INBOX_BYTES_MAX};
use crate::pressed::{PressedQueue, PressedQueues};

/// Commands of one sender, and the room they take up in the inbox.
pub struct CommandBatch {
    /// In order.
    pub commands: Vec<Command>,
    /// Told when they have been carried out and handed to the store.
    pub done: Option<oneshot::Sender<()>>,
    /// Of the messages, those that pressed queues have a place for.
    pub admitted: Vec<Admitted>,
    _room: Option<OwnedSemaphorePermit>,
}

impl CommandBatch {
    fn of(command: Command, done: Option<oneshot::Sender<()>>) -> Self {
        Self { commands: vec![command], done, admitted: Vec::new(), _room: None }
    }
}

/// What a pressed queue has a place for.
#[derive(Debug)]
pub struct Admitted {
    /// The queue.
    pub queue: Arc<PressedQueue>,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What commands hold beside themselves.
#[derive(Debug, Default)]
pub struct Load {
    /// Bytes of messages.
    pub bytes: usize,
    /// Of the messages, those that pressed queues have a place for.
    pub admitted: Vec<Admitted>,
}

/// The receiving end of one shard.
pub type Inbox = mpsc::Receiver<CommandBatch>;

struct Shard {
    inbox: mpsc::Sender<CommandBatch>,
    room: Arc<Semaphore>,
    pressed: Arc<PressedQueues>,
}

/// Handles of all shards.
pub struct Shards {
    shards: Vec<Shard>,
    stop: CancellationToken,
}

/// The shards are gone: the broker is stopping.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the broker is stopping")]
pub struct Stopping;

/// A place in a shard's inbox, kept while the directory is changed, so that
/// nobody can use the new entry before the shard knows of it.
pub struct Place<'a>(mpsc::Permit<'a, CommandBatch>);

impl Place<'_> {
    /// Sends one command; never waits.
    pub fn send(self, command: Command) {
        self.0.send(CommandBatch::of(command, None));
    }

    /// As [`Place::send`]. What comes back is told when the command has been carried
    /// out and handed to the store.
    #[must_use]
    pub fn send_told(self, command: Command) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        self.0.send(CommandBatch::of(command, Some(done)));
        told
    }
}

impl Shards {
    /// `count` inboxes, and their receiving ends.
    #[must_use]
    pub fn new(count: u32) -> (Self, Vec<Inbox>) {
        let mut inboxes = Vec::new();
        let shards = (0..count)
            .map(|_| {
                let (inbox, receiver) = mpsc::channel(INBOX_BATCHES_MAX);
                inboxes.push(receiver);
                let room = Arc::new(Semaphore::new(INBOX_BYTES_MAX));
                Shard { inbox, room, pressed: Arc::default() }
            })
            .collect();
        (Self { shards, stop: CancellationToken::new() }, inboxes)
    }

    /// Cancelled when the shards are to finish what they have and end.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Lets the shards finish what they have and end.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Number of shards.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.shards.len() as u32
    }

    /// Queues of a shard that are pressed.
    #[must_use]
    pub fn pressed(&self, shard: u32) -> Arc<PressedQueues> {
        self.shards[shard as usize].pressed.clone()
    }

    /// The queue, if it is pressed.
    #[must_use]
    pub fn pressed_queue(&self, shard: u32, queue: DestinationId) -> Option<Arc<PressedQueue>> {
        self.shards[shard as usize].pressed.find(queue)
    }

    /// Sends commands that hold no messages; waits while the inbox is full.
    ///
    /// # Errors
    /// [`Stopping`]; the commands are dropped, nothing of them was acknowledged.
    pub async fn send(&self, shard: u32, commands: Vec<Command>) -> Result<(), Stopping> {
        self.send_load(shard, commands, Load::default()).await
    }

    /// As [`Shards::send`], with messages.
    ///
    /// # Errors
    /// As there.
    pub async fn send_load(
        &self,
        shard: u32,
        commands: Vec<Command>,
        load: Load,
    ) -> Result<(), Stopping> {
        let shard = &self.shards[shard as usize];
        let bytes = load.bytes.min(INBOX_BYTES_MAX) as u32;
        let room = if bytes == 0 {
            None
        } else {
            let room = shard.room.clone().acquire_many_owned(bytes).await;
            Some(room.map_err(|_| Stopping)?)
        };
        let batch = CommandBatch { commands, done: None, admitted: load.admitted, _room: room };
        shard.inbox.send(batch).await.map_err(|_| Stopping)
    }

    /// As [`Shards::send`], from a plain thread.
    ///
    /// # Errors
    /// [`Stopping`].
    pub fn send_blocking(&self, shard: u32, command: Command) -> Result<(), Stopping> {
        let batch = CommandBatch::of(command, None);
        self.shards[shard as usize].inbox.blocking_send(batch).map_err(|_| Stopping)
    }

    /// A place for one control command, when there is one now.
    #[must_use]
    pub fn try_reserve(&self, shard: u32) -> Option<Place<'_>> {
        self.shards[shard as usize].inbox.try_reserve().ok().map(Place)
    }

    /// A place for one control command.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn reserve(&self, shard: u32) -> Result<Place<'_>, Stopping> {
        self.shards[shard as usize].inbox.reserve().await.map(Place).map_err(|_| Stopping)
    }
}
