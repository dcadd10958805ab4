//! The footer of a sealed segment: its last block, which lists the blocks before
//! it, so that opening the segment takes one read of a known place.
//!
//! The footer's block has one entry of kind `SegmentState` (`a` base, `b` end, `c`
//! bytes before the footer, `d` 1). Its body: u32 count, u32 CRC of all bytes before
//! the footer, `count` rows of 40 bytes, zeros, u32 length of the footer's block,
//! u32 magic. The zeros make the body end with the block, so that the last bytes of
//! the file tell where the footer starts.

use super::{BLOCKS_AT, BlockIndex};
use crate::files::File;
use crate::format::{Block, EntryKind, Found, Identity, load, padded, read_block};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, TABLE_ENTRY_BYTES};

/// "WFTR".
const MAGIC: u32 = 0x5254_4657;
/// One block of the segment, bytes.
const ROW_BYTES: usize = 40;
/// Count and CRC before the rows, bytes.
const START_BYTES: usize = 8;
/// Length and magic behind them, bytes.
const END_BYTES: usize = 8;
/// Most blocks of a segment: their footer fits a block.
pub(super) const BLOCKS_MAX: usize = 65_536;

const _: () = assert!(BLOCKS_MAX * ROW_BYTES + 4096 < BLOCK_BYTES_MAX);

/// What a footer says.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(crate) blocks: Vec<BlockIndex>,
    /// CRC of all bytes before the footer.
    pub(crate) crc: u32,
    /// Where the footer's block starts.
    pub(crate) at: u64,
}

/// The footer's body.
pub(super) fn encode(blocks: &[BlockIndex], crc: u32) -> Vec<u8> {
    let before = BLOCK_HEADER_BYTES + TABLE_ENTRY_BYTES;
    let content = START_BYTES + blocks.len() * ROW_BYTES + END_BYTES;
    let block_len = padded(before + content);
    let mut body = Vec::with_capacity(block_len - before);
    body.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    body.extend_from_slice(&crc.to_le_bytes());
    for block in blocks {
        body.extend_from_slice(&block.base.to_le_bytes());
        body.extend_from_slice(&block.end.to_le_bytes());
        body.extend_from_slice(&block.at.to_le_bytes());
        body.extend_from_slice(&block.len.to_le_bytes());
        body.extend_from_slice(&block.time_max_ms.to_le_bytes());
        body.extend_from_slice(&block.bytes.to_le_bytes());
        body.extend_from_slice(&block.live.to_le_bytes());
    }
    body.resize(block_len - before - END_BYTES, 0);
    body.extend_from_slice(&(block_len as u32).to_le_bytes());
    body.extend_from_slice(&MAGIC.to_le_bytes());
    body
}

/// Whether a block of a segment is its footer.
pub(super) fn is_footer(block: &Block) -> bool {
    block.entries.first().is_some_and(|entry| entry.kind == EntryKind::SegmentState)
}

/// Reads the footer of the file whose trusted bytes end at `len`. `None` when it is
/// not as it was written.
pub(super) fn read(file: &dyn File, len: u64, log: u64, identity: Identity) -> Option<Footer> {
    let mut end = [0; END_BYTES];
    let end_at = len.checked_sub(END_BYTES as u64)?;
    if file.read_at(&mut end, end_at).ok()? < END_BYTES || number(&end, 4) != MAGIC {
        return None;
    }
    let block_len = number(&end, 0) as usize;
    let at = len.checked_sub(block_len as u64).filter(|at| *at >= BLOCKS_AT)?;
    if block_len > BLOCK_BYTES_MAX {
        return None;
    }
    let bytes = load(file, at, block_len).ok()?;
    let Found::Block(block) = read_block(&bytes, 0, identity) else { return None };
    let entry = block.entries.first()?;
    if !is_footer(&block) || block.len != block_len || entry.log != log || entry.c != at {
        return None;
    }
    let body = entry.sound_body(&bytes).ok()?;
    let count = number(body, 0) as usize;
    if count > BLOCKS_MAX || body.len() < START_BYTES + count * ROW_BYTES + END_BYTES {
        return None;
    }
    let rows = body[START_BYTES..].chunks_exact(ROW_BYTES).take(count);
    let blocks: Vec<BlockIndex> = rows.map(row).collect();
    Some(Footer { blocks, crc: number(body, 4), at })
}

fn row(bytes: &[u8]) -> BlockIndex {
    BlockIndex {
        base: wide(bytes, 0),
        end: wide(bytes, 8),
        at: number(bytes, 16),
        len: number(bytes, 20),
        time_max_ms: wide(bytes, 24),
        bytes: number(bytes, 32),
        live: number(bytes, 36),
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has four bytes"))
}

fn wide(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
}
