//! Whether the owner of a store writes by itself what it hands over. That is quicker than
//! a change of threads and back, where the write is short and the disk is not asked for
//! more than it does quickly.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use weir_core::command::Level;

use super::{Shared, Work};
use crate::limits;
use crate::writer::Writer;

/// The most that is written at once by an owner that wants `level`, bytes.
pub(crate) fn quick_bytes(level: Level) -> usize {
    match level {
        Level::Disk => limits::QUICK_SYNC_BYTES,
        _ => limits::QUICK_WRITE_BYTES,
    }
}

impl Shared {
    /// The writer, when it rests and writing `bytes`, with a sync where `level` asks for
    /// one, is quicker than a change of threads and back: then the owner of a store
    /// writes by itself what it hands over.
    pub(crate) fn resting_writer(
        &self,
        level: Level,
        bytes: usize,
    ) -> Option<MutexGuard<'_, Option<Writer>>> {
        let most = quick_bytes(level);
        let is_behind_others = self.pending_bytes() > 0 && !self.is_left.load(Ordering::Relaxed);
        if bytes > most
            || level == Level::Disk && self.is_slow()
            || self.config.quick_sync_us == 0
            || !self.has_thread.load(Ordering::Relaxed)
            || is_behind_others
            || self.is_held()
        {
            return None;
        }
        self.try_writer(level, bytes)
    }

    /// The writer, if nobody has it and `bytes` are written quickly.
    pub(crate) fn try_writer(
        &self,
        level: Level,
        bytes: usize,
    ) -> Option<MutexGuard<'_, Option<Writer>>> {
        let most = quick_bytes(level);
        let guard = self.writer.try_lock().ok()?;
        let writer = guard.as_ref()?;
        // A sync brings to the disk what others have written without one, too.
        let is_short =
            level != Level::Disk || writer.unsynced_bytes() + bytes as u64 <= most as u64;
        (is_short && writer.has_room(level, most)).then_some(guard)
    }

    /// A store begins a turn in which it will hand something over for a sync.
    pub(crate) fn begin_turn(&self) {
        self.in_turn.fetch_add(1, Ordering::Relaxed);
    }

    /// It is about to hand that over.
    pub(crate) fn end_turn(&self) {
        self.in_turn.fetch_sub(1, Ordering::Relaxed);
    }

    /// Something was left to a turn that takes long: nothing more is, for a while. Not where
    /// somebody is writing it by now.
    pub(crate) fn note_left_in_vain(&self, now_ms: u64) {
        if self.is_left.load(Ordering::Relaxed) {
            let until_ms = now_ms + limits::LEFT_IN_VAIN_MS;
            self.in_vain_until_ms.store(until_ms, Ordering::Relaxed);
        }
    }

    /// Whether somebody is in a turn to whom a write and its sync may be left.
    pub(crate) fn has_successor(&self) -> bool {
        self.in_turn.load(Ordering::Relaxed) > 0
            && self.clock.now().steady_ms >= self.in_vain_until_ms.load(Ordering::Relaxed)
    }

    /// Whether what is handed over now, the first of what waits if `is_first`, is left to
    /// whoever is in a turn and comes next: one sync for both, where the other would have to
    /// wait for this one. Asked under `pending`: who is in a turn then, hands over behind it.
    /// What wants no sync is left where what lies before it is: its block is synced anyway.
    pub(super) fn leaves_it(&self, is_first: bool, sync: bool, pending_bytes: usize) -> bool {
        let is_next = if sync { is_first } else { self.is_left.load(Ordering::Relaxed) };
        // The other's share of one quick write.
        is_next && pending_bytes <= limits::QUICK_SYNC_BYTES / 2 && self.has_successor()
    }

    /// Whether syncs take longer than a change of threads and back is worth.
    fn is_slow(&self) -> bool {
        self.sync_us.load(Ordering::Relaxed) > self.config.quick_sync_us
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

    /// As [`Shared::take_work`], where that is quick enough for who wants `level`: others
    /// may have put more before it meanwhile, or ask for a sync.
    pub(crate) fn take_quick_work(&self, level: Level) -> Option<Work> {
        let mut pending = Self::lock(&self.pending);
        let front = pending.blocks.front();
        let is_long = front.is_some_and(|block| block.bytes > quick_bytes(level));
        let is_synced = pending.sync || front.is_some_and(|block| block.sync);
        if is_long || is_synced && level != Level::Disk {
            return None;
        }
        self.take_from(&mut pending)
    }
}

#[cfg(test)]
mod tests;
