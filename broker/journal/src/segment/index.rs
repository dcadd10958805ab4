//! Opening a segment: its index from the footer when it is sealed and the footer is
//! good, else from its blocks.
//!
//! Called at recovery. Invariants: nothing behind the trusted length is looked at;
//! what is damaged is named and left as it is; the rest can be read.

use std::io;
use std::ops::Range;

use super::{BLOCKS_AT, BlockIndex, Segment, SegmentDamage, footer, identity, path, sequence};
use crate::files::{File, Files};
use crate::format::{
    Block, FILE_HEAD_BYTES, FileHead, Found, HeadError, Identity, Kind, SegmentState, load,
    next_block, read_head_at,
};

/// Bytes that are given up together when they cannot be read.
const PIECE_BYTES: usize = 64 << 10;

/// What opening a segment came to.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// What can be read of it.
    pub(crate) segment: Segment,
    /// What cannot.
    pub(crate) damage: Vec<SegmentDamage>,
}

/// Opens the segment that a checkpoint knows as `state`. What lies behind the
/// trusted length is cut off, unless `read_only`.
///
/// # Errors
/// A file of a newer format; the file cannot be opened or cut.
pub(crate) fn open_index(
    files: &dyn Files,
    store_id: u128,
    state: &SegmentState,
    read_only: bool,
) -> io::Result<Indexed> {
    let mut opening = Opening {
        state,
        identity: identity(store_id, state.base, state.revision),
        blocks: Vec::new(),
        damage: Vec::new(),
    };
    match files.open(&path(state.log, state.base, state.revision)) {
        Ok(file) => opening.read(&*file, store_id, read_only)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            opening.damaged(state.base..state.end, 0..state.len, "the file is missing");
        }
        Err(error) => return Err(error),
    }
    let segment = Segment {
        base: state.base,
        revision: state.revision,
        end: state.end,
        len: state.len,
        sealed: state.is_sealed,
        blocks: opening.blocks,
    };
    Ok(Indexed { segment, damage: opening.damage })
}

/// The blocks of a file, from their headers and tables.
pub(super) fn scan_blocks(
    file: &dyn File,
    store_id: u128,
    state: &SegmentState,
) -> Vec<BlockIndex> {
    let identity = identity(store_id, state.base, state.revision);
    let mut opening = Opening { state, identity, blocks: Vec::new(), damage: Vec::new() };
    opening.scan(file, state.len);
    opening.blocks
}

struct Opening<'a> {
    state: &'a SegmentState,
    identity: Identity,
    blocks: Vec<BlockIndex>,
    damage: Vec<SegmentDamage>,
}

impl Opening<'_> {
    fn damaged(&mut self, offsets: Range<u64>, bytes: Range<u64>, what: impl Into<String>) {
        self.damage.push(SegmentDamage {
            log: self.state.log,
            from: offsets.start,
            to: offsets.end,
            path: path(self.state.log, self.state.base, self.state.revision),
            bytes,
            what: what.into(),
            costs_nothing: false,
        });
    }

    /// The head or the footer is not as written: the checkpoint and the blocks say the same.
    fn unread(&mut self, offset: u64, bytes: Range<u64>, what: impl Into<String>) {
        self.damaged(offset..offset, bytes, what);
        self.damage.last_mut().expect("it was just added").costs_nothing = true;
    }

    fn read(&mut self, file: &dyn File, store_id: u128, read_only: bool) -> io::Result<()> {
        let state = self.state;
        let len = file.len()?;
        if len > state.len && !read_only {
            file.set_len(state.len)?;
        }
        if let Err(what) = check_head(file, store_id, state)? {
            self.unread(state.base, 0..FILE_HEAD_BYTES as u64, what);
        }
        if state.is_sealed {
            // Of a file that ends in it, it is not there.
            let footer = footer::read(file, state.len, state.log, self.identity);
            match footer.filter(|footer| is_of(&footer.blocks, state, footer.at)) {
                Some(footer) => {
                    self.blocks = footer.blocks;
                    return Ok(());
                }
                None => {
                    let at = state.len.saturating_sub(8);
                    self.unread(state.end, at..state.len, "the footer is not as written");
                }
            }
        }
        self.scan(file, len.min(state.len));
        Ok(())
    }

    /// One past the last offset indexed.
    fn end(&self) -> u64 {
        self.blocks.last().map_or(self.state.base, |block| block.end)
    }

    /// Reads the headers and tables of the blocks up to byte `len`.
    fn scan(&mut self, file: &dyn File, len: u64) {
        let (mut at, mut number, mut previous_crc) = (BLOCKS_AT, 1, 0);
        while at < len {
            let found = read_head_at(file, at, self.identity);
            let block = match found {
                Ok(Found::Block(block))
                    if block.head.number == number
                        && block.head.previous_crc == previous_crc
                        && at + block.len as u64 <= len =>
                {
                    block
                }
                Ok(_) | Err(_) => {
                    let resumed = self.resume(file, at..len, number, previous_crc);
                    let Some((next, block)) = resumed else { break };
                    at = next;
                    block
                }
            };
            if footer::is_footer(&block) {
                break;
            }
            (number, previous_crc) = (block.head.number + 1, block.header_crc);
            let end = at + block.len as u64;
            match BlockIndex::of(self.state.log, &block, at).filter(|new| new.base >= self.end()) {
                Some(index) => self.blocks.push(index),
                None => {
                    self.damaged(self.end()..self.end(), at..end, "a block of another log");
                }
            }
            at = end;
        }
        if self.end() < self.state.end
            && self.damage.iter().all(|it| it.costs_nothing || it.to < self.state.end)
        {
            self.damaged(
                self.end()..self.state.end,
                at.min(len)..self.state.len,
                "the file ends early",
            );
        }
    }

    /// The first good block of this log in `bytes` whose number is `number` or
    /// above. One of another log's segment has come there by a disk's mistake.
    fn next_of_log(&self, bytes: &[u8], number: u64) -> Option<(usize, Block)> {
        let mut from = 0;
        loop {
            let (at, block) = next_block(bytes, from, self.identity, number - 1)?;
            if block.entries.first().is_some_and(|entry| entry.log == self.state.log) {
                return Some((at, block));
            }
            from = at + block.len;
        }
    }

    /// The first good block in `bytes` of the file whose number is `number` or
    /// above. What lies before it is damaged.
    fn resume(
        &mut self,
        file: &dyn File,
        bytes: Range<u64>,
        number: u64,
        previous_crc: u32,
    ) -> Option<(u64, Block)> {
        let what = "a block is not as written";
        let rest = load_what_can_be_read(file, &bytes);
        let Some((skipped, block)) = self.next_of_log(&rest, number) else {
            // Behind the last record of a sealed one is only the footer, which is told of.
            if !self.state.is_sealed || self.end() < self.state.end {
                self.damaged(self.end()..self.state.end, bytes, what);
            }
            return None;
        };
        let next = bytes.start + skipped as u64;
        if skipped == 0 && (block.head.number, block.head.previous_crc) == (number, previous_crc) {
            // It does follow: a read failed once, or the file ends in the block's padding.
            return Some((next, block));
        }
        let first = match block.entries.first() {
            Some(entry) if !footer::is_footer(&block) => entry.a,
            _ => self.state.end,
        };
        if skipped > 0 {
            self.damaged(self.end()..first.max(self.end()), bytes.start..next, what);
            return Some((next, block));
        }
        // It is good, but was not written behind the one before it: that one is left
        // from an earlier try, and what was written over it is lost.
        let last = self.blocks.pop();
        let at = last.map_or(BLOCKS_AT, |last| u64::from(last.at));
        let what = "the next block does not follow it";
        self.damaged(self.end()..first.max(self.end()), at..next, what);
        Some((next, block))
    }
}

/// The bytes of that part of the file, with zeros where it cannot be read.
pub(super) fn load_what_can_be_read(file: &dyn File, bytes: &Range<u64>) -> Vec<u8> {
    let mut buffer = vec![0; (bytes.end - bytes.start) as usize];
    for (piece, at) in buffer.chunks_mut(PIECE_BYTES).zip((bytes.start..).step_by(PIECE_BYTES)) {
        if file.read_at(piece, at).is_err() {
            piece.fill(0);
        }
    }
    buffer
}

/// Whether the head of the file says what it must; the inner error tells what not.
fn check_head(
    file: &dyn File,
    store_id: u128,
    state: &SegmentState,
) -> io::Result<Result<(), String>> {
    let bytes = match load(file, 0, FILE_HEAD_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(match FileHead::decode(&bytes, Kind::Segment) {
        Ok(head) if head.store != store_id => Err("the head is of another store".to_owned()),
        Ok(head)
            if head.log != state.log || head.sequence != sequence(state.base, state.revision) =>
        {
            Err("the head is of another segment".to_owned())
        }
        Ok(_) => Ok(()),
        Err(HeadError::Newer(version)) => {
            // Whoever asked finds the version in it.
            return Err(io::Error::new(io::ErrorKind::InvalidData, HeadError::Newer(version)));
        }
        Err(error) => Err(error.to_string()),
    })
}

/// Whether a footer's blocks are those of the segment: one behind the other from
/// the head to the footer, with rising offsets.
fn is_of(blocks: &[BlockIndex], state: &SegmentState, footer_at: u64) -> bool {
    let (mut at, mut offset) = (BLOCKS_AT, state.base);
    for block in blocks {
        if u64::from(block.at) != at || block.base < offset || block.end <= block.base {
            return false;
        }
        (at, offset) = (at + u64::from(block.len), block.end);
    }
    at == footer_at && offset == state.end
}
