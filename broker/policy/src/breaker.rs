//! When a generation may be called, and when it has failed too often.
//!
//! A new generation is in probation: a few failing batches there and the loader
//! is told to go back to the last good one. Later, failures open the breaker:
//! for a while no call is made, and rows meet the failure rule at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::limits;

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Nothing yet.
    Tolerated,
    /// The probation is failed: go back.
    ProbationFailed,
    /// The breaker opened.
    Opened,
}

/// Whether calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// It was open, and no call has gone well since: the next one decides.
    HalfOpen,
    /// No calls are made; rows meet the failure rule at once.
    Open,
}

/// State of one generation of one binding.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// When the probation began, ms of the steady clock.
    started_ms: u64,
    batches: AtomicU64,
    /// The probation is over.
    settled: AtomicBool,
    /// It ended badly.
    condemned: AtomicBool,
    /// No calls before this moment; 0 when closed.
    open_until_ms: AtomicU64,
    /// It opened, and nothing has gone well since.
    tripped: AtomicBool,
    /// A batch was let in since it opened last. One that was let in earlier and
    /// goes well says nothing.
    retried: AtomicBool,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// Failing batches since the last long stretch of good work.
    count: u32,
    last_ms: u64,
    /// Length of the next opening, ms.
    back_off_ms: u64,
}

impl Breaker {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            started_ms: now_ms,
            batches: AtomicU64::new(0),
            settled: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            open_until_ms: AtomicU64::new(0),
            tripped: AtomicBool::new(false),
            retried: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// Whether a batch may be put before the policy now. An open breaker lets
    /// callers in again when its time is over; the next failure opens it longer.
    pub(crate) fn admits(&self, now_ms: u64) -> bool {
        let admits = !self.is_open(now_ms);
        if admits && self.tripped.load(Relaxed) {
            self.retried.store(true, Relaxed);
        }
        admits
    }

    /// Whether calls are kept away at the moment.
    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        now_ms < self.open_until_ms.load(Relaxed)
    }

    /// Whether it is open, or was and nothing has gone well since.
    pub(crate) fn is_failing(&self) -> bool {
        self.tripped.load(Relaxed)
    }

    /// How it stands now.
    pub(crate) fn state(&self, now_ms: u64) -> BreakerState {
        match (self.is_failing(), self.is_open(now_ms)) {
            (false, _) => BreakerState::Closed,
            (true, true) => BreakerState::Open,
            (true, false) => BreakerState::HalfOpen,
        }
    }

    /// Whether the generation is still on trial.
    pub(crate) fn in_probation(&self, now_ms: u64) -> bool {
        if self.settled.load(Relaxed) {
            return false;
        }
        let over = now_ms.saturating_sub(self.started_ms) >= limits::PROBATION_MS
            || self.batches.load(Relaxed) >= limits::PROBATION_BATCHES;
        if over {
            self.settled.store(true, Relaxed);
        }
        !over
    }

    /// Whether the trial is over and was passed.
    pub(crate) fn passed_probation(&self, now_ms: u64) -> bool {
        !self.in_probation(now_ms) && !self.condemned.load(Relaxed)
    }

    /// A batch was judged without a failure.
    pub(crate) fn succeeded(&self) {
        if !self.settled.load(Relaxed) {
            self.batches.fetch_add(1, Relaxed);
        }
        if self.tripped.load(Relaxed) && self.retried.load(Relaxed) {
            self.tripped.store(false, Relaxed);
        }
    }

    /// A batch failed, wholly or in part.
    pub(crate) fn failed(&self, now_ms: u64) -> Consequence {
        let probation = self.in_probation(now_ms);
        let mut failures = self.failures.lock().expect("no panic under this lock");
        // Let in before it opened: what it found is known by now.
        if now_ms < self.open_until_ms.load(Relaxed) {
            return Consequence::Tolerated;
        }
        if now_ms.saturating_sub(failures.last_ms) >= limits::BREAKER_RESET_MS {
            *failures = Failures::default();
        }
        failures.count += 1;
        // While the breaker was open nothing could go well: that time is no
        // good work.
        failures.last_ms = now_ms.max(self.open_until_ms.load(Relaxed));
        let enough = if probation { limits::PROBATION_FAILURES } else { limits::BREAKER_FAILURES };
        if failures.count < enough {
            return Consequence::Tolerated;
        }
        let back_off_ms =
            failures.back_off_ms.clamp(limits::BREAKER_FIRST_MS, limits::BREAKER_MAX_MS);
        failures.back_off_ms = (back_off_ms * 2).min(limits::BREAKER_MAX_MS);
        failures.last_ms = now_ms + back_off_ms;
        self.open_until_ms.store(now_ms + back_off_ms, Relaxed);
        self.retried.store(false, Relaxed);
        self.tripped.store(true, Relaxed);
        self.settled.store(true, Relaxed);
        if probation {
            self.condemned.store(true, Relaxed);
        }
        if probation { Consequence::ProbationFailed } else { Consequence::Opened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_probation_ends_it() {
        let breaker = Breaker::new(1_000);
        assert_eq!(breaker.failed(1_000), Consequence::Tolerated);
        assert_eq!(breaker.failed(1_001), Consequence::Tolerated);
        assert_eq!(breaker.failed(1_002), Consequence::ProbationFailed);
        assert!(!breaker.in_probation(1_003) && !breaker.admits(1_003));
    }

    #[test]
    fn probation_ends_by_time_or_by_batches() {
        let breaker = Breaker::new(0);
        assert!(breaker.in_probation(9_999) && !breaker.in_probation(10_000));
        let breaker = Breaker::new(0);
        (0..1_000).for_each(|_| breaker.succeeded());
        assert!(!breaker.in_probation(1));
    }

    #[test]
    fn batches_let_in_before_it_opened_do_not_open_it_longer() {
        let breaker = Breaker::new(0);
        let opened = (0..8).filter(|_| breaker.failed(20_000) == Consequence::Opened).count();
        assert_eq!(opened, 1);
        assert!(!breaker.admits(20_999) && breaker.admits(21_000));
    }

    #[test]
    fn it_is_closed_again_when_a_call_let_in_afterwards_goes_well() {
        let breaker = Breaker::new(0);
        let consequence = (0..3).map(|_| breaker.failed(20_000)).last();
        assert_eq!(consequence, Some(Consequence::Opened));
        assert_eq!(breaker.state(20_000), BreakerState::Open);
        breaker.succeeded();
        assert!(breaker.is_failing(), "that call was let in before");
        assert_eq!(breaker.state(21_000), BreakerState::HalfOpen);
        assert!(breaker.admits(21_000));
        breaker.succeeded();
        assert_eq!(breaker.state(21_000), BreakerState::Closed);
        // Not forgotten: the next failure opens it at once.
        assert_eq!(breaker.failed(21_001), Consequence::Opened);
        assert_eq!(breaker.state(21_001), BreakerState::Open);
    }

    #[test]
    fn later_failures_open_it_longer_and_longer_until_work_is_good() {
        let breaker = Breaker::new(0);
        let mut now_ms = 20_000;
        let mut lengths = Vec::new();
        for _ in 0..9 {
            if breaker.failed(now_ms) == Consequence::Opened {
                let closed = (now_ms..).find(|&ms| breaker.admits(ms)).expect("it closes");
                lengths.push(closed - now_ms);
                now_ms = closed;
            }
        }
        assert_eq!(lengths, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        now_ms += limits::BREAKER_RESET_MS;
        assert_eq!(breaker.failed(now_ms), Consequence::Tolerated, "good work is remembered");
    }
}
