//! The port to the disk over the operating system's files.

use std::fs;
use std::io::{self, ErrorKind, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::{File, FileEntry, Files, Space};

/// A data folder on a real disk.
#[derive(Debug)]
pub struct OsFiles {
    root: PathBuf,
    /// Nothing is made, changed or removed, so a read-only mount will do.
    is_read_only: bool,
}

impl OsFiles {
    /// Makes the folder when there is none.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(|error| named("make folder", &root, &error))?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(Self { root, is_read_only: false })
    }

    /// Of a folder that is there, to be looked at: whatever would change it fails
    /// with `ReadOnlyFilesystem`, and [`Files::lock`] with `NotFound` where no broker
    /// has left a lock.
    #[must_use]
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), is_read_only: true }
    }

    /// Where something is to be changed.
    fn at_writable(&self, path: &str) -> io::Result<PathBuf> {
        let path = self.at(path)?;
        if self.is_read_only {
            let error = ErrorKind::ReadOnlyFilesystem.into();
            return Err(named("change, while it is only looked at,", &path, &error));
        }
        Ok(path)
    }

    fn at(&self, path: &str) -> io::Result<PathBuf> {
        let is_ours = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_ours && !path.is_empty() {
            let text = format!("{path:?} is no path of the data folder");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        Ok(if path.is_empty() { self.root.clone() } else { self.root.join(path) })
    }

    fn open_with(&self, path: &str, what: &str, new: bool) -> io::Result<Arc<dyn File>> {
        let path = if new { self.at_writable(path)? } else { self.at(path)? };
        let mut options = fs::OpenOptions::new();
        options.read(true).write(!self.is_read_only).create_new(new).mode(0o600);
        let file = options.open(&path).map_err(|error| named(what, &path, &error))?;
        Ok(Arc::new(OsFile { file, path, has_synced_writes: AtomicBool::new(true) }))
    }
}

/// The error with what was tried, and on which path. Keeps the kind.
fn named(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| named("sync folder", path, &error))
}

impl Files for OsFiles {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(path, "create", true)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(path, "open", false)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        let path = self.at(folder)?;
        let name = |error: io::Error| named("list", &path, &error);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(name)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(name)?;
            let Ok(file_name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                // Removed since: the list is of no single moment.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(name)?,
            };
            let is_folder = metadata.is_dir();
            let len = if is_folder { 0 } else { metadata.len() };
            found.push(FileEntry { name: file_name, is_folder, len });
        }
        found.sort_unstable();
        Ok(found)
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        let whole = self.at_writable(folder)?;
        let mut path = self.root.clone();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let parent = path.clone();
            path.push(part);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(named("make folder", &path, &error));
                }
                // Also when it was there: who made it may have died before this.
                _ => sync_folder(&parent)?,
            }
        }
        debug_assert_eq!(path, whole);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.at_writable(from)?, self.at_writable(to)?);
        fs::rename(&from, &to).map_err(|error| named("rename to", &to, &error))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.at_writable(path)?;
        fs::remove_file(&path).map_err(|error| named("remove", &path, &error))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.at_writable(folder)?;
        fs::remove_dir(&path).map_err(|error| named("remove folder", &path, &error))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_folder(&self.at(folder)?)
    }

    fn free(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|error| named("ask for room in", &self.root, &error.into()))?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let path = self.at("lock")?;
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        if !self.is_read_only {
            options.write(true).create(true).truncate(false);
        }
        let file = options.open(&path).map_err(|error| named("open", &path, &error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| named("lock", &path, &error.into()))?;
        Ok(Box::new(file))
    }
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
    /// False when the file system knows no single synced writes.
    has_synced_writes: AtomicBool,
}

impl OsFile {
    fn named(&self, what: &str, error: &io::Error) -> io::Error {
        named(what, &self.path, error)
    }

    /// One synced write with `RWF_DSYNC`. False: the file system has none, and
    /// nothing of what is left was written.
    fn write_dsync(&self, mut bytes: &[u8], mut position: u64) -> io::Result<bool> {
        let mut is_first = true;
        while !bytes.is_empty() {
            let slices = [IoSlice::new(bytes)];
            match rustix::io::pwritev2(&self.file, &slices, position, ReadWriteFlags::DSYNC) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) if is_first => return Ok(false),
                Err(error) => return Err(error.into()),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    position += written as u64;
                    is_first = false;
                }
            }
        }
        Ok(true)
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.named("read", &error)),
            }
        }
        Ok(filled)
    }

    /// Into memory that is not filled with zeros before: that costs as much as the
    /// reading.
    fn read(&self, len: usize, position: u64) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = position + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.named("read", &error.into())),
            }
        }
        // There may have been more room than was asked for.
        buffer.truncate(len);
        Ok(buffer)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position).map_err(|error| self.named("write", &error))
    }

    fn write_synced(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.has_synced_writes.load(Ordering::Relaxed) {
            let done = self.write_dsync(bytes, position);
            if done.map_err(|error| self.named("write", &error))? {
                return Ok(());
            }
            self.has_synced_writes.store(false, Ordering::Relaxed);
        }
        self.write_at(bytes, position)?;
        self.sync_data()
    }

    fn start_sync(&self, bytes: Range<u64>) {
        // That these pages will not be read soon makes the kernel write them now; it
        // forgets only those that are written already.
        // No length would mean all that follows.
        let Some(len) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) else { return };
        let _ = rustix::fs::fadvise(&self.file, bytes.start, Some(len), Advice::DontNeed);
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(error) => return Err(self.named("allocate", &error.into())),
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| self.named("sync", &error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|error| self.named("set the length of", &error))
    }

    fn len(&self) -> io::Result<u64> {
        let metadata = self.file.metadata();
        metadata.map(|metadata| metadata.len()).map_err(|error| self.named("measure", &error))
    }
}
