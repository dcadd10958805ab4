//! Which segments are sparse: what was written to them against what is still alive,
//! as a checkpoint knows it.
//!
//! Called when a checkpoint is in place. Invariant: a footer is read once per
//! segment, and only of one most of whose offsets are settled.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use crate::files::Files;
use crate::format::{CheckpointContent, FILE_HEAD_BYTES, LogState, SegmentState};
use crate::limits;
use crate::ranges::Ranges;
use crate::segment::{self, Sizes};

/// Log, base and revision of a segment.
type Key = (u64, u64, u8);

fn key(state: &SegmentState) -> Key {
    (state.log, state.base, state.revision)
}

/// What was written to a segment.
#[derive(Clone, Copy)]
struct Written {
    records: u64,
    /// Bytes of their messages.
    bytes: u64,
}

/// A segment that is to be written again.
pub(super) struct Sparse {
    pub(super) state: SegmentState,
    /// What of it is settled.
    pub(super) released: Ranges,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Choice {
    /// Of segments that were looked at before.
    written: HashMap<Key, Written>,
    /// Not to be written again: damaged, or there is nothing to win.
    left: HashSet<Key>,
}

impl Choice {
    /// That one is not to be chosen any more.
    pub(super) fn leave(&mut self, state: &SegmentState) {
        self.left.insert(key(state));
    }

    /// The sparse ones, but for those that are out; first the one that wins most.
    pub(super) fn choose(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        sizes: Sizes,
        content: &CheckpointContent,
        is_out: &dyn Fn(&SegmentState) -> bool,
    ) -> VecDeque<Sparse> {
        let there: HashSet<Key> = content.segments.iter().map(key).collect();
        self.written.retain(|key, _| there.contains(key));
        self.left.retain(|key| there.contains(key));
        let logs: HashMap<u64, &LogState> = content.logs.iter().map(|log| (log.log, log)).collect();
        let mut footers_left = limits::SPARSE_FOOTERS_MAX;
        let mut found = Vec::new();
        for state in content.segments.iter().filter(|state| state.is_sealed) {
            if state.revision == u8::MAX || self.left.contains(&key(state)) || is_out(state) {
                continue;
            }
            let log = logs.get(&state.log);
            let Some((live, released)) = log.and_then(|log| may_be_sparse(log, state)) else {
                continue;
            };
            let Some(written) = self.written(files, store_id, state, &mut footers_left) else {
                continue;
            };
            if let Some(won) = wins(state, written, live, released.len() as u64, sizes) {
                let released = released.into_iter().collect();
                found.push((won, Sparse { state: *state, released }));
            }
        }
        found.sort_by_key(|(won, one)| (Reverse(*won), key(&one.state)));
        let mut stretches = 0;
        let fits = |one: &Sparse| {
            stretches += one.released.len();
            stretches <= limits::SPARSE_STRETCHES_MAX || stretches == one.released.len()
        };
        let first = found.into_iter().map(|(_, one)| one).take(limits::SPARSE_CHOSEN_MAX);
        first.take_while(fits).collect()
    }

    /// What was written to the segment; `None` when that cannot be told, or not now.
    fn written(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        state: &SegmentState,
        footers_left: &mut usize,
    ) -> Option<Written> {
        if let Some(written) = self.written.get(&key(state)) {
            return Some(*written);
        }
        *footers_left = footers_left.checked_sub(1)?;
        let written = written_of(files, store_id, state);
        match written {
            Some(written) => drop(self.written.insert(key(state), written)),
            // The scrub tells what is wrong with it.
            None => self.leave(state),
        }
        written
    }
}

/// How many offsets of the segment are not settled, and the stretches that are; `None`
/// when that is most of them, none, or some are lost. There may be fewer records.
fn may_be_sparse(log: &LogState, state: &SegmentState) -> Option<(u64, Vec<(u64, u64)>)> {
    let is_lost = |&(from, to): &(u64, u64)| from < state.end && to > state.base;
    if log.damage.iter().any(is_lost) {
        return None;
    }
    let mut stretches = Vec::new();
    if log.start > state.base {
        stretches.push((state.base, log.start.min(state.end)));
    }
    let from = state.base.max(log.start);
    let first = log.released.partition_point(|&(_, end)| end <= from);
    let inside = log.released[first..].iter().take_while(|(start, _)| *start < state.end);
    let clipped = inside.map(|&(start, end)| (start.max(from), end.min(state.end)));
    let count = |stretches: &[(u64, u64)]| stretches.iter().map(|(a, b)| b - a).sum::<u64>();
    let all = state.end - state.base;
    let released = count(&stretches) + clipped.clone().map(|(a, b)| b - a).sum::<u64>();
    let live = all.saturating_sub(released);
    // No segment has more records than offsets.
    if live == 0 || live * 100 >= all * limits::SPARSE_PERCENT {
        return None;
    }
    stretches.extend(clipped);
    Some((live, stretches))
}

/// What the footer says was written; `None` when it is not as it was written.
fn written_of(files: &dyn Files, store_id: u128, state: &SegmentState) -> Option<Written> {
    let path = segment::path(state.log, state.base, state.revision);
    let footer = segment::footer_of(&*files.open(&path).ok()?, store_id, state)?;
    let mut written = Written { records: 0, bytes: 0 };
    for block in &footer.blocks {
        written.records += u64::from(block.live);
        written.bytes += u64::from(block.bytes);
    }
    Some(written)
}

/// Bytes that writing the segment again gives back, if that is worth it.
fn wins(
    state: &SegmentState,
    written: Written,
    live: u64,
    stretches: u64,
    sizes: Sizes,
) -> Option<u64> {
    let live = live.min(written.records);
    let messages =
        u128::from(written.bytes) * u128::from(live) / u128::from(written.records.max(1));
    // Between two stretches lies one entry at least.
    let entries = (stretches + 1).min(live) * limits::TABLE_ENTRY_BYTES as u64;
    let after = FILE_HEAD_BYTES as u64 + messages as u64 + 4 * live + entries;
    let won = state.len.checked_sub(after)?;
    let is_sparse = after * 100 < state.len * limits::SPARSE_PERCENT;
    (is_sparse && won >= sizes.segment_bytes / limits::SPARSE_WIN_SHARE).then_some(won)
}
