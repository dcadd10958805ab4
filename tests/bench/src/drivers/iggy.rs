//! Driver of Apache Iggy, by the crate `iggy` over TCP: streams only, which is what it has.
//!
//! One topic of one partition. Its client takes one request at a time; batches of 1,000
//! messages a request and 1,000 a poll are what its own benchmark sends. By default it
//! answers from memory and saves every 1,024 messages or MiB; synced, it saves and syncs
//! each batch before it answers. Its server is in no package registry: `IGGY_SERVER`, or
//! `iggy-server` on the path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use iggy::prelude::{
    Client as _, CompressionAlgorithm, Consumer, Identifier, IggyClient, IggyClientBuilder,
    IggyExpiry, IggyMessage, MaxTopicSize, MessageClient as _, Partitioning, PollingStrategy,
    StreamClient as _, TopicClient as _, UserClient as _,
};

use crate::driver::{Answer, Broker, Case, Driver, Pace, Produce, Receive, Running, Sync};
use crate::server::{Server, free_address, program, version};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Name of the user that a new server is told to make, and its password.
const ROOT: &str = "iggy";
const TOPIC: &str = "topic";
/// The topic's only partition.
const PARTITION: u32 = 0;
/// Messages of one poll.
const PAGE: u32 = 1_000;

/// See the module's text.
pub(crate) struct Iggy {
    program: PathBuf,
}

impl Iggy {
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { program: program("IGGY_SERVER", &[], "iggy-server")? })
    }
}

impl Driver for Iggy {
    fn name(&self) -> String {
        "iggy".to_owned()
    }

    fn version(&self) -> Result<String> {
        Ok(version(&self.program, "--version")?.replace("iggy-server ", ""))
    }

    fn about(&self, case: Case) -> Option<String> {
        match case {
            Case::Stream(Sync::Default) => {
                Some("acked from memory, saved every 1,024 messages or MiB".to_owned())
            }
            Case::Stream(Sync::Synced) => {
                Some("enforce_fsync, every batch saved before it is acked".to_owned())
            }
            Case::PubSub | Case::Queue(_) => None,
        }
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
            Ok(Running { server, broker: Box::new(Clients { address }) })
        })
    }
}

struct Clients {
    address: SocketAddr,
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

    fn appender(&self, stream: String, _pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(async move {
            let place = Place::of(self.connect().await?, &stream)?;
            Ok(Box::new(Producer { place }) as Box<dyn Produce>)
        })
    }

    fn reader(&self, stream: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let place = Place::of(self.connect().await?, &stream)?;
            let consumer = Consumer::new(Identifier::numeric(1)?);
            Ok(Box::new(Reader { place, consumer, next: 0 }) as Box<dyn Receive>)
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
    place: Place,
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let message = |payload| IggyMessage::builder().payload(payload).build();
            let mut messages = batch.shared().map(message).collect::<Result<Vec<_>, _>>()?;
            let Place { client, stream, topic } = &self.place;
            let partition = Partitioning::partition_id(PARTITION);
            Ok(client.send_messages(stream, topic, &partition, &mut messages).await?)
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        // Every request was answered before the next.
        Box::pin(async { Ok(()) })
    }
}

struct Reader {
    place: Place,
    consumer: Consumer,
    next: u64,
}

impl Receive for Reader {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let Place { client, stream, topic } = &self.place;
            let from = PollingStrategy::offset(self.next);
            let polled = client
                .poll_messages(stream, topic, Some(PARTITION), &self.consumer, &from, PAGE, false)
                .await?;
            for message in &polled.messages {
                tally.see(&message.payload);
                self.next = message.header.offset + 1;
            }
            Ok(())
        })
    }
}
