//! Messages as columns: only what a manifest asked for, straight from the
//! messages' bytes, into buffers that are used again.

use weir_message::{Headers, Parts, key_hash};

use crate::bindings::weir::policy::types::{BlobsParam, CellsParam, ColumnParam};
use crate::manifest::{Manifest, column};

/// The map that stands for "no headers" in column 4.
const NO_HEADERS: &[u8] = &[0x80];

/// Texts up to this length are copied without a call.
const SHORT_BYTES: usize = 16;

/// Which columns a policy gets.
#[derive(Clone, Debug)]
pub(crate) struct ColumnSet {
    ids: Box<[u16]>,
    headers: Box<[String]>,
    head_bytes: usize,
}

/// One message to be shown to a policy.
#[derive(Clone, Copy)]
pub(crate) struct RowRef<'a> {
    /// What `parts` points into.
    pub(crate) buffer: &'a [u8],
    pub(crate) parts: &'a Parts,
    pub(crate) publisher: u32,
    /// When the broker took it, ms since the epoch.
    pub(crate) time_ms: u64,
    /// Offset, 0 before it is stored.
    pub(crate) sequence: u64,
}

/// Buffers of one column; a fill uses the ones its layout needs.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    words: Vec<u32>,
    longs: Vec<u64>,
}

/// Columns of the last fill.
#[derive(Debug, Default)]
pub(crate) struct ColumnBuffers {
    columns: Vec<Buffer>,
}

impl ColumnSet {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self {
            ids: manifest.columns.clone().into(),
            headers: manifest.header_columns.clone().into(),
            head_bytes: manifest.payload_head_bytes as usize,
        }
    }

    /// As [`ColumnSet::of`], without what a delivery policy is not shown.
    pub(crate) fn of_delivery(manifest: &Manifest) -> Self {
        let mut set = Self::of(manifest);
        let heavy = [column::PAYLOAD, column::HEADERS, column::PAYLOAD_HEAD];
        set.ids = set.ids.iter().copied().filter(|id| !heavy.contains(id)).collect();
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn header(&self, id: u16) -> &str {
        &self.headers[usize::from(id - column::HEADER_FIRST)]
    }

    /// Appends what the columns hold for `row`, so that different values give
    /// different bytes: the key under which an answer is remembered.
    pub(crate) fn key(&self, row: RowRef<'_>, key: &mut Vec<u8>) {
        for &id in &*self.ids {
            match id {
                column::PUBLISHER | column::SIZE | column::KEY_HASH => {
                    key.extend_from_slice(&row.word(id).to_le_bytes());
                }
                column::PUBLISHED_AT | column::SEQUENCE => {
                    key.extend_from_slice(&row.long(id).to_le_bytes());
                }
                _ => {
                    let value = row.blob(self, id);
                    key.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    key.extend_from_slice(value);
                }
            }
        }
    }
}

impl<'a> RowRef<'a> {
    fn slice(&self, (start, len): (u32, u32)) -> &'a [u8] {
        &self.buffer[start as usize..(start + len) as usize]
    }

    fn place(&self, (start, len): (u32, u32)) -> (&'a [u8], usize, usize) {
        (self.buffer, start as usize, len as usize)
    }

    pub(crate) fn subject(&self) -> &'a [u8] {
        self.slice(self.parts.subject)
    }

    fn blob(&self, set: &ColumnSet, id: u16) -> &'a [u8] {
        match id {
            column::SUBJECT => self.subject(),
            column::PAYLOAD => self.slice(self.parts.payload),
            column::KEY => self.slice(self.parts.key),
            column::HEADERS if self.parts.headers.1 == 0 => NO_HEADERS,
            column::HEADERS => self.slice(self.parts.headers),
            column::PAYLOAD_HEAD => {
                let payload = self.slice(self.parts.payload);
                &payload[..payload.len().min(set.head_bytes)]
            }
            _ => {
                let name = set.header(id);
                let headers = Headers::of(self.slice(self.parts.headers));
                headers.into_iter().find(|(header, _)| *header == name).map_or(&[], |(_, v)| v)
            }
        }
    }

    fn word(&self, id: u16) -> u32 {
        match id {
            column::PUBLISHER => self.publisher,
            column::SIZE => self.parts.payload.1,
            _ => key_hash(self.slice(self.parts.key)),
        }
    }

    fn long(&self, id: u16) -> u64 {
        if id == column::PUBLISHED_AT { self.time_ms } else { self.sequence }
    }
}

impl ColumnBuffers {
    /// Builds the columns of `set` for `rows` messages.
    pub(crate) fn fill<'a>(
        &mut self,
        set: &ColumnSet,
        rows: usize,
        row: impl Fn(usize) -> RowRef<'a>,
    ) {
        self.columns.resize_with(set.ids.len().max(self.columns.len()), Buffer::default);
        for (&id, buffer) in set.ids.iter().zip(&mut self.columns) {
            match id {
                column::PUBLISHER | column::SIZE | column::KEY_HASH => {
                    buffer.words.clear();
                    buffer.words.extend((0..rows).map(|at| row(at).word(id)));
                }
                column::PUBLISHED_AT | column::SEQUENCE => {
                    buffer.longs.clear();
                    buffer.longs.extend((0..rows).map(|at| row(at).long(id)));
                }
                column::SUBJECT => buffer.gather(rows, |at| row(at).place(row(at).parts.subject)),
                column::KEY => buffer.gather(rows, |at| row(at).place(row(at).parts.key)),
                _ => {
                    buffer.bytes.clear();
                    buffer.ends.clear();
                    buffer.ends.reserve(rows);
                    for at in 0..rows {
                        buffer.bytes.extend_from_slice(row(at).blob(set, id));
                        buffer.ends.push(buffer.bytes.len() as u32);
                    }
                }
            }
        }
    }

    /// The columns of the last fill with `set`.
    pub(crate) fn columns(&self, set: &ColumnSet) -> Vec<ColumnParam<'_>> {
        set.ids.iter().zip(&self.columns).map(|(&id, buffer)| buffer.column(id)).collect()
    }
}

impl Buffer {
    /// Collects texts that are mostly short, each given by the buffer it lies in,
    /// its start and its length. Short ones are copied by whole words of a fixed
    /// size, what is too much being overwritten by the next: a copy of a length
    /// that the compiler does not know is a call.
    fn gather<'a>(&mut self, rows: usize, text: impl Fn(usize) -> (&'a [u8], usize, usize)) {
        let Self { bytes, ends, .. } = self;
        ends.clear();
        ends.reserve(rows);
        let mut end = 0;
        for at in 0..rows {
            let (buffer, start, len) = text(at);
            let next = end + len;
            if bytes.len() < next + SHORT_BYTES {
                bytes.resize((next + SHORT_BYTES).max(2 * bytes.len()), 0);
            }
            match buffer.get(start..start + SHORT_BYTES) {
                Some(words) if len <= SHORT_BYTES => {
                    bytes[end..end + SHORT_BYTES].copy_from_slice(words);
                }
                _ => bytes[end..next].copy_from_slice(&buffer[start..start + len]),
            }
            ends.push(next as u32);
            end = next;
        }
        bytes.truncate(end);
    }

    fn column(&self, id: u16) -> ColumnParam<'_> {
        let cells = match id {
            column::PUBLISHER | column::SIZE | column::KEY_HASH => CellsParam::Words(&self.words),
            column::PUBLISHED_AT | column::SEQUENCE => CellsParam::Longs(&self.longs),
            _ => CellsParam::Blobs(BlobsParam { bytes: &self.bytes, ends: &self.ends }),
        };
        ColumnParam { id, cells }
    }
}
