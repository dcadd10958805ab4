//! Reading blocks. A header is believed only when its checksum, its identity and
//! its limits hold; then the table; bodies are the caller's to check, one by one,
//! because a body that fails costs only its own entry.

use super::{Entry, padded, u32_at, u64_at};
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, SECTOR_BYTES, TABLE_ENTRIES_MAX, TABLE_ENTRY_BYTES,
};

/// "WBLK".
pub(super) const BLOCK_MAGIC: u32 = 0x4b4c_4257;

/// Whose blocks are looked for: those of another file, left in a recycled one or
/// written to the wrong place, are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// See [`super::store_tag`].
    pub store_tag: u32,
    /// [`super::FileHead::sequence`] of the file.
    pub file_sequence: u64,
}

/// What a block's header says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// See [`super::store_tag`].
    pub store_tag: u32,
    /// Its number: in journals over all files, elsewhere within the file; from 1.
    pub number: u64,
    /// [`super::FileHead::sequence`] of its file.
    pub file_sequence: u64,
    /// Number of the last block known to be synced when this one was made. 0
    /// outside of journals.
    pub durable: u64,
    /// Header checksum of the block before it, 0 for the first.
    pub previous_crc: u32,
}

/// What lies at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A zero sector, or the end of the file. Blocks may still follow where a
    /// write was lost: [`scan_witness`] tells.
    End,
    /// A block whose header and table are good.
    Block(Block),
    /// Something else.
    Bad(BadBlock),
}

/// A block whose header and table are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What its header says.
    pub head: BlockHead,
    /// Checksum of the header; the next block names it.
    pub header_crc: u32,
    /// Its table.
    pub entries: Vec<Entry>,
    /// Its bytes in the file, padding included.
    pub len: usize,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPart {
    /// No header, or one that is not as written.
    Header,
    /// A good header of another file or another store.
    Stale,
    /// The header is good, the table is not.
    Table,
    /// The file ends within the block.
    Truncated,
}

/// A place where a block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// What is wrong.
    pub what: BadPart,
    /// What the header says, when it is good and ours.
    pub head: Option<BlockHead>,
    /// Checksum of the header, 0 without `head`.
    pub header_crc: u32,
    /// Length of the block with its padding, 0 without `head`.
    pub len: usize,
}

/// A header that is good and ours.
pub(super) struct Header {
    pub(super) head: BlockHead,
    pub(super) header_crc: u32,
    pub(super) table_crc: u32,
    pub(super) entries: usize,
    pub(super) bodies_len: usize,
}

impl Header {
    /// Reads a header.
    pub(super) fn decode(bytes: &[u8], identity: Identity) -> Result<Self, BadPart> {
        if bytes.len() < BLOCK_HEADER_BYTES {
            return Err(BadPart::Truncated);
        }
        let header_crc = u32_at(bytes, 4);
        if u32_at(bytes, 0) != BLOCK_MAGIC
            || crc32c::crc32c(&bytes[8..BLOCK_HEADER_BYTES]) != header_crc
        {
            return Err(BadPart::Header);
        }
        let head = BlockHead {
            store_tag: u32_at(bytes, 8),
            number: u64_at(bytes, 32),
            file_sequence: u64_at(bytes, 40),
            durable: u64_at(bytes, 48),
            previous_crc: u32_at(bytes, 56),
        };
        if head.store_tag != identity.store_tag || head.file_sequence != identity.file_sequence {
            return Err(BadPart::Stale);
        }
        let entries = u32_at(bytes, 16) as usize;
        let bodies_len = u32_at(bytes, 24) as usize;
        let header = Self { head, header_crc, table_crc: u32_at(bytes, 12), entries, bodies_len };
        let possible = entries <= TABLE_ENTRIES_MAX
            && u32_at(bytes, 20) as usize == entries * TABLE_ENTRY_BYTES
            && bodies_len <= BLOCK_BYTES_MAX
            && header.len() <= BLOCK_BYTES_MAX
            && head.number > head.durable
            // Flags of version 1: none.
            && u32_at(bytes, 28) == 0
            && u32_at(bytes, 60) == 0;
        if possible { Ok(header) } else { Err(BadPart::Header) }
    }

    /// Header and table, bytes.
    pub(super) fn bodies_start(&self) -> usize {
        BLOCK_HEADER_BYTES + self.entries * TABLE_ENTRY_BYTES
    }

    /// The block without its padding, bytes.
    pub(super) fn content_len(&self) -> usize {
        self.bodies_start() + self.bodies_len
    }

    /// The block with its padding, bytes.
    pub(super) fn len(&self) -> usize {
        padded(self.content_len())
    }

    /// The block, when `start`, its bytes up to the bodies at least, hold a good
    /// table.
    pub(super) fn with_table(&self, start: &[u8]) -> Found {
        match self.entries(&start[BLOCK_HEADER_BYTES..self.bodies_start()]) {
            Some(entries) => Found::Block(Block {
                head: self.head,
                header_crc: self.header_crc,
                entries,
                len: self.len(),
            }),
            None => self.bad(BadPart::Table),
        }
    }

    pub(super) fn bad(&self, what: BadPart) -> Found {
        let (head, header_crc) = (Some(self.head), self.header_crc);
        Found::Bad(BadBlock { what, head, header_crc, len: self.len() })
    }

    /// Bodies lie end to end in the order of the table and fill their part, so
    /// that no byte of a block is outside of a checksum.
    fn entries(&self, table: &[u8]) -> Option<Vec<Entry>> {
        if crc32c::crc32c(table) != self.table_crc {
            return None;
        }
        let mut entries = Vec::with_capacity(self.entries);
        let bodies = self.bodies_start();
        let mut at = 0;
        for row in table.chunks_exact(TABLE_ENTRY_BYTES) {
            let entry = Entry::decode(row, bodies, at, self.bodies_len)?;
            at += entry.body.len();
            entries.push(entry);
        }
        (at == self.bodies_len).then_some(entries)
    }
}

/// A place without a header of ours.
pub(super) fn headless(what: BadPart) -> Found {
    Found::Bad(BadBlock { what, head: None, header_crc: 0, len: 0 })
}

pub(super) fn is_zero_sector(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(SECTOR_BYTES)].iter().all(|&byte| byte == 0)
}

/// What lies at byte `at` of a file whose bytes are `bytes`. Header and table are
/// checked, bodies are not.
#[must_use]
pub fn read_block(bytes: &[u8], at: usize, identity: Identity) -> Found {
    let rest = bytes.get(at..).unwrap_or_default();
    if is_zero_sector(rest) {
        return Found::End;
    }
    match Header::decode(rest, identity) {
        Err(what) => headless(what),
        Ok(header) if rest.len() < header.content_len() => header.bad(BadPart::Truncated),
        Ok(header) => header.with_table(rest),
    }
}

/// The highest `durable` that a good header at or behind byte `from` tells, of
/// the file whose bytes are `bytes`: blocks up to that one were synced once.
/// `None`: no good header there.
#[must_use]
pub fn scan_witness(bytes: &[u8], from: usize, identity: Identity) -> Option<u64> {
    headers(bytes, from, identity).map(|(_, header)| header.head.durable).max()
}

/// The first block at or behind byte `from` whose header and table are good and
/// whose number is above `number`: where it lies, and the block.
#[must_use]
pub fn next_block(
    bytes: &[u8],
    from: usize,
    identity: Identity,
    number: u64,
) -> Option<(usize, Block)> {
    headers(bytes, from, identity).filter(|(_, header)| header.head.number > number).find_map(
        |(at, _)| match read_block(bytes, at, identity) {
            Found::Block(block) => Some((at, block)),
            Found::End | Found::Bad(_) => None,
        },
    )
}

fn headers(
    bytes: &[u8],
    from: usize,
    identity: Identity,
) -> impl Iterator<Item = (usize, Header)> + '_ {
    let from = from.min(bytes.len()).next_multiple_of(SECTOR_BYTES);
    (from..bytes.len()).step_by(SECTOR_BYTES).filter_map(move |at| {
        Header::decode(&bytes[at..], identity).ok().map(|header| (at, header))
    })
}
