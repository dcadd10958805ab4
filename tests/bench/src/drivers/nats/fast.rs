//! Producer by fast ingest (ADR-50, server 2.14): a batch without an end, whose messages
//! are stored as they arrive and acknowledged many at a time, as often as the server says.
//!
//! What a message is to the batch stands in its reply subject:
//! `<inbox>.<flow>.<gap mode>.<sequence>.<operation>.$FI`. The flow is how many messages
//! may lie between two acknowledgements at most. How many it is now, the server tells with
//! each: it begins with one where it has other producers, doubles, and shares 500 among
//! them. A gap fails the batch. The batch is ended where the producer must settle, by a
//! message that is not stored, and answered with the number of those that are. Pings,
//! which ask again for an acknowledgement that was lost, are left out: a connection that
//! breaks is a fault of the run.

use anyhow::{Result, ensure};
use async_nats::{Client, Subject};
use bytes::Bytes;

use super::inbox::{Inbox, Reply};
use super::refusal::Refusal;
use crate::driver::{Answer, Pace, Produce};
use crate::stamp::Batch;

/// Acknowledgements that may be outstanding: what ADR-50 advises, the server works on
/// one lot while the next is on its way.
const OUTSTANDING: u64 = 2;

/// What a message is to its batch.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// The first.
    Start = 0,
    /// One more.
    Append = 1,
    /// The end, which is not stored.
    End = 3,
}

/// See the module's text.
pub(super) struct Fast {
    client: Client,
    subject: Subject,
    window: u64,
    open: Option<Open>,
}

/// A batch that has begun.
struct Open {
    inbox: Inbox,
    /// What its reply subjects begin with.
    prefix: String,
    sent: u64,
    kept: u64,
    /// Messages from one acknowledgement to the next.
    every: u64,
}

impl Fast {
    pub(super) fn new(client: Client, subject: Subject, pace: Pace) -> Self {
        Self { client, subject, window: pace.window.max(1) as u64, open: None }
    }

    async fn add(&mut self, payload: Bytes) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.client, self.window).await?,
        };
        while open.sent.saturating_sub(open.kept) >= open.room(self.window) {
            open.hear().await?;
        }
        let operation = if open.sent == 0 { Operation::Start } else { Operation::Append };
        open.sent += 1;
        let reply = reply(&open.prefix, open.sent, operation);
        self.client.publish_with_reply(self.subject.clone(), reply, payload).await?;
        if open.sent == 1 {
            // The server must agree, and say how many it takes at first.
            open.hear().await?;
        }
        self.open = Some(open);
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let reply = reply(&open.prefix, open.sent + 1, Operation::End);
        self.client.publish_with_reply(self.subject.clone(), reply, Bytes::new()).await?;
        loop {
            if let Reply::Kept { messages } = open.inbox.next().await? {
                let sent = open.sent;
                ensure!(messages == sent, Refusal::Count { sent, kept: messages });
                return Ok(());
            }
        }
    }
}

impl Open {
    async fn new(client: &Client, window: u64) -> Result<Self> {
        let inbox = Inbox::open(client).await?;
        let flow = (window / OUTSTANDING).clamp(1, u16::MAX.into());
        let prefix = format!("{}.{flow}.fail.", inbox.name());
        Ok(Self { inbox, prefix, sent: 0, kept: 0, every: flow })
    }

    /// Messages that may be unconfirmed now.
    fn room(&self, window: u64) -> u64 {
        window.min(self.every * OUTSTANDING)
    }

    /// Waits for the next acknowledgement.
    async fn hear(&mut self) -> Result<()> {
        match self.inbox.next().await? {
            Reply::Flow { sequence, every } => {
                self.kept = self.kept.max(sequence);
                self.every = every;
                Ok(())
            }
            // The server has ended the batch.
            Reply::Kept { messages } => {
                Err(Refusal::Count { sent: self.sent, kept: messages }.into())
            }
        }
    }
}

fn reply(prefix: &str, sequence: u64, operation: Operation) -> Subject {
    Subject::from(format!("{prefix}{sequence}.{}.$FI", operation as u8))
}

impl Produce for Fast {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            for payload in batch.shared() {
                self.add(payload).await?;
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_say_what_a_message_is() {
        let prefix = "_INBOX.abc.256.fail.";
        for (sequence, operation, expected) in [
            (1, Operation::Start, "_INBOX.abc.256.fail.1.0.$FI"),
            (2, Operation::Append, "_INBOX.abc.256.fail.2.1.$FI"),
            (3, Operation::End, "_INBOX.abc.256.fail.3.3.$FI"),
        ] {
            assert_eq!(reply(prefix, sequence, operation).as_str(), expected);
        }
    }
}
