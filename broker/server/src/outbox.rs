//! The bounded line of bytes to one connection.
//!
//! Filled by the connection's own session, by publishers' sessions (channel
//! runs) and by shards (deliveries, answers); emptied by the connection's write
//! task. One short lock per push, never held across an await. Short runs are
//! copied behind each other, long ones shared by reference.
//!
//! Invariants: bytes leave in the order they were pushed; `queued_bytes` counts
//! what waits and what is being written; a closed outbox swallows pushes, its
//! connection's end is on the way to everybody; once the end of a subscription
//! is in the line, nothing else of it follows, whoever still pushes.

mod pieces;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;
use tokio::sync::Notify;
use weir_core::command::{ConnectionId, ReceiptId, RequestId, SubscriptionId};
use weir_protocol::limits::REQUESTS_IN_FLIGHT_MAX;

use crate::limits::{
    OUTBOX_BYTES_MAX, OUTBOX_BYTES_SOFT, READS_IN_FLIGHT_MAX, SHARED_RUN_BYTES_MIN,
};
pub use crate::outbox::pieces::Pieces;
use crate::receipt::Receipt;
use crate::resumed::Resumed;
use crate::wire::{self, Asked};

/// The line of bytes to one connection.
#[derive(Debug)]
pub struct Outbox {
    /// Whose it is.
    pub connection: ConnectionId,
    state: Mutex<State>,
    /// Rung when there is something to write.
    filled: Notify,
    /// Rung when something was written.
    drained: Notify,
    /// Rung when nobody waits for the rest to be written.
    given_up: Notify,
    /// Bytes ever written: tells a slow reader from a stuck one.
    written_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    queue: Pieces,
    queued_bytes: usize,
    closed: bool,
    /// Somebody has pushed and will ring, or has rung.
    announced: bool,
    /// The listener did not keep up; cleared when half the soft bound is free.
    slow: bool,
    /// The client's number of each channel subscription that stands. Every use of a
    /// number is another listener, so that what is late for one use cannot reach
    /// the next.
    channels: HashMap<ListenerId, SubscriptionId, RandomState>,
    listeners_made: u32,
    /// Messages that listeners have missed, and the client was not told of yet.
    skipped: HashMap<ListenerId, u64, RandomState>,
    receipts: Slab<Receipt>,
    /// Requests that a shard will answer, and what the answer needs.
    pending: Vec<(RequestId, Pending)>,
    /// Requests that a shard is still to answer, pulls left out: those may wait for long. An
    /// answer may be here before its request is counted; below 0 meanwhile.
    owed: i64,
    /// Shards that hand over nothing until half the soft bound is free.
    paused: Vec<Arc<Resumed>>,
    /// Numbers that have become free, for the session to learn.
    freed: Vec<Freed>,
}

/// One use of a number for a channel subscription; never used again on its
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// Why a number may be free again: the session knows whether it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// The broker ended the consumer or did not take it. One that is leaving keeps
    /// its number until that is answered.
    Ended(SubscriptionId),
    /// The consumer has left, as it was asked to.
    Left(SubscriptionId),
    /// The channel subscription fell too far behind.
    CutOff(SubscriptionId, ListenerId),
}

/// What must be known when a shard answers.
#[derive(Debug)]
pub enum Pending {
    /// A consumer was asked for; when refused its number is free again.
    Attach(SubscriptionId),
    /// A consumer was asked to leave; its number is free when that is answered.
    Detach(SubscriptionId),
    /// Deliveries were asked for.
    Pull,
    /// A range of a stream was asked for.
    Read,
    /// Figures were asked for.
    Info(Box<Asked>),
}

/// What became of a channel run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listened {
    /// In the line.
    Taken,
    /// In the line, which is long: the publisher should wait for it.
    Full,
    /// Skipped and counted; so many in all.
    Skipped(u64),
}

/// The locked line, for one or more pushes.
pub struct Pen<'a> {
    state: &'a mut State,
}

impl Pen<'_> {
    /// The buffer for whole frames.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.state.queue.copied
    }

    /// Message bytes that follow what was written last.
    pub fn messages(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_RUN_BYTES_MIN {
            self.state.queue.copied.extend_from_slice(bytes);
        } else {
            let at = self.state.queue.copied.len();
            self.state.queue.shared_bytes += bytes.len();
            self.state.queue.shared.push((at, bytes.clone()));
        }
    }

    /// Keeps a receipt until its outcomes are in.
    pub fn open_receipt(&mut self, receipt: Receipt) -> ReceiptId {
        ReceiptId(self.state.receipts.insert(receipt) as u32)
    }

    /// Lets `change` note outcomes on a receipt and answers it when it is whole.
    pub fn note(&mut self, id: ReceiptId, change: impl FnOnce(&mut Receipt)) {
        let Some(receipt) = self.state.receipts.get_mut(id.0 as usize) else { return };
        change(receipt);
        if receipt.is_complete() {
            let receipt = self.state.receipts.remove(id.0 as usize);
            receipt.encode(&mut self.state.queue.copied);
        }
    }

    /// Notes what the answer to a request will need.
    pub fn expect(&mut self, request: RequestId, pending: Pending) {
        self.state.pending.push((request, pending));
    }

    /// A shard has answered: what its answer needs, when it needs anything.
    pub fn expected(&mut self, request: RequestId) -> Option<Pending> {
        let at = self.state.pending.iter().position(|(id, _)| *id == request);
        let pending = at.map(|at| self.state.pending.swap_remove(at).1);
        if !matches!(pending, Some(Pending::Pull)) {
            self.state.owed -= 1;
        }
        pending
    }

    /// Lets the session know that a number may be free again.
    pub fn free(&mut self, freed: Freed) {
        self.state.freed.push(freed);
    }

    /// Ends a channel subscription: what it missed is told, and nothing more of it
    /// enters the line. Its number, unless it had ended before.
    pub fn end_channel(&mut self, listener: ListenerId) -> Option<SubscriptionId> {
        let number = self.state.channels.remove(&listener)?;
        if let Some(count) = self.state.skipped.remove(&listener) {
            wire::skipped(&mut self.state.queue.copied, number, count);
        }
        Some(number)
    }

    /// Publish requests that wait for their outcome.
    #[must_use]
    pub fn open_receipts(&self) -> usize {
        self.state.receipts.len()
    }
}

impl State {
    fn is_answered(&self) -> bool {
        self.receipts.is_empty() && self.owed <= 0
    }
}

impl Outbox {
    /// An empty line.
    #[must_use]
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            given_up: Notify::new(),
            written_bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while the outbox is locked")
    }

    /// Pushes under one lock. True when the caller must `ring` once it is done
    /// with its batch; false when somebody else does or nothing was pushed.
    pub fn push(&self, fill: impl FnOnce(&mut Pen<'_>)) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        push(&mut state, fill)
    }

    /// As [`Outbox::push`], for a shard. True in the second place when so much waits
    /// that the shard must pause the connection's consumers: `resumed` is told when
    /// they may go on.
    pub fn push_effects(
        &self,
        resumed: &Arc<Resumed>,
        fill: impl FnOnce(&mut Pen<'_>),
    ) -> (bool, bool) {
        let mut state = self.lock();
        if state.closed {
            return (false, false);
        }
        let ring = push(&mut state, fill);
        let is_long = state.queued_bytes > OUTBOX_BYTES_SOFT;
        if is_long && !state.paused.iter().any(|held| Arc::ptr_eq(held, resumed)) {
            state.paused.push(resumed.clone());
        }
        (ring, is_long)
    }

    /// Pushes a run of channel messages, unless the listener is too far behind.
    /// The second value is as with [`Outbox::push`].
    pub fn push_run(
        &self,
        listener: ListenerId,
        time_ms: u64,
        count: u32,
        segments: &[Bytes],
    ) -> (Listened, bool) {
        let mut state = self.lock();
        // Gone since it was looked up: as if it had gone a moment later.
        let Some(&subscription) = state.channels.get(&listener).filter(|_| !state.closed) else {
            return (Listened::Taken, false);
        };
        let run_bytes: usize = segments.iter().map(Bytes::len).sum();
        let limit = if state.slow { OUTBOX_BYTES_SOFT } else { OUTBOX_BYTES_MAX };
        if state.queued_bytes + run_bytes > limit && state.queued_bytes > 0 {
            let total = skip(&mut state, listener, u64::from(count));
            return (Listened::Skipped(total), false);
        }
        let before = state.queue.len();
        let mut pen = Pen { state: &mut state };
        wire::channel_run_start(pen.buffer(), subscription, time_ms, count, run_bytes);
        for segment in segments {
            pen.messages(segment);
        }
        let after = state.queue.len();
        state.queued_bytes += after - before;
        let full = state.queued_bytes > OUTBOX_BYTES_SOFT;
        let ring = announce(&mut state, true);
        (if full { Listened::Full } else { Listened::Taken }, ring)
    }

    /// Wakes the write task.
    pub fn ring(&self) {
        self.filled.notify_one();
    }

    /// Waits until there is something to write and swaps it into `taken`. False
    /// when the outbox is closed and empty.
    pub async fn take(&self, taken: &mut Pieces) -> bool {
        taken.clear();
        loop {
            {
                let mut state = self.lock();
                state.announced = false;
                for (listener, count) in std::mem::take(&mut state.skipped) {
                    let Some(&subscription) = state.channels.get(&listener) else { continue };
                    let before = state.queue.copied.len();
                    wire::skipped(&mut state.queue.copied, subscription, count);
                    state.queued_bytes += state.queue.copied.len() - before;
                }
                if !state.queue.is_empty() {
                    std::mem::swap(&mut state.queue, taken);
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Says that so many bytes have reached the socket.
    pub fn written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut state = self.lock();
        state.queued_bytes = state.queued_bytes.saturating_sub(bytes);
        let mut paused = Vec::new();
        if state.queued_bytes < OUTBOX_BYTES_SOFT / 2 {
            state.slow = false;
            paused = std::mem::take(&mut state.paused);
        }
        drop(state);
        paused.iter().for_each(|shard| shard.tell(self.connection));
        self.drained.notify_waiters();
    }

    /// Numbers that have become free since the last call.
    pub fn take_freed(&self) -> Vec<Freed> {
        std::mem::take(&mut self.lock().freed)
    }

    /// Lets a new channel subscription listen under the client's number.
    pub fn open_channel(&self, number: SubscriptionId) -> ListenerId {
        let mut state = self.lock();
        let listener = ListenerId(state.listeners_made);
        state.listeners_made = state.listeners_made.wrapping_add(1);
        state.channels.insert(listener, number);
        listener
    }

    /// Ends a channel subscription that the client has given up.
    pub fn close_channel(&self, listener: ListenerId) {
        let end = |pen: &mut Pen<'_>| {
            pen.end_channel(listener);
        };
        if self.push(end) {
            self.ring();
        }
    }

    /// Counts a request that a shard will answer, or has answered already; no pull.
    pub fn owe(&self) {
        self.lock().owed += 1;
    }

    /// Waits until every request but pulls is answered.
    pub async fn wait_answered(&self) {
        self.wait_until(State::is_answered).await;
    }

    /// As [`Outbox::wait_answered`], and until every byte is written.
    pub async fn wait_settled(&self) {
        self.wait_until(|state| state.is_answered() && state.queued_bytes == 0).await;
    }

    /// Waits until less than the soft bound is queued, or the outbox is closed.
    pub async fn wait_drained(&self) {
        self.wait_until(|state| state.queued_bytes <= OUTBOX_BYTES_SOFT).await;
    }

    /// Waits until another request may be taken: few enough bytes and few enough
    /// requests wait for this client, or the outbox is closed.
    pub async fn wait_room(&self) {
        self.wait_until(|state| {
            let reads = state.pending.iter().filter(|(_, it)| matches!(it, Pending::Read));
            state.queued_bytes <= OUTBOX_BYTES_SOFT
                && state.pending.len() < REQUESTS_IN_FLIGHT_MAX as usize
                && reads.count() < READS_IN_FLIGHT_MAX
        })
        .await;
    }

    /// Waits until every byte has reached the socket, also of a closed outbox.
    pub async fn wait_written(&self) {
        self.wait_for(|state| state.queued_bytes == 0).await;
    }

    /// Waits until `abandon`: what is being written need not be finished.
    pub async fn abandoned(&self) {
        self.given_up.notified().await;
    }

    async fn wait_until(&self, mut is_so: impl FnMut(&State) -> bool) {
        self.wait_for(|state| state.closed || is_so(state)).await;
    }

    async fn wait_for(&self, mut is_so: impl FnMut(&State) -> bool) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                if is_so(&self.lock()) {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Marks the listener as not keeping up: it is not waited for until it has
    /// caught up.
    pub fn mark_slow(&self) {
        self.lock().slow = true;
    }

    /// Whether its listener is behind and not to be waited for.
    pub fn is_slow(&self) -> bool {
        self.lock().slow
    }

    /// Bytes that wait or are being written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().queued_bytes
    }

    /// Bytes ever written to the socket.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Takes no more. What is queued is still written.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.receipts.clear();
        drop(state);
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Drops all it holds: the socket is gone, and publishers may know this outbox for long.
    pub fn abandon(&self) {
        let mut state = self.lock();
        // No listener's number is used again, whoever still has one.
        let listeners_made = state.listeners_made;
        let empty = State { closed: true, listeners_made, ..State::default() };
        let held = std::mem::replace(&mut *state, empty);
        drop(state);
        drop(held);
        self.given_up.notify_one();
        self.filled.notify_one();
        self.drained.notify_waiters();
    }
}

fn push(state: &mut State, fill: impl FnOnce(&mut Pen<'_>)) -> bool {
    let before = state.queue.len();
    fill(&mut Pen { state });
    let after = state.queue.len();
    state.queued_bytes += after - before;
    announce(state, after > before)
}

fn announce(state: &mut State, pushed: bool) -> bool {
    let ring = pushed && !state.announced;
    state.announced |= pushed;
    ring
}

fn skip(state: &mut State, listener: ListenerId, count: u64) -> u64 {
    let skipped = state.skipped.entry(listener).or_default();
    *skipped += count;
    *skipped
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::receipt::Request;

    fn receipt() -> Receipt {
        Receipt { requests: vec![Request::new(RequestId(1), 0, 1)], outstanding: 1 }
    }

    #[test]
    fn everything_but_pulls_is_waited_for() {
        let outbox = Outbox::new(ConnectionId(1));
        let is_answered = || outbox.wait_answered().now_or_never().is_some();
        let answer = |id| {
            let mut pending = None;
            outbox.push(|pen| pending = pen.expected(RequestId(id)));
            pending
        };
        outbox.push(|pen| pen.expect(RequestId(1), Pending::Pull));
        assert!(is_answered());
        outbox.owe();
        assert!(!is_answered());
        assert!(matches!(answer(1), Some(Pending::Pull)));
        assert!(!is_answered(), "a pull's answer stands for no other");
        assert!(answer(2).is_none());
        assert!(is_answered());
        outbox.push(|pen| pen.expect(RequestId(3), Pending::Read));
        outbox.owe();
        assert!(!is_answered());
        assert!(matches!(answer(3), Some(Pending::Read)));
        assert!(is_answered());
        // The shard was quicker than who counts.
        assert!(answer(4).is_none());
        outbox.owe();
        assert!(is_answered());
        outbox.push(|pen| {
            pen.open_receipt(receipt());
        });
        assert!(!is_answered());
        outbox.close();
        assert!(is_answered(), "nobody would hear the answer");
    }

    #[test]
    fn an_abandoned_outbox_holds_nothing() {
        let outbox = Outbox::new(ConnectionId(1));
        let listener = outbox.open_channel(SubscriptionId(1));
        outbox.push(|pen| {
            pen.buffer().resize(OUTBOX_BYTES_SOFT, 0);
            pen.open_receipt(receipt());
            pen.expect(RequestId(2), Pending::Read);
        });
        outbox.abandon();
        let state = outbox.lock();
        assert!(state.closed);
        assert_eq!((state.queued_bytes, state.queue.copied.capacity()), (0, 0));
        assert_eq!((state.receipts.capacity(), state.pending.capacity()), (0, 0));
        assert_eq!(state.channels.capacity(), 0);
        drop(state);
        assert_ne!(outbox.open_channel(SubscriptionId(1)), listener);
    }
}
