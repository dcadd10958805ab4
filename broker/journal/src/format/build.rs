//! Building blocks. The writer and the keeper collect entries here; the messages
//! of an append are kept by reference and copied once, into the finished block.

use std::ops::Range;

use bytes::Bytes;
use weir_core::command::Level;
use weir_message::Batch;

use super::read::BLOCK_MAGIC;
use super::{BlockHead, Entry, EntryKind, padded};
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BUILDER_BYTES_MAX, BUILDER_ENTRIES_MAX, OPEN_APPENDS,
    TABLE_ENTRIES_MAX, TABLE_ENTRY_BYTES,
};

/// No piece, or no row.
const NONE: u32 = u32::MAX;

/// What became of a builder's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedBlock {
    /// Bytes written, padding included.
    pub len: usize,
    /// Checksum of the header: `previous_crc` of the next block.
    pub header_crc: u32,
}

/// Collects the entries of one block. Used again after [`BlockBuilder::finish`],
/// with the memory it has.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    rows: Vec<Row>,
    pieces: Vec<Piece>,
    /// Bodies that were handed over by copy.
    copied: Vec<u8>,
    /// Ends of the messages of all pieces, each relative to its piece.
    ends: Vec<u32>,
    bodies_len: usize,
    /// By the rest of its log's number, the row of an append that a further batch may go on
    /// with. Of two logs with one rest the later is known: the other begins a new row.
    open_appends: Vec<u32>,
}

#[derive(Debug)]
struct Row {
    kind: EntryKind,
    level: Level,
    log: u64,
    numbers: [u64; 4],
    /// Its pieces, a list through `Piece::next`.
    first: u32,
    last: u32,
    body_len: usize,
    /// Bytes of messages in an append.
    message_bytes: usize,
}

/// One batch of an append, or a copied body.
#[derive(Debug)]
struct Piece {
    bytes: PieceBytes,
    ends: Range<usize>,
    next: u32,
}

#[derive(Debug)]
enum PieceBytes {
    Shared(Bytes),
    Copied(Range<usize>),
}

impl BlockBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True when nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the memory that an emptied one has is no more than a usual block needs.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        let entries = [self.rows.capacity(), self.pieces.capacity()];
        entries.into_iter().all(|entries| entries <= BUILDER_ENTRIES_MAX)
            && self.ends.capacity() <= 4 * BUILDER_ENTRIES_MAX
            && self.copied.capacity() <= BUILDER_BYTES_MAX
    }

    /// Entries so far.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.rows.len()
    }

    /// Bytes the block would have now, padding included: exact.
    #[must_use]
    pub fn len_estimate(&self) -> usize {
        padded(self.content_len())
    }

    fn content_len(&self) -> usize {
        BLOCK_HEADER_BYTES + self.rows.len() * TABLE_ENTRY_BYTES + self.bodies_len
    }

    /// Whether one more entry with a body of that many bytes keeps the block
    /// within the limits of the format.
    #[must_use]
    pub fn has_room(&self, body_len: usize) -> bool {
        self.rows.len() < TABLE_ENTRIES_MAX
            && body_len <= BLOCK_BYTES_MAX
            && padded(self.content_len() + TABLE_ENTRY_BYTES + body_len) <= BLOCK_BYTES_MAX
    }

    /// Adds an entry whose body is `body_parts` end to end.
    pub fn push(
        &mut self,
        kind: EntryKind,
        level: Level,
        log: u64,
        numbers: [u64; 4],
        body_parts: &[&[u8]],
    ) {
        if closes_append(kind) {
            self.close_append(log);
        }
        let start = self.copied.len();
        body_parts.iter().for_each(|part| self.copied.extend_from_slice(part));
        let copied = start..self.copied.len();
        let body_len = copied.len();
        let piece = match body_len {
            0 => NONE,
            _ => self.add_piece(PieceBytes::Copied(copied), 0..0),
        };
        self.bodies_len += body_len;
        let (first, last) = (piece, piece);
        self.rows.push(Row { kind, level, log, numbers, first, last, body_len, message_bytes: 0 });
    }

    /// Adds an append of a batch that is not empty: `base` is the offset of its
    /// first record.
    pub fn push_append(
        &mut self,
        level: Level,
        log: u64,
        base: u64,
        time_ms: u64,
        due_ms: u64,
        batch: Batch,
    ) {
        debug_assert!(!batch.is_empty(), "an append holds records");
        let (count, body_len, message_bytes) =
            (batch.len() as u64, body_len(&batch), batch.bytes.len());
        let piece = self.add_batch(&batch.ends, batch.bytes);
        self.bodies_len += body_len;
        if let Some(open) = self.open_appends.get_mut(rest_of(log)) {
            *open = self.rows.len() as u32;
        }
        self.rows.push(Row {
            kind: EntryKind::Append,
            level,
            log,
            numbers: [base, count, time_ms, due_ms],
            first: piece,
            last: piece,
            body_len,
            message_bytes,
        });
    }

    /// Makes `batch` part of the log's last append in this block. Returns false,
    /// and changes nothing, when there is none that it may join: that has the
    /// same level and times, ends at `base` and was followed by nothing but
    /// releases and trims of the log, in a block that has room, and no other log has taken
    /// its place in the table.
    #[must_use]
    pub fn extend_last_append(
        &mut self,
        level: Level,
        log: u64,
        base: u64,
        time_ms: u64,
        due_ms: u64,
        batch: &Batch,
    ) -> bool {
        if self.open_appends.is_empty() {
            self.know_open_appends();
        }
        let Some(at) = self.open_append(log) else { return false };
        let row = &self.rows[at as usize];
        let added = body_len(batch);
        let joins = row.level == level
            && row.numbers[0] + row.numbers[1] == base
            && row.numbers[2..] == [time_ms, due_ms]
            && u32::try_from(row.message_bytes + batch.bytes.len()).is_ok()
            && padded(self.content_len() + added) <= BLOCK_BYTES_MAX;
        if !joins {
            return false;
        }
        let piece = self.add_batch(&batch.ends, batch.bytes.clone());
        let row = &mut self.rows[at as usize];
        self.pieces[row.last as usize].next = piece;
        row.last = piece;
        row.numbers[1] += batch.len() as u64;
        row.body_len += added;
        row.message_bytes += batch.bytes.len();
        self.bodies_len += added;
        true
    }

    /// Writes the block behind what `into` holds and starts anew.
    ///
    /// # Panics
    /// When the block is longer than [`BLOCK_BYTES_MAX`] or has more entries than
    /// [`TABLE_ENTRIES_MAX`]: the caller asks [`BlockBuilder::has_room`].
    pub fn finish(&mut self, head: BlockHead, into: &mut Vec<u8>) -> FinishedBlock {
        let len = self.len_estimate();
        assert!(len <= BLOCK_BYTES_MAX, "a block of {len} bytes is never read again");
        assert!(self.rows.len() <= TABLE_ENTRIES_MAX, "too many entries for one block");
        let start = into.len();
        let table = start + BLOCK_HEADER_BYTES;
        let bodies = table + self.rows.len() * TABLE_ENTRY_BYTES;
        into.reserve(len);
        into.resize(bodies, 0);
        for (number, row) in self.rows.iter().enumerate() {
            let body = into.len();
            self.write_body(row, into);
            let [a, b, c, d] = row.numbers;
            let body_crc = crc32c::crc32c(&into[body..]);
            let (kind, level, log) = (row.kind, row.level, row.log);
            let entry = Entry { kind, level, log, a, b, c, d, body: body..into.len(), body_crc };
            let at = table + number * TABLE_ENTRY_BYTES;
            entry.encode(&mut into[at..at + TABLE_ENTRY_BYTES], body - bodies);
        }
        let bodies_len = into.len() - bodies;
        debug_assert_eq!(bodies_len, self.bodies_len);
        let table_crc = crc32c::crc32c(&into[table..bodies]);
        let header = &mut into[start..table];
        let mut put = |at: usize, value: u64, len: usize| {
            header[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        };
        put(0, u64::from(BLOCK_MAGIC), 4);
        put(8, u64::from(head.store_tag), 4);
        put(12, u64::from(table_crc), 4);
        put(16, self.rows.len() as u64, 4);
        put(20, (self.rows.len() * TABLE_ENTRY_BYTES) as u64, 4);
        put(24, bodies_len as u64, 4);
        put(32, head.number, 8);
        put(40, head.file_sequence, 8);
        put(48, head.durable, 8);
        put(56, u64::from(head.previous_crc), 4);
        let header_crc = crc32c::crc32c(&header[8..]);
        header[4..8].copy_from_slice(&header_crc.to_le_bytes());
        into.resize(start + len, 0);
        self.clear();
        FinishedBlock { len, header_crc }
    }

    fn write_body(&self, row: &Row, into: &mut Vec<u8>) {
        let mut base = 0;
        for piece in self.pieces_of(row) {
            let ends = &self.ends[piece.ends.clone()];
            ends.iter().for_each(|end| into.extend_from_slice(&(base + end).to_le_bytes()));
            base += ends.last().copied().unwrap_or(0);
        }
        for piece in self.pieces_of(row) {
            into.extend_from_slice(match &piece.bytes {
                PieceBytes::Shared(bytes) => bytes,
                PieceBytes::Copied(range) => &self.copied[range.clone()],
            });
        }
    }

    fn pieces_of(&self, row: &Row) -> impl Iterator<Item = &Piece> {
        let piece = |at: u32| self.pieces.get(at as usize);
        std::iter::successors(piece(row.first), move |last| piece(last.next))
    }

    fn add_batch(&mut self, ends: &[u32], bytes: Bytes) -> u32 {
        let start = self.ends.len();
        self.ends.extend_from_slice(ends);
        self.add_piece(PieceBytes::Shared(bytes), start..self.ends.len())
    }

    fn add_piece(&mut self, bytes: PieceBytes, ends: Range<usize>) -> u32 {
        self.pieces.push(Piece { bytes, ends, next: NONE });
        self.pieces.len() as u32 - 1
    }

    /// Makes the table, for the first who asks: who writes segments never does.
    fn know_open_appends(&mut self) {
        self.open_appends.resize(OPEN_APPENDS as usize, NONE);
        for (at, row) in (0..).zip(&self.rows) {
            if row.kind == EntryKind::Append {
                self.open_appends[rest_of(row.log)] = at;
            } else if closes_append(row.kind) {
                self.open_appends[rest_of(row.log)] = NONE;
            }
        }
    }

    fn open_append(&self, log: u64) -> Option<u32> {
        let at = *self.open_appends.get(rest_of(log))?;
        self.rows.get(at as usize).is_some_and(|row| row.log == log).then_some(at)
    }

    fn close_append(&mut self, log: u64) {
        if self.open_append(log).is_some() {
            self.open_appends[rest_of(log)] = NONE;
        }
    }

    fn clear(&mut self) {
        if !self.open_appends.is_empty() {
            self.rows.iter().for_each(|row| self.open_appends[rest_of(row.log)] = NONE);
        }
        self.rows.clear();
        self.pieces.clear();
        self.copied.clear();
        self.ends.clear();
        self.bodies_len = 0;
    }
}

/// Whether nothing joins an append that such an entry follows. What is settled or dropped
/// was appended before, and stays so.
fn closes_append(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::Release | EntryKind::ReleaseSome | EntryKind::Trim)
}

fn rest_of(log: u64) -> usize {
    (log % OPEN_APPENDS) as usize
}

fn body_len(batch: &Batch) -> usize {
    4 * batch.len() + batch.bytes.len()
}
