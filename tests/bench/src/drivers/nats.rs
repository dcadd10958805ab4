//! Driver of NATS: core for publish and subscribe, JetStream for queues and
//! streams, by its own client `async-nats`.
//!
//! Tuned as its documentation advises: asynchronous publishes with many
//! acknowledgements in flight (JetStream, "publish performance"), pull consumers
//! with a standing batch, a pending limit per client that a fast publisher cannot
//! reach ("slow consumers"), `sync_interval: always` for synced
//! (docs.nats.io, JetStream configuration). Acknowledgements of a work queue go one
//! by one: such a stream takes no other policy.

mod clients;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::driver::{Answer, Case, Driver, Running, Sync};
use crate::server::{Server, free_address, program, version};
use clients::Clients;

/// See the module's text.
pub(crate) struct Nats {
    program: PathBuf,
}

impl Nats {
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { program: program("NATS_SERVER", &[], "nats-server")? })
    }
}

impl Driver for Nats {
    fn name(&self) -> String {
        "nats".to_owned()
    }

    fn version(&self) -> Result<String> {
        Ok(version(&self.program, "--version")?.replace("nats-server: ", ""))
    }

    fn about(&self, case: Case) -> Option<String> {
        Some(match case {
            Case::PubSub => "core NATS, no persistence".to_owned(),
            Case::Queue(sync) => format!("JetStream work queue, file storage, {}", interval(sync)),
            Case::Stream(sync) => format!("JetStream, file storage, {}", interval(sync)),
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
            Ok(Running { server, broker: Box::new(Clients::new(address)) })
        })
    }
}

fn interval(sync: Sync) -> &'static str {
    match sync {
        Sync::Default => "sync_interval 2m: acked when written to the file, not synced",
        Sync::Synced => "sync_interval always",
    }
}
