//! The walk before any typed decode: one pass that proves a frame to be exactly
//! one MessagePack value within the limits. No recursion, no allocation: the
//! stack of open containers is an array of [`limits::DEPTH_MAX`] counters.

use crate::limits;

/// Why bytes are not one value within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// A value goes on beyond the end of the frame.
    #[error("it ends inside the value at byte {at}")]
    Truncated {
        /// Where the value starts.
        at: usize,
    },
    /// Bytes are left behind the value.
    #[error("there are {left} bytes behind its end")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// A type that the protocol does not use: an extension, or the byte 0xc1.
    #[error("byte {at} is {marker:#04x}, an extension or reserved type")]
    Type {
        /// Where.
        at: usize,
        /// The byte.
        marker: u8,
    },
    /// Arrays and maps are nested deeper than the limit.
    #[error("it is nested deeper than {} at byte {at}", limits::DEPTH_MAX)]
    Depth {
        /// Where.
        at: usize,
    },
    /// An array or map has more items than the limit.
    #[error("it has {items} items in one container, over the limit of {}", limits::ITEMS_MAX)]
    Items {
        /// How many it says.
        items: u32,
    },
    /// More values than the limit.
    #[error("it has over {limit} values")]
    Nodes {
        /// How many are allowed.
        limit: u32,
    },
}

/// Walks a whole frame of at most `nodes_max` values, keys of maps included.
///
/// # Errors
/// See [`WalkError`].
pub fn walk(frame: &[u8], nodes_max: u32) -> Result<(), WalkError> {
    match frame.len() - value_len(frame, nodes_max)? {
        0 => Ok(()),
        left => Err(WalkError::Trailing { left }),
    }
}

/// Length of the one value that `bytes` start with, in bytes.
pub(crate) fn value_len(bytes: &[u8], nodes_max: u32) -> Result<usize, WalkError> {
    let mut open = [0u32; limits::DEPTH_MAX];
    let mut depth = 0;
    let mut at = 0;
    for _ in 0..nodes_max {
        let (next, children) = step(bytes, at)?;
        if children > 0 {
            let slot = open.get_mut(depth).ok_or(WalkError::Depth { at })?;
            *slot = children;
            depth += 1;
        }
        at = next;
        // A value is complete: so is every container that it was the last of.
        // An empty container opens nothing and counts as a plain value.
        let mut completed = children == 0;
        while completed && depth > 0 {
            open[depth - 1] -= 1;
            completed = open[depth - 1] == 0;
            depth -= usize::from(completed);
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(WalkError::Nodes { limit: nodes_max })
}

/// Reads the value at `at` without its children: where what follows starts, and
/// how many children come there.
fn step(bytes: &[u8], at: usize) -> Result<(usize, u32), WalkError> {
    let truncated = WalkError::Truncated { at };
    let marker = *bytes.get(at).ok_or(truncated)?;
    let after = at + 1;
    let length = |width: usize| -> Result<u32, WalkError> {
        let field = bytes.get(after..after + width).ok_or(truncated)?;
        Ok(field.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    };
    let scalar = |head: usize, body: usize| -> Result<(usize, u32), WalkError> {
        let end = after + head + body;
        if end > bytes.len() { Err(truncated) } else { Ok((end, 0)) }
    };
    let container = |head: usize, items: u32, per_item: u32| {
        if items > limits::ITEMS_MAX {
            return Err(WalkError::Items { items });
        }
        Ok((after + head, items * per_item))
    };
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Ok((after, 0)),
        0x80..=0x8f => container(0, u32::from(marker & 0x0f), 2),
        0x90..=0x9f => container(0, u32::from(marker & 0x0f), 1),
        0xa0..=0xbf => scalar(0, usize::from(marker & 0x1f)),
        0xc4 | 0xd9 => scalar(1, length(1)? as usize),
        0xc5 | 0xda => scalar(2, length(2)? as usize),
        0xc6 | 0xdb => scalar(4, length(4)? as usize),
        0xcc | 0xd0 => scalar(0, 1),
        0xcd | 0xd1 => scalar(0, 2),
        0xca | 0xce | 0xd2 => scalar(0, 4),
        0xcb | 0xcf | 0xd3 => scalar(0, 8),
        0xdc => container(2, length(2)?, 1),
        0xdd => container(4, length(4)?, 1),
        0xde => container(2, length(2)?, 2),
        0xdf => container(4, length(4)?, 2),
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => Err(WalkError::Type { at, marker }),
    }
}
