//! Writing one segment: made or gone on with, filled block by block, sealed or left
//! active.
//!
//! Called by the keeper. Invariants: a new segment has its name only when all of it
//! is synced; an active one is written behind its trusted length only; whoever gives
//! up half way leaves that length as it was.

use std::io;
use std::sync::Arc;

use weir_core::command::Level;
use weir_core::store::Stamp;
use weir_message::Batch;

use super::footer::BLOCKS_MAX;
use super::{
    BLOCKS_AT, BlockIndex, Segment, SegmentDamage, folder, footer, identity, index, path, sequence,
    temporary_path,
};
use crate::files::{File, Files};
use crate::format::{
    BlockBuilder, BlockHead, EntryKind, FileHead, Found, Kind, SegmentState, padded, read_head_at,
};
use crate::limits::{BLOCK_HEADER_BYTES, FILED_ENTRY_BYTES, TABLE_ENTRIES_MAX, TABLE_ENTRY_BYTES};

/// Bytes read at once to sum a file up.
const SUM_BYTES: u64 = 1 << 20;

/// How large segments and their blocks get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Where a block ends, bytes of bodies.
    pub(crate) block_bytes: usize,
    /// Where a segment is sealed, bytes of the file.
    pub(crate) segment_bytes: u64,
}

impl Sizes {
    /// Where an entry ends, bytes of messages; one message may be longer.
    pub(crate) fn entry_bytes(self) -> usize {
        self.block_bytes.min(FILED_ENTRY_BYTES)
    }
}

/// Why a segment cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error(transparent)]
    Damage(SegmentDamage),
}

/// See the file's head.
pub(crate) struct SegmentWriter {
    store_id: u128,
    log: u64,
    sizes: Sizes,
    file: Arc<dyn File>,
    is_new: bool,
    /// Of all bytes so far; unknown when it was gone on with.
    crc: Option<u32>,
    /// With all blocks, those from before too.
    segment: Segment,
    /// Blocks from before.
    known: usize,
    /// Where the first new one lies.
    begun_at: u64,
    /// Number of the next block.
    number: u64,
    previous_crc: u32,
    builder: BlockBuilder,
    /// Index of the block that forms.
    forming: Option<BlockIndex>,
    /// Bytes of bodies in it.
    forming_bytes: usize,
    buffer: Vec<u8>,
}

impl SegmentWriter {
    /// Begins the segment of `log` that starts at `base`, in that revision.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create(
        files: &dyn Files,
        store_id: u128,
        log: u64,
        (base, revision): (u64, u8),
        created_ms: u64,
        sizes: Sizes,
    ) -> io::Result<Self> {
        files.make_folder(&folder(log))?;
        let path = temporary_path(log, base, revision);
        let file = match files.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files.remove(&path)?;
                files.create(&path)?
            }
            other => other?,
        };
        let sequence = sequence(base, revision);
        let head = FileHead { kind: Kind::Segment, store: store_id, sequence, log, created_ms };
        let head = head.encode();
        let segment = Segment { base, revision, end: base, len: BLOCKS_AT, ..Segment::default() };
        let mut writer = Self::of(store_id, log, sizes, file, segment);
        writer.is_new = true;
        writer.crc = Some(crc32c::crc32c(&head));
        if let Err(error) = writer.file.write_at(&head, 0) {
            // A leftover costs space until the next start.
            let _ = files.remove(&path);
            return Err(error);
        }
        Ok(writer)
    }

    /// Goes on with an active segment; what lies behind its trusted length is cut.
    ///
    /// # Errors
    /// What the disk says; damage of its last block.
    pub(crate) fn open(
        files: &dyn Files,
        store_id: u128,
        log: u64,
        segment: Segment,
        sizes: Sizes,
    ) -> Result<Self, OpenError> {
        let damaged = |bytes, what: &str| {
            OpenError::Damage(SegmentDamage {
                log,
                from: segment.end,
                to: segment.end,
                path: path(log, segment.base, segment.revision),
                bytes,
                what: what.to_owned(),
                costs_nothing: false,
            })
        };
        let identity = identity(store_id, segment.base, segment.revision);
        let file = match files.open(&path(log, segment.base, segment.revision)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(0..segment.len, "the file is missing"));
            }
            other => other?,
        };
        let len = file.len()?;
        if len < segment.len {
            return Err(damaged(len..segment.len, "the file ends early"));
        }
        let mut last = None;
        if let Some(block) = segment.blocks.last() {
            let at = u64::from(block.at);
            match read_head_at(&*file, at, identity) {
                Ok(Found::Block(found)) if at + found.len as u64 == segment.len => {
                    last = Some(found);
                }
                Ok(_) => return Err(damaged(at..segment.len, "the last block is not as written")),
                // Nor is it at the next try, and a keeper that stops files nothing at all.
                Err(error) => return Err(damaged(at..segment.len, &error.to_string())),
            }
        } else if segment.len != BLOCKS_AT {
            return Err(damaged(BLOCKS_AT..segment.len, "its blocks are not known"));
        }
        if len > segment.len {
            file.set_len(segment.len)?;
        }
        let mut writer = Self::of(store_id, log, sizes, file, segment);
        if let Some(block) = last {
            (writer.number, writer.previous_crc) = (block.head.number + 1, block.header_crc);
        }
        Ok(writer)
    }

    fn of(store_id: u128, log: u64, sizes: Sizes, file: Arc<dyn File>, segment: Segment) -> Self {
        Self {
            store_id,
            log,
            sizes,
            file,
            is_new: false,
            crc: None,
            known: segment.blocks.len(),
            begun_at: segment.len,
            segment,
            number: 1,
            previous_crc: 0,
            builder: BlockBuilder::new(),
            forming: None,
            forming_bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// Whether another `bytes` of messages belong into the next segment.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        if self.is_empty() {
            return false;
        }
        let table = (self.builder.entries() + 1) * TABLE_ENTRY_BYTES;
        let forming = padded(BLOCK_HEADER_BYTES + table + self.forming_bytes + bytes);
        self.segment.len + forming as u64 > self.sizes.segment_bytes
            || self.segment.blocks.len() + 1 >= BLOCKS_MAX
    }

    /// Adds records from `base` on, which must not be below the segment's end.
    ///
    /// # Errors
    /// What the disk says; then the segment must be given up.
    pub(crate) fn push(
        &mut self,
        level: Level,
        base: u64,
        stamp: Stamp,
        batch: &Batch,
    ) -> io::Result<()> {
        let bytes = batch.bytes.len() + 4 * batch.len();
        let is_full = self.forming_bytes + bytes > self.sizes.block_bytes
            || self.builder.entries() >= TABLE_ENTRIES_MAX;
        if self.forming.is_some() && is_full {
            self.flush()?;
        }
        let Stamp { time_ms, due_ms } = stamp;
        self.builder.push_append(level, self.log, base, time_ms, due_ms, batch.clone());
        self.forming_bytes += bytes;
        let at = self.segment.len as u32;
        let new = BlockIndex { base, end: base, at, len: 0, time_max_ms: 0, bytes: 0, live: 0 };
        let forming = self.forming.get_or_insert(new);
        assert!(forming.end <= base && self.segment.end <= base, "offsets rise");
        forming.add(base, batch.len() as u32, time_ms, batch.bytes.len() as u32);
        Ok(())
    }

    /// Writes the block that forms.
    fn flush(&mut self) -> io::Result<()> {
        let Some(mut index) = self.forming.take() else { return Ok(()) };
        self.forming_bytes = 0;
        index.len = self.write_block()?;
        self.segment.end = index.end;
        self.segment.blocks.push(index);
        Ok(())
    }

    /// Writes what the builder holds. Returns the length of the block.
    fn write_block(&mut self) -> io::Result<u32> {
        let identity = identity(self.store_id, self.segment.base, self.segment.revision);
        let head = BlockHead {
            store_tag: identity.store_tag,
            number: self.number,
            file_sequence: identity.file_sequence,
            durable: 0,
            previous_crc: self.previous_crc,
        };
        self.buffer.clear();
        let block = self.builder.finish(head, &mut self.buffer);
        self.file.write_at(&self.buffer, self.segment.len)?;
        self.crc = self.crc.map(|crc| crc32c::crc32c_append(crc, &self.buffer));
        self.segment.len += block.len as u64;
        (self.number, self.previous_crc) = (self.number + 1, block.header_crc);
        Ok(block.len as u32)
    }

    /// Completes the segment: nothing is added to it any more.
    ///
    /// # Errors
    /// What the disk says; then the segment must be given up.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.flush()?;
        let crc = self.crc.unwrap_or_else(|| self.sum_up());
        let body = footer::encode(&self.all_blocks()?, crc);
        let numbers = [self.segment.base, self.segment.end, self.segment.len, 1];
        self.builder.push(EntryKind::SegmentState, Level::Disk, self.log, numbers, &[&body]);
        self.write_block()?;
        self.segment.sealed = true;
        Ok(())
    }

    /// The CRC of all bytes of the file, with zeros for what cannot be read: the scrub tells
    /// of that block by block.
    fn sum_up(&self) -> u32 {
        let mut crc = 0;
        let mut at = 0;
        while at < self.segment.len {
            let end = self.segment.len.min(at + SUM_BYTES);
            let bytes = index::load_what_can_be_read(&*self.file, &(at..end));
            crc = crc32c::crc32c_append(crc, &bytes);
            at = end;
        }
        crc
    }

    /// All blocks of the file: those that were not known are settled, but they are
    /// there.
    fn all_blocks(&self) -> io::Result<Vec<BlockIndex>> {
        let is_whole =
            self.segment.blocks.first().is_some_and(|block| u64::from(block.at) == BLOCKS_AT);
        if is_whole {
            return Ok(self.segment.blocks.clone());
        }
        let Segment { base, revision, end, len, .. } = self.segment;
        let state = SegmentState { log: self.log, base, revision, end, len, is_sealed: false };
        Ok(index::scan_blocks(&*self.file, self.store_id, &state))
    }

    /// Writes what is left and lets the disk begin with it; `finish` must follow.
    ///
    /// # Errors
    /// What the disk says; then the segment must be given up.
    pub(crate) fn start_sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.start_sync(self.begun_at..self.segment.len);
        // Many wait for their sync at the same time.
        (self.buffer, self.builder) = (Vec::new(), BlockBuilder::new());
        Ok(())
    }

    /// Syncs the segment and, when it is new, gives it its name; the folder is the
    /// caller's to sync. Returns the segment with its new blocks only.
    ///
    /// # Errors
    /// What the disk says; then the segment must be given up.
    pub(crate) fn finish(&mut self, files: &dyn Files) -> io::Result<Segment> {
        self.flush()?;
        self.file.sync_data()?;
        if self.is_new {
            let (log, base, revision) = (self.log, self.segment.base, self.segment.revision);
            files.rename(&temporary_path(log, base, revision), &path(log, base, revision))?;
        }
        let mut segment = std::mem::take(&mut self.segment);
        segment.blocks.drain(..self.known);
        Ok(segment)
    }

    /// Bytes of the file so far, and of what waits to be written to it.
    pub(crate) fn bytes(&self) -> u64 {
        self.segment.len + self.forming_bytes as u64
    }

    /// Whether nothing was added to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.segment.blocks.is_empty() && self.forming.is_none()
    }

    /// Gives up a segment that has not got its name: what is there of it is removed.
    ///
    /// # Errors
    /// What the disk says; then it costs space until the next start.
    pub(crate) fn discard(self, files: &dyn Files) -> io::Result<()> {
        files.remove(&temporary_path(self.log, self.segment.base, self.segment.revision))
    }
}

/// Takes back what filing did to the segment of `log` that starts at `base`: cuts it
/// to `len_before`, or removes it when it is new. (It was never written again: only
/// sealed ones are.)
///
/// # Errors
/// What the disk says.
pub(crate) fn undo(
    files: &dyn Files,
    log: u64,
    base: u64,
    len_before: Option<u64>,
) -> io::Result<()> {
    if let Some(len) = len_before {
        return files.open(&path(log, base, 0))?.set_len(len);
    }
    for path in [temporary_path(log, base, 0), path(log, base, 0)] {
        match files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
