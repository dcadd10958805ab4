//! Sets of offsets as stretches: what of a log is settled. Stretches do not touch.

use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

/// Stretches in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start to end.
    stretches: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `from..to`. Returns the parts of it that were not in the set, in any order.
    pub(crate) fn insert(&mut self, from: u64, to: u64) -> SmallVec<[Range<u64>; 1]> {
        let mut fresh = SmallVec::new();
        if from >= to {
            return fresh;
        }
        // What lies behind `missing` is there; stretches are looked at from behind, so
        // that the usual one, which the new one continues, is found at once.
        let (mut missing, mut end) = (to, to);
        while let Some((&first, last)) = self.stretches.range_mut(..=to).next_back()
            && *last >= from
        {
            if *last < missing {
                fresh.push((*last).max(from)..missing);
            }
            missing = first;
            end = end.max(*last);
            if first <= from {
                *last = end;
                return fresh;
            }
            self.stretches.remove(&first);
        }
        fresh.push(from..missing);
        self.stretches.insert(from, end);
        fresh
    }

    /// The first stretch that ends behind `from`; it may begin before.
    pub(crate) fn next(&self, from: u64) -> Option<Range<u64>> {
        let before = self.stretches.range(..=from).next_back();
        if let Some((&start, &end)) = before.filter(|&(_, &end)| end > from) {
            return Some(start..end);
        }
        let after = self.stretches.range(from..).next();
        after.map(|(&start, &end)| start..end)
    }

    /// End of the stretch that holds `offset`.
    pub(crate) fn end_of(&self, offset: u64) -> Option<u64> {
        self.next(offset).filter(|stretch| stretch.start <= offset).map(|stretch| stretch.end)
    }

    /// Forgets everything below `to`.
    pub(crate) fn cut(&mut self, to: u64) {
        while let Some((&start, &end)) = self.stretches.first_key_value() {
            if start >= to {
                return;
            }
            self.stretches.remove(&start);
            if end > to {
                self.stretches.insert(to, end);
            }
        }
    }

    /// What of it lies neither in `others` nor below `floor`.
    pub(crate) fn minus(&self, others: &Self, floor: u64) -> Self {
        self.iter().flat_map(|(from, to)| others.gaps(from.max(floor), to)).collect()
    }

    /// What of `from..to` lies in none of the stretches.
    pub(crate) fn gaps(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = from;
        while at < to {
            let stretch = self.next(at).filter(|stretch| stretch.start < to);
            let end = stretch.as_ref().map_or(to, |stretch| stretch.start);
            if end > at {
                gaps.push((at, end));
            }
            at = stretch.map_or(to, |stretch| stretch.end);
        }
        gaps
    }

    pub(crate) fn clear(&mut self) {
        self.stretches.clear();
    }

    /// One past the last offset there is, 0 for none.
    pub(crate) fn end(&self) -> u64 {
        self.stretches.last_key_value().map_or(0, |(_, &to)| to)
    }

    /// Number of stretches.
    pub(crate) fn len(&self) -> usize {
        self.stretches.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.stretches.iter().map(|(&start, &end)| (start, end))
    }

    /// Those parts of the stretches that lie in `from..to`.
    pub(crate) fn within(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut at = from;
        while let Some(stretch) = self.next(at).filter(|stretch| stretch.start < to) {
            found.push((stretch.start.max(from), stretch.end.min(to)));
            at = stretch.end;
            if at >= to {
                break;
            }
        }
        found
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(stretches: I) -> Self {
        let mut ranges = Self::default();
        stretches.into_iter().for_each(|(from, to)| drop(ranges.insert(from, to)));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A few hundred random operations against a plain set.
    #[test]
    fn agrees_with_a_plain_set() {
        for seed in 0..200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = |bound: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % bound
            };
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for _ in 0..60 {
                let from = next(100);
                let to = from + next(12);
                let mut fresh: Vec<u64> = ranges.insert(from, to).into_iter().flatten().collect();
                fresh.sort_unstable();
                let expected: Vec<u64> =
                    (from..to).filter(|&offset| plain.insert(offset)).collect();
                assert_eq!(fresh, expected, "seed {seed}");
                if next(8) == 0 {
                    let cut = next(60);
                    ranges.cut(cut);
                    plain.retain(|&offset| offset >= cut);
                }
                let all: Vec<u64> = ranges.iter().flat_map(|(from, to)| from..to).collect();
                assert!(all.iter().eq(&plain), "seed {seed}");
                let probe = next(120);
                let end = ranges.end_of(probe);
                let expected = plain
                    .contains(&probe)
                    .then(|| (probe..).find(|offset| !plain.contains(offset)).expect("an end"));
                assert_eq!(end, expected, "seed {seed}");
                let within: Vec<u64> =
                    ranges.within(20, 50).into_iter().flat_map(|(from, to)| from..to).collect();
                assert!(within.iter().eq(plain.range(20..50)), "seed {seed}");
                let others: Ranges = [(10, 30), (40, 45)].into_iter().collect();
                let left = ranges.minus(&others, 7);
                let left: Vec<u64> = left.iter().flat_map(|(from, to)| from..to).collect();
                let expected = plain.iter().copied().filter(|offset| {
                    *offset >= 7 && !(10..30).contains(offset) && !(40..45).contains(offset)
                });
                assert!(left.iter().copied().eq(expected), "seed {seed}");
                let stretches: Vec<_> = ranges.iter().collect();
                assert!(stretches.windows(2).all(|two| two[0].1 < two[1].0), "seed {seed}");
            }
        }
    }
}
