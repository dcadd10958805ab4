//! One log: what is still in the journal as chunks, what outlived it as segments,
//! and what of both is settled.
//!
//! Owned by the store that opened it. Offsets rise: first those in segments, then those in
//! chunks. Invariants: `start` only rises, but for a reset; nothing below it is kept; a released
//! record is never read again; `stable` never passes a record less safe than it was asked to be.

mod asked;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use weir_core::command::Level;
use weir_core::store::Stamp;
use weir_message::Batch;

use crate::ranges::Ranges;
use crate::segment::Segment;
use crate::waits::Waiting;

/// Chunks at a log's end that are looked at before all are searched.
const RECENT_CHUNKS: usize = 8;
/// Chunks all of whose records are released before they are dropped from among others,
/// fewest.
const GONE_CHUNKS: usize = 64;
/// What a chunk takes beside its messages, bytes, roughly.
const CHUNK_BYTES: usize = 256;

/// Where an entry's block lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) at: u32,
}

/// The place of a block, which everything in it shares; unknown until it is written.
pub(crate) type BlockPlace = Arc<OnceLock<Place>>;

/// Where a chunk's messages are.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In memory; in the journal too, once the block is written that it was handed over
    /// for. Of level memory, or not handed over yet, where there is none.
    Memory(Batch, Option<BlockPlace>),
    /// In the journal only.
    Journal(Place),
    /// All of them are released.
    Gone,
}

/// Neighbouring records that are not filed.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) base: u64,
    pub(crate) count: u32,
    /// Of them, not released.
    pub(crate) live: u32,
    /// Bytes of those; an estimate once the body has left memory.
    pub(crate) bytes: u64,
    pub(crate) level: Level,
    pub(crate) stamp: Stamp,
    /// Latest time of this and every earlier append.
    pub(crate) time_max_ms: u64,
    pub(crate) body: Body,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }

    pub(crate) fn place(&self) -> Option<Place> {
        match &self.body {
            Body::Memory(_, block) => block.as_ref().and_then(|block| block.get().copied()),
            Body::Journal(place) => Some(*place),
            Body::Gone => None,
        }
    }

    /// Bytes of memory its body takes.
    pub(crate) fn resident(&self) -> u64 {
        match &self.body {
            Body::Memory(batch, _) => resident(batch),
            _ => 0,
        }
    }
}

/// Bytes of memory a batch takes, with what is kept beside it.
pub(crate) fn resident(batch: &Batch) -> u64 {
    (batch.bytes.len() + 4 * batch.len() + CHUNK_BYTES) as u64
}

/// What a release or trim has freed.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    /// Whether anything was new.
    pub(crate) any: bool,
    /// Bytes of bodies that left memory.
    pub(crate) resident: u64,
    /// How many those are.
    pub(crate) bodies: usize,
    /// The same, of level memory.
    pub(crate) pinned: u64,
    /// Segments, by base, that hold nothing any more.
    pub(crate) segments: Vec<u64>,
}

impl Freed {
    /// The body of `chunk` leaves memory, if it is there.
    pub(crate) fn let_go(&mut self, chunk: &Chunk) {
        let bytes = chunk.resident();
        if chunk.level == Level::Memory {
            self.pinned += bytes;
        } else if bytes > 0 {
            self.resident += bytes;
            self.bodies += 1;
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) number: u64,
    pub(crate) name: Arc<str>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) stable: u64,
    /// Bytes of live records.
    pub(crate) bytes: u64,
    pub(crate) released: Ranges,
    pub(crate) segments: Vec<Segment>,
    /// Records in segments that are not released, and their bytes.
    pub(crate) filed_live: u64,
    pub(crate) filed_bytes: u64,
    /// Of those that are all released some have left a gap.
    pub(crate) chunks: VecDeque<Chunk>,
    /// How many that are all released are left.
    gone_chunks: usize,
    /// Index of the chunk that is likely to leave memory next.
    pub(crate) leaving: usize,
    /// Appends that are not as safe as they are to be.
    pub(crate) waiting: Waiting,
    /// The stable end has moved, and the owner has not been told.
    pub(crate) has_moved: bool,
    pub(crate) time_max_ms: u64,
    pub(crate) damage: Ranges,
}

impl Log {
    pub(crate) fn new(number: u64, name: Arc<str>) -> Self {
        Self {
            number,
            name,
            start: 0,
            end: 0,
            stable: 0,
            bytes: 0,
            released: Ranges::default(),
            segments: Vec::new(),
            filed_live: 0,
            filed_bytes: 0,
            chunks: VecDeque::new(),
            gone_chunks: 0,
            leaving: 0,
            waiting: Waiting::default(),
            has_moved: false,
            time_max_ms: 0,
            damage: Ranges::default(),
        }
    }

    /// Whether there are records to release: a cursor log has none.
    fn has_records(&self) -> bool {
        !self.chunks.is_empty() || !self.segments.is_empty()
    }

    /// Whether it is a group's: it says what is settled, and never has records.
    pub(crate) fn is_cursor(&self) -> bool {
        self.name.starts_with("group/")
    }

    /// One past the last offset that lies in segments.
    pub(crate) fn filed_end(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    /// Takes records at the end. They count as stable when nothing is waited for.
    pub(crate) fn append(
        &mut self,
        stamp: Stamp,
        level: Level,
        count: u32,
        bytes: u64,
        body: Body,
    ) {
        self.time_max_ms = self.time_max_ms.max(stamp.time_ms);
        self.chunks.push_back(Chunk {
            base: self.end,
            count,
            live: count,
            bytes,
            level,
            stamp,
            time_max_ms: self.time_max_ms,
            body,
        });
        self.end += u64::from(count);
        self.bytes += bytes;
    }

    /// Index of the chunk that holds `offset`, or the first one behind it.
    pub(crate) fn chunk_at(&self, offset: u64) -> usize {
        // Mostly the first, the one that leaves memory next, or one of the last.
        if self.chunks.front().is_some_and(|chunk| offset < chunk.end()) {
            return 0;
        }
        let hinted = self.chunks.get(self.leaving);
        if hinted.is_some_and(|chunk| chunk.base <= offset && offset < chunk.end()) {
            return self.leaving;
        }
        let ends = self.chunks.iter().enumerate().rev().take(RECENT_CHUNKS);
        for (at, chunk) in ends {
            if chunk.base <= offset {
                return if offset < chunk.end() { at } else { at + 1 };
            }
        }
        self.chunks.partition_point(|chunk| chunk.end() <= offset)
    }

    /// Index of the chunk that begins at `base`, if it is still there.
    pub(crate) fn chunk_from(&self, base: u64) -> Option<usize> {
        let at = self.chunk_at(base);
        self.chunks.get(at).is_some_and(|chunk| chunk.base == base).then_some(at)
    }

    /// Notes which block the chunk that begins at `base` was handed over for.
    pub(crate) fn lies_in(&mut self, base: u64, block: BlockPlace) {
        let is_last = self.chunks.back().is_some_and(|chunk| chunk.base == base);
        let at = if is_last { Some(self.chunks.len() - 1) } else { self.chunk_from(base) };
        if let Some(Chunk { body: Body::Memory(_, known), .. }) = at.map(|at| &mut self.chunks[at])
        {
            *known = Some(block);
        }
    }

    /// Marks `from..to` as settled.
    pub(crate) fn release(&mut self, from: u64, to: u64) -> Freed {
        let mut freed = Freed::default();
        let from = from.max(self.start);
        if self.has_records() {
            self.release_records(from, to.min(self.end), &mut freed);
        } else if from < to {
            freed.any = !self.released.insert(from, to).is_empty();
        }
        self.advance_start(&mut freed);
        freed
    }

    /// Passes over records that are lost: they are settled, and free nothing.
    pub(crate) fn give_up(&mut self, from: u64, to: u64) {
        drop(self.released.insert(from.max(self.start), to));
        self.advance_start(&mut Freed::default());
    }

    /// Goes on at `to`, where that is behind the end: records of level memory were there,
    /// or lost ones, and what the journal says of them must not be said of others.
    pub(crate) fn pass_over(&mut self, to: u64) {
        if to > self.end {
            self.give_up(self.end, to);
            self.end = self.end.max(to);
            self.stable = self.end;
        }
    }

    fn release_records(&mut self, from: u64, to: u64, freed: &mut Freed) {
        for fresh in self.released.insert(from, to) {
            freed.any = true;
            self.free(fresh, freed);
        }
        // Only now: a segment that is gone says no more what of it was freed.
        self.drop_settled(&(from..to), freed);
    }

    /// Takes fresh released offsets off the books.
    fn free(&mut self, fresh: Range<u64>, freed: &mut Freed) {
        let filed_end = self.filed_end();
        if fresh.start < filed_end && self.filed_live > 0 {
            let count = self.filed_records(fresh.start, fresh.end.min(filed_end));
            let bytes = (u128::from(self.filed_bytes) * u128::from(count)
                / u128::from(self.filed_live)) as u64;
            self.filed_live -= count;
            self.filed_bytes -= bytes;
            self.bytes -= bytes.min(self.bytes);
        }
        let mut at = self.chunk_at(fresh.start);
        while let Some(chunk) = self.chunks.get_mut(at) {
            if chunk.base >= fresh.end {
                break;
            }
            let first = fresh.start.saturating_sub(chunk.base).min(u64::from(chunk.count));
            let last = (fresh.end - chunk.base).min(u64::from(chunk.count));
            if chunk.live > 0 && last > first {
                let rows = (last - first) as u32;
                let bytes = bytes_of(chunk, first as usize, last as usize);
                chunk.live -= rows.min(chunk.live);
                chunk.bytes -= bytes.min(chunk.bytes);
                self.bytes -= bytes.min(self.bytes);
                if chunk.live == 0 {
                    self.bytes -= chunk.bytes.min(self.bytes);
                    chunk.bytes = 0;
                    freed.let_go(chunk);
                    chunk.body = Body::Gone;
                    self.gone_chunks += 1;
                }
            }
            at += 1;
        }
        // So late that each look is paid for by those that went.
        if self.gone_chunks >= GONE_CHUNKS.max(self.chunks.len() / 2) {
            self.forget_gone();
        }
    }

    /// Forgets chunks all of whose records are released. Behind one that is not, and is never
    /// filed, they would pile up for ever.
    fn forget_gone(&mut self) {
        let is_gone = |chunk: &&Chunk| chunk.live == 0;
        self.leaving -= self.chunks.iter().take(self.leaving).filter(is_gone).count();
        self.chunks.retain(|chunk| chunk.live > 0);
        self.gone_chunks = 0;
    }

    /// Forgets the first chunk.
    fn pop_front(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.gone_chunks -= usize::from(chunk.live == 0).min(self.gone_chunks);
            self.leaving = self.leaving.saturating_sub(1);
        }
    }

    /// How many of `from..to`, none of which was released before, are records in
    /// segments: what is not there had been released when it was filed.
    fn filed_records(&self, from: u64, to: u64) -> u64 {
        let mut count = 0;
        for segment in self.segments.iter().filter(|one| one.base < to && one.end > from) {
            for block in segment.blocks.iter().filter(|one| one.base < to && one.end > from) {
                count += block.end.min(to) - block.base.max(from);
            }
        }
        count.min(self.filed_live)
    }

    fn advance_start(&mut self, freed: &mut Freed) {
        if let Some(end) = self.released.end_of(self.start) {
            self.start = end;
        }
        self.released.cut(self.start);
        self.drop_below(freed);
    }

    /// Drops everything below `to`.
    pub(crate) fn trim(&mut self, to: u64) -> Freed {
        let mut freed = Freed::default();
        let to = if self.has_records() { to.min(self.end) } else { to };
        if to <= self.start {
            return freed;
        }
        freed.any = true;
        for fresh in self.released.insert(self.start, to) {
            self.free(fresh, &mut freed);
        }
        self.drop_settled(&(self.start..to), &mut freed);
        self.start = to;
        self.advance_start(&mut freed);
        freed
    }

    /// Everything below `to` is settled, nothing above: for logs without records.
    pub(crate) fn reset(&mut self, to: u64) {
        self.released.clear();
        // Without records its end means nothing but that.
        (self.start, self.end, self.stable) = (to, to, to);
    }

    /// Forgets chunks and segments that lie below the start or hold nothing.
    fn drop_below(&mut self, freed: &mut Freed) {
        while let Some(chunk) = self.chunks.front() {
            if chunk.end() > self.start && chunk.live > 0 {
                break;
            }
            // What lies behind in the journal is not needed by anyone.
            self.pop_front();
        }
        while let Some(segment) = self.segments.first() {
            if segment.end > self.start {
                break;
            }
            freed.segments.push(segment.base);
            self.segments.remove(0);
        }
        if self.segments.is_empty() {
            self.bytes -= self.filed_bytes.min(self.bytes);
            (self.filed_live, self.filed_bytes) = (0, 0);
        }
        self.end = self.end.max(self.start);
        self.stable = self.stable.max(self.start.min(self.end));
    }

    /// Forgets segments that `part` touches and all of whose records are released. Not the
    /// last one: it says what is filed, and may be filed to.
    pub(crate) fn drop_settled(&mut self, part: &Range<u64>, freed: &mut Freed) {
        let mut at = self.segments.partition_point(|segment| segment.end <= part.start);
        while let Some(segment) = self.segments.get(at)
            && segment.base < part.end
            && at + 1 < self.segments.len()
        {
            let end = self.released.end_of(segment.base.max(self.start));
            if end.is_some_and(|end| end >= segment.end) {
                freed.segments.push(segment.base);
                self.segments.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// The messages of these chunks now lie in `segments` (the active one again with
    /// its new blocks only; one that was written again, whole and under its next
    /// revision); offsets below `through` are filed. May be told twice, where a store has
    /// opened the log in between.
    pub(crate) fn filed(&mut self, segments: Vec<Segment>, through: u64) -> Freed {
        let mut freed = Freed::default();
        while let Some(chunk) = self.chunks.front() {
            if chunk.end() > through {
                break;
            }
            freed.let_go(chunk);
            self.filed_live += u64::from(chunk.live);
            self.filed_bytes += chunk.bytes;
            self.pop_front();
        }
        for new in segments {
            let filed_end = self.filed_end();
            match self.segments.iter_mut().find(|segment| segment.base == new.base) {
                // No block is added to a file that does not make it longer.
                Some(known) if (known.revision, known.len) >= (new.revision, new.len) => {}
                Some(segment) if segment.revision < new.revision => *segment = new,
                Some(segment) => {
                    segment.blocks.extend(new.blocks);
                    (segment.end, segment.len, segment.sealed) = (new.end, new.len, new.sealed);
                }
                None if new.revision == 0 && new.end > filed_end => self.segments.push(new),
                // Emptied while it was written again, or since it was told of first.
                None => {}
            }
        }
        // What was the last one so far may be settled.
        self.drop_settled(&(0..u64::MAX), &mut freed);
        self.drop_below(&mut freed);
        freed
    }

    /// The first offset appended at or after `time_ms`, as far as chunks and blocks
    /// tell; the end when there is none. The block that may hold it, when the answer
    /// lies in a segment.
    pub(crate) fn offset_at(&self, time_ms: u64) -> u64 {
        for segment in &self.segments {
            let found = segment.blocks.iter().find(|block| block.time_max_ms >= time_ms);
            if let Some(block) = found {
                return block.base.max(self.start);
            }
        }
        let at = self.chunks.partition_point(|chunk| chunk.time_max_ms < time_ms);
        self.chunks.get(at).map_or(self.end, |chunk| chunk.base.max(self.start))
    }
}

/// Bytes of rows `first..last`: exact while the body is in memory.
fn bytes_of(chunk: &Chunk, first: usize, last: usize) -> u64 {
    match &chunk.body {
        Body::Memory(batch, _) => (batch.start(last) - batch.start(first)) as u64,
        _ => chunk.bytes * (last - first) as u64 / u64::from(chunk.live.max(1)),
    }
}

#[cfg(test)]
mod tests;
