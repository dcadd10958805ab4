//! The operating system behind the core's small traits: the only place of the
//! server that reads a clock, draws a random number or touches a whole file.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use weir_core::env::{Clock, DirEntry, Disk, FileKind, Now, Place, Random};

/// The system's clocks. Steady time starts with the process.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // Steady time starts at 1 s, so that 0 can mean "never" everywhere.
        let steady_ms = self.start.elapsed().as_millis() as u64 + 1_000;
        let wall_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64);
        Now { steady_ms, wall_ms }
    }
}

/// The system's generator.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        getrandom::u64().expect("the operating system hands out random numbers")
    }
}

/// The system's files.
#[derive(Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
            let path = entry.map_err(|error| at(folder, &error))?.path();
            // A file can go between the listing and this look: then it is gone.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let (kind, len, modified_ms) = facts(&metadata);
            let is_dir = kind == FileKind::Folder;
            entries.push(DirEntry { path, is_dir, len, modified_ms });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn locate(&self, path: &Path) -> io::Result<Place> {
        let real_path = fs::canonicalize(path).map_err(|error| at(path, &error))?;
        let metadata = fs::metadata(&real_path).map_err(|error| at(path, &error))?;
        let (kind, len, modified_ms) = facts(&metadata);
        Ok(Place { real_path, kind, len, modified_ms })
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Bytes> {
        let metadata = fs::metadata(path).map_err(|error| at(path, &error))?;
        if !metadata.is_file() {
            return Err(at(path, &io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(|error| at(path, &error))?;
        let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|error| at(path, &error))?;
        if bytes.len() as u64 > bytes_max {
            let why = format!("longer than {bytes_max} bytes");
            return Err(at(path, &io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Ok(Bytes::from(bytes))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let write = || {
            let mut file = fs::File::create(&aside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&aside, path)?;
            match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => {
                    fs::File::open(folder)?.sync_all()
                }
                _ => Ok(()),
            }
        };
        write().map_err(|error| at(path, &error))
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))
    }
}

/// Kind, length in bytes (0 for a folder), last change in ms since the epoch.
fn facts(metadata: &fs::Metadata) -> (FileKind, u64, u64) {
    let kind = match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => FileKind::Folder,
        (_, true) => FileKind::File,
        _ => FileKind::Special,
    };
    let modified_ms = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_millis() as u64);
    (kind, if metadata.is_dir() { 0 } else { metadata.len() }, modified_ms)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
