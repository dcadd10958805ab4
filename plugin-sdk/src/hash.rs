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
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128;
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
