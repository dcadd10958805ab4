//! The thread that counts the engine's epochs while calls run, and rests when none
//! does: a broker at rest wakes nobody.
//!
//! Owned by the engine. Invariant: while a [`Running`] is held the thread ticks; one
//! that rests is woken by the first call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::limits;

/// See the file's head.
pub(crate) struct Ticker {
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// What calls tell the thread.
pub(crate) struct Pulse {
    /// Calls that run.
    running: AtomicU32,
    /// The thread waits for a call.
    is_resting: AtomicBool,
    stops: AtomicBool,
    wake: SyncSender<()>,
}

/// A call that runs: the epoch is counted while it does.
pub(crate) struct Running(Arc<Pulse>);

impl Pulse {
    /// A call begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, SeqCst);
        // Either this sees that the thread rests, or the thread sees the call.
        if self.is_resting.load(SeqCst) && self.is_resting.swap(false, SeqCst) {
            // Full: it is being woken already.
            let _ = self.wake.try_send(());
        }
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Ticker {
    /// Starts the thread; it calls `tick` every [`limits::TICK`] while calls run.
    ///
    /// # Errors
    /// No thread is left.
    pub(crate) fn start(mut tick: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let pulse = Arc::new(Pulse {
            running: AtomicU32::new(0),
            is_resting: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            wake,
        });
        let shared = pulse.clone();
        let thread = std::thread::Builder::new().name("weir-epoch".into()).spawn(move || {
            let mut idle = 0;
            while !shared.stops.load(SeqCst) {
                if idle >= limits::IDLE_TICKS_MAX {
                    shared.is_resting.store(true, SeqCst);
                    if shared.running.load(SeqCst) == 0 && woken.recv().is_err() {
                        return;
                    }
                    shared.is_resting.store(false, SeqCst);
                    idle = 0;
                }
                // What is said meanwhile is that a call runs, or that it is over.
                let _ = woken.recv_timeout(limits::TICK);
                tick();
                idle = if shared.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
            }
        })?;
        Ok(Self { pulse, thread: Some(thread) })
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.pulse.stops.store(true, SeqCst);
        let _ = self.pulse.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            // The thread only waits and counts: it cannot have panicked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_rests_without_calls_and_ticks_while_one_runs() {
        let (told, ticks) = sync_channel(0);
        let tick = move || {
            // Nobody listens any more: the test is over.
            let _ = told.send(());
        };
        let ticker = Ticker::start(tick).expect("there is a thread left");
        let longest = Duration::from_secs(30);
        for _ in 0..2 {
            let running = ticker.pulse().begin();
            for _ in 0..3 * limits::IDLE_TICKS_MAX {
                ticks.recv_timeout(longest).expect("it ticks while a call runs");
            }
            drop(running);
            // The tick that was on its way, and those until it rests.
            let left = (0..=limits::IDLE_TICKS_MAX + 1)
                .take_while(|_| ticks.recv_timeout(Duration::from_secs(1)).is_ok());
            assert!(left.count() <= limits::IDLE_TICKS_MAX as usize + 1, "it does not rest");
            let rests = ticks.recv_timeout(Duration::from_secs(1));
            assert_eq!(rests, Err(RecvTimeoutError::Timeout));
        }
        drop(ticks);
    }
}
