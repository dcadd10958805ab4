//! Publishers and receivers of the Weir driver.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_client::{
    Client, Confirmation, ConnectOptions, ConsumeOptions, Consumer, Create, CreateQueue,
    CreateStream, Level, Message, Publisher, PublisherOptions, Start, Subscription,
};

use crate::driver::{Answer, Broker, Case, Pace, Produce, Publish, Receive, Sync};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Longest wait for deliveries, see [`Receive`].
const WAIT: Duration = Duration::from_millis(100);
/// Deliveries in flight to a stream's reader: what keeps a whole read on its way.
const READER_CREDIT: u32 = 8_192;

type Header = Option<(String, String)>;

/// Makes clients of one broker.
pub(super) struct Clients {
    address: String,
    level: Level,
    header: Header,
}

impl Clients {
    pub(super) fn new(address: String, case: Case, header: Header) -> Self {
        let level = match case {
            Case::Queue(Sync::Synced) | Case::Stream(Sync::Synced) => Level::Disk,
            _ => Level::Os,
        };
        Self { address, level, header }
    }

    async fn connect(&self) -> Result<Client> {
        // A connection that breaks is a fault of the run, not something to heal.
        let options = ConnectOptions::default().without_reconnect();
        Ok(Client::connect_with(&self.address, options).await?)
    }

    async fn confirmed(&self, subject: String, pace: Pace) -> Result<Box<dyn Produce>> {
        let client = self.connect().await?;
        // The window is counted in messages here; the one in bytes must not close first.
        let options = PublisherOptions { window_bytes_max: 64 << 20 };
        let publisher = client.publisher_with(options);
        let (level, header) = (self.level, self.header.clone());
        let open = VecDeque::new();
        Ok(Box::new(Producer { publisher, subject, pace, level, header, open, unconfirmed: 0 }))
    }
}

impl Broker for Clients {
    fn publisher(&self, subject: String) -> Answer<'_, Box<dyn Publish>> {
        Box::pin(async move {
            let (client, header) = (self.connect().await?, self.header.clone());
            Ok(Box::new(Channel { client, subject, header }) as Box<dyn Publish>)
        })
    }

    fn listener(&self, subject: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let subscription = self.connect().await?.subscribe(&subject).await?;
            Ok(Box::new(Listener(subscription)) as Box<dyn Receive>)
        })
    }

    fn make_queue(&self, name: String) -> Answer<'_, ()> {
        Box::pin(async move {
            let level = Some(self.level);
            let queue = CreateQueue { name, level, ..CreateQueue::default() };
            Ok(self.connect().await?.create(Create::Queue(queue)).await?)
        })
    }

    fn producer(&self, queue: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(self.confirmed(queue, pace))
    }

    fn consumer(&self, queue: String, credit: usize) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let options = ConsumeOptions::credit(credit as u32);
            let consumer = self.connect().await?.consume_with(&queue, options).await?;
            Ok(Box::new(Acking { consumer, explicit: true }) as Box<dyn Receive>)
        })
    }

    fn make_stream(&self, name: String) -> Answer<'_, ()> {
        Box::pin(async move {
            let level = Some(self.level);
            let stream = CreateStream { name, level, partitions: 1, ..CreateStream::default() };
            Ok(self.connect().await?.create(Create::Stream(stream)).await?)
        })
    }

    fn appender(&self, stream: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(self.confirmed(stream, pace))
    }

    fn reader(&self, stream: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let client = self.connect().await?;
            client.create_group(&stream, "reader", Start::Earliest).await?;
            let options =
                ConsumeOptions { auto_ack: true, ..ConsumeOptions::credit(READER_CREDIT) };
            let consumer = client.consume_group(&stream, "reader", options).await?;
            Ok(Box::new(Acking { consumer, explicit: false }) as Box<dyn Receive>)
        })
    }
}

fn message<'a>(subject: &'a str, header: &Header, payload: &'a [u8]) -> Message<'a> {
    let message = Message::new(subject).payload(payload);
    match header {
        Some((name, value)) => message.header(name, value),
        None => message,
    }
}

fn messages<'a>(subject: &'a str, header: &Header, batch: &'a Batch) -> Vec<Message<'a>> {
    batch.payloads().map(|payload| message(subject, header, payload)).collect()
}

struct Channel {
    client: Client,
    subject: String,
    header: Header,
}

impl Publish for Channel {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let messages = messages(&self.subject, &self.header, batch);
            Ok(self.client.publish_all(&messages).await?)
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(async move { Ok(self.client.ping().await?) })
    }
}

struct Listener(Subscription);

impl Receive for Listener {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(batch) = tokio::time::timeout(WAIT, self.0.next_batch()).await else {
                return Ok(());
            };
            for delivery in &batch?.unwrap_or_else(|| unreachable!("nobody closes the client")) {
                tally.see(delivery.payload());
            }
            Ok(())
        })
    }

    fn told(&self) -> u64 {
        self.0.skipped()
    }
}

struct Producer {
    publisher: Publisher,
    subject: String,
    pace: Pace,
    level: Level,
    header: Header,
    open: VecDeque<(Confirmation, usize)>,
    unconfirmed: usize,
}

impl Producer {
    async fn confirm_oldest(&mut self) -> Result<()> {
        if let Some((confirmation, count)) = self.open.pop_front() {
            let receipt = confirmation.await?;
            self.unconfirmed -= count;
            ensure!(receipt.stored == count as u64, "{:?}", receipt.refusals.first());
            ensure!(receipt.level >= self.level, "only level {:?} was reached", receipt.level);
        }
        Ok(())
    }
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            while self.unconfirmed + batch.len() > self.pace.window.max(batch.len()) {
                self.confirm_oldest().await?;
            }
            let messages = messages(&self.subject, &self.header, batch);
            self.publisher.send_all(&messages).await?;
            self.open.push_back((self.publisher.take(), batch.len()));
            self.unconfirmed += batch.len();
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

struct Acking {
    consumer: Consumer,
    explicit: bool,
}

impl Receive for Acking {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Ok(batch) = tokio::time::timeout(WAIT, self.consumer.next_batch()).await else {
                return Ok(());
            };
            let batch = batch?.unwrap_or_else(|| unreachable!("nobody closes the client"));
            for delivery in &batch {
                tally.see(delivery.payload());
            }
            if self.explicit {
                batch.ack();
            }
            Ok(())
        })
    }
}
