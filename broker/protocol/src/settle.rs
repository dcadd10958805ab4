//! The settle and credit frames: positional, because consumers send them as fast
//! as they receive.

use crate::wire::{self, Cursor};
use crate::{Credit, DecodeError, Op, RequestId, SubscriptionId, limits};

/// Delivery tags `first..=last`. Tags start at 1; a range may be far wider than
/// what is in flight, so whoever serves it must not count through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagRange {
    /// First tag.
    pub first: u64,
    /// Last tag, `first` or more.
    pub last: u64,
}

/// What a consumer says about its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Done.
    Ack,
    /// Give back; ready again after `delay_ms`, or for 0 when the plan says so.
    Nack {
        /// Delay, milliseconds.
        delay_ms: u32,
    },
    /// Keep longer: the lease runs for `by_ms` from now.
    Extend {
        /// New length of the lease, milliseconds; 0 for the plan's.
        by_ms: u32,
    },
    /// Never again: to the dead-letter queue.
    Reject {
        /// The consumer's reason, kept with the message.
        code: u8,
    },
}

/// A settle frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The consumer.
    pub sub: SubscriptionId,
    /// What it says.
    pub verb: Verb,
    /// About which deliveries.
    pub ranges: Vec<TagRange>,
}

/// Appends a settle frame. With id 0 there is no answer.
///
/// # Panics
/// With more than [`limits::SETTLE_RANGES_MAX`] ranges; split them before.
pub fn encode_settle(
    out: &mut Vec<u8>,
    id: RequestId,
    sub: SubscriptionId,
    verb: Verb,
    ranges: &[TagRange],
) {
    assert!(ranges.len() <= limits::SETTLE_RANGES_MAX, "too many ranges for one settle frame");
    let (number, argument) = match verb {
        Verb::Ack => (0, 0),
        Verb::Nack { delay_ms } => (1, delay_ms),
        Verb::Extend { by_ms } => (2, by_ms),
        Verb::Reject { code } => (3, u32::from(code)),
    };
    wire::frame(out, |out| {
        wire::put_array(out, 6);
        wire::put_uint(out, Op::Settle as u64);
        wire::put_uint(out, u64::from(id.0));
        wire::put_uint(out, u64::from(sub.0));
        wire::put_uint(out, number);
        wire::put_uint(out, u64::from(argument));
        wire::put_array(out, ranges.len() * 2);
        for range in ranges {
            wire::put_uint(out, range.first);
            wire::put_uint(out, range.last);
        }
    });
}

/// Appends a credit frame: `amount` more deliveries for consumer `sub`.
pub fn encode_credit(out: &mut Vec<u8>, sub: SubscriptionId, amount: u32) {
    wire::frame(out, |out| {
        wire::put_array(out, 4);
        wire::put_uint(out, Op::Credit as u64);
        wire::put_uint(out, 0);
        wire::put_uint(out, u64::from(sub.0));
        wire::put_uint(out, u64::from(amount));
    });
}

/// Reads what follows the id of a settle frame.
pub(crate) fn decode_settle(
    mut cursor: Cursor<'_>,
    items: u32,
    id: RequestId,
) -> Result<Settle, DecodeError> {
    let field = |name: &str| DecodeError::field(id, format!("settle: {name}"));
    if items != 6 {
        return Err(field("must be [3, id, sub, verb, argument, tags]"));
    }
    let sub = cursor.u32().ok_or_else(|| field("`sub` must be an unsigned 32-bit integer"))?;
    let verb = cursor.uint().ok_or_else(|| field("`verb` must be an unsigned integer"))?;
    let argument = match cursor.nil() {
        true => 0,
        false => cursor
            .u32()
            .ok_or_else(|| field("`argument` must be nil or an unsigned 32-bit integer"))?,
    };
    let within = |what, limit: u32| match argument <= limit {
        true => Ok(argument),
        false => Err(DecodeError::over(id, what, u64::from(argument), u64::from(limit))),
    };
    let verb = match verb {
        0 => Verb::Ack,
        1 => Verb::Nack { delay_ms: within("delay of a nack, ms", limits::DELAY_MS_MAX)? },
        2 => Verb::Extend { by_ms: within("length of a lease, ms", limits::DELAY_MS_MAX)? },
        3 => Verb::Reject { code: within("code of a reject", 255)? as u8 },
        _ => return Err(field("`verb` must be 0 ack, 1 nack, 2 extend or 3 reject")),
    };
    let len = cursor.array_len().ok_or_else(|| field("`tags` must be an array"))? as usize;
    if !len.is_multiple_of(2) {
        return Err(field("`tags` must hold pairs of first and last tag"));
    }
    if len == 0 && id.0 == 0 {
        return Err(field("without `tags` it asks what was settled, and needs an id"));
    }
    if len / 2 > limits::SETTLE_RANGES_MAX {
        let limit = limits::SETTLE_RANGES_MAX as u64;
        return Err(DecodeError::over(id, "ranges of a settle frame", len as u64 / 2, limit));
    }
    // Each tag takes a byte at least: a length beyond the frame allocates nothing.
    let mut ranges = Vec::with_capacity((len / 2).min(cursor.left()));
    for _ in 0..len / 2 {
        let pair = cursor.uint().zip(cursor.uint());
        let (first, last) = pair.ok_or_else(|| field("a tag must be an unsigned integer"))?;
        if first == 0 || first > last {
            return Err(field("a range must have 1 <= first <= last"));
        }
        ranges.push(TagRange { first, last });
    }
    if !cursor.is_at_end() {
        return Err(field("there are bytes behind its end"));
    }
    Ok(Settle { sub: SubscriptionId(sub), verb, ranges })
}

/// Reads what follows the id of a credit frame.
pub(crate) fn decode_credit(
    mut cursor: Cursor<'_>,
    items: u32,
    id: RequestId,
) -> Result<Credit, DecodeError> {
    match cursor.u32().zip(cursor.u32()) {
        Some((_, amount)) if amount > limits::CREDIT_MAX => {
            let limit = u64::from(limits::CREDIT_MAX);
            Err(DecodeError::over(id, "credit", u64::from(amount), limit))
        }
        // Whoever gave it another would wait for an answer.
        Some((sub, amount)) if id.0 == 0 && items == 4 && cursor.is_at_end() => {
            Ok(Credit { sub: SubscriptionId(sub), amount })
        }
        _ => Err(DecodeError::field(id, "credit: must be [4, 0, sub, amount]".into())),
    }
}
