//! What the tasks of one client share: bytes to write, requests without an answer,
//! subscriptions. One lock, taken per message by publishers for some tens of
//! nanoseconds (and for a short write, see [`Line`]), per frame by reader and writer, and
//! never held across an await.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use weir_protocol::limits::CREDIT_MAX;
use weir_protocol::{
    HelloAnswer, Published, RequestId, SubscriptionId, encode_credit, encode_request,
};

use crate::inbox::Inbox;
use crate::line::Line;
use crate::outgoing::{FrameInFlight, Outgoing};
use crate::pending::{Pending, Reply};
use crate::publisher::ReceiptState;
use crate::{ConnectOptions, Error, Message};

/// Where the client stands.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// Connected; counts connections from 1.
    Connected(u32),
    /// The connection is lost; the client tries to come back.
    Reconnecting {
        /// Attempts so far.
        attempts: u32,
        /// Why the last one failed, or why the connection was lost.
        reason: Error,
    },
    /// For good.
    Closed,
}

/// Everything behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) outgoing: Outgoing,
    /// Messages without confirmation in the bytes that the writer holds, or is to write
    /// first.
    pub(crate) writing_unconfirmed: u64,
    pub(crate) frames: HashMap<u32, FrameInFlight>,
    pub(crate) pending: HashMap<u32, Pending>,
    pub(crate) inboxes: HashMap<u32, Arc<Inbox>>,
    /// Consumers with settlements to write.
    pub(crate) settling: Vec<Arc<Inbox>>,
    /// The writer waits for `wake`.
    pub(crate) writer_idle: bool,
    /// Where to write; none without a connection.
    pub(crate) line: Option<Line>,
    pub(crate) connected: bool,
    /// Longest frame the broker takes, bytes.
    pub(crate) frame_bytes_max: u32,
    /// No further calls are taken; what waits is written, then the socket closes.
    pub(crate) closing: bool,
    next_id: u32,
    next_subscription: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ConnectOptions,
    state: Mutex<State>,
    /// Wakes the writer.
    pub(crate) wake: Notify,
    /// Wakes publishers that wait for room.
    pub(crate) room: Notify,
    pub(crate) status: watch::Sender<ConnectionState>,
    /// Messages without confirmation that a lost connection may have swallowed.
    pub(crate) lost: AtomicU64,
}

impl State {
    /// The next request's id, never 0.
    pub(crate) fn next_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.next_id
    }

    /// The next subscription's number.
    pub(crate) fn next_subscription(&mut self) -> u32 {
        self.next_subscription = self.next_subscription.wrapping_add(1).max(1);
        self.next_subscription
    }

    /// Writes a control frame that asks for an answer. Returns its id.
    pub(crate) fn ask(&mut self, pending: Pending, encode: impl FnOnce(&mut Vec<u8>, u32)) -> u32 {
        let id = self.next_id();
        encode(&mut self.outgoing.control, id);
        self.outgoing.control_ids.push(id);
        self.pending.insert(id, pending);
        id
    }

    /// As [`State::ask`], of this connection alone: when it breaks before the answer,
    /// the question is withdrawn, and whoever waits is told.
    pub(crate) fn ask_bound(
        &mut self,
        pending: Pending,
        encode: impl FnOnce(&mut Vec<u8>, u32),
    ) -> u32 {
        let id = self.next_id();
        self.outgoing.bind(|out| encode(out, id));
        self.pending.insert(id, pending);
        id
    }

    /// A caller waits for this answer no more, if it has not got it. Without a connection
    /// the question has not left, and is withdrawn.
    pub(crate) fn forget(&mut self, id: u32) {
        // The broker counts a settlement once: the answer is kept for the next flush.
        if matches!(self.pending.get(&id), Some(Pending::Flush(..))) {
            return;
        }
        let was_waiting = self.pending.remove(&id).is_some();
        // Not each one by itself: half of them at once cost each of them little.
        if was_waiting
            && !self.connected
            && self.outgoing.control_ids.len() > 2 * self.pending.len()
        {
            self.withdraw_forgotten();
        }
    }

    /// Withdraws the questions that nobody waits for: the next connection would act on
    /// them late, behind the back of whoever gave them up.
    fn withdraw_forgotten(&mut self) {
        let pending = &self.pending;
        self.outgoing.retain_questions(|id| pending.contains_key(&id));
    }

    /// Gives a consumer credit. A connection that stands is told; the next one begins
    /// with it. Both under one lock, so that no connection is given it twice.
    pub(crate) fn add_credit(&mut self, inbox: &Inbox, amount: u32) {
        inbox.add_credit(amount);
        if self.connected {
            // A frame over the limit would end the connection.
            self.outgoing.bind(|out| encode_credit(out, inbox.id, amount.min(CREDIT_MAX)));
        }
    }

    /// Appends a message to the open publish frame, or begins another one.
    fn append(
        &mut self,
        message: &Message<'_>,
        receipt: Option<(&Arc<ReceiptState>, u64)>,
        keep: bool,
    ) -> Result<usize, Error> {
        let limit = self.frame_bytes_max;
        if !self.outgoing.joins(message, receipt.map(|(receipt, _)| receipt), limit) {
            self.close_frame(keep);
            let id = if receipt.is_some() { self.next_id() } else { 0 };
            let first = receipt.map_or(0, |(_, first)| first);
            let receipt = receipt.map(|(receipt, _)| receipt.clone());
            self.outgoing.begin(id, message.delay_ms, receipt, first);
        }
        self.outgoing.append(message, limit)
    }

    /// Moves everything that waits into `buffer`, which is empty: what resumes
    /// subscriptions, publish frames, then settlements (so that a result is published
    /// before its input is acked), then requests (so that they see both).
    fn take_outgoing(&mut self, buffer: &mut Vec<u8>, keep: bool) {
        self.close_frame(keep);
        self.outgoing.take_publish(buffer);
        self.writing_unconfirmed = std::mem::take(&mut self.outgoing.unconfirmed);
        for inbox in std::mem::take(&mut self.settling) {
            inbox.write_settlements(buffer);
        }
        self.outgoing.take_control(buffer);
    }

    /// Closes the open publish frame and remembers it until it is confirmed.
    pub(crate) fn close_frame(&mut self, keep: bool) {
        if let Some((id, frame)) = self.outgoing.close(keep) {
            self.frames.insert(id, frame);
        }
    }
}

/// What found room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pushed {
    /// The first so many of the messages.
    pub(crate) messages: usize,
    /// Their encoded length, bytes.
    pub(crate) bytes: usize,
}

impl Shared {
    pub(crate) fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            state: Mutex::new(State {
                outgoing: Outgoing::default(),
                writing_unconfirmed: 0,
                frames: HashMap::new(),
                pending: HashMap::new(),
                inboxes: HashMap::new(),
                settling: Vec::new(),
                writer_idle: false,
                line: None,
                connected: false,
                frame_bytes_max: weir_protocol::limits::FRAME_BYTES_MAX,
                closing: false,
                next_id: 0,
                next_subscription: 0,
            }),
            wake: Notify::new(),
            room: Notify::new(),
            status: watch::Sender::new(ConnectionState::Connected(0)),
            lost: AtomicU64::new(0),
        }
    }

    /// The state. A panic elsewhere under the lock leaves plain counters behind,
    /// so a poisoned lock is taken as it is.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock, and wakes the writer if it waits: or does its work, see
    /// [`Line`].
    pub(crate) fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        let is_idle = std::mem::take(&mut state.writer_idle);
        if !is_idle {
            return;
        }
        let waiting = state.outgoing.publish_len() + state.outgoing.control.len();
        if let Some(mut line) = state.line.take_if(|line| line.is_for_callers(waiting)) {
            state.take_outgoing(&mut line.begun, self.options.resend_unconfirmed);
            let is_written = line.write_now();
            state.line = Some(line);
            state.writer_idle = is_written;
            if is_written {
                state.writing_unconfirmed = 0;
                drop(state);
                return self.room.notify_waiters();
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Adds messages to what waits for the socket, one after the other under one lock,
    /// as long as there is room.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::InvalidMessage`]; [`Error::MessageTooLarge`] of the
    /// first message: one further behind ends what is pushed.
    pub(crate) fn push_some(
        &self,
        messages: &[Message<'_>],
        receipt: Option<(&Arc<ReceiptState>, u64)>,
    ) -> Result<Pushed, Error> {
        messages.iter().try_for_each(Message::check)?;
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closing {
            return Err(Error::Closed);
        }
        let mut pushed = Pushed::default();
        for message in messages {
            if state.outgoing.publish_len() >= self.options.outgoing_bytes_max {
                break;
            }
            let receipt = receipt.map(|(receipt, first)| (receipt, first + pushed.messages as u64));
            match state.append(message, receipt, self.options.resend_unconfirmed) {
                Ok(bytes) => pushed.bytes += bytes,
                Err(_) if pushed.messages > 0 => break,
                Err(error) => return Err(error),
            }
            pushed.messages += 1;
        }
        if pushed.messages > 0 {
            self.wake_writer(guard);
        }
        Ok(pushed)
    }

    /// Like [`Shared::push_some`], and waits for room for one at least.
    pub(crate) async fn push_waiting(
        &self,
        messages: &[Message<'_>],
        receipt: Option<(&Arc<ReceiptState>, u64)>,
    ) -> Result<Pushed, Error> {
        let pushed = self.push_some(messages, receipt)?;
        if pushed.messages > 0 || messages.is_empty() {
            return Ok(pushed);
        }
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let pushed = self.push_some(messages, receipt)?;
            if pushed.messages > 0 {
                return Ok(pushed);
            }
            room.await;
        }
    }

    /// Moves everything that waits into `buffer`, which is empty. What a caller has
    /// begun to write comes alone, before everything else.
    pub(crate) fn take_outgoing(&self, buffer: &mut Vec<u8>) -> Taken {
        let mut state = self.lock();
        if let Some(line) = state.line.as_mut().filter(|line| !line.begun.is_empty()) {
            std::mem::swap(&mut line.begun, buffer);
            return Taken::Bytes;
        }
        state.take_outgoing(buffer, self.options.resend_unconfirmed);
        if !buffer.is_empty() {
            Taken::Bytes
        } else if state.closing {
            Taken::Closing
        } else {
            state.writer_idle = true;
            Taken::Nothing
        }
    }

    /// What the writer took is on its way.
    pub(crate) fn wrote(&self) {
        let mut state = self.lock();
        state.writing_unconfirmed = 0;
        if let Some(line) = &mut state.line {
            line.wrote();
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// The connection is gone. Whoever waits for an answer that cannot come is
    /// told; what was not yet written stays for the next connection, unless it was
    /// for this one alone.
    pub(crate) fn connection_lost(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.connected = false;
        state.writer_idle = false;
        state.line = None;
        state.close_frame(self.options.resend_unconfirmed);
        let swallowed = std::mem::take(&mut state.writing_unconfirmed);
        self.lost.fetch_add(swallowed, Ordering::Relaxed);
        if swallowed > 0 {
            tracing::warn!(messages = swallowed, "published without confirmation, may be lost");
        }
        self.settle_frames(state);
        state.outgoing.drop_bound();
        let unsent: HashSet<u32> = state.outgoing.control_ids.iter().copied().collect();
        let lost: Vec<u32> =
            state.pending.keys().filter(|id| !unsent.contains(*id)).copied().collect();
        let lost: Vec<_> = lost.iter().filter_map(|id| state.pending.remove(id)).collect();
        state.settling.clear();
        let inboxes: Vec<_> = state.inboxes.values().cloned().collect();
        drop(guard);
        for inbox in inboxes {
            inbox.connection_lost();
        }
        // Whoever is told finds everything as it is now.
        for pending in lost {
            pending.fail(Error::ConnectionLost { unconfirmed: 0 });
        }
    }

    /// Publish frames on the wire: sent again, or reported as lost.
    fn settle_frames(&self, state: &mut State) {
        let State { outgoing, frames, .. } = state;
        let unsent: HashSet<u32> = outgoing.publish_ids.iter().copied().collect();
        let mut written: Vec<u32> =
            frames.keys().filter(|id| !unsent.contains(*id)).copied().collect();
        if self.options.resend_unconfirmed {
            written.sort_unstable();
            return outgoing.put_first(written.iter().map(|id| (*id, &frames[id].copy[..])));
        }
        for id in written {
            if let Some(frame) = frames.remove(&id) {
                frame.receipt.lost(&frame);
            }
        }
    }

    /// A new connection stands: subscriptions are asked for again, before
    /// everything that waits. What nobody waits for any more is not asked.
    pub(crate) fn connection_made(&self, hello: &HelloAnswer) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.connected = true;
        state.frame_bytes_max = hello.limits.frame_bytes;
        state.withdraw_forgotten();
        let inboxes: Vec<_> =
            state.inboxes.values().filter(|inbox| inbox.is_established()).cloned().collect();
        for inbox in inboxes {
            let id = state.next_id();
            encode_request(&mut state.outgoing.resumes, RequestId(id), &inbox.request());
            state.pending.insert(id, Pending::Resume(inbox));
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, id: u32, answer: Result<Reply, Error>) {
        let mut state = self.lock();
        if let Some(frame) = state.frames.remove(&id) {
            drop(state);
            match answer {
                Err(Error::Refused(error)) => frame.receipt.refused(&frame, &error),
                _ => frame.receipt.lost(&frame),
            }
            return;
        }
        match state.pending.remove(&id) {
            Some(Pending::Caller(caller, inbox)) => {
                if let (Some(inbox), Ok(_)) = (inbox, &answer) {
                    inbox.established();
                }
                // A caller that stopped waiting needs no answer.
                let _ = caller.send(answer);
            }
            Some(Pending::Flush(caller, inbox, asked)) => {
                if let Ok(Reply::Ok(body)) = &answer
                    && let Ok(count) = body.decode()
                {
                    inbox.counted(asked, count);
                }
                // A caller that stopped waiting leaves the count to the next.
                let _ = caller.send(answer);
            }
            Some(Pending::Resume(inbox)) => {
                if let Err(error) = answer {
                    state.inboxes.remove(&inbox.id.0);
                    drop(state);
                    inbox.end(error);
                }
            }
            Some(Pending::Nobody) | None => {}
        }
    }

    /// A publish frame was answered.
    pub(crate) fn published(&self, id: u32, outcome: Published) {
        let frame = self.lock().frames.remove(&id);
        if let Some(frame) = frame {
            frame.receipt.answered(&frame, outcome);
        }
    }

    /// The inbox of a subscription.
    pub(crate) fn inbox(&self, id: SubscriptionId) -> Option<Arc<Inbox>> {
        self.lock().inboxes.get(&id.0).cloned()
    }

    /// Nothing will come any more: everybody who waits is told `error`.
    pub(crate) fn end(&self, error: &Error) {
        let mut state = self.lock();
        state.closing = true;
        state.connected = false;
        state.close_frame(false);
        let frames = std::mem::take(&mut state.frames);
        let pending = std::mem::take(&mut state.pending);
        let inboxes = std::mem::take(&mut state.inboxes);
        state.outgoing = Outgoing::default();
        drop(state);
        for frame in frames.into_values() {
            frame.receipt.lost(&frame);
        }
        // Who waits for an answer about one of them finds why it ended.
        for inbox in inboxes.into_values() {
            inbox.end(error.clone());
        }
        for waiting in pending.into_values() {
            waiting.fail(error.clone());
        }
        self.status.send_replace(ConnectionState::Closed);
        self.room.notify_waiters();
    }
}

/// What [`Shared::take_outgoing`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes to write.
    Bytes,
    /// Nothing; the writer is marked as idle.
    Nothing,
    /// Nothing, and nothing will come: the socket may close.
    Closing,
}
