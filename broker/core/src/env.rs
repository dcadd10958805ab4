//! What edges use instead of the operating system: time, randomness, disk.
//!
//! Production hands in the real ones, the simulator seeded ones. The core itself
//! takes the time as an argument and uses none of these.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A moment, as the core sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds that never run backwards; leases, delays and timers use it.
    pub steady_ms: u64,
    /// Milliseconds since the Unix epoch; kept with messages, never for timers.
    pub wall_ms: u64,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The moment of the call.
    fn now(&self) -> Now;
}

/// A source of random numbers: the system's in production, seeded in tests.
pub trait Random: Send + Sync {
    /// The next 64 random bits.
    fn next(&self) -> u64;
}

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Full path.
    pub path: PathBuf,
    /// Whether the path leads to a folder, links followed.
    pub is_dir: bool,
    /// Length in bytes, 0 for a folder.
    pub len: u64,
    /// Last change, milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A pipe, socket or device: never to be opened, a read could wait for ever.
    Special,
}

/// Where a path leads, found without opening anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path with every link followed.
    pub real_path: PathBuf,
    /// What is there.
    pub kind: FileKind,
    /// Length in bytes, 0 for a folder.
    pub len: u64,
    /// Last change, milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// Whole-file access to a folder tree, for policies and configuration. (The
/// journal's file access is a port of its own.)
pub trait Disk: Send + Sync {
    /// Entries of `folder`, in name order; a link that leads nowhere is left out.
    ///
    /// # Errors
    /// What the operating system says, with the path added.
    fn list(&self, folder: &Path) -> io::Result<Vec<DirEntry>>;

    /// Where `path` leads.
    ///
    /// # Errors
    /// As `list`; `NotFound` when nothing is there.
    fn locate(&self, path: &Path) -> io::Result<Place>;

    /// The whole file at `path`, refused when longer than `bytes_max`.
    ///
    /// # Errors
    /// As `list`; `InvalidData` when the file is too long.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Bytes>;

    /// Replaces the file at `path` in one step: written aside, synced, renamed.
    ///
    /// # Errors
    /// As `list`.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes `folder` and what is missing above it.
    ///
    /// # Errors
    /// As `list`.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
}
