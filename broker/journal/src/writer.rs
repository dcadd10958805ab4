//! The writer: the only one who writes to the journal's files. One block, one
//! write, at most one sync at a time; while it waits for the disk the next block
//! forms.
//!
//! Invariants: blocks lie in the order of their numbers; a block is told of as
//! synced only after a sync that returned without an error, through the very
//! handle that wrote it; after the first error nothing is written any more. Only
//! where there is no room for a file to go on in does it wait: nothing of the block
//! was written, so nothing that failed is tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use weir_core::command::Level;

use crate::files::File;
use crate::format::{self, BlockHead, FILE_HEAD_BYTES, FileHead, Kind};
use crate::keeper::Told;
use crate::limits;
use crate::log::Place;
use crate::sabotage::{Guard, is_out};
use crate::shared::{FenceOnPanic, Forming, JournalFile, Shared, Work, quick_bytes};
use crate::spares::{self, Spare};

/// See the file's head.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: Arc<dyn File>,
    /// Full of zeros, or of what it was used for before; else only allocated.
    is_filled: bool,
    /// Blocks in it for which a sync was asked.
    asked: u32,
    sequence: u64,
    /// Where the next block goes.
    at: u64,
    /// Number of the next block.
    number: u64,
    chain_crc: u32,
    /// Number of the last block written; before the first, of the last one that was
    /// found.
    written: u64,
    /// Number of the last block known synced.
    durable: u64,
    /// Up to here the file is synced.
    synced: u64,
    /// Up to here the file is synced, or the disk was let begin with it.
    begun: u64,
    /// A block that waits for a file to go on in, and whether it is to be synced.
    held: Option<(Box<Forming>, bool)>,
    buffer: Vec<u8>,
}

/// Where a writer begins.
pub(crate) struct First {
    /// Number of the file it makes.
    pub(crate) sequence: u64,
    /// Number of the next block, and the CRC that it names.
    pub(crate) number: u64,
    pub(crate) chain_crc: u32,
    /// Number of the last block that is synced.
    pub(crate) durable: u64,
}

/// The writer's thread: writes until it is stopped.
pub(crate) fn run(shared: &Shared) {
    let _fence = FenceOnPanic(shared);
    while shared.wait_for_work() {
        if let Some(writer) = Shared::lock(&shared.writer).as_mut() {
            writer.step_all();
        }
    }
    if let Some(writer) = Shared::lock(&shared.writer).as_mut() {
        writer.finish();
    }
}

/// Name of a journal file.
pub(crate) fn path(sequence: u64) -> String {
    format!("journal/j-{sequence:016x}.wj")
}

/// Tag of the store's journal blocks.
pub(crate) fn tag(store_id: u128) -> u32 {
    format::store_tag(store_id, Kind::Journal)
}

impl Writer {
    /// A writer that begins with a new file.
    ///
    /// # Errors
    /// The file could not be made.
    pub(crate) fn start(shared: Arc<Shared>, first: First) -> std::io::Result<Self> {
        let First { sequence, number, chain_crc, durable } = first;
        let Some(spare) = shared.spares.take(&*shared.files)? else {
            return Err(std::io::ErrorKind::StorageFull.into());
        };
        let file = begin_file(&shared, &spare, sequence, number, chain_crc)?;
        Ok(Self {
            shared,
            file,
            is_filled: true,
            asked: 0,
            sequence,
            at: FILE_HEAD_BYTES as u64,
            number,
            chain_crc,
            written: durable,
            durable,
            synced: FILE_HEAD_BYTES as u64,
            begun: FILE_HEAD_BYTES as u64,
            held: None,
            buffer: Vec::new(),
        })
    }

    /// Writes what is there.
    pub(crate) fn step_all(&mut self) {
        while let Some(work) = self.take_work() {
            if !self.work(work, None) {
                return;
            }
        }
    }

    /// Writes until the hand-over at `position` is, on the thread of the owner of the
    /// store `here`, which need not be woken then. Leaves alone what would take it
    /// longer: what others handed over behind it, or much of theirs before it, and
    /// where it asked for no sync, one that others ask for.
    pub(crate) fn step_to(&mut self, position: u64, level: Level, here: usize) {
        while self.shared.written() < position && self.has_room(level, quick_bytes(level)) {
            let work = self.shared.take_quick_work(level);
            if !work.is_some_and(|work| self.work(work, Some(here))) {
                return;
            }
        }
    }

    /// Whether a block with `bytes` of entries that is to reach `level` goes to this file
    /// without a look for the next one.
    pub(crate) fn has_room(&self, level: Level, bytes: usize) -> bool {
        if level == Level::Disk && self.wants_another() {
            return false;
        }
        let len = (bytes + 2 * limits::SECTOR_BYTES) as u64;
        let room = self.room();
        let spares = &self.shared.spares;
        self.held.is_none() && len <= room && (len + self.reserve() <= room || !spares.is_empty())
    }

    /// Bytes written that a sync would have to bring to the disk.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.at - self.synced
    }

    /// What is left of the file, bytes.
    fn room(&self) -> u64 {
        let whole = self.shared.config.journal_file_bytes;
        let len = if self.is_filled { whole } else { spares::allocated_len(whole) };
        len.saturating_sub(self.at)
    }

    /// What is kept free at a file's end as long as there is no next one, bytes.
    fn reserve(&self) -> u64 {
        let share = self.shared.config.journal_file_bytes / limits::ROLL_RESERVE_SHARE;
        share + self.shared.pending_bytes()
    }

    /// Writes one block, when there is one. Whether there was.
    pub(crate) fn step(&mut self) -> bool {
        match self.take_work() {
            Some(work) => self.work(work, None),
            None => false,
        }
    }

    /// What was held comes first.
    fn take_work(&mut self) -> Option<Work> {
        match self.held.take() {
            Some((block, sync)) => Some(Work::Block(block, sync)),
            None => self.shared.take_work(),
        }
    }

    /// Number of the last block known to be synced.
    pub(crate) fn synced_block(&self) -> u64 {
        self.durable
    }

    /// Syncs what is not.
    pub(crate) fn finish(&mut self) {
        if self.unsynced_bytes() > 0 {
            self.work(Work::Sync, None);
        }
    }

    /// False when the journal has stopped, or the block has to wait.
    fn work(&mut self, work: Work, here: Option<usize>) -> bool {
        if self.shared.is_fenced() {
            return false;
        }
        let (position, stores, done) = match work {
            Work::Block(block, sync) => match self.make_place(&block, sync) {
                Ok(true) => {
                    self.shared.set_held(false);
                    let (position, stores) = (block.position, block.stores.clone());
                    (position, stores, self.write(*block, sync))
                }
                Ok(false) => {
                    self.held = Some((block, sync));
                    // What lies before it is synced by now.
                    self.shared.advance(0, Some(self.durable));
                    self.shared.set_held(true);
                    return false;
                }
                Err(error) => (0, Vec::new(), Err(error)),
            },
            Work::Sync => (0, Vec::new(), self.sync().map(|()| true)),
        };
        match done {
            Ok(synced) => {
                self.shared.advance(position, synced.then_some(self.durable));
                let inboxes = self.shared.inboxes();
                // Whoever waits for a sync has a hand-over that ends in this block.
                for store in stores.into_iter().filter(|store| Some(*store) != here) {
                    inboxes[store].wake();
                }
                true
            }
            Err(error) => {
                self.shared.fence(format!("writing {} failed: {error}", path(self.sequence)));
                false
            }
        }
    }

    /// Sees to it that there is room for the block in a file. False: there is no file
    /// to go on in, and no room for one; nothing was written.
    fn make_place(&mut self, block: &Forming, sync: bool) -> std::io::Result<bool> {
        let len = block.builder.len_estimate() as u64 + limits::SECTOR_BYTES as u64;
        let room = self.room();
        if len > room && self.at > FILE_HEAD_BYTES as u64 {
            let whole = self.shared.config.journal_file_bytes;
            let is_longer = FILE_HEAD_BYTES as u64 + len > spares::allocated_len(whole);
            return Ok(self.roll(self.asks_often() || is_longer)? && self.lengthen(len)?);
        }
        // Without a next file this one has room, too.
        if sync && self.wants_another() && self.roll(true)? {
            return Ok(true);
        }
        if len > room {
            return self.lengthen(len);
        }
        let reserve = self.reserve();
        let spares = &self.shared.spares;
        if room < len + reserve && !spares.is_lacking() && spares.is_empty() {
            // The last moment to find out that there is no room for one: the rest of
            // this file is for what is handed over already and what consumers settle.
            spares.make_sure(&*self.shared.files)?;
        }
        Ok(true)
    }

    /// Makes a file that was just begun long enough for a block of `len` bytes, which may be
    /// longer than files usually are. False: there is no room for that.
    fn lengthen(&self, len: u64) -> std::io::Result<bool> {
        if !self.is_filled {
            // Blocks that are longer begin no such file.
            return Ok(true);
        }
        let Shared { files, spares, .. } = &*self.shared;
        spares.lengthen(&**files, &*self.file, self.at + len)
    }

    /// Writes a block, for which there is room. Whether it is synced.
    fn write(&mut self, mut block: Forming, sync: bool) -> std::io::Result<bool> {
        self.buffer.clear();
        let head = BlockHead {
            store_tag: tag(self.shared.store_id),
            number: self.number,
            file_sequence: self.sequence,
            durable: self.durable,
            previous_crc: self.chain_crc,
        };
        let finished = block.builder.finish(head, &mut self.buffer);
        let started = Instant::now();
        if !sync || is_out(Guard::Sync) {
            self.file.write_at(&self.buffer, self.at)?;
        } else if self.unsynced_bytes() > 0 || !self.is_filled {
            self.file.write_at(&self.buffer, self.at)?;
            self.sync_file()?;
        } else {
            self.file.write_synced(&self.buffer, self.at)?;
        }
        let place = Place { sequence: self.sequence, at: self.at as u32 };
        block.place.set(place).expect("a block is written once");
        self.shared.give_builder(block.builder);
        self.at += finished.len as u64;
        if sync {
            self.asked += 1;
            (self.synced, self.begun) = (self.at, self.at);
        } else if self.at - self.begun >= limits::UNSYNCED_BYTES {
            self.file.start_sync(self.begun..self.at);
            self.begun = self.at;
        }
        self.chain_crc = finished.header_crc;
        let counts = &self.shared.counts;
        counts.blocks.fetch_add(1, Relaxed);
        counts.bytes.fetch_add(finished.len as u64, Relaxed);
        if sync {
            counts.syncs.fetch_add(1, Relaxed);
            self.shared.note_sync(started.elapsed());
            self.durable = self.number;
        }
        self.written = self.number;
        self.number += 1;
        Ok(sync)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.unsynced_bytes() > 0 && !is_out(Guard::Sync) {
            self.sync_file()?;
            self.shared.counts.syncs.fetch_add(1, Relaxed);
            (self.synced, self.begun) = (self.at, self.at);
        }
        self.durable = self.written;
        Ok(())
    }

    /// Syncs the file, so that it may be told.
    fn sync_file(&self) -> std::io::Result<()> {
        self.file.sync_data()?;
        if self.is_filled || is_out(Guard::SecondSync) {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Whether a block that is to be synced should go to another file, which is full of zeros,
    /// though there is room in this one: not where it would take the last one that is there.
    fn wants_another(&self) -> bool {
        let Shared { files, spares, .. } = &*self.shared;
        let is_slow = !self.is_filled && self.asks_often();
        is_slow && !self.shared.has_no_space() && spares.has_more_than_one(&**files)
    }

    /// Whether so many syncs are asked for that they should be short.
    fn asks_often(&self) -> bool {
        self.asked >= limits::UNFILLED_SYNCS_MAX
    }

    /// Goes on in the next file, in one that is full of zeros if that `must_be_filled`. What
    /// lies in this one is synced first: a block is as safe as all before it. False: there is
    /// no room for a next file.
    fn roll(&mut self, must_be_filled: bool) -> std::io::Result<bool> {
        self.sync()?;
        let Shared { files, spares, .. } = &*self.shared;
        let quick = if must_be_filled { None } else { spares.take_unsynced(&**files) };
        let spare = match quick {
            Some(spare) => spare,
            None => match spares.take(&**files)? {
                Some(name) => Spare { name, is_filled: true },
                None => return Ok(false),
            },
        };
        let next = self.sequence + 1;
        self.file = begin_file(&self.shared, &spare.name, next, self.number, self.chain_crc)?;
        (self.is_filled, self.asked) = (spare.is_filled, 0);
        self.shared.tell(Told::Sealed { sequence: self.sequence });
        self.sequence = next;
        let start = FILE_HEAD_BYTES as u64;
        (self.at, self.synced, self.begun) = (start, start, start);
        Ok(true)
    }
}

/// Makes the journal file `sequence` from a spare, and lets readers know of it.
fn begin_file(
    shared: &Shared,
    spare: &str,
    sequence: u64,
    first_block: u64,
    chain_crc: u32,
) -> std::io::Result<Arc<dyn File>> {
    let file = shared.files.open(spare)?;
    let head = FileHead {
        kind: Kind::Journal,
        store: shared.store_id,
        sequence,
        log: 0,
        created_ms: shared.clock.now().wall_ms,
    };
    file.write_synced(&head.encode(), 0)?;
    shared.files.rename(spare, &path(sequence))?;
    if !is_out(Guard::FolderSync) {
        shared.files.sync_folder("journal")?;
    }
    let entry = JournalFile { file: file.clone(), first_block, chain_crc };
    Shared::lock(&shared.journal_files).insert(sequence, entry);
    Ok(file)
}
