//! The head of a file: what it is, whose it is, which one it is. Its layout, the
//! checksum included, stays the same in all versions of the format: only so can a
//! version we do not know be told from damage.

use super::{array, u16_at, u32_at, u64_at};
use crate::limits::FILE_HEAD_BYTES;

/// Version this program writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 2;

const MAGIC: &[u8; 8] = b"WEIRFILE";
/// Bytes before the checksum, and what it covers.
const COVERED: usize = 52;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What happened to all logs, in order.
    Journal = 1,
    /// Records of one log that outlived the journal.
    Segment = 2,
    /// The state from which the journal is replayed.
    Checkpoint = 3,
    /// Up to which block the journal is synced.
    Mark = 4,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Journal),
            2 => Some(Self::Segment),
            3 => Some(Self::Checkpoint),
            4 => Some(Self::Mark),
            _ => None,
        }
    }
}

/// The first [`FILE_HEAD_BYTES`] of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// What the file holds.
    pub kind: Kind,
    /// Id of the data folder it belongs to.
    pub store: u128,
    /// Journal: number of the file. Segment: its base offset, the revision in the
    /// highest byte. Checkpoint: number. Mark: number of the last synced block.
    pub sequence: u64,
    /// Segment: number of its log. Otherwise 0.
    pub log: u64,
    /// When it was made, ms since the epoch.
    pub created_ms: u64,
}

/// Why a file's head cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Nothing but zeros, or nothing at all.
    #[error("the file has no head: it is blank")]
    Blank,
    /// Of a format we do not know.
    #[error("made by a newer weir: format {0}, this one reads up to {FORMAT_VERSION}")]
    Newer(u16),
    /// Not what was written.
    #[error("the file's head is damaged: {0}")]
    Damaged(&'static str),
    /// Of another data folder; the caller compares [`FileHead::store`].
    #[error("the file belongs to another data folder")]
    Foreign,
}

impl FileHead {
    /// The head's bytes, [`FILE_HEAD_BYTES`] long.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEAD_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[self.kind as u8, 0]);
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.log.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(FILE_HEAD_BYTES, 0);
        bytes
    }

    /// Reads the head of a file of which `bytes` are the first.
    ///
    /// # Errors
    /// [`HeadError`], all but `Foreign`.
    pub fn decode(bytes: &[u8], expected: Kind) -> Result<Self, HeadError> {
        let head = &bytes[..bytes.len().min(FILE_HEAD_BYTES)];
        if head.iter().all(|&byte| byte == 0) {
            return Err(HeadError::Blank);
        }
        if head.len() < FILE_HEAD_BYTES {
            return Err(HeadError::Damaged("the file ends in it"));
        }
        if &head[..8] != MAGIC {
            return Err(HeadError::Damaged("it is not a file of weir's"));
        }
        if u32_at(head, COVERED) != crc32c::crc32c(&head[..COVERED]) {
            return Err(HeadError::Damaged("its checksum differs"));
        }
        match u16_at(head, 8) {
            1..=FORMAT_VERSION => {}
            0 => return Err(HeadError::Damaged("no format has the number 0")),
            version => return Err(HeadError::Newer(version)),
        }
        if Kind::of(head[10]) != Some(expected) {
            return Err(HeadError::Damaged("it is of another kind of file"));
        }
        Ok(Self {
            kind: expected,
            store: u128::from_le_bytes(array(head, 12)),
            sequence: u64_at(head, 28),
            log: u64_at(head, 36),
            created_ms: u64_at(head, 44),
        })
    }
}
