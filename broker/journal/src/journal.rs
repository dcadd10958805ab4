//! The journal as a whole: opened once per data folder, with a writer, a keeper,
//! a store per shard and a catalogue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use weir_core::env::Clock;
use weir_core::store::StoreError;

use crate::catalogue::JournalCatalogue;
use crate::files::{self, Files};
use crate::keeper::{Idle, Keeper, KeeperPolicy, KeeperStart, Told};
use crate::limits;
use crate::order::Order;
use crate::ranges::Ranges;
use crate::recovery::{self, Mode, OpenError, RecoveryReport, io, mark};
use crate::rest::KeeperNews;
use crate::segment::Sizes;
use crate::shared::{FenceOnPanic, Shared, Start};
use crate::store::JournalStore;
use crate::writer::{self, First, Writer};

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Size of a journal file, bytes. One in which a block of its own is longer gets longer.
    pub journal_file_bytes: u64,
    /// Where a segment is full, bytes.
    pub segment_bytes: u64,
    /// Sealed journal files that wait before the oldest is filed.
    pub kept_journal_files: usize,
    /// Beyond those, so many wait before a round files them.
    pub filed_at_once: usize,
    /// The owner of a store writes its own short turns: those without a sync always,
    /// those with one where syncs took no longer than that lately, us. 0: the writer's
    /// thread does both.
    pub quick_sync_us: u64,
    /// Most bytes of message bodies that all stores keep in memory.
    pub resident_bytes_max: u64,
    /// Refuse to start on damage.
    pub strict: bool,
    /// Publishes are refused below this many free bytes ...
    pub free_bytes_min: u64,
    /// ... or below this share of the disk in percent, whichever is more.
    pub free_percent_min: u64,
    /// Time in which the scrub reads every sealed byte once, ms; 0: never.
    pub scrub_period_ms: u64,
    /// Most bytes the scrub reads in a second.
    pub scrub_bytes_per_second: u64,
    /// Number of a new data folder: random.
    pub new_store_id: u128,
}

impl JournalConfig {
    /// The defaults, for a folder that would get this number.
    #[must_use]
    pub fn new(new_store_id: u128) -> Self {
        let policy = KeeperPolicy::default();
        Self {
            journal_file_bytes: limits::JOURNAL_FILE_BYTES,
            segment_bytes: policy.sizes.segment_bytes,
            kept_journal_files: policy.kept_journal_files,
            filed_at_once: policy.filed_at_once,
            quick_sync_us: limits::QUICK_SYNC_US,
            resident_bytes_max: limits::RESIDENT_BYTES,
            strict: false,
            free_bytes_min: policy.free_bytes_min,
            free_percent_min: policy.free_percent_min,
            scrub_period_ms: policy.scrub_period_ms,
            scrub_bytes_per_second: policy.scrub_bytes_per_second,
            new_store_id,
        }
    }

    /// Where a block is full, bytes: several fit a file.
    pub(crate) fn block_bytes(&self) -> usize {
        limits::BLOCK_TARGET_BYTES.min((self.journal_file_bytes / 4) as usize)
    }
}

/// Figures of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFigures {
    /// Hand-overs that are written.
    pub written: u64,
    /// Hand-overs that are synced.
    pub synced: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Bytes written to the journal.
    pub bytes: u64,
    /// Bytes handed over and not written.
    pub pending_bytes: u64,
    /// Whether publishes are refused for want of space.
    pub has_no_space: bool,
}

/// Counters behind [`JournalFigures`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) blocks: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// See the file's head.
pub struct Journal {
    pub(crate) shared: Arc<Shared>,
    report: RecoveryReport,
    stores: u64,
    threads: Vec<JoinHandle<()>>,
    /// Stepped by hand where no thread is.
    keeper: Option<Mutex<Keeper>>,
    news: Arc<KeeperNews>,
    _lock: Box<dyn Send>,
}

impl Journal {
    /// Opens the folder behind `files`, with threads that write and keep. `stores`
    /// share the memory for bodies.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
        stores: u32,
    ) -> Result<Self, OpenError> {
        let mut journal = Self::prepare(files, clock, config, stores)?;
        journal.start_threads()?;
        Ok(journal)
    }

    /// As [`Journal::open`], without threads: [`Journal::step`] does their work.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_stepped(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
        stores: u32,
    ) -> Result<Self, OpenError> {
        Self::prepare(files, clock, config, stores)
    }

    fn prepare(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
        stores: u32,
    ) -> Result<Self, OpenError> {
        files.make_folder("").map_err(io("."))?;
        let lock = files.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => OpenError::Io { path: "lock".into(), error },
        })?;
        for folder in ["journal", "logs"] {
            files.make_folder(folder).map_err(io(folder))?;
        }
        if config.strict {
            // Read twice, so that what is refused stays as it is.
            let found = recovery::recover(&files, &*clock, config.new_store_id, Mode::ReadOnly)?;
            if !found.report.damage.is_empty() {
                write_report(&*files, &found.report)?;
                return Err(OpenError::Strict { summary: found.report.summary() });
            }
        }
        let found = recovery::recover(&files, &*clock, config.new_store_id, Mode::ReadWrite)?;
        let report = found.report.clone();
        write_report(&*files, &report)?;
        if config.strict && !report.damage.is_empty() {
            // Read well once, and not again.
            return Err(OpenError::Strict { summary: report.summary() });
        }
        // All that was read is synced by now.
        let now_ms = clock.now().wall_ms;
        mark::write(&*files, found.store_id, found.synced_block, now_ms).map_err(io("synced"))?;
        mark_unclean(&*files)?;
        let start = Start {
            store_id: found.store_id,
            synced_block: found.synced_block,
            journal_files: found.journal_files,
            spares: found.spares,
            recovered: found.logs,
            catalogue: found.catalogue,
            snapshots: found.snapshots,
            next_log: found.next_log,
        };
        let policy = KeeperPolicy {
            kept_journal_files: config.kept_journal_files,
            filed_at_once: config.filed_at_once,
            sizes: Sizes { segment_bytes: config.segment_bytes, ..KeeperPolicy::default().sizes },
            free_bytes_min: config.free_bytes_min,
            free_percent_min: config.free_percent_min,
            scrub_period_ms: config.scrub_period_ms,
            scrub_bytes_per_second: config.scrub_bytes_per_second,
            ..KeeperPolicy::default()
        };
        let shared = Arc::new(Shared::new(files.clone(), clock.clone(), config, start));
        let first = First {
            sequence: found.next_sequence,
            number: found.next_block,
            chain_crc: found.chain_crc,
            durable: found.synced_block,
        };
        shared.keep_spare();
        let writer =
            Writer::start(shared.clone(), first).map_err(io(&writer::path(found.next_sequence)))?;
        *Shared::lock(&shared.writer) = Some(writer);
        let news = Arc::new(KeeperNews::default());
        let rest = Arc::new(crate::rest::Link::new(shared.clone(), news.clone()));
        let keeper = Keeper::new(KeeperStart {
            files,
            clock,
            rest,
            policy,
            store_id: found.store_id,
            checkpoint: found.checkpoint,
            replay_from: found.replay_from,
            previous_replay_from: found.previous_replay_from,
            sealed: (found.replay_from..found.next_sequence).collect(),
        });
        Ok(Self {
            shared,
            report,
            stores: u64::from(stores.max(1)),
            threads: Vec::new(),
            keeper: Some(Mutex::new(keeper)),
            news,
            _lock: lock,
        })
    }

    fn start_threads(&mut self) -> Result<(), OpenError> {
        self.shared.has_thread_now();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("weir-journal".into());
        let thread = thread.spawn(move || writer::run(&shared)).map_err(io("journal"))?;
        self.threads.push(thread);
        if let Some(keeper) = self.keeper.take() {
            let keeper = keeper.into_inner().expect("no panic under this lock");
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("weir-keeper".into());
            let thread = thread.spawn(move || keep(keeper, &shared)).map_err(io("journal"))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// What the start found.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// A store for one shard; `wake` is called when its owner should run a turn.
    #[must_use]
    pub fn store(&self, wake: Box<dyn Fn() + Send + Sync>) -> JournalStore {
        let resident = self.shared.config.resident_bytes_max / self.stores;
        JournalStore::new(self.shared.clone(), resident, wake)
    }

    /// The catalogue; one.
    #[must_use]
    pub fn catalogue(&self) -> JournalCatalogue {
        JournalCatalogue::new(self.shared.clone())
    }

    /// Names of logs that no store has opened since the start.
    #[must_use]
    pub fn unopened(&self) -> Vec<String> {
        let mut names: Vec<String> =
            Shared::lock(&self.shared.recovered).keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Figures, for metrics.
    #[must_use]
    pub fn figures(&self) -> JournalFigures {
        let counts = &self.shared.counts;
        JournalFigures {
            written: self.shared.written(),
            synced: self.shared.synced(),
            blocks: counts.blocks.load(Ordering::Relaxed),
            syncs: counts.syncs.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            pending_bytes: self.shared.pending_bytes(),
            has_no_space: self.shared.has_no_space(),
        }
    }

    /// What the keeper had to tell since the last call, one sentence each.
    #[must_use]
    pub fn take_news(&self) -> Vec<String> {
        self.news.take()
    }

    /// Writes what is there and lets the keeper work. Only without threads.
    ///
    /// # Errors
    /// The journal has stopped.
    pub fn step(&self) -> Result<(), StoreError> {
        if let Some(writer) = Shared::lock(&self.shared.writer).as_mut() {
            writer.step_all();
        }
        if let Some(keeper) = &self.keeper {
            // A fault fences; `check` tells.
            let _fault = Shared::lock(keeper).step();
        }
        // Ahead of time only by the keeper's thread: a step is to cost little.
        if self.shared.spares.is_lacking() {
            self.shared.keep_spare();
        }
        self.shared.check()
    }

    /// Writes one block, when there is one. Only without threads.
    #[must_use]
    pub fn step_writer(&self) -> bool {
        Shared::lock(&self.shared.writer).as_mut().is_some_and(Writer::step)
    }

    /// Waits until everything handed over is synced.
    ///
    /// # Errors
    /// The journal has stopped.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.shared.sync_through(self.shared.position())
    }

    /// Number, end and lost stretches of a log that nobody has opened.
    pub(crate) fn damage_of(&self, name: &str) -> Option<(u64, u64, Ranges)> {
        let unopened = Shared::lock(&self.shared.recovered);
        unopened.get(name).map(|log| (log.number, log.end, log.damage.clone()))
    }

    pub(crate) fn hand_over(
        &self,
        orders: impl IntoIterator<Item = Order>,
    ) -> Result<(), StoreError> {
        self.shared.hand_over(None, orders, false)?;
        self.shared.ring_writer();
        self.sync()
    }

    /// Stops: everything handed over is written and synced, and a clean stop is
    /// marked. The stores must not be used any more.
    ///
    /// # Errors
    /// The journal had stopped before, or stops on the way.
    pub fn close(mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        if self.shared.is_held() {
            let what = "stopped without room to write what was handed over last, none of which \
                        was acknowledged";
            self.shared.fence(what.to_owned());
        }
        self.shared.stop_writer();
        self.shared.tell(Told::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fence("a thread of the journal panicked".to_owned());
            }
        }
        self.shared.check()?;
        synced?;
        let (files, shared) = (&self.shared.files, &self.shared);
        let synced = Shared::lock(&shared.writer).as_ref().map_or(0, Writer::synced_block);
        let done = mark::write(&**files, shared.store_id, synced, shared.clock.now().wall_ms)
            .and_then(|()| files.remove("unclean"))
            .and_then(|()| files.sync_folder(""));
        done.map_err(|error| StoreError::Fenced(format!("marking a clean stop failed: {error}")))
    }
}

impl Drop for Journal {
    /// The writer holds what is shared, which holds the writer: both would stay for ever, and
    /// with them the files. Threads that were not stopped go on.
    fn drop(&mut self) {
        if self.threads.is_empty()
            && let Ok(mut writer) = self.shared.writer.lock()
        {
            *writer = None;
        }
    }
}

/// The keeper's thread.
fn keep(mut keeper: Keeper, shared: &Shared) {
    let _fence = FenceOnPanic(shared);
    loop {
        // The next roll does not wait for zeros.
        shared.keep_spare();
        match keeper.step() {
            Ok(Idle::No) => {}
            Ok(Idle::For(wait_ms)) => shared.wait_told(wait_ms),
            Ok(Idle::Stopped) | Err(_) => return,
        }
    }
}

fn mark_unclean(files: &dyn Files) -> Result<(), OpenError> {
    match files.create("unclean") {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(OpenError::Io { path: "unclean".into(), error }),
        Ok(_) => {}
    }
    files.sync_folder("").map_err(io("."))
}

/// Keeps what was found where `weir doctor` looks for it. Not being able to is no
/// reason not to start.
fn write_report(files: &dyn Files, report: &RecoveryReport) -> Result<(), OpenError> {
    let Ok(text) = serde_json::to_vec_pretty(report) else { return Ok(()) };
    let name = "last-recovery.json";
    match files::put_whole(files, "", name, &text) {
        Err(error) if error.kind() != std::io::ErrorKind::StorageFull => {
            Err(OpenError::Io { path: name.into(), error })
        }
        _ => Ok(()),
    }
}
