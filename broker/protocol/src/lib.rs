//! Weir's wire protocol: frames, requests, responses. It knows nothing of the
//! broker; `docs/protocol.md` is the same in prose.
//!
//! The path of a request: [`frame::next_frame`] cuts whole frames out of a read
//! buffer, [`decode_request`] turns one into a [`Request`] (publish frames keep
//! their messages as they are: [`decode_publish_into`]), and what comes of it is
//! written by the functions of [`answer`]. Clients write with [`encode_request`],
//! [`PublishBuilder`], [`encode_settle`], [`encode_credit`] and read with
//! [`decode_response`].
//!
//! Invariants: nothing here recurses on input, allocates more than a constant
//! times the frame's length, or panics on any bytes.

pub mod answer;
mod body;
mod check;
mod choice;
mod error;
pub mod frame;
mod info;
pub mod limits;
mod op;
mod publish;
mod request;
mod request_encode;
mod response;
mod run;
mod settle;
mod walk;
mod wire;

pub use body::{
    Alter, AlterGroup, AlterQueue, AlterStream, Consume, Create, CreateGroup, CreateQueue,
    CreateStream, Credit, Hello, Kind, Level, List, Order, PolicyRollback, PolicyStatus, Pull,
    Purge, Read, Seek, Start, Subscribe, Target, Unsubscribe,
};
pub use error::{DecodeError, ErrorCode, WireError};
pub use frame::next_frame;
pub use info::{
    BindingStatus, ConsumerInfo, DeliveredCount, DoneCount, Empty, GenerationStatus, GroupFigures,
    GroupInfo, HelloAnswer, HelloLimits, ListAnswer, ListItem, PolicyCounters, PolicyFailure,
    PolicyItem, PolicyListAnswer, PolicyLogLine, PolicyMetric, PolicyStatusAnswer, QueueInfo,
    SettleCount, StreamInfo,
};
pub use op::Op;
pub use publish::{PublishBuilder, PublishFrame, PublishHead, decode_publish_into, peek_op};
pub use request::{Request, decode_request};
pub use request_encode::encode_request;
pub use response::{Body, LostRange, Published, Records, Refusal, Response, decode_response};
pub use run::{DELIVER_HEAD_BYTES_MAX, DeliverBuilder, RUN_HEADER_BYTES_MAX, Run, RunHeader};
pub use settle::{Settle, TagRange, Verb, encode_credit, encode_settle};
pub use walk::{WalkError, walk};

/// Number of a request, chosen by the client; 0 where no answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// Number of a subscription or consumer, chosen by the client.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct SubscriptionId(pub u32);

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
