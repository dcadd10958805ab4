//! Receiving: subscriptions to channels, consumers of queues and groups.
//!
//! Both are one inbox and a place in the batch that was last taken from it. Taking
//! a batch takes everything that is there, under one lock.

mod pull;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::oneshot;
use weir_protocol::{
    Consume, Request, RequestId, SettleCount, Subscribe, SubscriptionId, Unsubscribe, Verb,
    encode_request, encode_settle,
};

use crate::client::Handle;
use crate::delivery::BatchIntoIter;
use crate::inbox::{Inbox, Source, TagRun, Untold};
use crate::pending::{Asked, Pending, Reply};
use crate::{ConsumeOptions, Delivery, DeliveryBatch, Error, Lost, SubscribeOptions};
use pull::Pulls;

/// An inbox that is asked for, and the place in its deliveries.
#[derive(Debug)]
struct Receiver {
    handle: Arc<Handle>,
    inbox: Arc<Inbox>,
    current: Option<BatchIntoIter>,
    /// Tags to ack when the next deliveries are asked for; `None` for never.
    auto_ack: Option<(u32, Vec<TagRun>)>,
}

impl Receiver {
    /// Makes the inbox and asks the broker to fill it.
    async fn open(
        handle: &Arc<Handle>,
        what: &'static str,
        bytes_max: usize,
        auto_ack: bool,
        source: impl FnOnce(SubscriptionId) -> Source,
    ) -> Result<Self, Error> {
        let inbox = open_inbox(handle, what, bytes_max, source).await?;
        let auto_ack = auto_ack.then(|| (0, Vec::new()));
        Ok(Self { handle: handle.clone(), inbox, current: None, auto_ack })
    }

    fn ack_the_last(&mut self) {
        if let Some((epoch, runs)) = &mut self.auto_ack {
            self.inbox.settle(*epoch, Verb::Ack, runs.drain(..));
        }
    }

    /// Drops deliveries of a lost connection: the broker hands them out again.
    fn drop_void(&mut self) {
        if self.current.as_ref().is_some_and(|rest| self.inbox.is_void(rest.epoch())) {
            self.current = None;
        }
    }

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<DeliveryBatch>, Error>> {
        self.ack_the_last();
        self.drop_void();
        if let Some(rest) = self.current.take().and_then(BatchIntoIter::into_rest) {
            return Poll::Ready(Ok(Some(self.handed_over(rest))));
        }
        match self.inbox.poll_batch(context) {
            Poll::Ready(Ok(Some(batch))) => Poll::Ready(Ok(Some(self.handed_over(batch)))),
            other => other,
        }
    }

    /// At most `count` of what is there; what is behind them stays for the next call.
    fn take_some(&mut self, count: u32) -> Option<DeliveryBatch> {
        let rest = self.current.take().and_then(BatchIntoIter::into_rest);
        let mut batch = rest.or_else(|| self.inbox.take_batch())?;
        self.current = batch.split_off(count as usize).map(IntoIterator::into_iter);
        (!batch.is_empty()).then(|| self.handed_over(batch))
    }

    fn handed_over(&mut self, batch: DeliveryBatch) -> DeliveryBatch {
        if let Some((epoch, runs)) = &mut self.auto_ack {
            *epoch = batch.epoch;
            runs.extend(batch.tag_runs());
        }
        batch
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Delivery>, Error>> {
        self.ack_the_last();
        self.drop_void();
        loop {
            if let Some(delivery) = self.current.as_mut().and_then(Iterator::next) {
                if let Some((epoch, runs)) = &mut self.auto_ack {
                    *epoch = delivery.epoch();
                    runs.push(delivery.tag_run());
                }
                return Poll::Ready(Ok(Some(delivery)));
            }
            match self.inbox.poll_batch(context) {
                Poll::Ready(Ok(Some(batch))) => self.current = Some(batch.into_iter()),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        close_inbox(&self.handle, &self.inbox);
    }
}

/// Makes an inbox and asks the broker to fill it.
pub(crate) async fn open_inbox(
    handle: &Arc<Handle>,
    what: &'static str,
    bytes_max: usize,
    source: impl FnOnce(SubscriptionId) -> Source,
) -> Result<Arc<Inbox>, Error> {
    let shared = &handle.shared;
    let inbox = {
        let mut state = shared.lock();
        let id = SubscriptionId(state.next_subscription());
        let inbox = Arc::new(Inbox::new(id, source(id), bytes_max, shared));
        state.inboxes.insert(id.0, inbox.clone());
        inbox
    };
    // Until the broker has said yes, whoever drops this call takes it back.
    let guard = OpenGuard { handle, inbox: Some(inbox.clone()) };
    handle.request_for(what, &inbox.request(), Some(inbox.clone())).await?;
    guard.keep();
    Ok(inbox)
}

struct OpenGuard<'a> {
    handle: &'a Arc<Handle>,
    inbox: Option<Arc<Inbox>>,
}

impl OpenGuard<'_> {
    fn keep(mut self) {
        self.inbox = None;
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            close_inbox(self.handle, &inbox);
        }
    }
}

/// Takes an inbox away. The broker is told if it may know of it; settlements that
/// wait are written before.
fn close_inbox(handle: &Handle, inbox: &Arc<Inbox>) {
    let mut state = handle.shared.lock();
    if state.inboxes.remove(&inbox.id.0).is_some() && state.connected && !state.closing {
        // Whoever noted the first of them may not have come to it.
        state.settling.push(inbox.clone());
        let request = Request::Unsubscribe(Unsubscribe { sub: inbox.id });
        state.ask(Pending::Nobody, |out, id| encode_request(out, RequestId(id), &request));
        handle.shared.wake_writer(state);
    }
}

/// Messages of channels, as they are published. Ends when it is dropped.
///
/// As a [`Stream`] its items are results; an error is the last item.
///
/// ```no_run
/// # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
/// let mut subscription = client.subscribe("orders.*.created").await?;
/// while let Some(delivery) = subscription.next().await? {
///     println!("{}: {} bytes", delivery.subject(), delivery.payload().len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver,
}

impl Subscription {
    pub(crate) async fn open(
        handle: &Arc<Handle>,
        pattern: &str,
        options: SubscribeOptions,
    ) -> Result<Self, Error> {
        let bytes_max = options.inbox_bytes_max;
        let source = |sub| {
            Source::Channel(Subscribe { sub, pattern: pattern.to_owned(), share: options.share })
        };
        let receiver = Receiver::open(handle, "subscribe", bytes_max, false, source).await?;
        Ok(Self { receiver })
    }

    /// The next message; `None` when the client was closed.
    ///
    /// # Errors
    /// [`Error::Refused`] when the broker ended the subscription, and whatever ended
    /// the connection for good; told once.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        poll_fn(|context| self.receiver.poll_next(context)).await
    }

    /// Everything that has arrived; waits while that is nothing. `None` when the
    /// client was closed.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub async fn next_batch(&mut self) -> Result<Option<DeliveryBatch>, Error> {
        poll_fn(|context| self.receiver.poll_batch(context)).await
    }

    /// Messages missed so far because this subscription, or its connection, was too
    /// slow.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.receiver.inbox.skipped()
    }

    /// How often the connection was lost. What was published in between is missed,
    /// and not counted by [`Subscription::skipped`].
    #[must_use]
    pub fn interruptions(&self) -> u32 {
        self.receiver.inbox.resumed()
    }
}

/// A consumer of a queue, or of a stream's group. The broker hands over as many
/// deliveries as there is credit, and each settlement gives one back. Dropping the
/// consumer gives back what it holds.
///
/// ```no_run
/// # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
/// let mut consumer = client.consume("orders").await?;
/// while let Some(delivery) = consumer.next().await? {
///     match std::str::from_utf8(delivery.payload()) {
///         Ok(order) => {
///             println!("{order}");
///             delivery.ack();
///         }
///         Err(_) => delivery.reject(1),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    receiver: Receiver,
    pulls: Pulls,
}

impl Consumer {
    pub(crate) async fn open(
        handle: &Arc<Handle>,
        mut body: Consume,
        options: ConsumeOptions,
    ) -> Result<Self, Error> {
        body.credit = options.credit;
        body.name = options.name.unwrap_or_default();
        body.labels =
            options.labels.into_iter().map(|(name, value)| (name, value.into())).collect();
        let source = |sub| {
            body.sub = sub;
            Source::Consumer(body)
        };
        let receiver = Receiver::open(handle, "consume", 0, options.auto_ack, source).await?;
        Ok(Self { receiver, pulls: Pulls::default() })
    }

    /// The next delivery; `None` when the client was closed.
    ///
    /// # Errors
    /// [`Error::Refused`] when the broker ended the consumer, and whatever ended the
    /// connection for good; told once.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        poll_fn(|context| self.receiver.poll_next(context)).await
    }

    /// Everything that has arrived; waits while that is nothing. `None` when the
    /// client was closed.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_batch(&mut self) -> Result<Option<DeliveryBatch>, Error> {
        poll_fn(|context| self.receiver.poll_batch(context)).await
    }

    /// Lets the broker hand over `amount` more deliveries than now. A consumer has 65,536
    /// at most: what goes beyond is left out.
    pub fn add_credit(&self, amount: u32) {
        let shared = &self.receiver.handle.shared;
        let mut state = shared.lock();
        state.add_credit(&self.receiver.inbox, amount);
        shared.wake_writer(state);
    }

    /// Waits until the broker has done, and kept, everything that was settled so far. The
    /// answer counts what was settled since the last one; `unknown` are deliveries that
    /// the broker no longer knew: their lease had run out. Settlements leave by
    /// themselves, flushed or not, as soon as the writer looks.
    ///
    /// When the connection breaks before the answer, nobody knows what was done, and what
    /// was not comes again: a settlement is never carried over to the next connection.
    /// The first flush behind it says so. What was counted for a flush that was given up
    /// stays known: the next one that succeeds tells it, behind a loss too.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::ConnectionLost`], [`Error::Timeout`],
    /// [`Error::Closed`].
    pub async fn flush(&mut self) -> Result<SettleCount, Error> {
        let Some(untold) = self.receiver.inbox.untold() else {
            return Ok(self.receiver.inbox.take_counted());
        };
        let told = self.ask_for(untold).await;
        // After a timeout the broker may still answer: the next flush asks again.
        if let Err(error @ Error::Timeout { .. }) = told {
            return Err(error);
        }
        self.receiver.inbox.told(untold);
        told.map(|()| self.receiver.inbox.take_counted())
    }

    /// Asks what became of settlements; the inbox has the count when this returns.
    async fn ask_for(&self, untold: Untold) -> Result<(), Error> {
        match self.ask_behind(untold)?.answer("settle").await? {
            Reply::Ok(body) => drop(body.decode::<SettleCount>()?),
            Reply::Records(_) => return Err(Error::Protocol("records answer a settlement".into())),
        }
        Ok(())
    }

    /// Asks behind everything that was noted, on the connection that it is for: a loss is
    /// seen under the lock first, and what was noted before it is void before the next
    /// connection stands.
    fn ask_behind(&self, untold: Untold) -> Result<Asked, Error> {
        let inbox = &self.receiver.inbox;
        let shared = &self.receiver.handle.shared;
        let mut state = shared.lock();
        if state.closing {
            return Err(Error::Closed);
        }
        if untold.lost || !state.connected || inbox.is_void(untold.epoch) {
            return Err(Error::ConnectionLost { unconfirmed: 0 });
        }
        let (caller, answer) = oneshot::channel();
        // Whoever noted the first of them may not have come to it.
        state.settling.push(inbox.clone());
        let id = state.ask_bound(Pending::Flush(caller, inbox.clone(), untold), |out, id| {
            encode_settle(out, RequestId(id), inbox.id, Verb::Ack, &[]);
        });
        shared.wake_writer(state);
        Ok(Asked::new(shared.clone(), id, answer))
    }

    /// What the broker has told, since the last call, that it could not read any more of the
    /// messages it kept for this queue or group, and has passed over. Every consumer is told
    /// that is attached then. Empty as long as nothing is damaged.
    ///
    /// A wait for deliveries does not end when something is lost, so look from time to time,
    /// or behind each batch. Where more is told than [`limits::LOST_STRETCHES_MAX`] stretches
    /// before anybody looks, the rest is joined: those hold messages that are not lost, but
    /// the number of lost ones is right.
    ///
    /// [`limits::LOST_STRETCHES_MAX`]: crate::limits::LOST_STRETCHES_MAX
    #[must_use]
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.receiver.inbox.take_lost()
    }

    /// How often the connection was lost.
    #[must_use]
    pub fn interruptions(&self) -> u32 {
        self.receiver.inbox.resumed()
    }
}

fn as_item(poll: Poll<Result<Option<Delivery>, Error>>) -> Poll<Option<Result<Delivery, Error>>> {
    poll.map(Result::transpose)
}

impl Stream for Subscription {
    type Item = Result<Delivery, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        as_item(self.receiver.poll_next(context))
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        as_item(self.receiver.poll_next(context))
    }
}

#[cfg(test)]
mod tests;
