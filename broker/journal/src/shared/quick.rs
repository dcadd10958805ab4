//! Whether the owner of a store writes by itself what it hands over. That is quicker than
//! a change of threads and back, where the write is short and the disk is not asked for
//! more than it does quickly.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use weir_core::command::Level;

use super::{Shared, Work};
use crate::limits;
use crate::writer::Writer;

impl Shared {
    /// The writer, when it rests and writing `bytes`, with a sync where `level` asks for
    /// one, is quicker than a change of threads and back: then the owner of a store
    /// writes by itself what it hands over.
    pub(crate) fn resting_writer(
        &self,
        level: Level,
        bytes: usize,
    ) -> Option<MutexGuard<'_, Option<Writer>>> {
        let is_quick = match level {
            Level::Disk => {
                bytes <= limits::QUICK_SYNC_BYTES
                    && self.sync_us.load(Ordering::Relaxed) <= self.config.quick_sync_us
            }
            _ => bytes <= limits::QUICK_WRITE_BYTES,
        };
        if !is_quick
            || self.config.quick_sync_us == 0
            || !self.has_thread.load(Ordering::Relaxed)
            || self.pending_bytes() > 0
            || self.is_held()
        {
            return None;
        }
        let writer = self.writer.try_lock().ok()?;
        let has_room = writer.as_ref().is_some_and(|writer| writer.has_room(bytes));
        has_room.then_some(writer)
    }

    /// Notes how long a write with its sync took. Real time, which nothing hangs on
    /// but the choice above: where no thread writes, it is never looked at.
    pub(crate) fn note_sync(&self, took: std::time::Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.sync_us.load(Ordering::Relaxed);
        // One that takes long counts at once, quick ones bring it down slowly.
        let now = if before == u64::MAX { took } else { took.max(before - before / 8) };
        self.sync_us.store(now, Ordering::Relaxed);
    }

    /// As [`Shared::take_work`], while nobody waits for a sync.
    pub(crate) fn take_unsynced_work(&self) -> Option<Work> {
        let mut pending = Self::lock(&self.pending);
        let is_awaited = pending.sync || pending.blocks.front().is_some_and(|block| block.sync);
        if is_awaited { None } else { self.take_from(&mut pending) }
    }
}

#[cfg(test)]
mod tests;
