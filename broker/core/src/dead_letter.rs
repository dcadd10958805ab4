//! What a message looks like in a dead-letter queue: as it was, with headers
//! that say why it is there.

use weir_message::{HEADERS_MAX, Header, Headers, View, encode};

/// Header: why; see `docs/protocol.md`.
pub const REASON: &str = "weir-dead-reason";
/// Header: name of the queue, or `stream/group`.
pub const SOURCE: &str = "weir-dead-source";
/// Header: offset it had there, decimal; a stream's as `partition:offset`.
pub const OFFSET: &str = "weir-dead-offset";
/// Header: how often it was tried, decimal.
pub const ATTEMPTS: &str = "weir-dead-attempts";
/// Header: how many of the message's own headers had to go to make room for
/// these four; absent when none.
pub const HEADERS_CUT: &str = "weir-dead-headers-cut";

const OURS: [&str; 5] = [REASON, SOURCE, OFFSET, ATTEMPTS, HEADERS_CUT];

/// Why a message is dead.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    /// One sentence.
    pub reason: &'a str,
    /// Where it was: a queue, `stream/group`, or the binding that diverted it.
    pub source: &'a str,
    /// Partition of a stream; `None` for a queue.
    pub partition: Option<u16>,
    /// Offset it had there, 0 when it was not stored.
    pub offset: u64,
    /// How often it was tried.
    pub attempts: u16,
}

/// Name of the dead-letter queue of a queue or `stream/group`; `None` for what is
/// a dead-letter queue itself: those are not chained.
pub(crate) fn queue_name(source: &str) -> Option<String> {
    (!source.ends_with("/dead")).then(|| format!("{source}/dead"))
}

/// The message with our headers added; older ones of ours are replaced.
#[must_use]
pub fn with_reason(message: &[u8], why: &Why<'_>) -> Vec<u8> {
    let Ok(view) = View::of(message) else { return message.to_vec() };
    let offset = match why.partition {
        Some(partition) => format!("{partition}:{}", why.offset),
        None => why.offset.to_string(),
    };
    let attempts = why.attempts.to_string();
    let own: Vec<Header<'_>> = Headers::of(view.headers)
        .filter(|(name, _)| !OURS.contains(name))
        .map(|(name, value)| Header { name, value, text: is_text(view.headers, value) })
        .collect();
    let text = |name, value: &'_ str| -> (&str, Vec<u8>) { (name, value.as_bytes().to_vec()) };
    let mut added = vec![
        text(REASON, why.reason),
        text(SOURCE, why.source),
        text(OFFSET, &offset),
        text(ATTEMPTS, &attempts),
    ];
    let mut kept = own.len().min(HEADERS_MAX - added.len());
    if kept < own.len() {
        kept -= 1;
        added.push(text(HEADERS_CUT, &(own.len() - kept).to_string()));
    }
    let added = added.iter().map(|(name, value)| Header { name, value, text: true });
    let all: Vec<Header<'_>> = own[..kept].iter().copied().chain(added).collect();
    let mut headers = Vec::with_capacity(view.headers.len() + 160);
    Header::encode_all(&mut headers, &all);
    let mut out = Vec::new();
    encode(&mut out, view.subject, view.key, &headers, view.payload);
    out
}

/// Whether a header's value was written as text: it was not when its length, in
/// front of it, is that of a `bin`. (Text cannot end in such a marker's byte.)
fn is_text(headers: &[u8], value: &[u8]) -> bool {
    let at = value.as_ptr() as usize - headers.as_ptr() as usize;
    let len = value.len();
    let follows = |marker: u8, width: usize| {
        let Some(front) = at.checked_sub(1 + width) else { return false };
        let length = headers[front + 1..at].iter();
        headers[front] == marker && length.fold(0, |sum, &byte| sum << 8 | usize::from(byte)) == len
    };
    !(follows(0xc4, 1) || follows(0xc5, 2) || follows(0xc6, 4))
}
