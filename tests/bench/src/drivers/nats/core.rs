//! Publish and subscribe, in plain lines of the NATS protocol: `async-nats` takes more of
//! the machine than the server does, which would be a measurement of the client.
//!
//! What is on its way is bounded by the sockets, and what one connection says is done in
//! order: the answer to a `PING` behind all messages says that the server has taken them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::timeout;

use crate::driver::{Answer, Publish, Receive};
use crate::drivers::socket::{Socket, encode_each};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Longest wait for messages, see [`Receive`].
const WAIT: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest line, bytes; what the server says of itself first takes less than one.
const LINE_BYTES_MAX: usize = 16 * 1024;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n";
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said<'a> {
    /// A message's payload.
    Message(&'a [u8]),
    Ping,
    Pong,
    /// What it is, and what concerns nobody here.
    Info,
}

/// What `bytes` begin with, and its length; `None` while it is not whole. An error of the
/// server is an error here.
#[inline]
fn first(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        ensure!(bytes.len() < LINE_BYTES_MAX, "a line without an end");
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").context("a line that ends otherwise")?;
    let behind = &bytes[end + 1..];
    if line.starts_with(b"MSG ") {
        let size = line.rsplit(|byte| *byte == b' ').next().and_then(number);
        let size = size.context("a message without a size")?;
        let Some((payload, rest)) = behind.split_at_checked(size) else { return Ok(None) };
        if rest.len() < 2 {
            return Ok(None);
        }
        ensure!(rest.starts_with(b"\r\n"), "a message of another size than it says");
        return Ok(Some((Said::Message(payload), end + 1 + size + 2)));
    }
    let said = match line {
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        _ if line.starts_with(b"INFO ") => Said::Info,
        _ => bail!("the server says {}", line.escape_ascii()),
    };
    Ok(Some((said, end + 1)))
}

#[inline]
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// Says something and waits until the server has done it, and all before it.
async fn settle(socket: &mut Socket, commands: &[u8]) -> Result<()> {
    let answered = async {
        socket.write(&[commands, PING].concat()).await?;
        loop {
            match socket.take(first)? {
                Some(Said::Pong) => return Ok(()),
                Some(Said::Ping) => socket.write(PONG).await?,
                Some(Said::Info) => {}
                Some(Said::Message(_)) => bail!("a message that nobody wants yet"),
                None => socket.read().await?,
            }
        }
    };
    timeout(ANSWER_WITHIN, answered).await.context("the server does not answer")?
}

pub(super) struct Publisher {
    socket: Socket,
    subject: String,
    /// The commands of one batch; kept for its memory.
    commands: Vec<u8>,
}

impl Publisher {
    pub(super) async fn open(address: SocketAddr, subject: String) -> Result<Self> {
        let mut socket = Socket::open(address).await?;
        settle(&mut socket, CONNECT).await?;
        Ok(Self { socket, subject, commands: Vec::new() })
    }
}

/// Writes a `PUB` for each message of a batch.
fn encode(commands: &mut Vec<u8>, subject: &str, batch: &Batch) -> Result<()> {
    encode_each(commands, format_args!("PUB {subject} {}\r\n", batch.size()), batch)
}

impl Publish for Publisher {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            encode(&mut self.commands, &self.subject, batch)?;
            // At once, also when it is a single message: nothing waits for more.
            self.socket.write(&self.commands).await
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(settle(&mut self.socket, b""))
    }
}

pub(super) struct Listener {
    socket: Socket,
}

impl Listener {
    pub(super) async fn open(address: SocketAddr, subject: &str) -> Result<Self> {
        let mut socket = Socket::open(address).await?;
        let subscribe = format!("SUB {subject} 1\r\n");
        settle(&mut socket, &[CONNECT, subscribe.as_bytes()].concat()).await?;
        Ok(Self { socket })
    }
}

impl Receive for Listener {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Ok(read) = timeout(WAIT, self.socket.read()).await {
                read?;
            }
            // Also when nothing was read: messages may have come with the subscription.
            let mut is_asked = false;
            while let Some(said) = self.socket.take(first)? {
                match said {
                    Said::Message(payload) => tally.see(payload),
                    Said::Ping => is_asked = true,
                    Said::Pong | Said::Info => {}
                }
            }
            if is_asked {
                self.socket.write(PONG).await?;
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

    const WHOLE: [(&[u8], Said<'static>); 6] = [
        (b"MSG news 1 5\r\nhello\r\n", Said::Message(b"hello")),
        (b"MSG news 1 0\r\n\r\n", Said::Message(b"")),
        (b"MSG news 1 9\r\nhe\r\nPONG\n\r\n", Said::Message(b"he\r\nPONG\n")),
        (b"PING\r\n", Said::Ping),
        (b"PONG\r\n", Said::Pong),
        (b"INFO {\"a\":1}\r\n", Said::Info),
    ];

    #[test]
    fn what_is_said_is_taken_whole_or_not_at_all() {
        for (bytes, wanted) in WHOLE {
            for cut in 0..bytes.len() {
                assert_eq!(first(&bytes[..cut]).unwrap(), None, "{wanted:?}, {cut} bytes of it");
            }
            for behind in WHOLE {
                let both = [bytes, behind.0].concat();
                assert_eq!(first(&both).unwrap(), Some((wanted, bytes.len())), "{wanted:?}");
            }
        }
    }

    #[test]
    fn what_nobody_says_is_refused() {
        let garbage: [&[u8]; 6] = [
            b"-ERR 'Slow Consumer'\r\n",
            b"PONG\n",
            b"MSG news 1 x\r\n",
            b"MSG news 1 \r\n",
            b"MSG news 1 1234567890\r\n",
            b"MSG news 1 2\r\nabc\r\n",
        ];
        for bytes in garbage {
            assert!(first(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(first(&vec![b'.'; LINE_BYTES_MAX]).is_err());
    }

    #[test]
    fn a_batch_is_one_command_a_message() {
        let mut commands = Vec::new();
        for (count, size) in [(3, 20), (1, 128)] {
            let batch = Batch::new(Layout::Binary, 0, count, size);
            encode(&mut commands, "news", &batch).unwrap();
            let one = format!("PUB news {size}\r\n{}\r\n", "x".repeat(size));
            assert_eq!(String::from_utf8_lossy(&commands), one.repeat(count));
        }
    }
}
