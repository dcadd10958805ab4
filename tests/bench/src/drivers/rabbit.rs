//! Driver of RabbitMQ, by the crate `lapin` (AMQP 0.9.1).
//!
//! Tuned as its documentation advises: streaming publisher confirms, a prefetch,
//! one acknowledgement for many deliveries, no acknowledgements where messages are
//! transient (rabbitmq.com: "publisher confirms", "consumer prefetch", "quorum
//! queues"). Its streams are left out: over AMQP they are slower than over their own
//! protocol, and that client refuses the version that Debian ships.

mod clients;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::driver::{Answer, Case, Driver, Running, Sync};
use crate::server::{Server, free_address, program};
use clients::Clients;

/// Where Debian has the program without its wrapper, which changes the user.
const PLACES: [&str; 1] = ["/usr/lib/rabbitmq/bin/rabbitmq-server"];

/// See the module's text.
pub(crate) struct Rabbit {
    program: PathBuf,
}

impl Rabbit {
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { program: program("RABBITMQ_SERVER", &PLACES, "rabbitmq-server")? })
    }
}

impl Driver for Rabbit {
    fn name(&self) -> String {
        "rabbitmq".to_owned()
    }

    fn version(&self) -> Result<String> {
        // Asking the server takes a start; its folder of libraries is named by it.
        let library = self.program.parent().context("no folder")?.join("../lib");
        let entries = std::fs::read_dir(library).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let version = names.filter_map(|it| Some(it.strip_prefix("rabbitmq_server-")?.to_owned()));
        Ok(version.last().unwrap_or_else(|| "unknown".to_owned()))
    }

    fn about(&self, case: Case) -> Option<String> {
        match case {
            Case::PubSub => Some("transient exclusive queues, version 2, no acks".to_owned()),
            Case::Queue(Sync::Default) => Some(
                "durable classic queue, version 2, persistent messages: confirmed when handed to \
                 the operating system"
                    .to_owned(),
            ),
            Case::Queue(Sync::Synced) => {
                Some("quorum queue: confirmed when its log is synced".to_owned())
            }
            Case::Stream(_) => None,
        }
    }

    fn start<'a>(&'a self, case: Case, folder: &'a Path) -> Answer<'a, Running> {
        Box::pin(async move {
            let (address, distribution, epmd) =
                (free_address()?, free_address()?.port(), free_address()?.port());
            // epmd in the same process group, so that it ends with the server.
            let mut command = Command::new("sh");
            command.arg("-c").arg("epmd -address 127.0.0.1 -port \"$ERL_EPMD_PORT\" & exec \"$0\"");
            command.arg(&self.program);
            command.env("ERL_EPMD_PORT", epmd.to_string()).env("HOME", folder);
            command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
            let own = [
                ("NODENAME", format!("bench{}@localhost", address.port())),
                ("NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
                ("NODE_PORT", address.port().to_string()),
                ("DIST_PORT", distribution.to_string()),
                ("LOGS", "-".to_owned()),
            ];
            for (name, value) in own {
                command.env(format!("RABBITMQ_{name}"), value);
            }
            for (name, place) in [
                ("MNESIA_BASE", "mnesia"),
                ("LOG_BASE", "log"),
                ("CONFIG_FILE", "rabbitmq"),
                ("CONF_ENV_FILE", "none.conf"),
                ("ENABLED_PLUGINS_FILE", "plugins"),
                ("PID_FILE", "pid"),
            ] {
                command.env(format!("RABBITMQ_{name}"), folder.join(place));
            }
            std::fs::write(folder.join("plugins"), "[].\n")?;
            std::fs::write(folder.join("rabbitmq.conf"), "log.console.level = error\n")?;
            let server = Server::start(command, folder, address).await?;
            Ok(Running { server, broker: Box::new(Clients::new(address, case)) })
        })
    }
}
