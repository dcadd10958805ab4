//! The socket's writing half, and who may write to it.
//!
//! One task writes. To wake it from a thread that runs no task costs two changes of
//! threads, more than the write itself: such a caller writes itself, while the writer
//! waits and the line is quiet. A caller that is a task (a blocking one of the runtime
//! too) wakes the writer, mostly on its own thread, and goes on first: what it sends
//! until it waits leaves together.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::limits::{CALLER_BYTES_MAX, QUIET};

/// See the module's text. Kept under the lock of what the client's tasks share.
#[derive(Debug)]
pub(crate) struct Line {
    socket: Arc<OwnedWriteHalf>,
    /// What a caller took to write; the writer's, if the socket did not take it all.
    pub(crate) begun: Vec<u8>,
    /// When something was last written.
    written: Instant,
}

impl Line {
    pub(crate) fn new(socket: Arc<OwnedWriteHalf>) -> Self {
        Self { socket, begun: Vec::new(), written: Instant::now() }
    }

    /// Whether this caller had better write itself, when so many bytes wait: no more than
    /// the lock may be held for.
    pub(crate) fn is_for_callers(&self, waiting: usize) -> bool {
        let is_quiet = self.begun.is_empty() && self.written.elapsed() >= QUIET;
        is_quiet && waiting <= CALLER_BYTES_MAX && tokio::task::try_id().is_none() && !runs_tasks()
    }

    /// Writes of `begun` what the socket takes at once. Whether it took all; an error is
    /// met again, and told, by the writer.
    pub(crate) fn write_now(&mut self) -> bool {
        self.wrote();
        let written = self.socket.try_write(&self.begun).unwrap_or(0);
        self.begun.drain(..written);
        self.begun.is_empty()
    }

    /// Something was written.
    pub(crate) fn wrote(&mut self) {
        self.written = Instant::now();
    }
}

/// Whether this thread is the one that runs all tasks, too.
fn runs_tasks() -> bool {
    let handle = Handle::try_current();
    handle.is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// Writes all of `bytes`.
///
/// # Errors
/// The socket's.
pub(crate) async fn write_all(socket: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
