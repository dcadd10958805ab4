//! The bytes of an outbox: short ones copied behind each other, long ones shared.

use bytes::Bytes;

use crate::limits::OUTBOX_BYTES_SOFT;

/// Bytes in order: copied ones in one buffer, shared ones spliced in.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Copied bytes.
    pub copied: Vec<u8>,
    /// Shared bytes, each with the offset in `copied` that it goes before.
    pub shared: Vec<(usize, Bytes)>,
    pub(super) shared_bytes: usize,
}

impl Pieces {
    /// All bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    /// Nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.shared.is_empty()
    }

    /// All bytes, in order.
    #[must_use]
    pub fn slices(&self) -> Vec<&[u8]> {
        let mut slices: Vec<&[u8]> = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (at, shared) in &self.shared {
            if *at > from {
                slices.push(&self.copied[from..*at]);
                from = *at;
            }
            slices.push(shared);
        }
        if self.copied.len() > from {
            slices.push(&self.copied[from..]);
        }
        slices
    }

    pub(super) fn clear(&mut self) {
        // A burst may have grown the buffer far beyond what is usual.
        if self.copied.capacity() > 2 * OUTBOX_BYTES_SOFT {
            self.copied = Vec::new();
        }
        self.copied.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }
}
