//! MessagePack as text: like JSON, with `nil` and `h'..'` for byte strings. Shares
//! no code with the crate under test.

use super::to_hex;

/// The value that `bytes` start with, as text, and its length.
pub fn render(bytes: &[u8]) -> (String, usize) {
    let number = |width: usize| bytes[1..=width].iter().fold(0, |n, &b| n << 8 | u64::from(b));
    let text = |head: usize, len: usize| {
        let text = std::str::from_utf8(&bytes[head..head + len]).expect("UTF-8");
        (format!("{text:?}"), head + len)
    };
    let binary = |head: usize, len: usize| {
        (format!("h'{}'", to_hex(&bytes[head..head + len]).replace('\n', "")), head + len)
    };
    match bytes[0] {
        byte @ 0..=0x7f => (byte.to_string(), 1),
        byte @ 0x80..=0x8f => map(bytes, 1, usize::from(byte & 15)),
        byte @ 0x90..=0x9f => array(bytes, 1, usize::from(byte & 15)),
        byte @ 0xa0..=0xbf => text(1, usize::from(byte & 31)),
        0xc0 => ("nil".into(), 1),
        0xc2 => ("false".into(), 1),
        0xc3 => ("true".into(), 1),
        0xc4 => binary(2, number(1) as usize),
        0xcb => (f64::from_bits(number(8)).to_string(), 9),
        0xcc => (number(1).to_string(), 2),
        0xcd => (number(2).to_string(), 3),
        0xce => (number(4).to_string(), 5),
        0xcf => (number(8).to_string(), 9),
        0xd9 => text(2, number(1) as usize),
        0xda => text(3, number(2) as usize),
        0xdc => array(bytes, 3, number(2) as usize),
        0xde => map(bytes, 3, number(2) as usize),
        other => panic!("the golden frames have no {other:#x}"),
    }
}

fn array(bytes: &[u8], head: usize, items: usize) -> (String, usize) {
    let mut at = head;
    let texts: Vec<_> = (0..items).map(|_| take(bytes, &mut at)).collect();
    (format!("[{}]", texts.join(", ")), at)
}

fn map(bytes: &[u8], head: usize, pairs: usize) -> (String, usize) {
    let mut at = head;
    let texts: Vec<_> =
        (0..pairs).map(|_| format!("{}: {}", take(bytes, &mut at), take(bytes, &mut at))).collect();
    (format!("{{{}}}", texts.join(", ")), at)
}

fn take(bytes: &[u8], at: &mut usize) -> String {
    let (text, len) = render(&bytes[*at..]);
    *at += len;
    text
}
