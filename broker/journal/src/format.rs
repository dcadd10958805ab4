//! The one format of journal files, segment files and checkpoints: a head, then
//! blocks. All integers are little endian, all checksums CRC32C.
//!
//! Called by the writer, the keeper, the segments and recovery. Invariants: what
//! is read is checked before it is used and before anything is allocated for it;
//! the same content always has the same bytes. `docs/storage.md` has the tables.

mod build;
mod checkpoint;
mod entry;
mod head;
mod load;
mod read;
#[cfg(test)]
mod tests;

pub use build::{BlockBuilder, FinishedBlock};
pub use checkpoint::{CheckpointContent, CheckpointError, LogState, SegmentState};
pub use entry::{Entry, EntryKind, Unsound, batch_of_body, named_body, parse_named};
pub(crate) use entry::{SOME_OFFSETS, bits_of};
pub use head::{FORMAT_VERSION, FileHead, HeadError, Kind};
pub use load::{load, read_body, read_head_at};
pub use read::{
    BadBlock, BadPart, Block, BlockHead, Found, Identity, next_block, read_block, scan_witness,
};

pub use crate::limits::FILE_HEAD_BYTES;

use crate::limits::SECTOR_BYTES;

/// `len` filled up to whole sectors.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(SECTOR_BYTES)
}

/// What blocks of a store's files of that kind carry, so that bytes of another
/// store or of another kind of file are never taken for theirs.
#[must_use]
pub const fn store_tag(store: u128, kind: Kind) -> u32 {
    store as u32 ^ kind as u32
}

/// The `N` bytes at `at`; the caller has checked that they are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has that length")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
