//! What one generation did. Every row that a publish or delivery put before a
//! binding is counted exactly once, in the generation whose answer was used, so
//! the sum over generations equals what went through.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one generation of one binding, shared by all its instances.
#[derive(Debug, Default)]
pub struct Counters {
    /// Guest calls in traffic.
    pub calls: AtomicU64,
    /// Rows judged: by a call, from memory, or by the failure rule.
    pub rows: AtomicU64,
    /// Rows of `rows` answered from memory.
    pub memo_hits: AtomicU64,
    /// Rows of `rows` that met the failure rule.
    pub failed_rows: AtomicU64,
    /// Rows the policy refused.
    pub refused_rows: AtomicU64,
    /// Rows the policy dropped.
    pub dropped_rows: AtomicU64,
    /// Rows the policy diverted.
    pub diverted_rows: AtomicU64,
    /// Rows whose answer needed a power that is not granted; part of `failed_rows`.
    pub denied_rows: AtomicU64,
    /// Calls that failed: trap, deadline, memory, malformed answer or an error.
    pub failures: AtomicU64,
    /// Calls of `failures` that ended their instance.
    pub traps: AtomicU64,
    /// kv writes that were refused for the quota.
    pub kv_refused: AtomicU64,
    /// Instances made, replacements included.
    pub instances: AtomicU64,
    /// Memory of the largest instance seen, bytes.
    pub memory_bytes: AtomicU64,
    last_failure: Mutex<Option<LastFailure>>,
}

/// The failure that was met last.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastFailure {
    /// When, ms since the Unix epoch.
    pub time_ms: u64,
    /// One sentence.
    pub reason: String,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs, reason = "the fields are those of `Counters`")]
pub struct CountersSnapshot {
    pub calls: u64,
    pub rows: u64,
    pub memo_hits: u64,
    pub failed_rows: u64,
    pub refused_rows: u64,
    pub dropped_rows: u64,
    pub diverted_rows: u64,
    pub denied_rows: u64,
    pub failures: u64,
    pub traps: u64,
    pub kv_refused: u64,
    pub instances: u64,
    pub memory_bytes: u64,
}

impl Counters {
    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        CountersSnapshot {
            calls: get(&self.calls),
            rows: get(&self.rows),
            memo_hits: get(&self.memo_hits),
            failed_rows: get(&self.failed_rows),
            refused_rows: get(&self.refused_rows),
            dropped_rows: get(&self.dropped_rows),
            diverted_rows: get(&self.diverted_rows),
            denied_rows: get(&self.denied_rows),
            failures: get(&self.failures),
            traps: get(&self.traps),
            kv_refused: get(&self.kv_refused),
            instances: get(&self.instances),
            memory_bytes: get(&self.memory_bytes),
        }
    }

    /// The failure met last: of a call, or of rows whose answer could not be used.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.lock().expect("no panic under this lock").clone()
    }

    /// Remembers a failure at `time_ms`, ms since the Unix epoch.
    pub(crate) fn note_failure(&self, time_ms: u64, reason: &str) {
        let failure = LastFailure { time_ms, reason: reason.to_owned() };
        *self.last_failure.lock().expect("no panic under this lock") = Some(failure);
    }

    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        if by > 0 {
            counter.fetch_add(by, Relaxed);
        }
    }
}
