//! Prepared files for the writer to go on in: full of zeros, or used before, so that a
//! block written to one needs nothing more of the file system.
//!
//! Made by the keeper ahead of time, by the writer where it was quicker, and given
//! back by the keeper. One that is only allocated will do where nobody asks for syncs: what
//! was allocated and never written is turned into written by a change of the file system's
//! own, which makes syncs long, and where that is lost (its journal was stopped by an error
//! in another place) the sync of the block does not tell, but a second one does.
//! Invariants: while `is_lacking` nothing new is published, so that what is left of the
//! file in use is left for what consumers settle; what was only allocated is not kept as it
//! is, and its odd length says so to later starts.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::files::{File, Files};
use crate::limits;
use crate::shared::Shared;

/// Zeros that are written at once, bytes.
const ZEROS_BYTES: usize = 1 << 20;
/// Zeros that go to the disk at once, bytes: all of them at once would hold up the
/// journal's own writes, for 24 ms.
const SYNCED_AT_ONCE: u64 = 4 << 20;

/// How names of files begin and end that were not used yet, around their number.
const PREFIX: &str = "spare-";
const SUFFIX: &str = ".tmp";

/// Whether it is the name of one that was not used yet.
pub(crate) fn is_name(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    number.is_some_and(|number| u64::from_str_radix(number, 16).is_ok())
}

/// A file to go on in.
pub(crate) struct Spare {
    pub(crate) name: String,
    /// Full of zeros, or of what it was used for before; else only allocated.
    pub(crate) is_filled: bool,
}

/// See the file's head.
pub(crate) struct Spares {
    names: Mutex<Vec<String>>,
    /// Bytes of each.
    len: u64,
    /// How many were made, for their names.
    made: AtomicU64,
    /// Held while one is made: whoever needs one then waits for it.
    making: Mutex<()>,
    /// There is none, and the last one could not be made for want of room.
    is_lacking: AtomicBool,
    /// One could not be allocated, for another reason than want of room.
    cannot_allocate: AtomicBool,
}

impl Spares {
    /// With those that a start has found. What is shorter is removed, and what is more
    /// than are kept.
    pub(crate) fn new(files: &dyn Files, names: Vec<String>, len: u64) -> Self {
        let made = AtomicU64::new(names.len() as u64);
        let is_whole = |name: &String| files.open(name).is_ok_and(|file| is_whole(&*file, len));
        let (mut names, mut short): (Vec<_>, Vec<_>) = names.into_iter().partition(is_whole);
        let can_be_whole = |name: &String| files.open(name).is_ok_and(|it| make_whole(&*it, len));
        if names.is_empty()
            && let Some(at) = short.iter().position(can_be_whole)
        {
            names.push(short.swap_remove(at));
        }
        let more = names.split_off(names.len().min(kept_most(len)));
        // One that cannot be removed now is found again by the next start.
        short.iter().chain(&more).for_each(|name| drop(files.remove(name)));
        Self {
            names: Mutex::new(names),
            len,
            made,
            making: Mutex::default(),
            is_lacking: AtomicBool::new(false),
            cannot_allocate: AtomicBool::new(false),
        }
    }

    /// One to go on in, made if need be; `None`: there is no room for one.
    ///
    /// # Errors
    /// As [`Spares::make_sure`].
    pub(crate) fn take(&self, files: &dyn Files) -> io::Result<Option<String>> {
        loop {
            let name = Shared::lock(&self.names).pop();
            // The keeper may give it up for a checkpoint before it is taken.
            if name.is_some() || !self.make_sure(files)? {
                return Ok(name);
            }
        }
    }

    /// One to go on in where few ask for syncs: one that was used before if there is
    /// another, else one that is allocated now. `None`: there is no room for that, or the
    /// file system cannot; what else may be wrong, [`Spares::take`] meets again.
    pub(crate) fn take_unsynced(&self, files: &dyn Files) -> Option<Spare> {
        let mut names = Shared::lock(&self.names);
        if names.len() > 1 {
            return names.pop().map(|name| Spare { name, is_filled: true });
        }
        drop(names);
        if self.cannot_allocate.load(Relaxed) {
            return None;
        }
        // Somebody who makes one now takes as much room.
        let making = self.making.try_lock();
        let room = if making.is_ok() { self.len } else { 2 * self.len };
        let len = allocated_len(self.len);
        let made = self.look_for_room(files, room).and_then(|()| {
            self.make_with(files, |file| match file.allocate(len)? {
                true => Ok(()),
                false => Err(ErrorKind::Unsupported.into()),
            })
        });
        match made {
            Ok(name) => Some(Spare { name, is_filled: false }),
            Err(error) => {
                self.cannot_allocate.fetch_or(!is_full(&error), Relaxed);
                None
            }
        }
    }

    /// Whether another is there, or would be, when one is taken.
    pub(crate) fn has_more_than_one(&self, files: &dyn Files) -> bool {
        match Shared::lock(&self.names).len() {
            0 => false,
            1 => self.look_for_room(files, self.len).is_ok(),
            _ => true,
        }
    }

    /// Makes a file that was only allocated, and that nothing needs any more, one to go on
    /// in, where there is no other or little room, and it would be kept: to remove it would
    /// give its room to whoever comes first. Whether it is one now.
    pub(crate) fn make_whole_if_short(
        &self,
        files: &dyn Files,
        file: &dyn File,
        is_pressed: bool,
    ) -> bool {
        let count = Shared::lock(&self.names).len();
        let room = limits::SPARES_ROOM * self.len;
        let is_short = || count == 0 || self.look_for_room(files, room).is_err();
        count < self.kept(is_pressed) && is_short() && make_whole(file, self.len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        Shared::lock(&self.names).is_empty()
    }

    /// Whether there is none for want of room.
    pub(crate) fn is_lacking(&self) -> bool {
        self.is_lacking.load(Relaxed)
    }

    /// Keeps a file that was used before. False: there are enough, `is_pressed` as long as
    /// the disk wants room.
    pub(crate) fn give(&self, name: String, is_pressed: bool) -> bool {
        let mut names = Shared::lock(&self.names);
        let is_wanted = names.len() < self.kept(is_pressed);
        if is_wanted {
            names.push(name);
            self.is_lacking.store(false, Relaxed);
        }
        is_wanted
    }

    /// How many are kept.
    fn kept(&self, is_pressed: bool) -> usize {
        if is_pressed { limits::SPARES_PRESSED } else { kept_most(self.len) }
    }

    /// Removes one, but for so many, to make room on the disk. Whether there was one.
    pub(crate) fn give_up(&self, files: &dyn Files, kept: usize) -> bool {
        let mut names = Shared::lock(&self.names);
        if names.len() <= kept {
            return false;
        }
        let name = names.pop().expect("there are more than are kept");
        self.is_lacking.store(names.is_empty(), Relaxed);
        drop(names);
        files.remove(&name).is_ok()
    }

    /// Makes one if there is none. False: there is no room for it.
    ///
    /// # Errors
    /// As the operating system says, but for want of room.
    pub(crate) fn make_sure(&self, files: &dyn Files) -> io::Result<bool> {
        let _making = Shared::lock(&self.making);
        if !self.is_empty() {
            return Ok(true);
        }
        match self.make(files) {
            Ok(name) => {
                if !self.give(name.clone(), false) {
                    drop(files.remove(&name));
                }
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                // One may have been given back meanwhile.
                let names = Shared::lock(&self.names);
                self.is_lacking.store(names.is_empty(), Relaxed);
                Ok(!names.is_empty())
            }
            Err(error) => Err(error),
        }
    }

    /// Fills a file up with zeros to `len` bytes, for a block that is longer than files
    /// usually are. False: there is no room for that.
    ///
    /// # Errors
    /// As [`Spares::make_sure`].
    pub(crate) fn lengthen(
        &self,
        files: &dyn Files,
        file: &dyn File,
        len: u64,
    ) -> io::Result<bool> {
        let len = len.next_multiple_of(limits::SECTOR_BYTES as u64);
        let before = file.len()?;
        if before >= len {
            return Ok(true);
        }
        match self.look_for_room(files, len - before).and_then(|()| fill(file, before..len)) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => {
                // Half of it is of no use, and takes what others need.
                drop(file.set_len(before));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there is room for `bytes` more: some is left for checkpoints, which give room
    /// back.
    fn look_for_room(&self, files: &dyn Files, bytes: u64) -> io::Result<()> {
        let margin = self.len / limits::SPARE_MARGIN_SHARE;
        match files.free() {
            Ok(space) if space.free_bytes < bytes + margin => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Makes a file that is full of zeros.
    fn make(&self, files: &dyn Files) -> io::Result<String> {
        self.look_for_room(files, self.len)?;
        self.make_with(files, |file| fill(file, 0..self.len))
    }

    /// Makes a file. Nothing is left behind of one that fails.
    fn make_with(
        &self,
        files: &dyn Files,
        prepare: impl FnOnce(&dyn File) -> io::Result<()>,
    ) -> io::Result<String> {
        let number = self.made.fetch_add(1, Relaxed);
        let name = format!("journal/{PREFIX}{number:08x}{SUFFIX}");
        let file = match files.create(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                files.remove(&name)?;
                files.create(&name)?
            }
            other => other?,
        };
        if let Err(error) = prepare(&*file) {
            // Half of one is of no use, and takes what others need.
            drop(files.remove(&name));
            return Err(error);
        }
        Ok(name)
    }
}

/// Fills that part of a file with zeros, behind which there is nothing: as long as the file
/// is, it is full of them.
fn fill(file: &dyn File, part: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = part.start;
    while at < part.end {
        let end = part.end.min(at + zeros.len() as u64);
        file.write_at(&zeros[..(end - at) as usize], at)?;
        file.start_sync(at..end);
        at = end;
        if at == part.end || at.is_multiple_of(SYNCED_AT_ONCE) {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// How many files of `len` bytes are kept, most.
fn kept_most(len: u64) -> usize {
    ((limits::SPARES_BYTES_MAX / len.max(1)) as usize).clamp(2, limits::SPARES_MAX)
}

/// Fills a file with zeros that was only allocated, where others have `len` bytes. Takes no
/// room. False: it is none, or it could not be filled.
fn make_whole(file: &dyn File, len: u64) -> bool {
    if !file.len().is_ok_and(|found| found == allocated_len(len)) {
        return false;
    }
    let before = len - limits::SECTOR_BYTES as u64;
    // Twice, as whatever was only allocated. The length tells that it is done, and comes last.
    let twice = || file.sync_data().and_then(|()| file.sync_data());
    let filled = fill(file, 0..before).and_then(|()| twice());
    filled.and_then(|()| fill(file, before..len)).and_then(|()| twice()).is_ok()
}

/// Length of a file that is only allocated, bytes, where others have `len`.
pub(crate) fn allocated_len(len: u64) -> u64 {
    len.saturating_sub(1)
}

/// Whether a file has the room that a journal file needs, `len` bytes, and was once written
/// to its end: one of an earlier configuration may be shorter, and one that was only
/// allocated ends within a sector.
pub(crate) fn is_whole(file: &dyn File, len: u64) -> bool {
    let is_filled = |found: u64| found.is_multiple_of(limits::SECTOR_BYTES as u64);
    file.len().is_ok_and(|found| found >= len && is_filled(found))
}

/// Whether it says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::{Spares, allocated_len, is_whole};
    use crate::files::Files;
    use crate::limits::{SECTOR_BYTES, SPARES_MAX, SPARES_PRESSED};
    use crate::sim::{Effect, Fault, Operation, SimFiles};

    /// A disk on which zeros cannot be written.
    fn with_zeros_that(fail: Effect) -> SimFiles {
        let files = SimFiles::new(1);
        files.make_folder("journal").expect("it is new");
        files.arm(Fault::new(Operation::Write, 1, fail).under("journal/spare-"));
        files
    }

    /// Files that were used before, each a sector longer than it must be.
    fn used(files: &SimFiles, count: usize, len: u64) -> Vec<String> {
        files.make_folder("journal").expect("it can be made");
        let names: Vec<String> = (0..count).map(|at| format!("journal/j-{at}.wj")).collect();
        names.iter().for_each(|name| {
            let file = files.create(name).expect("it is new");
            file.set_len(len + SECTOR_BYTES as u64).expect("there is room");
        });
        names
    }

    #[test]
    fn a_start_keeps_no_more_than_are_kept() {
        for (len, kept) in [(1 << 20, SPARES_MAX), (400 << 20, 2), (4 << 30, 2)] {
            let files = SimFiles::new(1);
            let names = used(&files, SPARES_MAX + 3, len);
            let spares = Spares::new(&files, names, len);
            assert_eq!(files.paths().len(), kept, "files of {len} bytes");
            assert!(!spares.give("journal/one-more".to_owned(), false));
        }
    }

    #[test]
    fn where_the_disk_is_short_one_is_kept() {
        let files = SimFiles::new(1);
        let spares = Spares::new(&files, used(&files, 3, 1 << 20), 1 << 20);
        assert!(!spares.give("journal/one-more".to_owned(), true));
        while spares.give_up(&files, SPARES_PRESSED) {}
        assert_eq!(files.paths().len(), 1);
        assert!(!spares.is_lacking());
        assert!(spares.take(&files).is_ok_and(|name| name.is_some()));
        assert!(spares.give("journal/j-9.wj".to_owned(), true), "there is none");
    }

    #[test]
    fn one_that_is_only_allocated_is_told_by_its_length_and_kept_only_as_the_last() {
        let files = SimFiles::new(1);
        let len = 1 << 20;
        let spares = Spares::new(&files, used(&files, 2, len), len);
        let first = spares.take_unsynced(&files).expect("one of two");
        assert!(first.is_filled && first.name.starts_with("journal/j-"));
        let next = spares.take_unsynced(&files).expect("it can be made");
        assert!(!next.is_filled && !spares.is_empty(), "the last one is kept");
        let file = files.open(&next.name).expect("it was made");
        assert_eq!(file.len().expect("it is there"), allocated_len(len));
        for bytes in [len, len / 2] {
            assert!(!is_whole(&*file, bytes));
        }
        assert!(!spares.make_whole_if_short(&files, &*file, false), "there is another, and room");
        files.set_room(files.used_bytes() + 1);
        assert!(!spares.make_whole_if_short(&files, &*file, true), "it would not be kept");
        assert_eq!(file.len().expect("it is there"), allocated_len(len), "and was not filled");
        files.set_room(1 << 40);
        let later = Spares::new(&files, vec![first.name.clone(), next.name.clone()], len);
        assert!(!later.is_empty() && !files.paths().contains(&next.name));
    }

    #[test]
    fn one_that_was_only_allocated_takes_no_room_to_become_the_last() {
        let files = SimFiles::new(1);
        files.make_folder("journal").expect("it is new");
        let len = 1 << 20;
        let spares = Spares::new(&files, Vec::new(), len);
        let only = spares.take_unsynced(&files).expect("it can be made");
        let file = files.open(&only.name).expect("it was made");
        file.write_at(b"used", 4_096).expect("there is room");
        files.set_room(files.used_bytes() + 1);
        assert!(spares.make_whole_if_short(&files, &*file, true) && is_whole(&*file, len));
        let mut bytes = vec![1; len as usize];
        assert_eq!(file.read_at(&mut bytes, 0).expect("it can be read"), bytes.len());
        assert!(bytes.iter().all(|&byte| byte == 0));
        // So at a start.
        file.set_len(allocated_len(len)).expect("it can be cut");
        assert!(!Spares::new(&files, vec![only.name], len).is_empty());
        file.set_len(allocated_len(len) - 1).expect("it can be cut");
        assert!(!spares.make_whole_if_short(&files, &*file, true), "it is of another kind");
    }

    #[test]
    fn where_there_is_no_room_or_no_way_nothing_is_allocated() {
        let files = SimFiles::new(1);
        files.make_folder("journal").expect("it is new");
        let spares = Spares::new(&files, Vec::new(), 1 << 20);
        files.set_room(1 << 20);
        assert!(spares.take_unsynced(&files).is_none());
        files.set_room(1 << 30);
        assert!(spares.take_unsynced(&files).is_some(), "there is room again");
        files.arm(Fault::new(Operation::SetLen, 1, Effect::Error).under("journal/spare-"));
        let before = files.paths();
        assert!(spares.take_unsynced(&files).is_none());
        assert_eq!(files.paths(), before, "nothing is left behind");
        assert!(spares.take_unsynced(&files).is_none(), "it is not tried again");
        assert!(spares.take(&files).is_ok_and(|name| name.is_some()), "zeros do");
    }

    /// What is allocated only is not as safe as a sync says.
    #[test]
    fn every_file_that_is_kept_is_full_of_zeros() {
        let files = with_zeros_that(Effect::Error);
        assert!(Spares::new(&files, Vec::new(), 1 << 20).make_sure(&files).is_err());
    }

    /// Blocks would find none there either, and that ends the process.
    #[test]
    fn a_file_in_which_zeros_find_no_room_is_none_to_go_on_in() {
        let files = with_zeros_that(Effect::NoRoom);
        let spares = Spares::new(&files, Vec::new(), 1 << 20);
        assert!(spares.make_sure(&files).is_ok_and(|is_there| !is_there));
        assert!(spares.is_lacking() && spares.is_empty());
        assert_eq!(files.paths(), Vec::<String>::new(), "nothing is left behind");
        assert!(spares.make_sure(&files).is_ok_and(|is_there| is_there));
        assert!(!spares.is_lacking());
    }
}
