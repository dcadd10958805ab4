//! Who writes to the socket, and that no byte is lost or written twice by it.
#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::*;
use crate::shared::{Shared, Taken};
use crate::{ConnectOptions, Message};

/// A client whose writer waits, and what its broker receives.
struct Pair {
    runtime: Runtime,
    shared: Arc<Shared>,
    broker: std::net::TcpStream,
}

impl Pair {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = runtime.block_on(TcpStream::connect(listener.local_addr().unwrap())).unwrap();
        let (_, writer) = socket.into_split();
        let shared = Arc::new(Shared::new(ConnectOptions::default()));
        let mut line = Line::new(Arc::new(writer));
        line.written = Instant::now().checked_sub(QUIET).unwrap();
        {
            let mut state = shared.lock();
            state.line = Some(line);
            state.writer_idle = true;
        }
        Self { runtime, shared, broker: listener.accept().unwrap().0 }
    }

    fn publish(shared: &Shared, payload: &[u8]) {
        shared.push_some(&[Message::new("here").payload(payload)], None).unwrap();
    }

    /// The writer's next turn.
    fn taken(&self) -> (Taken, Vec<u8>) {
        let mut buffer = Vec::new();
        (self.shared.take_outgoing(&mut buffer), buffer)
    }
}

#[test]
fn a_thread_without_a_task_writes_itself_and_only_when_the_line_is_quiet() {
    let mut pair = Pair::new();
    Pair::publish(&pair.shared, b"first");
    assert!(pair.shared.lock().writer_idle, "the writer was not woken");
    let mut bytes = [0; 256];
    let length = pair.broker.read(&mut bytes).unwrap();
    assert!(bytes[..length].ends_with(b"first"), "{:?}", &bytes[..length]);

    // However slow this machine is, the line is not quiet again.
    let soon = Instant::now() + Duration::from_secs(3_600);
    pair.shared.lock().line.as_mut().unwrap().written = soon;
    Pair::publish(&pair.shared, b"second");
    assert!(!pair.shared.lock().writer_idle, "the writer is woken for what follows at once");
    let (taken, bytes) = pair.taken();
    assert_eq!(taken, Taken::Bytes);
    assert!(bytes.ends_with(b"second"));
}

#[test]
fn a_task_leaves_it_to_the_writer() {
    let pair = Pair::new();
    let shared = pair.shared.clone();
    let publishing = pair.runtime.spawn(async move { Pair::publish(&shared, b"first") });
    pair.runtime.block_on(publishing).unwrap();
    assert!(!pair.shared.lock().writer_idle);
    let (taken, bytes) = pair.taken();
    assert_eq!(taken, Taken::Bytes);
    assert!(bytes.ends_with(b"first"));
}

#[test]
fn what_the_socket_does_not_take_is_written_first() {
    let mut pair = Pair::new();
    let long = vec![b'.'; CALLER_BYTES_MAX / 2];
    let mut published = 0;
    // Until the buffers between the two are full.
    while pair.shared.lock().writer_idle {
        let past = Instant::now().checked_sub(QUIET).unwrap();
        pair.shared.lock().line.as_mut().unwrap().written = past;
        Pair::publish(&pair.shared, &long);
        published += 1;
    }
    pair.runtime.block_on(pair.shared.wake.notified());
    Pair::publish(&pair.shared, b"last");
    assert_eq!(pair.shared.lock().writing_unconfirmed, 1, "the one that was begun");

    let (rest, last) = (pair.taken().1, pair.taken().1);
    assert!(rest.len() < long.len() + 100 && last.ends_with(b"last"));
    pair.shared.lock().line = None;
    let mut received = Vec::new();
    pair.broker.read_to_end(&mut received).unwrap();
    received.extend_from_slice(&rest);
    let dots = received.iter().filter(|byte| **byte == b'.').count();
    assert_eq!(dots, published * long.len(), "every byte once");
    assert!(received.ends_with(b"."));
}

#[test]
fn a_thread_that_runs_the_tasks_leaves_it_to_the_writer() {
    let pair = Pair::new();
    let single = tokio::runtime::Builder::new_current_thread().build().unwrap();
    single.block_on(async { Pair::publish(&pair.shared, b"first") });
    assert!(!pair.shared.lock().writer_idle);
    assert!(pair.taken().1.ends_with(b"first"));
}

#[test]
fn what_takes_long_is_the_writers() {
    let pair = Pair::new();
    Pair::publish(&pair.shared, &[b'.'; 2 * CALLER_BYTES_MAX]);
    assert!(!pair.shared.lock().writer_idle);
}
