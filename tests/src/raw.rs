//! A connection below the client library: sends any bytes, reads frames.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_protocol::{
    Hello, HelloAnswer, PublishBuilder, Request, RequestId, Response, decode_response,
    encode_request, limits,
};

use crate::wait::soon;

/// A connection that does what it is told.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
    buffer: BytesMut,
    connection: u64,
}

impl Raw {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("somebody listens");
        socket.set_nodelay(true).expect("a socket option can be set");
        Self { socket, buffer: BytesMut::new(), connection: 0 }
    }

    /// Connects and says hello.
    ///
    /// # Panics
    /// When the hello is refused.
    pub async fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(&encoded(1, &Self::hello())).await.expect("the hello can be sent");
        match raw.read().await {
            Some(Response::Ok { body, .. }) => {
                raw.connection = body.decode::<HelloAnswer>().expect("an answer").connection;
                raw
            }
            other => panic!("hello is answered with {other:?}"),
        }
    }

    /// What the broker calls it; 0 before the hello.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// A proper hello.
    #[must_use]
    pub fn hello() -> Request {
        Request::Hello(Hello { version: vec![1], client: "test".into(), token: None })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the broker has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the broker has closed the connection.
    pub async fn ask(&mut self, id: u32, request: &Request) {
        self.send(&encoded(id, request)).await.expect("the connection is open");
    }

    /// The next frame; `None` when the broker has closed the connection.
    ///
    /// # Panics
    /// When nothing comes, or it cannot be read.
    pub async fn read(&mut self) -> Option<Response> {
        loop {
            let frame = weir_protocol::next_frame(&mut self.buffer, limits::ANSWER_BYTES_MAX)
                .expect("a frame");
            if let Some(frame) = frame {
                return Some(decode_response(&frame).expect("a readable answer"));
            }
            let read = soon("a frame or the end", self.socket.read_buf(&mut self.buffer)).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// When the broker has closed the connection.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}

/// A request as a frame.
#[must_use]
pub fn encoded(id: u32, request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, RequestId(id), request);
    bytes
}

/// A publish frame with the same payload for each subject.
#[must_use]
pub fn publish_frame(id: u32, subjects: &[&str], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut builder = PublishBuilder::start(&mut bytes, 0);
    for subject in subjects {
        builder.push_parts(&mut bytes, subject, &[], &[], payload);
    }
    builder.finish(&mut bytes, RequestId(id));
    bytes
}
