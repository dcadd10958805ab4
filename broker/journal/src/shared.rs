//! What the parts of one journal share: work for the writer, how far it has come,
//! the journal's files, and whether the journal has stopped.
//!
//! A *position* counts hand-overs: what a store handed over at position `p` is
//! written when `written >= p` and synced when `synced >= p`. Invariants: both only
//! rise; after a fence neither moves again.

mod fence;
mod held;
mod quick;
mod room;
mod told;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use smallvec::SmallVec;
use weir_core::command::Level;
use weir_core::env::Clock;
use weir_core::store::StoreError;

use crate::catalogue::CatalogueState;
use crate::files::{File, Files};
use crate::format::BlockBuilder;
use crate::journal::{Counts, JournalConfig};
use crate::keeper::{Ask, Told};
use crate::limits;
use crate::log::{BlockPlace, Log};
use crate::order::Order;
use crate::read::RecentReads;
use crate::segment::Handles;
use crate::spares::Spares;
use crate::writer::Writer;

pub(crate) use fence::FenceOnPanic;
pub(crate) use quick::quick_bytes;

/// One journal file as readers need it.
#[derive(Clone)]
pub(crate) struct JournalFile {
    pub(crate) file: Arc<dyn File>,
    /// Number of its first block, and the chain's CRC before it.
    pub(crate) first_block: u64,
    pub(crate) chain_crc: u32,
}

/// What was handed over as one unit.
pub(crate) struct HandedOver {
    pub(crate) position: u64,
    /// The blocks that its appends lie in, in order, and how many in each.
    pub(crate) blocks: SmallVec<[(BlockPlace, u32); 1]>,
    /// Another store writes it, with its own.
    pub(crate) is_left: bool,
}

/// What one store is told.
pub(crate) struct Inbox {
    pub(crate) asks: Mutex<Vec<Ask>>,
    /// Wakes the store's owner.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Inbox {
    pub(crate) fn wake(&self) {
        (self.wake)();
    }
}

/// A block that forms while the one before is written.
#[derive(Default)]
pub(crate) struct Forming {
    pub(crate) builder: BlockBuilder,
    pub(crate) bytes: usize,
    /// Position of the last hand-over that ends in it.
    pub(crate) position: u64,
    /// Whether somebody waits for it to be synced.
    pub(crate) sync: bool,
    /// Stores that handed something over for it.
    pub(crate) stores: Vec<usize>,
    /// Told once it is written.
    pub(crate) place: BlockPlace,
}

#[derive(Default)]
pub(crate) struct Pending {
    /// The first is the next to be written.
    pub(crate) blocks: VecDeque<Forming>,
    pub(crate) position: u64,
    /// A sync of everything written is wanted.
    pub(crate) sync: bool,
    pub(crate) stop: bool,
    pub(crate) bytes: usize,
    /// Emptied ones, for the next blocks: each would make its tables grow anew.
    builders: Vec<BlockBuilder>,
    /// How many wait for [`Shared::advance`]: to tell nobody is a system call, too.
    waiters: u32,
}

/// See the file's head.
pub(crate) struct Shared {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: JournalConfig,
    pub(crate) store_id: u128,
    pending: Mutex<Pending>,
    /// The writer has work.
    work: Condvar,
    /// The writer waits for some. Set under `pending`, so that whoever hands over behind
    /// that sees it.
    is_writer_waiting: AtomicBool,
    /// `written` or `synced` has moved, or the journal has stopped.
    progress: Condvar,
    written: AtomicU64,
    synced: AtomicU64,
    pending_bytes: AtomicU64,
    durable_block: AtomicU64,
    pub(crate) counts: Counts,
    fenced: AtomicBool,
    fence: Mutex<Option<String>>,
    no_space: AtomicBool,
    /// Bytes that may be taken before the keeper has looked at the disk again.
    room: AtomicI64,
    /// It was used up.
    is_short: AtomicBool,
    inboxes: Mutex<Vec<Arc<Inbox>>>,
    pub(crate) journal_files: Mutex<BTreeMap<u64, JournalFile>>,
    pub(crate) spares: Spares,
    /// The writer holds a block for which there is no file to go on in.
    is_held: AtomicBool,
    /// Logs that nobody has opened yet.
    pub(crate) recovered: Mutex<HashMap<Arc<str>, Log>>,
    pub(crate) catalogue: Mutex<CatalogueState>,
    pub(crate) snapshots: Mutex<BTreeMap<String, bytes::Bytes>>,
    pub(crate) next_log: AtomicU64,
    pub(crate) handles: Mutex<Handles>,
    pub(crate) recent_reads: Mutex<RecentReads>,
    told: Mutex<VecDeque<Told>>,
    told_work: Condvar,
    /// Held by whoever writes: the writer's thread, or for one hand-over of its own, and one
    /// that was left to it, the owner of a store. Taken before `pending`.
    pub(crate) writer: Mutex<Option<Writer>>,
    /// Whether a thread writes; else whoever steps does.
    has_thread: AtomicBool,
    /// How long syncs took lately, us.
    sync_us: AtomicU64,
    /// Stores that are in a turn and will hand something over for a sync.
    in_turn: AtomicU32,
    /// One of them took long: nothing is left to them until then, steady ms.
    in_vain_until_ms: AtomicU64,
    /// What waits to be written was left to one of these. Set under `pending`.
    is_left: AtomicBool,
}

pub(crate) struct Start {
    pub(crate) store_id: u128,
    /// Number of the last block that is synced now.
    pub(crate) synced_block: u64,
    pub(crate) journal_files: BTreeMap<u64, JournalFile>,
    pub(crate) spares: Vec<String>,
    pub(crate) recovered: HashMap<Arc<str>, Log>,
    pub(crate) catalogue: CatalogueState,
    pub(crate) snapshots: BTreeMap<String, bytes::Bytes>,
    pub(crate) next_log: u64,
}

impl Shared {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
        start: Start,
    ) -> Self {
        Self {
            spares: Spares::new(&*files, start.spares, config.journal_file_bytes),
            is_held: AtomicBool::new(false),
            files,
            clock,
            config,
            store_id: start.store_id,
            pending: Mutex::default(),
            work: Condvar::new(),
            is_writer_waiting: AtomicBool::new(false),
            progress: Condvar::new(),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            durable_block: AtomicU64::new(start.synced_block),
            counts: Counts::default(),
            fenced: AtomicBool::new(false),
            fence: Mutex::new(None),
            no_space: AtomicBool::new(false),
            room: AtomicI64::new(i64::MAX),
            is_short: AtomicBool::new(false),
            inboxes: Mutex::default(),
            journal_files: Mutex::new(start.journal_files),
            recovered: Mutex::new(start.recovered),
            catalogue: Mutex::new(start.catalogue),
            snapshots: Mutex::new(start.snapshots),
            next_log: AtomicU64::new(start.next_log),
            handles: Mutex::default(),
            recent_reads: Mutex::default(),
            told: Mutex::default(),
            told_work: Condvar::new(),
            writer: Mutex::new(None),
            has_thread: AtomicBool::new(false),
            sync_us: AtomicU64::new(u64::MAX),
            in_turn: AtomicU32::new(0),
            in_vain_until_ms: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no panic under this lock")
    }

    /// Adds a store; its number and inbox.
    pub(crate) fn add_store(&self, wake: Box<dyn Fn() + Send + Sync>) -> (usize, Arc<Inbox>) {
        let inbox = Arc::new(Inbox { asks: Mutex::default(), wake });
        let mut inboxes = Self::lock(&self.inboxes);
        inboxes.push(inbox.clone());
        (inboxes.len() - 1, inbox)
    }

    pub(crate) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        Self::lock(&self.inboxes).clone()
    }

    /// Hands entries over as one unit, which another store may write with its own if
    /// `may_leave`.
    ///
    /// # Errors
    /// The journal has stopped.
    pub(crate) fn hand_over(
        &self,
        store: Option<usize>,
        orders: impl IntoIterator<Item = Order>,
        may_leave: bool,
    ) -> Result<HandedOver, StoreError> {
        self.check()?;
        let mut pending = Self::lock(&self.pending);
        let is_first = pending.blocks.is_empty();
        pending.position += 1;
        let position = pending.position;
        let mut blocks: SmallVec<[(BlockPlace, u32); 1]> = SmallVec::new();
        let mut sync = false;
        for order in orders {
            let bytes = order.bytes();
            let full = pending.blocks.back().is_none_or(|block| {
                block.bytes + bytes > self.config.block_bytes() && block.bytes > 0
                    || block.builder.entries() >= limits::TABLE_ENTRIES_MAX
            });
            if full {
                let builder = pending.builders.pop().unwrap_or_default();
                // What was handed over so far ends in the block before.
                let forming = Forming { builder, position: position - 1, ..Forming::default() };
                pending.blocks.push_back(forming);
            }
            pending.bytes += bytes;
            sync |= order.level() == Level::Disk;
            let block = pending.blocks.back_mut().expect("one was just made sure of");
            block.bytes += bytes;
            if let Some(store) = store
                && block.stores.last() != Some(&store)
            {
                block.stores.push(store);
            }
            match order {
                Order::Append { level, log, base, time_ms, due_ms, batch } => {
                    match blocks.last_mut() {
                        Some((last, appends)) if Arc::ptr_eq(last, &block.place) => *appends += 1,
                        _ => blocks.push((block.place.clone(), 1)),
                    }
                    let builder = &mut block.builder;
                    if !builder.extend_last_append(level, log, base, time_ms, due_ms, &batch) {
                        builder.push_append(level, log, base, time_ms, due_ms, batch);
                    }
                }
                Order::Plain { kind, level, log, numbers, body } => {
                    block.builder.push(kind, level, log, numbers, &[&body]);
                }
            }
        }
        if let Some(block) = pending.blocks.back_mut() {
            // What lies before it in the file is synced with it.
            block.sync |= sync;
            block.position = position;
        }
        self.pending_bytes.store(pending.bytes as u64, Ordering::Relaxed);
        let is_left = may_leave && self.leaves_it(is_first, sync, pending.bytes);
        if is_left {
            self.is_left.store(true, Ordering::Relaxed);
        }
        Ok(HandedOver { position, blocks, is_left })
    }

    /// Takes back the builder of a block that is written.
    pub(crate) fn give_builder(&self, builder: BlockBuilder) {
        let mut pending = Self::lock(&self.pending);
        if pending.builders.len() < limits::BUILDERS_KEPT_MAX && builder.is_worth_keeping() {
            pending.builders.push(builder);
        }
    }

    /// Lets the writer know of what was handed over.
    pub(crate) fn ring_writer(&self) {
        // What its owner has written by itself is nothing to wake anybody for.
        if self.pending_bytes() > 0 && self.is_writer_waiting.load(Ordering::Relaxed) {
            self.work.notify_one();
        }
    }

    /// From now on a thread writes.
    pub(crate) fn has_thread_now(&self) {
        self.has_thread.store(true, Ordering::Relaxed);
    }

    /// Bytes handed over and not written.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Waits until there is something to write. False: it is time to stop.
    pub(crate) fn wait_for_work(&self) -> bool {
        let mut pending = Self::lock(&self.pending);
        loop {
            if self.is_fenced() {
                return false;
            }
            if self.is_held() {
                if pending.stop {
                    return false;
                }
                // The keeper rings when it has a file, but may itself be waiting.
                let wait = std::time::Duration::from_millis(limits::HELD_MS);
                self.is_writer_waiting.store(true, Ordering::Relaxed);
                drop(self.work.wait_timeout(pending, wait).expect("no panic under this lock"));
                self.is_writer_waiting.store(false, Ordering::Relaxed);
                return true;
            }
            if !pending.blocks.is_empty() || pending.sync {
                return true;
            }
            if pending.stop {
                return false;
            }
            self.is_writer_waiting.store(true, Ordering::Relaxed);
            pending = self.work.wait(pending).expect("no panic under this lock");
            self.is_writer_waiting.store(false, Ordering::Relaxed);
        }
    }

    /// Takes the next block to write.
    pub(crate) fn take_work(&self) -> Option<Work> {
        self.take_from(&mut Self::lock(&self.pending))
    }

    fn take_from(&self, pending: &mut Pending) -> Option<Work> {
        self.is_left.store(false, Ordering::Relaxed);
        if let Some(block) = pending.blocks.pop_front() {
            pending.bytes -= block.bytes.min(pending.bytes);
            self.pending_bytes.store(pending.bytes as u64, Ordering::Relaxed);
            let sync = block.sync || pending.blocks.is_empty() && std::mem::take(&mut pending.sync);
            return Some(Work::Block(Box::new(block), sync));
        }
        std::mem::take(&mut pending.sync).then_some(Work::Sync)
    }

    /// Lets the writer end when it has written everything.
    pub(crate) fn stop_writer(&self) {
        Self::lock(&self.pending).stop = true;
        self.work.notify_all();
    }

    /// The writer tells how far it is: where all that is written is synced, with the
    /// number of the last block of it.
    pub(crate) fn advance(&self, written: u64, synced: Option<u64>) {
        // Under the lock, so that a waiter cannot miss it, and who asks for the block finds
        // what it holds to be synced.
        let pending = Self::lock(&self.pending);
        self.written.fetch_max(written, Ordering::Release);
        if let Some(block) = synced {
            self.synced.fetch_max(self.written.load(Ordering::Acquire), Ordering::Release);
            self.durable_block.store(block, Ordering::Release);
        }
        let is_awaited = pending.waiters > 0;
        drop(pending);
        if is_awaited {
            self.progress.notify_all();
        }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Waits until everything up to `position` is synced.
    ///
    /// # Errors
    /// The journal has stopped; or the writer has no room for a file to go on in, and
    /// nobody knows when it will.
    pub(crate) fn sync_through(&self, position: u64) -> Result<(), StoreError> {
        if self.synced() >= position {
            return self.check();
        }
        let mut pending = Self::lock(&self.pending);
        while self.synced() < position {
            self.check()?;
            if self.is_held() {
                return Err(StoreError::NoSpace);
            }
            pending.sync = true;
            self.work.notify_one();
            if !self.has_thread.load(Ordering::Relaxed) {
                drop(pending);
                if let Some(writer) = Self::lock(&self.writer).as_mut() {
                    writer.step_all();
                }
                pending = Self::lock(&self.pending);
                continue;
            }
            pending.waiters += 1;
            pending = self.progress.wait(pending).expect("no panic under this lock");
            pending.waiters -= 1;
        }
        Ok(())
    }

    /// # Errors
    /// The journal has stopped.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.is_fenced() {
            return Ok(());
        }
        let why = Self::lock(&self.fence).clone();
        Err(StoreError::Fenced(why.unwrap_or_default()))
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Stops the journal for good: nothing is acknowledged from here on.
    pub(crate) fn fence(&self, why: String) {
        Self::lock(&self.fence).get_or_insert(why);
        self.fenced.store(true, Ordering::Release);
        // So that no waiter can miss it; a thread that has panicked may have had it.
        drop(self.pending.lock());
        self.progress.notify_all();
        self.work.notify_all();
        self.inboxes().iter().for_each(|inbox| inbox.wake());
    }

    /// Position of the last hand-over.
    pub(crate) fn position(&self) -> u64 {
        Self::lock(&self.pending).position
    }

    /// Number of the last block that is known synced.
    pub(crate) fn durable_block(&self) -> u64 {
        let _pending = Self::lock(&self.pending);
        self.durable_block.load(Ordering::Acquire)
    }
}

/// Something for the writer to do.
pub(crate) enum Work {
    /// Write this block, and sync.
    Block(Box<Forming>, bool),
    Sync,
}
