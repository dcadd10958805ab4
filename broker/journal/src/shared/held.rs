//! A writer that has no room for a file to go on in holds its block, and what waits
//! for that.
//!
//! Invariant: whoever could make the room waits for none of it. The writer looks for
//! itself, the keeper comes again later, and consumers settle in memory meanwhile.

use std::sync::atomic::Ordering;

use weir_core::store::StoreError;

use super::Shared;

impl Shared {
    /// As [`Shared::sync_through`], and waits for room as well where a thread writes:
    /// what was handed over cannot be taken back.
    ///
    /// # Errors
    /// The journal has stopped.
    pub(crate) fn sync_through_held(&self, position: u64) -> Result<(), StoreError> {
        loop {
            match self.sync_through(position) {
                Err(StoreError::NoSpace) if self.has_thread.load(Ordering::Relaxed) => {
                    let mut pending = Self::lock(&self.pending);
                    while self.is_held() && !self.is_fenced() {
                        pending = self.progress.wait(pending).expect("no panic under this lock");
                    }
                }
                done => return done,
            }
        }
    }

    /// Whether the writer waits for room.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    pub(crate) fn set_held(&self, is_held: bool) {
        if self.is_held() != is_held {
            // Under the lock, so that a waiter cannot miss it.
            let pending = Self::lock(&self.pending);
            self.is_held.store(is_held, Ordering::Release);
            drop(pending);
            self.progress.notify_all();
            // Whoever wrote may have been a store's owner: from now on the thread looks
            // for room, and not only when it is rung.
            self.work.notify_all();
        }
    }

    /// Makes a file for the writer to go on in, if there is none and there is room.
    pub(crate) fn keep_spare(&self) {
        // What else goes wrong does so again for the writer, which stops the journal.
        if !self.is_fenced() && self.spares.make_sure(&*self.files).is_ok_and(|is_there| is_there) {
            self.ring_held();
        }
    }

    /// There may be room for what the writer holds.
    pub(crate) fn ring_held(&self) {
        if self.is_held() {
            self.work.notify_one();
        }
    }
}
