//! Driver of Apache Iggy, by the crate `iggy` over TCP: streams only, which is what it has.
//!
//! One topic of one partition. Its client takes one request at a time; batches of 1,000
//! messages a request and 1,000 a poll are what its own benchmark sends. Beside that, as a
//! driver of its own, stands what is quicker and keeps no order: as many connections as
//! the pace has requests in flight, and polls as long as Weir's credit; four of those at once
//! were tried, and slower (4.0 million messages a second of 128 B, one at a time 5.0). By default it
//! answers from memory and saves every 1,024 messages or MiB; synced, it saves and syncs
//! each batch before it answers. Its server is in no package registry: `IGGY_SERVER`, or
//! `iggy-server` on the path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use iggy::prelude::{
    Client as _, CompressionAlgorithm, Consumer, Identifier, IggyClient, IggyClientBuilder,
    IggyExpiry, IggyMessage, MaxTopicSize, MessageClient as _, Partitioning, PollingStrategy,
    StreamClient as _, TopicClient as _, UserClient as _,
};
use tokio::task::JoinHandle;

use crate::driver::{Answer, Broker, Case, Driver, Pace, Produce, Receive, Running, Sync};
use crate::server::{Server, free_address, program, version};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Name of the user that a new server is told to make, and its password.
const ROOT: &str = "iggy";
const TOPIC: &str = "topic";
/// The topic's only partition.
const PARTITION: u32 = 0;

/// How its clients use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One connection, one request at a time.
    InOrder,
    /// A connection for each request in flight.
    SideBySide,
}

impl Manner {
    /// Messages of one poll.
    fn page(self) -> u32 {
        match self {
            Self::InOrder => 1_000,
            Self::SideBySide => 8_192,
        }
    }
}

/// See the module's text.
pub(crate) struct Iggy {
    program: PathBuf,
    manner: Manner,
}

impl Iggy {
    pub(crate) fn find(manner: Manner) -> Result<Self> {
        Ok(Self { program: program("IGGY_SERVER", &[], "iggy-server")?, manner })
    }
}

impl Driver for Iggy {
    fn name(&self) -> String {
        match self.manner {
            Manner::InOrder => "iggy",
            Manner::SideBySide => "iggy-4",
        }
        .to_owned()
    }

    fn version(&self) -> Result<String> {
        Ok(version(&self.program, "--version")?.replace("iggy-server ", ""))
    }

    fn about(&self, case: Case) -> Option<String> {
        let saved = match case {
            Case::Stream(Sync::Default) => "acked from memory, saved every 1,024 messages or MiB",
            Case::Stream(Sync::Synced) => "enforce_fsync, every batch saved before it is acked",
            Case::PubSub | Case::Queue(_) => return None,
        };
        let manner = match self.manner {
            Manner::InOrder => "one connection, which takes one request at a time",
            Manner::SideBySide => "four connections, which keep no order among them",
        };
        Some(format!("{saved}; {manner}; polls of {}", self.manner.page()))
    }

    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let address = free_address()?;
            let mut command = Command::new(&self.program);
            command.current_dir(folder).env("IGGY_SYSTEM_PATH", folder.join("data"));
            command.env("IGGY_TCP_ADDRESS", address.to_string());
            for other in ["HTTP", "QUIC", "WEBSOCKET"] {
                command.env(format!("IGGY_{other}_ENABLED"), "false");
            }
            command.env("IGGY_ROOT_USERNAME", ROOT).env("IGGY_ROOT_PASSWORD", ROOT);
            command.env("IGGY_SYSTEM_LOGGING_LEVEL", "warn");
            if case == Case::Stream(Sync::Synced) {
                command.env("IGGY_SYSTEM_PARTITION_ENFORCE_FSYNC", "true");
                command.env("IGGY_SYSTEM_PARTITION_MESSAGES_REQUIRED_TO_SAVE", "1");
            }
            let server = Server::start(command, folder, address).await?;
            Ok(Running { server, broker: Box::new(Clients { address, manner: self.manner }) })
        })
    }
}

struct Clients {
    address: SocketAddr,
    manner: Manner,
}

impl Clients {
    async fn connect(&self) -> Result<IggyClient> {
        let builder = IggyClientBuilder::new().with_tcp();
        let client = builder.with_server_address(self.address.to_string()).build()?;
        client.connect().await?;
        client.login_user(ROOT, ROOT).await?;
        Ok(client)
    }
}

impl Broker for Clients {
    fn make_stream(&self, stream: String) -> Answer<'_, ()> {
        Box::pin(async move {
            let client = self.connect().await?;
            client.create_stream(&stream).await?;
            client
                .create_topic(
                    &stream.as_str().try_into()?,
                    TOPIC,
                    1,
                    CompressionAlgorithm::None,
                    None,
                    IggyExpiry::NeverExpire,
                    MaxTopicSize::Unlimited,
                )
                .await?;
            Ok(())
        })
    }

    fn appender(&self, stream: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(async move {
            let connections = match self.manner {
                Manner::InOrder => 1,
                Manner::SideBySide => pace.window / pace.batch,
            };
            let mut free = Vec::new();
            for _ in 0..connections {
                free.push(Place::of(self.connect().await?, &stream)?);
            }
            let at_work = FuturesUnordered::new();
            Ok(Box::new(Producer { free, at_work }) as Box<dyn Produce>)
        })
    }

    fn reader(&self, stream: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let place = Place::of(self.connect().await?, &stream)?;
            let consumer = Consumer::new(Identifier::numeric(1)?);
            let page = self.manner.page();
            Ok(Box::new(Reader { place, consumer, page, next: 0 }) as Box<dyn Receive>)
        })
    }
}

/// A connection and what it is for.
struct Place {
    client: IggyClient,
    stream: Identifier,
    topic: Identifier,
}

impl Place {
    fn of(client: IggyClient, stream: &str) -> Result<Self> {
        Ok(Self { client, stream: stream.try_into()?, topic: TOPIC.try_into()? })
    }
}

struct Producer {
    /// Connections without a request.
    free: Vec<Place>,
    /// The others.
    at_work: FuturesUnordered<JoinHandle<Result<Place>>>,
}

impl Producer {
    /// Waits for a connection to have its answer.
    async fn answered(&mut self) -> Result<()> {
        if let Some(place) = self.at_work.next().await {
            self.free.push(place??);
        }
        Ok(())
    }
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let message = |payload| IggyMessage::builder().payload(payload).build();
            let mut messages = batch.shared().map(message).collect::<Result<Vec<_>, _>>()?;
            if self.free.is_empty() {
                self.answered().await?;
            }
            let place = self.free.pop().context("there is a connection")?;
            let sent = async move {
                let Place { client, stream, topic } = &place;
                let partition = Partitioning::partition_id(PARTITION);
                client.send_messages(stream, topic, &partition, &mut messages).await?;
                Ok(place)
            };
            if self.free.is_empty() && self.at_work.is_empty() {
                // The only one: no task for it.
                self.free.push(sent.await?);
            } else {
                self.at_work.push(tokio::spawn(sent));
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(async {
            while !self.at_work.is_empty() {
                self.answered().await?;
            }
            Ok(())
        })
    }
}

struct Reader {
    place: Place,
    consumer: Consumer,
    /// Messages of one poll.
    page: u32,
    next: u64,
}

impl Receive for Reader {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Place { client, stream, topic } = &self.place;
            let from = PollingStrategy::offset(self.next);
            let polled = client
                .poll_messages(
                    stream,
                    topic,
                    Some(PARTITION),
                    &self.consumer,
                    &from,
                    self.page,
                    false,
                )
                .await?;
            for message in &polled.messages {
                tally.see(&message.payload);
                self.next = message.header.offset + 1;
            }
            Ok(())
        })
    }
}
