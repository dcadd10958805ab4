//! Memory of the broker under clients that mean it harm, measured from outside.
//! The figures of `/proc` make this a test for Linux.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![cfg(target_os = "linux")]

mod program;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use program::{Broker, DEADLINE};

/// Connections that mean harm.
const CONNECTIONS: usize = 200;
/// What one of them may cost, bytes.
const CONNECTION_BYTES_MAX: usize = 1 << 20;
/// Questions answered before the broker's memory is looked at.
const WARM_QUESTIONS: usize = 64;
/// Clients that ask and never read.
const DEAF_CLIENTS: usize = 8;
/// A hello, as in `tests/wire/hello-plain.hex`.
const HELLO: &[u8] = b"\0\0\0\x1e\x93\x01\x01\x82\xa7version\x91\x01\xa6client\xa8demo 1.0";

fn connect(broker: &Broker) -> TcpStream {
    let socket = TcpStream::connect(&broker.address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Says hello and reads the answer.
fn greet(socket: &mut TcpStream) {
    socket.write_all(HELLO).unwrap();
    assert_eq!(read_frame(socket)[..3], [0x93, 64, 1]);
}

fn read_frame(socket: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).unwrap();
    frame
}

#[test]
fn connections_that_promise_much_cost_little() {
    let broker = Broker::start("memory-promises");
    let before = broker.resident_bytes();
    let mut sockets = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = connect(&broker);
        greet(&mut socket);
        // The longest frame there is, and the first of it.
        socket.write_all(&(1_u32 << 20).to_be_bytes()).unwrap();
        socket.write_all(&[0x94; 4 << 10]).unwrap();
        sockets.push(socket);
    }
    // Whoever behaves is served meanwhile; by then the broker has read the others.
    broker.run(&["queue", "create", "good"]).ok();
    let grown = broker.resident_bytes().saturating_sub(before);
    let each = grown / CONNECTIONS;
    assert!(each < CONNECTION_BYTES_MAX / 4, "{each} bytes for each connection");
    drop(sockets);
    assert_eq!(broker.stop(), 0);
}

/// Sends one request over and over on several connections that read nothing, and
/// tells by how much the broker has grown for each when it takes no more.
///
/// Several, because pages move between the allocator's threads by megabytes: one
/// client's share is what the broker holds for it only on the average.
fn ask_and_never_read(broker: &Broker, question: &[u8]) -> usize {
    // What the broker takes once for the first who asks is nothing that a client
    // makes it hold.
    let mut heard = connect(broker);
    greet(&mut heard);
    for _ in 0..WARM_QUESTIONS {
        heard.write_all(question).unwrap();
        read_frame(&mut heard);
    }
    drop(heard);
    let before = broker.resident_bytes();
    let mut deaf: Vec<TcpStream> = (0..DEAF_CLIENTS).map(|_| connect(broker)).collect();
    std::thread::scope(|scope| {
        for socket in &mut deaf {
            scope.spawn(move || {
                greet(socket);
                ask_until_blocked(socket, question);
            });
        }
    });
    let grown = broker.resident_bytes().saturating_sub(before);
    // Others are served.
    broker.run(&["queue", "create", "good"]).ok();
    grown / deaf.len()
}

/// Sends one request over and over until the broker takes no more; panics when it
/// has taken far too much.
fn ask_until_blocked(socket: &mut TcpStream, question: &[u8]) {
    let questions = question.repeat((64 << 10) / question.len());
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    while sent < 64 << 20 {
        // A partial write would leave half a question: the rest follows.
        match socket.write(&questions[sent % questions.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                return;
            }
        }
    }
    panic!("the broker took {sent} bytes of questions from a client that never reads");
}

#[test]
fn a_client_that_asks_and_never_reads_is_not_read_from() {
    let broker = Broker::start("memory-deaf");
    // The status of every binding: a few bytes, and an answer of a thousand.
    let grown = ask_and_never_read(&broker, b"\0\0\0\x04\x93\x21\x05\x80");
    assert!(grown < 6 << 20, "{grown} bytes for each client that never reads");
}

#[test]
fn a_client_that_reads_streams_and_not_its_socket_is_not_read_from() {
    let broker = Broker::start("memory-reads");
    broker.run(&["stream", "create", "s"]).ok();
    broker.run_with(&["pub", "s"], &"x".repeat(1_000_000)).ok();
    let question = b"\0\0\0\x1b\x93\x15\x05\x82\xa6stream\xa1s\xa4from\xa8earliest";
    let grown = ask_and_never_read(&broker, question);
    assert!(grown < 16 << 20, "{grown} bytes for each client that never reads");
}
