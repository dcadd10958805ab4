//! Why what a producer has published is not kept.

use std::fmt;

use async_nats::jetstream;

/// See the module's text.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server says so, with a code.
    Server(jetstream::Error),
    /// Messages from `expected` up to `found` have not arrived; counted in their batch.
    Gap { expected: u64, found: u64 },
    /// The server has kept another number of messages than were sent.
    Count { sent: u64, kept: u64 },
    /// The server has not answered for long.
    Silence,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => write!(f, "refused: {error}"),
            Self::Gap { expected, found } => {
                write!(f, "message {found} of the batch came where {expected} was expected")
            }
            Self::Count { sent, kept } => write!(f, "{kept} messages were kept of {sent}"),
            Self::Silence => write!(f, "no answer"),
        }
    }
}

impl std::error::Error for Refusal {}
