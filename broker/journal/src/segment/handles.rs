//! Open segment files, kept for the next reader.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::path;
use crate::files::{File, Files};

/// Most segment files kept open.
const HANDLES_MAX: usize = 256;

/// The segment files used last. Shared by all readers behind a mutex that is held
/// to find a file, not to read it.
#[derive(Default)]
pub(crate) struct Handles {
    /// By log and base; with the turn of the last use.
    open: HashMap<(u64, u64), (Arc<dyn File>, u64)>,
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
    ) -> io::Result<Arc<dyn File>> {
        self.turn += 1;
        if let Some((file, turn)) = self.open.get_mut(&(log, base)) {
            *turn = self.turn;
            return Ok(file.clone());
        }
        let file = files.open(&path(log, base))?;
        if self.open.len() >= HANDLES_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, turn))| *turn).map(|(key, _)| *key);
            oldest.and_then(|key| self.open.remove(&key));
        }
        self.open.insert((log, base), (file.clone(), self.turn));
        Ok(file)
    }

    /// Closes a segment's file, so that deleting it gives its space back.
    pub(crate) fn forget(&mut self, log: u64, base: u64) {
        self.open.remove(&(log, base));
    }

    /// Closes all files of a log.
    pub(crate) fn forget_log(&mut self, log: u64) {
        self.open.retain(|key, _| key.0 != log);
    }
}

#[cfg(test)]
impl Handles {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}
