//! Publishers and receivers of the RabbitMQ driver.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::ReadyChunks;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};

use crate::driver::{Answer, Broker, Case, Pace, Produce, Publish, Receive, Sync};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Longest wait for messages, see [`Receive`].
const WAIT: Duration = Duration::from_millis(100);
/// Messages taken from a consumer at once.
const CHUNK: usize = 1_024;
/// The exchange that routes by equal subjects.
const EXCHANGE: &str = "amq.direct";

/// Makes clients of one server.
pub(super) struct Clients {
    address: SocketAddr,
    case: Case,
}

impl Clients {
    pub(super) fn new(address: SocketAddr, case: Case) -> Self {
        Self { address, case }
    }

    async fn channel(&self) -> Result<(Connection, Channel)> {
        let uri = format!("amqp://{}/%2f", self.address);
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&uri, properties).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

fn of_type(kind: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    arguments
}

/// What a classic queue is declared with.
fn classic() -> FieldTable {
    let mut arguments = of_type("classic");
    // The newer way to keep its messages, which is the default from 4.0 on.
    arguments.insert("x-queue-version".into(), AMQPValue::LongInt(2));
    arguments
}

impl Broker for Clients {
    fn publisher(&self, subject: String) -> Answer<'_, Box<dyn Publish>> {
        Box::pin(async move {
            let (connection, channel) = self.channel().await?;
            let line = Line { channel, _connection: connection };
            Ok(Box::new(Publisher { line, subject: subject.into() }) as Box<dyn Publish>)
        })
    }

    fn listener(&self, subject: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let (connection, channel) = self.channel().await?;
            let options =
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            let queue = channel.queue_declare("".into(), options, classic()).await?;
            let (name, none) = (queue.name().clone(), FieldTable::default());
            let bind = QueueBindOptions::default();
            channel.queue_bind(name.clone(), EXCHANGE.into(), subject.into(), bind, none).await?;
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let none = FieldTable::default();
            let consumer = channel.basic_consume(name, "".into(), options, none).await?;
            let line = Line { channel, _connection: connection };
            let deliveries = consumer.ready_chunks(CHUNK);
            Ok(Box::new(Receiver { line, deliveries, ack: false }) as Box<dyn Receive>)
        })
    }

    fn make_queue(&self, queue: String) -> Answer<'_, ()> {
        Box::pin(async move {
            let (_connection, channel) = self.channel().await?;
            let arguments = match self.case {
                Case::Queue(Sync::Synced) => of_type("quorum"),
                _ => classic(),
            };
            channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
            Ok(())
        })
    }

    fn producer(&self, queue: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(async move {
            let (connection, channel) = self.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (line, open) = (Line { channel, _connection: connection }, VecDeque::new());
            Ok(Box::new(Producer { line, queue: queue.into(), pace, open }) as Box<dyn Produce>)
        })
    }

    fn consumer(&self, queue: String, credit: usize) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let (connection, channel) = self.channel().await?;
            channel.basic_qos(credit as u16, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let none = FieldTable::default();
            let consumer = channel.basic_consume(queue.into(), "".into(), options, none).await?;
            let line = Line { channel, _connection: connection };
            // Half the prefetch at the most, so that more is on its way meanwhile.
            let deliveries = consumer.ready_chunks((credit / 2).max(1));
            Ok(Box::new(Receiver { line, deliveries, ack: true }) as Box<dyn Receive>)
        })
    }
}

/// A channel, and the connection that must live as long.
struct Line {
    channel: Channel,
    _connection: Connection,
}

struct Publisher {
    line: Line,
    subject: ShortString,
}

impl Publish for Publisher {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let each = batch.payloads().map(|payload| {
                self.line.channel.basic_publish(
                    EXCHANGE.into(),
                    self.subject.clone(),
                    BasicPublishOptions::default(),
                    payload,
                    BasicProperties::default(),
                )
            });
            try_join_all(each).await?;
            Ok(())
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

struct Producer {
    line: Line,
    queue: ShortString,
    pace: Pace,
    open: VecDeque<PublisherConfirm>,
}

impl Producer {
    async fn confirm_oldest(&mut self) -> Result<()> {
        if let Some(confirm) = self.open.pop_front() {
            ensure!(confirm.await?.is_ack(), "the broker refused a message");
        }
        Ok(())
    }
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            while !self.open.is_empty() && self.open.len() + batch.len() > self.pace.window {
                self.confirm_oldest().await?;
            }
            let each = batch.payloads().map(|payload| {
                self.line.channel.basic_publish(
                    "".into(),
                    self.queue.clone(),
                    BasicPublishOptions::default(),
                    payload,
                    // Persistent.
                    BasicProperties::default().with_delivery_mode(2),
                )
            });
            self.open.extend(try_join_all(each).await?);
            Ok(())
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            while !self.open.is_empty() {
                self.confirm_oldest().await?;
            }
            Ok(())
        })
    }
}

struct Receiver {
    line: Line,
    deliveries: ReadyChunks<lapin::Consumer>,
    ack: bool,
}

impl Receive for Receiver {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(chunk) = tokio::time::timeout(WAIT, self.deliveries.next()).await else {
                return Ok(());
            };
            let mut last = None;
            for delivery in chunk.context("the consumer has ended")? {
                let delivery = delivery?;
                tally.see(&delivery.data);
                last = Some(delivery.delivery_tag);
            }
            if let Some(tag) = last.filter(|_| self.ack) {
                self.line.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
            Ok(())
        })
    }
}
