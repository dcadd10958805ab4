//! The broker's side of a test: real sockets and the real codec, but every answer
//! is the test's own. Each wait has a deadline, so that a missing frame fails.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_client::{Client, ConnectOptions, ConnectionState, HelloAnswer};
use weir_protocol::{
    Published, Request, RequestId, RunHeader, SubscriptionId, answer, decode_request, limits,
    next_frame,
};

/// Fails the test when `future` takes longer than any healthy one.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

pub struct Listener {
    socket: TcpListener,
    pub address: String,
}

impl Listener {
    pub async fn bind() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        Self { socket, address }
    }

    /// The next connection, after its hello.
    pub async fn accept(&self) -> Peer {
        let (socket, _) = soon(self.socket.accept()).await.unwrap();
        let mut peer = Peer { socket, buffer: BytesMut::new() };
        let (id, hello) = peer.next().await;
        assert!(matches!(hello, Request::Hello(_)), "{hello:?}");
        let hello = HelloAnswer { version: 1, server: "fake".into(), ..HelloAnswer::default() };
        peer.send(|out| answer::encode_ok(out, id, &hello)).await;
        peer
    }

    /// A client with these options, and the broker's side of it.
    pub async fn client(&self, options: ConnectOptions) -> (Client, Peer) {
        let connecting = Client::connect_with(&self.address, options);
        let (client, peer) = soon(async { tokio::join!(connecting, self.accept()) }).await;
        (client.unwrap(), peer)
    }
}

pub struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// The next request; `None` when the client has closed.
    pub async fn try_next(&mut self) -> Option<(RequestId, Request)> {
        soon(async {
            loop {
                if let Some(frame) = next_frame(&mut self.buffer, limits::FRAME_BYTES_MAX).unwrap()
                {
                    return Some(decode_request(&frame).unwrap());
                }
                if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
    }

    pub async fn next(&mut self) -> (RequestId, Request) {
        self.try_next().await.expect("the client is still there")
    }

    pub async fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        encode(&mut out);
        self.socket.write_all(&out).await.unwrap();
    }

    pub async fn ok(&mut self, id: RequestId) {
        self.send(|out| answer::encode_ok(out, id, &weir_protocol::Empty {})).await;
    }

    /// Waits until `client` has read all that was sent to it: the answer to a ping comes
    /// behind that.
    pub async fn caught_up(&mut self, client: &Client) {
        let answering = async {
            let (id, _) = self.next().await;
            self.ok(id).await;
        };
        let (ping, ()) = soon(async { tokio::join!(client.ping(), answering) }).await;
        ping.unwrap();
    }

    /// Breaks the connection, and waits until `client` knows.
    pub async fn lose(self, client: &Client) {
        let mut state = client.state();
        drop(self);
        let is_lost =
            |state: &ConnectionState| matches!(state, ConnectionState::Reconnecting { .. });
        soon(state.wait_for(is_lost)).await.unwrap();
    }

    /// Expects a subscribe or consume and grants it. Returns its number.
    pub async fn grant(&mut self) -> SubscriptionId {
        let (id, request) = self.next().await;
        let sub = match &request {
            Request::Subscribe(body) => body.sub,
            Request::Consume(body) => body.sub,
            other => panic!("neither subscribe nor consume: {other:?}"),
        };
        self.ok(id).await;
        sub
    }

    /// Expects publish frames with `count` messages together. Returns id and
    /// payloads of each frame.
    pub async fn published(&mut self, count: usize) -> Vec<(RequestId, Vec<Vec<u8>>)> {
        let mut frames = Vec::new();
        let mut seen = 0;
        while seen < count {
            let (id, request) = self.next().await;
            let Request::Publish(publish) = request else { panic!("no publish: {request:?}") };
            let payloads: Vec<_> = publish
                .messages
                .iter()
                .map(|parts| parts.view(&publish.frame).payload.to_vec())
                .collect();
            seen += payloads.len();
            frames.push((id, payloads));
        }
        assert_eq!(seen, count);
        frames
    }

    pub async fn confirm(&mut self, id: RequestId, outcome: Published) {
        self.send(|out| {
            let Published { level, stored, reached, unrouted, refusals } = outcome;
            answer::encode_published(out, id, level, stored, reached, unrouted, &refusals);
        })
        .await;
    }

    /// Delivers payloads as one run that begins with `tag`.
    pub async fn deliver(&mut self, sub: SubscriptionId, tag: u64, payloads: &[&str]) {
        self.deliver_to(sub, tag, "subject", payloads).await;
    }

    pub async fn deliver_to(
        &mut self,
        sub: SubscriptionId,
        tag: u64,
        subject: &str,
        payloads: &[&str],
    ) {
        let mut messages = Vec::new();
        for payload in payloads {
            weir_message::encode(&mut messages, subject, b"", b"", payload.as_bytes());
        }
        let header = RunHeader {
            tag,
            partition: 0,
            offset: tag,
            time_ms: 1,
            attempt: 1,
            count: payloads.len() as u32,
        };
        self.send(|out| {
            answer::deliver_head(out, sub, &header, messages.len());
            out.extend_from_slice(&messages);
        })
        .await;
    }
}
