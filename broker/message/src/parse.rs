//! Reading a message: one pass that checks everything and remembers where each
//! part lies. No allocation, no recursion.

use crate::{HEADER_NAME_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, SUBJECT_BYTES_MAX};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes end inside the message.
    #[error("message ends early")]
    Truncated,
    /// Not an array of four, or a part has another type than the layout says.
    #[error("message is not [subject, key, headers, payload]: {0}")]
    Shape(&'static str),
    /// Text that is not UTF-8.
    #[error("message text is not UTF-8")]
    Utf8,
    /// A part is longer than its limit.
    #[error("{part} over the limit of {max}")]
    TooLong {
        /// What was counted, and in which unit.
        part: &'static str,
        /// What is allowed.
        max: usize,
    },
}

/// Where the parts of one message lie in the buffer it was parsed from, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// First byte of the message.
    pub start: u32,
    /// First byte of the subject's text, and its length.
    pub subject: (u32, u32),
    /// First byte of the key, and its length; 0 long when there is none.
    pub key: (u32, u32),
    /// The headers' encoded map, 0 long when there is none.
    pub headers: (u32, u32),
    /// First byte of the payload, and its length.
    pub payload: (u32, u32),
    /// One past the last byte of the message.
    pub end: u32,
}

/// A message's parts, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Subject.
    pub subject: &'a str,
    /// Key, empty when there is none.
    pub key: &'a [u8],
    /// Encoded map of headers, empty when there is none; see [`Headers`].
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads the message that `bytes` starts with.
    ///
    /// # Errors
    /// When `bytes` does not start with a well formed message.
    pub fn of(bytes: &'a [u8]) -> Result<Self, MessageError> {
        Ok(parse(bytes, 0)?.view(bytes))
    }

    /// Raw bytes of the header `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        Headers::of(self.headers).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl Parts {
    /// The parts of a message with the same head and length that starts at `start`.
    #[inline]
    fn moved_to(&self, start: u32) -> Self {
        // Field by field: a loop over them goes through memory, which costs more than all else
        // here.
        let by = start.wrapping_sub(self.start);
        let moved = |(at, len): (u32, u32)| (at.wrapping_add(by), len);
        Self {
            start,
            subject: moved(self.subject),
            key: moved(self.key),
            headers: moved(self.headers),
            payload: moved(self.payload),
            end: self.end.wrapping_add(by),
        }
    }

    /// The parts as slices of the buffer they were parsed from.
    #[must_use]
    #[inline]
    pub fn view<'a>(&self, buffer: &'a [u8]) -> View<'a> {
        let slice = |(start, len): (u32, u32)| &buffer[start as usize..(start + len) as usize];
        View {
            subject: std::str::from_utf8(slice(self.subject)).unwrap_or_default(),
            key: slice(self.key),
            headers: slice(self.headers),
            payload: slice(self.payload),
        }
    }
}

/// Parses the message at `buffer[at..]` and checks it whole.
///
/// # Errors
/// See [`MessageError`]; nothing is read beyond the buffer.
pub fn parse(buffer: &[u8], at: usize) -> Result<Parts, MessageError> {
    let mut cursor = Cursor { buffer, at };
    let start = at as u32;
    if cursor.byte()? != 0x94 {
        return Err(MessageError::Shape("it must be an array of four"));
    }
    let subject = cursor.text(&SUBJECT)?;
    let key = match cursor.peek()? {
        0xc0 => cursor.nil()?,
        _ => cursor.bin("the key must be bin or nil")?,
    };
    if key.1 as usize > KEY_BYTES_MAX {
        return Err(MessageError::TooLong { part: "key, bytes:", max: KEY_BYTES_MAX });
    }
    let headers = match cursor.peek()? {
        0xc0 => cursor.nil()?,
        _ => cursor.headers()?,
    };
    let payload = cursor.bin("the payload must be bin")?;
    Ok(Parts { start, subject, key, headers, payload, end: cursor.at as u32 })
}

/// As [`parse`], for a message behind another one that was parsed from the same
/// buffer. Neighbours mostly differ in their payload alone: what lies before it is
/// then compared instead of checked again.
///
/// # Errors
/// As [`parse`].
#[inline]
pub fn parse_after(buffer: &[u8], at: usize, previous: &Parts) -> Result<Parts, MessageError> {
    let (start, head_end) = (previous.start as usize, previous.payload.0 as usize);
    let end = at + (previous.end - previous.start) as usize;
    if end <= buffer.len()
        && head_end > start
        && let Some(known) = buffer.get(start..head_end)
        && same_bytes(known, &buffer[at..at + known.len()])
    {
        return Ok(previous.moved_to(at as u32));
    }
    parse(buffer, at)
}

/// Whether both are equal. For bytes as few as a subject or a message's head has: a call of
/// the library's comparison costs more than they do.
#[must_use]
#[inline]
pub fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() || one.len() < 8 {
        return one == other;
    }
    let ((words, _), (others, _)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    // The last eight overlap those before them.
    words.iter().eq(others) && one.last_chunk::<8>() == other.last_chunk::<8>()
}

/// Iterates over an encoded map of headers: name, raw value bytes.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Headers<'a> {
    /// Over the map in `encoded`, which [`parse`] has checked; empty for none.
    #[must_use]
    pub fn of(encoded: &'a [u8]) -> Self {
        let mut cursor = Cursor { buffer: encoded, at: 0 };
        let left = cursor.map_len().unwrap_or(0);
        Self { cursor, left }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (name, name_len) = self.cursor.text(&HEADER_NAME).ok()?;
        let (value, value_len) = self.cursor.text_or_bin().ok()?;
        let buffer = self.cursor.buffer;
        let name = &buffer[name as usize..(name + name_len) as usize];
        let value = &buffer[value as usize..(value + value_len) as usize];
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

/// A text of the layout: how long it may be, bytes, and what to say otherwise.
struct Text {
    max: usize,
    part: &'static str,
    wanted: &'static str,
}

const SUBJECT: Text =
    Text { max: SUBJECT_BYTES_MAX, part: "subject, bytes:", wanted: "the subject must be str" };
const HEADER_NAME: Text = Text {
    max: HEADER_NAME_BYTES_MAX,
    part: "header name, bytes:",
    wanted: "a header's name must be str",
};
const HEADER_VALUE: Text = Text {
    max: usize::MAX,
    part: "header value, bytes:",
    wanted: "a header's value must be str or bin",
};

#[derive(Clone, Copy, Debug)]
struct Cursor<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Result<u8, MessageError> {
        self.buffer.get(self.at).copied().ok_or(MessageError::Truncated)
    }

    fn byte(&mut self) -> Result<u8, MessageError> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn uint(&mut self, width: usize) -> Result<usize, MessageError> {
        let end = self.at + width;
        let bytes = self.buffer.get(self.at..end).ok_or(MessageError::Truncated)?;
        self.at = end;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    }

    fn take(&mut self, len: usize) -> Result<(u32, u32), MessageError> {
        if len > self.buffer.len() - self.at {
            return Err(MessageError::Truncated);
        }
        let start = self.at;
        self.at += len;
        Ok((start as u32, len as u32))
    }

    fn nil(&mut self) -> Result<(u32, u32), MessageError> {
        self.at += 1;
        Ok((self.at as u32, 0))
    }

    fn bin(&mut self, wanted: &'static str) -> Result<(u32, u32), MessageError> {
        let width = match self.byte()? {
            0xc4 => 1,
            0xc5 => 2,
            0xc6 => 4,
            _ => return Err(MessageError::Shape(wanted)),
        };
        let len = self.uint(width)?;
        self.take(len)
    }

    fn text(&mut self, text: &Text) -> Result<(u32, u32), MessageError> {
        let len = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 => self.uint(1)?,
            0xda => self.uint(2)?,
            0xdb => self.uint(4)?,
            _ => return Err(MessageError::Shape(text.wanted)),
        };
        if len > text.max {
            return Err(MessageError::TooLong { part: text.part, max: text.max });
        }
        let (start, len) = self.take(len)?;
        let bytes = &self.buffer[start as usize..(start + len) as usize];
        // Subjects are ASCII nearly always, and that check is a few nanoseconds.
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() {
            return Err(MessageError::Utf8);
        }
        Ok((start, len))
    }

    fn text_or_bin(&mut self) -> Result<(u32, u32), MessageError> {
        match self.peek()? {
            0xc4..=0xc6 => self.bin(HEADER_VALUE.wanted),
            _ => self.text(&HEADER_VALUE),
        }
    }

    fn map_len(&mut self) -> Result<usize, MessageError> {
        match self.byte()? {
            byte @ 0x80..=0x8f => Ok(usize::from(byte & 0x0f)),
            0xde => self.uint(2),
            0xdf => self.uint(4),
            _ => Err(MessageError::Shape("the headers must be a map or nil")),
        }
    }

    fn headers(&mut self) -> Result<(u32, u32), MessageError> {
        let start = self.at;
        let count = self.map_len()?;
        if count > HEADERS_MAX {
            return Err(MessageError::TooLong { part: "headers:", max: HEADERS_MAX });
        }
        for _ in 0..count {
            self.text(&HEADER_NAME)?;
            self.text_or_bin()?;
        }
        Ok((start as u32, (self.at - start) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, encode};

    fn sample() -> Vec<u8> {
        let mut headers = Vec::new();
        Header::encode_all(
            &mut headers,
            &[
                Header { name: "kind", value: b"test", text: true },
                Header { name: "raw", value: &[0, 255], text: false },
            ],
        );
        let mut out = Vec::new();
        encode(&mut out, "orders.eu", b"k1", &headers, &[7; 300]);
        out
    }

    #[test]
    fn reads_what_encode_wrote() {
        let bytes = sample();
        let parts = parse(&bytes, 0).expect("well formed");
        assert_eq!(parts.end as usize, bytes.len());
        let view = parts.view(&bytes);
        assert_eq!(
            (view.subject, view.key, view.payload),
            ("orders.eu", &b"k1"[..], &[7; 300][..])
        );
        assert_eq!(view.header("kind"), Some(&b"test"[..]));
        assert_eq!(view.header("raw"), Some(&[0, 255][..]));
        assert_eq!(view.header("absent"), None);
    }

    #[test]
    fn behind_another_message_it_is_read_the_same() {
        let lengths = [0, 1, 254, 255, 256, 65_535, 65_536];
        let heads: [(&str, &[u8], &[u8]); 4] = [
            ("orders.eu", b"", b""),
            ("orders.us", b"", b""),
            ("orders.eu", b"k", b""),
            ("o", b"", b""),
        ];
        for before in heads {
            for after in heads {
                for (one, other) in lengths.iter().flat_map(|one| lengths.map(|it| (*one, it))) {
                    let mut bytes = vec![0xff; 3];
                    encode(&mut bytes, before.0, before.1, before.2, &vec![1; one]);
                    let at = bytes.len();
                    encode(&mut bytes, after.0, after.1, after.2, &vec![2; other]);
                    let previous = parse(&bytes, 3).expect("well formed");
                    assert_eq!(previous.end as usize, at);
                    assert_eq!(parse_after(&bytes, at, &previous), parse(&bytes, at));
                    let cut = &bytes[..bytes.len() - 1];
                    assert_eq!(parse_after(cut, at, &previous), parse(cut, at), "cut short");
                }
            }
        }
    }

    #[test]
    fn bytes_that_differ_anywhere_are_not_the_same() {
        for len in 0..40 {
            let one: Vec<u8> = (0..len).collect();
            assert!(same_bytes(&one, &one.clone()));
            assert!(!same_bytes(&one, &[&one[..], &[0]].concat()));
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 0x10;
                assert!(!same_bytes(&one, &other), "{at} of {len}");
            }
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut], 0).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_changed_byte_is_refused_or_read_within_bounds() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0x80, 0xc0, 0xc6, 0xdb, 0xdf, 0xff] {
                let mut bent = bytes.clone();
                bent[at] = value;
                if let Ok(parts) = parse(&bent, 0) {
                    let view = parts.view(&bent);
                    Headers::of(view.headers).for_each(drop);
                }
            }
        }
    }
}
