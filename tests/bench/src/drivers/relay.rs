//! Driver of the raw relay. A frame is a head of eight bytes (length and number of
//! messages) and a whole batch.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::driver::{Answer, Broker, Case, Driver, Publish, Receive, Running};
use crate::server::{Server, free_address};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Bytes asked of a socket at once, as the relay does.
const READ_BYTES: usize = 256 * 1024;

/// See the module's text.
pub(crate) struct Relay {
    program: PathBuf,
}

impl Relay {
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { program: std::env::current_exe()? })
    }
}

impl Driver for Relay {
    fn name(&self) -> String {
        super::RELAY.to_owned()
    }

    fn version(&self) -> Result<String> {
        Ok("floor, not a peer".to_owned())
    }

    fn about(&self, case: Case) -> Option<String> {
        (case == Case::PubSub).then(|| "copies whole reads, nothing else".to_owned())
    }

    fn start<'a>(&'a self, _case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let address = free_address()?;
            let mut command = Command::new(&self.program);
            command.args(["relay", &address.to_string()]);
            let server = Server::start(command, folder, address).await?;
            Ok(Running { server, broker: Box::new(Clients { address }) })
        })
    }
}

struct Clients {
    address: SocketAddr,
}

impl Clients {
    async fn connect(&self, role: char, subject: &str) -> Result<TcpStream> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(format!("{role} {subject}\n").as_bytes()).await?;
        socket.read_u8().await?;
        Ok(socket)
    }
}

impl Broker for Clients {
    fn publisher(&self, subject: String) -> Answer<'_, Box<dyn Publish>> {
        Box::pin(async move {
            let socket = self.connect('P', &subject).await?;
            Ok(Box::new(Publisher { socket }) as Box<dyn Publish>)
        })
    }

    fn listener(&self, subject: String) -> Answer<'_, Box<dyn Receive>> {
        Box::pin(async move {
            let socket = self.connect('S', &subject).await?;
            Ok(Box::new(Listener { socket, buffer: BytesMut::new() }) as Box<dyn Receive>)
        })
    }
}

struct Publisher {
    socket: TcpStream,
}

impl Publish for Publisher {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut head = [0; 8];
            head[..4].copy_from_slice(&(batch.size() as u32).to_le_bytes());
            head[4..].copy_from_slice(&(batch.len() as u32).to_le_bytes());
            let mut frame = Buf::chain(&head[..], batch.whole().clone());
            self.socket.write_all_buf(&mut frame).await?;
            Ok(())
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

struct Listener {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Receive for Listener {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            self.buffer.reserve(READ_BYTES);
            let read = self.socket.read_buf(&mut self.buffer);
            // Nothing is lost when this read is given up: it has read nothing then.
            let Ok(read) = tokio::time::timeout(Duration::from_millis(100), read).await else {
                return Ok(());
            };
            anyhow::ensure!(read? > 0, "the relay has ended");
            while let Some(head) = self.buffer.first_chunk::<8>() {
                let part = |at: usize| {
                    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
                };
                let (size, count) = (part(0) as usize, part(4) as usize);
                if self.buffer.len() < 8 + size * count {
                    break;
                }
                for payload in self.buffer[8..8 + size * count].chunks_exact(size) {
                    tally.see(payload);
                }
                self.buffer.advance(8 + size * count);
            }
            Ok(())
        })
    }
}
