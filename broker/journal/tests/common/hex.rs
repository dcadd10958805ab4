//! Golden bytes as text: a length, then lines of `offset digits` where there is
//! anything but zeros; lines that begin with `#` are for people.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

/// Lines of 32 bytes after their position; lines of zeros are left out.
pub(crate) fn to_hex(text: &str, bytes: &[u8]) -> String {
    let mut hex = String::new();
    text.lines().for_each(|line| writeln!(hex, "# {line}").unwrap());
    writeln!(hex, "length {}", bytes.len()).unwrap();
    for (number, line) in bytes.chunks(32).enumerate() {
        if line.iter().any(|&byte| byte != 0) {
            let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(hex, "{:06x} {digits}", number * 32).unwrap();
        }
    }
    hex
}

/// The bytes that the text stands for.
pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in hex.lines().filter(|line| !line.starts_with('#')) {
        let (first, second) = line.split_once(' ').unwrap();
        if first == "length" {
            bytes.resize(second.parse().unwrap(), 0);
            continue;
        }
        let at = usize::from_str_radix(first, 16).unwrap();
        for (number, pair) in second.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).unwrap();
            bytes[at + number] = u8::from_str_radix(pair, 16).unwrap();
        }
    }
    bytes
}
