//! Sparse segments: sealed ones of which little is still alive are written again with
//! only that, under their next revision.
//!
//! Called by the keeper while no round is under way, a little at a time. What lives
//! is taken from a checkpoint that is in place, so nothing is left out that a crash
//! could bring back; what is settled later is copied and stays settled. Invariants:
//! the old file is read and never changed; the new one has its name only when all of
//! it is synced, and counts for nothing until a checkpoint names it; a segment with
//! damage is left alone.

mod choice;

use std::collections::VecDeque;
use std::sync::Arc;

use super::KeeperEvent;
use super::filing::Unfiled;
use super::gone::Gone;
use super::policy::KeeperPolicy;
use crate::files::{File, Files};
use crate::format::{CheckpointContent, SegmentState};
use crate::limits;
use crate::read::{rows_within, slice};
use crate::segment::{
    self, BlockIndex, Indexed, Piece, Segment, SegmentDamage, SegmentWriter, Sizes,
};
use choice::{Choice, Sparse};

/// Shortest pause between two goes, ms.
const PAUSE_MS: u64 = 50;
/// Longest until it is looked at again, ms.
const LOOK_MS_MAX: u64 = 1_000;

/// One that is being written again.
struct Copying {
    from: Sparse,
    file: Arc<dyn File>,
    blocks: Vec<BlockIndex>,
    /// Next block.
    at: usize,
    writer: SegmentWriter,
}

/// A segment that was written again.
pub(super) struct Rewritten {
    pub(super) old: SegmentState,
    /// What stands for it.
    pub(super) new: Segment,
}

/// What a step came to.
pub(super) enum Step {
    /// Nothing to do before so many ms have passed.
    Wait(u64),
    /// The stores are to be told.
    Done(Rewritten),
}

/// What copying came to when it ended early.
enum Ended {
    /// The old file is not as written.
    Damage(SegmentDamage),
    Unfiled(Unfiled),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Unfiled(error.into())
    }
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Rewrite {
    /// The one that wins most is the first.
    sparse: VecDeque<Sparse>,
    now: Option<Copying>,
    choice: Choice,
    /// Bytes that may be read and written now; below 0 after a long block.
    allowance: i64,
    counted_ms: Option<u64>,
}

impl Rewrite {
    /// Chooses among the segments of a checkpoint that is in place. Those that `gone`
    /// has are about to go anyway.
    pub(super) fn choose(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        sizes: Sizes,
        content: &CheckpointContent,
        gone: &Gone,
    ) {
        let now = self.now.as_ref().map(|now| now.from.state);
        if now.is_some_and(|now| !content.segments.contains(&now)) {
            self.give_up(files);
        }
        let is_out = |state: &SegmentState| Some(*state) == now || gone.has(state.log, state.base);
        self.sparse = self.choice.choose(files, store_id, sizes, content, &is_out);
    }

    /// Forgets a segment, or all of a log: they are about to be deleted.
    pub(super) fn forget(&mut self, files: &dyn Files, log: u64, base: Option<u64>) {
        let is_it =
            |state: &SegmentState| state.log == log && base.is_none_or(|base| base == state.base);
        self.sparse.retain(|one| !is_it(&one.state));
        if self.now.as_ref().is_some_and(|now| is_it(&now.from.state)) {
            self.give_up(files);
        }
    }

    /// Leaves all for the next checkpoint to choose anew.
    pub(super) fn rest(&mut self, files: &dyn Files) {
        self.sparse.clear();
        self.give_up(files);
    }

    /// Ends what is being written without a trace.
    fn give_up(&mut self, files: &dyn Files) {
        if let Some(now) = self.now.take() {
            // What stays costs space until the next start.
            let _ = now.writer.discard(files);
        }
    }

    /// Reads and writes what may be by now.
    ///
    /// # Errors
    /// [`Unfiled`]; what was being written is given up.
    pub(super) fn step(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        policy: &KeeperPolicy,
        (now_ms, wall_ms): (u64, u64),
        report: &dyn Fn(KeeperEvent),
    ) -> Result<Step, Unfiled> {
        let rate = policy.rewrite_bytes_per_second;
        if rate == 0 || self.now.is_none() && self.sparse.is_empty() {
            return Ok(Step::Wait(LOOK_MS_MAX));
        }
        let passed_ms =
            self.counted_ms.replace(now_ms).map_or(u64::MAX, |ms| now_ms.saturating_sub(ms));
        let saved = (u128::from(rate) * u128::from(passed_ms) / 1_000).min(i64::MAX as u128 / 2);
        let most = limits::REWRITE_STEP_BYTES.min(rate) as i64;
        self.allowance = (self.allowance + saved as i64).min(most);
        while self.allowance > 0 {
            match self.go_on(files, store_id, policy, wall_ms) {
                Ok(Some(done)) => return Ok(Step::Done(done)),
                Ok(None) if self.now.is_none() && self.sparse.is_empty() => break,
                Ok(None) => {}
                Err(Ended::Damage(damage)) => {
                    self.leave(files);
                    report(KeeperEvent::Damage(damage));
                }
                Err(Ended::Unfiled(unfiled)) => {
                    self.give_up(files);
                    return Err(unfiled);
                }
            }
        }
        let wait_ms = self.allowance.min(0).unsigned_abs() * 1_000 / rate;
        Ok(Step::Wait(wait_ms.clamp(PAUSE_MS, LOOK_MS_MAX)))
    }

    /// Gives up the one that is being written, for good.
    fn leave(&mut self, files: &dyn Files) {
        if let Some(now) = &self.now {
            self.choice.leave(&now.from.state);
        }
        self.give_up(files);
    }

    /// The next block of the one that is being written, or its end, or the next one.
    fn go_on(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        policy: &KeeperPolicy,
        wall_ms: u64,
    ) -> Result<Option<Rewritten>, Ended> {
        let Some(now) = &mut self.now else {
            let Some(from) = self.sparse.pop_front() else { return Ok(None) };
            let state = from.state;
            match Copying::begin(files, store_id, policy.sizes, wall_ms, from) {
                Ok(copying) => self.now = Some(copying),
                Err(ended) => {
                    if matches!(ended, Ended::Damage(_)) {
                        self.choice.leave(&state);
                    }
                    return Err(ended);
                }
            }
            return Ok(None);
        };
        if now.at < now.blocks.len() {
            let bytes = now.copy_block(store_id, policy.sizes)?;
            self.allowance -= i64::try_from(bytes).unwrap_or(i64::MAX);
            return Ok(None);
        }
        if now.writer.is_empty() {
            // All that was taken for alive was never there.
            self.leave(files);
            return Ok(None);
        }
        now.writer.seal()?;
        let new = now.writer.finish(files)?;
        let old = now.from.state;
        self.now = None;
        files.sync_folder(&segment::folder(old.log))?;
        Ok(Some(Rewritten { old, new }))
    }
}

impl Copying {
    /// Opens the old file and begins the new one.
    fn begin(
        files: &dyn Files,
        store_id: u128,
        sizes: Sizes,
        wall_ms: u64,
        from: Sparse,
    ) -> Result<Self, Ended> {
        let state = from.state;
        let failed = |error: std::io::Error| {
            let offsets = (state.base, state.end);
            Ended::Damage(damage_of(&state, offsets, 0..state.len, error.to_string()))
        };
        let Indexed { segment, mut damage } =
            segment::open_index(files, store_id, &state, true).map_err(failed)?;
        if let Some(damage) = damage.pop() {
            return Err(Ended::Damage(damage));
        }
        let path = segment::path(state.log, state.base, state.revision);
        let file = files.open(&path).map_err(failed)?;
        let next = (state.base, state.revision + 1);
        let writer = SegmentWriter::create(files, store_id, state.log, next, wall_ms, sizes)?;
        Ok(Self { from, file, blocks: segment.blocks, at: 0, writer })
    }

    /// Copies what lives in the next block. Returns how many bytes were read and
    /// written.
    fn copy_block(&mut self, store_id: u128, sizes: Sizes) -> Result<u64, Ended> {
        let block = &self.blocks[self.at];
        self.at += 1;
        if self.from.released.gaps(block.base, block.end).is_empty() {
            return Ok(0);
        }
        let state = self.from.state;
        let identity = segment::identity(store_id, state.base, state.revision);
        let pieces = segment::read_pieces(&*self.file, identity, state.log, block);
        let pieces = pieces.map_err(|what| {
            let bytes = u64::from(block.at)..u64::from(block.at) + u64::from(block.len);
            Ended::Damage(damage_of(&state, (block.base, block.end), bytes, what))
        })?;
        let (len, before) = (u64::from(block.len), self.writer.bytes());
        for piece in &pieces {
            let end = piece.base + piece.batch.len() as u64;
            for (from, to) in self.from.released.gaps(piece.base, end) {
                push(&mut self.writer, sizes, piece, from, to)?;
            }
        }
        Ok(len + self.writer.bytes().saturating_sub(before))
    }
}

/// Adds records `from..to` of `piece`, in entries that readers can take one by one.
fn push(
    writer: &mut SegmentWriter,
    sizes: Sizes,
    piece: &Piece,
    from: u64,
    to: u64,
) -> Result<(), Ended> {
    let (mut row, end) = ((from - piece.base) as usize, (to - piece.base) as usize);
    while row < end {
        let next = rows_within(&piece.batch, row, end, sizes.entry_bytes(), true);
        let part = slice(&piece.batch, row, next);
        writer.push(piece.level, piece.base + row as u64, piece.stamp, &part)?;
        row = next;
    }
    Ok(())
}

fn damage_of(
    state: &SegmentState,
    (from, to): (u64, u64),
    bytes: std::ops::Range<u64>,
    what: String,
) -> SegmentDamage {
    let path = segment::path(state.log, state.base, state.revision);
    SegmentDamage { log: state.log, from, to, path, bytes, what, costs_nothing: false }
}
