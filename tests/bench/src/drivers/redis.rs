//! Driver of Redis, by the crate `redis`; publish and subscribe in plain RESP.
//!
//! Publish and subscribe: `PUBLISH` in batches, replies off (`CLIENT REPLY`), on
//! sockets of their own, because the crate's client takes more of the machine than
//! the server; streams: `XADD` in pipelines and `XRANGE` pages. Queues in two ways,
//! each a row of its own: streams with a consumer group (`XREADGROUP`, one `XACK` for
//! many), and lists in the documented pattern for reliable queues (`LPUSH` of many
//! values, `LMOVE` to a list of the consumer's own, or a script that does many of those
//! where messages are small; the list is cut when the work is done). Pipelining, many values a
//! command and one acknowledgement for many are what its documentation advises (redis.io:
//! "pipelining", "streams", `LMOVE`); an acknowledgement is on its way while the next read
//! is, so that no consumer waits for its answer, as those of the others do not. The buffer
//! of listeners has no bound, so that none is cut off. The log is not rewritten during
//! a run.

mod channel;
mod connection;
mod list;
mod reply;
mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};

use crate::driver::{Answer, Broker, Case, Driver, Pace, Produce, Publish, Receive, Running, Sync};
use crate::server::{Server, free_address, program, version};

/// Pipelines that may wait for the socket of one connection.
const PIPELINES_MAX: usize = 1_024;
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How publish and subscribe is configured, server and client.
const PUB_SUB: &str = "no persistence; publishers with CLIENT REPLY OFF; clients in plain RESP, \
                       as those of the crate take more CPU than the server";

/// What stands for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    /// A stream with one consumer group.
    Streams,
    /// Lists.
    Lists,
}

/// See the module's text.
pub(crate) struct Redis {
    program: PathBuf,
    queues: Queues,
}

impl Redis {
    pub(crate) fn find(queues: Queues) -> Result<Self> {
        Ok(Self { program: program("REDIS_SERVER", &[], "redis-server")?, queues })
    }
}

impl Driver for Redis {
    fn name(&self) -> String {
        match self.queues {
            Queues::Streams => "redis".to_owned(),
            Queues::Lists => "redis-lists".to_owned(),
        }
    }

    fn version(&self) -> Result<String> {
        let line = version(&self.program, "--version")?;
        let number = line.split_whitespace().find_map(|word| word.strip_prefix("v="));
        Ok(number.unwrap_or(&line).to_owned())
    }

    fn about(&self, case: Case) -> Option<String> {
        let log = |sync| match sync {
            Sync::Default => "AOF, appendfsync everysec: acked when written to the AOF",
            Sync::Synced => "AOF, appendfsync always (one sync per turn of its loop)",
        };
        match (case, self.queues) {
            (Case::PubSub, Queues::Streams) => Some(PUB_SUB.to_owned()),
            (Case::Queue(sync), Queues::Streams) => {
                Some(format!("stream and group, {}", log(sync)))
            }
            (Case::Queue(sync), Queues::Lists) => {
                let log = log(sync);
                Some(format!("lists, LMOVE, for small messages many in one script, {log}"))
            }
            (Case::Stream(sync), Queues::Streams) => Some(log(sync).to_owned()),
            (Case::PubSub | Case::Stream(_), Queues::Lists) => None,
        }
    }

    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let address = free_address()?;
            let mut command = Command::new(&self.program);
            command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
            command.args(["--save", "", "--client-output-buffer-limit", "pubsub 0 0 0"]);
            command.arg("--dir").arg(folder);
            if let Case::Queue(sync) | Case::Stream(sync) = case {
                let when = if sync == Sync::Synced { "always" } else { "everysec" };
                command.args(["--appendonly", "yes", "--appendfsync", when]);
                command.args(["--auto-aof-rewrite-percentage", "0"]);
            }
            let server = Server::start(command, folder, address).await?;
            let broker = Box::new(Clients { address, queues: self.queues });
            Ok(Running { server, broker })
        })
    }
}

struct Clients {
    address: SocketAddr,
    queues: Queues,
}

impl Clients {
    async fn connect(&self) -> Result<MultiplexedConnection> {
        // Room for every pipeline of a window, so that each is on its way, in order,
        // once it was looked at.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_pipeline_buffer_size(PIPELINES_MAX);
        let client = Client::open(format!("redis://{}/", self.address))?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

impl Broker for Clients {
    fn publisher(&self, subject: String) -> Answer<'_, Box<dyn Publish>> {
        Box::pin(async move {
            let publisher = channel::Publisher::open(self.address, subject).await?;
            Ok(Box::new(publisher) as Box<dyn Publish>)
        })
    }

    fn listener(&self, subject: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let listener = channel::Listener::open(self.address, &subject).await?;
            Ok(Box::new(listener) as Box<dyn Receive>)
        })
    }

    fn make_queue(&self, queue: String) -> Answer<'_, ()> {
        Box::pin(async move {
            if self.queues == Queues::Streams {
                stream::make_group(&mut self.connect().await?, &queue).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, queue: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(async move {
            let connection = self.connect().await?;
            let producer: Box<dyn Produce> = match self.queues {
                Queues::Streams => Box::new(stream::Producer::new(connection, queue, pace, true)),
                Queues::Lists => Box::new(list::Producer::new(connection, queue, pace)),
            };
            Ok(producer)
        })
    }

    fn consumer(&self, queue: String, credit: usize) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let connection = self.connect().await?;
            let consumer: Box<dyn Receive> = match self.queues {
                Queues::Streams => Box::new(stream::Member::new(connection, queue, credit)),
                Queues::Lists => Box::new(list::Consumer::new(connection, queue, credit)),
            };
            Ok(consumer)
        })
    }

    fn make_stream(&self, _stream: String) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn appender(&self, stream: String, pace: Pace) -> Answer<'_, Box<dyn Produce>> {
        Box::pin(async move {
            let connection = self.connect().await?;
            let producer = stream::Producer::new(connection, stream, pace, false);
            Ok(Box::new(producer) as Box<dyn Produce>)
        })
    }

    fn reader(&self, stream: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let reader = stream::Reader::new(self.connect().await?, stream);
            Ok(Box::new(reader) as Box<dyn Receive>)
        })
    }
}

type Answered = futures_util::future::BoxFuture<'static, redis::RedisResult<()>>;

/// Pipelines that are on their way, oldest first.
#[derive(Default)]
struct InFlight {
    open: VecDeque<(Answered, usize)>,
    messages: usize,
}

impl InFlight {
    /// Sends a pipeline of `messages` as soon as it fits into `window`.
    async fn send(
        &mut self,
        connection: &MultiplexedConnection,
        pipeline: redis::Pipeline,
        messages: usize,
        window: usize,
    ) -> Result<()> {
        while !self.open.is_empty() && self.messages + messages > window {
            self.finish_oldest().await?;
        }
        let mut connection = connection.clone();
        let mut answered: Answered =
            Box::pin(async move { pipeline.exec_async(&mut connection).await });
        // Looking at it once hands it to the connection's own task, in order.
        match futures_util::poll!(&mut answered) {
            Poll::Ready(answer) => answer?,
            Poll::Pending => {
                self.open.push_back((answered, messages));
                self.messages += messages;
            }
        }
        Ok(())
    }

    async fn finish_oldest(&mut self) -> Result<()> {
        if let Some((answered, messages)) = self.open.pop_front() {
            self.messages -= messages;
            answered.await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.finish_oldest().await?;
        }
        Ok(())
    }
}
