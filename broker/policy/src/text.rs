//! Small helpers for text that comes from policies.

use crate::limits::{REASON_BYTES_MAX, SHOWN_BYTES_MAX, SHOWN_NAMES_MAX};

/// Cuts `text` to at most `bytes_max` bytes, at a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    let len = head(text, bytes_max).len();
    text.truncate(len);
}

/// `text` in one line: a sentence for status and errors.
pub(crate) fn sentence(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&mut line, REASON_BYTES_MAX);
    line
}

/// What a sentence shows of a name that may be of any length.
pub(crate) fn shown(name: &str) -> &str {
    head(name, SHOWN_BYTES_MAX)
}

/// What a sentence shows of `names`: the first of them, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> Vec<String> {
    let first = names.iter().take(SHOWN_NAMES_MAX);
    let mut all: Vec<String> = first.map(|name| shown(name).to_owned()).collect();
    if names.len() > all.len() {
        all.push(format!("and {} more", names.len() - all.len()));
    }
    all
}

fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_on_characters() {
        let mut text = "a\u{e4}b".to_owned();
        cut(&mut text, 9);
        assert_eq!(text, "a\u{e4}b");
        cut(&mut text, 2);
        assert_eq!(text, "a");
        assert_eq!(shown(&"x".repeat(1 << 20)).len(), SHOWN_BYTES_MAX);
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..10_000).map(|n| format!("{n:01000}")).collect();
        let few = first_of(&names);
        assert_eq!(few.len(), SHOWN_NAMES_MAX + 1);
        assert_eq!(few.last().map(String::as_str), Some("and 9992 more"));
        assert!(few.concat().len() < (SHOWN_NAMES_MAX + 1) * SHOWN_BYTES_MAX);
        assert_eq!(first_of(&names[..2]).len(), 2);
    }
}
