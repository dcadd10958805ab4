//! Messages that compaction has released: what waits goes, what a consumer holds goes
//! when that ends.
//!
//! A consumer's hold stays, so that with order per key the later message of the key
//! still waits for it.

use std::ops::Range;

use super::slot::{MessageId, State, message_id};
use super::{Group, Part};
use crate::store::Store;

impl Group {
    /// The log of `partition` has released `fresh`, and begins at `start` now.
    pub(crate) fn superseded(
        &mut self,
        now_ms: u64,
        store: &dyn Store,
        partition: u16,
        fresh: &[Range<u64>],
        start: u64,
    ) {
        // From the back, so that no message is made ready just to be removed.
        for range in fresh.iter().rev() {
            let part = &mut self.parts[usize::from(partition)];
            part.note_holes(store, range.clone());
            let taken = part.slots.range(range.start, range.end - 1);
            let taken: Vec<MessageId> =
                taken.map(|(offset, _)| message_id(partition, offset)).collect();
            for message in taken.into_iter().rev() {
                match self.slot_mut(message) {
                    Some(slot) if slot.state == State::InFlight => slot.released = true,
                    _ => self.gone(now_ms, message),
                }
            }
        }
        let part: &mut Part = &mut self.parts[usize::from(partition)];
        part.skip_to(store, start);
    }
}
