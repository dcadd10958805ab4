//! A thread of the journal that panics stops the journal: whoever waits for what it would
//! have done waits for ever otherwise.

use super::Shared;

/// Fences the journal when the thread that owns it panics.
pub(crate) struct FenceOnPanic<'a>(pub(crate) &'a Shared);

impl Drop for FenceOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fence("a thread of the journal panicked".to_owned());
        }
    }
}
