//! Many of something that does nothing: queues, subscriptions, connections.
//!
//! Subscriptions and connections speak the protocol themselves: a client keeps
//! buffers and tasks for each, which would be a measurement of the client.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_client::{Client, Create, CreateQueue};
use weir_protocol::{
    Hello, Request, RequestId, Response, Subscribe, SubscriptionId, VERSION, decode_response,
    encode_request, limits, next_frame,
};

/// Requests on their way at once.
const TOGETHER: usize = 512;
/// Subscriptions of one connection; the protocol's limit is ten times that.
const PER_CONNECTION: usize = 10_000;

/// What there are many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One in ten with a wildcard.
    Subscriptions,
    /// Connected and greeted.
    Connections,
}

/// Name of a queue.
pub(super) fn queue_name(number: usize) -> String {
    format!("grown.{number}")
}

/// Makes queues at the default level.
pub(super) async fn queues(client: &Client, count: usize) -> Result<()> {
    let each = (0..count).map(|number| {
        let queue = CreateQueue { name: queue_name(number), ..CreateQueue::default() };
        client.create(Create::Queue(queue))
    });
    stream::iter(each).buffer_unordered(TOGETHER).try_collect::<()>().await?;
    Ok(())
}

/// Sockets that are kept open.
pub(super) struct Idle(#[allow(dead_code, reason = "held, not used")] Vec<TcpStream>);

impl Idle {
    /// Opens `count` of them.
    pub(super) async fn open(address: SocketAddr, kind: Kind, count: usize) -> Result<Self> {
        let mut sockets = Vec::new();
        match kind {
            Kind::Connections => {
                for _ in 0..count {
                    sockets.push(greeted(address).await?);
                }
            }
            Kind::Subscriptions => {
                for first in (0..count).step_by(PER_CONNECTION) {
                    let mut socket = greeted(address).await?;
                    let last = count.min(first + PER_CONNECTION);
                    for from in (first..last).step_by(TOGETHER) {
                        subscribe(&mut socket, from..last.min(from + TOGETHER)).await?;
                    }
                    sockets.push(socket);
                }
            }
        }
        Ok(Self(sockets))
    }
}

async fn greeted(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    let mut out = Vec::new();
    let hello = Hello { version: vec![VERSION], client: "weir-bench".to_owned(), token: None };
    encode_request(&mut out, RequestId(1), &Request::Hello(hello));
    socket.write_all(&out).await?;
    answered(&mut socket, 1).await?;
    Ok(socket)
}

async fn subscribe(socket: &mut TcpStream, numbers: std::ops::Range<usize>) -> Result<()> {
    let (mut out, count) = (Vec::new(), numbers.len());
    for number in numbers {
        let last = if number % 10 == 0 { "*" } else { "created" };
        let sub = SubscriptionId(1 + (number % PER_CONNECTION) as u32);
        let pattern = format!("idle.customer-{number}.{last}");
        let request = Request::Subscribe(Subscribe { sub, pattern, share: None });
        encode_request(&mut out, RequestId(2 + number as u32), &request);
    }
    socket.write_all(&out).await?;
    answered(socket, count).await
}

/// Waits for so many answers, all of which must be good.
async fn answered(socket: &mut TcpStream, count: usize) -> Result<()> {
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    while seen < count {
        while let Some(frame) = next_frame(&mut buffer, limits::ANSWER_BYTES_MAX)? {
            match decode_response(&frame)? {
                Response::Ok { .. } => seen += 1,
                Response::Error { error, .. } | Response::Goodbye { error } => bail!("{error}"),
                _ => {}
            }
        }
        if seen < count && socket.read_buf(&mut buffer).await? == 0 {
            bail!("the broker has closed the connection");
        }
    }
    Ok(())
}
