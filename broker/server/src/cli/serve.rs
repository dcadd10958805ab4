//! `weir serve`: flags over the configuration; the broker itself is
//! [`crate::serve`].

use std::io::ErrorKind;
use std::net::SocketAddr;
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
    weir serve --listen 10.0.0.5:7117 --production   in a network that you trust: there\n  \
                                                  is no authentication yet\n  \
    weir serve --memory                           keep nothing on disk\n  \
    weir serve --log info,weir_policy=debug       see policies being loaded\n\n\
    In development mode (the default) a policy is put to work by copying its\n\
    component into DATA/plugins.")]
pub struct ServeArgs {
    /// Configuration file, TOML
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7117]
    #[arg(long, env = "WEIR_LISTEN", value_name = "IP:PORT")]
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
    /// What to log, e.g. warn, or info,weir_policy=debug [default: info]
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
    let listen = config.listen;
    crate::serve::serve(config).await.map_err(|error| match error.downcast_ref::<OpenError>() {
        Some(open) => cannot_open(&data, open),
        None if error.is::<StoreError>() => {
            Failure::new(Exit::DiskFailed, "io", format!("{error:#}"), HINT_DISK)
        }
        None => Failure::failed(format!("{error:#}")).hint(hint_listen(&error, listen)),
    })
}

pub(super) const HINT_DISK: &str = "see what the system's log says of the disk; then start again: \
    what was acknowledged is kept";

/// What to do where the address cannot be had; "" where something else is wrong.
fn hint_listen(error: &anyhow::Error, listen: SocketAddr) -> String {
    let port = listen.port();
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(ErrorKind::AddrInUse) => format!(
            "another program listens there, a broker perhaps (`weir version --server {listen}` \
             tells): stop it, or take another port, e.g. weir serve --listen {}",
            SocketAddr::new(listen.ip(), port.checked_add(1).unwrap_or(7117))
        ),
        Some(ErrorKind::AddrNotAvailable) => format!(
            "this machine has no address {}: weir serve --listen 0.0.0.0:{port} listens on all \
             that it has, --listen 127.0.0.1:{port} for programs of this machine only",
            listen.ip()
        ),
        Some(ErrorKind::PermissionDenied) if port < 1024 => {
            "ports below 1024 need a privilege: take another, e.g. weir serve --listen \
             127.0.0.1:7117"
                .to_owned()
        }
        _ => String::new(),
    }
}

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
            Failure::new(Exit::BadData, "bad_data", message, hint_restore(data))
        }
        OpenError::Strict { .. } => {
            let hint = format!(
                "look: weir doctor {data}; give up what is lost of a log: weir store accept-loss \
                 {data} LOG, or all of it, and changes that may be missing: weir store accept-loss \
                 {data} --all; or start without `store.strict`"
            );
            Failure::new(Exit::NotFound, "data_loss", message, hint)
        }
        OpenError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => {
            let hint = format!("run it as the user that the files belong to: ls -ln {data}");
            Failure::new(Exit::Failed, "io", message, hint)
        }
        OpenError::Io { .. } => Failure::new(Exit::DiskFailed, "io", message, HINT_DISK),
    }
}

/// What to do about a folder that cannot be read. No single file can be replaced:
/// what the others say would not be true of it.
pub(super) fn hint_restore(data: &str) -> String {
    format!(
        "keep the folder as it is, for whoever may rescue more of it: mv {data} {data}.damaged; \
         then put a whole copy of it in its place, all files from one moment, or read in what was \
         written out before: weir store import {data} FILE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_not_to_listen_has_a_hint_of_its_own() {
        let hint_of = |kind, listen: &str| {
            let error = anyhow::Error::new(std::io::Error::from(kind)).context("cannot listen");
            hint_listen(&error, listen.parse().expect("an address"))
        };
        let hint = |kind| hint_of(kind, "10.1.2.3:7117");
        assert!(hint(ErrorKind::AddrInUse).contains("--listen 10.1.2.3:7118"));
        assert!(hint(ErrorKind::AddrNotAvailable).contains("no address 10.1.2.3"));
        assert!(hint_of(ErrorKind::PermissionDenied, "[::1]:80").contains("below 1024"));
        assert_eq!(hint(ErrorKind::NotFound), "");
    }

    /// Where no message is known to be lost there is no log to name.
    #[test]
    fn a_strict_refusal_says_how_all_is_accepted() {
        let strict = OpenError::Strict { summary: "no record known".to_owned() };
        let hint = cannot_open("./data", &strict).hint;
        for next in ["weir store accept-loss ./data LOG", "weir store accept-loss ./data --all"] {
            assert!(hint.contains(next), "{hint}");
        }
    }
}
