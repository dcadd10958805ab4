//! Requests that wait for their answer, and who waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_protocol::{Body, Records};

use crate::Error;
use crate::inbox::Inbox;
use crate::shared::Shared;

/// An answer to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Ok(Body),
    Records(Records),
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A caller. When the answer is yes, the inbox counts as established: it is
    /// asked for again on the next connection.
    Caller(oneshot::Sender<Result<Reply, Error>>, Option<Arc<Inbox>>),
    /// A caller that asks what became of settlements. The inbox keeps what the broker
    /// counted: for the next one, where this one stopped waiting.
    Flush(oneshot::Sender<Result<Reply, Error>>, Arc<Inbox>),
    /// The driver, which asked for this subscription again.
    Resume(Arc<Inbox>),
    /// Nobody.
    Nobody,
}

impl Pending {
    /// No answer will come: whoever waits is told why.
    pub(crate) fn fail(self, error: Error) {
        match self {
            Self::Caller(caller, _) | Self::Flush(caller, _) => {
                // A caller that stopped waiting is no loss.
                let _ = caller.send(Err(error));
            }
            Self::Resume(_) | Self::Nobody => {}
        }
    }
}

/// A request that was asked. Dropping it forgets the request.
pub(crate) struct Asked<'a> {
    shared: &'a Shared,
    id: u32,
    answer: oneshot::Receiver<Result<Reply, Error>>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        id: u32,
        answer: oneshot::Receiver<Result<Reply, Error>>,
    ) -> Self {
        Self { shared, id, answer }
    }

    /// Waits for the answer: the usual time, and `extra`.
    pub(crate) async fn answer(
        mut self,
        what: &'static str,
        extra: Duration,
    ) -> Result<Reply, Error> {
        let after = self.shared.options.request_timeout.saturating_add(extra);
        match tokio::time::timeout(after, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Timeout { what, after }),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.shared.lock().forget(self.id);
    }
}
