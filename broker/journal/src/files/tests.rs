//! Both kinds of files do the same to the same calls.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::ErrorKind;

use super::*;
use crate::sim::SimFiles;

/// Does the same with any kind of files. They begin empty.
fn exercise(files: &dyn Files) {
    let names = |folder| {
        let entries = files.list(folder).unwrap();
        entries
            .into_iter()
            .map(|entry| (entry.name, entry.is_folder, entry.len))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("nowhere"), []);
    files.make_folder("one/two").unwrap();
    files.make_folder("one/two").unwrap();
    let file = files.create("one/b").unwrap();
    assert_eq!(files.create("one/b").err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(files.open("one/c").err().unwrap().kind(), ErrorKind::NotFound);
    assert!(file.is_empty().unwrap());
    file.write_at(b"hello", 3).unwrap();
    file.write_synced(b"HE", 3).unwrap();
    file.write_synced(b"", 3).unwrap();
    file.sync_data().unwrap();
    let mut buffer = [9; 20];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
    assert_eq!(&buffer[..9], b"\0\0\0HEllo\x09");
    assert_eq!(file.read_at(&mut buffer, 100).unwrap(), 0);
    assert_eq!(file.read(5, 3).unwrap(), b"HEllo");
    assert_eq!(file.read(20, 5).unwrap(), b"llo");
    assert_eq!((file.read(0, 3).unwrap(), file.read(1, 100).unwrap()), (vec![], vec![]));
    file.set_len(4).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 4);
    assert_eq!(&buffer[..4], b"\0H\0\0");
    let again = files.open("one/b").unwrap();
    again.write_at(b"!", 6).unwrap();
    assert_eq!(file.len().unwrap(), 7);
    files.create("one/a").unwrap();
    let expected = [("a", false, 0), ("b", false, 7), ("two", true, 0)];
    assert_eq!(names("one"), expected.map(|(name, folder, len)| (name.to_owned(), folder, len)));
    files.rename("one/b", "one/a").unwrap();
    assert_eq!(files.open("one/a").unwrap().len().unwrap(), 7, "it was replaced");
    assert_eq!(files.rename("one/b", "c").unwrap_err().kind(), ErrorKind::NotFound);
    files.sync_folder("one").unwrap();
    files.sync_folder("").unwrap();
    assert!(files.sync_folder("three").is_err());
    assert!(files.remove_folder("one").is_err(), "it is not empty");
    files.remove("one/a").unwrap();
    assert_eq!(files.remove("one/a").unwrap_err().kind(), ErrorKind::NotFound);
    files.remove_folder("one/two").unwrap();
    files.remove_folder("one").unwrap();
    assert_eq!(file.len().unwrap(), 7, "an open file outlives its name");
    let space = files.free().unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
    let guard = files.lock().unwrap();
    assert_eq!(files.lock().err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(guard);
    drop(files.lock().unwrap());
    assert_eq!(names(""), [("lock".to_owned(), false, 0)]);
}

#[test]
fn simulated() {
    exercise(&SimFiles::new(1));
}

#[test]
fn real() {
    let folder = tempfile::tempdir().unwrap();
    let files = OsFiles::new(folder.path().join("new/data")).unwrap();
    exercise(&files);
}

#[test]
fn real_files_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let files = OsFiles::new(folder.path().join("data")).unwrap();
    for path in ["../a", "/a", "x/../../a", "./a", "x//a", "a/"] {
        let refused = files.create(path).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{path}");
    }
    let error = files.open("gone").err().unwrap();
    assert!(error.to_string().contains("data/gone"), "the error names the path: {error}");
}

#[test]
fn files_that_are_looked_at_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let files = OsFiles::new(path).unwrap();
    files.create("a").unwrap().write_at(b"text", 0).unwrap();
    let looking = OsFiles::read_only(path);
    let file = looking.open("a").unwrap();
    assert_eq!(file.read_at(&mut [0; 9], 0).unwrap(), 4);
    assert!(file.write_at(b"!", 0).is_err() && file.set_len(0).is_err());
    let read_only = |done: io::Result<()>| {
        assert_eq!(done.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    };
    read_only(looking.create("b").map(drop));
    read_only(looking.make_folder("b"));
    read_only(looking.rename("a", "b"));
    read_only(looking.remove("a"));
    assert_eq!(looking.lock().err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(looking.list("").unwrap().len(), 1, "no lock was made");
    let lock = files.lock().unwrap();
    assert_eq!(looking.lock().err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(lock);
    let lock = looking.lock().unwrap();
    assert_eq!(files.lock().err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(lock);
}
