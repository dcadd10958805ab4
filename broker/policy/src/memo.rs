//! Answers remembered under the columns that decide them. Bounded: when the newer
//! half is full the older half is forgotten, so what is used stays.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::MEMO_ENTRIES_MAX;

/// Remembered answers of one generation.
#[derive(Debug)]
pub(crate) struct Memo<A> {
    newer: HashMap<Box<[u8]>, A, RandomState>,
    older: HashMap<Box<[u8]>, A, RandomState>,
    half: usize,
}

impl<A: Clone> Default for Memo<A> {
    fn default() -> Self {
        Self::with_entries(MEMO_ENTRIES_MAX)
    }
}

impl<A: Clone> Memo<A> {
    fn with_entries(entries_max: usize) -> Self {
        Self { newer: HashMap::default(), older: HashMap::default(), half: entries_max / 2 }
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<A> {
        if let Some(answer) = self.newer.get(key) {
            return Some(answer.clone());
        }
        let (key, answer) = self.older.remove_entry(key)?;
        self.insert(key, answer.clone());
        Some(answer)
    }

    pub(crate) fn insert(&mut self, key: Box<[u8]>, answer: A) {
        if self.newer.len() >= self.half {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        self.newer.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut memo = Memo::with_entries(100);
        memo.insert(b"kept".as_slice().into(), 1);
        for n in 0..10_000u32 {
            memo.insert(n.to_le_bytes().as_slice().into(), 0);
            assert_eq!(memo.get(b"kept"), Some(1), "after {n}");
            assert!(memo.newer.len() + memo.older.len() <= 101);
        }
        assert_eq!(memo.get(&0u32.to_le_bytes()), None);
    }
}
