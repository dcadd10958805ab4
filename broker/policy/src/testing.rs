//! What the tests of this crate use instead of the operating system: a disk in
//! memory, a clock that stands still, seeded randomness.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use weir_core::env::{Clock, DirEntry, Disk, FileKind, Now, Place, Random};

use crate::loader::ShippedComponent;

/// A clock that moves only when told.
#[derive(Debug)]
pub(crate) struct ManualClock {
    steady_ms: AtomicU64,
}

/// What the wall clock is ahead of the steady one, ms.
const WALL_AHEAD_MS: u64 = 1_700_000_000_000;

impl Default for ManualClock {
    fn default() -> Self {
        Self { steady_ms: AtomicU64::new(1_000_000) }
    }
}

impl ManualClock {
    /// Moves on.
    pub(crate) fn advance(&self, ms: u64) {
        self.steady_ms.fetch_add(ms, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let steady_ms = self.steady_ms.load(Relaxed);
        Now { steady_ms, wall_ms: WALL_AHEAD_MS + steady_ms }
    }
}

/// Numbers in a row: different for every instance, the same in every run.
#[derive(Debug, Default)]
pub(crate) struct CountingRandom(AtomicU64);

impl Random for CountingRandom {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }
}

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File { bytes: Bytes, modified_ms: u64 },
    Link(PathBuf),
    Pipe,
}

/// A disk in memory, with links and pipes.
pub(crate) struct MemoryDisk {
    clock: Arc<ManualClock>,
    nodes: Mutex<BTreeMap<PathBuf, Node>>,
    /// Files read.
    reads: AtomicU64,
}

impl MemoryDisk {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, nodes: Mutex::default(), reads: AtomicU64::new(0) }
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    fn put(&self, path: &str, node: Node) {
        let mut nodes = self.nodes.lock().expect("one thread");
        let path = PathBuf::from(path);
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            nodes.entry(folder.to_owned()).or_insert(Node::Folder);
        }
        nodes.insert(path, node);
    }

    /// Writes a file, as changed now.
    pub(crate) fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let modified_ms = self.clock.now().wall_ms;
        self.put(path, Node::File { bytes: Bytes::from(bytes.into()), modified_ms });
    }

    /// Makes or replaces a link.
    pub(crate) fn link(&self, path: &str, target: &str) {
        self.put(path, Node::Link(target.into()));
    }

    /// Makes a pipe. Reading it fails the test.
    pub(crate) fn pipe(&self, path: &str) {
        self.put(path, Node::Pipe);
    }

    /// Removes a file, or a folder with all that is in it.
    pub(crate) fn remove(&self, path: &str) {
        let mut nodes = self.nodes.lock().expect("one thread");
        nodes.retain(|other, _| !other.starts_with(path));
    }

    /// Renames a file or folder over whatever has the new name.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.remove(to);
        let mut nodes = self.nodes.lock().expect("one thread");
        let moved: Vec<PathBuf> =
            nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let rest = path.strip_prefix(from).expect("filtered by it").to_owned();
            let node = nodes.remove(&path).expect("listed above");
            let to = if rest.as_os_str().is_empty() { to.into() } else { Path::new(to).join(rest) };
            nodes.insert(to, node);
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, Node)> {
        let nodes = self.nodes.lock().expect("one thread");
        let mut path = path.to_owned();
        'follow: for _ in 0..16 {
            let mut real = PathBuf::new();
            for (index, component) in path.components().enumerate() {
                match component {
                    Component::ParentDir => drop(real.pop()),
                    component => real.push(component),
                }
                if let Some(Node::Link(target)) = nodes.get(&real) {
                    let base = real.parent().map(Path::to_owned).unwrap_or_default();
                    let rest: PathBuf = path.components().skip(index + 1).collect();
                    path = base.join(target);
                    if !rest.as_os_str().is_empty() {
                        path.push(rest);
                    }
                    continue 'follow;
                }
            }
            let node = nodes.get(&real).cloned();
            return node.map(|node| (real, node)).ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        Err(io::Error::other("too many links"))
    }
}

impl Disk for MemoryDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<DirEntry>> {
        let (real, _) = self.resolve(folder)?;
        let names: Vec<PathBuf> = {
            let nodes = self.nodes.lock().expect("one thread");
            nodes.keys().filter(|path| path.parent() == Some(&real)).cloned().collect()
        };
        let mut entries = Vec::new();
        for name in names {
            let path = folder.join(name.file_name().expect("a child has a name"));
            let Ok(place) = self.locate(&path) else { continue };
            let is_dir = place.kind == FileKind::Folder;
            entries.push(DirEntry { path, is_dir, len: place.len, modified_ms: place.modified_ms });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn locate(&self, path: &Path) -> io::Result<Place> {
        let (real_path, node) = self.resolve(path)?;
        let (kind, len, modified_ms) = match node {
            Node::File { bytes, modified_ms } => (FileKind::File, bytes.len() as u64, modified_ms),
            Node::Folder => (FileKind::Folder, 0, 0),
            Node::Pipe => (FileKind::Special, 0, 0),
            Node::Link(_) => unreachable!("resolved"),
        };
        Ok(Place { real_path, kind, len, modified_ms })
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Bytes> {
        self.reads.fetch_add(1, Relaxed);
        match self.resolve(path)?.1 {
            Node::File { bytes, .. } if bytes.len() as u64 <= bytes_max => Ok(bytes),
            Node::File { .. } => Err(io::ErrorKind::InvalidData.into()),
            other => panic!("{} is opened, and it is {other:?}", path.display()),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write(path.to_str().expect("tests use UTF-8"), bytes);
        Ok(())
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if self.resolve(folder).is_err() {
            self.put(folder.to_str().expect("tests use UTF-8"), Node::Folder);
        }
        Ok(())
    }
}

/// The two policies the default bindings name.
pub(crate) fn shipped() -> Vec<ShippedComponent> {
    let shipped = weir_shipped::SHIPPED.iter().map(|(name, bytes)| ShippedComponent {
        name: (*name).to_owned(),
        bytes: Bytes::from_static(bytes),
    });
    shipped.filter(|s| ["subject-router", "at-least-once"].contains(&&*s.name)).collect()
}

/// The same component with another digest: a custom section more.
pub(crate) fn variant(component: &[u8], number: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'v', number]].concat()
}

/// The clock of the machine, for tests with real folders.
#[derive(Debug)]
pub(crate) struct MachineClock(std::time::Instant);

impl Default for MachineClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        let epoch = std::time::UNIX_EPOCH;
        let wall = std::time::SystemTime::now().duration_since(epoch).unwrap_or_default();
        let steady_ms = 1_000 + self.0.elapsed().as_millis() as u64;
        Now { steady_ms, wall_ms: wall.as_millis() as u64 }
    }
}

/// Real files, as far as the host needs them.
#[derive(Debug)]
pub(crate) struct FileDisk;

impl Disk for FileDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let Ok(place) = self.locate(&path) else { continue };
            let is_dir = place.kind == FileKind::Folder;
            entries.push(DirEntry { path, is_dir, len: place.len, modified_ms: place.modified_ms });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn locate(&self, path: &Path) -> io::Result<Place> {
        let real_path = std::fs::canonicalize(path)?;
        let metadata = std::fs::metadata(&real_path)?;
        let kind = match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => FileKind::File,
            (_, true) => FileKind::Folder,
            _ => FileKind::Special,
        };
        let age = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Place { real_path, kind, len: metadata.len(), modified_ms: age.as_millis() as u64 })
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> io::Result<Bytes> {
        std::fs::read(path).map(Bytes::from)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)
    }
}
