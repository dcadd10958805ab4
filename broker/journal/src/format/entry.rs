//! One entry of a block: its row in the table, and what its body holds.

use std::ops::Range;

use bytes::Bytes;
use weir_core::command::Level;
use weir_message::{Batch, Ends};

use super::{u16_at, u32_at, u64_at};
use crate::limits::{NAME_BYTES_MAX, TABLE_ENTRY_BYTES};

/// What an entry says. `a` to `d` are its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Records: `a` base offset, `b` count, `c` time ms, `d` due ms (0: at once).
    /// Body: `b` ends (u32, within the message bytes), then the messages' bytes.
    Append = 1,
    /// Records `a..b` are settled for good.
    Release = 2,
    /// Everything below `a` is dropped.
    Trim = 3,
    /// A cursor log: everything below `a` is settled, nothing above.
    Reset = 4,
    /// A log begins. Body: its name.
    OpenLog = 5,
    /// A log ends.
    RemoveLog = 6,
    /// The catalogue's key gets a value at revision `a`. Body: key and value.
    Put = 7,
    /// The catalogue's key goes at revision `a`. Body: the key.
    Unput = 8,
    /// A snapshot is replaced. Body: name and bytes.
    Snapshot = 9,
    /// The loss of `a..b` is accepted.
    LossAccepted = 10,
    /// Checkpoint: a log. `a` start, `b` end, `c` its segments, and in the upper half
    /// how many offsets before the end are of no record on the disk, `d` latest time
    /// ms. Body: name, count, released stretches.
    LogState = 11,
    /// Checkpoint: a segment. `a` base, `b` end, `c` bytes to trust, `d` flags.
    SegmentState = 12,
    /// Checkpoint: the last entry. `a` first journal file to replay, `b` last
    /// block known synced, `c` next log number, `d` revision of the catalogue.
    CheckpointEnd = 13,
    /// Checkpoint: where the chain of blocks goes on. `a` last block of which all is
    /// in it, `c` number of the next block, `d` header checksum of the one before it.
    CheckpointChain = 14,
    /// Checkpoint: records `a..b` of the log are lost, and nobody has accepted it.
    LogDamage = 15,
    /// Records of `a..b` are settled for good, those whose bit is set: the offsets from
    /// `a` on are the bits of `c`, the lowest first, then those of `d`.
    ReleaseSome = 16,
}

/// Offsets that one [`EntryKind::ReleaseSome`] spans at most.
pub(crate) const SOME_OFFSETS: u64 = 128;

impl EntryKind {
    /// Every kind, by code.
    pub const ALL: [Self; 16] = [
        Self::Append,
        Self::Release,
        Self::Trim,
        Self::Reset,
        Self::OpenLog,
        Self::RemoveLog,
        Self::Put,
        Self::Unput,
        Self::Snapshot,
        Self::LossAccepted,
        Self::LogState,
        Self::SegmentState,
        Self::CheckpointEnd,
        Self::CheckpointChain,
        Self::LogDamage,
        Self::ReleaseSome,
    ];

    fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

fn level_of(code: u8) -> Option<Level> {
    [Level::Memory, Level::Os, Level::Disk].get(usize::from(code)).copied()
}

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// The bytes end before the body does.
    #[error("the body is not all there")]
    Short,
    /// Not the bytes that were written.
    #[error("the body's checksum differs")]
    Checksum,
    /// The bytes are as written, but do not form what the entry says.
    #[error("the body does not hold what its entry says")]
    Shape,
}

/// A row of a block's table. What the numbers mean says [`EntryKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub kind: EntryKind,
    /// How safely it was asked to be kept.
    pub level: Level,
    /// Number of the log it speaks of, or 0.
    pub log: u64,
    /// First number.
    pub a: u64,
    /// Second number.
    pub b: u64,
    /// Third number.
    pub c: u64,
    /// Fourth number.
    pub d: u64,
    /// Where the body lies, counted from the start of the *block*.
    pub body: Range<usize>,
    /// Checksum of the body.
    pub body_crc: u32,
}

impl Entry {
    /// Whether the body is what was written. `bytes` start with the block.
    #[must_use]
    pub fn body_is_sound(&self, bytes: &[u8]) -> bool {
        bytes.get(self.body.clone()).is_some_and(|body| crc32c::crc32c(body) == self.body_crc)
    }

    /// The body, checked. `bytes` start with the block.
    ///
    /// # Errors
    /// [`Unsound::Short`] or [`Unsound::Checksum`].
    pub fn sound_body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Unsound> {
        let body = bytes.get(self.body.clone()).ok_or(Unsound::Short)?;
        if crc32c::crc32c(body) != self.body_crc {
            return Err(Unsound::Checksum);
        }
        Ok(body)
    }

    /// The records of an append, checked, sharing memory with `bytes`, which
    /// start with the block.
    ///
    /// # Errors
    /// [`Unsound`]; `Shape` also when the entry is no append.
    pub fn append_batch(&self, bytes: &Bytes) -> Result<Batch, Unsound> {
        self.sound_body(bytes)?;
        batch_of_body(self, &bytes.slice(self.body.clone()))
    }

    /// What it settles, run by run; nothing where it is no release.
    pub fn settled(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let whole = (self.kind == EntryKind::Release && self.a < self.b).then_some(self.a..self.b);
        let is_some = self.kind == EntryKind::ReleaseSome;
        let mut bits = if is_some { bits_of(self.c, self.d) } else { 0 };
        let mut at = self.a;
        let runs = std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let gap = bits.trailing_zeros();
            bits >>= gap;
            let len = bits.trailing_ones();
            bits = bits.checked_shr(len).unwrap_or(0);
            let start = at + u64::from(gap);
            at = start + u64::from(len);
            Some(start..at)
        });
        whole.into_iter().chain(runs)
    }

    /// Reads a row whose body must start at `body_pos` of the bodies, which start
    /// at `bodies` of the block and are `bodies_len` long. `None`: no such row was
    /// ever written.
    pub(super) fn decode(
        row: &[u8],
        bodies: usize,
        body_pos: usize,
        bodies_len: usize,
    ) -> Option<Self> {
        let (pos, len) = (u32_at(row, 48) as usize, u32_at(row, 52) as usize);
        if pos != body_pos || len > bodies_len - pos || u16_at(row, 2) != 0 {
            return None;
        }
        let entry = Self {
            kind: EntryKind::of(row[0])?,
            level: level_of(row[1])?,
            log: u64_at(row, 8),
            a: u64_at(row, 16),
            b: u64_at(row, 24),
            c: u64_at(row, 32),
            d: u64_at(row, 40),
            body: bodies + pos..bodies + pos + len,
            body_crc: u32_at(row, 4),
        };
        entry.is_plausible().then_some(entry)
    }

    /// What readers may rely on without a check of their own.
    fn is_plausible(&self) -> bool {
        match self.kind {
            EntryKind::Append => {
                let count = self.body.len() as u64 / 4;
                self.b > 0 && self.b <= count && self.a.checked_add(self.b).is_some()
            }
            EntryKind::Release
            | EntryKind::LossAccepted
            | EntryKind::LogDamage
            | EntryKind::LogState
            | EntryKind::SegmentState => self.a <= self.b,
            // The stretch ends where its bits do, on both sides.
            EntryKind::ReleaseSome => {
                let bits = bits_of(self.c, self.d);
                let span = SOME_OFFSETS - u64::from(bits.leading_zeros());
                bits & 1 == 1 && self.a.checked_add(span) == Some(self.b)
            }
            EntryKind::CheckpointChain => u32::try_from(self.d).is_ok(),
            _ => true,
        }
    }

    /// Writes the row into `row`, whose bytes are zero.
    pub(super) fn encode(&self, row: &mut [u8], body_pos: usize) {
        debug_assert_eq!(row.len(), TABLE_ENTRY_BYTES);
        row[0] = self.kind as u8;
        row[1] = self.level as u8;
        row[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        row[8..16].copy_from_slice(&self.log.to_le_bytes());
        for (at, number) in [self.a, self.b, self.c, self.d].into_iter().enumerate() {
            row[16 + 8 * at..24 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        row[48..52].copy_from_slice(&(body_pos as u32).to_le_bytes());
        row[52..56].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
    }
}

/// The bits of a [`EntryKind::ReleaseSome`], from its last two numbers.
pub(crate) fn bits_of(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// The records in `body`, the body of the append `entry`, sharing its memory.
/// The checksum is the caller's.
///
/// # Errors
/// [`Unsound::Shape`].
pub fn batch_of_body(entry: &Entry, body: &Bytes) -> Result<Batch, Unsound> {
    let count = usize::try_from(entry.b).map_err(|_| Unsound::Shape)?;
    let ends_len = count.checked_mul(4).ok_or(Unsound::Shape)?;
    if entry.kind != EntryKind::Append || count == 0 || ends_len > body.len() {
        return Err(Unsound::Shape);
    }
    let ends: Ends = body[..ends_len].chunks_exact(4).map(|end| u32_at(end, 0)).collect();
    let rising = ends[0] > 0 && ends.windows(2).all(|pair| pair[0] < pair[1]);
    if !rising || ends[count - 1] as usize != body.len() - ends_len {
        return Err(Unsound::Shape);
    }
    Ok(Batch { bytes: body.slice(ends_len..), ends })
}

/// A name (or key) and what belongs to it, as the body of a put or a snapshot.
///
/// # Panics
/// When the name is longer than [`NAME_BYTES_MAX`].
#[must_use]
pub fn named_body(name: &str, bytes: &[u8]) -> Vec<u8> {
    assert!(name.len() <= NAME_BYTES_MAX, "names are bounded where they are made");
    let mut body = Vec::with_capacity(4 + name.len() + bytes.len());
    body.extend_from_slice(&(name.len() as u32).to_le_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(bytes);
    body
}

/// Reads what [`named_body`] wrote.
///
/// # Errors
/// [`Unsound::Shape`].
pub fn parse_named(body: &[u8]) -> Result<(&str, &[u8]), Unsound> {
    let (len, rest) = body.split_at_checked(4).ok_or(Unsound::Shape)?;
    let len = u32_at(len, 0) as usize;
    if len > NAME_BYTES_MAX {
        return Err(Unsound::Shape);
    }
    let (name, bytes) = rest.split_at_checked(len).ok_or(Unsound::Shape)?;
    Ok((std::str::from_utf8(name).map_err(|_| Unsound::Shape)?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_of_some_spans_its_bits_exactly() {
        let is_read = |a: u64, b: u64, bits: u128| {
            let (kind, level) = (EntryKind::ReleaseSome, Level::Os);
            let (c, d) = (bits as u64, (bits >> 64) as u64);
            let entry = Entry { kind, level, log: 1, a, b, c, d, body: 0..0, body_crc: 0 };
            let mut row = [0; TABLE_ENTRY_BYTES];
            entry.encode(&mut row, 0);
            Entry::decode(&row, 0, 0, 0).is_some()
        };
        assert!(is_read(7, 10, 0b101) && is_read(7, 135, u128::MAX));
        assert!(is_read(u64::MAX - 3, u64::MAX, 0b101));
        assert!(!is_read(7, 7, 0), "it settles something");
        assert!(!is_read(7, 10, 0b110), "it begins with its first");
        assert!(!is_read(7, 11, 0b101) && !is_read(7, 9, 0b101), "and ends with its last");
        assert!(!is_read(u64::MAX - 1, 0, 0b101), "no offset is past the last");
    }
}
