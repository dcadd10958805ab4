//! A value of a message that a condition looks at: a JSON field or a header.

use crate::json;
use crate::number::Number;
use std::borrow::Cow;

/// One value, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// The message has no such field or header.
    Absent,
    /// JSON null.
    Null,
    /// JSON true or false.
    Bool(bool),
    /// A JSON number.
    Number(Number),
    /// The inside of a JSON string. Escapes are still in it when the flag is set.
    Text(&'a [u8], bool),
    /// A header's bytes: text or number, whatever it is compared with.
    Header(&'a [u8]),
    /// A JSON array or object, as it stands in the payload.
    Compound(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text of a string or header.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(bytes, false) | Self::Header(bytes) => Some(Cow::Borrowed(bytes)),
            Self::Text(bytes, true) => json::unescape(bytes).map(Cow::Owned),
            _ => None,
        }
    }

    /// The number it is, or for a header, that it reads as.
    #[must_use]
    pub fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Header(bytes) => Number::of(bytes),
            _ => None,
        }
    }

    /// Appends what a subject may contain of it; false when that is nothing.
    /// Characters that would change the subject's structure become `_`.
    pub fn write_token(&self, out: &mut String) -> bool {
        let before = out.len();
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(Number::Integer(integer)) => out.push_str(&integer.to_string()),
            Self::Number(Number::Large(large)) => out.push_str(&large.to_string()),
            Self::Number(Number::Float(float)) => {
                out.extend(float.to_string().chars().map(token_char));
            }
            _ => {
                let Some(text) = self.text() else { return false };
                match std::str::from_utf8(&text) {
                    Ok(text) => out.extend(text.chars().map(token_char)),
                    Err(_) => return false,
                }
            }
        }
        out.len() > before
    }
}

fn token_char(char: char) -> char {
    match char {
        '.' | '*' | '>' => '_',
        char if char.is_whitespace() || char.is_control() => '_',
        char => char,
    }
}
