//! How long one call may take.
//!
//! The engine's epoch counts wall time. On a crowded machine a thread that was
//! not running would be blamed for the wait, so at half the budget the clock of
//! the thread itself is read, and the second half is measured by it: a loop is
//! stopped at its budget, a descheduled call is given what it did not get.

use std::time::Duration;

use wasmtime::UpdateDeadline;

/// A call is stopped at this many times its budget, whatever it was waiting for.
const WALL_FACTOR: u64 = 10;
/// The system brings a thread's time up to date at its own tick only, ns.
const THREAD_TIME_SLACK_NS: u64 = 4_000_000;
const TICK_NS: u64 = crate::limits::TICK.as_nanos() as u64;

/// The deadline of the call that is running.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    /// Half the budget, ticks of the epoch.
    half: u64,
    /// The thread's own time when the first half was over, ns.
    half_time_ns: Option<u64>,
    past_half: bool,
    /// Ticks given so far.
    given: u64,
}

/// The budget is used up. Turned into a sentence by the caller.
#[derive(Debug, thiserror::Error)]
#[error("ran past its budget")]
pub(crate) struct PastDeadline;

impl Deadline {
    /// A new call begins. Returns the ticks until [`Deadline::reached`] is asked.
    pub(crate) fn start(&mut self, budget_ms: u32) -> u64 {
        let budget = Duration::from_millis(u64::from(budget_ms.max(1))).as_nanos() as u64;
        self.half = (budget / TICK_NS).div_ceil(2).max(1);
        self.past_half = false;
        self.half_time_ns = None;
        // The tick that is running already counts as none.
        self.given = self.half + 1;
        self.given
    }

    /// The engine reached the deadline: more time, or the end.
    pub(crate) fn reached(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.judge(thread_time_ns())
    }

    fn judge(&mut self, time_ns: Option<u64>) -> wasmtime::Result<UpdateDeadline> {
        if !self.past_half {
            self.past_half = true;
            self.half_time_ns = time_ns;
            return Ok(self.give(self.half));
        }
        let (Some(half_ns), Some(time_ns)) = (self.half_time_ns, time_ns) else {
            return Err(PastDeadline.into());
        };
        let used_ns = time_ns.saturating_sub(half_ns) + THREAD_TIME_SLACK_NS;
        let budget_ns = self.half * TICK_NS;
        if used_ns >= budget_ns || self.given >= 2 * self.half * WALL_FACTOR {
            return Err(PastDeadline.into());
        }
        Ok(self.give(((budget_ns - used_ns) / TICK_NS).max(1)))
    }

    fn give(&mut self, ticks: u64) -> UpdateDeadline {
        self.given += ticks;
        UpdateDeadline::Continue(ticks)
    }
}

/// Time this thread has run, ns; `None` where the system does not tell.
fn thread_time_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ticks(update: wasmtime::Result<UpdateDeadline>) -> Option<u64> {
        match update {
            Ok(UpdateDeadline::Continue(ticks)) => Some(ticks),
            _ => None,
        }
    }

    #[test]
    fn a_loop_ends_at_its_budget() {
        let mut deadline = Deadline::default();
        assert_eq!(deadline.start(20), 11);
        assert_eq!(ticks(deadline.judge(Some(100 * MS))), Some(10));
        assert_eq!(ticks(deadline.judge(Some(110 * MS))), None);
    }

    #[test]
    fn a_descheduled_call_gets_the_rest_but_not_for_ever() {
        let mut deadline = Deadline::default();
        deadline.start(20);
        deadline.judge(Some(100 * MS)).expect("half");
        assert_eq!(ticks(deadline.judge(Some(101 * MS))), Some(5));
        let rounds = (0..1_000).take_while(|_| deadline.judge(Some(101 * MS)).is_ok()).count();
        assert!((10..100).contains(&rounds), "{rounds}");
    }

    #[test]
    fn without_thread_times_the_wall_counts() {
        let mut deadline = Deadline::default();
        deadline.start(20);
        assert_eq!(ticks(deadline.judge(None)), Some(10));
        assert_eq!(ticks(deadline.judge(None)), None);
    }
}
