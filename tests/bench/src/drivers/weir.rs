//! Driver of Weir, by its own client.
//!
//! Publish and subscribe: `Client::publish_all`, without confirmation. Queues and
//! streams: a `Publisher`; a receipt stands for each batch of the pace, and as many
//! receipts are open as the window holds. Receivers take whole batches; a queue's
//! consumer acks explicitly, a stream's reader by asking for the next batch.

mod clients;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::driver::{Answer, Case, Driver, Running, Sync};
use crate::server::{Server, free_address, version};
use clients::Clients;

/// What is not the default in a Weir that is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeirConfig {
    /// Its name in tables, where it is not `weir`.
    pub(crate) name: Option<String>,
    /// Binding files: name and text.
    pub(crate) bindings: Vec<(String, String)>,
    /// Components for the plugin folder: name and path.
    pub(crate) plugins: Vec<(String, PathBuf)>,
    /// Threads of the runtime, and shards; `None` for one per core.
    pub(crate) workers: Option<usize>,
    /// The only core it may use.
    pub(crate) core: Option<usize>,
    /// Text of the configuration file.
    pub(crate) config: String,
    /// A header on every message.
    pub(crate) header: Option<(String, String)>,
}

/// See the module's text.
pub(crate) struct Weir {
    program: PathBuf,
    config: WeirConfig,
}

impl Weir {
    pub(crate) fn find(program: &Path, config: WeirConfig) -> Result<Self> {
        anyhow::ensure!(
            program.is_file(),
            "{} does not exist: cargo build --release, or name another with --weir",
            program.display()
        );
        Ok(Self { program: program.to_owned(), config })
    }
}

impl Driver for Weir {
    fn name(&self) -> String {
        self.config.name.clone().unwrap_or_else(|| "weir".to_owned())
    }

    fn version(&self) -> Result<String> {
        Ok(version(&self.program, "--version")?.replace("weir ", ""))
    }

    fn about(&self, case: Case) -> Option<String> {
        Some(match case {
            Case::PubSub => "channels: nothing is kept".to_owned(),
            Case::Queue(Sync::Default) | Case::Stream(Sync::Default) => {
                "level os: acked when written to the journal file, not synced".to_owned()
            }
            Case::Queue(Sync::Synced) | Case::Stream(Sync::Synced) => {
                "level disk: acked when synced (one sync for all that waits)".to_owned()
            }
        })
    }

    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let (address, data) = (free_address()?, folder.join("data"));
            for (kind, extension) in [("bindings", "toml"), ("plugins", "wasm")] {
                std::fs::create_dir_all(data.join(kind))?;
                let at = |name: &str| data.join(kind).join(format!("{name}.{extension}"));
                if kind == "bindings" {
                    for (name, text) in &self.config.bindings {
                        std::fs::write(at(name), text)?;
                    }
                } else {
                    for (name, path) in &self.config.plugins {
                        std::fs::copy(path, at(name))
                            .with_context(|| format!("cannot copy {}", path.display()))?;
                    }
                }
            }
            let file = folder.join("weir.toml");
            std::fs::write(&file, &self.config.config)?;
            let mut command = match self.config.core {
                None => Command::new(&self.program),
                Some(core) => {
                    let mut command = Command::new("taskset");
                    command.args(["-c", &core.to_string()]).arg(&self.program);
                    command
                }
            };
            command.args(["serve", "--log", "warn", "--listen", &address.to_string()]);
            command.arg("--data").arg(&data).arg("--config").arg(&file);
            if let Some(workers) = self.config.workers {
                command.args(["--shards", &workers.to_string()]);
                command.env("TOKIO_WORKER_THREADS", workers.to_string());
            }
            let server = Server::start(command, folder, address).await?;
            if !self.config.bindings.is_empty() {
                policies_are_at_work(&address.to_string(), self.config.bindings.len()).await?;
            }
            let broker =
                Box::new(Clients::new(address.to_string(), case, self.config.header.clone()));
            Ok(Running { server, broker })
        })
    }
}

/// A binding that does not run would make a fast sample of nothing.
async fn policies_are_at_work(address: &str, expected: usize) -> Result<()> {
    let client = weir_client::Client::connect(address).await?;
    let status = client.policy_status(None).await?;
    let active = status.iter().filter(|it| it.state == "active").count();
    anyhow::ensure!(
        active >= expected,
        "{active} of {expected} bindings are active: {:?}",
        status.iter().map(|it| (&it.binding, &it.state, &it.error)).collect::<Vec<_>>()
    );
    Ok(())
}
