//! Files of a data folder: which there are, how they come to rest, and a plain write of
//! the same files.

use std::fmt;
use std::fs::{OpenOptions, read_dir};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::machine::{self, BLOCK_BYTES};

/// Time between two looks at a folder that is to come to rest.
const LOOK: Duration = Duration::from_millis(200);
/// How long nothing changes in one that has.
const STILL: Duration = Duration::from_secs(3);
/// Longest wait for that.
const SETTLED_MAX: Duration = Duration::from_secs(300);
/// Most bytes of files that are kept in memory.
const COPIED_BYTES_MAX: u64 = 6 << 30;

/// A file below a data folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// Its path in the folder.
    pub(crate) name: PathBuf,
    pub(crate) bytes: u64,
}

/// How many files, and how long they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Sum {
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = &'a Listed>) -> Self {
        let add =
            |sum: Self, file: &Listed| Self { files: sum.files + 1, bytes: sum.bytes + file.bytes };
        files.into_iter().fold(Self::default(), add)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {:.0} MB", self.files, self.bytes as f64 / 1e6)
    }
}

/// The journal's files and all of logs, in this order, each by name. Files that are
/// prepared for the journal and were never part of it are left out.
pub(crate) fn list(data: &Path) -> Vec<Listed> {
    let (mut journal, mut logs) = (Vec::new(), Vec::new());
    add(data, Path::new("journal"), &mut journal);
    journal.retain(|file| {
        file.name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("j-"))
    });
    add(data, Path::new("logs"), &mut logs);
    journal.sort();
    logs.sort();
    journal.append(&mut logs);
    journal
}

fn add(data: &Path, folder: &Path, found: &mut Vec<Listed>) {
    let Ok(entries) = read_dir(data.join(folder)) else { return };
    for entry in entries.flatten() {
        let name = folder.join(entry.file_name());
        // Removed since: the list is of no single moment while the broker runs.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            add(data, &name, found);
        } else {
            found.push(Listed { name, bytes: metadata.len() });
        }
    }
}

/// Those of the journal.
pub(crate) fn journal(files: &[Listed]) -> Sum {
    Sum::of(files.iter().filter(|file| file.name.starts_with("journal")))
}

/// Those of logs.
pub(crate) fn segments(files: &[Listed]) -> Sum {
    Sum::of(files.iter().filter(|file| file.name.starts_with("logs")))
}

/// Waits until the broker has filed what it will, and no file changes any more.
pub(crate) async fn settled(data: &Path) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let (mut files, mut since) = (list(data), started);
    while since.elapsed() < STILL {
        assert!(started.elapsed() < SETTLED_MAX, "files still change after {SETTLED_MAX:?}");
        looks.tick().await;
        let now = list(data);
        if now != files {
            (files, since) = (now, Instant::now());
        }
    }
}

/// A file that is to be written again.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) file: Listed,
    /// What is in it; empty where memory is short: then any bytes will do.
    bytes: Vec<u8>,
}

/// Takes files into memory, which must not change meanwhile.
pub(crate) fn copied(data: &Path, files: &[Listed]) -> Vec<Copied> {
    let needed = Sum::of(files).bytes;
    let has_room = needed < COPIED_BYTES_MAX && needed < machine::memory_bytes("MemAvailable:") / 2;
    if !has_room {
        println!("  {needed} bytes are too many for memory: the raw side writes other bytes");
    }
    let copy = |file: &Listed| {
        let bytes =
            if has_room { std::fs::read(data.join(&file.name)).unwrap() } else { Vec::new() };
        assert!(!has_room || bytes.len() as u64 == file.bytes, "{file:?} has changed");
        Copied { file: file.clone(), bytes }
    };
    files.iter().map(copy).collect()
}

/// Seconds from the beginning of a side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// To the last of it.
    pub(crate) written: f64,
    /// To the end of a sync of all behind it.
    pub(crate) synced: f64,
}

/// Writes the files anew below a folder, one after the other, without a sync; then syncs.
pub(crate) fn write_again(folder: &Path, files: &[Copied]) -> Took {
    for Copied { file, .. } in files {
        std::fs::create_dir_all(folder.join(&file.name).parent().unwrap()).unwrap();
    }
    let any = vec![7_u8; BLOCK_BYTES];
    let started = Instant::now();
    for Copied { file, bytes } in files {
        let path = folder.join(&file.name);
        let mut to = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
        for block in bytes.chunks(BLOCK_BYTES) {
            to.write_all(block).unwrap();
        }
        let mut left = file.bytes as usize - bytes.len();
        while left > 0 {
            let block = &any[..left.min(BLOCK_BYTES)];
            to.write_all(block).unwrap();
            left -= block.len();
        }
    }
    let written = started.elapsed().as_secs_f64();
    machine::rest();
    Took { written, synced: started.elapsed().as_secs_f64() }
}
