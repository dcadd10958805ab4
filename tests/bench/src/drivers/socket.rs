//! One connection to a server with a protocol that is read in place, and what was read
//! from it.
//!
//! What the server says are slices of the buffer that the socket was read into. The start
//! of what is not whole yet is moved to the front before the next read, so that a read
//! is one system call and no allocation, however many messages it brings.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stamp::Batch;

/// Bytes asked of a socket at once, as the relay's clients do; nothing that a server says
/// is longer.
const READ_BYTES: usize = 256 * 1024;

/// See the module's text.
pub(super) struct Socket {
    socket: TcpStream,
    received: ReadBuffer,
}

impl Socket {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, received: ReadBuffer::new(READ_BYTES) })
    }

    /// Hands commands to the socket; waits while it takes no more.
    pub(super) async fn write(&mut self, commands: &[u8]) -> Result<()> {
        self.socket.write_all(commands).await.context("writing to the server")
    }

    /// Waits until more has come. When it is given up before, nothing is lost: it
    /// has read nothing then.
    pub(super) async fn read(&mut self) -> Result<()> {
        let room = self.received.room();
        ensure!(!room.is_empty(), "the server says more than {READ_BYTES} bytes at once");
        let count = self.socket.read(room).await.context("reading from the server")?;
        ensure!(count > 0, "the server has closed the connection");
        self.received.filled(count);
        Ok(())
    }

    /// As [`ReadBuffer::take`].
    #[inline]
    pub(super) fn take<'a, T: 'a>(
        &'a mut self,
        first: impl FnOnce(&'a [u8]) -> Result<Option<(T, usize)>>,
    ) -> Result<Option<T>> {
        self.received.take(first)
    }
}

/// Writes `head`, a payload and the end of a line for each message of a batch.
pub(super) fn encode_each(
    commands: &mut Vec<u8>,
    head: fmt::Arguments<'_>,
    batch: &Batch,
) -> Result<()> {
    commands.clear();
    // It is written once and copied.
    commands.write_fmt(head)?;
    let head = commands.len();
    for (index, payload) in batch.payloads().enumerate() {
        if index > 0 {
            commands.extend_from_within(..head);
        }
        commands.extend_from_slice(payload);
        commands.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// What was read and not yet taken: `bytes[from..to]`.
pub(super) struct ReadBuffer {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl ReadBuffer {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes].into_boxed_slice(), from: 0, to: 0 }
    }

    /// Where more may be put; empty when something that is not whole fills all of it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        &mut self.bytes[self.to..]
    }

    /// So many bytes were put there.
    pub(super) fn filled(&mut self, count: usize) {
        self.to += count;
    }

    /// The oldest that is whole and was not taken yet; `first` tells what bytes begin with,
    /// and how long it is.
    #[inline]
    pub(super) fn take<'a, T: 'a>(
        &'a mut self,
        first: impl FnOnce(&'a [u8]) -> Result<Option<(T, usize)>>,
    ) -> Result<Option<T>> {
        let Some((found, length)) = first(&self.bytes[self.from..self.to])? else {
            return Ok(None);
        };
        self.from += length;
        Ok(Some(found))
    }
}
