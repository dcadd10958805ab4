//! What the simulated disk may do and may not do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::thread;

use super::*;

const SECTOR: usize = crate::limits::SECTOR_BYTES;

fn file_of(disk: &SimFiles, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(path).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_folder(parent_of(path).unwrap()).unwrap();
    file
}

fn read(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// The states that many crashes make of this moment.
fn outcomes<T: Ord>(disk: &SimFiles, look: impl Fn(&SimFiles) -> T) -> BTreeSet<T> {
    (0..200)
        .map(|seed| {
            let fork = disk.fork();
            fork.crash(seed);
            look(&fork)
        })
        .collect()
}

#[test]
fn synced_bytes_survive_every_crash() {
    for seed in 0..200 {
        let disk = SimFiles::new(seed);
        let file = disk.create("a").unwrap();
        disk.sync_folder("").unwrap();
        let mut random = Seeded::new(seed);
        let mut kept = vec![0; 64 * SECTOR];
        file.write_at(&kept, 0).unwrap();
        file.sync_data().unwrap();
        // Sectors that are written once, synced or not.
        let mut loose = BTreeSet::new();
        for sector in 0..64 {
            let mut bytes = vec![0; SECTOR];
            random.fill(&mut bytes);
            let at = sector * SECTOR;
            if random.one_in(2) {
                file.write_synced(&bytes, at as u64).unwrap();
                kept[at..at + SECTOR].copy_from_slice(&bytes);
            } else {
                file.write_at(&bytes, at as u64).unwrap();
                loose.insert(sector);
            }
        }
        disk.crash(seed + 1);
        assert!(file.read_at(&mut [0], 0).is_err(), "handles die with the process");
        let after = read(&*disk.open("a").unwrap());
        for sector in (0..64).filter(|sector| !loose.contains(sector)) {
            let bytes = sector * SECTOR..(sector + 1) * SECTOR;
            assert!(after[bytes.clone()] == kept[bytes], "seed {seed} sector {sector}");
        }
    }
}

#[test]
fn unsynced_sectors_have_every_fate() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[1; 2 * SECTOR]);
    file.write_at(&[2; 4 * SECTOR], 0).unwrap();
    let kinds = outcomes(&disk, |disk| {
        let bytes = disk.bytes("a").unwrap();
        assert!(bytes.len() >= 2 * SECTOR, "what was synced keeps its length");
        let kind = |sector: usize| match bytes.get(sector * SECTOR..(sector + 1) * SECTOR) {
            None => "cut",
            Some(bytes) if bytes.iter().all(|&byte| byte == 1) => "old",
            Some(bytes) if bytes.iter().all(|&byte| byte == 2) => "new",
            Some(bytes) if bytes.iter().all(|&byte| byte == 0) => "zero",
            Some(_) => "garbage",
        };
        (kind(0), kind(3))
    });
    let overwritten: BTreeSet<_> = kinds.iter().map(|&(first, _)| first).collect();
    assert_eq!(overwritten, BTreeSet::from(["new", "old"]), "a sector is written whole");
    let added: BTreeSet<_> = kinds.iter().map(|&(_, last)| last).collect();
    // "old": another file's or this one's bytes that lay there before.
    assert!(added.is_superset(&BTreeSet::from(["cut", "new", "zero", "garbage"])), "{added:?}");
    assert!(kinds.contains(&("old", "new")), "later ones may arrive first");
}

#[test]
fn a_synced_write_brings_only_itself() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[0; 4 * SECTOR]);
    file.write_at(&[1; SECTOR], 0).unwrap();
    file.write_synced(&[2; SECTOR], SECTOR as u64).unwrap();
    let seen = outcomes(&disk, |disk| {
        let bytes = disk.bytes("a").unwrap();
        (bytes[0], bytes[SECTOR])
    });
    assert_eq!(seen, BTreeSet::from([(0, 2), (1, 2)]));
    file.sync_data().unwrap();
    let seen = outcomes(&disk, |disk| disk.bytes("a").unwrap()[0]);
    assert_eq!(seen, BTreeSet::from([1]));
}

#[test]
fn a_truncation_that_is_not_synced_may_be_undone() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[1; 2 * SECTOR]);
    file.set_len(10).unwrap();
    file.set_len(100).unwrap();
    assert_eq!(read(&*file), [vec![1; 10], vec![0; 90]].concat());
    let lens = outcomes(&disk, |disk| disk.bytes("a").unwrap().len());
    assert_eq!(lens, BTreeSet::from([100, 2 * SECTOR]));
    file.sync_data().unwrap();
    let bytes = outcomes(&disk, |disk| disk.bytes("a").unwrap());
    assert_eq!(bytes, BTreeSet::from([[vec![1; 10], vec![0; 90]].concat()]));
}

#[test]
fn folder_entries_survive_when_their_folder_was_synced() {
    let disk = SimFiles::new(1);
    disk.make_folder("x/y").unwrap();
    file_of(&disk, "x/y/kept", b"1");
    file_of(&disk, "x/y/old", b"2");
    file_of(&disk, "x/y/target", b"3");
    disk.create("x/y/new").unwrap().sync_data().unwrap();
    disk.rename("x/y/old", "x/y/target").unwrap();
    disk.remove("x/y/kept").unwrap();
    assert_eq!(disk.paths(), ["x/y/new", "x/y/target"]);
    let seen = outcomes(&disk, |disk| (disk.paths(), disk.bytes("x/y/target")));
    assert_eq!(seen.len(), 8, "each of the three changes survives or not: {seen:?}");
    for (paths, target) in &seen {
        let renamed = !paths.contains(&"x/y/old".to_owned());
        let bytes: &[u8] = if renamed { b"2" } else { b"3" };
        assert_eq!(target.as_deref(), Some(bytes), "a rename is whole or not at all");
    }
    disk.sync_folder("x/y").unwrap();
    let seen = outcomes(&disk, SimFiles::paths);
    assert_eq!(seen, BTreeSet::from([vec!["x/y/new".to_owned(), "x/y/target".to_owned()]]));
}

#[test]
fn a_folder_takes_what_it_holds_with_it() {
    let disk = SimFiles::new(1);
    disk.make_folder("x").unwrap();
    file_of(&disk, "x/a", b"1");
    disk.rename("x", "z").unwrap();
    assert_eq!(disk.paths(), ["z/a"]);
    let names = |disk: &SimFiles| disk.paths().join(" ");
    let both = BTreeSet::from(["x/a".to_owned(), "z/a".to_owned()]);
    assert_eq!(outcomes(&disk, names), both);
    assert_eq!(disk.remove_folder("z").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    disk.remove("z/a").unwrap();
    disk.remove_folder("z").unwrap();
    assert!(disk.list("z").unwrap().is_empty());
    assert_eq!(disk.create("z/b").err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn a_failed_sync_is_told_once_to_each_and_the_bytes_are_lost() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[1; SECTOR]);
    let other = disk.open("a").unwrap();
    // Enough sectors that not all of them arrive by chance.
    file.write_at(&[2; 64 * SECTOR], 0).unwrap();
    disk.fail_sync(1);
    file.sync_data().unwrap_err();
    let late = disk.open("a").unwrap();
    assert_eq!(read(&*file)[0], 2, "the cache still shows it");
    file.sync_data().expect("it was told");
    other.sync_data().expect_err("it was open when it happened");
    other.sync_data().expect("it was told");
    late.sync_data().expect("it was opened afterwards");
    let seen = outcomes(&disk, |disk| disk.bytes("a").unwrap());
    let whole = vec![2; 64 * SECTOR];
    assert!(!seen.contains(&whole), "what was dropped as clean never arrives");
    // Written again, it can be synced again.
    file.write_at(&whole, 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, |disk| disk.bytes("a").unwrap()), BTreeSet::from([whole]));
}

#[test]
fn failed_calls_fail_once_and_where_told() {
    let disk = SimFiles::new(1);
    disk.make_folder("x").unwrap();
    let file = file_of(&disk, "a", &[1; 4]);
    disk.fail_write(2);
    file.write_at(&[2; 4], 0).unwrap();
    file.write_at(&[3; 4], 0).unwrap_err();
    assert_eq!(read(&*file), [3, 3, 2, 2], "a failed write may be done in part");
    file.write_synced(&[4; 4], 0).unwrap();
    disk.fail_folder_sync(1);
    disk.sync_folder("").unwrap_err();
    disk.sync_folder("").unwrap();
    disk.arm(Fault::new(Operation::Rename, 1, Effect::Error).under("x/"));
    disk.rename("a", "b").unwrap();
    disk.rename("b", "x/b").unwrap_err();
    assert_eq!(disk.paths(), ["b"], "a failed rename changes nothing");
    disk.fail_sync(1);
    file.write_synced(&[5; 4], 0).expect_err("a synced write can fail to sync");
}

#[test]
fn lost_and_misplaced_writes_come_to_light_without_the_cache() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[1; 4 * SECTOR]);
    disk.lose_write(1);
    file.write_synced(&[2; SECTOR], 0).unwrap();
    disk.misplace_write(1, 2 * SECTOR as i64);
    file.write_at(&[3; SECTOR], SECTOR as u64).unwrap();
    file.sync_data().unwrap();
    let firsts = |bytes: &[u8]| [0, 1, 2, 3].map(|sector| bytes[sector * SECTOR]);
    assert_eq!(firsts(&read(&*file)), [2, 3, 1, 1]);
    let seen = outcomes(&disk, |disk| firsts(&disk.bytes("a").unwrap()));
    assert_eq!(seen, BTreeSet::from([[1, 1, 1, 3]]));
    file.write_at(&[4; SECTOR], 0).unwrap();
    disk.forget_cache();
    assert_eq!(firsts(&read(&*file)), [4, 1, 1, 3], "what is not synced is still cached");
    assert_eq!(firsts(&disk.durable_bytes("a").unwrap()), [1, 1, 1, 3]);
    disk.flip_bit("a", 3 * SECTOR as u64, 0);
    assert_eq!(firsts(&read(&*file)), [4, 1, 1, 2]);
}

#[test]
fn the_disk_fills_up_and_empties() {
    let disk = SimFiles::new(1);
    disk.set_room(10 * SECTOR as u64);
    let file = file_of(&disk, "a", &[1; 8 * SECTOR]);
    assert_eq!(disk.free().unwrap().free_bytes, 2 * SECTOR as u64);
    let error = file.write_at(&[2; 4 * SECTOR], 8 * SECTOR as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 10 * SECTOR as u64, "what fits is written");
    file.write_at(&[3; 10 * SECTOR], 0).expect("what is there can be overwritten");
    let other = disk.create("b").unwrap();
    assert_eq!(other.set_len(1).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.remove("a").unwrap();
    other.write_at(&[1; SECTOR], 0).expect("there is room again");
    assert_eq!(disk.used_bytes(), SECTOR as u64);
}

#[test]
fn power_can_go_during_any_call() {
    let work = |disk: &SimFiles| -> io::Result<()> {
        let file = disk.create("a.tmp")?;
        file.write_at(&[1; SECTOR], 0)?;
        file.sync_data()?;
        disk.rename("a.tmp", "a")?;
        disk.sync_folder("")
    };
    let whole = SimFiles::new(1);
    work(&whole).unwrap();
    let calls = whole.operations();
    assert_eq!(calls, 5);
    let mut seen = BTreeSet::new();
    for nth in 1..=calls {
        for seed in 0..50 {
            let disk = SimFiles::new(1);
            disk.cut_power_at(nth);
            work(&disk).unwrap_err();
            assert!(!disk.has_power());
            assert!(disk.list("").is_err(), "nothing works without power");
            disk.crash(seed);
            if let Some(bytes) = disk.bytes("a") {
                assert_eq!(bytes, [1; SECTOR], "the name comes after the bytes");
                seen.insert(nth);
            }
            assert!(disk.create("b").is_ok(), "the power is back");
        }
    }
    assert_eq!(seen, BTreeSet::from([4, 5]));
}

#[test]
fn a_killed_process_loses_nothing_but_its_handles() {
    let disk = SimFiles::new(1);
    let file = disk.create("a").unwrap();
    file.write_at(b"abc", 0).unwrap();
    let guard = disk.lock().unwrap();
    assert_eq!(disk.lock().err().unwrap().kind(), ErrorKind::WouldBlock);
    disk.kill();
    assert!(file.write_at(b"x", 0).is_err());
    assert_eq!(disk.bytes("a").unwrap(), b"abc");
    let again = disk.lock().unwrap();
    drop(guard);
    assert!(disk.lock().is_err(), "a dead process's guard frees nothing");
    drop(again);
    assert!(disk.lock().is_ok());
}

#[test]
fn a_held_sync_covers_what_was_there_when_it_began() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[0; 2 * SECTOR]);
    file.write_at(&[1; SECTOR], 0).unwrap();
    disk.hold_syncs();
    let long = Duration::from_secs(20);
    // Nothing is asserted while a sync is held: a failure would wait for it.
    let (was_held, seen, synced) = thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_data());
        let was_held = disk.await_held_sync(long);
        let written = file.write_at(&[2; 2 * SECTOR], 0);
        let seen = outcomes(&disk, |disk| disk.bytes("a").map(|bytes| bytes[0]));
        disk.release_syncs();
        (was_held && written.is_ok(), seen, sync.join())
    });
    assert!(was_held);
    assert_eq!(seen, BTreeSet::from([Some(0), Some(2)]), "it was not done yet");
    synced.unwrap().unwrap();
    let firsts = |disk: &SimFiles| disk.bytes("a").map(|bytes| (bytes[0], bytes[SECTOR]));
    let any = [(1, 0), (1, 2), (2, 0), (2, 2)];
    assert_eq!(outcomes(&disk, firsts), BTreeSet::from(any.map(Some)), "later bytes are loose");
    disk.hold_syncs();
    let (was_held, synced) = thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_data());
        let was_held = disk.await_held_sync(long);
        disk.cut_power();
        (was_held, sync.join())
    });
    assert!(was_held);
    assert!(synced.unwrap().is_err(), "the power went");
}

#[test]
fn the_same_seeds_give_the_same_disk() {
    let run = || {
        let disk = SimFiles::new(9);
        for name in ["a", "b", "c"] {
            let file = disk.create(name).unwrap();
            file.write_at(&[7; 40 * SECTOR], 0).unwrap();
            disk.fail_sync(1);
            file.sync_data().unwrap_err();
            file.write_at(&[8; 20 * SECTOR], 33 * SECTOR as u64).unwrap();
            disk.sync_folder("").unwrap();
        }
        disk.crash(10);
        disk.paths().into_iter().map(|path| disk.bytes(&path)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn files_are_collected_when_nobody_can_reach_them() {
    let disk = SimFiles::new(1);
    let file = file_of(&disk, "a", &[1; SECTOR]);
    disk.remove("a").unwrap();
    disk.sync_folder("").unwrap();
    assert_eq!(read(&*file), [1; SECTOR], "an open file outlives its name");
    assert_eq!(disk.disk.state().nodes.len(), 1);
    drop(file);
    assert_eq!(disk.disk.state().nodes.len(), 0);
}
