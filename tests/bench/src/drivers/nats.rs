//! Driver of NATS: core for publish and subscribe, in plain lines of its protocol, because
//! its own client `async-nats` takes more of the machine than the server; JetStream for
//! queues and streams, by `async-nats`.
//!
//! Tuned as its documentation advises: asynchronous publishes with many
//! acknowledgements in flight (JetStream, "publish performance"), pull consumers
//! with a standing batch, a pending limit per client that a fast publisher cannot
//! reach ("slow consumers"), `sync_interval: always` for synced
//! (docs.nats.io, JetStream configuration). Acknowledgements of a work queue go one
//! by one: such a stream takes no other policy.
//!
//! Beside that, as a driver of its own, stands `nats-batch`: the same server, told of
//! batches by its producers (ADR-50). Unsynced it is fast ingest, which NATS made for
//! high rates. Synced it is atomic batches: the server syncs one of those as a whole (from
//! 2.15 on), of fast ingest every message. Their publishers are in the crate
//! `jetstream-extra`, which is made for an older `async-nats`, hence written here.

mod atomic;
mod clients;
mod core;
mod fast;
mod inbox;
mod refusal;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::driver::{Answer, Case, Driver, Running, Sync};
use crate::server::{Server, free_address, program, version};
use clients::{Clients, Publishing};

/// What its producers have acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Every message by itself.
    Single,
    /// Batches.
    Batched,
}

impl Manner {
    /// The way to publish that suits a case.
    fn publishing(self, case: Case) -> Publishing {
        match (self, case) {
            (Self::Single, _) | (_, Case::PubSub) => Publishing::Single,
            (_, Case::Queue(Sync::Default) | Case::Stream(Sync::Default)) => Publishing::Fast,
            (_, Case::Queue(Sync::Synced) | Case::Stream(Sync::Synced)) => Publishing::Atomic,
        }
    }
}

/// See the module's text.
pub(crate) struct Nats {
    program: PathBuf,
    manner: Manner,
}

impl Nats {
    pub(crate) fn find(manner: Manner) -> Result<Self> {
        Ok(Self { program: program("NATS_SERVER", &[], "nats-server")?, manner })
    }
}

impl Driver for Nats {
    fn name(&self) -> String {
        match self.manner {
            Manner::Single => "nats",
            Manner::Batched => "nats-batch",
        }
        .to_owned()
    }

    fn version(&self) -> Result<String> {
        Ok(version(&self.program, "--version")?.replace("nats-server: ", ""))
    }

    fn about(&self, case: Case) -> Option<String> {
        let batches = batches(self.manner.publishing(case));
        Some(match case {
            // Nothing is confirmed: there are no batches.
            Case::PubSub if self.manner == Manner::Batched => return None,
            Case::PubSub => {
                "core NATS, no persistence; clients in plain lines of its protocol, as \
                             async-nats takes more CPU than the server"
                    .to_owned()
            }
            Case::Queue(sync) => {
                format!("JetStream work queue, file storage, {}{batches}", interval(sync))
            }
            Case::Stream(sync) => format!("JetStream, file storage, {}{batches}", interval(sync)),
        })
    }

    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let address = free_address()?;
            let mut config = "max_pending: 512MB\n".to_owned();
            if let Case::Queue(sync) | Case::Stream(sync) = case {
                let store = folder.join("store");
                let always = if sync == Sync::Synced { "sync_interval: always\n" } else { "" };
                config += &format!(
                    "jetstream {{\nstore_dir: \"{}\"\nmax_file_store: 32GB\n{always}}}\n",
                    store.display()
                );
            }
            let file = folder.join("nats.conf");
            std::fs::write(&file, config)?;
            let mut command = Command::new(&self.program);
            command.args(["-a", "127.0.0.1", "-p", &address.port().to_string(), "-c"]).arg(file);
            let server = Server::start(command, folder, address).await?;
            let clients = Clients::new(address, self.manner.publishing(case));
            Ok(Running { server, broker: Box::new(clients) })
        })
    }
}

fn interval(sync: Sync) -> &'static str {
    match sync {
        Sync::Default => "sync_interval 2m: acked when written to the file, not synced",
        Sync::Synced => "sync_interval always",
    }
}

/// What there is to say of batches.
fn batches(publishing: Publishing) -> &'static str {
    match publishing {
        Publishing::Single => "",
        Publishing::Fast => {
            "; fast ingest: one batch a producer, which a gap fails, acked every half a window at \
             most (the server shares 500 messages among producers), two acks outstanding; left \
             out: atomic batches, which are written twice, persist_mode async, which acks what is \
             not written, and replay by direct gets, which add six headers to each message"
        }
        Publishing::Atomic => {
            "; atomic batches: what is handed over at once is one, of 1,000 messages at most, 16 \
             in flight; what is handed over one by one is published so while fewer than two acks \
             are outstanding, else gathered into one; their headers stay with the messages; left \
             out: fast ingest, which syncs each message, acks of a batch's first message, which \
             only cost time, and replay by direct gets, which add six headers to each message"
        }
    }
}
