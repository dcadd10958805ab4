//! Where a producer of batches gets its answers: a subscription of its own, as fast
//! ingest wants it, and what the server says there.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::{Client, Message, Subscriber, jetstream};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;

use super::refusal::Refusal;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server says, unless it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Of a batch of fast ingest that goes on.
    Flow {
        /// All up to this one are kept; counted in the batch, from 1.
        sequence: u64,
        /// Messages until it says this again.
        every: u64,
    },
    /// Of a message, or of a batch at its end.
    Kept {
        /// So many of them.
        messages: u64,
    },
}

/// The answers as they are written: of fast ingest while its batch goes on, they have a
/// type; the others are acknowledgements of JetStream.
#[derive(Debug, Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: Option<String>,
    seq: Option<u64>,
    last_seq: Option<u64>,
    msgs: Option<u64>,
    count: Option<u64>,
    error: Option<jetstream::Error>,
}

/// See the module's text.
pub(super) struct Inbox {
    name: String,
    replies: Subscriber,
}

impl Inbox {
    pub(super) async fn open(client: &Client) -> Result<Self> {
        let name = client.new_inbox();
        let replies = client.subscribe(format!("{name}.>")).await?;
        Ok(Self { name, replies })
    }

    /// What the subjects of replies must begin with: a word for all inboxes, and one that
    /// no other has.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The latter.
    pub(super) fn id(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(_, id)| id)
    }

    /// Waits for the next answer.
    pub(super) async fn next(&mut self) -> Result<Reply> {
        let next = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        read(next.map_err(|_| Refusal::Silence)?)
    }

    /// The next answer, if it is here.
    pub(super) fn ready(&mut self) -> Result<Option<Reply>> {
        self.replies.next().now_or_never().map(read).transpose()
    }
}

fn read(message: Option<Message>) -> Result<Reply> {
    let message = message.context("the subscription has ended")?;
    let status = message.status;
    ensure!(status.is_none(), "no stream listens: {status:?}");
    parse(&message.payload)
}

fn parse(payload: &[u8]) -> Result<Reply> {
    let wire: Wire = serde_json::from_slice(payload).context("this is no answer of JetStream")?;
    if let Some(error) = wire.error {
        return Err(Refusal::Server(error).into());
    }
    let number = |field: Option<u64>| field.unwrap_or_default();
    match wire.kind.as_deref() {
        Some("ack") => {
            Ok(Reply::Flow { sequence: number(wire.seq), every: number(wire.msgs).max(1) })
        }
        Some("gap") => {
            let (expected, found) = (number(wire.last_seq), number(wire.seq));
            Err(Refusal::Gap { expected, found }.into())
        }
        Some(other) => bail!("an answer of the unknown type {other}"),
        // Of a message by itself it says no number.
        None => Ok(Reply::Kept { messages: wire.count.unwrap_or(1) }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(payload: &str) -> String {
        let error = parse(payload.as_bytes()).unwrap_err();
        error.downcast::<Refusal>().unwrap().to_string()
    }

    #[test]
    fn answers_are_told_apart() {
        let read = |payload: &str| parse(payload.as_bytes()).unwrap();
        assert_eq!(
            read(r#"{"type":"ack","seq":0,"msgs":250}"#),
            Reply::Flow { sequence: 0, every: 250 }
        );
        assert_eq!(read(r#"{"stream":"bench","seq":7}"#), Reply::Kept { messages: 1 });
        assert_eq!(
            read(r#"{"stream":"bench","seq":70,"batch":"b-1","count":64}"#),
            Reply::Kept { messages: 64 }
        );
    }

    #[test]
    fn refusals_have_a_type() {
        let code = r#""error":{"code":400,"err_code":10176,"description":"incomplete"}"#;
        let said = "refused: incomplete (code 400, error code 10176)";
        assert_eq!(refusal(&format!("{{{code}}}")), said);
        assert_eq!(refusal(&format!(r#"{{"type":"err","seq":3,{code}}}"#)), said);
        assert_eq!(
            refusal(r#"{"type":"gap","last_seq":4,"seq":9}"#),
            "message 9 of the batch came where 4 was expected"
        );
    }
}
