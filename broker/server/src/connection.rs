//! One socket: the task that reads it and the task that writes it.
//!
//! The read task owns the socket's read half, its buffer and the session; the
//! write task owns the write half. They meet in the outbox only. The read task
//! stops reading while its own outbox is long, so a client that sends and never
//! reads blocks itself.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::broker::Broker;
use crate::connections::Slot;
use crate::limits::{ANSWERS_MS_MAX, DRAIN_MS_MAX, READ_BYTES_MAX, READ_BYTES_MIN};
use crate::outbox::{Outbox, Pieces};
use crate::session::{Ended, Session};
use crate::step_aside::step_aside;

/// Room for the next read. A connection that sends much reads much at once; one
/// that is idle, or promises what does not come, holds next to nothing.
#[derive(Debug)]
struct Room {
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: READ_BYTES_MIN }
    }
}

impl Room {
    /// Whether the client sends as much as can be read at once.
    fn is_widest(&self) -> bool {
        self.bytes == READ_BYTES_MAX
    }

    /// Whether the read took all the room there was: there may be more.
    fn learn(&mut self, read_bytes: usize) -> bool {
        let is_full = read_bytes >= self.bytes;
        if is_full {
            self.bytes = (4 * self.bytes).min(READ_BYTES_MAX);
        } else if read_bytes < self.bytes / 8 {
            self.bytes = (self.bytes / 2).max(READ_BYTES_MIN);
        }
        is_full
    }
}

/// Reads until the client is gone, breaks the protocol, or `stop` is called.
pub async fn read_loop(
    // Given back last, when the socket is closed.
    _slot: Arc<Slot>,
    mut socket: OwnedReadHalf,
    broker: Arc<Broker>,
    outbox: Arc<Outbox>,
    stop: CancellationToken,
) {
    let mut session = Session::new(broker, outbox.clone());
    let mut buffer = BytesMut::new();
    let mut room = Room::default();
    let mut is_at_end = false;
    let hello_until = tokio::time::Instant::now()
        + Duration::from_millis(weir_protocol::limits::HELLO_DEADLINE_MS);
    let why = loop {
        let read = async {
            outbox.wait_drained().await;
            buffer.reserve(room.bytes);
            socket.read_buf(&mut buffer).await
        };
        let read = tokio::select! {
            read = read => read,
            () = stop.cancelled() => break "the broker stops",
            () = tokio::time::sleep_until(hello_until), if !session.is_open() => {
                session.refuse_late_hello();
                break "no hello in time";
            }
        };
        let has_more = match read {
            Ok(0) => {
                is_at_end = true;
                break "the client closed the connection";
            }
            Ok(bytes) => room.learn(bytes),
            Err(error) => {
                debug!(connection = outbox.connection.0, %error, "cannot read");
                break "the connection broke";
            }
        };
        if let Err(Ended(why)) = session.receive(&mut buffer).await {
            break why;
        }
        // While there is more, reading and stopping are both ready: it is not left to chance.
        if has_more && stop.is_cancelled() {
            break "the broker stops";
        }
        session.between_reads(has_more).await;
        if has_more && room.is_widest() {
            step_aside().await;
        }
    };
    let drain = Duration::from_millis(DRAIN_MS_MAX);
    let answers = Duration::from_millis(ANSWERS_MS_MAX);
    if stop.is_cancelled() {
        // What was taken is answered before the client is told to go.
        let _ = tokio::time::timeout(answers, outbox.wait_settled()).await;
        session.say_goodbye();
    } else if is_at_end {
        // It may have said no more than that nothing follows, and still listen.
        let _ = tokio::time::timeout(answers, outbox.wait_answered()).await;
    }
    debug!(connection = outbox.connection.0, why, "connection ends");
    session.close().await;
    outbox.close();
    // A client that does not read must not keep its bytes and its task for ever.
    let _ = tokio::time::timeout(drain, outbox.wait_written()).await;
    outbox.abandon();
}

/// Writes what the outbox holds until it is closed and empty, or the socket
/// breaks.
pub async fn write_loop(_slot: Arc<Slot>, mut socket: OwnedWriteHalf, outbox: Arc<Outbox>) {
    let mut pieces = Pieces::default();
    while outbox.take(&mut pieces).await {
        let written = tokio::select! {
            written = write(&mut socket, &pieces, &outbox) => written,
            () = outbox.abandoned() => return,
        };
        if let Err(error) = written {
            debug!(connection = outbox.connection.0, %error, "cannot write");
            outbox.abandon();
            return;
        }
    }
    // The client reads to the end before it sees the connection close.
    let _ = socket.shutdown().await;
}

async fn write(
    socket: &mut OwnedWriteHalf,
    pieces: &Pieces,
    outbox: &Outbox,
) -> std::io::Result<()> {
    /// Slices handed to the kernel at once.
    const AT_ONCE: usize = 64;
    let slices = pieces.slices();
    for group in slices.chunks(AT_ONCE) {
        let mut list: Vec<IoSlice<'_>> = group.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = &mut list[..];
        while !rest.is_empty() {
            let written = socket.write_vectored(rest).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            // Told at once: it is how a slow reader is told from a stuck one.
            outbox.written(written);
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

/// Cuts everything up to `len` off the front of a read buffer, as shared bytes.
#[must_use]
pub fn cut(buffer: &mut BytesMut, len: usize) -> Bytes {
    let chunk = buffer.split_to(len).freeze();
    debug_assert_eq!(chunk.remaining(), len);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_follows_what_comes() {
        let mut room = Room::default();
        for _ in 0..5 {
            room.learn(room.bytes);
        }
        assert_eq!(room.bytes, READ_BYTES_MAX);
        room.learn(READ_BYTES_MAX / 2);
        assert_eq!(room.bytes, READ_BYTES_MAX, "half of it is no reason to change");
        for _ in 0..10 {
            room.learn(100);
        }
        assert_eq!(room.bytes, READ_BYTES_MIN);
    }
}
