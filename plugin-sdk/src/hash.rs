//! Hash maps with a random seed. WebAssembly has no source of randomness of its
//! own, so the standard maps would be the same in every instance and an open
//! invitation to collisions; the broker sends a seed instead.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0x5eed) };
}

pub(crate) fn set_seed(seed: u64) {
    SEED.set(seed);
}

/// A `HashMap` seeded by the broker.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Seeded>;
/// A `HashSet` seeded by the broker.
pub type HashSet<K> = std::collections::HashSet<K, Seeded>;

/// Builds hashers from the seed of the instance.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(SEED.get())
    }
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0 ^ 0x2545_f491_4f6c_dd1d)
    }
}

/// Multiply and fold, eight bytes at a time.
#[derive(Clone, Copy, Debug)]
pub struct SeededHasher(u64);

impl SeededHasher {
    fn mix(&mut self, word: u64) {
        // Nearly every product is longer than 128 bits; what falls off is not needed.
        let product =
            u128::from(self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Whether two runs of bytes are the same. In WebAssembly the library's comparison
/// is a call and a loop over bytes; names and subjects are compared too often for
/// that.
#[inline]
#[must_use]
pub fn same_bytes(one: &[u8], two: &[u8]) -> bool {
    if one.len() != two.len() {
        return false;
    }
    if one.len() < 8 {
        return short_word(one) == short_word(two);
    }
    let last = one.len() - 8;
    let mut at = 0;
    while at < last {
        if word_at(one, at) != word_at(two, at) {
            return false;
        }
        at += 8;
    }
    // The last word overlaps the one before: no rest to go through byte by byte.
    word_at(one, last) == word_at(two, last)
}

/// Fewer than eight bytes as one word, the same only for the same bytes of the same
/// length. Overlapping reads instead of a loop: every turn of a loop costs a look
/// at the deadline.
#[inline]
pub(crate) fn short_word(bytes: &[u8]) -> u64 {
    let half = |at: usize| {
        let half: [u8; 4] = bytes[at..at + 4].try_into().expect("a slice of four");
        u64::from(u32::from_le_bytes(half))
    };
    match bytes.len() {
        0 => 0,
        len @ 1..4 => {
            let byte = |at: usize| u64::from(bytes[at]);
            byte(0) | byte(len / 2) << 8 | byte(len - 1) << 16
        }
        len => half(0) | half(len - 4) << 32,
    }
}

#[inline]
pub(crate) fn word_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight"))
}

/// A small pseudo-random generator for choices that need not be secret. Seed it
/// from [`Context::seed`](crate::Context::seed).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u64() as u32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::{HashMap, HashSet, Seeded, same_bytes};
    use std::hash::BuildHasher;

    #[test]
    fn maps_and_sets_hold_what_they_are_given() {
        let (mut places, mut keys) = (HashMap::default(), HashSet::default());
        for number in 0..1_000_u32 {
            let key = format!("key-{number}");
            assert_eq!(places.insert((key.clone(), u64::from(number)), number), None);
            assert!(keys.insert(key));
        }
        for number in 0..1_000_u32 {
            let key = format!("key-{number}");
            assert!(keys.contains(&key));
            assert_eq!(places.get(&(key, u64::from(number))), Some(&number));
        }
    }

    #[test]
    fn another_seed_is_another_hash() {
        let hash = |seed| Seeded(seed).hash_one(7_u64);
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn same_bytes_is_equality() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..text.len() {
            assert!(same_bytes(&text[..len], &text.clone()[..len]), "{len}");
            assert!(!same_bytes(&text[..len], &text[..len + 1]), "{len}");
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] ^= 0x40;
                assert!(!same_bytes(&text[..len], &other), "{len} {at}");
            }
        }
    }
}
