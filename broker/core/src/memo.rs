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
    /// Found in the older half since that is the older.
    used_again: usize,
}

impl<A: Clone> Memo<A> {
    /// Remembers so many answers at most, two or more.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        let (newer, older) = (HashMap::default(), HashMap::default());
        Self { newer, older, half: entries_max / 2, used_again: 0 }
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
            self.used_again = 0;
        }
        self.newer.insert(key, answer);
    }

    /// Whether the next answer makes it forget the older half.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.newer.len() >= self.half
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
}
