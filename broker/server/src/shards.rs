//! The way to the shards: one bounded inbox each, in batches and in bytes.
//!
//! A full inbox makes the sender wait, so its connection is not read and TCP
//! tells the client. Commands of one sender arrive in the order they were sent.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use weir_core::command::{Command, DestinationId};

use crate::limits::{INBOX_BATCHES_MAX, INBOX_BYTES_FREE, INBOX_BYTES_MAX};
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
    /// Bytes of messages, or of commands without any.
    pub bytes: usize,
    /// Of the messages, those that pressed queues have a place for.
    pub admitted: Vec<Admitted>,
}

impl Load {
    /// Of commands without messages. A few bytes on the wire may settle much, so it is what
    /// they take up here that counts, unless that is little.
    fn of(commands: &[Command]) -> Self {
        let bytes = size_of_val(commands) + commands.iter().map(beside).sum::<usize>();
        let bytes = if bytes > INBOX_BYTES_FREE { bytes } else { 0 };
        Self { bytes, admitted: Vec::new() }
    }
}

/// Bytes that a command of a session holds beside itself, messages left out.
fn beside(command: &Command) -> usize {
    match command {
        Command::Settle { settlements, .. } => size_of_val(settlements.as_slice()),
        Command::Attach { name, labels, .. } => name.len() + labels.len(),
        _ => 0,
    }
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
        let load = Load::of(&commands);
        self.send_load(shard, commands, load).await
    }

    /// As [`Shards::send`], and waits until the shard has carried them out. For what takes it
    /// long and a client can ask for in few bytes, again and again: what others want comes in
    /// between.
    ///
    /// # Errors
    /// As there.
    pub async fn send_and_wait(&self, shard: u32, commands: Vec<Command>) -> Result<(), Stopping> {
        let (done, told) = oneshot::channel();
        let load = Load::of(&commands);
        self.send_batch(shard, commands, Some(done), load).await?;
        told.await.map_err(|_| Stopping)
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
        self.send_batch(shard, commands, None, load).await
    }

    async fn send_batch(
        &self,
        shard: u32,
        commands: Vec<Command>,
        done: Option<oneshot::Sender<()>>,
        load: Load,
    ) -> Result<(), Stopping> {
        let shard = &self.shards[shard as usize];
        // What is more than the bound goes alone.
        let bytes = load.bytes.min(INBOX_BYTES_MAX) as u32;
        let room = if bytes == 0 {
            None
        } else {
            let room = shard.room.clone().acquire_many_owned(bytes).await;
            Some(room.map_err(|_| Stopping)?)
        };
        let batch = CommandBatch { commands, done, admitted: load.admitted, _room: room };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weir_core::command::{ConnectionId, Settlement, SubscriptionId, Verb};

    use super::*;

    fn settle(ranges: usize) -> Vec<Command> {
        let settlements = (0..ranges as u64)
            .map(|range| Settlement { first: 2 * range, last: 2 * range, verb: Verb::Ack })
            .collect();
        vec![Command::Settle {
            connection: ConnectionId(1),
            subscription: SubscriptionId(1),
            request: None,
            settlements,
        }]
    }

    #[tokio::test]
    async fn what_settlements_take_up_is_counted_and_given_back() {
        let (shards, mut inboxes) = Shards::new(1);
        let free = || shards.shards[0].room.available_permits();
        shards.send(0, settle(1)).await.unwrap();
        assert_eq!(free(), INBOX_BYTES_MAX, "a few acks wait for no room");
        drop(inboxes[0].try_recv().unwrap());
        const RANGES: usize = 10_000;
        shards.send(0, settle(RANGES)).await.unwrap();
        assert!(INBOX_BYTES_MAX - free() >= RANGES * size_of::<Settlement>());
        drop(inboxes[0].try_recv().unwrap());
        assert_eq!(free(), INBOX_BYTES_MAX);
        // More than there is room for in all goes when there is nothing else.
        shards.send(0, settle(INBOX_BYTES_MAX / size_of::<Settlement>() + 1)).await.unwrap();
        assert_eq!(free(), 0);
        drop(inboxes[0].try_recv().unwrap());
        assert_eq!(free(), INBOX_BYTES_MAX);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_full_inbox_goes_on_when_it_is_closed() {
        let (shards, mut inboxes) = Shards::new(1);
        let shards = Arc::new(shards);
        for _ in 0..INBOX_BATCHES_MAX {
            shards.send(0, settle(1)).await.unwrap();
        }
        let waiting = shards.clone();
        let command = Command::Disconnect { connection: ConnectionId(1) };
        let loader = tokio::task::spawn_blocking(move || waiting.send_blocking(0, command));
        // As a shard does when it is to end, which it also sees while it takes no commands.
        inboxes[0].close();
        loader.await.unwrap().unwrap_err();
    }

    /// Whoever sends what takes long goes on when that was carried out, and not when it was
    /// taken: else one read of such frames would hold a shard for minutes.
    #[tokio::test]
    async fn who_waits_goes_on_when_the_shard_has_done_it() {
        let (shards, mut inboxes) = Shards::new(1);
        let mut sent = std::pin::pin!(shards.send_and_wait(0, settle(1)));
        assert!(futures_util::poll!(&mut sent).is_pending());
        let mut batch = inboxes[0].recv().await.unwrap();
        assert!(futures_util::poll!(&mut sent).is_pending(), "it was only taken");
        batch.done.take().unwrap().send(()).unwrap();
        sent.await.unwrap();
        // A shard that ends without having done it.
        let mut sent = std::pin::pin!(shards.send_and_wait(0, settle(1)));
        assert!(futures_util::poll!(&mut sent).is_pending());
        drop(inboxes);
        assert!(sent.await.is_err());
    }
}
