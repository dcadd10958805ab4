//! One connection to the server in plain RESP, and what was read from it.
//!
//! Replies are slices of the buffer that the socket was read into. The start of one
//! that is not whole yet is moved to the front before the next read, so that a read
//! is one system call and no allocation, however many messages it brings.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ANSWER_WITHIN;
use super::reply::{self, Reply};

/// Bytes asked of a socket at once, as the relay's clients do; no reply is longer.
const READ_BYTES: usize = 256 * 1024;

/// See the module's text.
pub(super) struct Connection {
    socket: TcpStream,
    received: ReadBuffer,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, received: ReadBuffer::new(READ_BYTES) })
    }

    /// Hands commands to the socket; waits while it takes no more.
    pub(super) async fn write(&mut self, commands: &[u8]) -> Result<()> {
        self.socket.write_all(commands).await.context("writing to the server")
    }

    /// Sends a command and waits for its answer, which must be `wanted`.
    pub(super) async fn ask(&mut self, command: &[u8], wanted: &Reply<'_>) -> Result<()> {
        self.write(command).await?;
        let answered = timeout(ANSWER_WITHIN, self.answered(wanted)).await;
        answered.context("the server does not answer")?
    }

    async fn answered(&mut self, wanted: &Reply<'_>) -> Result<()> {
        loop {
            if let Some(reply) = self.take()? {
                ensure!(reply == *wanted, "the server answers {reply}, not {wanted}");
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// Waits until more has come. When it is given up before, nothing is lost: it
    /// has read nothing then.
    pub(super) async fn read(&mut self) -> Result<()> {
        let room = self.received.room();
        ensure!(!room.is_empty(), "a reply is longer than {READ_BYTES} bytes");
        let count = self.socket.read(room).await.context("reading from the server")?;
        ensure!(count > 0, "the server has closed the connection");
        self.received.filled(count);
        Ok(())
    }

    /// The oldest reply that is whole and was not taken yet.
    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<Reply<'_>>> {
        self.received.take()
    }
}

/// What was read and not yet taken: `bytes[from..to]`.
struct ReadBuffer {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl ReadBuffer {
    fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes].into_boxed_slice(), from: 0, to: 0 }
    }

    /// Where more may be put; empty when one reply fills all of it.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        &mut self.bytes[self.to..]
    }

    /// So many bytes were put there.
    fn filled(&mut self, count: usize) {
        self.to += count;
    }

    #[inline]
    fn take(&mut self) -> Result<Option<Reply<'_>>> {
        let Some((reply, length)) = reply::first(&self.bytes[self.from..self.to])? else {
            return Ok(None);
        };
        self.from += length;
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(payload: &str) -> String {
        format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${}\r\n{payload}\r\n", payload.len())
    }

    fn put(buffer: &mut ReadBuffer, bytes: &[u8]) {
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    /// Takes all messages that are whole: their payloads.
    fn payloads(buffer: &mut ReadBuffer) -> Vec<String> {
        let mut payloads = Vec::new();
        while let Some(reply) = buffer.take().unwrap() {
            let Reply::Message(payload) = reply else { panic!("{reply}") };
            payloads.push(String::from_utf8(payload.to_vec()).unwrap());
        }
        payloads
    }

    #[test]
    fn messages_come_through_two_reads_cut_anywhere() {
        let text = ["one", "", "three"].map(message).concat();
        for cut in 0..=text.len() {
            let mut buffer = ReadBuffer::new(text.len());
            put(&mut buffer, &text.as_bytes()[..cut]);
            let mut seen = payloads(&mut buffer);
            put(&mut buffer, &text.as_bytes()[cut..]);
            seen.extend(payloads(&mut buffer));
            assert_eq!(seen, ["one", "", "three"], "cut at {cut}");
        }
    }

    #[test]
    fn messages_come_through_a_buffer_that_holds_just_one() {
        let (one, three) = (message("one"), message("three"));
        let mut buffer = ReadBuffer::new(three.len());
        let mut seen = Vec::new();
        for byte in format!("{one}{three}").repeat(3).bytes() {
            put(&mut buffer, &[byte]);
            seen.extend(payloads(&mut buffer));
        }
        assert_eq!(seen, ["one", "three"].repeat(3));
    }

    #[test]
    fn a_reply_that_fills_the_buffer_leaves_no_room() {
        let text = message("one");
        let mut buffer = ReadBuffer::new(text.len() - 1);
        put(&mut buffer, &text.as_bytes()[1..]);
        assert!(buffer.take().is_err(), "what begins in the middle is no reply");

        let mut buffer = ReadBuffer::new(text.len() - 1);
        put(&mut buffer, &text.as_bytes()[..text.len() - 1]);
        assert_eq!(buffer.take().unwrap(), None);
        assert!(buffer.room().is_empty());
    }
}
