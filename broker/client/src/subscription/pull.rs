//! Pulling: deliveries that a consumer asks for, so many at a time.
//!
//! The broker goes on with a pull whose caller has given up, and refuses a consumer that
//! leaves too many behind. So a question that it has not answered stays with the consumer
//! when a call is dropped, and the next call waits on it instead of asking the same: there
//! is one of each kind, and one that was asked when its connection was made. They go with
//! their connection: none is asked on the next.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use weir_protocol::{DeliveredCount, Pull, Request, RequestId, encode_request};

use super::{Consumer, Receiver};
use crate::limits::PULL_WAIT_MAX;
use crate::pending::{Asked, Pending, Reply};
use crate::{DeliveryBatch, Error};

/// Questions that were not answered when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    /// For what is there.
    at_once: Option<Asked>,
    /// For one, when it comes.
    for_one: Option<Asked>,
}

impl Consumer {
    /// Asks for at most `messages_max` deliveries and waits up to `wait` for the first of
    /// them. Works with any credit, also with none. `None` when the time is over and
    /// nothing came. With 0 none is asked for, and nothing is waited for.
    ///
    /// What is here already is handed over first, and nothing is asked for then: what
    /// credit has brought, or a pull that was dropped. So dropping the call loses nothing.
    ///
    /// The broker is asked even where `wait` is zero, and given
    /// [`request_timeout`](crate::ConnectOptions::request_timeout) to answer on top of it.
    /// Without a connection that is how long the call takes, unless the next one stands
    /// before.
    ///
    /// # Errors
    /// [`Error::Refused`], also with the reason when the broker has ended the consumer;
    /// [`Error::ConnectionLost`], [`Error::Timeout`], [`Error::Closed`], and whatever ended
    /// the connection for good.
    pub async fn pull(
        &mut self,
        messages_max: u32,
        wait: Duration,
    ) -> Result<Option<DeliveryBatch>, Error> {
        let begun = Instant::now();
        self.receiver.ack_the_last();
        self.receiver.drop_void();
        if messages_max == 0 {
            if let Some(reason) = self.receiver.inbox.ended() {
                return Err(reason);
            }
            // So that a loop around it lets others run.
            tokio::task::yield_now().await;
            return Ok(None);
        }
        // The broker answers when all are there, or the time is over: what is there is
        // asked for without waiting, and only one is waited for.
        let mut is_asked = messages_max == 1 && !wait.is_zero();
        loop {
            if let Some(batch) = self.receiver.take_some(messages_max) {
                return Ok(Some(batch));
            }
            // The broker may answer the pulls of a consumer that it ends as if nothing came.
            if let Some(reason) = self.receiver.inbox.ended() {
                return Err(reason);
            }
            let left = wait.saturating_sub(begun.elapsed());
            if !is_asked {
                is_asked = self.take_at_once(messages_max, begun).await?;
            } else if left.is_zero() {
                return Ok(None);
            } else {
                self.wait_for_one(left).await?;
            }
        }
    }

    /// Waits until the broker has delivered what is there. False when it was an earlier
    /// call that has asked: that says nothing of what came since.
    async fn take_at_once(&mut self, messages_max: u32, begun: Instant) -> Result<bool, Error> {
        let after = self.receiver.handle.shared.options.request_timeout;
        let is_own = self.pulls.at_once.is_none();
        let mut aside = None;
        let pull = (messages_max, Duration::ZERO);
        let place = question(&self.receiver, &mut self.pulls.at_once, &mut aside, pull)?;
        let told = answer_in(place, after.saturating_sub(begun.elapsed())).await;
        match told {
            Some(told) if is_own => self.check(told).map(|()| true),
            Some(_) => Ok(false),
            None => Err(Error::Timeout { what: "pull", after }),
        }
    }

    /// Waits until a delivery is here, the broker says that none came, or `left` is over.
    async fn wait_for_one(&mut self, left: Duration) -> Result<(), Error> {
        let wait = left.min(PULL_WAIT_MAX);
        let after = wait.saturating_add(self.receiver.handle.shared.options.request_timeout);
        let is_own = self.pulls.for_one.is_none();
        let mut aside = None;
        let place = question(&self.receiver, &mut self.pulls.for_one, &mut aside, (1, wait))?;
        // What an earlier call has asked for may be over later than this call.
        let most = if is_own { after } else { left };
        let told = tokio::select! {
            biased;
            batch = poll_fn(|context| self.receiver.inbox.poll_batch(context)) => {
                self.receiver.current = batch?.map(IntoIterator::into_iter);
                return Ok(());
            }
            told = answer_in(place, most) => told,
        };
        match told {
            Some(told) if is_own => self.check(told),
            None if is_own => Err(Error::Timeout { what: "pull", after }),
            // Whatever became of it: the caller looks, and asks for itself.
            _ => Ok(()),
        }
    }

    /// Whether that answers a pull. What it delivers has come before it.
    fn check(&self, told: Result<Reply, Error>) -> Result<(), Error> {
        // A consumer that is not there any more was told why before.
        match told.map_err(|error| self.receiver.inbox.ended().unwrap_or(error))? {
            Reply::Ok(body) => drop(body.decode::<DeliveredCount>()?),
            Reply::Records(_) => return Err(Error::Protocol("records answer a pull".into())),
        }
        Ok(())
    }
}

/// Where the question is that is to be waited on: the one that is left in `place`, or a new
/// one, for so many and so long. One that waits for the next connection is put aside: when
/// the call is dropped it is not asked there.
fn question<'a>(
    receiver: &Receiver,
    place: &'a mut Option<Asked>,
    aside: &'a mut Option<Asked>,
    (messages_max, wait): (u32, Duration),
) -> Result<&'a mut Option<Asked>, Error> {
    if place.is_some() {
        return Ok(place);
    }
    // Rounded up, so that no part of it is left; it fits, see the protocol's limit.
    let wait_ms = wait.as_nanos().div_ceil(1_000_000) as u32;
    let request = Request::Pull(Pull { sub: receiver.inbox.id, messages_max, wait_ms });
    let encode = |out: &mut Vec<u8>, id| encode_request(out, RequestId(id), &request);
    let shared = &receiver.handle.shared;
    let mut state = shared.lock();
    if state.closing {
        return Err(Error::Closed);
    }
    let (caller, answer) = oneshot::channel();
    let pending = Pending::Caller(caller, None);
    let (id, place) = if state.connected {
        (state.ask_bound(pending, encode), place)
    } else {
        (state.ask(pending, encode), aside)
    };
    shared.wake_writer(state);
    *place = Some(Asked::new(shared.clone(), id, answer));
    Ok(place)
}

/// Waits for the answer to the question that is in `place`, and takes it from there.
async fn answer_in(place: &mut Option<Asked>, most: Duration) -> Option<Result<Reply, Error>> {
    let told = place.as_mut()?.wait(most).await?;
    *place = None;
    Some(told)
}
