//! Ctrl-C, and the signal to stop, for commands that go on until one of them comes. One
//! that does not get as far as to look, because nobody takes what it writes, is ended by
//! the second.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Exit code of a command that was interrupted before it could end in good order.
const INTERRUPTED: i32 = 130;

/// Listens for both from when it is made: a signal that comes while the command does
/// something else is found by the next wait.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Listens from here on; until then a signal ends the process at once.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (interrupt, terminate) = both()?;
        let (mut again, mut terminate_again) = both()?;
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = again.recv() => {}
                    _ = terminate_again.recv() => {}
                }
            }
            std::process::exit(INTERRUPTED);
        });
        Ok(Self { interrupt, terminate })
    }

    /// The outcome of `work`; `None` when a signal came first.
    pub(crate) async fn before<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // First, since there may always be more work at hand.
            biased;
            _ = self.interrupt.recv() => None,
            _ = self.terminate.recv() => None,
            outcome = work => Some(outcome),
        }
    }
}

fn both() -> Result<(Signal, Signal), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
    };
    Ok((listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
}
