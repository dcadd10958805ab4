//! Waiting for time to pass, which is what a load does: windows, warm-ups, the gap
//! between two messages; and for nothing but others. The only file of the benchmark that
//! does.

use std::time::Duration;

/// Lets time pass.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets other tasks of this thread have their turn, and their sockets be looked at.
pub(crate) async fn let_others() {
    tokio::task::yield_now().await;
}

/// Lets time pass for this thread, as exactly as the kernel allows. Once per thread
/// [`exactly`] must have been called.
pub(crate) fn pause_thread(time: Duration) {
    std::thread::sleep(time);
}

/// Asks the kernel not to wake this thread late in order to wake several at once,
/// which it otherwise does by 50 µs.
pub(crate) fn exactly() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
