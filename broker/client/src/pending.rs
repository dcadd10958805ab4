//! Requests that wait for their answer, and who waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_protocol::{Body, Records};

use crate::Error;
use crate::inbox::{Inbox, Untold};
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
    /// A caller that asks what became of these settlements. The inbox keeps what the
    /// broker counted: for the next one, where this one stopped waiting.
    Flush(oneshot::Sender<Result<Reply, Error>>, Arc<Inbox>, Untold),
    /// The driver, which asked for this subscription again.
    Resume(Arc<Inbox>),
    /// Nobody.
    Nobody,
}

impl Pending {
    /// No answer will come: whoever waits is told why.
    pub(crate) fn fail(self, error: Error) {
        match self {
            Self::Caller(caller, _) | Self::Flush(caller, ..) => {
                // A caller that stopped waiting is no loss.
                let _ = caller.send(Err(error));
            }
            Self::Resume(_) | Self::Nobody => {}
        }
    }
}

/// A request that was asked. Dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Asked {
    shared: Arc<Shared>,
    id: u32,
    answer: oneshot::Receiver<Result<Reply, Error>>,
}

impl Asked {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: u32,
        answer: oneshot::Receiver<Result<Reply, Error>>,
    ) -> Self {
        Self { shared, id, answer }
    }

    /// Waits for the answer, for the usual time.
    pub(crate) async fn answer(mut self, what: &'static str) -> Result<Reply, Error> {
        let after = self.shared.options.request_timeout;
        self.wait(after).await.unwrap_or(Err(Error::Timeout { what, after }))
    }

    /// Waits for the answer for at most so long; `None` when it has not come, and may be
    /// waited for again.
    pub(crate) async fn wait(&mut self, most: Duration) -> Option<Result<Reply, Error>> {
        match tokio::time::timeout(most, &mut self.answer).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(_)) => Some(Err(Error::Closed)),
            Err(_) => None,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.lock().forget(self.id);
    }
}
