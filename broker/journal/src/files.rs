//! The port to the disk: everything the journal does with files goes through
//! here, so that the same code runs on a simulated disk.
//!
//! Called by all other parts. Paths are relative to the data folder, with `/`
//! between their parts, without `.` and `..`; `""` is the data folder itself.

mod os;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use os::OsFiles;

/// A thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Its name, without the folder.
    pub name: String,
    /// A folder, not a file.
    pub is_folder: bool,
    /// Length in bytes; 0 for folders.
    pub len: u64,
}

/// Room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can be written still.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

impl Space {
    /// Bytes below which publishes are refused: `free_bytes_min`, or that share of
    /// the disk, percent, whichever is more.
    #[must_use]
    pub fn mark_bytes(self, free_bytes_min: u64, free_percent_min: u64) -> u64 {
        let share = u128::from(self.total_bytes) * u128::from(free_percent_min) / 100;
        free_bytes_min.max(share as u64)
    }
}

/// A data folder. Every error names the path; its kind is the system's.
pub trait Files: Send + Sync {
    /// Makes a file that does not exist yet.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the operating system says.
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or as the operating system says.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// What is in a folder, by name; nothing when there is no such folder. Names
    /// that are not UTF-8 are left out: none of ours is.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>>;

    /// Makes a folder with its parents, and syncs the parent of each. It may
    /// exist.
    ///
    /// # Errors
    /// As the operating system says.
    fn make_folder(&self, folder: &str) -> io::Result<()>;

    /// Gives a file another name; a file of that name is replaced.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// Waits until the folder's entries, names and no contents, are on disk.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Room on the disk.
    ///
    /// # Errors
    /// As the operating system says.
    fn free(&self) -> io::Result<Space>;

    /// Makes the data folder ours until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another has it, or as the operating system says.
    fn lock(&self) -> io::Result<Box<dyn Send>>;
}

/// Puts a file with these bytes at `path`, in place of one that is there: whole,
/// synced, and only then under its name. `folder` is the one it lies in.
///
/// # Errors
/// As the operating system says; then what was there before is there still.
pub(crate) fn put_whole(
    files: &dyn Files,
    folder: &str,
    path: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let temporary = format!("{path}.tmp");
    remove_if_there(files, &temporary)?;
    let file = files.create(&temporary)?;
    let written = file.write_at(bytes, 0).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A leftover costs space until the next one is written.
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files.rename(&temporary, path)?;
    files.sync_folder(folder)
}

/// Removes a file, which may be gone already.
///
/// # Errors
/// As the operating system says.
pub(crate) fn remove_if_there(files: &dyn Files, path: &str) -> io::Result<()> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An open file. Several threads may use it at once.
pub trait File: Send + Sync {
    /// Reads from `position` on. Returns fewer bytes than asked for only at the
    /// end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads `len` bytes from `position` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// As [`File::read_at`].
    fn read(&self, len: usize, position: u64) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let read = self.read_at(&mut buffer, position)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    /// Writes all of `bytes`. It survives the process, and no power cut.
    ///
    /// # Errors
    /// As the operating system says; then any part may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Writes all of `bytes` and returns when *these bytes* are on disk. What was
    /// written before with [`File::write_at`] is not: that needs
    /// [`File::sync_data`].
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn write_synced(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Lets the disk begin with what was written there. Promises nothing: a sync is
    /// needed as before, and has less to wait for.
    fn start_sync(&self, _bytes: Range<u64>) {}

    /// Takes room on the disk for all of a file that was just made, `len` bytes, which read
    /// as zeros, and writes none of them. False: the file system has no such thing, and the
    /// file is as it was.
    ///
    /// What is written there later needs a change of the file system's own, and where that
    /// fails a sync may not tell: whoever syncs such a file does it twice, see
    /// [`File::sync_data`].
    ///
    /// # Errors
    /// `StorageFull`, or as the operating system says.
    fn allocate(&self, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Waits until all that was written is on disk, the length included.
    ///
    /// Where the file was only allocated, that takes two: a file system that has stopped in
    /// the middle may not say so in the first, and does in the second.
    ///
    /// # Errors
    /// As the operating system says. Then what was not on disk may never be, and
    /// the next sync may say nothing of it: do not try again.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file off at `len`, or fills it up with zeros.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
