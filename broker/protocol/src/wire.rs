//! MessagePack, as far as the positional frames need it: a cursor that reads
//! within a frame, and functions that append.

use crate::{limits, walk};

/// Reads values of one frame in order. Every method gives `None` when the value
/// there is of another type or ends beyond the frame; the cursor is then spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Bytes not yet read.
    pub(crate) const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn big_endian(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width)?;
        Some(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// An integer in any of its encodings, if it is not negative: some libraries
    /// write positive numbers in signed formats.
    pub(crate) fn uint(&mut self) -> Option<u64> {
        match self.byte()? {
            byte @ 0..=0x7f => Some(u64::from(byte)),
            0xcc => self.big_endian(1),
            0xcd => self.big_endian(2),
            0xce => self.big_endian(4),
            0xcf => self.big_endian(8),
            0xd0 => self.big_endian(1).filter(|value| *value <= i8::MAX as u64),
            0xd1 => self.big_endian(2).filter(|value| *value <= i16::MAX as u64),
            0xd2 => self.big_endian(4).filter(|value| *value <= i32::MAX as u64),
            0xd3 => self.big_endian(8).filter(|value| *value <= i64::MAX as u64),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.uint()?).ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.uint()?).ok()
    }

    /// Takes a nil if there is one.
    pub(crate) fn nil(&mut self) -> bool {
        let is_nil = self.peek() == Some(0xc0);
        self.at += usize::from(is_nil);
        is_nil
    }

    pub(crate) fn array_len(&mut self) -> Option<u32> {
        match self.byte()? {
            byte @ 0x90..=0x9f => Some(u32::from(byte & 0x0f)),
            0xdc => Some(self.big_endian(2)? as u32),
            0xdd => Some(self.big_endian(4)? as u32),
            _ => None,
        }
    }

    pub(crate) fn map_len(&mut self) -> Option<u32> {
        match self.byte()? {
            byte @ 0x80..=0x8f => Some(u32::from(byte & 0x0f)),
            0xde => Some(self.big_endian(2)? as u32),
            0xdf => Some(self.big_endian(4)? as u32),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = match self.byte()? {
            byte @ 0xa0..=0xbf => u64::from(byte & 0x1f),
            0xd9 => self.big_endian(1)?,
            0xda => self.big_endian(2)?,
            0xdb => self.big_endian(4)?,
            _ => return None,
        };
        std::str::from_utf8(self.take(len as usize)?).ok()
    }

    /// Skips one value, whatever it is.
    pub(crate) fn skip(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.at += walk::value_len(&self.bytes[start..], limits::ANSWER_NODES_MAX).ok()?;
        Some(&self.bytes[start..self.at])
    }
}

/// Name of the type that a value's first byte tells, for people.
pub(crate) const fn type_name(marker: u8) -> &'static str {
    match marker {
        0x00..=0x7f | 0xcc..=0xcf => "unsigned integer",
        0xd0..=0xd3 | 0xe0..=0xff => "signed integer",
        0x80..=0x8f | 0xde | 0xdf => "map",
        0x90..=0x9f | 0xdc | 0xdd => "array",
        0xa0..=0xbf | 0xd9..=0xdb => "text",
        0xc4..=0xc6 => "bytes",
        0xc0 => "nil",
        0xc2 | 0xc3 => "boolean",
        0xca | 0xcb => "float",
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => "extension",
    }
}

/// Appends a frame: room for the prefix, then what `write` appends.
pub(crate) fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out);
    write(out);
    end_frame(out, start);
}

/// Leaves room for the prefix and tells where the frame starts.
pub(crate) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; limits::PREFIX_BYTES]);
    start
}

/// Writes the prefix of the frame that started at `start`.
pub(crate) fn end_frame(out: &mut [u8], start: usize) {
    let body = start + limits::PREFIX_BYTES;
    let length = u32::try_from(out.len() - body).expect("frames are bounded far below 4 GiB");
    out[start..body].copy_from_slice(&length.to_be_bytes());
}

pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => put_u32_wide(out, value as u32),
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// An unsigned integer in five bytes whatever its value, so that it can be
/// written over.
pub(crate) fn put_u32_wide(out: &mut Vec<u8>, value: u32) {
    out.push(0xce);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_array(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=0x0f => out.push(0x90 | len as u8),
        0x10..=0xffff => put_array_wide(out, len as u16),
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// The head of an array in three bytes whatever its length.
pub(crate) fn put_array_wide(out: &mut Vec<u8>, len: u16) {
    out.push(0xdc);
    out.extend_from_slice(&len.to_be_bytes());
}

/// The head of a map in five bytes whatever its length.
pub(crate) fn put_map_wide(out: &mut Vec<u8>, pairs: u32) {
    out.push(0xdf);
    out.extend_from_slice(&pairs.to_be_bytes());
}

pub(crate) fn put_map(out: &mut Vec<u8>, pairs: u8) {
    debug_assert!(pairs < 16);
    out.push(0x80 | pairs);
}

pub(crate) fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends a body as a map with text keys.
///
/// # Panics
/// When the body's own `Serialize` fails, which those of this crate never do.
pub(crate) fn put_body(out: &mut Vec<u8>, body: &(impl serde::Serialize + ?Sized)) {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    body.serialize(&mut serializer).expect("bodies serialize into memory");
}
