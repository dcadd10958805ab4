//! Producer by atomic batches (ADR-50, server 2.12): their messages are put aside until
//! the last of them commits all; then they are stored, synced as a whole (server 2.15; one
//! by one before), and acknowledged together.
//!
//! What is handed over at once is one batch. Where messages are handed over one by one,
//! each is published by itself as long as few acknowledgements are outstanding, and
//! otherwise put into a batch that is committed with the first message after the next
//! acknowledgement, or at the end by a message that is not stored: while the server syncs
//! one batch the next gathers, and a message that is alone waits for no others.

use anyhow::{Result, bail, ensure};
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;

use super::inbox::{Inbox, Reply};
use super::refusal::Refusal;
use crate::driver::{Answer, Pace, Produce};
use crate::stamp::Batch;

/// Messages of a batch; more the server refuses.
const MESSAGES_MAX: u64 = 1_000;
/// Batches of a producer that are not acknowledged. The server takes 50 a stream; no
/// workload has more than three producers of one.
const IN_FLIGHT_MAX: u64 = 16;
/// Outstanding acknowledgements from which on single messages gather.
const GATHER_FROM: u64 = 2;

static BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
static BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
static BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

/// See the module's text.
pub(super) struct Atomic {
    client: Client,
    subject: Subject,
    inbox: Inbox,
    /// Where acknowledgements go.
    reply: Subject,
    window: u64,
    /// Messages that are not acknowledged, those of the open batch with them.
    unconfirmed: u64,
    /// Acknowledgements that are outstanding.
    in_flight: u64,
    /// Messages of the batch that is not committed yet.
    gathered: u64,
    /// Batches so far.
    batches: u64,
    /// Name of the one that is not committed yet, or of the next.
    batch: String,
}

impl Atomic {
    pub(super) async fn open(client: Client, subject: Subject, pace: Pace) -> Result<Self> {
        let inbox = Inbox::open(&client).await?;
        let mut atomic = Self {
            reply: Subject::from(format!("{}.ack", inbox.name())),
            client,
            subject,
            inbox,
            window: pace.window.max(pace.batch) as u64,
            unconfirmed: 0,
            in_flight: 0,
            gathered: 0,
            batches: 0,
            batch: String::new(),
        };
        atomic.name_batch();
        Ok(atomic)
    }

    /// A name that no other producer's batch has.
    fn name_batch(&mut self) {
        self.batches += 1;
        self.batch = format!("{}-{}", self.inbox.id(), self.batches);
    }

    /// Waits until one more message may be on its way.
    async fn make_room(&mut self) -> Result<()> {
        let begins = self.gathered == 0;
        // There is something to wait for: a batch is committed before it fills the window.
        while self.unconfirmed >= self.window || (begins && self.in_flight >= IN_FLIGHT_MAX) {
            self.hear().await?;
        }
        Ok(())
    }

    /// Publishes a message; as the last of its batch, if it is to commit it.
    async fn add(&mut self, payload: Bytes, commit: bool) -> Result<()> {
        self.gathered += 1;
        self.unconfirmed += 1;
        let (client, subject, reply) = (&self.client, self.subject.clone(), self.reply.clone());
        match (commit, self.gathered) {
            // A batch of one is no batch.
            (true, 1) => client.publish_with_reply(subject, reply, payload).await?,
            (true, sequence) => {
                let mut headers = self.headers(sequence);
                headers.insert(BATCH_COMMIT.clone(), "1");
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await?;
            }
            (false, sequence) => {
                client.publish_with_headers(subject, self.headers(sequence), payload).await?;
            }
        }
        if commit {
            self.committed();
        }
        Ok(())
    }

    /// Commits what has gathered by a message that is not stored.
    async fn end(&mut self) -> Result<()> {
        let mut headers = self.headers(self.gathered + 1);
        headers.insert(BATCH_COMMIT.clone(), "eob");
        let (subject, reply) = (self.subject.clone(), self.reply.clone());
        self.client.publish_with_reply_and_headers(subject, reply, headers, Bytes::new()).await?;
        self.committed();
        Ok(())
    }

    fn headers(&self, sequence: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(BATCH_ID.clone(), self.batch.as_str());
        headers.insert(BATCH_SEQUENCE.clone(), HeaderValue::from(sequence));
        headers
    }

    fn committed(&mut self) {
        self.in_flight += 1;
        self.gathered = 0;
        self.name_batch();
    }

    fn heard(&mut self, reply: Reply) -> Result<()> {
        let Reply::Kept { messages } = reply else { bail!("{reply:?} of an atomic batch") };
        let (sent, kept) = (self.unconfirmed - self.gathered, messages);
        ensure!(self.in_flight > 0 && kept <= sent, Refusal::Count { sent, kept });
        self.in_flight -= 1;
        self.unconfirmed -= kept;
        Ok(())
    }

    /// Waits for the next acknowledgement.
    async fn hear(&mut self) -> Result<()> {
        let reply = self.inbox.next().await?;
        self.heard(reply)
    }
}

impl Produce for Atomic {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            while let Some(reply) = self.inbox.ready()? {
                self.heard(reply)?;
            }
            let together = batch.len() > 1;
            for (index, payload) in batch.shared().enumerate() {
                self.make_room().await?;
                let last = index + 1 == batch.len();
                let ends = last && (together || self.in_flight < GATHER_FROM);
                self.add(payload, ends || self.gathered + 1 == MESSAGES_MAX).await?;
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            if self.gathered > 0 {
                self.end().await?;
            }
            while self.in_flight > 0 {
                self.hear().await?;
            }
            // Each was kept as a whole, or the sum would not be.
            let sent = self.unconfirmed;
            ensure!(sent == 0, Refusal::Count { sent, kept: 0 });
            Ok(())
        })
    }
}
