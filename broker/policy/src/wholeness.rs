//! Is a `.wasm` file whole? A component's sections carry their lengths, so a
//! file that is still being copied shows itself: its last section reaches past
//! the end. Asked before anything is compiled.

/// What the bytes look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wholeness {
    /// Every section ends within the file.
    Whole,
    /// The file ends in the middle of something.
    CutOff {
        /// Bytes the file has.
        len: usize,
        /// Bytes it needs at least.
        needs: usize,
    },
    /// Not a component, whatever may still be appended.
    Foreign(&'static str),
}

const MAGIC: [u8; 4] = *b"\0asm";
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// Looks at the frame of the file only: a whole one can still be nonsense.
pub(crate) fn wholeness(bytes: &[u8]) -> Wholeness {
    let start = &bytes[..bytes.len().min(4)];
    if start != &MAGIC[..start.len()] {
        return Wholeness::Foreign("this is not a WebAssembly file");
    }
    if bytes.len() < 8 {
        return Wholeness::CutOff { len: bytes.len(), needs: 8 };
    }
    if bytes[4..8] == CORE_MODULE {
        return Wholeness::Foreign(
            "this is a core WebAssembly module, not a component; build it with `weir policy build`",
        );
    }
    if bytes[4..8] != COMPONENT {
        return Wholeness::Foreign("this is WebAssembly in a form the broker does not know");
    }
    let mut at = 8;
    while at < bytes.len() {
        // A section: one byte of kind, its length in LEB128, so many bytes.
        let Some((len, used)) = leb128(&bytes[at + 1..]) else {
            return match bytes.len() - at - 1 {
                0..5 => Wholeness::CutOff { len: bytes.len(), needs: bytes.len() + 1 },
                _ => Wholeness::Foreign("this is a damaged WebAssembly file"),
            };
        };
        let end = at + 1 + used + len;
        if end > bytes.len() {
            return Wholeness::CutOff { len: bytes.len(), needs: end };
        }
        at = end;
    }
    if at == 8 {
        // A header alone is a legal, empty component; in practice a copy that
        // has just begun.
        return Wholeness::CutOff { len: 8, needs: 9 };
    }
    Wholeness::Whole
}

fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(sections: &[(u8, usize)]) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for (kind, len) in sections {
            bytes.push(*kind);
            bytes.extend([(len & 0x7f) as u8 | 0x80, (len >> 7) as u8]);
            bytes.extend(std::iter::repeat_n(7, *len));
        }
        bytes
    }

    #[test]
    fn every_cut_inside_a_section_shows() {
        let bytes = component(&[(1, 200), (3, 5)]);
        assert_eq!(wholeness(&bytes), Wholeness::Whole);
        for len in 0..bytes.len() {
            match wholeness(&bytes[..len]) {
                Wholeness::CutOff { needs, .. } => assert!(needs > len && needs <= bytes.len()),
                // Between two sections a cut cannot be seen.
                Wholeness::Whole => assert_eq!(len, 8 + 203),
                Wholeness::Foreign(why) => panic!("at {len}: {why}"),
            }
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(
            matches!(wholeness(b"hello"), Wholeness::Foreign(why) if why.contains("not a Web"))
        );
        let core = b"\0asm\x01\0\0\0\x01\x04";
        assert!(matches!(wholeness(core), Wholeness::Foreign(why) if why.contains("core")));
        let damaged = b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\xff\xff";
        assert!(matches!(wholeness(damaged), Wholeness::Foreign(why) if why.contains("damaged")));
    }
}
