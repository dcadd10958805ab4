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

    /// Takes the value at `at` out.
    pub(crate) fn remove(&mut self, at: u64) -> Option<T> {
        let value = if at < self.base {
            self.sparse.remove(&at)?
        } else {
            self.dense.get_mut((at - self.base) as usize)?.take()?
        };
        self.live -= 1;
        self.drop_empty_front();
        let dense_live = self.live - self.sparse.len();
        if self.dense.len() > DENSE_KEPT && self.dense.len() > DENSE_SPREAD_MAX * dense_live {
            self.make_sparse(DENSE_KEPT / 2);
        }
        Some(value)
    }

    /// Positions in `first..=last` that have a value, lowest first, with the
    /// value. Costs what lies in the range, however wide it is.
    pub(crate) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &T)> {
        let old = (first <= last).then(|| self.sparse.range(first..=last));
        let from = (first.max(self.base) - self.base).min(self.dense.len() as u64) as usize;
        let to = last.saturating_add(1).max(self.base) - self.base;
        let to = (to.min(self.dense.len() as u64) as usize).max(from);
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
    use super::Ring;

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
