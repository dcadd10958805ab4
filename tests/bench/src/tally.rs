//! What one receiver saw: how many, which were missing or came twice, how late.
//!
//! Receivers of a fan-out see every number of a publisher in order, so a counter
//! per publisher is enough. Consumers of a queue share the numbers: they collect
//! them, and [`settle`] compares all of them with what was published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::stamp::{Layout, now};

/// Publishers a workload has at most.
const PUBLISHERS: usize = 16;

#[derive(Debug)]
enum Seen {
    /// Of each publisher, what was expected next and what was passed over.
    Ordered(Box<[Line; PUBLISHERS]>),
    /// Publisher and number of each message.
    Collected(Vec<u64>),
}

/// One publisher's numbers, as they arrive.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// Ranges that were passed over, and may still come.
    missing: Vec<(u64, u64)>,
}

impl Line {
    #[inline]
    fn see(&mut self, number: u64, faults: &mut Faults) {
        if number == self.next {
            self.next += 1;
            return;
        }
        faults.gaps += 1;
        if number > self.next {
            self.missing.push((self.next, number));
            self.next = number + 1;
            return;
        }
        let hole = self.missing.iter().position(|(from, to)| (*from..*to).contains(&number));
        let Some(hole) = hole else {
            faults.duplicates += 1;
            return;
        };
        faults.reordered += 1;
        let (from, to) = self.missing.swap_remove(hole);
        let rest = [(from, number), (number + 1, to)];
        self.missing.extend(rest.into_iter().filter(|(from, to)| from < to));
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Tally {
    layout: Layout,
    seen: Seen,
    latencies: Option<Histogram<u64>>,
    /// Latencies count only from here, nanoseconds on the clock of the process.
    counts_from: u64,
    count: u64,
    shown: Arc<AtomicU64>,
    /// What was wrong so far.
    pub(crate) faults: Faults,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Faults {
    /// Published and never received.
    pub(crate) lost: u64,
    /// Of those, messages that the broker told the receiver it had skipped.
    #[serde(default)]
    pub(crate) told: u64,
    /// Received behind a later one.
    #[serde(default)]
    pub(crate) reordered: u64,
    /// Received again.
    pub(crate) duplicates: u64,
    /// Places where the order had a hole or went back.
    pub(crate) gaps: u64,
    /// Payloads without a readable stamp.
    pub(crate) damaged: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.told += other.told;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.gaps += other.gaps;
        self.damaged += other.damaged;
    }
}

impl Tally {
    /// For a receiver of everything; `shown` is what the workload's clock reads.
    pub(crate) fn ordered(layout: Layout, shown: Arc<AtomicU64>) -> Self {
        Self {
            layout,
            seen: Seen::Ordered(Default::default()),
            latencies: None,
            counts_from: 0,
            count: 0,
            shown,
            faults: Faults::default(),
        }
    }

    /// For one of several consumers.
    pub(crate) fn collected(layout: Layout, shown: Arc<AtomicU64>) -> Self {
        Self { seen: Seen::Collected(Vec::new()), ..Self::ordered(layout, shown) }
    }

    /// Also notes how long each message took that was meant to leave from
    /// `counts_from` on.
    pub(crate) fn timed(mut self, counts_from: u64) -> Self {
        // 60 s at the most, to three digits.
        self.latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).ok();
        self.counts_from = counts_from;
        self
    }

    /// A message has arrived.
    #[inline]
    pub(crate) fn see(&mut self, payload: &[u8]) {
        self.count += 1;
        let Some(stamp) = self.layout.read(payload) else {
            self.faults.damaged += 1;
            return;
        };
        match &mut self.seen {
            Seen::Ordered(lines) => {
                let line = &mut lines[usize::from(stamp.publisher) % PUBLISHERS];
                line.see(stamp.number, &mut self.faults);
            }
            Seen::Collected(all) => all.push(u64::from(stamp.publisher) << 48 | stamp.number),
        }
        if let Some(latencies) = &mut self.latencies
            && stamp.intended >= self.counts_from
        {
            latencies.saturating_record(now().saturating_sub(stamp.intended).max(1));
        }
    }

    /// Lets the workload's clock read how many there were.
    pub(crate) fn show(&self) {
        self.shown.store(self.count, Ordering::Release);
    }

    /// Messages seen.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Messages seen, without those that are known to have come again: one of several
    /// consumers knows of none, see [`settle`].
    pub(crate) fn distinct(&self) -> u64 {
        self.count - self.faults.duplicates
    }

    /// What a receiver of all `expected` messages of its publishers missed.
    pub(crate) fn missed(&self, expected: u64) -> u64 {
        expected.saturating_sub(self.distinct())
    }

    /// The latencies, nanoseconds.
    pub(crate) fn latencies(&self) -> Option<&Histogram<u64>> {
        self.latencies.as_ref()
    }
}

/// What consumers that shared the messages of `published` (per publisher) missed
/// or got twice.
pub(crate) fn settle(tallies: &[Tally], published: &[u64]) -> Faults {
    let mut faults = Faults::default();
    let mut all = Vec::new();
    for tally in tallies {
        faults.add(tally.faults);
        if let Seen::Collected(seen) = &tally.seen {
            all.extend_from_slice(seen);
        }
    }
    let received = all.len() as u64;
    all.sort_unstable();
    all.dedup();
    faults.duplicates += received - all.len() as u64;
    faults.lost += published.iter().sum::<u64>().saturating_sub(all.len() as u64);
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::stamp::Batch;

    fn shown() -> Arc<AtomicU64> {
        Arc::default()
    }

    #[test]
    fn holes_and_repeats_are_counted() {
        let mut batch = Batch::new(Layout::Binary, 3, 8, 64);
        batch.renew(0);
        let payloads: Vec<&[u8]> = batch.payloads().collect();
        let mut tally = Tally::ordered(Layout::Binary, shown());
        for index in [0, 1, 4, 3, 4, 5] {
            tally.see(payloads[index]);
        }
        tally.see(b"short");
        let expected =
            Faults { reordered: 1, duplicates: 1, gaps: 3, damaged: 1, ..Faults::default() };
        assert_eq!(tally.faults, expected);
    }

    #[test]
    fn consumers_together_must_have_everything_once() {
        let mut batch = Batch::new(Layout::Binary, 1, 6, 64);
        batch.renew(0);
        let mut tallies =
            [Tally::collected(Layout::Binary, shown()), Tally::collected(Layout::Binary, shown())];
        for (index, payload) in batch.payloads().enumerate() {
            if index != 2 {
                tallies[index % 2].see(payload);
            }
        }
        tallies[0].see(batch.payloads().nth(1).unwrap());
        let faults = settle(&tallies, &[0, 6]);
        assert_eq!((faults.lost, faults.duplicates), (1, 1));
    }
}
