//! Segments: the files, per log, of what outlived the journal.
//!
//! The keeper writes them ([`SegmentWriter`]), stores hold their index
//! ([`Segment`]) and read through it ([`read_records`]). Invariants: records lie in
//! a log's segments in the order of their offsets; only the last segment of a log
//! is active, the others are sealed and never change; bytes behind the length a
//! checkpoint or the keeper vouches for count as not there. A sealed one that holds
//! little is written again under its next revision: name, head and blocks tell the
//! two files apart, so that neither is ever read as the other.

mod footer;
mod handles;
mod index;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;

pub(crate) use footer::Footer;
pub(crate) use handles::Handles;
pub(crate) use index::{Indexed, open_index};
pub(crate) use reader::{Piece, Source, read_pieces, read_records};
pub(crate) use writer::{OpenError, SegmentWriter, Sizes, undo};

use crate::files::File;
use crate::format::{Block, EntryKind, FILE_HEAD_BYTES, Identity, Kind, SegmentState, store_tag};

/// One past the last offset that a log may have: the byte on top is the revision's.
pub(crate) const OFFSETS_END: u64 = 1 << 56;
/// Where the first block of a segment lies.
const BLOCKS_AT: u64 = FILE_HEAD_BYTES as u64;

/// One block of a segment, as its log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockIndex {
    /// First offset in it.
    pub(crate) base: u64,
    /// One past the last offset in it.
    pub(crate) end: u64,
    /// Byte of the block in the file.
    pub(crate) at: u32,
    /// Its bytes in the file, padding included.
    pub(crate) len: u32,
    /// Latest time of append in it, ms since the epoch.
    pub(crate) time_max_ms: u64,
    /// Bytes of messages.
    pub(crate) bytes: u32,
    /// Records in it; its offsets may have gaps.
    pub(crate) live: u32,
}

impl BlockIndex {
    /// The index of `block`, which lies at byte `at`; `None` when it does not hold
    /// records of `log` in the order of their offsets.
    fn of(log: u64, block: &Block, at: u64) -> Option<Self> {
        let first = block.entries.first()?;
        let mut index = Self {
            base: first.a,
            end: first.a,
            at: u32::try_from(at).ok()?,
            len: u32::try_from(block.len).ok()?,
            time_max_ms: 0,
            bytes: 0,
            live: 0,
        };
        for entry in &block.entries {
            if entry.kind != EntryKind::Append || entry.log != log || entry.a < index.end {
                return None;
            }
            // A sound append has four bytes per record before its messages.
            index.add(
                entry.a,
                entry.b as u32,
                entry.c,
                entry.body.len() as u32 - 4 * entry.b as u32,
            );
        }
        Some(index)
    }

    /// Takes note of `count` records from `base` on.
    fn add(&mut self, base: u64, count: u32, time_ms: u64, bytes: u32) {
        self.end = base + u64::from(count);
        self.time_max_ms = self.time_max_ms.max(time_ms);
        self.bytes += bytes;
        self.live += count;
    }
}

/// A segment, as its log knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset it is named after: its first record's, as it was filed.
    pub(crate) base: u64,
    /// How often it was written again, with less in it.
    pub(crate) revision: u8,
    /// One past its last offset.
    pub(crate) end: u64,
    /// Bytes of the file that can be trusted.
    pub(crate) len: u64,
    /// Whether it is complete and has its footer.
    pub(crate) sealed: bool,
    /// Its blocks in order.
    pub(crate) blocks: Vec<BlockIndex>,
}

/// Bytes of a segment that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}, bytes {}..{}: {what}; log {log} offsets {from}..{to}", .bytes.start, .bytes.end)]
pub(crate) struct SegmentDamage {
    pub(crate) log: u64,
    /// First offset concerned.
    pub(crate) from: u64,
    /// One past the last; equal to `from` when no record is concerned.
    pub(crate) to: u64,
    pub(crate) path: String,
    /// Where in the file.
    pub(crate) bytes: Range<u64>,
    /// What is wrong, for a person to read.
    pub(crate) what: String,
    /// It is known from elsewhere: nothing is lost by it, and there is nothing to accept.
    pub(crate) costs_nothing: bool,
}

/// Folder of a log's segments.
pub(crate) fn folder(log: u64) -> String {
    format!("logs/{log:016x}")
}

/// Path of the segment of `log` that begins at offset `base`, in that revision.
pub(crate) fn path(log: u64, base: u64, revision: u8) -> String {
    format!("{}/{}", folder(log), file_name(base, revision))
}

fn file_name(base: u64, revision: u8) -> String {
    match revision {
        0 => format!("s-{base:016x}.ws"),
        _ => format!("s-{base:016x}-{revision:02x}.ws"),
    }
}

/// Base and revision of the segment of which `name` is the file's, without folder.
pub(crate) fn parse_name(name: &str) -> Option<(u64, u8)> {
    let numbers = name.strip_prefix("s-")?.strip_suffix(".ws")?;
    let (base, revision) = numbers.split_once('-').unwrap_or((numbers, "0"));
    let base = u64::from_str_radix(base, 16).ok()?;
    let revision = u8::from_str_radix(revision, 16).ok()?;
    (file_name(base, revision) == name).then_some((base, revision))
}

/// Whether a file of that name is half of a segment that never counted.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|name| parse_name(name).is_some())
}

/// Name under which a segment is written before it counts.
fn temporary_path(log: u64, base: u64, revision: u8) -> String {
    format!("{}.tmp", path(log, base, revision))
}

/// The number that its head and blocks carry: the base, with the revision in the
/// byte on top, which no offset reaches.
fn sequence(base: u64, revision: u8) -> u64 {
    base ^ (u64::from(revision) << 56)
}

/// What the blocks of a segment say of where they belong.
pub(crate) fn identity(store_id: u128, base: u64, revision: u8) -> Identity {
    let store_tag = store_tag(store_id, Kind::Segment);
    Identity { store_tag, file_sequence: sequence(base, revision) }
}

/// What the footer of a sealed segment says, when it is as it was written.
pub(crate) fn footer_of(file: &dyn File, store_id: u128, state: &SegmentState) -> Option<Footer> {
    footer::read(file, state.len, state.log, identity(store_id, state.base, state.revision))
}
