//! Error codes that clients branch on, and why a frame could not be read.

use std::borrow::Cow;

use weir_message::MessageError;

use crate::walk::WalkError;
use crate::{RequestId, limits};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $hint:literal;)+) => {
        /// Why a request was refused. The text of a code never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code on the wire.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What to do next, where nothing more precise is known.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)+ }
            }

            /// The code of that text; [`ErrorCode::Unknown`] for one that this
            /// version does not have.
            #[must_use]
            pub fn of(text: &str) -> Self {
                match text { $($text => Self::$variant,)+ _ => Self::Unknown }
            }
        }
    };
}

codes! {
    /// The bytes are not one MessagePack array of the protocol.
    BadFrame = "bad_frame",
        "compare the frame with docs/protocol.md; the golden frames in tests/wire show each one";
    /// The frame is readable, a field of it is not.
    BadRequest = "bad_request", "correct the field that the message names";
    /// Longer than a limit.
    TooLarge = "too_large", "send less at once; the hello answer tells the limits";
    /// No version in common.
    UnsupportedVersion = "unsupported_version", "offer version 1 in the hello";
    /// Something came before the hello.
    HelloFirst = "hello_first", "send hello as the first frame, and wait for its answer";
    /// The token is missing or wrong.
    Unauthorized = "unauthorized", "send the right token in the hello";
    /// No such queue, stream, group, binding.
    NotFound = "not_found", "create it first, or list what there is";
    /// It exists already, with other settings.
    Exists = "exists", "look at its settings with info, change them with alter, or take another name";
    /// The queue is full.
    QueueFull = "queue_full", "publish again later, add consumers, or raise messages_max or bytes_max";
    /// The store has no room left.
    NoSpace = "no_space", "free space on the broker's disk, or lower what streams retain";
    /// The store cannot keep messages as safely as asked.
    LevelUnsupported = "level_unsupported", "ask for one of the levels in the hello answer";
    /// The subscription number is in use on this connection.
    SubscriptionTaken = "subscription_taken", "take another number, or unsubscribe first";
    /// No subscription or consumer of that number on this connection.
    NoSubscription = "no_subscription", "subscribe or consume first; after a reconnect do it again";
    /// The delivery policy does not want this consumer.
    TurnedAway = "turned_away", "read the message: the policy says why";
    /// The offset is below what is kept, or beyond the end.
    OffsetOutOfRange = "offset_out_of_range", "read from earliest, or from an offset that info shows";
    /// The stream has no such partition.
    NoPartition = "no_partition", "info shows the number of partitions; they count from 0";
    /// It was deleted while it was used.
    Deleted = "deleted", "create it again, then consume again";
    /// A number of things is at its limit.
    LimitReached = "limit_reached", "release some first; the hello answer tells the limits";
    /// It does not apply to this kind of thing.
    WrongKind = "wrong_kind", "info tells whether the name is a queue or a stream";
    /// A policy failed, and its rule is to refuse.
    PolicyFailed = "policy_failed", "`weir policy status` tells why it failed";
    /// A policy refused the message.
    PolicyRefused = "policy_refused", "read the message: the policy says why";
    /// Stored bytes are damaged.
    DataLoss = "data_loss",
        "readers: go on behind the damaged range; publishers: stop the broker, look with \
         `weir store check DIR`, restore DIR or give up: `weir store accept-loss DIR LOG`";
    /// Nobody listens for the request. Made by clients, never sent by a broker.
    NoResponders = "no_responders", "start a responder, then ask again";
    /// The broker stops.
    ShuttingDown = "shutting_down", "connect again, with a growing pause between tries";
    /// A fault of the broker.
    Internal = "internal", "this is a fault of the broker: report it with the message";
    /// A code of a newer broker; the message begins with its text.
    Unknown = "unknown", "a newer client knows this code";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.text())
    }
}

/// What a client is told: a code to branch on, and two sentences for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct WireError {
    /// What kind.
    pub code: ErrorCode,
    /// What happened, one sentence.
    pub message: Cow<'static, str>,
    /// The next step.
    pub hint: Cow<'static, str>,
    /// With [`ErrorCode::DataLoss`] as the answer to a read: the offsets that are lost, from,
    /// one past the last. A reader goes on there.
    pub lost: Option<(u64, u64)>,
}

impl WireError {
    /// With the code's own hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), hint: Cow::Borrowed(code.hint()), lost: None }
    }
}

/// Why a frame could not be read. [`DecodeError::answers`] says whether the
/// connection survives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length prefix is over the limit. The rest of the stream cannot be
    /// read: the connection ends.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// What the prefix says, bytes.
        length: u32,
        /// What is allowed, bytes.
        limit: u32,
    },
    /// The frame does not begin with an array, an operation and an id. The peer
    /// does not speak this protocol: the connection ends.
    #[error("a frame does not begin with [operation, id, ...]")]
    NoHead,
    /// The frame's inside is not MessagePack within the limits.
    #[error("the frame of request {} is malformed: {error}", id.0)]
    Malformed {
        /// Whose.
        id: RequestId,
        /// What is wrong, and where.
        error: WalkError,
    },
    /// No such operation in this direction.
    #[error("there is no operation {op}")]
    UnknownOp {
        /// Whose.
        id: RequestId,
        /// The number.
        op: u64,
    },
    /// A field is missing, unknown, of the wrong type or out of its range.
    #[error("{text}")]
    Field {
        /// Whose.
        id: RequestId,
        /// One sentence that names the field.
        text: String,
    },
    /// A number of things, or a length, is over its limit.
    #[error("{what}: {value} is over the limit of {limit}")]
    OverLimit {
        /// Whose.
        id: RequestId,
        /// What was counted.
        what: &'static str,
        /// How many, or how long.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A published message is not well formed. Nothing of the frame counts.
    #[error("message {row}: {error}")]
    Message {
        /// Whose.
        id: RequestId,
        /// Which message of the frame, from 0.
        row: u32,
        /// What is wrong.
        error: MessageError,
    },
}

impl DecodeError {
    pub(crate) fn field(id: RequestId, text: String) -> Self {
        Self::Field { id, text }
    }

    pub(crate) fn over(id: RequestId, what: &'static str, value: u64, limit: u64) -> Self {
        Self::OverLimit { id, what, value, limit }
    }

    /// The request to answer with [`DecodeError::wire`]; the connection then
    /// goes on. `None`: answer with id 0 and close, because the frame's end or
    /// its id is not known, or because the client asked for no answer.
    #[must_use]
    pub fn answers(&self) -> Option<RequestId> {
        let id = match self {
            Self::FrameTooLarge { .. } | Self::NoHead => return None,
            Self::Malformed { id, .. }
            | Self::UnknownOp { id, .. }
            | Self::Field { id, .. }
            | Self::OverLimit { id, .. }
            | Self::Message { id, .. } => *id,
        };
        (id.0 != 0).then_some(id)
    }

    /// What the client is told.
    #[must_use]
    pub fn wire(&self) -> WireError {
        let code = match self {
            Self::FrameTooLarge { .. }
            | Self::OverLimit { .. }
            | Self::Message { error: MessageError::TooLong { .. }, .. } => ErrorCode::TooLarge,
            Self::NoHead | Self::Malformed { .. } => ErrorCode::BadFrame,
            Self::UnknownOp { .. } | Self::Field { .. } | Self::Message { .. } => {
                ErrorCode::BadRequest
            }
        };
        WireError::new(code, shorten(self.to_string()))
    }
}

/// Cuts `text` to [`limits::ERROR_TEXT_BYTES_MAX`] at a character.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > limits::ERROR_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(limits::ERROR_TEXT_BYTES_MAX - 3));
        text.push_str("...");
    }
    text
}
