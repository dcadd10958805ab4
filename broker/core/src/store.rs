//! Port one: what keeps records. Named, ordered logs; snapshots beside them; a
//! small key-value catalogue with compare-and-set; blobs by digest. It speaks of
//! records and positions, never of files.

use std::ops::Range;

use bytes::Bytes;
use weir_message::Batch;

use crate::command::Level;

/// An open log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u32);

/// What a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// First offset kept.
    pub start: u64,
    /// One past the last offset appended.
    pub end: u64,
    /// One past the last offset that is as safe as it was asked to be.
    pub stable: u64,
    /// Bytes kept.
    pub bytes: u64,
}

/// The times that are kept with an append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// When it was appended, ms since the epoch.
    pub time_ms: u64,
    /// Consumers do not see it before, ms since the epoch; 0: they see it at once.
    pub due_ms: u64,
}

/// Neighbouring records that were appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Offset of the first.
    pub offset: u64,
    /// When they were appended, ms since the epoch.
    pub time_ms: u64,
    /// Consumers do not see them before, ms since the epoch; 0: they see them at once.
    pub due_ms: u64,
    /// The records.
    pub batch: Batch,
}

/// Why the store could not do it. Anything but these ends the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The log's end is not where the caller thinks: another owner wrote.
    #[error("log moved on to {actual}, expected {expected}")]
    Moved {
        /// What the caller expected.
        expected: u64,
        /// Where the end is.
        actual: u64,
    },
    /// No room.
    #[error("no space left")]
    NoSpace,
    /// The catalogue entry has another revision.
    #[error("revision is {actual}, expected {expected}")]
    Conflict {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// Damaged bytes in this range.
    #[error("damaged from {from} to {to}")]
    Damaged {
        /// First offset.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// The store has stopped after a failed write or sync.
    #[error("the store has stopped: {0}")]
    Fenced(String),
}

/// What keeps a shard's records. One owner; calls do not wait for the disk:
/// they hand over, and [`Store::safe`] tells later how far it is done.
///
/// A log keeps records, or it is a cursor log: one that keeps none, only which
/// offsets of another log are settled. Both are settled with [`Store::release`]
/// and [`Store::trim`], and told apart by [`Store::reset`].
///
/// Everything handed over in one turn is kept together: after a crash there is
/// all of it or none, and nothing of what was handed over after what is missing.
pub trait Store: Send {
    /// The safest level this store can reach.
    fn level_max(&self) -> Level;

    /// Whether a log of that name exists.
    fn has(&self, name: &str) -> bool;

    /// Opens the log `name`, empty when it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    fn open(&mut self, name: &str) -> Result<LogId, StoreError>;

    /// Removes a log and what it holds.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&mut self, log: LogId) -> Result<(), StoreError>;

    /// Appends `batch` at `expected`, which must be the log's end.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was appended. A damaged log takes nothing.
    fn append(
        &mut self,
        log: LogId,
        expected: u64,
        stamp: Stamp,
        batch: Batch,
        level: Level,
    ) -> Result<(), StoreError>;

    /// What the log holds: it starts at the first offset that is not settled, a
    /// cursor log at the first that may not be.
    fn bounds(&self, log: LogId) -> Bounds;

    /// Appends to `into` the records from `from` on, `bytes_max` at most and up to
    /// the stable end: at least one record when there is one, and fewer than would
    /// fit where they would have to be read for that as part of many.
    /// Released records are skipped; the first may start after `from`. Stops
    /// before a damaged range.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the first record there would be is lost.
    fn read(
        &self,
        log: LogId,
        from: u64,
        bytes_max: usize,
        into: &mut Vec<Records>,
    ) -> Result<(), StoreError>;

    /// First offset appended at or after `time_ms`; the end when there is none.
    fn offset_at(&self, log: LogId, time_ms: u64) -> u64;

    /// Drops everything below `to`, for good.
    fn trim(&mut self, log: LogId, to: u64);

    /// Settles `from..to` for good: these records are not read again, after a
    /// restart neither. As safe as `level`; at [`Level::Memory`] it need not
    /// outlive the process.
    fn release(&mut self, log: LogId, from: u64, to: u64, level: Level);

    /// What was settled of the log so far is as safe as `level` with the next commit,
    /// whatever was asked for when it was.
    fn sync(&mut self, log: LogId, level: Level);

    /// Makes it a cursor log in which everything below `to` is settled and
    /// nothing above. As safe as the store can make it.
    fn reset(&mut self, log: LogId, to: u64);

    /// The first settled stretch that ends behind `from`; it may start below.
    /// What was trimmed counts as settled.
    fn settled(&self, log: LogId, from: u64) -> Option<Range<u64>>;

    /// First range of the log that is lost. As long as there is one, appends to
    /// the log are refused.
    fn damage(&self, log: LogId) -> Option<Range<u64>>;

    /// Whether more is on its way to the disk than should be: the owner takes no
    /// more work in, but ends its turns.
    fn is_congested(&self) -> bool {
        false
    }

    /// Whether what was handed over last waits for another store's turn, to be written with
    /// it: a turn must follow in a millisecond or two, in case the other takes longer.
    fn waits_for_another(&self) -> bool {
        false
    }

    /// Ends a turn: what was asked for goes to the journal as one batch.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Adds to `into` the logs whose stable end has moved since the last call, each
    /// once; some of them may be removed by now.
    fn take_moved(&mut self, into: &mut Vec<LogId>);

    /// Position of what the last commit handed over. It rises with every commit
    /// that hands something over.
    fn position(&self) -> u64;

    /// Position up to which everything is as safe as `level`, if it was asked to
    /// be; [`Store::position`] for [`Level::Memory`].
    fn safe(&self, level: Level) -> u64;

    /// Replaces the snapshot `name`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_snapshot(&mut self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// The last snapshot `name`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn snapshot(&self, name: &str) -> Result<Option<Bytes>, StoreError>;
}

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its value.
    pub value: Bytes,
    /// Changes with every write, rises over the whole catalogue.
    pub revision: u64,
}

/// The catalogue: small values by key, with compare-and-set, and blobs by digest.
pub trait Catalogue: Send {
    /// The entry at `key`.
    fn get(&self, key: &str) -> Option<Entry>;

    /// Writes `value` (`None` removes) when the entry's revision is `expected`
    /// (0: there is none). Returns the new revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    fn put(&mut self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, StoreError>;

    /// Keys under `prefix` with their entries, in order.
    fn list(&self, prefix: &str) -> Vec<(String, Entry)>;

    /// Keeps `bytes` under their digest (hex SHA-256, computed by the caller).
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_blob(&mut self, digest: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// The blob of that digest.
    fn blob(&self, digest: &str) -> Option<Bytes>;
}
