//! What the loads publish: a payload that tells who published it, as which number,
//! and whose every byte follows from that, so that a reader needs nothing else to
//! know whether it is whole.

use weir_tests::Random;

/// Bytes of a payload's head: producer, number, length.
const HEAD_BYTES: usize = 4 + 8 + 4;
/// Keeps the fillers of producers apart; odd, so that no bit of them is lost.
const SPREAD: u64 = 0xA24B_AED4_963E_E407;

/// A message, as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    /// Unique over all runs of a test.
    pub(crate) producer: u32,
    /// From 0, in the order of publishing.
    pub(crate) number: u64,
}

/// The payload of a message, `len` bytes (its head at least).
pub(crate) fn payload(id: Id, len: usize) -> Vec<u8> {
    let len = len.max(HEAD_BYTES);
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&id.producer.to_le_bytes());
    bytes.extend_from_slice(&id.number.to_le_bytes());
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    let mut filler = Random::seeded(u64::from(id.producer).wrapping_mul(SPREAD) ^ id.number);
    while bytes.len() < len {
        bytes.extend_from_slice(&filler.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whose payload it is, when every byte of it is right.
pub(crate) fn identity(bytes: &[u8]) -> Result<Id, String> {
    let Some((head, _)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err(format!("{} bytes are no payload", bytes.len()));
    };
    let producer = u32::from_le_bytes(head[..4].try_into().unwrap());
    let number = u64::from_le_bytes(head[4..12].try_into().unwrap());
    let id = Id { producer, number };
    let expected =
        payload(id, u32::from_le_bytes(head[12..].try_into().unwrap()).min(1 << 24) as usize);
    if expected != bytes {
        let at = expected.iter().zip(bytes).position(|(a, b)| a != b);
        return Err(format!("{} bytes that say {id:?} are wrong from byte {at:?}", bytes.len()));
    }
    Ok(id)
}

#[test]
fn a_wrong_byte_is_found_wherever_it_is() {
    let id = Id { producer: 7, number: 9 };
    let good = payload(id, 61);
    assert_eq!(identity(&good), Ok(id));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(identity(&bad).is_err(), "byte {at}");
    }
    assert!(identity(&good[..60]).is_err());
    assert!(identity(&[]).is_err());
}
