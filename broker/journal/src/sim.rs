//! A simulated disk for the port to files: seeded, in memory, and as unkind as a
//! real one may be. The simulation and the tests of every part run on it.
//!
//! Three layers, as in an operating system: what programs see (the cache), what
//! is on disk (survives a power cut), and in between the sectors and the folder
//! entries that were not synced, of which a power cut keeps any subset.
//! Invariant: the same calls with the same seeds give the same bytes.

mod contents;
mod crash;
mod fault;
mod file;
mod node;
mod seeded;
mod state;
#[cfg(test)]
mod tests;
mod tree;

use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use fault::{Effect, Fault, Operation};
pub use seeded::Seeded;

use crate::files::{File, FileEntry, Files, Space};
use file::SimFile;
use state::State;
use tree::{Item, Op, parent_of};

/// The disk and everything that happens to it. Clones are the same disk.
#[derive(Clone)]
pub struct SimFiles {
    disk: Arc<Disk>,
}

struct Disk {
    state: Mutex<State>,
    /// Something changed that a held sync, or who waits for one, looks at.
    changed: Condvar,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test's assertion may fail while it is held; what follows is its report.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimFiles {
    /// An empty disk with an empty data folder.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State::new(seed))
    }

    fn of(state: State) -> Self {
        Self { disk: Arc::new(Disk { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// A disk of its own in the same state, unsynced parts included, with power
    /// on and without open files, faults or a lock: to see what several crashes
    /// make of one moment.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.disk.state().fork())
    }

    /// Cuts the power, if it is not cut yet, and turns it on again: of what was
    /// not synced any part is lost, as `seed` says. Open files and the lock are
    /// gone; armed faults too.
    pub fn crash(&self, seed: u64) {
        self.disk.state().crash(seed);
        self.disk.changed.notify_all();
    }

    /// Ends the process that uses the disk, and nothing else: what was written
    /// stays, open files and the lock are gone.
    pub fn kill(&self) {
        self.disk.state().end_process();
        self.disk.changed.notify_all();
    }

    /// From now on every call fails, until [`SimFiles::crash`].
    pub fn cut_power(&self) {
        self.disk.state().has_power = false;
        self.disk.changed.notify_all();
    }

    /// Cuts the power during the `nth` changing call from now (1: the next). That
    /// call fails; its effect may be on disk, in part or not at all.
    pub fn cut_power_at(&self, nth: u64) {
        let mut state = self.disk.state();
        state.power_ends_at = Some(state.operations + nth);
    }

    /// Whether the power is on.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.disk.state().has_power
    }

    /// Changing calls so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk.state().operations
    }

    /// Makes a later call go wrong.
    pub fn arm(&self, fault: Fault) {
        self.disk.state().faults.arm(fault);
    }

    /// The `nth` write from now (1: the next) fails, part of it done.
    pub fn fail_write(&self, nth: u64) {
        self.arm(Fault::new(Operation::Write, nth, Effect::Error));
    }

    /// The `nth` sync of a file from now fails, synced writes included. What was
    /// not synced then counts as clean, whether or not it reached the disk; every
    /// other open handle of the file hears of it once.
    pub fn fail_sync(&self, nth: u64) {
        self.arm(Fault::new(Operation::Sync, nth, Effect::Error));
    }

    /// The `nth` sync of a folder from now fails.
    pub fn fail_folder_sync(&self, nth: u64) {
        self.arm(Fault::new(Operation::SyncFolder, nth, Effect::Error));
    }

    /// The disk says the `nth` write from now is done, and never does it. It is
    /// seen until the cache is gone.
    pub fn lose_write(&self, nth: u64) {
        self.arm(Fault::new(Operation::Write, nth, Effect::Lost));
    }

    /// The disk puts the `nth` write from now `by` bytes further on.
    pub fn misplace_write(&self, nth: u64, by: i64) {
        self.arm(Fault::new(Operation::Write, nth, Effect::Misplaced(by)));
    }

    /// Bytes that all files together may have; writes beyond fail for want of
    /// room.
    pub fn set_room(&self, total_bytes: u64) {
        self.disk.state().total_bytes = total_bytes;
    }

    /// Bytes all files together have.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.disk.state().used_bytes()
    }

    /// Turns one bit of a file, on disk and in the cache.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &str, byte: u64, bit: u8) {
        let mut old = [0];
        let mut state = self.disk.state();
        let node = state.node_of(path).expect("the file exists");
        assert_eq!(node.current.read(&mut old, byte), 1, "the file is longer than that");
        node.damage(&[old[0] ^ (1 << bit)], byte);
    }

    /// Puts other bytes into a file, on disk and in the cache.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &str, bytes: &[u8], position: u64) {
        self.disk.state().node_of(path).expect("the file exists").damage(bytes, position);
    }

    /// Drops clean pages, so that reads see what is on disk: lost and misplaced
    /// writes come to light.
    pub fn forget_cache(&self) {
        self.disk.state().nodes.values_mut().for_each(node::Node::forget_cache);
    }

    /// What programs see of a file; `None` when there is none.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.state().node_of(path).map(|node| node.current.to_vec())
    }

    /// What is on disk of a file for certain, whatever its name there.
    #[must_use]
    pub fn durable_bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.state().node_of(path).map(|node| node.durable.to_vec())
    }

    /// Paths of all files, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let state = self.disk.state();
        let files = state.now.iter().filter(|(_, item)| matches!(item, Item::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Syncs of files begun from now on do not return until
    /// [`SimFiles::release_syncs`], a crash or a kill.
    pub fn hold_syncs(&self) {
        self.disk.state().holds_syncs = true;
    }

    /// Lets held syncs end.
    pub fn release_syncs(&self) {
        self.disk.state().holds_syncs = false;
        self.disk.changed.notify_all();
    }

    /// Waits until a sync is held. False when `longest` has passed.
    #[must_use]
    pub fn await_held_sync(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut state = self.disk.state();
        while state.syncs_held == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.disk.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn handle(&self, state: &mut State, path: &str, node: u64) -> Arc<dyn File> {
        Arc::new(SimFile::new(self.disk.clone(), state, path, node))
    }
}

impl Files for SimFiles {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.disk.state();
        let end = state.begin(Operation::Create, path)?;
        state.check_folder(parent_of(path))?;
        if state.now.contains_key(path) {
            return Err(error(ErrorKind::AlreadyExists, "create", path));
        }
        let node = state.new_node();
        state.change(Op::Create { path: path.to_owned(), node });
        end?;
        Ok(self.handle(&mut state, path, node))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.disk.state();
        state.begin(Operation::Open, path)??;
        match state.now.get(path) {
            Some(&Item::File(node)) => Ok(self.handle(&mut state, path, node)),
            Some(Item::Folder) => Err(error(ErrorKind::IsADirectory, "open", path)),
            None => Err(error(ErrorKind::NotFound, "open", path)),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        let mut state = self.disk.state();
        state.begin(Operation::List, folder)??;
        let inside = state.now.iter().filter(|(path, _)| parent_of(path) == Some(folder));
        let mut found: Vec<_> = inside
            .map(|(path, item)| {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                match item {
                    Item::Folder => FileEntry { name, is_folder: true, len: 0 },
                    Item::File(node) => {
                        FileEntry { name, is_folder: false, len: state.nodes[node].current.len() }
                    }
                }
            })
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        for path in ends.map(|end| &folder[..end]).filter(|path| !path.is_empty()) {
            let end = state.begin(Operation::MakeFolder, path)?;
            match state.now.get(path) {
                Some(Item::Folder) => {}
                Some(Item::File(_)) => {
                    return Err(error(ErrorKind::AlreadyExists, "make folder", path));
                }
                None => state.change(Op::MakeFolder { path: path.to_owned() }),
            }
            end?;
            state.sync_folder(parent_of(path).unwrap_or_default())?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let end = state.begin(Operation::Rename, to)?;
        state.check_folder(parent_of(to))?;
        let is_folder = matches!(state.now.get(to), Some(Item::Folder));
        match state.now.get(from) {
            None => return Err(error(ErrorKind::NotFound, "rename", from)),
            Some(_) if is_folder => {
                return Err(error(ErrorKind::IsADirectory, "rename to", to));
            }
            Some(&Item::File(node)) => {
                state.change(Op::Rename { to: to.to_owned(), node });
            }
            Some(Item::Folder) => {
                state.change(Op::MoveFolder { from: from.to_owned(), to: to.to_owned() });
            }
        }
        end
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let end = state.begin(Operation::Remove, path)?;
        match state.now.get(path) {
            Some(&Item::File(node)) => state.change(Op::Remove { path: path.to_owned(), node }),
            Some(Item::Folder) => return Err(error(ErrorKind::IsADirectory, "remove", path)),
            None => return Err(error(ErrorKind::NotFound, "remove", path)),
        }
        state.collect();
        end
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let end = state.begin(Operation::Remove, folder)?;
        if !matches!(state.now.get(folder), Some(Item::Folder)) {
            return Err(error(ErrorKind::NotFound, "remove folder", folder));
        }
        if state.now.keys().any(|path| parent_of(path) == Some(folder)) {
            return Err(error(ErrorKind::DirectoryNotEmpty, "remove folder", folder));
        }
        state.change(Op::RemoveFolder { path: folder.to_owned() });
        end
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let done = state.sync_folder(folder);
        state.collect();
        done
    }

    fn free(&self) -> io::Result<Space> {
        let state = self.disk.state();
        let total_bytes = state.total_bytes;
        Ok(Space { free_bytes: total_bytes.saturating_sub(state.used_bytes()), total_bytes })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let mut state = self.disk.state();
        state.begin(Operation::Open, "lock")??;
        if state.is_locked {
            return Err(error(ErrorKind::WouldBlock, "lock", "lock"));
        }
        state.is_locked = true;
        if !state.now.contains_key("lock") {
            let node = state.new_node();
            state.change(Op::Create { path: "lock".to_owned(), node });
        }
        Ok(Box::new(LockGuard { disk: self.disk.clone(), process: state.process }))
    }
}

/// The data folder is locked while this lives.
struct LockGuard {
    disk: Arc<Disk>,
    process: u64,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.process == self.process {
            state.is_locked = false;
        }
    }
}

fn error(kind: ErrorKind, what: &str, path: &str) -> io::Error {
    io::Error::new(kind, format!("{what} {path}: {kind}"))
}
