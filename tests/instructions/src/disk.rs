//! A disk that does nothing but remember: files are bytes in memory, every sync is
//! done at once. The simulated disk of the tests keeps a model of what a power cut
//! would leave, which costs more than the journal above it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_core::env::{Clock, Now};
use weir_journal::files::{File, FileEntry, Files, Space};
use weir_journal::{Journal, JournalConfig};

const TOTAL_BYTES: u64 = 1 << 40;

#[derive(Default)]
struct MemoryFiles {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

#[derive(Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 }
    }
}

/// A journal without threads over an empty disk. `change` is what differs from the
/// defaults.
pub(crate) fn journal(change: impl FnOnce(&mut JournalConfig)) -> Journal {
    let mut config = JournalConfig::new(7);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config.scrub_period_ms = 0;
    change(&mut config);
    let files = Arc::new(MemoryFiles::default());
    Journal::open_stepped(files, Arc::new(StoppedClock), config, 1).expect("an empty folder opens")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(path: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, path.to_owned())
}

impl Files for MemoryFiles {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile::default());
        match lock(&self.files).insert(path.to_owned(), file.clone()) {
            None => Ok(file),
            Some(_) => Err(io::Error::new(ErrorKind::AlreadyExists, path.to_owned())),
        }
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let file = lock(&self.files).get(path).cloned();
        Ok(file.ok_or_else(|| missing(path))?)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        let files = lock(&self.files);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut entries: Vec<FileEntry> = Vec::new();
        for (path, file) in files.iter() {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            let (name, is_folder) = rest.split_once('/').map_or((rest, false), |it| (it.0, true));
            if entries.last().is_none_or(|last| last.name != name) {
                let len = if is_folder { 0 } else { file.len()? };
                entries.push(FileEntry { name: name.to_owned(), is_folder, len });
            }
        }
        Ok(entries)
    }

    fn make_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or_else(|| missing(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        lock(&self.files).remove(path).map(|_| ()).ok_or_else(|| missing(path))
    }

    fn remove_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<Space> {
        Ok(Space { free_bytes: TOTAL_BYTES, total_bytes: TOTAL_BYTES })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let from = bytes.get(position as usize..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let (mut held, start) = (lock(&self.bytes), position as usize);
        let end = start + bytes.len();
        if held.len() < end {
            held.resize(end, 0);
        }
        held[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn write_synced(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.bytes).resize(len as usize, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }
}
