//! The publish frame: the hottest of all. Its messages stay where they are; what
//! comes out of decoding are offsets into what was read.

use std::ops::Range;

use bytes::Bytes;
use weir_message::Parts;

use crate::wire::{self, Cursor};
use crate::{DecodeError, Op, RequestId, limits};

/// What a publish frame says beside its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHead {
    /// The request; 0 when no acknowledgement is wanted.
    pub id: RequestId,
    /// Delay before a queue's consumers see the messages, milliseconds.
    pub delay_ms: u32,
}

/// A publish frame and where its messages lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFrame {
    /// The request; 0 when no acknowledgement is wanted.
    pub id: RequestId,
    /// Delay before a queue's consumers see the messages, milliseconds.
    pub delay_ms: u32,
    /// The whole frame, without its prefix.
    pub frame: Bytes,
    /// The messages as offsets into `frame`; each starts where the one before
    /// ends, so that neighbours are one slice.
    pub messages: Vec<Parts>,
}

/// The operation of a frame, if it has a head at all; cheap, checks nothing else.
#[must_use]
pub fn peek_op(frame: &[u8]) -> Option<Op> {
    let mut cursor = Cursor::new(frame);
    cursor.array_len()?;
    Op::of(cursor.uint()?)
}

/// Reads the publish frame at `buffer[frame]`, appending where its messages lie in the
/// buffer to `messages`; those that are there already lie in it, too. Every message is
/// checked whole.
///
/// # Errors
/// See [`DecodeError`]; what was appended is then taken back.
///
/// # Panics
/// When `frame` is not within the buffer.
pub fn decode_publish_into(
    buffer: &[u8],
    frame: Range<usize>,
    messages: &mut Vec<Parts>,
) -> Result<PublishHead, DecodeError> {
    let mut cursor = Cursor { bytes: &buffer[..frame.end], at: frame.start };
    let items = cursor.array_len().ok_or(DecodeError::NoHead)?;
    let op = cursor.uint().ok_or(DecodeError::NoHead)?;
    let id = RequestId(cursor.u32().ok_or(DecodeError::NoHead)?);
    if op != Op::Publish as u64 || items != 4 {
        return Err(DecodeError::field(id, "publish: must be [2, id, options, messages]".into()));
    }
    let delay_ms = take_options(&mut cursor, id)?;
    let before = messages.len();
    take_messages(&mut cursor, id, messages).inspect_err(|_| messages.truncate(before))?;
    Ok(PublishHead { id, delay_ms })
}

fn take_options(cursor: &mut Cursor<'_>, id: RequestId) -> Result<u32, DecodeError> {
    if cursor.nil() {
        return Ok(0);
    }
    let refuse = |text: String| DecodeError::field(id, text);
    let pairs =
        cursor.map_len().ok_or_else(|| refuse("publish: `options` must be nil or a map".into()))?;
    let mut delay_ms = 0;
    // Bounded by the frame: each round takes bytes or fails.
    for _ in 0..pairs {
        let key = cursor
            .text()
            .ok_or_else(|| refuse("publish: a key of `options` must be text".into()))?;
        if key != "delay_ms" {
            let key = key.escape_default();
            return Err(refuse(format!("publish: unknown option `{key}`, expected `delay_ms`")));
        }
        delay_ms = cursor.u32().ok_or_else(|| {
            refuse("publish: `delay_ms` must be an unsigned 32-bit integer".into())
        })?;
    }
    if delay_ms > limits::DELAY_MS_MAX {
        let limit = u64::from(limits::DELAY_MS_MAX);
        return Err(DecodeError::over(id, "delay of a publish, ms", u64::from(delay_ms), limit));
    }
    Ok(delay_ms)
}

fn take_messages(
    cursor: &mut Cursor<'_>,
    id: RequestId,
    messages: &mut Vec<Parts>,
) -> Result<(), DecodeError> {
    let refuse = |text: &str| DecodeError::field(id, text.into());
    let count =
        cursor.array_len().ok_or_else(|| refuse("publish: `messages` must be an array"))? as usize;
    if count > limits::PUBLISH_MESSAGES_MAX {
        let limit = limits::PUBLISH_MESSAGES_MAX as u64;
        return Err(DecodeError::over(id, "messages of a publish frame", count as u64, limit));
    }
    if count == 0 {
        return Err(refuse("publish: `messages` must hold one message at least"));
    }
    // A message takes six bytes at least: a count beyond the frame allocates nothing.
    messages.reserve(count.min(cursor.left() / 6));
    for row in 0..count {
        let parsed = match messages.last() {
            Some(previous) => weir_message::parse_after(cursor.bytes, cursor.at, previous),
            None => weir_message::parse(cursor.bytes, cursor.at),
        };
        let parts = parsed.map_err(|error| DecodeError::Message { id, row: row as u32, error })?;
        cursor.at = parts.end as usize;
        messages.push(parts);
    }
    match cursor.is_at_end() {
        true => Ok(()),
        false => Err(refuse("publish: there are bytes behind its end")),
    }
}

/// Writes one publish frame into a buffer that holds others too: start, any
/// number of messages, finish. The frame is not valid before
/// [`PublishBuilder::finish`], which also gives it its id.
#[derive(Debug)]
#[must_use = "a started frame must be finished or abandoned"]
pub struct PublishBuilder {
    start: usize,
    id_at: usize,
    count_at: usize,
    count: u16,
}

impl PublishBuilder {
    /// Starts a frame at the end of `out`.
    pub fn start(out: &mut Vec<u8>, delay_ms: u32) -> Self {
        let start = wire::begin_frame(out);
        wire::put_array(out, 4);
        wire::put_uint(out, Op::Publish as u64);
        let id_at = out.len();
        wire::put_u32_wide(out, 0);
        if delay_ms == 0 {
            wire::put_nil(out);
        } else {
            wire::put_map(out, 1);
            wire::put_text(out, "delay_ms");
            wire::put_uint(out, u64::from(delay_ms));
        }
        let count_at = out.len();
        wire::put_array_wide(out, 0);
        Self { start, id_at, count_at, count: 0 }
    }

    /// Messages so far.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Length of the frame so far, bytes after the prefix.
    #[must_use]
    pub fn frame_bytes(&self, out: &[u8]) -> usize {
        out.len() - self.start - limits::PREFIX_BYTES
    }

    /// Whether another message of `message_bytes` keeps the frame within
    /// `frame_bytes_max` bytes and `messages_max` messages (from the hello answer).
    #[must_use]
    pub fn fits(
        &self,
        out: &[u8],
        message_bytes: usize,
        frame_bytes_max: u32,
        messages_max: u32,
    ) -> bool {
        self.frame_bytes(out) + message_bytes <= frame_bytes_max as usize
            && self.count() < limits::PUBLISH_MESSAGES_MAX.min(messages_max as usize)
    }

    /// Appends an encoded message; see [`weir_message::encode`].
    pub fn push(&mut self, out: &mut Vec<u8>, message: &[u8]) {
        out.extend_from_slice(message);
        self.count += 1;
    }

    /// Encodes a message right into the frame; `headers` as in
    /// [`weir_message::encode`].
    #[inline]
    pub fn push_parts(
        &mut self,
        out: &mut Vec<u8>,
        subject: &str,
        key: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) {
        weir_message::encode(out, subject, key, headers, payload);
        self.count += 1;
    }

    /// Completes the frame. `id` 0 asks for no acknowledgement.
    pub fn finish(self, out: &mut [u8], id: RequestId) {
        debug_assert!(self.count > 0, "a publish frame holds one message at least");
        out[self.id_at + 1..self.id_at + 5].copy_from_slice(&id.0.to_be_bytes());
        out[self.count_at + 1..self.count_at + 3].copy_from_slice(&self.count.to_be_bytes());
        wire::end_frame(out, self.start);
    }

    /// Takes the frame back out of `out`.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}
