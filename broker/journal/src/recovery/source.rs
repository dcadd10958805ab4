//! The journal files that a start reads, in memory one or two at a time: what a
//! start needs does not grow with what there is to read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{OpenError, io};
use crate::files::{File, Files};
use crate::format::{self, FILE_HEAD_BYTES, FileHead, HeadError, Kind};
use crate::writer;

/// Files in memory at once: the one that is read, and the next, which tells whether
/// this one ends.
const LOADED_MAX: usize = 2;

/// A journal file to be read.
pub(super) struct Source {
    pub(super) sequence: u64,
    pub(super) path: String,
    pub(super) file: Arc<dyn File>,
    /// Number of its first block and the chain's CRC before it; known once the walk
    /// is there.
    pub(super) first_block: u64,
    pub(super) chain_crc: u32,
}

/// See the file's head.
pub(super) struct Sources {
    pub(super) files: Vec<Source>,
    loaded: VecDeque<(usize, Bytes)>,
}

impl Sources {
    /// Opens the files `wanted` and looks at their heads. Tells whose they are
    /// where that is not known, and names the heads that are `damaged`.
    ///
    /// # Errors
    /// [`OpenError`]: a file of another store, of a newer version, or one that does
    /// not say what it is.
    pub(super) fn open(
        files: &dyn Files,
        wanted: &[u64],
        store_id: &mut Option<u128>,
        damaged: &mut Vec<String>,
    ) -> Result<Self, OpenError> {
        let mut sources = Vec::with_capacity(wanted.len());
        for &sequence in wanted {
            let path = writer::path(sequence);
            let file = files.open(&path).map_err(io(&path))?;
            let head = format::load(&*file, 0, FILE_HEAD_BYTES).map_err(io(&path))?;
            match FileHead::decode(&head, Kind::Journal) {
                Ok(head) if head.sequence != sequence => {
                    let what = format!("{path} says that it is file {:016x}", head.sequence);
                    return Err(OpenError::Metadata { what });
                }
                Ok(head) if *store_id.get_or_insert(head.store) != head.store => {
                    return Err(OpenError::Foreign { path });
                }
                Ok(_) => {}
                Err(HeadError::Newer(version)) => {
                    return Err(OpenError::Newer { path, version, known: format::FORMAT_VERSION });
                }
                // Made and never used: nothing in it was acknowledged.
                Err(HeadError::Blank) if store_id.is_none() && wanted.last() == Some(&sequence) => {
                }
                // Blocks carry all that is needed but the store's number.
                Err(error) if store_id.is_some() => damaged.push(format!("{path}: {error}")),
                Err(error) => {
                    let what = format!("the head of {path} is damaged: {error}");
                    return Err(OpenError::Metadata { what });
                }
            }
            sources.push(Source { sequence, path, file, first_block: 0, chain_crc: 0 });
        }
        Ok(Self { files: sources, loaded: VecDeque::new() })
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `OpenError::Io`.
    pub(super) fn bytes(&mut self, index: usize) -> Result<Bytes, OpenError> {
        if let Some((_, bytes)) = self.loaded.iter().find(|(of, _)| *of == index) {
            return Ok(bytes.clone());
        }
        if self.loaded.len() == LOADED_MAX {
            self.loaded.pop_front();
        }
        let source = &self.files[index];
        let bytes = format::load(&*source.file, 0, usize::MAX).map_err(io(&source.path))?;
        self.loaded.push_back((index, bytes.clone()));
        Ok(bytes)
    }
}
