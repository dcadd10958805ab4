//! Answers remembered under the bytes that decide them. Bounded: when the newer
//! half is full the older half is forgotten, so what is used stays.
//!
//! The hash is seeded at random, so that nobody can choose keys that collide;
//! nothing hangs on the order.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Remembered answers.
#[derive(Debug)]
pub struct Memo<A> {
    newer: HashMap<Box<[u8]>, A, RandomState>,
    older: HashMap<Box<[u8]>, A, RandomState>,
    half: usize,
    /// Bytes of the newer half: keys, and what `weight` says of answers.
    bytes: usize,
    /// Bytes at which a half is full.
    half_bytes: usize,
    weight: fn(&A) -> usize,
    /// Found in the older half since that is the older.
    used_again: usize,
}

impl<A: Clone> Memo<A> {
    /// Remembers so many answers at most, two or more. For keys and answers whose
    /// length is bounded elsewhere.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self::weighed(entries_max, usize::MAX, |_| 0)
    }

    /// As [`Memo::new`], and at most so many bytes of keys and of what `weight` says
    /// an answer holds beside itself; the last answer of each half may go beyond them.
    #[must_use]
    pub fn weighed(entries_max: usize, bytes_max: usize, weight: fn(&A) -> usize) -> Self {
        Self {
            newer: HashMap::default(),
            older: HashMap::default(),
            half: entries_max / 2,
            bytes: 0,
            half_bytes: bytes_max / 2,
            weight,
            used_again: 0,
        }
    }

    /// The answer under `key`, if it is remembered.
    pub fn get(&mut self, key: &[u8]) -> Option<A> {
        if let Some(answer) = self.newer.get(key) {
            return Some(answer.clone());
        }
        let (key, answer) = self.older.remove_entry(key)?;
        self.used_again += 1;
        self.insert(key, answer.clone());
        Some(answer)
    }

    /// Remembers `answer`.
    pub fn insert(&mut self, key: Box<[u8]>, answer: A) {
        if self.is_full() {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
            self.bytes = 0;
            self.used_again = 0;
        }
        let key_bytes = key.len();
        self.bytes += key_bytes + (self.weight)(&answer);
        if let Some(before) = self.newer.insert(key, answer) {
            self.bytes -= key_bytes + (self.weight)(&before);
        }
    }

    /// Whether the next answer makes it forget the older half.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.newer.len() >= self.half || self.bytes >= self.half_bytes
    }

    /// Answers of the older half that were asked for again: where there are none,
    /// remembering more would serve nobody.
    #[must_use]
    pub fn used_again(&self) -> usize {
        self.used_again
    }

    /// Answers it may remember.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        2 * self.half
    }

    /// Remembers `entries` more from now on.
    pub fn widen(&mut self, entries: usize) {
        self.half += entries / 2;
    }

    /// Forgets everything, keeps the room.
    pub fn clear(&mut self) {
        self.newer.clear();
        self.older.clear();
        self.bytes = 0;
        self.used_again = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut memo = Memo::new(100);
        memo.insert(b"kept".as_slice().into(), 1);
        for n in 0..10_000u32 {
            memo.insert(n.to_le_bytes().as_slice().into(), 0);
            assert_eq!(memo.get(b"kept"), Some(1), "after {n}");
            assert!(memo.newer.len() + memo.older.len() <= 101);
        }
        assert_eq!(memo.get(&0u32.to_le_bytes()), None);
    }

    #[test]
    fn a_wider_one_remembers_more() {
        let mut memo = Memo::new(4);
        let remembered = |memo: &mut Memo<u32>| {
            (0..8u32).for_each(|n| memo.insert(n.to_le_bytes().into(), n));
            (0..8u32).filter(|n| memo.get(&n.to_le_bytes()).is_some()).count()
        };
        assert!(remembered(&mut memo) <= 4);
        memo.widen(12);
        memo.clear();
        assert_eq!((remembered(&mut memo), memo.entries_max()), (8, 16));
        assert_eq!(memo.used_again(), 0, "all are in the newer half");
    }

    #[test]
    fn long_keys_and_heavy_answers_are_bounded_in_bytes() {
        let mut memo = Memo::weighed(1_000, 1_000, |answer: &String| answer.len());
        let held = |memo: &Memo<String>| {
            let halves = memo.newer.iter().chain(&memo.older);
            halves.map(|(key, answer)| key.len() + answer.len()).sum::<usize>()
        };
        for n in 0..1_000u32 {
            let key = [n.to_le_bytes().as_slice(), &[0; 36]].concat();
            memo.insert(key.into(), "an answer of twenty.".to_owned());
            assert!(held(&memo) <= 1_000 + 2 * 60, "after {n}");
        }
        assert!(held(&memo) >= 500, "and not without need");
        memo.clear();
        for _ in 0..1_000 {
            memo.insert(b"kept".as_slice().into(), "again".to_owned());
        }
        assert_eq!((memo.bytes, memo.older.len()), (9, 0), "the same key counts once");
    }
}
