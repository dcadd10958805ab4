//! What can go wrong, as codes to branch on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::{DecodeError, WireError};

/// Why a call of the client failed. Cheap to clone: one loss is told to everyone
/// who waited.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(Arc<io::Error>),
    /// The connection broke before the answer came. What was asked for may or may
    /// not have happened.
    #[error("the connection was lost; {unconfirmed} messages are unconfirmed")]
    ConnectionLost {
        /// Messages of this receipt that nobody confirmed; 0 for other requests.
        unconfirmed: u64,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// No answer in time.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The broker refused; its code, sentence and hint.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// Nobody listens for the request.
    #[error("nobody listens on {subject}")]
    NoResponders {
        /// The request's subject.
        subject: String,
    },
    /// The message can never be sent.
    #[error("invalid message: {0}")]
    InvalidMessage(&'static str),
    /// The message is longer than the broker takes.
    #[error("a message of {bytes} bytes is over the broker's limit of {limit} per frame")]
    MessageTooLarge {
        /// Its encoded length, bytes.
        bytes: usize,
        /// The longest frame the broker takes, bytes.
        limit: u32,
    },
    /// The peer sent what this client cannot read.
    #[error("the broker sent what cannot be read: {0}")]
    Protocol(String),
}

impl Error {
    /// The broker's error, when it was the broker that refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&WireError> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the broker was not reached, or no longer.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Io(_) | Self::ConnectionLost { .. })
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Protocol(error.to_string())
    }
}
