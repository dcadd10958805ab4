//! Writing responses, for servers. Each function appends one whole frame;
//! deliver frames are written by [`DeliverBuilder`](crate::DeliverBuilder), or by
//! [`deliver_head`] where the messages are not to be copied.

use serde::Serialize;

use crate::run::{self, RunHeader};
use crate::{
    ErrorCode, Level, LostRange, Op, Refusal, RequestId, SubscriptionId, WireError, limits, walk,
    wire,
};

/// Appends an ok answer with a body that is a map, or an error in its place when the frame
/// would be over `limits::ANSWER_BYTES_MAX`, too deep or of too many values: no request of a
/// client may make a frame that the client has to refuse.
pub fn encode_ok(out: &mut Vec<u8>, id: RequestId, body: &(impl Serialize + ?Sized)) {
    let start = out.len();
    wire::frame(out, |out| {
        head(out, Op::Ok, 3, id.0);
        wire::put_body(out, body);
    });
    let frame = &out[start + limits::PREFIX_BYTES..];
    let fault = match frame.len() {
        length if length > limits::ANSWER_BYTES_MAX as usize => {
            Some(format!("the answer would be {length} bytes long"))
        }
        _ => walk(frame, limits::ANSWER_NODES_MAX)
            .err()
            .map(|error| format!("the answer cannot be told: {error}")),
    };
    if let Some(message) = fault {
        out.truncate(start);
        let error = WireError {
            hint: "ask for one thing at a time, or for fewer items".into(),
            ..WireError::new(ErrorCode::TooLarge, message)
        };
        encode_error(out, id, &error);
    }
}

/// Appends a refusal. With id 0 the connection must be closed behind it.
pub fn encode_error(out: &mut Vec<u8>, id: RequestId, error: &WireError) {
    error_frame(out, Op::Error, id.0, error);
}

/// Appends the outcome of a publish. Neighbouring refusals of one code and text
/// should have been merged; their texts are left out when the frame would get
/// too long with them.
pub fn encode_published(
    out: &mut Vec<u8>,
    id: RequestId,
    level: Level,
    stored: u64,
    reached: u64,
    unrouted: u64,
    refusals: &[Refusal],
) {
    let text_bytes: usize = refusals.iter().map(|refusal| refusal.message.len() + 32).sum();
    let with_text = text_bytes < limits::FRAME_BYTES_MAX as usize;
    wire::frame(out, |out| {
        head(out, Op::Published, 7, id.0);
        wire::put_uint(out, level as u64);
        wire::put_uint(out, stored);
        wire::put_uint(out, reached);
        wire::put_uint(out, unrouted);
        wire::put_array(out, refusals.len());
        for refusal in refusals {
            wire::put_array(out, 4);
            wire::put_uint(out, u64::from(refusal.row));
            wire::put_uint(out, u64::from(refusal.count));
            wire::put_text(out, refusal.code.text());
            wire::put_text(out, if with_text { &refusal.message } else { "" });
        }
    });
}

/// Appends a deliver frame of one run up to its messages, which must follow as
/// they are: `header.count` of them, `messages_len` bytes together.
pub fn deliver_head(
    out: &mut Vec<u8>,
    sub: SubscriptionId,
    header: &RunHeader,
    messages_len: usize,
) {
    let start = wire::begin_frame(out);
    head(out, Op::Deliver, 3, sub.0);
    wire::put_array(out, 1);
    run::put_run_header(out, header);
    let body = start + limits::PREFIX_BYTES;
    let length = u32::try_from(out.len() - body + messages_len).expect("runs are far below 4 GiB");
    out[start..body].copy_from_slice(&length.to_be_bytes());
}

/// Appends a range of a stream: `start`, `end` and `next` as in
/// [`Records`](crate::Records).
pub fn encode_records<'a>(
    out: &mut Vec<u8>,
    id: RequestId,
    (start, end, next): (u64, u64, u64),
    runs: impl ExactSizeIterator<Item = (RunHeader, &'a [u8])>,
) {
    wire::frame(out, |out| {
        head(out, Op::Records, 4, id.0);
        wire::put_map(out, 3);
        for (key, value) in [("start", start), ("end", end), ("next", next)] {
            wire::put_text(out, key);
            wire::put_uint(out, value);
        }
        wire::put_array(out, runs.len());
        for (header, messages) in runs {
            run::put_run(out, &header, messages);
        }
    });
}

/// Appends a notice that a channel listener missed `count` messages, or that so many of
/// those kept for a consumer are lost, and where.
pub fn encode_skipped(out: &mut Vec<u8>, sub: SubscriptionId, count: u64, lost: Option<LostRange>) {
    wire::frame(out, |out| {
        head(out, Op::Skipped, 3 + usize::from(lost.is_some()), sub.0);
        wire::put_uint(out, count);
        if let Some(LostRange { partition, from, to }) = lost {
            wire::put_array(out, 3);
            wire::put_uint(out, u64::from(partition));
            wire::put_uint(out, from);
            wire::put_uint(out, to);
        }
    });
}

/// Appends a notice that the broker ended a subscription or consumer.
pub fn encode_ended(out: &mut Vec<u8>, sub: SubscriptionId, error: &WireError) {
    error_frame(out, Op::Ended, sub.0, error);
}

/// Appends the last frame before the broker closes the connection in good order.
pub fn encode_goodbye(out: &mut Vec<u8>, error: &WireError) {
    error_frame(out, Op::Goodbye, 0, error);
}

fn head(out: &mut Vec<u8>, op: Op, items: usize, number: u32) {
    wire::put_array(out, items);
    wire::put_uint(out, op as u64);
    wire::put_uint(out, u64::from(number));
}

fn error_frame(out: &mut Vec<u8>, op: Op, number: u32, error: &WireError) {
    wire::frame(out, |out| {
        head(out, op, 3, number);
        wire::put_map(out, 3 + u8::from(error.lost.is_some()));
        let texts =
            [("code", error.code.text()), ("message", &error.message), ("hint", &error.hint)];
        for (key, text) in texts {
            wire::put_text(out, key);
            let end = text.floor_char_boundary(limits::ERROR_TEXT_BYTES_MAX);
            wire::put_text(out, &text[..end]);
        }
        if let Some((from, to)) = error.lost {
            wire::put_text(out, "lost");
            wire::put_array(out, 2);
            wire::put_uint(out, from);
            wire::put_uint(out, to);
        }
    });
}
