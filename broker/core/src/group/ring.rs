//! Values numbered by rising positions, most of which live only briefly: the
//! facts of a group's messages by offset, and a consumer's deliveries by tag.
//!
//! Owned by `Group` and `Consumer`. Young values lie densely, so that finding
//! one is an index; the few that outlive their neighbours move to a tree, so
//! that one old value does not hold the room of all that came after it.
//! Invariant: the first dense place is taken, or there is none.

use std::collections::{BTreeMap, VecDeque};

/// Dense places that are never worth moving.
const DENSE_KEPT: usize = 1024;
/// Dense places per living value beyond which old values move to the tree.
const DENSE_SPREAD_MAX: usize = 8;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    base: u64,
    dense: VecDeque<Option<T>>,
    sparse: BTreeMap<u64, T>,
    live: usize,
}

impl<T> Ring<T> {
    /// Empty; the first value pushed gets the position `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self { base: start, dense: VecDeque::new(), sparse: BTreeMap::new(), live: 0 }
    }

    /// Position of the next value pushed.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.dense.len() as u64
    }

    /// Lowest position that still has a value; `next` when there is none.
    pub(crate) fn first(&self) -> u64 {
        self.sparse.first_key_value().map_or(self.base, |(&at, _)| at)
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Appends a value and returns its position.
    pub(crate) fn push(&mut self, value: T) -> u64 {
        let at = self.next();
        self.dense.push_back(Some(value));
        self.live += 1;
        at
    }

    /// Appends values.
    pub(crate) fn extend(&mut self, values: impl Iterator<Item = T>) {
        let before = self.dense.len();
        self.dense.extend(values.map(Some));
        self.live += self.dense.len() - before;
    }

    /// Leaves out the positions up to `at`; does nothing when `at` is behind.
    pub(crate) fn skip_to(&mut self, at: u64) {
        if at <= self.next() {
            return;
        }
        if self.dense.len() + (at - self.next()) as usize > DENSE_KEPT {
            self.make_sparse(0);
        }
        if self.dense.is_empty() {
            self.base = at;
        }
        while self.next() < at {
            self.dense.push_back(None);
        }
    }

    /// The value at `at`.
    pub(crate) fn get(&self, at: u64) -> Option<&T> {
        if at < self.base {
            return self.sparse.get(&at);
        }
        self.dense.get((at - self.base) as usize)?.as_ref()
    }

    /// The value at `at`.
    pub(crate) fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        if at < self.base {
            return self.sparse.get_mut(&at);
        }
        self.dense.get_mut((at - self.base) as usize)?.as_mut()
    }

    /// The value at `at` and those right behind it, up to the first gap; of the old
    /// ones that one alone.
    pub(crate) fn run_mut(&mut self, at: u64) -> impl Iterator<Item = &mut T> {
        let (old, from) = if at < self.base {
            (self.sparse.get_mut(&at), self.dense.len())
        } else {
            (None, ((at - self.base) as usize).min(self.dense.len()))
        };
        old.into_iter().chain(self.dense.range_mut(from..).map_while(Option::as_mut))
    }

    /// Takes the value at `at` out.
    pub(crate) fn remove(&mut self, at: u64) -> Option<T> {
        let value = if at < self.base {
            self.sparse.remove(&at)?
        } else {
            self.dense.get_mut((at - self.base) as usize)?.take()?
        };
        self.live -= 1;
        self.give_room_back();
        Some(value)
    }

    /// Takes out the value at `at` and those right behind it, as many as `wanted`
    /// says yes to; of the old ones at most that one. Returns how many.
    pub(crate) fn remove_run(&mut self, at: u64, mut wanted: impl FnMut(&T) -> bool) -> u64 {
        if at < self.base {
            let is_wanted = self.sparse.get(&at).is_some_and(wanted);
            return u64::from(is_wanted && self.remove(at).is_some());
        }
        let from = ((at - self.base) as usize).min(self.dense.len());
        let mut removed = 0;
        for place in self.dense.range_mut(from..) {
            if !place.as_ref().is_some_and(&mut wanted) {
                break;
            }
            *place = None;
            removed += 1;
        }
        self.live -= removed;
        self.give_room_back();
        removed as u64
    }

    /// Takes out what lies in `first..=last`, lowest first. Costs what lies in the range
    /// and its dense places, empty ones too, however wide it is.
    pub(crate) fn remove_range(&mut self, first: u64, last: u64, mut each: impl FnMut(u64, T)) {
        if first > last {
            return;
        }
        for (at, value) in self.sparse.extract_if(first..=last, |_, _| true) {
            self.live -= 1;
            each(at, value);
        }
        let (from, to) = self.dense_places(first, last);
        for (at, place) in (self.base + from as u64..).zip(self.dense.range_mut(from..to)) {
            if let Some(value) = place.take() {
                self.live -= 1;
                each(at, value);
            }
        }
        self.give_room_back();
    }

    /// Positions in `first..=last` that have a value, lowest first, with the
    /// value. Costs as much as [`Ring::remove_range`].
    pub(crate) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &T)> {
        let old = (first <= last).then(|| self.sparse.range(first..=last));
        let (from, to) = self.dense_places(first, last);
        let young = self.dense.range(from..to).enumerate();
        let base = self.base + from as u64;
        old.into_iter()
            .flatten()
            .map(|(&at, value)| (at, value))
            .chain(young.filter_map(move |(k, value)| Some((base + k as u64, value.as_ref()?))))
    }

    /// All values, lowest position first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.range(0, u64::MAX)
    }

    /// Dense places of the positions `first..=last`.
    fn dense_places(&self, first: u64, last: u64) -> (usize, usize) {
        let from = (first.max(self.base) - self.base).min(self.dense.len() as u64) as usize;
        let to = last.saturating_add(1).max(self.base) - self.base;
        (from, (to.min(self.dense.len() as u64) as usize).max(from))
    }

    /// Values have been taken out: their room is not kept for a few old ones.
    fn give_room_back(&mut self) {
        self.drop_empty_front();
        let dense_live = self.live - self.sparse.len();
        if self.dense.len() > DENSE_KEPT && self.dense.len() > DENSE_SPREAD_MAX * dense_live {
            self.make_sparse(DENSE_KEPT / 2);
        }
    }

    fn drop_empty_front(&mut self) {
        while let Some(None) = self.dense.front() {
            self.dense.pop_front();
            self.base += 1;
        }
    }

    /// Moves the oldest dense values to the tree until at most `keep` places
    /// are left.
    fn make_sparse(&mut self, keep: usize) {
        while self.dense.len() > keep {
            if let Some(Some(value)) = self.dense.pop_front() {
                self.sparse.insert(self.base, value);
            }
            self.base += 1;
        }
        self.drop_empty_front();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::Ring;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::default()
        })]

        /// Stretches are handled as their values one by one would be.
        #[test]
        fn behaves_like_a_tree(
            steps in proptest::collection::vec((0_u8..5, any::<u16>(), 0_u16..600), 1..80),
        ) {
            let (mut ring, mut tree) = (Ring::new(0), BTreeMap::new());
            for (step, place, count) in steps {
                let count = u64::from(count);
                let next = ring.next();
                let at = u64::from(place) % (next + 2);
                match step {
                    0 => {
                        ring.extend(next..next + count);
                        tree.extend((next..next + count).map(|value| (value, value)));
                    }
                    1 => ring.skip_to(next + u64::from(place) / 32),
                    2 => {
                        let run: Vec<u64> = ring.run_mut(at).map(|value| *value).collect();
                        let expected = (at..).map_while(|at| tree.get(&at).copied());
                        prop_assert!(run.len() == 1 || expected.clone().count() == run.len());
                        prop_assert!(run.iter().copied().eq(expected.take(run.len())));
                        let removed = ring.remove_run(at, |value| *value < at + count);
                        let most = if run.is_empty() { 0 } else { count };
                        prop_assert_eq!(removed, most.min(run.len() as u64));
                        tree.retain(|other, _| !(at..at + removed).contains(other));
                    }
                    3 => {
                        let mut removed = Vec::new();
                        ring.remove_range(at, at + count, |at, value| removed.push((at, value)));
                        let expected: Vec<_> = tree.extract_if(at..=at + count, |_, _| true).collect();
                        prop_assert_eq!(removed, expected);
                    }
                    _ => prop_assert_eq!(ring.remove(at), tree.remove(&at)),
                }
                prop_assert!(ring.iter().map(|(at, value)| (at, *value)).eq(tree.clone()));
                prop_assert_eq!(ring.len(), tree.len());
                let first = tree.first_key_value().map(|(&at, _)| at);
                prop_assert_eq!(ring.first(), first.unwrap_or(ring.next()));
            }
        }
    }

    #[test]
    fn one_old_value_does_not_hold_the_room_of_the_young() {
        let mut ring = Ring::new(5);
        for value in 0..100_000_u64 {
            assert_eq!(ring.push(value), 5 + value);
            if value > 10 {
                assert_eq!(ring.remove(5 + value - 5), Some(value - 5));
            }
        }
        assert!(ring.dense.len() < 3000, "{}", ring.dense.len());
        assert_eq!(ring.first(), 5);
        assert_eq!(ring.get(6), Some(&1));
        assert_eq!(ring.iter().count(), ring.len());
        assert_eq!(ring.range(0, 7).map(|(at, _)| at).collect::<Vec<_>>(), [5, 6, 7]);
    }

    #[test]
    fn skipping_leaves_a_gap() {
        for gap in [3, 1_000_000] {
            let mut ring = Ring::new(0);
            ring.push('a');
            ring.skip_to(gap);
            assert_eq!(ring.push('b'), gap);
            assert_eq!(ring.get(1), None);
            assert_eq!(ring.remove(0), Some('a'));
            assert_eq!((ring.first(), ring.next(), ring.len()), (gap, gap + 1, 1));
        }
    }
}
