//! Records of small chunks, read ahead for several logs at once: block by block, as the
//! journal has them. Log by log, every message that lies alone in its block would cost a
//! read of its own, and the keeper would fall behind whoever writes to a thousand queues.
//!
//! Scratch of one filing. Invariants: no more is kept than the bounds below say; what is
//! not here, for whatever reason, is read by itself.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use weir_message::Batch;

use super::{Collected, CollectedBody, Rest};
use crate::files::File;
use crate::format::{EntryKind, Found, Identity, batch_of_body, read_head_at};

/// Chunks that are looked for at once, but for those of the last log.
const CHUNKS_MAX: usize = 128 << 10;
/// Bytes of records kept, but for those of the last block.
const BYTES_MAX: usize = 64 << 20;
/// Bytes of a block for each chunk that is wanted of it, up to which it is read as a whole:
/// to copy them costs as much as a read.
const BYTES_EACH_MAX: usize = 16 << 10;

/// Records of a chunk, in pieces with their first offsets.
pub(super) type Pieces = SmallVec<[(u64, Batch); 1]>;

/// See the file's head.
#[derive(Default)]
pub(super) struct Loaded {
    /// By log and the chunk's base.
    by_chunk: HashMap<(u64, u64), Pieces, RandomState>,
    bytes: usize,
}

/// A chunk that lies in the journal only.
struct Wanted {
    sequence: u64,
    at: u32,
    log: u64,
    base: u64,
    end: u64,
}

impl Loaded {
    /// Takes out what there is of a chunk.
    pub(super) fn take(&mut self, log: u64, base: u64) -> Option<Pieces> {
        self.by_chunk.remove(&(log, base))
    }

    /// Reads ahead for the first of `logs`. For how many.
    pub(super) fn load(&mut self, rest: &dyn Rest, store_tag: u32, logs: &[&Collected]) -> usize {
        self.by_chunk.clear();
        self.bytes = 0;
        let (mut wanted, mut count) = (Vec::new(), 0);
        for one in logs {
            if wanted.len() >= CHUNKS_MAX {
                break;
            }
            count += 1;
            wanted.extend(one.chunks.iter().filter_map(|chunk| {
                let CollectedBody::Journal { sequence, at } = chunk.body else { return None };
                let end = chunk.base + u64::from(chunk.count);
                Some(Wanted { sequence, at, log: one.log, base: chunk.base, end })
            }));
        }
        wanted.sort_unstable_by_key(|one| (one.sequence, one.at, one.log, one.base));
        for of_file in wanted.chunk_by(|one, next| one.sequence == next.sequence) {
            let file_sequence = of_file[0].sequence;
            let Some(file) = rest.journal_file(file_sequence) else { continue };
            for of_block in of_file.chunk_by(|one, next| one.at == next.at) {
                if of_block.len() > 1 && self.bytes < BYTES_MAX {
                    self.load_block(&*file, Identity { store_tag, file_sequence }, of_block);
                }
            }
        }
        count
    }

    /// Keeps what is wanted of one block. What is not as written is left out: whoever
    /// wants it reads it again, and tells.
    fn load_block(&mut self, file: &dyn File, identity: Identity, wanted: &[Wanted]) {
        let at = u64::from(wanted[0].at);
        let Ok(Found::Block(block)) = read_head_at(file, at, identity) else { return };
        if block.len > wanted.len() * BYTES_EACH_MAX {
            return;
        }
        let Ok(bytes) = file.read(block.len, at) else { return };
        // Copied together, so that the block goes from memory.
        let (mut copied, mut found) = (Vec::new(), Vec::new());
        for entry in block.entries.iter().filter(|entry| entry.kind == EntryKind::Append) {
            let first = wanted.partition_point(|one| (one.log, one.end) <= (entry.log, entry.a));
            let end = entry.a.saturating_add(entry.b);
            let has_it = |one: &&Wanted| one.log == entry.log && one.base < end;
            let count = wanted[first..].iter().take_while(has_it).count();
            if count > 0
                && let Ok(body) = entry.sound_body(&bytes)
            {
                found.push((entry, copied.len(), first..first + count));
                copied.extend_from_slice(body);
            }
        }
        self.bytes += copied.len();
        let copied = Bytes::from(copied);
        for (entry, from, chunks) in found {
            let body = copied.slice(from..from + entry.body.len());
            let Ok(batch) = batch_of_body(entry, &body) else { continue };
            let chunks = &wanted[chunks];
            for (chunk, batch) in chunks.iter().zip(std::iter::repeat_n(batch, chunks.len())) {
                let pieces = self.by_chunk.entry((chunk.log, chunk.base)).or_default();
                pieces.push((entry.a, batch));
            }
        }
    }
}
