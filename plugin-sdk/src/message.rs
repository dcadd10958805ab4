//! One message of a batch, as a policy sees it: a row number and the columns.
//! Nothing is copied; asking for a part that the manifest did not ask for is a
//! mistake of the author and panics, natively under test as well.

use crate::bindings::weir::policy::types::{Blobs, Cells, Column as WireColumn};

/// The columns of one batch, found by id once so that rows cost only a slice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns<'a> {
    subject: Option<Texts<'a>>,
    payload: Option<&'a Blobs>,
    payload_head: Option<&'a Blobs>,
    key: Option<&'a Blobs>,
    headers: Option<&'a Blobs>,
    publisher: Option<&'a [u32]>,
    published_at: Option<&'a [u64]>,
    size: Option<&'a [u32]>,
    sequence: Option<&'a [u64]>,
    key_hash: Option<&'a [u32]>,
    named: Vec<Option<&'a Blobs>>,
    names: &'a [String],
}

/// A column of text, checked as a whole: a sequence of valid texts is valid.
#[derive(Clone, Copy, Debug)]
struct Texts<'a> {
    text: &'a str,
    ends: &'a [u32],
}

impl<'a> Columns<'a> {
    pub(crate) fn of(columns: &'a [WireColumn], names: &'a [String]) -> Self {
        let mut found = Self { names, named: vec![None; names.len()], ..Self::default() };
        for column in columns {
            match (column.id, &column.cells) {
                (1, Cells::Blobs(blobs)) => found.subject = Texts::of(blobs),
                (2, Cells::Blobs(blobs)) => found.payload = Some(blobs),
                (3, Cells::Blobs(blobs)) => found.key = Some(blobs),
                (4, Cells::Blobs(blobs)) => found.headers = Some(blobs),
                (5, Cells::Words(words)) => found.publisher = Some(words),
                (6, Cells::Longs(longs)) => found.published_at = Some(longs),
                (7, Cells::Words(words)) => found.size = Some(words),
                (8, Cells::Longs(longs)) => found.sequence = Some(longs),
                (9, Cells::Words(words)) => found.key_hash = Some(words),
                (10, Cells::Blobs(blobs)) => found.payload_head = Some(blobs),
                (id @ 256.., Cells::Blobs(blobs)) => {
                    if let Some(slot) = found.named.get_mut(usize::from(id) - 256) {
                        *slot = Some(blobs);
                    }
                }
                // Numbers grow: what this version does not know, it skips.
                _ => {}
            }
        }
        found
    }
}

impl<'a> Texts<'a> {
    fn of(blobs: &'a Blobs) -> Option<Self> {
        Some(Self { text: std::str::from_utf8(&blobs.bytes).ok()?, ends: &blobs.ends })
    }

    #[inline]
    fn row(&self, row: usize) -> &'a str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.text[start..self.ends[row] as usize]
    }

    #[inline]
    fn is_row(&self, row: usize, text: &str) -> bool {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        let at = (text.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        at == start && text.len() == self.ends[row] as usize - start
    }
}

#[inline]
fn blob(blobs: &Blobs, row: usize) -> &[u8] {
    let start = if row == 0 { 0 } else { blobs.ends[row - 1] as usize };
    &blobs.bytes[start..blobs.ends[row] as usize]
}

#[cold]
#[inline(never)]
fn not_asked(column: &str) -> ! {
    panic!(
        "the manifest does not ask for {column}: add it to `Manifest::columns`, one header by its \
         name with `Manifest::header`; with `memo_by` only the columns named there are sent"
    )
}

/// One message. Each part must have been asked for in the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    columns: &'a Columns<'a>,
    row: usize,
}

impl<'a> Message<'a> {
    pub(crate) fn new(columns: &'a Columns<'a>, row: usize) -> Self {
        Self { columns, row }
    }

    /// Dot-separated subject.
    #[inline]
    #[must_use]
    pub fn subject(&self) -> &'a str {
        match &self.columns.subject {
            Some(texts) => texts.row(self.row),
            None => not_asked("the subject"),
        }
    }

    /// Whether `text` is the very slice that [`Message::subject`] gives, which says
    /// that it is the same text without a look at it.
    #[inline]
    pub(crate) fn is_own_subject(&self, text: &str) -> bool {
        self.columns.subject.is_some_and(|texts| texts.is_row(self.row, text))
    }

    /// The subject's tokens.
    pub fn tokens(&self) -> std::str::Split<'a, char> {
        self.subject().split('.')
    }

    /// Payload as published.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        match self.columns.payload {
            Some(blobs) => blob(blobs, self.row),
            None => not_asked("the payload"),
        }
    }

    /// First bytes of the payload.
    #[inline]
    #[must_use]
    pub fn payload_head(&self) -> &'a [u8] {
        match self.columns.payload_head {
            Some(blobs) => blob(blobs, self.row),
            None => not_asked("the payload's head"),
        }
    }

    /// Ordering and partition key; empty when there is none.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self.columns.key {
            Some(blobs) => blob(blobs, self.row),
            None => not_asked("the key"),
        }
    }

    /// Stable 32-bit hash of the key.
    #[inline]
    #[must_use]
    pub fn key_hash(&self) -> u32 {
        self.columns.key_hash.unwrap_or_else(|| not_asked("the key hash"))[self.row]
    }

    /// Length of the payload, bytes.
    #[inline]
    #[must_use]
    pub fn size(&self) -> u32 {
        self.columns.size.unwrap_or_else(|| not_asked("the size"))[self.row]
    }

    /// Connection the message came in on; 0 when replayed.
    #[inline]
    #[must_use]
    pub fn publisher(&self) -> u32 {
        self.columns.publisher.unwrap_or_else(|| not_asked("the publisher"))[self.row]
    }

    /// When the broker took it, ms since the epoch.
    #[inline]
    #[must_use]
    pub fn published_at_ms(&self) -> u64 {
        self.columns.published_at.unwrap_or_else(|| not_asked("the time of publishing"))[self.row]
    }

    /// Position in its stream; 0 before it is stored.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.columns.sequence.unwrap_or_else(|| not_asked("the sequence"))[self.row]
    }

    /// Raw value of a header, `None` when the message has none of that name (or,
    /// for headers asked for by name, when it is empty).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        if let Some(index) = self.columns.names.iter().position(|known| known == name) {
            return self.header_at(index);
        }
        self.headers().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Value of the `index`-th header asked for by [`header`](crate::Manifest::header)
    /// of the manifest: what [`Message::header`] does, without the
    /// search for the name.
    #[inline]
    #[must_use]
    pub fn header_at(&self, index: usize) -> Option<&'a [u8]> {
        match self.columns.named.get(index) {
            Some(Some(blobs)) => Some(blob(blobs, self.row)).filter(|value| !value.is_empty()),
            _ => not_asked("this header"),
        }
    }

    /// A header's value as text; `None` also when it is not UTF-8.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// All headers: name and raw value.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        match self.columns.headers {
            Some(blobs) => Headers::of(blob(blobs, self.row)),
            None => not_asked("the headers"),
        }
    }
}

/// Iterates over an encoded map of headers: name, raw value bytes. Ends early on
/// bytes that are no such map, which the broker never sends.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Headers<'a> {
    /// Over an encoded map of headers, as on the wire.
    #[must_use]
    pub fn of(encoded: &'a [u8]) -> Self {
        let mut headers = Self { rest: encoded, left: 0 };
        headers.left = match headers.byte() {
            Some(byte @ 0x80..=0x8f) => usize::from(byte & 0x0f),
            Some(0xde) => headers.uint(2).unwrap_or(0),
            Some(0xdf) => headers.uint(4).unwrap_or(0),
            _ => 0,
        };
        headers
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn uint(&mut self, width: usize) -> Option<usize> {
        let (bytes, rest) = self.rest.split_at_checked(width)?;
        self.rest = rest;
        Some(bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    }

    /// The encoded bytes not read yet. What lies between two calls was read in
    /// between, its value last: a way to remember where values are.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next header, its name as bytes: names are checked where they come in,
    /// and comparing needs no second check.
    #[inline]
    pub fn next_bytes(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        self.left = self.left.checked_sub(1)?;
        Some((self.text_or_bytes()?, self.text_or_bytes()?))
    }

    #[inline]
    fn text_or_bytes(&mut self) -> Option<&'a [u8]> {
        let len = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 | 0xc4 => self.uint(1)?,
            0xda | 0xc5 => self.uint(2)?,
            0xdb | 0xc6 => self.uint(4)?,
            _ => return None,
        };
        let (value, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(value)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.next_bytes()?;
        Some((std::str::from_utf8(name).ok()?, value))
    }
}
