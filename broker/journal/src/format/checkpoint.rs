//! A checkpoint: the whole state of the journal at one block, from which the rest
//! is replayed. Made by the keeper, read by recovery.
//!
//! Invariant: a checkpoint is whole or it is damaged; it is never read in part.

use bytes::Bytes;
use weir_core::command::Level;

use super::{
    Block, BlockBuilder, BlockHead, Entry, EntryKind, FileHead, Found, HeadError, Identity, Kind,
    named_body, parse_named, read_block, store_tag, u32_at, u64_at,
};
use crate::limits::{CHECKPOINT_BLOCK_BYTES, FILE_HEAD_BYTES, RANGES_PER_ENTRY_MAX};

/// A log at the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Its number.
    pub log: u64,
    /// Its name, not empty.
    pub name: String,
    /// First offset kept.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
    /// One past the last record that the disk has, or has lost, and that is not settled: what
    /// is behind it is in memory only, or settled.
    pub kept_end: u64,
    /// Segments it has.
    pub segments: u64,
    /// Latest time of the appends that the last start has read or that came since, ms since
    /// the epoch. For whoever looks at the file: a start makes no use of it.
    pub time_max_ms: u64,
    /// Settled stretches above the start, `from..to`, in order.
    pub released: Vec<(u64, u64)>,
    /// Stretches that are lost: the first offset, one past the last.
    pub damage: Vec<(u64, u64)>,
}

/// A segment file at the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentState {
    /// Number of its log.
    pub log: u64,
    /// Offset it is named after: its first one, as it was filed.
    pub base: u64,
    /// How often it was written again, with less in it.
    pub revision: u8,
    /// One past its last offset.
    pub end: u64,
    /// Bytes of the file that are valid blocks, the head included.
    pub len: u64,
    /// Nothing is added to it any more.
    pub is_sealed: bool,
}

/// What a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointContent {
    /// All logs.
    pub logs: Vec<LogState>,
    /// All segments.
    pub segments: Vec<SegmentState>,
    /// The catalogue: key, revision, value.
    pub catalogue: Vec<(String, u64, Bytes)>,
    /// The snapshots: name, bytes.
    pub snapshots: Vec<(String, Bytes)>,
    /// First journal file to replay.
    pub replay_from: u64,
    /// Number of the last block known to be synced.
    pub durable: u64,
    /// Number of the last block of which all is in here, whatever becomes of it; later ones
    /// may be in here too. 0: none is known.
    pub covered: u64,
    /// Number of the first block of the journal file `replay_from`.
    pub next_block: u64,
    /// Header checksum of the block before that one.
    pub chain_crc: u32,
    /// Number the next new log gets.
    pub next_log: u64,
    /// Revision of the catalogue.
    pub revision: u64,
}

/// Why a checkpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its head cannot.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It is not as it was written.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(&'static str),
}

/// Entries that begin another block when one is full.
struct Pages {
    bytes: Vec<u8>,
    builder: BlockBuilder,
    next: BlockHead,
}

impl Pages {
    fn push(&mut self, kind: EntryKind, log: u64, numbers: [u64; 4], body: &[u8]) {
        let is_long = self.builder.len_estimate() + body.len() > CHECKPOINT_BLOCK_BYTES;
        if !self.builder.is_empty() && is_long || !self.builder.has_room(body.len()) {
            self.finish();
        }
        self.builder.push(kind, Level::Disk, log, numbers, &[body]);
    }

    fn finish(&mut self) {
        let block = self.builder.finish(self.next, &mut self.bytes);
        self.next.previous_crc = block.header_crc;
        self.next.number += 1;
    }
}

impl CheckpointContent {
    /// The bytes of the checkpoint file `number` of the data folder `store`.
    ///
    /// # Panics
    /// When a value with its key, or a snapshot with its name, is longer than
    /// [`crate::limits::BODY_BYTES_MAX`] less a table entry and the header.
    #[must_use]
    pub fn encode(&self, store: u128, number: u64, created_ms: u64) -> Vec<u8> {
        let head = FileHead { kind: Kind::Checkpoint, store, sequence: number, log: 0, created_ms };
        let next = BlockHead {
            store_tag: store_tag(store, Kind::Checkpoint),
            number: 1,
            file_sequence: number,
            durable: 0,
            previous_crc: 0,
        };
        let mut pages = Pages { bytes: head.encode(), builder: BlockBuilder::new(), next };
        for log in &self.logs {
            let unkept = log.end.saturating_sub(log.kept_end).min(u64::from(u32::MAX));
            let counts = log.segments & u64::from(u32::MAX) | unkept << 32;
            let numbers = [log.start, log.end, counts, log.time_max_ms];
            let (first, rest) = log.released.split_at(log.released.len().min(RANGES_PER_ENTRY_MAX));
            pages.push(EntryKind::LogState, log.log, numbers, &ranges_body(&log.name, first));
            for more in rest.chunks(RANGES_PER_ENTRY_MAX) {
                pages.push(EntryKind::LogState, log.log, numbers, &ranges_body("", more));
            }
            for &(from, to) in &log.damage {
                pages.push(EntryKind::LogDamage, log.log, [from, to, 0, 0], &[]);
            }
        }
        for segment in &self.segments {
            let flags = u64::from(segment.is_sealed) | u64::from(segment.revision) << 8;
            let numbers = [segment.base, segment.end, segment.len, flags];
            pages.push(EntryKind::SegmentState, segment.log, numbers, &[]);
        }
        for (key, revision, value) in &self.catalogue {
            pages.push(EntryKind::Put, 0, [*revision, 0, 0, 0], &named_body(key, value));
        }
        for (name, bytes) in &self.snapshots {
            pages.push(EntryKind::Snapshot, 0, [0; 4], &named_body(name, bytes));
        }
        let chain = [self.covered, 0, self.next_block, u64::from(self.chain_crc)];
        pages.push(EntryKind::CheckpointChain, 0, chain, &[]);
        let end = [self.replay_from, self.durable, self.next_log, self.revision];
        pages.push(EntryKind::CheckpointEnd, 0, end, &[]);
        pages.finish();
        pages.bytes
    }

    /// Reads a whole checkpoint file.
    ///
    /// # Errors
    /// [`CheckpointError`]; whether it belongs to this data folder is the
    /// caller's to see from the head.
    pub fn decode(bytes: &[u8]) -> Result<(FileHead, Self), CheckpointError> {
        let head = FileHead::decode(bytes, Kind::Checkpoint)?;
        let tag = store_tag(head.store, Kind::Checkpoint);
        let identity = Identity { store_tag: tag, file_sequence: head.sequence };
        let mut reader = Reader::default();
        let (mut at, mut number, mut previous_crc) = (FILE_HEAD_BYTES, 1, 0);
        loop {
            let block = match read_block(bytes, at, identity) {
                Found::Block(block) => block,
                Found::End => break,
                Found::Bad(_) => return Err(CheckpointError::Damaged("a block is not sound")),
            };
            if block.head.number != number || block.head.previous_crc != previous_crc {
                return Err(CheckpointError::Damaged("a block is missing"));
            }
            reader.take_block(&block, &bytes[at..])?;
            (number, previous_crc) = (number + 1, block.header_crc);
            at += block.len;
        }
        if !reader.has_end || !reader.has_chain {
            return Err(CheckpointError::Damaged("its end is missing"));
        }
        Ok((head, reader.content))
    }
}

/// A name, the number of stretches, the stretches.
fn ranges_body(name: &str, ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut body = named_body(name, &(ranges.len() as u32).to_le_bytes());
    body.reserve(ranges.len() * 16);
    for (from, to) in ranges {
        body.extend_from_slice(&from.to_le_bytes());
        body.extend_from_slice(&to.to_le_bytes());
    }
    body
}

#[derive(Default)]
struct Reader {
    content: CheckpointContent,
    has_chain: bool,
    has_end: bool,
}

impl Reader {
    fn take_block(&mut self, block: &Block, bytes: &[u8]) -> Result<(), CheckpointError> {
        for entry in &block.entries {
            if self.has_end {
                return Err(CheckpointError::Damaged("something follows its end"));
            }
            let body = entry
                .sound_body(bytes)
                .map_err(|_| CheckpointError::Damaged("an entry's body is not sound"))?;
            self.take(entry, body).ok_or(CheckpointError::Damaged("an entry makes no sense"))?;
        }
        Ok(())
    }

    fn take(&mut self, entry: &Entry, body: &[u8]) -> Option<()> {
        let content = &mut self.content;
        match entry.kind {
            EntryKind::LogState => take_log(&mut content.logs, entry, body)?,
            EntryKind::LogDamage => {
                let last = content.logs.last_mut().filter(|last| last.log == entry.log)?;
                last.damage.push((entry.a, entry.b));
            }
            EntryKind::SegmentState => content.segments.push(SegmentState {
                log: entry.log,
                base: entry.a,
                revision: u8::try_from(entry.d >> 8).ok()?,
                end: entry.b,
                len: entry.c,
                is_sealed: entry.d & 1 == 1,
            }),
            EntryKind::Put => {
                let (key, value) = parse_named(body).ok()?;
                let value = Bytes::copy_from_slice(value);
                content.catalogue.push((key.to_owned(), entry.a, value));
            }
            EntryKind::Snapshot => {
                let (name, bytes) = parse_named(body).ok()?;
                content.snapshots.push((name.to_owned(), Bytes::copy_from_slice(bytes)));
            }
            EntryKind::CheckpointChain => {
                content.covered = entry.a;
                content.next_block = entry.c;
                content.chain_crc = u32::try_from(entry.d).ok()?;
                self.has_chain = true;
            }
            EntryKind::CheckpointEnd => {
                content.replay_from = entry.a;
                content.durable = entry.b;
                content.next_log = entry.c;
                content.revision = entry.d;
                self.has_end = true;
            }
            _ => return None,
        }
        Some(())
    }
}

/// A log, or more stretches of the one before.
fn take_log(logs: &mut Vec<LogState>, entry: &Entry, body: &[u8]) -> Option<()> {
    let (name, rest) = parse_named(body).ok()?;
    let (count, ranges) = rest.split_at_checked(4)?;
    if ranges.len() != (u32_at(count, 0) as usize).checked_mul(16)? {
        return None;
    }
    let ranges = ranges.chunks_exact(16).map(|range| (u64_at(range, 0), u64_at(range, 8)));
    if name.is_empty() {
        let last = logs.last_mut().filter(|last| last.log == entry.log)?;
        last.released.extend(ranges);
        return Some(());
    }
    logs.push(LogState {
        log: entry.log,
        name: name.to_owned(),
        start: entry.a,
        end: entry.b,
        kept_end: entry.b.saturating_sub(entry.c >> 32),
        segments: entry.c & u64::from(u32::MAX),
        time_max_ms: entry.d,
        released: ranges.collect(),
        damage: Vec::new(),
    });
    Some(())
}
