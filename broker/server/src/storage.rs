//! Where the broker keeps everything: the journal in the data folder, or memory.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tracing::{error, info, warn};
use weir_core::command::Level;
use weir_core::env::{Clock, Random};
use weir_core::memory_store::{MemoryCatalogue, MemoryStore};
use weir_core::store::{Catalogue, Store, StoreError};
use weir_journal::files::OsFiles;
use weir_journal::{Journal, JournalConfig, LostRange, OpenError, RecoveryReport};

use crate::config::{Config, StoreKind};
use crate::system::SystemRandom;

/// A shard's store.
pub struct ShardStore {
    /// The store.
    pub store: Box<dyn Store>,
    /// Rung when the store has moved on.
    pub bell: Arc<Notify>,
}

/// See the file's head.
pub struct Storage {
    /// One for each shard.
    pub stores: Vec<ShardStore>,
    /// What there is.
    pub catalogue: Box<dyn Catalogue>,
    /// What is behind both, unless they are in memory.
    pub journal: Option<Journal>,
}

/// The journal while the broker runs: looked at by one task, closed at the end.
pub type SharedJournal = Arc<Mutex<Option<Journal>>>;

impl Storage {
    /// Opens what the configuration names: takes the folder's lock and recovers what
    /// an earlier process has left. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, OpenError> {
        match config.store.kind {
            StoreKind::Memory => Ok(Self::memory(config)),
            StoreKind::Journal => Self::journal(config, clock),
        }
    }

    fn memory(config: &Config) -> Self {
        let bytes_max = config.memory_bytes_max / u64::from(config.shards);
        let store = |_| Box::new(MemoryStore::new(bytes_max)) as Box<dyn Store>;
        Self::over((0..config.shards).map(store).collect())
    }

    /// Over these stores, one for each shard, with a catalogue in memory.
    #[must_use]
    pub fn over(stores: Vec<Box<dyn Store>>) -> Self {
        let stores = stores.into_iter();
        let stores = stores.map(|store| ShardStore { store, bell: Arc::default() }).collect();
        Self { stores, catalogue: Box::new(MemoryCatalogue::default()), journal: None }
    }

    fn journal(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = config.data.display().to_string();
        let files = OsFiles::new(&config.data).map_err(|error| OpenError::Io { path, error })?;
        let random = SystemRandom;
        let number = u128::from(random.next()) << 64 | u128::from(random.next());
        let kept = JournalConfig {
            journal_file_bytes: config.store.journal_file_bytes,
            resident_bytes_max: config.store.resident_bytes_max,
            strict: config.store.strict,
            free_bytes_min: config.store.free_bytes_min,
            free_percent_min: config.store.free_percent_min,
            scrub_period_ms: config.store.scrub_period_ms,
            scrub_bytes_per_second: config.store.scrub_bytes_per_second,
            ..JournalConfig::new(number)
        };
        let journal = Journal::open(Arc::new(files), clock.clone(), kept, config.shards)?;
        tell(journal.report());
        let stores = (0..config.shards).map(|_| {
            let bell = Arc::new(Notify::new());
            let rung = bell.clone();
            let store = Box::new(journal.store(Box::new(move || rung.notify_one())));
            ShardStore { store, bell }
        });
        Ok(Self {
            stores: stores.collect(),
            catalogue: Box::new(journal.catalogue()),
            journal: Some(journal),
        })
    }

    /// The safest level that every store reaches.
    #[must_use]
    pub fn level_max(&self) -> Level {
        self.stores.iter().map(|shard| shard.store.level_max()).min().unwrap_or_default()
    }

    /// Closes it: a start that did not come to its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn close(self) -> Result<(), StoreError> {
        drop((self.stores, self.catalogue));
        self.journal.map_or(Ok(()), Journal::close)
    }
}

/// Logs what a start has found.
fn tell(report: &RecoveryReport) {
    let RecoveryReport { clean, checkpoint, journal_files, blocks, records, logs, took_ms, .. } =
        report;
    info!(clean, checkpoint, journal_files, blocks, records, logs, took_ms, "the store is open");
    if let Some(why) = &report.checkpoint_fallback {
        warn!(%why, "an older checkpoint had to do; nothing is lost by it");
    }
    for head in &report.heads {
        warn!(%head, "the head of a file is damaged; nothing is lost by it");
    }
    for LostRange { log, from, to } in &report.set_aside {
        warn!(%log, from, to, "messages that were given up as lost are back; the log went on without them");
    }
    if let Some(torn) = report.unfinished() {
        let (file, from, bytes) = (&torn.file, torn.at, torn.bytes);
        info!(%file, from, bytes, "an unfinished end was cut off; it was never acknowledged");
    }
    for damage in &report.damage {
        let (file, from, to, what) = (&damage.file, damage.from, damage.to, &damage.what);
        if damage.lost.is_empty() {
            error!(%file, from, to, %what, "damage: changes of what there is may be lost");
        }
        for lost in &damage.lost {
            let messages = format!("{} {}..{}", lost.log, lost.from, lost.to);
            error!(%file, from, to, %what, %messages, "damage: messages are lost");
        }
    }
}
