//! Configuration, in two stages: the file as written, then checked and complete.
//!
//! Order of strength: flag, environment, file, default. An unknown key is
//! refused with the nearest known one; nothing is ignored.

mod log;
mod nearest;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::limits;
use store::StoreTable;
pub use store::{StoreConfig, StoreKind};

/// Where the broker listens when nothing is said: loopback only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7117";

/// The file as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    listen: Option<String>,
    data: Option<PathBuf>,
    shards: Option<u32>,
    production: Option<bool>,
    policies: Policies,
    store: StoreTable,
    limits: Limits,
    log: Log,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Policies {
    plugins: Option<PathBuf>,
    bindings: Option<PathBuf>,
    watch: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Limits {
    connections: Option<usize>,
    memory_mib: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Log {
    level: Option<String>,
    format: Option<String>,
}

/// Every key a file may have, as `table.key`.
const KEYS: &[&str] = &[
    "listen",
    "data",
    "shards",
    "production",
    "policies",
    "policies.plugins",
    "policies.bindings",
    "policies.watch",
    "limits",
    "limits.connections",
    "limits.memory-mib",
    "log",
    "log.level",
    "log.format",
];

/// What flags and environment say over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Address to listen on.
    pub listen: Option<String>,
    /// Data folder.
    pub data: Option<PathBuf>,
    /// Number of shards.
    pub shards: Option<u32>,
    /// No bare components, no powers but those granted.
    pub production: bool,
    /// Everything is kept in memory only.
    pub memory: bool,
    /// Level of the log.
    pub log_level: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder for everything the broker keeps.
    pub data: PathBuf,
    /// Number of shards.
    pub shards: u32,
    /// Whether bare components may be dropped in, and bind themselves.
    pub development: bool,
    /// Folder of policy components.
    pub plugins: PathBuf,
    /// Folder of binding files.
    pub bindings: PathBuf,
    /// Whether the two folders are watched.
    pub watch: bool,
    /// Most connections.
    pub connections_max: usize,
    /// Bytes of records that a store in memory keeps; beyond them publishers are
    /// refused.
    pub memory_bytes_max: u64,
    /// How everything is kept.
    pub store: StoreConfig,
    /// Filter of the log, e.g. `info` or `weir_policy=debug`.
    pub log_level: String,
    /// Form of the log.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads `file`, where there is one, and lays `overrides` over it.
    ///
    /// # Errors
    /// One sentence that names the key and what to write instead.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<Self> {
        let raw = match file {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                parse(&text).with_context(|| format!("configuration {}", path.display()))?
            }
        };
        Self::check(raw, overrides)
    }

    fn check(file: File, overrides: Overrides) -> anyhow::Result<Self> {
        let listen = overrides.listen.or(file.listen).unwrap_or_else(|| LISTEN_DEFAULT.into());
        let listen: SocketAddr = listen.parse().with_context(|| {
            format!("listen = \"{listen}\": write an address and a port, e.g. {LISTEN_DEFAULT}")
        })?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let shards = overrides.shards.or(file.shards).unwrap_or(cores.min(limits::SHARDS_MAX));
        if shards == 0 || shards > limits::SHARDS_MAX {
            bail!("shards = {shards}: write 1 to {}", limits::SHARDS_MAX);
        }
        let connections_max = file.limits.connections.unwrap_or(limits::CONNECTIONS_MAX);
        if connections_max == 0 {
            bail!("limits.connections = 0: nobody could connect; write 1 or more");
        }
        let memory_bytes_max =
            file.limits.memory_mib.map_or(limits::MEMORY_BYTES, |mib| mib.saturating_mul(1 << 20));
        if memory_bytes_max == 0 {
            bail!("limits.memory-mib = 0: nothing could be kept; write 1 or more");
        }
        let log_level = overrides.log_level.or(file.log.level).unwrap_or_else(|| "info".to_owned());
        log::check(&log_level)?;
        let log_format = match file.log.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => bail!("log.format = \"{other}\": write \"text\" or \"json\""),
        };
        let data = overrides.data.or(file.data).unwrap_or_else(|| "./weir-data".into());
        let store = StoreConfig::check(file.store, overrides.memory, file.limits.memory_mib)?;
        Ok(Self {
            listen,
            plugins: file.policies.plugins.unwrap_or_else(|| data.join("plugins")),
            bindings: file.policies.bindings.unwrap_or_else(|| data.join("bindings")),
            data,
            shards,
            development: !(overrides.production || file.production.unwrap_or(false)),
            watch: file.policies.watch.unwrap_or(true),
            connections_max,
            memory_bytes_max,
            store,
            log_level,
            log_format,
        })
    }
}

fn parse(text: &str) -> anyhow::Result<File> {
    let table: toml::Table = text.parse()?;
    for (key, value) in &table {
        known(key)?;
        for inner in value.as_table().into_iter().flat_map(toml::Table::keys) {
            known(&format!("{key}.{inner}"))?;
        }
    }
    Ok(toml::from_str(text)?)
}

fn known(key: &str) -> anyhow::Result<()> {
    let keys: Vec<&str> = KEYS.iter().chain(store::KEYS).copied().collect();
    if keys.contains(&key) {
        return Ok(());
    }
    let nearest = nearest::nearest(key, &keys);
    bail!("unknown key `{key}`; did you mean `{nearest}`?")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn defaults_listen_on_loopback_only() {
        let config = Config::load(None, Overrides::default()).unwrap();
        assert!(config.listen.ip().is_loopback());
        assert!(config.development);
        assert_eq!(config.plugins, Path::new("./weir-data/plugins"));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let error = parse("[policies]\nplugin = \"x\"").unwrap_err().to_string();
        assert_eq!(error, "unknown key `policies.plugin`; did you mean `policies.plugins`?");
        let error = parse("lissten = \"x\"").unwrap_err().to_string();
        assert_eq!(error, "unknown key `lissten`; did you mean `listen`?");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse("listen = \"127.0.0.1:1\"\ndata = \"/a\"\nshards = 3").unwrap();
        let overrides = Overrides { data: Some("/b".into()), ..Overrides::default() };
        let config = Config::check(file, overrides).unwrap();
        assert_eq!(config.data, Path::new("/b"));
        assert_eq!((config.listen.port(), config.shards), (1, 3));
    }

    #[test]
    fn everything_is_kept_in_the_data_folder_unless_memory_is_asked_for() {
        let config = Config::load(None, Overrides::default()).unwrap();
        assert_eq!(config.store.kind, StoreKind::Journal);
        assert_eq!(config.store.default_level, None);
        let file = parse("[store]\ndefault-level = \"disk\"\nmemory-mib = 64").unwrap();
        let overrides = Overrides { memory: true, ..Overrides::default() };
        let config = Config::check(file, overrides).unwrap();
        assert_eq!(config.store.kind, StoreKind::Memory);
        assert_eq!(config.store.default_level, None, "the flag wins over the file");
        assert_eq!(config.store.resident_bytes_max, 64 << 20);
    }

    #[test]
    fn the_scrub_is_as_asked_for() {
        let scrub = |text: &str| {
            let config = Config::check(parse(text).unwrap(), Overrides::default()).unwrap();
            (config.store.scrub_period_ms, config.store.scrub_bytes_per_second)
        };
        assert_eq!(scrub(""), (7 * 24 * 3_600_000, 8 << 20));
        assert_eq!(
            scrub("[store]\nscrub-hours = 1\nscrub-mib-per-second = 2"),
            (3_600_000, 2 << 20)
        );
        assert_eq!(scrub("[store]\nscrub-hours = 0").0, 0, "never");
    }

    #[test]
    fn wrong_values_name_the_key_and_the_way_out() {
        for (text, expected) in [
            ("shards = 0", "shards = 0: write 1 to 256"),
            (
                "listen = \"here\"",
                "listen = \"here\": write an address and a port, e.g. 127.0.0.1:7117",
            ),
            ("[log]\nformat = \"xml\"", "log.format = \"xml\": write \"text\" or \"json\""),
            ("[store]\nkind = \"disk\"", "store.kind = \"disk\": write \"journal\" or \"memory\""),
            (
                "[store]\nkind = \"memory\"\nmemory-mib = 64",
                "store.memory-mib = 64: it bounds what the journal holds in memory too, and \
                 store.kind is \"memory\"; write limits.memory-mib, which bounds all messages",
            ),
            ("[store]\njournal-file-mib = 0", "store.journal-file-mib = 0: write 1 to 1024"),
            (
                "[store]\nscrub-hours = 9000",
                "store.scrub-hours = 9000: write 1 to 8760, or 0 for never",
            ),
            (
                "[store]\nscrub-mib-per-second = 0",
                "store.scrub-mib-per-second = 0: write 1 to 10000; store.scrub-hours = 0 turns the \
                 scrub off",
            ),
            (
                "[store]\nkind = \"memory\"\ndefault-level = \"disk\"",
                "store.default-level = \"disk\": beyond what store.kind = \"memory\" reaches; \
                 leave one of them out",
            ),
        ] {
            let error = Config::check(parse(text).unwrap(), Overrides::default()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
