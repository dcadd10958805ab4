//! Short texts, eight bytes at a time: subjects are compared for every message,
//! and the library's comparison is a call.

/// Whether two texts are the same.
#[inline]
pub(crate) fn same(one: &[u8], two: &[u8]) -> bool {
    if one.len() != two.len() {
        return false;
    }
    if one.len() < 8 {
        return short(one) == short(two);
    }
    let last = one.len() - 8;
    let mut at = 0;
    while at < last {
        if word(one, at) != word(two, at) {
            return false;
        }
        at += 8;
    }
    // The last word overlaps the one before.
    word(one, last) == word(two, last)
}

/// A number that texts which differ at their end mostly do not share. Not safe
/// against texts chosen to collide: for a first look only.
#[inline]
pub(crate) fn mark(text: &[u8]) -> u8 {
    let end = if text.len() < 8 { short(text) } else { word(text, text.len() - 8) };
    let mixed = (end ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper end: what differs in the last byte shows nowhere else.
    (mixed >> 56) as u8
}

/// Fewer than eight bytes as one word, the same only for the same bytes where the
/// length is the same.
#[inline]
fn short(text: &[u8]) -> u64 {
    let half = |at: usize| {
        let half: [u8; 4] = text[at..at + 4].try_into().expect("a slice of four");
        u64::from(u32::from_le_bytes(half))
    };
    match text.len() {
        0 => 0,
        len @ 1..4 => {
            let byte = |at: usize| u64::from(text[at]);
            byte(0) | byte(len / 2) << 8 | byte(len - 1) << 16
        }
        len => half(0) | half(len - 4) << 32,
    }
}

#[inline]
fn word(text: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(text[at..at + 8].try_into().expect("a slice of eight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ_where_ends_do() {
        let marks: std::collections::HashSet<u8> =
            (0..200_u8).map(|last| mark(&[b"flights.".as_slice(), &[last]].concat())).collect();
        assert_eq!(marks.len(), 200);
    }

    #[test]
    fn same_is_equality() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..text.len() {
            assert!(same(&text[..len], &text.clone()[..len]), "{len}");
            assert!(!same(&text[..len], &text[..len + 1]), "{len}");
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] ^= 0x40;
                assert!(!same(&text[..len], &other), "{len} {at}");
            }
        }
    }
}
