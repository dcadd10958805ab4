//! Neighbouring messages in one buffer.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{MessageError, View, parse};

/// Where messages end; a few of them need no allocation.
pub type Ends = SmallVec<[u32; 4]>;

/// Messages laid end to end. Message `i` is `bytes[ends[i - 1]..ends[i]]`, with 0
/// before the first; `ends` rises strictly and its last entry is the length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The encoded messages.
    pub bytes: Bytes,
    /// Where each message ends in `bytes`.
    pub ends: Ends,
}

impl Batch {
    /// Reads `bytes` as messages laid end to end.
    ///
    /// # Errors
    /// The first message that is not well formed.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, MessageError> {
        let mut ends = Ends::new();
        let mut at = 0;
        while at < bytes.len() {
            at = parse(&bytes, at)?.end as usize;
            ends.push(at as u32);
        }
        Ok(Self { bytes, ends })
    }

    /// One encoded message.
    #[must_use]
    #[inline]
    pub fn of_one(message: Bytes) -> Self {
        let ends = Ends::from_slice(&[message.len() as u32]);
        Self { bytes: message, ends }
    }

    /// Number of messages.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no message.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Encoded bytes of message `row`.
    #[must_use]
    #[inline]
    pub fn message(&self, row: usize) -> &[u8] {
        &self.bytes[self.start(row)..self.ends[row] as usize]
    }

    /// Where message `row` starts in `bytes`; for `row == len()`, the end.
    #[must_use]
    #[inline]
    pub fn start(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.ends[row - 1] as usize }
    }

    /// Lengths of the messages `rows`, bytes.
    #[inline]
    pub fn lengths(&self, rows: Range<usize>) -> impl ExactSizeIterator<Item = u32> {
        let mut start = self.start(rows.start) as u32;
        self.ends[rows].iter().map(move |&end| end - std::mem::replace(&mut start, end))
    }

    /// The messages in order, as their encoded bytes.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.message(row))
    }

    /// Decoded view of message `row`.
    ///
    /// # Panics
    /// When the bytes of that row are not a message; a `Batch` is built from
    /// validated bytes only.
    #[must_use]
    pub fn view(&self, row: usize) -> View<'_> {
        View::of(self.message(row)).expect("a batch holds validated messages")
    }
}

/// Collects messages into one buffer.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    ends: Ends,
}

impl BatchBuilder {
    /// Appends one encoded message.
    pub fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Appends a run of encoded messages that lie end to end in `run`; `ends`
    /// are their ends relative to its start.
    pub fn push_run(&mut self, run: &[u8], ends: impl IntoIterator<Item = u32>) {
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(run);
        self.ends.extend(ends.into_iter().map(|end| base + end));
    }

    /// Messages so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The finished batch; the builder starts anew.
    #[must_use]
    pub fn take(&mut self) -> Batch {
        Batch {
            bytes: Bytes::from(std::mem::take(&mut self.bytes)),
            ends: std::mem::take(&mut self.ends),
        }
    }
}
