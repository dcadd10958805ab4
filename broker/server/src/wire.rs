//! From the core's types to the wire's, in one place: effects, rejections,
//! figures. The way in is `session.rs` and `control.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use weir_core::command::{GroupConfig, Level, RequestId, SubscriptionId};
use weir_core::directory::Settings;
use weir_core::effect::{Effect, Reply, Run};
use weir_core::rejection::Rejection;
use weir_protocol::{
    DeliverBuilder, DeliveredCount, ErrorCode, Kind, LostRange, Order, RunHeader, SettleCount,
    WireError, answer, limits,
};

use crate::info;
use crate::outbox::{Freed, Pen, Pending};
use crate::receipt::Request;
use crate::room::Room;

/// Why neighbouring messages of a publish were refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Row of the first in the request.
    pub row: u32,
    /// How many.
    pub count: u32,
    /// What kind.
    pub code: ErrorCode,
    /// One sentence.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A shard refused it.
    #[must_use]
    pub fn by_shard(rejection: Rejection, room: &Room) -> Self {
        Self { row: 0, count: 1, code: code(rejection), message: why(rejection, room).into() }
    }

    /// It would not fit into a queue.
    #[must_use]
    pub fn queue_full() -> Self {
        let message = Rejection::QueueFull.to_string().into();
        Self { row: 0, count: 1, code: ErrorCode::QueueFull, message }
    }

    /// With what was read beside it, it would be kept too many times at once.
    #[must_use]
    pub fn too_many_copies() -> Self {
        let message = "it goes to so many queues and streams that fewer messages must be \
                       published at once";
        Self { row: 0, count: 1, code: ErrorCode::LimitReached, message: message.into() }
    }

    /// Whether `next` goes on where this ends, for the same reason.
    #[must_use]
    pub fn goes_on_with(&self, next: &Self, row: u32) -> bool {
        self.row + self.count == row && self.code == next.code && self.message == next.message
    }
}

/// What an info request asks about, kept until a shard's figures come.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Only this group.
    pub group: Option<String>,
    /// The queue or stream.
    pub name: String,
    /// Patterns of the subjects it keeps.
    pub subjects: Vec<String>,
    /// How it is kept.
    pub settings: Settings,
    /// A stream's groups, by name.
    pub groups: BTreeMap<String, GroupConfig>,
}

/// The code that clients see for a rejection.
#[must_use]
pub fn code(rejection: Rejection) -> ErrorCode {
    match rejection {
        Rejection::NotFound => ErrorCode::NotFound,
        Rejection::Exists => ErrorCode::Exists,
        Rejection::QueueFull => ErrorCode::QueueFull,
        Rejection::NoSpace => ErrorCode::NoSpace,
        Rejection::LevelUnsupported => ErrorCode::LevelUnsupported,
        Rejection::SubscriptionTaken => ErrorCode::SubscriptionTaken,
        Rejection::NoSubscription => ErrorCode::NoSubscription,
        Rejection::TurnedAway => ErrorCode::TurnedAway,
        Rejection::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        Rejection::NoPartition => ErrorCode::NoPartition,
        Rejection::Deleted => ErrorCode::Deleted,
        Rejection::LimitReached | Rejection::OverLimit(_) => ErrorCode::LimitReached,
        Rejection::WrongKind => ErrorCode::WrongKind,
        Rejection::PolicyFailed => ErrorCode::PolicyFailed,
        Rejection::PolicyRefused => ErrorCode::PolicyRefused,
        Rejection::DataLoss => ErrorCode::DataLoss,
    }
}

/// A rejection in a sentence, with the figures that it is about.
fn why(rejection: Rejection, room: &Room) -> String {
    match rejection {
        Rejection::NoSpace => format!("{rejection}: {}", room.clause()),
        other => other.to_string(),
    }
}

/// The answer to a read that begins with messages that are lost.
fn lost(from: u64, to: u64) -> WireError {
    let message = format!(
        "the messages {from} to {} of the partition are damaged: with the broker stopped, `weir \
         store check DIR` names them, and `weir store accept-loss DIR LOG` gives them up",
        to.saturating_sub(1)
    );
    let hint = format!("read on from offset {to}");
    let lost = Some((from, to));
    WireError { hint: hint.into(), lost, ..WireError::new(ErrorCode::DataLoss, message) }
}

/// A rejection as an error about `what`.
#[must_use]
pub fn rejected(rejection: Rejection, what: &str) -> WireError {
    WireError::new(code(rejection), format!("{what}: {rejection}"))
}

/// The level on the wire.
#[must_use]
pub fn level(level: Level) -> weir_protocol::Level {
    match level {
        Level::Memory => weir_protocol::Level::Memory,
        Level::Os => weir_protocol::Level::Os,
        Level::Disk => weir_protocol::Level::Disk,
    }
}

/// The level a client asks for.
#[must_use]
pub fn level_asked(level: weir_protocol::Level) -> Level {
    match level {
        weir_protocol::Level::Memory => Level::Memory,
        weir_protocol::Level::Os => Level::Os,
        weir_protocol::Level::Disk => Level::Disk,
    }
}

/// Where a client wants to start.
#[must_use]
pub fn start(start: weir_protocol::Start) -> weir_core::command::Start {
    use weir_core::command::Start;
    match start {
        weir_protocol::Start::Earliest => Start::Earliest,
        weir_protocol::Start::Latest => Start::Latest,
        weir_protocol::Start::Offset(offset) => Start::Offset(offset),
        weir_protocol::Start::TimeMs(time_ms) => Start::Time(time_ms),
    }
}

/// The order on the wire.
#[must_use]
pub fn order(order: u8) -> Order {
    match order {
        0 => Order::None,
        1 => Order::Key,
        _ => Order::All,
    }
}

/// The word for a kind on the command line.
#[must_use]
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Queue => "queue",
        Kind::Stream => "stream",
        Kind::Group => "group",
    }
}

/// A map as JSON text, "" when it is empty.
#[must_use]
pub fn json_text(map: &Map<String, Value>) -> String {
    if map.is_empty() { String::new() } else { Value::Object(map.clone()).to_string() }
}

/// Where a queue, stream or group is kept in the catalogue.
#[must_use]
pub fn catalogue_key(kind: Kind, stream: Option<&str>, name: &str) -> String {
    match (kind, stream) {
        (Kind::Group, Some(stream)) => format!("group/{stream}/{name}"),
        (kind, _) => format!("{}/{name}", kind_word(kind)),
    }
}

/// Writes an ok answer.
pub fn ok(out: &mut Vec<u8>, id: u32, body: &impl serde::Serialize) {
    answer::encode_ok(out, weir_protocol::RequestId(id), body);
}

/// Writes a refusal.
pub fn error(out: &mut Vec<u8>, id: u32, error: &WireError) {
    answer::encode_error(out, weir_protocol::RequestId(id), error);
}

/// Writes the outcome of a publish request.
pub fn published(out: &mut Vec<u8>, request: &Request) {
    let mut refusals: Vec<weir_protocol::Refusal> = Vec::new();
    for refusal in &request.refusals {
        // Neighbours that were refused alike are told together.
        match refusals.last_mut() {
            Some(last)
                if last.code == refusal.code
                    && last.row + last.count == refusal.row
                    && last.message == refusal.message =>
            {
                last.count += refusal.count;
            }
            _ => refusals.push(weir_protocol::Refusal {
                row: refusal.row,
                count: refusal.count,
                code: refusal.code,
                message: refusal.message.clone(),
            }),
        }
    }
    answer::encode_published(
        out,
        weir_protocol::RequestId(request.id.0),
        level(request.level.unwrap_or_default()),
        request.stored,
        request.reached,
        request.unrouted,
        &refusals,
    );
}

/// Writes the notice that a listener missed messages.
pub fn skipped(out: &mut Vec<u8>, subscription: SubscriptionId, count: u64) {
    answer::encode_skipped(out, weir_protocol::SubscriptionId(subscription.0), count, None);
}

/// Writes the notice that a subscription was ended.
pub fn ended(out: &mut Vec<u8>, subscription: SubscriptionId, error: &WireError) {
    answer::encode_ended(out, weir_protocol::SubscriptionId(subscription.0), error);
}

/// Writes the last frame of a connection that ends in good order.
pub fn goodbye(out: &mut Vec<u8>, error: &WireError) {
    answer::encode_goodbye(out, error);
}

/// Writes a deliver frame of channel messages up to the messages themselves.
pub fn channel_run_start(
    out: &mut Vec<u8>,
    subscription: SubscriptionId,
    time_ms: u64,
    count: u32,
    messages_len: usize,
) {
    let header = RunHeader { tag: 0, partition: 0, offset: 0, time_ms, attempt: 1, count };
    let subscription = weir_protocol::SubscriptionId(subscription.0);
    answer::deliver_head(out, subscription, &header, messages_len);
}

fn run_header(run: &Run) -> RunHeader {
    RunHeader {
        tag: run.tag,
        partition: run.partition,
        offset: run.offset,
        time_ms: run.time_ms,
        attempt: run.attempt,
        count: run.count,
    }
}

/// Writes what an effect has to tell its connection.
pub fn effect(pen: &mut Pen<'_>, effect: Effect, room: &Room) {
    match effect {
        Effect::Published { receipt, count, rows, outcome, .. } => {
            pen.note(receipt, |receipt| {
                receipt.outstanding = receipt.outstanding.saturating_sub(count);
                match outcome {
                    Ok(level) => receipt.kept(count, &rows, level),
                    Err(rejection) => {
                        let refusal = Refusal::by_shard(rejection, room);
                        receipt.refused(count, &rows, &refusal);
                    }
                }
            });
        }
        Effect::Deliver { subscription, runs, .. } => deliver(pen, subscription, &runs),
        Effect::Reply { request, reply, .. } => self::reply(pen, request, reply, room),
        Effect::Lost { subscription, partition, from, to, count, .. } => {
            let sub = weir_protocol::SubscriptionId(subscription.0);
            let lost = Some(LostRange { partition, from, to });
            answer::encode_skipped(pen.buffer(), sub, count, lost);
        }
        Effect::Ended { subscription, reason, .. } => {
            let error = WireError::new(code(reason), format!("the consumer was ended: {reason}"));
            ended(pen.buffer(), subscription, &error);
            pen.free(Freed::Ended(subscription));
        }
        Effect::Pressed { .. } | Effect::QueueMade { .. } | Effect::PolicyFailed { .. } => {}
    }
}

fn deliver(pen: &mut Pen<'_>, subscription: SubscriptionId, runs: &[Run]) {
    let sub = weir_protocol::SubscriptionId(subscription.0);
    let mut left = runs.iter().peekable();
    while let Some(run) = left.next() {
        if run.bytes.len() >= crate::limits::SHARED_RUN_BYTES_MIN {
            answer::deliver_head(pen.buffer(), sub, &run_header(run), run.bytes.len());
            pen.messages(&run.bytes);
            continue;
        }
        // Short runs share a frame.
        let out = pen.buffer();
        let mut frame = DeliverBuilder::start(out, sub);
        frame.run(out, &run_header(run), &run.bytes);
        while let Some(next) = left.next_if(|next| {
            next.bytes.len() < crate::limits::SHARED_RUN_BYTES_MIN
                && frame.fits(out, next.bytes.len(), limits::FRAME_BYTES_MAX)
        }) {
            frame.run(out, &run_header(next), &next.bytes);
        }
        frame.finish(out);
    }
}

fn reply(pen: &mut Pen<'_>, request: RequestId, reply: Reply, room: &Room) {
    let id = request.0;
    let expected = pen.expected(request);
    match (&expected, &reply) {
        (Some(Pending::Attach(subscription)), Reply::Rejected(_)) => {
            pen.free(Freed::Ended(*subscription));
        }
        // Also when it was ended meanwhile: either way the shard knows it no more.
        (Some(Pending::Detach(subscription)), _) => pen.free(Freed::Left(*subscription)),
        _ => {}
    }
    match reply {
        Reply::Done => ok(pen.buffer(), id, &weir_protocol::Empty {}),
        Reply::Count { done, unknown } => match expected {
            Some(Pending::Pull) => ok(pen.buffer(), id, &DeliveredCount { delivered: done }),
            _ => ok(pen.buffer(), id, &SettleCount { done, unknown }),
        },
        Reply::Records { runs, next, start, end } => {
            let runs = runs.iter().map(|run| (run_header(run), run.bytes.as_ref()));
            let id = weir_protocol::RequestId(id);
            answer::encode_records(pen.buffer(), id, (start, end, next), runs);
        }
        Reply::Lost { from, to } => error(pen.buffer(), id, &lost(from, to)),
        Reply::Stats(stats) => match expected {
            Some(Pending::Info(asked)) => info::answer(pen.buffer(), id, &asked, *stats),
            _ => ok(pen.buffer(), id, &weir_protocol::Empty {}),
        },
        Reply::Rejected(rejection) => {
            let error = WireError::new(code(rejection), why(rejection, room));
            self::error(pen.buffer(), id, &error);
        }
    }
}
