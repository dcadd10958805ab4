//! `weir serve`: flags over the configuration; the broker itself is
//! [`crate::serve`].

use std::path::PathBuf;

use clap::Args;

use weir_core::store::StoreError;
use weir_journal::OpenError;

use super::failure::{Exit, Failure};
use crate::config::{Config, Overrides};

/// Arguments of `weir serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    weir serve                                    loopback, data in ./weir-data\n  \
    weir serve --config weir.toml\n  \
    weir serve --listen 0.0.0.0:7117 --production\n  \
    weir serve --memory                           keep nothing on disk\n  \
    weir serve --log weir_policy=debug            see policies being loaded\n\n\
    In development mode (the default) a policy is put to work by copying its\n\
    component into DATA/plugins.")]
pub struct ServeArgs {
    /// Configuration file, TOML
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7117]
    #[arg(long, env = "WEIR_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Folder for everything the broker keeps [default: ./weir-data]
    #[arg(long, env = "WEIR_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Number of shards [default: number of processors]
    #[arg(long, env = "WEIR_SHARDS")]
    pub shards: Option<u32>,
    /// No bare components in the plugin folder, no powers but those granted
    #[arg(long)]
    pub production: bool,
    /// Keep everything in memory: queues, streams and messages end with the process
    #[arg(long)]
    pub memory: bool,
    /// What to log, e.g. warn, or weir_policy=debug [default: info]
    #[arg(long, env = "WEIR_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        listen: args.listen,
        data: args.data,
        shards: args.shards,
        production: args.production,
        memory: args.memory,
        log_level: args.log,
    };
    let config = Config::load(args.config.as_deref(), overrides)
        .map_err(|error| Failure::usage(format!("{error:#}"), "correct it and start again"))?;
    let data = config.data.display().to_string();
    crate::serve::serve(config).await.map_err(|error| match error.downcast_ref::<OpenError>() {
        Some(open) => cannot_open(&data, open),
        None if error.is::<StoreError>() => {
            Failure::new(Exit::DiskFailed, "io", format!("{error:#}"), HINT_DISK)
        }
        None => Failure::failed(format!("{error:#}")),
    })
}

const HINT_DISK: &str = "see what the system's log says of the disk; then start again: what was \
    acknowledged is kept";

/// Why there is no broker over this data folder.
pub(super) fn cannot_open(data: &str, error: &OpenError) -> Failure {
    let message = format!("{data}: {error}");
    match error {
        OpenError::Locked => Failure::new(
            Exit::Locked,
            "locked",
            message,
            "stop the other one, or name another folder with --data",
        ),
        OpenError::Newer { .. } => {
            Failure::new(Exit::BadData, "bad_data", message, "use the newer weir")
        }
        OpenError::Foreign { .. } | OpenError::Metadata { .. } => {
            let hint = "look: weir doctor DIR; then restore the folder from a copy";
            Failure::new(Exit::BadData, "bad_data", message, hint)
        }
        OpenError::Strict { .. } => Failure::new(
            Exit::NotFound,
            "data_loss",
            message,
            "look: weir doctor DIR; give it up: weir store accept-loss DIR LOG; or start without \
             `store.strict`",
        ),
        OpenError::Io { .. } => Failure::new(Exit::DiskFailed, "io", message, HINT_DISK),
    }
}
