//! Open segment files, kept for the next reader.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::path;
use crate::files::{File, Files};

/// Most segment files kept open.
const HANDLES_MAX: usize = 256;

/// Log, base and revision of a segment.
type Key = (u64, u64, u8);

/// The segment files used last. Shared by all readers behind a mutex that is held
/// to find a file, not to read it.
#[derive(Default)]
pub(crate) struct Handles {
    /// With the turn of the last use.
    open: HashMap<Key, (Arc<dyn File>, u64)>,
    turn: u64,
}

impl Handles {
    /// The file of a segment.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn get(
        &mut self,
        files: &dyn Files,
        log: u64,
        base: u64,
        revision: u8,
    ) -> io::Result<Arc<dyn File>> {
        self.turn += 1;
        if let Some((file, turn)) = self.open.get_mut(&(log, base, revision)) {
            *turn = self.turn;
            return Ok(file.clone());
        }
        let file = files.open(&path(log, base, revision))?;
        if self.open.len() >= HANDLES_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, turn))| *turn).map(|(key, _)| *key);
            oldest.and_then(|key| self.open.remove(&key));
        }
        self.open.insert((log, base, revision), (file.clone(), self.turn));
        Ok(file)
    }

    /// Closes files of a log, so that deleting them gives their space back: those
    /// that `is_gone` is true for, given base and revision.
    pub(crate) fn forget(&mut self, log: u64, is_gone: impl Fn(u64, u8) -> bool) {
        self.open.retain(|key, _| key.0 != log || !is_gone(key.1, key.2));
    }
}

#[cfg(test)]
impl Handles {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}
