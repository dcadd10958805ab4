//! Small helpers for text that comes from policies.

/// Cuts `text` to at most `bytes_max` bytes, at a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}

/// `text` in one line: a sentence for status and errors.
pub(crate) fn sentence(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&mut line, crate::limits::REASON_BYTES_MAX);
    line
}
