//! What a log answers the keeper: what of it is to be filed, and what a checkpoint is to
//! keep of it.

use weir_core::command::Level;

use super::{Body, Chunk, Log, Place};
use crate::format::{LogState, SegmentState};
use crate::keeper::{Collected, CollectedBody, CollectedChunk};
use crate::segment::Segment;

impl Log {
    /// What of it lies in journal files up to `through` and is alive.
    pub(crate) fn collect(&self, through: u64) -> Option<Collected> {
        let inside = |chunk: &Chunk| {
            chunk.live > 0 && chunk.place().is_some_and(|place| place.sequence <= through)
        };
        // Offsets in segments lie before those in chunks: all before the last.
        let count = self.chunks.iter().rposition(inside)? + 1;
        let chunks = self.chunks.iter().take(count).filter(|chunk| chunk.live > 0);
        let chunks = chunks.filter_map(|chunk| self.collect_chunk(chunk)).collect();
        let active = self.segments.last().filter(|segment| !segment.sealed).cloned();
        Some(Collected { log: self.number, active, chunks })
    }

    fn collect_chunk(&self, chunk: &Chunk) -> Option<CollectedChunk> {
        let body = match &chunk.body {
            Body::Memory(batch, _) => CollectedBody::Memory(batch.clone()),
            &Body::Journal(Place { sequence, at }) => CollectedBody::Journal { sequence, at },
            Body::Gone => return None,
        };
        let mut released = self.released.within(chunk.base, chunk.end());
        if chunk.base < self.start {
            released.insert(0, (chunk.base, self.start.min(chunk.end())));
        }
        Some(CollectedChunk {
            base: chunk.base,
            count: chunk.count,
            bytes: chunk.bytes,
            time_ms: chunk.stamp.time_ms,
            due_ms: chunk.stamp.due_ms,
            level: chunk.level,
            body,
            released,
        })
    }

    /// One past the last record that the disk has, or has lost, and that is not settled.
    fn kept_end(&self) -> u64 {
        let is_kept = |chunk: &&Chunk| chunk.live > 0 && chunk.level > Level::Memory;
        let kept = self.chunks.iter().rev().find(is_kept).map_or(0, Chunk::end);
        kept.max(self.filed_end()).max(self.damage.end())
    }

    /// What a checkpoint keeps of it.
    pub(crate) fn capture(&self) -> (LogState, Vec<SegmentState>) {
        let segment = |segment: &Segment| SegmentState {
            log: self.number,
            base: segment.base,
            revision: segment.revision,
            end: segment.end,
            len: segment.len,
            is_sealed: segment.sealed,
        };
        let state = LogState {
            log: self.number,
            name: self.name.to_string(),
            start: self.start,
            end: self.end,
            kept_end: self.kept_end(),
            segments: self.segments.len() as u64,
            time_max_ms: self.time_max_ms,
            released: self.released.iter().collect(),
            damage: self.damage.iter().collect(),
        };
        (state, self.segments.iter().map(segment).collect())
    }
}
