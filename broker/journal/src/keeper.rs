//! The keeper: files what outlives the journal, makes checkpoints, frees journal
//! files and segments, writes sparse segments again, scrubs, and watches free space.
//!
//! A thread of its own in production, stepped by hand in tests. Stores answer its
//! asks when they commit; it touches nothing of theirs. Invariants: a journal file is
//! given back only when two checkpoints no longer need it; a segment is deleted only
//! when a checkpoint without it is in place, and a file that another revision stands
//! for when two are; a checkpoint holds only what is synced.

mod bodies;
pub(crate) mod checkpoint;
mod filing;
mod gone;
mod loaded;
mod policy;
mod rewrite;
mod round;
mod scrub;
mod space;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use weir_core::command::Level;
use weir_core::store::StoreError;
use weir_message::Batch;

use crate::files::File;
use crate::format::{CheckpointContent, LogState, SegmentState};
use crate::segment::{Handles, Segment, SegmentDamage};

pub(crate) use policy::KeeperPolicy;
pub(crate) use round::{Keeper, KeeperStart};

/// What the keeper asks of a store; drained by the store's commit, in order.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Tell what lives in journal files up to `through` and is in no segment.
    Collect { round: u64, through: u64 },
    /// This is in segments now, or in another revision of them.
    Filed { logs: Vec<FiledLog> },
    /// Tell the state of all logs, as a checkpoint is to keep it.
    Capture { round: u64 },
}

/// What was filed of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FiledLog {
    pub(crate) log: u64,
    /// New segments, the active one with its new blocks only (same base), and those
    /// that were written again (same base, next revision).
    pub(crate) segments: Vec<Segment>,
    /// Offsets below this are filed.
    pub(crate) through: u64,
}

/// What stores and the writer tell the keeper.
#[derive(Debug)]
pub(crate) enum Told {
    /// The answer to [`Ask::Collect`].
    Collected { store: usize, round: u64, logs: Vec<Collected> },
    /// The answer to [`Ask::Capture`]: the state as of `position`, which is that of
    /// the commit that handed it over.
    Captured { store: usize, round: u64, position: u64, logs: Vec<(LogState, Vec<SegmentState>)> },
    /// The writer went on to the next journal file; this one will not change.
    Sealed { sequence: u64 },
    /// These segments, by base, hold nothing any more once `position` is synced. They
    /// are deleted behind a checkpoint that does not name them.
    Trimmed { log: u64, segments: Vec<u64>, position: u64 },
    /// The log is no more once `position` is synced.
    Removed { log: u64, position: u64 },
    /// A publish was refused: the room that was seen last is used up.
    Short,
    /// Stop; a round under way is left as it is.
    Stop,
}

/// What of one log is to be filed.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub(crate) log: u64,
    /// The segment to go on with.
    pub(crate) active: Option<Segment>,
    /// In the order of their offsets.
    pub(crate) chunks: Vec<CollectedChunk>,
}

/// Neighbouring records to file.
#[derive(Clone, Debug)]
pub(crate) struct CollectedChunk {
    pub(crate) base: u64,
    pub(crate) count: u32,
    /// Bytes of those that are not released, about.
    pub(crate) bytes: u64,
    pub(crate) time_ms: u64,
    pub(crate) due_ms: u64,
    pub(crate) level: Level,
    pub(crate) body: CollectedBody,
    /// Stretches inside it that need not be kept: from, one past the last; rising.
    pub(crate) released: Vec<(u64, u64)>,
}

/// Where the records of a chunk are.
#[derive(Clone, Debug)]
pub(crate) enum CollectedBody {
    /// All of them, in memory.
    Memory(Batch),
    /// In the block at byte `at` of this journal file, in the append that holds
    /// the chunk's base.
    Journal { sequence: u64, at: u32 },
}

/// Something worth a line in the log or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeeperEvent {
    /// A round has filed what was alive.
    Filed { round: u64, through: u64, records: u64, bytes: u64 },
    /// A checkpoint is in place.
    Checkpoint { number: u64, replay_from: u64 },
    /// Damage was found: by the scrub, or on the way to something else.
    Damage(SegmentDamage),
    /// A sparse segment was written again with only what lives in it.
    Rewritten { log: u64, base: u64, bytes_before: u64, bytes_after: u64 },
    /// The scrub has read every sealed segment once.
    Scrubbed { segments: u64, bytes: u64 },
    /// Filing has to wait for space.
    NoSpace { what: String },
    /// A segment or a log's folder that holds nothing could not be deleted.
    NotDeleted { path: String, what: String },
}

/// The rest of the journal, as the keeper needs it.
pub(crate) trait Rest: Send + Sync {
    /// How many stores take asks.
    fn stores(&self) -> usize;

    /// Puts `ask` into the store's inbox and wakes its owner.
    fn ask(&self, store: usize, ask: Ask);

    /// What the keeper was told since the last call.
    fn take_told(&self) -> Vec<Told>;

    /// Forces a sync and waits until `position` is synced.
    ///
    /// # Errors
    /// [`StoreError::Fenced`]; [`StoreError::NoSpace`] while the writer has no room for
    /// a file to go on in: it is not waited for.
    fn sync_through(&self, position: u64) -> Result<(), StoreError>;

    /// A journal file that is still there.
    fn journal_file(&self, sequence: u64) -> Option<Arc<dyn File>>;

    /// As [`Ask::Collect`], for the logs that no store has opened yet. Called before
    /// the stores are asked, so that a log opened meanwhile is not missed.
    fn collect_unopened(&self, through: u64) -> Vec<Collected>;

    /// As [`Ask::Filed`], for those logs that are still not opened. All stores are
    /// told after it.
    fn filed_unopened(&self, logs: &[FiledLog]);

    /// As [`Ask::Capture`], for the logs that no store has opened yet. Called before
    /// the stores are asked.
    fn capture_unopened(&self) -> Vec<(LogState, Vec<SegmentState>)>;

    /// As [`CheckpointContent::covered`], of a checkpoint whose logs are captured after it.
    fn covered_block(&self) -> u64;

    /// All that a checkpoint holds but for logs. Called after `sync_through`.
    fn capture_rest(&self, replay_from: u64) -> CheckpointContent;

    /// The journal file is free: the writer may use it again.
    fn recycle(&self, sequence: u64);

    /// Removes a file prepared for the writer, but for so many, to make room for what
    /// frees more. Whether there was one.
    fn give_up_spare(&self, _kept: usize) -> bool {
        false
    }

    /// Whether there is no room for a file that the writer could go on in.
    fn lacks_spare(&self) -> bool {
        false
    }

    /// Whether publishes are to be refused for want of space.
    fn set_no_space(&self, on: bool);

    /// So many bytes may be taken before little is left.
    fn note_room(&self, _bytes: u64) {}

    /// Stops the journal for good.
    fn fence(&self, why: String);

    /// Takes note of something.
    fn report(&self, event: KeeperEvent);

    /// Open files of segments, shared with the readers.
    fn handles(&self) -> &Mutex<Handles>;
}

/// What a step of the keeper came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// There may be more to do at once.
    No,
    /// Nothing to do before something is told, or before that many ms have passed.
    For(u64),
    /// It was told to stop.
    Stopped,
}

/// Why the keeper ended. The journal is fenced by then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) String);
