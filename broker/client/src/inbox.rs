//! One subscription's or consumer's side of the connection: deliveries that wait
//! for their reader, and settlements that wait for the writer.
//!
//! The connection's reader pushes, the subscription takes, deliveries settle from
//! any task. Every loss of the connection begins a new epoch: what was delivered
//! in an older one can no longer be settled, and saying so is harmless.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use weir_protocol::limits::{CREDIT_MAX, DELAY_MS_MAX};
use weir_protocol::{
    Consume, Request, RequestId, Run, SettleCount, Subscribe, SubscriptionId, TagRange, Verb,
    encode_settle,
};

use crate::limits::{LAG_WAIT, SETTLE_RANGES_MAX};
use crate::lost::LostStretches;
use crate::shared::Shared;
use crate::{Delivery, DeliveryBatch, Error, Lost};

/// How many kinds of settlement are looked through for one to join.
const VERBS_LOOKED_AT: usize = 8;

/// What an inbox is for.
#[derive(Debug)]
pub(crate) enum Source {
    /// Channels.
    Channel(Subscribe),
    /// A queue or a group.
    Consumer(Consume),
    /// Answers to requests, by the last token of their subject.
    Replies(Subscribe, Mutex<HashMap<u64, oneshot::Sender<Delivery>>>),
}

/// Delivery tags `first..first + count`; tag 0 stands for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagRun {
    pub(crate) first: u64,
    pub(crate) count: u32,
}

#[derive(Debug, Default)]
struct Queue {
    runs: Vec<Run>,
    bytes: usize,
    epoch: u32,
    /// Nothing more will come, and why.
    ended: Option<Error>,
    /// The reader knows why.
    end_told: bool,
    waker: Option<Waker>,
}

/// Settlements of which nobody knows yet what became of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untold {
    pub(crate) epoch: u32,
    /// The last of them, as they are counted.
    last: u64,
    /// Some of them were of a connection that is lost: of those alone the next flush tells.
    pub(crate) lost: bool,
}

#[derive(Debug, Default)]
struct Settlements {
    epoch: u32,
    /// In the writer's list.
    queued: bool,
    /// Settlements noted so far, counted by calls.
    noted: u64,
    /// Those of them that went with connections that were lost.
    void: u64,
    /// Those of which a flush has told, or that the broker has counted for one.
    told: u64,
    /// What the broker counted and no flush has told.
    counted: SettleCount,
    verbs: Vec<(Verb, Vec<TagRange>)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) id: SubscriptionId,
    source: Source,
    /// Most bytes kept; beyond it channels skip. Consumers are bounded by credit.
    bytes_max: usize,
    shared: Weak<Shared>,
    established: AtomicBool,
    /// Credit given after the start.
    credit_added: AtomicU32,
    skipped: AtomicU64,
    lost: Mutex<LostStretches>,
    resumed: AtomicU32,
    queue: Mutex<Queue>,
    /// Told when a long queue was taken.
    drained: Notify,
    /// Did not keep up, and is not waited for until it has.
    slow: AtomicBool,
    settlements: Mutex<Settlements>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub(crate) fn new(
        id: SubscriptionId,
        source: Source,
        bytes_max: usize,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            id,
            source,
            bytes_max,
            shared: Arc::downgrade(shared),
            established: AtomicBool::new(false),
            credit_added: AtomicU32::new(0),
            skipped: AtomicU64::new(0),
            lost: Mutex::default(),
            resumed: AtomicU32::new(0),
            queue: Mutex::default(),
            drained: Notify::new(),
            slow: AtomicBool::new(false),
            settlements: Mutex::default(),
        }
    }

    /// The request that begins it.
    pub(crate) fn request(&self) -> Request {
        match &self.source {
            Source::Channel(body) | Source::Replies(body, _) => Request::Subscribe(body.clone()),
            Source::Consumer(body) => {
                let mut body = body.clone();
                // No connection is given more: the broker would refuse the consumer.
                let room = CREDIT_MAX.saturating_sub(body.credit);
                body.credit += self.credit_added.load(Ordering::Relaxed).min(room);
                Request::Consume(body)
            }
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established.load(Ordering::Acquire)
    }

    pub(crate) fn established(&self) {
        self.established.store(true, Ordering::Release);
    }

    /// For [`crate::shared::State::add_credit`] alone, which holds the lock.
    pub(crate) fn add_credit(&self, amount: u32) {
        let added = self.credit_added.load(Ordering::Relaxed).saturating_add(amount);
        self.credit_added.store(added, Ordering::Relaxed);
    }

    /// Messages missed because reader or network were too slow.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The broker, or [`Inbox::deliver`], left out so many.
    pub(crate) fn skip(&self, count: u64) {
        self.skipped.fetch_add(count, Ordering::Relaxed);
    }

    /// The broker cannot read messages any more that it has kept for this.
    pub(crate) fn lose(&self, lost: Lost) {
        lock(&self.lost).note(lost);
    }

    /// What was lost since the last call.
    pub(crate) fn take_lost(&self) -> Vec<Lost> {
        lock(&self.lost).take()
    }

    /// Connections it has survived.
    pub(crate) fn resumed(&self) -> u32 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Whether deliveries of that epoch will come again.
    pub(crate) fn is_void(&self, epoch: u32) -> bool {
        matches!(self.source, Source::Consumer(_)) && epoch != self.resumed()
    }

    /// Deliveries arrived.
    pub(crate) fn deliver(self: &Arc<Self>, runs: Vec<Run>) {
        if let Source::Replies(_, waiting) = &self.source {
            return self.deliver_replies(waiting, runs);
        }
        let bytes: usize = runs.iter().map(|run| run.batch.bytes.len()).sum();
        let mut queue = lock(&self.queue);
        // Only channels may skip; a consumer's deliveries are leased to it.
        if matches!(self.source, Source::Channel(_))
            && !queue.runs.is_empty()
            && queue.bytes + bytes > self.bytes_max
        {
            drop(queue);
            self.skip(runs.iter().map(|run| run.batch.len() as u64).sum());
            return;
        }
        queue.bytes += bytes;
        if queue.runs.is_empty() {
            queue.runs = runs;
        } else {
            queue.runs.extend(runs);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn deliver_replies(
        &self,
        waiting: &Mutex<HashMap<u64, oneshot::Sender<Delivery>>>,
        runs: Vec<Run>,
    ) {
        for delivery in (DeliveryBatch { inbox: None, epoch: 0, runs }) {
            let token = delivery.subject().rsplit('.').next().and_then(|token| token.parse().ok());
            let caller = token.and_then(|token: u64| lock(waiting).remove(&token));
            if let Some(caller) = caller {
                // A caller that stopped waiting needs no answer.
                let _ = caller.send(delivery);
            }
        }
    }

    /// Who waits for replies; `None` for other inboxes.
    pub(crate) fn replies(
        &self,
    ) -> Option<MutexGuard<'_, HashMap<u64, oneshot::Sender<Delivery>>>> {
        match &self.source {
            Source::Replies(_, waiting) => Some(lock(waiting)),
            _ => None,
        }
    }

    /// Everything that is there, or the end.
    pub(crate) fn poll_batch(
        self: &Arc<Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<DeliveryBatch>, Error>> {
        let mut queue = lock(&self.queue);
        if let Some(batch) = self.take(&mut queue) {
            return Poll::Ready(Ok(Some(batch)));
        }
        let Some(reason) = queue.ended.clone() else {
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        // The reason is told once; afterwards the end is just the end.
        let is_told = std::mem::replace(&mut queue.end_told, true);
        Poll::Ready(if is_told { Ok(None) } else { Err(reason) })
    }

    /// Everything that is there.
    pub(crate) fn take_batch(self: &Arc<Self>) -> Option<DeliveryBatch> {
        self.take(&mut lock(&self.queue))
    }

    fn take(self: &Arc<Self>, queue: &mut Queue) -> Option<DeliveryBatch> {
        if queue.runs.is_empty() {
            return None;
        }
        if self.is_long(queue) {
            self.slow.store(false, Ordering::Relaxed);
            self.drained.notify_waiters();
        }
        queue.bytes = 0;
        let runs = std::mem::take(&mut queue.runs);
        Some(DeliveryBatch { inbox: Some(self.clone()), epoch: queue.epoch, runs })
    }

    /// Whether half of what a channel may keep waits.
    fn is_long(&self, queue: &Queue) -> bool {
        matches!(self.source, Source::Channel(_)) && queue.bytes > self.bytes_max / 2
    }

    /// Waits a little for a subscription that lags, so that a fast broker does not
    /// outrun its reader. One that takes nothing in that time is not waited for again
    /// until it has.
    pub(crate) async fn keep_up(&self) {
        if self.slow.load(Ordering::Relaxed) {
            return;
        }
        let drained = self.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        let is_long = self.is_long(&lock(&self.queue));
        if is_long && timeout(LAG_WAIT, drained).await.is_err() {
            self.slow.store(true, Ordering::Relaxed);
        }
    }

    /// Nothing more will come: `error` is told to the reader, after what waits.
    pub(crate) fn end(&self, error: Error) {
        let mut queue = lock(&self.queue);
        if queue.ended.is_none() {
            // That the client was closed is no news to whoever reads.
            queue.end_told = matches!(error, Error::Closed);
            queue.ended = Some(error);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(replies) = self.replies().as_mut() {
            replies.clear();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why nothing more will come, however often it was told; `None` while something may.
    pub(crate) fn ended(&self) -> Option<Error> {
        lock(&self.queue).ended.clone()
    }

    /// A new epoch. What a consumer has not looked at yet is dropped: the broker
    /// hands it out again. What a channel delivered stays.
    pub(crate) fn connection_lost(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        queue.epoch += 1;
        if matches!(self.source, Source::Consumer(_)) {
            queue.runs.clear();
            queue.bytes = 0;
        }
        let epoch = queue.epoch;
        drop(queue);
        let mut settlements = lock(&self.settlements);
        let Settlements { noted, told, counted, .. } = *settlements;
        *settlements =
            Settlements { epoch, noted, void: noted, told, counted, ..Settlements::default() };
    }

    /// Notes a settlement for the writer, within the protocol's limits: a frame beyond
    /// them would end the connection.
    pub(crate) fn settle(
        self: &Arc<Self>,
        epoch: u32,
        verb: Verb,
        runs: impl IntoIterator<Item = TagRun>,
    ) {
        let verb = within_limits(verb);
        let mut settlements = lock(&self.settlements);
        if settlements.epoch != epoch {
            return;
        }
        let verbs = &mut settlements.verbs;
        let mut at = None;
        for run in runs.into_iter().filter(|run| run.first != 0 && run.count != 0) {
            let at = *at.get_or_insert_with(|| place_of(verbs, verb));
            push_range(&mut verbs[at].1, run);
        }
        settlements.noted += u64::from(at.is_some());
        if at.is_none() || std::mem::replace(&mut settlements.queued, true) {
            return;
        }
        drop(settlements);
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.lock();
            state.settling.push(self.clone());
            shared.wake_writer(state);
        }
    }

    /// Appends settle frames for what was noted; they ask for no answer.
    pub(crate) fn write_settlements(&self, out: &mut Vec<u8>) {
        for (verb, ranges) in self.take_settlements() {
            encode_settle(out, RequestId(0), self.id, verb, &ranges);
        }
    }

    /// What a flush has to ask for; `None` when all is told.
    pub(crate) fn untold(&self) -> Option<Untold> {
        let Settlements { epoch, noted, void, told, .. } = *lock(&self.settlements);
        let lost = void > told;
        (noted > told).then_some(Untold { epoch, last: if lost { void } else { noted }, lost })
    }

    /// A flush knows what became of these, or that nobody does.
    pub(crate) fn told(&self, of: Untold) {
        let mut settlements = lock(&self.settlements);
        settlements.told = settlements.told.max(of.last);
    }

    /// The broker answered a flush of these, whether or not somebody still waits for it.
    pub(crate) fn counted(&self, of: Untold, count: SettleCount) {
        let mut settlements = lock(&self.settlements);
        settlements.told = settlements.told.max(of.last);
        settlements.counted.done += count.done;
        settlements.counted.unknown += count.unknown;
    }

    /// What was counted since the last call.
    pub(crate) fn take_counted(&self) -> SettleCount {
        std::mem::take(&mut lock(&self.settlements).counted)
    }

    /// What was noted, ordered and joined, in portions that fit a frame.
    fn take_settlements(&self) -> Vec<(Verb, Vec<TagRange>)> {
        let mut settlements = lock(&self.settlements);
        settlements.queued = false;
        let verbs = std::mem::take(&mut settlements.verbs);
        drop(settlements);
        let mut portions = Vec::with_capacity(verbs.len());
        for (verb, mut ranges) in verbs {
            join_ranges(&mut ranges);
            while ranges.len() > SETTLE_RANGES_MAX {
                let rest = ranges.split_off(SETTLE_RANGES_MAX);
                portions.push((verb, std::mem::replace(&mut ranges, rest)));
            }
            portions.push((verb, ranges));
        }
        portions
    }
}

fn within_limits(verb: Verb) -> Verb {
    match verb {
        Verb::Nack { delay_ms } => Verb::Nack { delay_ms: delay_ms.min(DELAY_MS_MAX) },
        Verb::Extend { by_ms } => Verb::Extend { by_ms: by_ms.min(DELAY_MS_MAX) },
        Verb::Ack | Verb::Reject { .. } => verb,
    }
}

/// Where a settlement joins others of its verb. None passes an extension, and an extension
/// passes none: of one delivery they would leave in the wrong order.
fn place_of(verbs: &mut Vec<(Verb, Vec<TagRange>)>, verb: Verb) -> usize {
    let is_extend = |verb: Verb| matches!(verb, Verb::Extend { .. });
    let looked_at = if is_extend(verb) { 1 } else { VERBS_LOOKED_AT };
    let found = verbs
        .iter()
        .rev()
        .take(looked_at)
        .take_while(|(other, _)| *other == verb || !is_extend(*other))
        .position(|(other, _)| *other == verb);
    match found {
        Some(behind) => verbs.len() - 1 - behind,
        None => {
            verbs.push((verb, Vec::new()));
            verbs.len() - 1
        }
    }
}

fn push_range(ranges: &mut Vec<TagRange>, run: TagRun) {
    let last = run.first + u64::from(run.count) - 1;
    match ranges.last_mut() {
        Some(range) if range.last + 1 == run.first => range.last = last,
        _ => ranges.push(TagRange { first: run.first, last }),
    }
}

/// Sorts ranges and joins neighbours: tasks that finish out of order still settle
/// in a few ranges.
fn join_ranges(ranges: &mut Vec<TagRange>) {
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.dedup_by(|next, kept| {
        let joins = next.first <= kept.last + 1;
        if joins {
            kept.last = kept.last.max(next.last);
        }
        joins
    });
}

#[cfg(test)]
mod tests;
