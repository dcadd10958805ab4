//! How the broker keeps what it keeps: table `[store]`.

use anyhow::bail;
use serde::Deserialize;
use weir_core::command::Level;
use weir_journal::JournalConfig;

/// Smallest journal file, MiB: it holds several blocks.
const JOURNAL_FILE_MIB_MIN: u64 = 1;
/// Largest journal file, MiB: a start reads files whole.
const JOURNAL_FILE_MIB_MAX: u64 = 1_024;
/// Longest time in which the scrub reads everything once, hours: a year.
const SCRUB_HOURS_MAX: u64 = 8_760;
/// Quickest that it reads, MiB a second.
const SCRUB_MIB_PER_SECOND_MAX: u64 = 10_000;

const MS_PER_HOUR: u64 = 3_600_000;

/// The table as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct StoreTable {
    kind: Option<String>,
    journal_file_mib: Option<u64>,
    memory_mib: Option<u64>,
    free_mib_min: Option<u64>,
    free_percent_min: Option<u64>,
    strict: Option<bool>,
    default_level: Option<String>,
    scrub_hours: Option<u64>,
    scrub_mib_per_second: Option<u64>,
}

/// Its keys.
pub(super) const KEYS: &[&str] = &[
    "store",
    "store.kind",
    "store.journal-file-mib",
    "store.memory-mib",
    "store.free-mib-min",
    "store.free-percent-min",
    "store.strict",
    "store.default-level",
    "store.scrub-hours",
    "store.scrub-mib-per-second",
];

/// Where everything is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// In the data folder.
    #[default]
    Journal,
    /// In memory: gone with the process.
    Memory,
}

/// The checked table.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where everything is kept.
    pub kind: StoreKind,
    /// Size of a journal file, bytes.
    pub journal_file_bytes: u64,
    /// Bytes of messages that the journal keeps in memory too.
    pub resident_bytes_max: u64,
    /// Publishes are refused below this many free bytes on the disk ...
    pub free_bytes_min: u64,
    /// ... or below this share of it, percent, whichever is more.
    pub free_percent_min: u64,
    /// Whether the broker refuses to start on damage.
    pub strict: bool,
    /// Level of queues and streams that name none; `None`: the safest there is.
    pub default_level: Option<Level>,
    /// Time in which the scrub reads every sealed byte once, ms; 0: never.
    pub scrub_period_ms: u64,
    /// Most bytes that it reads in a second.
    pub scrub_bytes_per_second: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let journal = JournalConfig::new(0);
        Self {
            kind: StoreKind::default(),
            journal_file_bytes: journal.journal_file_bytes,
            resident_bytes_max: journal.resident_bytes_max,
            free_bytes_min: journal.free_bytes_min,
            free_percent_min: journal.free_percent_min,
            strict: journal.strict,
            default_level: None,
            scrub_period_ms: journal.scrub_period_ms,
            scrub_bytes_per_second: journal.scrub_bytes_per_second,
        }
    }
}

impl StoreConfig {
    /// Checks the table. `memory` is what the flag says, `memory_mib` what
    /// `limits.memory-mib` does.
    pub(super) fn check(
        table: StoreTable,
        memory: bool,
        memory_mib: Option<u64>,
    ) -> anyhow::Result<Self> {
        let defaults = Self::default();
        let kind = match table.kind.as_deref() {
            _ if memory => StoreKind::Memory,
            None | Some("journal") => StoreKind::Journal,
            Some("memory") => StoreKind::Memory,
            Some(other) => bail!("store.kind = \"{other}\": write \"journal\" or \"memory\""),
        };
        if let (Some("memory"), Some(mib)) = (table.kind.as_deref(), table.memory_mib) {
            bail!(
                "store.memory-mib = {mib}: it bounds what the journal holds in memory too, and \
                 store.kind is \"memory\"; write limits.memory-mib, which bounds all messages"
            );
        }
        let bytes = |mib: u64| mib.saturating_mul(1 << 20);
        let file_mib = table.journal_file_mib.unwrap_or(defaults.journal_file_bytes >> 20);
        if !(JOURNAL_FILE_MIB_MIN..=JOURNAL_FILE_MIB_MAX).contains(&file_mib) {
            bail!(
                "store.journal-file-mib = {file_mib}: write {JOURNAL_FILE_MIB_MIN} to \
                 {JOURNAL_FILE_MIB_MAX}"
            );
        }
        let resident = table.memory_mib.or(memory_mib).map_or(defaults.resident_bytes_max, bytes);
        if resident == 0 {
            bail!("store.memory-mib = 0: messages pass through memory; write 1 or more");
        }
        let percent = table.free_percent_min.unwrap_or(defaults.free_percent_min);
        if percent > 99 {
            bail!("store.free-percent-min = {percent}: write 0 to 99");
        }
        let hours = table.scrub_hours.unwrap_or(defaults.scrub_period_ms / MS_PER_HOUR);
        if hours > SCRUB_HOURS_MAX {
            bail!("store.scrub-hours = {hours}: write 1 to {SCRUB_HOURS_MAX}, or 0 for never");
        }
        let scrub_mib = table.scrub_mib_per_second;
        let scrub_mib = scrub_mib.unwrap_or(defaults.scrub_bytes_per_second >> 20);
        if !(1..=SCRUB_MIB_PER_SECOND_MAX).contains(&scrub_mib) {
            bail!(
                "store.scrub-mib-per-second = {scrub_mib}: write 1 to {SCRUB_MIB_PER_SECOND_MAX}; \
                 store.scrub-hours = 0 turns the scrub off"
            );
        }
        Ok(Self {
            kind,
            journal_file_bytes: bytes(file_mib),
            resident_bytes_max: resident,
            free_bytes_min: table.free_mib_min.map_or(defaults.free_bytes_min, bytes),
            free_percent_min: percent,
            strict: table.strict.unwrap_or(defaults.strict),
            default_level: level(table.default_level.as_deref(), kind, memory)?,
            scrub_period_ms: hours * MS_PER_HOUR,
            scrub_bytes_per_second: bytes(scrub_mib),
        })
    }
}

fn level(text: Option<&str>, kind: StoreKind, flagged: bool) -> anyhow::Result<Option<Level>> {
    let level = match text {
        None => return Ok(None),
        Some("memory") => Level::Memory,
        Some("os") => Level::Os,
        Some("disk") => Level::Disk,
        Some(other) => {
            bail!("store.default-level = \"{other}\": write \"memory\", \"os\" or \"disk\"")
        }
    };
    match kind {
        StoreKind::Memory if level > Level::Memory && flagged => Ok(None),
        StoreKind::Memory if level > Level::Memory => bail!(
            "store.default-level = \"{}\": beyond what store.kind = \"memory\" reaches; leave \
             one of them out",
            text.unwrap_or_default()
        ),
        _ => Ok(Some(level)),
    }
}
