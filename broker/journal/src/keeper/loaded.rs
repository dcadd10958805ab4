//! Records of small chunks, read ahead for several logs at once: block by block, as the
//! journal has them. Log by log, every message that lies alone in its block would cost a
//! read of its own, and the keeper would fall behind whoever writes to a thousand queues.
//!
//! Scratch of one filing. Invariants: nothing is kept but what is wanted, and of that no
//! more than its bound says; what is not here, for whatever reason, is read by itself.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use weir_message::{Batch, Ends};

use super::{Collected, CollectedBody, Rest};
use crate::files::File;
use crate::format::{Block, EntryKind, Found, Identity, read_block, read_head_at};
use crate::limits::{
    LOADED_BLOCK_BYTES_EACH, LOADED_BYTES_MAX, LOADED_FIRST_BYTES, LOADED_PIECE_BYTES,
};
use crate::read::slice;

/// Records of a chunk, in pieces with their first offsets.
pub(super) type Pieces = SmallVec<[(u64, Batch); 1]>;

/// See the file's head.
#[derive(Default)]
pub(super) struct Loaded {
    /// By log and the chunk's base.
    by_chunk: HashMap<(u64, u64), Pieces, RandomState>,
}

/// A chunk that lies in the journal only.
struct Wanted {
    sequence: u64,
    at: u32,
    log: u64,
    base: u64,
    end: u64,
}

/// Records of a chunk that were found in a block, and where they were copied to.
struct Copied {
    chunk: (u64, u64),
    first: u64,
    at: usize,
    ends: Ends,
}

impl Loaded {
    /// Takes out what there is of a chunk.
    pub(super) fn take(&mut self, log: u64, base: u64) -> Option<Pieces> {
        self.by_chunk.remove(&(log, base))
    }

    /// Reads ahead for the first of `logs`. For how many.
    pub(super) fn load(&mut self, rest: &dyn Rest, store_tag: u32, logs: &[&Collected]) -> usize {
        self.by_chunk.clear();
        let (mut wanted, mut bytes, mut count) = (Vec::new(), 0, 0);
        for one in logs {
            if bytes >= LOADED_BYTES_MAX {
                break;
            }
            count += 1;
            for chunk in &one.chunks {
                let CollectedBody::Journal { sequence, at } = chunk.body else { continue };
                if bytes >= LOADED_BYTES_MAX {
                    // The rest of a long log is read by itself: it has blocks of its own.
                    break;
                }
                bytes += chunk.bytes + LOADED_PIECE_BYTES;
                let end = chunk.base + u64::from(chunk.count);
                wanted.push(Wanted { sequence, at, log: one.log, base: chunk.base, end });
            }
        }
        let mut copied = 0;
        wanted.sort_unstable_by_key(|one| (one.sequence, one.at, one.log, one.base));
        for of_file in wanted.chunk_by(|one, next| one.sequence == next.sequence) {
            let file_sequence = of_file[0].sequence;
            let Some(file) = rest.journal_file(file_sequence) else { continue };
            let shared = of_file.chunk_by(|one, next| one.at == next.at);
            for of_block in shared.filter(|of_block| of_block.len() > 1) {
                // What is settled among them is copied too, and was not counted.
                if copied >= LOADED_BYTES_MAX {
                    return count;
                }
                let identity = Identity { store_tag, file_sequence };
                copied += self.load_block(&*file, identity, of_block);
            }
        }
        count
    }

    /// Keeps what is wanted of one block. What is not as written is left out: whoever
    /// wants it reads it again, and tells. Returns the bytes that are kept.
    fn load_block(&mut self, file: &dyn File, identity: Identity, wanted: &[Wanted]) -> u64 {
        let (at, most) = (u64::from(wanted[0].at), wanted.len() * LOADED_BLOCK_BYTES_EACH);
        let Some((block, bytes)) = read_whole(file, at, identity, most) else { return 0 };
        // Copied together, so that the block goes from memory.
        let (mut copy, mut found) = (Vec::new(), Vec::new());
        for entry in block.entries.iter().filter(|entry| entry.kind == EntryKind::Append) {
            let first = wanted.partition_point(|one| (one.log, one.end) <= (entry.log, entry.a));
            let end = entry.a.saturating_add(entry.b);
            let has_it = |one: &&Wanted| one.log == entry.log && one.base < end;
            let mut chunks = wanted[first..].iter().take_while(has_it).peekable();
            if chunks.peek().is_none() {
                continue;
            }
            let Ok(batch) = entry.append_batch(&bytes) else { continue };
            for chunk in chunks {
                let (from, to) = (entry.a.max(chunk.base), end.min(chunk.end));
                let rows = slice(&batch, (from - entry.a) as usize, (to - entry.a) as usize);
                let (chunk, at) = ((chunk.log, chunk.base), copy.len());
                copy.extend_from_slice(&rows.bytes);
                found.push(Copied { chunk, first: from, at, ends: rows.ends });
            }
        }
        let copy = Bytes::from(copy.into_boxed_slice());
        let mut kept = copy.len();
        for Copied { chunk, first, at, ends } in found {
            kept += size_of::<u32>() * ends.len();
            let len = ends.last().map_or(0, |end| *end as usize);
            let batch = Batch { bytes: copy.slice(at..at + len), ends };
            self.by_chunk.entry(chunk).or_default().push((first, batch));
        }
        kept as u64
    }
}

/// The block at byte `at`, with its bytes; `None` where it is not as written, or longer
/// than `most`.
fn read_whole(file: &dyn File, at: u64, identity: Identity, most: usize) -> Option<(Block, Bytes)> {
    let first: Bytes = file.read(most.min(LOADED_FIRST_BYTES), at).ok()?.into();
    if let Found::Block(block) = read_block(&first, 0, identity) {
        return Some((block, first));
    }
    match read_head_at(file, at, identity) {
        Ok(Found::Block(block)) if block.len <= most => {
            let bytes = file.read(block.len, at).ok()?.into();
            Some((block, bytes))
        }
        _ => None,
    }
}
