//! Publishers and receivers of the NATS driver.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull, push};
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Subject};
use futures_util::stream::{ReadyChunks, Stream};
use futures_util::{StreamExt, TryStreamExt};

use super::atomic::Atomic;
use super::core;
use super::fast::Fast;
use crate::driver::{Answer, Broker, Pace, Produce, Publish, Receive};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Longest wait for messages, see [`Receive`].
const WAIT: Duration = Duration::from_millis(100);
/// Messages taken from a subscription at once.
const CHUNK: usize = 1_024;
/// Messages that wait in the client for their reader; beyond it `async-nats` drops.
const SUBSCRIPTION_CAPACITY: usize = 4 << 20;

/// How producers publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publishing {
    /// One by one.
    Single,
    /// See [`Fast`].
    Fast,
    /// See [`Atomic`].
    Atomic,
}

/// Makes clients of one server.
pub(super) struct Clients {
    address: SocketAddr,
    publishing: Publishing,
}

impl Clients {
    pub(super) fn new(address: SocketAddr, publishing: Publishing) -> Self {
        Self { address, publishing }
    }

    async fn connect(&self) -> Result<Client> {
        let options = ConnectOptions::new()
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .skip_subject_validation(true)
            .client_capacity(4_096);
        Ok(options.connect(self.address.to_string()).await?)
    }

    async fn context(&self, in_flight: usize) -> Result<Context> {
        let builder = ContextBuilder::new().timeout(Duration::from_secs(20));
        Ok(builder.max_ack_inflight(in_flight).build(self.connect().await?))
    }

    async fn make(&self, name: String, retention: RetentionPolicy) -> Result<()> {
        let config = Config {
            subjects: vec![name.clone()],
            name,
            retention,
            storage: StorageType::File,
            allow_batch_publish: self.publishing == Publishing::Fast,
            allow_atomic_publish: self.publishing == Publishing::Atomic,
            ..Config::default()
        };
        self.context(1).await?.create_stream(config).await?;
        Ok(())
    }

    async fn confirmed(&self, subject: String, pace: Pace) -> Result<Box<dyn Produce>> {
        let subject = Subject::from(subject);
        let producer: Box<dyn Produce> = match self.publishing {
            Publishing::Single => {
                let context = self.context(pace.window.max(pace.batch)).await?;
                Box::new(Producer { context, subject, pace, open: VecDeque::new() })
            }
            Publishing::Fast => Box::new(Fast::new(self.connect().await?, subject, pace)),
            Publishing::Atomic => {
                Box::new(Atomic::open(self.connect().await?, subject, pace).await?)
            }
        };
        Ok(producer)
    }
}

impl Broker for Clients {
    fn publisher(&self, subject: String) -> Answer<'_, Box<dyn Publish>> {
        Box::pin(async move {
            let publisher = core::Publisher::open(self.address, subject).await?;
            Ok(Box::new(publisher) as Box<dyn Publish>)
        })
    }

    fn listener(&self, subject: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let listener = core::Listener::open(self.address, &subject).await?;
            Ok(Box::new(listener) as Box<dyn Receive>)
        })
    }

    fn make_queue(&self, queue: String) -> Answer<'_, ()> {
        Box::pin(async move {
            self.make(queue.clone(), RetentionPolicy::WorkQueue).await?;
            let stream = self.context(1).await?.get_stream(&queue).await?;
            let config = pull::Config {
                durable_name: Some("workers".to_owned()),
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: 4 * 256,
                ..pull::Config::default()
            };
            stream.create_consumer(config).await?;
            Ok(())
        })
    }

    fn producer(&self, queue: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(self.confirmed(queue, pace))
    }

    fn consumer(&self, queue: String, credit: usize) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let stream = self.context(1).await?.get_stream(&queue).await?;
            let consumer: PullConsumer = stream
                .get_consumer("workers")
                .await
                .map_err(|error| anyhow!("no consumer: {error}"))?;
            let messages = consumer.stream().max_messages_per_batch(credit).messages().await?;
            let messages = messages.map_err(anyhow::Error::from).boxed().ready_chunks(credit);
            Ok(Box::new(Pulled { messages, ack: true }) as Box<dyn Receive>)
        })
    }

    fn make_stream(&self, stream: String) -> Answer<'_, ()> {
        Box::pin(self.make(stream, RetentionPolicy::Limits))
    }

    fn appender(&self, stream: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(self.confirmed(stream, pace))
    }

    fn reader(&self, stream: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let context = self.context(1).await?;
            // An ordered push consumer is what its documentation replays with.
            let config = push::OrderedConfig {
                deliver_subject: context.client().new_inbox(),
                deliver_policy: DeliverPolicy::All,
                ..push::OrderedConfig::default()
            };
            let consumer = context.get_stream(&stream).await?.create_consumer(config).await?;
            let messages = consumer.messages().await?;
            let messages = messages.map_err(anyhow::Error::from).boxed().ready_chunks(CHUNK);
            Ok(Box::new(Pulled { messages, ack: false }) as Box<dyn Receive>)
        })
    }
}

struct Producer {
    context: Context,
    subject: Subject,
    pace: Pace,
    open: VecDeque<PublishAckFuture>,
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            for payload in batch.shared() {
                while self.open.len() >= self.pace.window {
                    if let Some(oldest) = self.open.pop_front() {
                        oldest.into_future().await?;
                    }
                }
                let ack = self.context.publish(self.subject.clone(), payload).await?;
                self.open.push_back(ack);
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            while let Some(oldest) = self.open.pop_front() {
                oldest.into_future().await?;
            }
            Ok(())
        })
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<jetstream::Message>> + Send>>;

struct Pulled {
    messages: ReadyChunks<Messages>,
    ack: bool,
}

impl Receive for Pulled {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(chunk) = tokio::time::timeout(WAIT, self.messages.next()).await else {
                return Ok(());
            };
            for message in chunk.context("the consumer has ended")? {
                let message = message?;
                tally.see(&message.payload);
                if self.ack {
                    message.ack().await.map_err(|error| anyhow!("no ack: {error}"))?;
                }
            }
            Ok(())
        })
    }
}
