//! What a server says, and reading it. Called by clients for every frame. Arrays
//! may be longer than known here, and maps may hold unknown keys: a newer broker
//! tells more.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use crate::run::{self, Run};
use crate::wire::Cursor;
use crate::{
    DecodeError, ErrorCode, Level, Op, RequestId, SubscriptionId, WireError, limits, walk,
};

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A request is done.
    Ok {
        /// Which.
        id: RequestId,
        /// What it tells.
        body: Body,
    },
    /// A request is refused; with id 0 the connection is about to close.
    Error {
        /// Which.
        id: RequestId,
        /// Why.
        error: WireError,
    },
    /// What became of a publish.
    Published {
        /// Which.
        id: RequestId,
        /// The outcome.
        outcome: Published,
    },
    /// Messages for a subscription or consumer.
    Deliver {
        /// Whose.
        sub: SubscriptionId,
        /// The messages.
        runs: Vec<Run>,
    },
    /// A range of a stream.
    Records {
        /// Which request.
        id: RequestId,
        /// The range.
        records: Records,
    },
    /// A channel listener was too slow and missed messages, or messages that were kept for a
    /// consumer are lost.
    Skipped {
        /// Whose.
        sub: SubscriptionId,
        /// How many.
        count: u64,
        /// A consumer's: where they were. `None` for a channel.
        lost: Option<LostRange>,
    },
    /// The broker ended a subscription or consumer.
    Ended {
        /// Whose.
        sub: SubscriptionId,
        /// Why.
        error: WireError,
    },
    /// The broker is about to close the connection in good order.
    Goodbye {
        /// Why.
        error: WireError,
    },
}

/// An encoded map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl Body {
    /// The body as one of the answers of this crate.
    ///
    /// # Errors
    /// When a key that `T` needs is missing or has another type.
    pub fn decode<T: for<'de> Deserialize<'de>>(&self) -> Result<T, DecodeError> {
        rmp_serde::from_slice(&self.0).map_err(|error| {
            DecodeError::field(RequestId(0), crate::error::shorten(error.to_string()))
        })
    }
}

/// What became of a publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Lowest level reached by what was stored.
    pub level: Level,
    /// Copies kept in queues and streams.
    pub stored: u64,
    /// Copies handed to channel subscribers.
    pub reached: u64,
    /// Messages that nobody was there for.
    pub unrouted: u64,
    /// Messages refused.
    pub refusals: Vec<Refusal>,
}

/// Neighbouring messages of a publish that were refused alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first of them: its place in the publish frame, from 0.
    pub row: u32,
    /// How many.
    pub count: u32,
    /// Why.
    pub code: ErrorCode,
    /// Why, for people; "" when the code says it all.
    pub message: Cow<'static, str>,
}

/// Where messages are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Partition of a stream, else 0.
    pub partition: u16,
    /// Offset of the first.
    pub from: u64,
    /// One past the last: the consumer goes on there.
    pub to: u64,
}

/// A range of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// First offset kept.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
    /// Where to read on.
    pub next: u64,
    /// The messages.
    pub runs: Vec<Run>,
}

/// Reads one response out of a whole frame.
///
/// # Errors
/// See [`DecodeError`]. A client that gets one closes the connection: the two
/// sides do not understand each other.
pub fn decode_response(frame: &Bytes) -> Result<Response, DecodeError> {
    let mut cursor = Cursor::new(frame);
    let items = cursor.array_len().ok_or(DecodeError::NoHead)?;
    let number = cursor.uint().ok_or(DecodeError::NoHead)?;
    let id = RequestId(cursor.u32().ok_or(DecodeError::NoHead)?);
    let op = Op::of(number).filter(|op| *op as u8 >= Op::Ok as u8);
    let op = op.ok_or(DecodeError::UnknownOp { id, op: number })?;
    // Frames with messages check themselves, in one pass; the walk bounds others.
    if !matches!(op, Op::Deliver | Op::Records) {
        walk(frame, limits::ANSWER_NODES_MAX)
            .map_err(|error| DecodeError::Malformed { id, error })?;
    }
    let taken = take(frame, &mut cursor, op, id, items);
    let (response, known) = taken.ok_or_else(|| malformed(id, op))?;
    for _ in known..items {
        cursor.skip().ok_or_else(|| malformed(id, op))?;
    }
    match items >= known && cursor.is_at_end() {
        true => Ok(response),
        false => Err(malformed(id, op)),
    }
}

fn malformed(id: RequestId, op: Op) -> DecodeError {
    DecodeError::field(id, format!("{}: a field is missing or has another type", op.name()))
}

/// The response and the number of items it took of those that are there.
fn take(
    frame: &Bytes,
    cursor: &mut Cursor<'_>,
    op: Op,
    id: RequestId,
    items: u32,
) -> Option<(Response, u32)> {
    let sub = SubscriptionId(id.0);
    Some(match op {
        Op::Ok => {
            cursor.clone().map_len()?;
            let start = cursor.at;
            cursor.skip()?;
            (Response::Ok { id, body: Body(frame.slice(start..cursor.at)) }, 3)
        }
        Op::Error => (Response::Error { id, error: take_error(cursor)? }, 3),
        Op::Published => (Response::Published { id, outcome: take_published(cursor)? }, 7),
        Op::Deliver => (Response::Deliver { sub, runs: run::take_runs(frame, cursor)? }, 3),
        Op::Records => (Response::Records { id, records: take_records(frame, cursor)? }, 4),
        Op::Skipped => {
            let (count, has_more) = (cursor.uint()?, items > 3);
            let lost = if has_more && !cursor.nil() { Some(take_lost(cursor)?) } else { None };
            (Response::Skipped { sub, count, lost }, 3 + u32::from(has_more))
        }
        Op::Ended => (Response::Ended { sub, error: take_error(cursor)? }, 3),
        Op::Goodbye => (Response::Goodbye { error: take_error(cursor)? }, 3),
        _ => return None,
    })
}

#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    lost: Vec<u64>,
}

fn take_error(cursor: &mut Cursor<'_>) -> Option<WireError> {
    let body: ErrorBody = rmp_serde::from_slice(cursor.skip()?).ok()?;
    let (code, message) = known_code(&body.code, body.message);
    let (message, hint) = (message.into(), body.hint.into());
    let lost = body.lost.first_chunk().map(|&[from, to]| (from, to));
    Some(WireError { code, message, hint, lost })
}

/// The code, and the message with the code's text where that is not known.
fn known_code(text: &str, message: String) -> (ErrorCode, String) {
    match ErrorCode::of(text) {
        ErrorCode::Unknown if text != ErrorCode::Unknown.text() => {
            (ErrorCode::Unknown, format!("{text}: {message}"))
        }
        code => (code, message),
    }
}

fn take_published(cursor: &mut Cursor<'_>) -> Option<Published> {
    let level = match cursor.uint()? {
        0 => Level::Memory,
        1 => Level::Os,
        // What is above is safer still.
        _ => Level::Disk,
    };
    let (stored, reached, unrouted) = (cursor.uint()?, cursor.uint()?, cursor.uint()?);
    let len = cursor.array_len()? as usize;
    let mut refusals = Vec::with_capacity(len.min(cursor.left() / 5));
    for _ in 0..len {
        refusals.push(take_refusal(cursor)?);
    }
    Some(Published { level, stored, reached, unrouted, refusals })
}

fn take_refusal(cursor: &mut Cursor<'_>) -> Option<Refusal> {
    let items = cursor.array_len()?;
    let (row, count) = (cursor.u32()?, cursor.u32()?);
    let code = cursor.text()?;
    let (code, message) = known_code(code, cursor.text()?.to_owned());
    for _ in 4..items {
        cursor.skip()?;
    }
    (items >= 4).then_some(Refusal { row, count, code, message: message.into() })
}

fn take_lost(cursor: &mut Cursor<'_>) -> Option<LostRange> {
    let items = cursor.array_len()?;
    let lost = LostRange { partition: cursor.u16()?, from: cursor.uint()?, to: cursor.uint()? };
    for _ in 3..items {
        cursor.skip()?;
    }
    (items >= 3).then_some(lost)
}

#[derive(Deserialize)]
struct RecordsBody {
    start: u64,
    end: u64,
    next: u64,
}

fn take_records(frame: &Bytes, cursor: &mut Cursor<'_>) -> Option<Records> {
    let RecordsBody { start, end, next } = rmp_serde::from_slice(cursor.skip()?).ok()?;
    Some(Records { start, end, next, runs: run::take_runs(frame, cursor)? })
}
