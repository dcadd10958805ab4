//! Which offsets are settled: everything below a floor, and stretches above it.
//!
//! Owned by a [`Log`](super::log::Log) that keeps no records. Invariant: the
//! stretches lie above the floor and do not touch each other or it.

use std::collections::BTreeMap;
use std::ops::Range;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Cursor {
    floor: u64,
    /// Start of each stretch, and one past its last offset.
    stretches: BTreeMap<u64, u64>,
}

impl Cursor {
    pub(super) fn new(floor: u64) -> Self {
        Self { floor, stretches: BTreeMap::new() }
    }

    /// First offset that may not be settled.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Everything below `to` is settled.
    pub(super) fn raise(&mut self, to: u64) {
        self.floor = self.floor.max(to);
        while let Some(first) = self.stretches.first_entry() {
            if *first.key() > self.floor {
                break;
            }
            self.floor = self.floor.max(first.remove());
        }
    }

    /// `from..to` is settled.
    pub(super) fn release(&mut self, from: u64, to: u64) {
        if from <= self.floor {
            return self.raise(to);
        }
        let (mut start, mut end) = (from, to);
        // Those that it touches or covers become part of it.
        while let Some((&other, &other_end)) = self.stretches.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            (start, end) = (start.min(other), end.max(other_end));
            self.stretches.remove(&other);
        }
        self.stretches.insert(start, end);
    }

    /// The first stretch that ends behind `from`.
    pub(super) fn settled(&self, from: u64) -> Option<Range<u64>> {
        if from < self.floor {
            return Some(0..self.floor);
        }
        let below = self.stretches.range(..=from).next_back();
        let found = below.filter(|&(_, &end)| end > from);
        let found = found.or_else(|| self.stretches.range(from..).next());
        found.map(|(&start, &end)| start..end)
    }
}
