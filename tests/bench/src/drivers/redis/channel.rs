//! Publish and subscribe, in plain RESP: the crate's client takes more of the
//! machine than the server does, which would be a measurement of the client.
//!
//! Publishers have their replies off, which is what `CLIENT REPLY` is for where
//! nobody waits for them. What is on its way is bounded by the sockets, and commands
//! of one connection are done in order: the answer to one behind all others says
//! that the server has taken everything.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::connection::Connection;
use super::reply::Reply;
use crate::driver::{Answer, Publish, Receive};
use crate::drivers::socket::encode_each;
use crate::stamp::Batch;
use crate::tally::Tally;

/// Longest wait for messages, see [`Receive`].
const WAIT: Duration = Duration::from_millis(100);
const REPLY_ON: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n";
const REPLY_OFF: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n";

/// Its replies are off, but for the one that it waits for.
pub(super) struct Publisher {
    connection: Connection,
    subject: String,
    /// The commands of one batch; kept for its memory.
    commands: Vec<u8>,
}

impl Publisher {
    pub(super) async fn open(address: SocketAddr, subject: String) -> Result<Self> {
        let connection = Connection::open(address).await?;
        let mut publisher = Self { connection, subject, commands: Vec::new() };
        publisher.settle().await?;
        Ok(publisher)
    }

    /// Waits until the server has taken all commands so far.
    async fn settle(&mut self) -> Result<()> {
        self.connection.ask(REPLY_ON, &Reply::Line(b"+OK")).await?;
        self.connection.write(REPLY_OFF).await
    }
}

/// Writes a `PUBLISH` for each message of a batch.
fn encode(commands: &mut Vec<u8>, subject: &str, batch: &Batch) -> Result<()> {
    let (name, size) = (subject.len(), batch.size());
    let head = format_args!("*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{subject}\r\n${size}\r\n");
    encode_each(commands, head, batch)
}

impl Publish for Publisher {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            encode(&mut self.commands, &self.subject, batch)?;
            // At once, also when it is a single message: nothing waits for more.
            self.connection.write(&self.commands).await
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(self.settle())
    }
}

pub(super) struct Listener {
    connection: Connection,
}

impl Listener {
    pub(super) async fn open(address: SocketAddr, subject: &str) -> Result<Self> {
        let mut connection = Connection::open(address).await?;
        let command = format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{subject}\r\n", subject.len());
        connection.ask(command.as_bytes(), &Reply::Subscribed).await?;
        Ok(Self { connection })
    }
}

impl Receive for Listener {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Ok(read) = timeout(WAIT, self.connection.read()).await {
                read?;
            }
            // Also when nothing was read: messages may have come with the subscription.
            while let Some(reply) = self.connection.take()? {
                let Reply::Message(payload) = reply else { bail!("{reply}, not a message") };
                tally.see(payload);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::stamp::Layout;

    #[test]
    fn a_batch_is_one_command_a_message() {
        let mut commands = Vec::new();
        for (count, size) in [(3, 20), (1, 128)] {
            let batch = Batch::new(Layout::Binary, 0, count, size);
            encode(&mut commands, "news", &batch).unwrap();
            let payload = "x".repeat(size);
            let one = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${size}\r\n{payload}\r\n");
            assert_eq!(String::from_utf8_lossy(&commands), one.repeat(count));
        }
    }
}
