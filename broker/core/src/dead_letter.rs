//! What a message looks like in a dead-letter queue: as it was, with headers
//! that say why it is there.
//!
//! It is kept in the dead-letter queue first and settled at its source after
//! that, so that it is never in neither. A crash in between leaves it in both:
//! its source delivers it again, and if it dies again there are two of it in the
//! dead-letter queue. They have the same [`SOURCE`] and [`OFFSET`], by which a
//! consumer tells that they are one message: a source never uses an offset twice
//! for messages that outlive the process.

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

/// What ends the name of a dead-letter queue.
pub const QUEUE_END: &str = "/dead";

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
    (!source.ends_with(QUEUE_END)).then(|| format!("{source}{QUEUE_END}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[Header<'_>]) -> Vec<u8> {
        let mut map = Vec::new();
        Header::encode_all(&mut map, headers);
        let mut bytes = Vec::new();
        encode(&mut bytes, "orders.eu", b"key", &map, b"payload");
        bytes
    }

    const WHY: Why<'_> =
        Why { reason: "exhausted", source: "orders", partition: None, offset: 7, attempts: 3 };

    #[test]
    fn the_message_s_own_headers_stay_as_they_were() {
        for length in [0, 1, 31, 32, 200, 255, 256, 70_000] {
            for text in [true, false] {
                // The name ends in a byte that a marker could be taken for.
                let value = vec![b'a'; length];
                let own = Header { name: "na\u{104}", value: &value, text };
                let dead = with_reason(&message(&[own]), &WHY);
                let ours = |name, value: &'static str| Header {
                    name,
                    value: value.as_bytes(),
                    text: true,
                };
                let all = [
                    own,
                    ours(REASON, "exhausted"),
                    ours(SOURCE, "orders"),
                    ours(OFFSET, "7"),
                    ours(ATTEMPTS, "3"),
                ];
                assert_eq!(dead, message(&all), "length {length}, text {text}");
            }
        }
    }

    #[test]
    fn a_second_death_replaces_the_first() {
        let once = with_reason(&message(&[]), &WHY);
        let again = Why { reason: "rejected:1", partition: Some(2), ..WHY };
        let twice = with_reason(&once, &again);
        let view = View::of(&twice).expect("well formed");
        assert_eq!(Headers::of(view.headers).count(), 4);
        assert_eq!(view.header(REASON), Some(&b"rejected:1"[..]));
        assert_eq!(view.header(OFFSET), Some(&b"2:7"[..]));
    }

    #[test]
    fn too_many_headers_are_cut_and_it_says_so() {
        let names: Vec<String> = (0..HEADERS_MAX).map(|k| format!("h{k}")).collect();
        let own = names.iter().map(|name| Header { name, value: b"v", text: true });
        let dead = with_reason(&message(&own.collect::<Vec<_>>()), &WHY);
        let view = View::of(&dead).expect("still well formed");
        assert_eq!(Headers::of(view.headers).count(), HEADERS_MAX);
        assert_eq!(view.header(HEADERS_CUT), Some(&b"5"[..]));
        assert_eq!(view.header("h58"), Some(&b"v"[..]));
        assert_eq!(view.header("h59"), None);
    }
}
