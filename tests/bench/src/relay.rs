//! The floor: a program that copies whole reads from one socket to others and does
//! nothing else. No parsing, no table after a connection's first line. It bounds
//! what any broker on these cores could do; it is not a peer.
//!
//! Run as a child process, by a hidden subcommand, so that its CPU time is told
//! from the clients'. A connection begins with `P subject` or `S subject` and a
//! newline, and is answered with a newline once it is known.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Bytes asked of a socket at once.
const READ_BYTES: usize = 256 * 1024;
/// Reads that may wait for one listener.
const READS_WAITING: usize = 4;

type Listeners = Arc<Mutex<HashMap<String, Vec<mpsc::Sender<Bytes>>>>>;

/// Serves until the process is ended.
pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let listeners = Listeners::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let listeners = listeners.clone();
        // Ends with its connection; the program never ends by itself.
        tokio::spawn(async move { drop(connection(socket, &listeners).await) });
    }
}

async fn connection(mut socket: TcpStream, listeners: &Listeners) -> Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(socket.read_u8().await?);
    }
    let line = String::from_utf8(line)?;
    let (role, subject) = line.trim_end().split_once(' ').context("no subject")?;
    if role == "S" {
        let (sender, mut reads) = mpsc::channel::<Bytes>(READS_WAITING);
        {
            let mut all = listeners.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(subject.to_owned()).or_default().push(sender);
        }
        socket.write_all(b"\n").await?;
        while let Some(bytes) = reads.recv().await {
            socket.write_all(&bytes).await?;
        }
        return Ok(());
    }
    let to = {
        let all = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(subject).cloned().unwrap_or_default()
    };
    socket.write_all(b"\n").await?;
    loop {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let bytes = buffer.freeze();
        for listener in &to {
            drop(listener.send(bytes.clone()).await);
        }
    }
}
