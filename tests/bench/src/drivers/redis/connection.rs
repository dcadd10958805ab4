//! One connection to the server in plain RESP.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::time::timeout;

use super::ANSWER_WITHIN;
use super::reply::{self, Reply};
use crate::drivers::socket::Socket;

/// See the module's text.
pub(super) struct Connection {
    socket: Socket,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { socket: Socket::open(address).await? })
    }

    /// As [`Socket::write`].
    pub(super) async fn write(&mut self, commands: &[u8]) -> Result<()> {
        self.socket.write(commands).await
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

    /// As [`Socket::read`].
    pub(super) async fn read(&mut self) -> Result<()> {
        self.socket.read().await
    }

    /// The oldest reply that is whole and was not taken yet.
    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<Reply<'_>>> {
        self.socket.take(reply::first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::drivers::socket::ReadBuffer;

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
        while let Some(reply) = buffer.take(reply::first).unwrap() {
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
        assert!(buffer.take(reply::first).is_err(), "what begins in the middle is no reply");

        let mut buffer = ReadBuffer::new(text.len() - 1);
        put(&mut buffer, &text.as_bytes()[..text.len() - 1]);
        assert_eq!(buffer.take(reply::first).unwrap(), None);
        assert!(buffer.room().is_empty());
    }
}
