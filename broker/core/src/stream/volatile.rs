//! Which messages of a log are kept in memory only: a crash loses them, and so they
//! must not take the place of messages that it would leave.
//!
//! Owned by `Stream`, one per partition. What an earlier process left is none of them.
//! Invariant: a message is taken for volatile, or for safe, only if it is.

use std::collections::VecDeque;
use std::ops::Range;

use crate::limits;

/// How much a message may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It outlives the process.
    Safely,
    /// It does not.
    InMemory,
    /// One of the two.
    Unknown,
}

#[derive(Debug)]
struct Stretch {
    range: Range<u64>,
    /// Others lie among them.
    mixed: bool,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Volatile {
    stretches: VecDeque<Stretch>,
}

impl Volatile {
    /// The log has taken `range`, at its end, in memory only.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        let full = self.stretches.len() >= limits::VOLATILE_STRETCHES_MAX;
        match self.stretches.back_mut() {
            Some(last) if last.range.end == range.start => last.range.end = range.end,
            Some(last) if full => {
                last.mixed = true;
                last.range.end = range.end;
            }
            _ => self.stretches.push_back(Stretch { range, mixed: false }),
        }
    }

    /// The log begins at `start` now.
    pub(crate) fn trim(&mut self, start: u64) {
        while self.stretches.front().is_some_and(|first| first.range.end <= start) {
            self.stretches.pop_front();
        }
    }

    /// How the message at `offset` is kept.
    pub(crate) fn kept(&self, offset: u64) -> Kept {
        match self.stretch(offset) {
            None => Kept::Safely,
            Some(stretch) if stretch.mixed => Kept::Unknown,
            Some(_) => Kept::InMemory,
        }
    }

    /// Whether everything in `range` is in memory only.
    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        let holds = |stretch: &Stretch| !stretch.mixed && stretch.range.end >= range.end;
        self.stretch(range.start).is_some_and(holds)
    }

    fn stretch(&self, offset: u64) -> Option<&Stretch> {
        let at = self.stretches.partition_point(|stretch| stretch.range.end <= offset);
        self.stretches.get(at).filter(|stretch| stretch.range.start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_told_apart_is_unknown() {
        let mut volatile = Volatile::default();
        volatile.add(2..4);
        volatile.add(4..6);
        volatile.add(8..9);
        let kept = |volatile: &Volatile, offset| volatile.kept(offset);
        assert_eq!(kept(&volatile, 1), Kept::Safely);
        assert_eq!(kept(&volatile, 5), Kept::InMemory);
        assert_eq!(kept(&volatile, 7), Kept::Safely);
        assert!(volatile.covers(&(2..6)) && !volatile.covers(&(1..6)) && !volatile.covers(&(2..9)));
        let many = limits::VOLATILE_STRETCHES_MAX as u64 + 5;
        (5..many).for_each(|k| volatile.add(2 * k..2 * k + 1));
        assert!(volatile.stretches.len() <= limits::VOLATILE_STRETCHES_MAX);
        assert_eq!(kept(&volatile, 10), Kept::InMemory);
        assert_eq!(kept(&volatile, 2 * many - 3), Kept::Unknown);
        assert!(!volatile.covers(&(2 * many - 3..2 * many - 2)));
        volatile.trim(9);
        assert_eq!(volatile.stretches.front().map(|first| first.range.start), Some(10));
    }
}
