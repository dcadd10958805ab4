//! The golden frames, and what the tests of this crate share.

pub mod notation;

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use weir_protocol::{limits, next_frame};

/// One golden file.
pub struct Golden {
    /// File name without `.hex`.
    pub name: String,
    /// What it shows, from its comment lines.
    pub comment: String,
    /// The frame with its prefix.
    pub bytes: Vec<u8>,
}

impl Golden {
    /// The frame without its prefix.
    pub fn frame(&self) -> Bytes {
        let mut buffer = BytesMut::from(&self.bytes[..]);
        let frame = next_frame(&mut buffer, limits::ANSWER_BYTES_MAX).expect("readable prefix");
        assert!(buffer.is_empty(), "{}: bytes behind the frame", self.name);
        frame.expect("one whole frame")
    }

    /// The operation's number.
    pub fn op(&self) -> u8 {
        weir_protocol::peek_op(&self.frame()).expect("a known operation") as u8
    }

    /// Whether a client sends it.
    pub fn is_request(&self) -> bool {
        self.op() < 64
    }
}

/// Where the golden files are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire")
}

/// Every golden file, by name.
pub fn goldens() -> Vec<Golden> {
    let mut paths: Vec<_> = std::fs::read_dir(folder())
        .expect("the folder of golden frames")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("readable golden file");
            let (comments, lines): (Vec<_>, Vec<_>) =
                text.lines().partition(|line| line.starts_with('#'));
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            Golden { name, comment: comments.join("\n"), bytes: from_hex(&lines.concat()) }
        })
        .collect()
}

/// Bytes of hex digits, blanks ignored.
pub fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("a hex digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Hex digits of `bytes`, 32 bytes a line.
pub fn to_hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(|chunk| line(chunk) + "\n").collect()
}

/// Seeded random numbers (SplitMix64), the same on every machine.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
