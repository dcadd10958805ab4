//! Texts of others for a terminal. Control characters would move its cursor, change its
//! colours or answer in the user's name: they are shown as dots.

use std::borrow::Cow;

/// One line of text; tabs stay.
pub(crate) fn printable(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(is_moving) {
        return text.chars().map(|c| if is_moving(c) { '.' } else { c }).collect();
    }
    text
}

/// Several lines; their ends stay too.
pub(crate) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_moving(c) && c != '\n' { '.' } else { c }).collect()
}

/// Those from U+0080 to U+009F are the sequences of ESC in one character.
fn is_moving(c: char) -> bool {
    c.is_control() && c != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\tc\r\n\x7f"), "a.[2Jb\tc...");
        assert_eq!(printable("a\u{9b}2Jb\u{85}".as_bytes()), "a.2Jb.");
        assert_eq!(printable("schön, 漢字".as_bytes()), "schön, 漢字");
        assert_eq!(printable_lines("one\u{9b}1m\ntwo\x1b]0;x\x07"), "one.1m\ntwo.]0;x.");
    }
}
