//! Reads files that others write, without being told when they are done.
//!
//! A file counts as settled when its length and time of change have stood still
//! for [`QUIET_MS`], or after [`RESTLESS_MS`] of changing all the time: then its
//! content must speak for itself. Nothing is opened that is not a regular file
//! inside the folder. Content is read and hashed once per change.
//!
//! Owned by the loader, called once per file and pass.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_core::env::{Disk, FileKind, Now};

/// How long a file must stand still, ms.
pub(crate) const QUIET_MS: u64 = 150;
/// A file that never stands still is looked at after so long, ms.
pub(crate) const RESTLESS_MS: u64 = 2_000;
/// An unfinished file is reported after so long, ms.
pub(crate) const REPORT_MS: u64 = 10_000;
/// How often an unfinished file is looked at again, ms. Events come sooner.
const RETRY_MS: u64 = 500;
/// A change this young can be followed by another within the same tick of the
/// file system's clock, so the stamp alone does not prove that nothing changed.
const STAMP_TRUST_MS: u64 = 2_000;

/// What tells one state of a file from another without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) real_path: PathBuf,
    pub(crate) len: u64,
    pub(crate) modified_ms: u64,
}

/// A file, as of this pass.
#[derive(Clone, Debug)]
pub(crate) enum FileState {
    /// Nothing there (any more).
    Gone,
    /// Too young to be read; look again at `due_ms` (steady).
    Restless { due_ms: u64 },
    /// Read.
    Settled(Settled),
    /// Never to be read in this form; one sentence.
    Refused { why: String, stamp: Option<Stamp> },
}

/// A file that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) stamp: Stamp,
    /// Hex SHA-256 of the content.
    pub(crate) digest: Arc<str>,
    pub(crate) bytes: bytes::Bytes,
    /// When this content was first seen, steady ms.
    pub(crate) since_ms: u64,
}

impl Settled {
    /// For content that turns out to be unfinished: when to look again, or
    /// `None` when it has been unfinished for long enough to say so.
    pub(crate) fn retry_ms(&self, now: Now) -> Option<u64> {
        let report_ms = self.since_ms + REPORT_MS;
        (now.steady_ms < report_ms).then(|| (now.steady_ms + RETRY_MS).min(report_ms))
    }
}

struct Sighting {
    stamp: Stamp,
    /// Since when the stamp stands still.
    since_ms: u64,
    /// Since when the file has been changing without a rest.
    restless_ms: u64,
    read: Option<Read>,
}

struct Read {
    digest: Arc<str>,
    bytes: bytes::Bytes,
    /// The file was old enough when it was read: an equal stamp means equal content.
    trusted: bool,
    since_ms: u64,
}

/// What is known of every file seen so far.
#[derive(Default)]
pub(crate) struct Settler {
    sightings: HashMap<PathBuf, Sighting>,
}

impl Settler {
    /// Looks at `path`, which may lead nowhere but into `root` (a real path).
    /// With `at_once` a file is read however young: at start, and where a digest
    /// tells whether it is whole.
    pub(crate) fn look(
        &mut self,
        disk: &dyn Disk,
        now: Now,
        root: &Path,
        path: &Path,
        bytes_max: u64,
        at_once: bool,
    ) -> FileState {
        let stamp = match locate(disk, root, path, bytes_max) {
            Ok(stamp) => stamp,
            Err(Some(refused)) => return refused,
            Err(None) => {
                self.sightings.remove(path);
                return FileState::Gone;
            }
        };
        let sighting = self.sightings.entry(path.to_owned()).or_insert_with(|| Sighting {
            stamp: stamp.clone(),
            since_ms: now.steady_ms,
            restless_ms: now.steady_ms,
            read: None,
        });
        if sighting.stamp != stamp {
            if sighting.read.is_some() {
                sighting.restless_ms = now.steady_ms;
            }
            sighting.stamp = stamp;
            sighting.since_ms = now.steady_ms;
            sighting.read = None;
        }
        if sighting.read.as_ref().is_some_and(|read| read.trusted) {
            return sighting.settled();
        }
        let due_ms = sighting.due_ms(now);
        if sighting.read.is_none() && !at_once && now.steady_ms < due_ms {
            return FileState::Restless { due_ms };
        }
        match disk.read(path, bytes_max) {
            Ok(bytes) => sighting.keep(now, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.sightings.remove(path);
                return FileState::Gone;
            }
            Err(error) => {
                let why = format!("the file cannot be read: {error}");
                return FileState::Refused { why, stamp: Some(sighting.stamp.clone()) };
            }
        }
        sighting.settled()
    }

    /// Drops what is known of files outside `seen`.
    pub(crate) fn end_pass(&mut self, seen: &std::collections::HashSet<PathBuf>) {
        self.sightings.retain(|path, _| seen.contains(path));
    }
}

impl Sighting {
    /// When the file may be read, steady ms.
    fn due_ms(&self, now: Now) -> u64 {
        // A file whose last change lies back far enough has stood still already,
        // whenever it was first seen. A time in the future proves nothing.
        let age_ms = now.wall_ms.saturating_sub(self.stamp.modified_ms);
        if age_ms >= QUIET_MS {
            return now.steady_ms;
        }
        (self.since_ms + QUIET_MS).min(self.restless_ms + RESTLESS_MS)
    }

    fn keep(&mut self, now: Now, bytes: bytes::Bytes) {
        let digest: Arc<str> = sha256_hex(&bytes).into();
        let age_ms = now.wall_ms.saturating_sub(self.stamp.modified_ms);
        let since_ms = match &self.read {
            Some(read) if read.digest == digest => read.since_ms,
            _ => now.steady_ms,
        };
        self.read = Some(Read { digest, bytes, trusted: age_ms >= STAMP_TRUST_MS, since_ms });
    }

    fn settled(&self) -> FileState {
        let read = self.read.as_ref().expect("kept before it is shown");
        FileState::Settled(Settled {
            stamp: self.stamp.clone(),
            digest: Arc::clone(&read.digest),
            bytes: read.bytes.clone(),
            since_ms: read.since_ms,
        })
    }
}

/// The stamp of a file fit to be opened; `Err(None)` when nothing is there.
fn locate(
    disk: &dyn Disk,
    root: &Path,
    path: &Path,
    bytes_max: u64,
) -> Result<Stamp, Option<FileState>> {
    let place = match disk.locate(path) {
        Ok(place) => place,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(None),
        Err(error) => {
            let why = format!("the file cannot be looked at: {error}");
            return Err(Some(FileState::Refused { why, stamp: None }));
        }
    };
    let stamp =
        Stamp { real_path: place.real_path, len: place.len, modified_ms: place.modified_ms };
    let why = match place.kind {
        FileKind::Special => "this is a pipe, socket or device, not a file".to_owned(),
        FileKind::Folder => "this is a folder, not a file".to_owned(),
        FileKind::File if !stamp.real_path.starts_with(root) => {
            "this is a link that leads out of the folder; copy the file instead".to_owned()
        }
        FileKind::File if stamp.len > bytes_max => {
            format!("the file has {} bytes, {bytes_max} are allowed", stamp.len)
        }
        FileKind::File => return Ok(stamp),
    };
    Err(Some(FileState::Refused { why, stamp: Some(stamp) }))
}

/// Hex SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        hex
    })
}
