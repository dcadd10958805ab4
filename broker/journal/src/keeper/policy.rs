//! What the keeper is told to be like.

use crate::segment::Sizes;

use crate::limits;

/// How the keeper behaves.
#[derive(Clone, Debug)]
pub(crate) struct KeeperPolicy {
    /// Sealed journal files that wait before the oldest are filed: what is settled
    /// meanwhile is never copied.
    pub(crate) kept_journal_files: usize,
    /// Beyond those, so many wait before a round files them.
    pub(crate) filed_at_once: usize,
    /// How large segments and their blocks get.
    pub(crate) sizes: Sizes,
    /// Publishes are refused below this many free bytes ...
    pub(crate) free_bytes_min: u64,
    /// ... or below this share of the disk, percent, whichever is more.
    pub(crate) free_percent_min: u64,
    /// How long filing waits after it ran out of space, ms.
    pub(crate) retry_ms: u64,
    /// How long a segment that holds nothing waits for the next round before a
    /// checkpoint is made to get rid of it, ms.
    pub(crate) gone_wait_ms: u64,
    /// Time in which the scrub reads every sealed byte once, ms; 0: it does not run.
    pub(crate) scrub_period_ms: u64,
    /// Most bytes the scrub reads in a second; a block may be longer.
    pub(crate) scrub_bytes_per_second: u64,
    /// Most bytes read and written in a second to write sparse segments again; 0:
    /// none is.
    pub(crate) rewrite_bytes_per_second: u64,
}

impl Default for KeeperPolicy {
    fn default() -> Self {
        Self {
            kept_journal_files: limits::KEPT_JOURNAL_FILES,
            filed_at_once: limits::FILED_AT_ONCE,
            sizes: Sizes { block_bytes: 256 << 10, segment_bytes: 64 << 20 },
            free_bytes_min: 1 << 30,
            free_percent_min: 5,
            retry_ms: 1_000,
            gone_wait_ms: 10_000,
            scrub_period_ms: 7 * 24 * 3_600_000,
            scrub_bytes_per_second: 8 << 20,
            rewrite_bytes_per_second: limits::REWRITE_BYTES_PER_SECOND,
        }
    }
}
