//! The stable key hash: partitions and rendezvous choices depend on it, so it
//! may never change.

/// Stable 32-bit hash of a key: FNV-1a over the bytes, then the 32-bit finaliser
/// of MurmurHash3, which spreads short keys over all bits.
#[must_use]
pub fn key_hash(key: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for &byte in key {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::key_hash;

    /// A changed hash would move every key to another partition.
    #[test]
    fn stays_the_same_for_ever() {
        assert_eq!(key_hash(b""), 0xab3e_7c0b);
        assert_eq!(key_hash(b"a"), key_hash(b"a"));
        assert_ne!(key_hash(b"a"), key_hash(b"b"));
    }
}
