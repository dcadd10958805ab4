//! D16: a data folder of each format there has been, kept in the repository, opens and
//! holds what it held; one of a later format is refused in a sentence that has both
//! numbers, and nothing in it is changed.
//!
//! `WEIR_BLESS=1` writes the folder of the newest format anew: only when the format gets
//! a new number.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use weir_core::command::Level;
use weir_journal::files::Files;
use weir_journal::format::FORMAT_VERSION;
use weir_journal::sim::SimFiles;

use crate::anatomy::Anatomy;
use crate::hex::{from_hex, to_hex};
use crate::world::{Held, World, config};

/// Where a folder of that format is kept.
fn golden(format: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/folder-{format}"))
}

/// A folder with everything in it that a folder may have.
fn make() -> World {
    let mut config = config();
    config.journal_file_bytes = 10 << 10;
    config.segment_bytes = 6 << 10;
    let mut world = World::with(16, config);
    for round in 0..26 {
        for name in ["queue/a", "queue/b", "stream/c/0"] {
            world.try_append(name, &[40, 3, 90], Level::Disk).unwrap();
            assert!(world.commit());
        }
        if round == 5 {
            world.try_append("queue/gone", &[7], Level::Os).unwrap();
        }
        assert!(world.settle());
        let stable = world.bounds("queue/b").stable;
        world.release("queue/b", stable - 2, stable, Level::Disk);
        if round % 4 == 2 {
            // Not neighbours: one entry with a bit for each.
            world.release("queue/a", stable - 1, stable, Level::Disk);
            world.release("queue/a", stable - 3, stable - 2, Level::Disk);
        }
        if round % 3 == 0 {
            world.trim("queue/a", 2 * round);
            assert!(world.commit() && world.put(&format!("key/{}", round % 4), &[round as u8]));
        }
        if round == 9 {
            world.remove("queue/gone");
        }
    }
    assert!(world.settle());
    world.stop();
    world.files.kill();
    world
}

/// What a folder holds, in words.
fn words(held: &Held) -> String {
    let mut text = String::new();
    for (name, log) in &held.logs {
        assert!(log.damaged.is_empty());
        writeln!(text, "log {name} {}..{}", log.bounds.start, log.bounds.end).unwrap();
        for (offset, message) in &log.records {
            let crc = crc32c::crc32c(message);
            writeln!(text, "record {offset} bytes {} crc {crc:08x}", message.len()).unwrap();
        }
    }
    for (key, value) in &held.keys {
        writeln!(text, "key {key} {value:?}").unwrap();
    }
    text
}

fn bless() {
    let mut world = make();
    let folder = golden(FORMAT_VERSION);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let kept = |path: &String| {
        path.starts_with("journal/j-") || path.starts_with("logs/") || path.ends_with(".wc")
    };
    for path in world.files.paths().iter().filter(|path| kept(path)) {
        let bytes = world.files.bytes(path).unwrap();
        let hex = to_hex(path, &bytes);
        fs::write(folder.join(path.replace('/', "+") + ".hex"), hex).unwrap();
    }
    world.start();
    fs::write(folder.join("holds.txt"), words(&world.held())).unwrap();
}

/// The kept folder on a disk of its own.
fn load(format: u16) -> World {
    let files = SimFiles::new(16);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(golden(format)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "hex")) {
        let name = path.file_stem().unwrap().to_str().unwrap().replace('+', "/");
        if let Some((folder, _)) = name.rsplit_once('/') {
            files.make_folder(folder).unwrap();
            files.create(&name).unwrap().sync_data().unwrap();
            files.sync_folder(folder).unwrap();
        } else {
            files.create(&name).unwrap().sync_data().unwrap();
            files.sync_folder("").unwrap();
        }
        let bytes = from_hex(&fs::read_to_string(path).unwrap());
        files.open(&name).unwrap().write_synced(&bytes, 0).unwrap();
    }
    World::over(files, 16, config())
}

#[test]
fn format_compat() {
    if std::env::var_os("WEIR_BLESS").is_some() {
        bless();
    }
    (1..=FORMAT_VERSION).for_each(opens_and_refuses_what_is_newer);
}

fn opens_and_refuses_what_is_newer(format: u16) {
    let mut world = load(format);
    let kept = world.files.paths();
    for part in ["checkpoint-", "journal/j-", "logs/"] {
        assert!(kept.iter().any(|path| path.starts_with(part)), "no {part} in the folder");
    }
    assert!(!Anatomy::of(&world.files).footers().is_empty(), "no sealed segment in the folder");
    world.start();
    let report = world.journal().report().clone();
    assert!(report.damage.is_empty(), "{}", report.summary());
    assert!(report.torn.is_none() && report.checkpoint_fallback.is_none(), "{report:?}");
    let expected = fs::read_to_string(golden(format).join("holds.txt")).unwrap();
    assert_eq!(words(&world.held()), expected);
    assert!(!world.journal().unopened().contains(&"queue/gone".to_owned()));
    // It can be worked with, and read again.
    assert!(world.append("queue/a", 3, Level::Disk) && world.settle());
    let end = world.bounds("queue/a").end;
    world.stop();
    world.files.crash(16);
    world.start();
    assert_eq!(world.bounds("queue/a").end, end);

    // Whatever file is newer, it is said so.
    for path in kept {
        let mut world = load(format);
        let mut head = world.files.bytes(&path).unwrap()[..56].to_vec();
        head[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let crc = crc32c::crc32c(&head[..52]);
        head[52..].copy_from_slice(&crc.to_le_bytes());
        world.files.damage(&path, &head, 0);
        let before: Vec<_> = contents(&world.files);
        match world.try_start() {
            Err(error) => {
                let error = error.to_string();
                let (newer, known) = (FORMAT_VERSION + 1, FORMAT_VERSION);
                let tells = format!("format {newer}, this one reads up to {known}");
                let tells = error.contains(&tells);
                assert!(tells && error.contains(&path), "{path}: {error}");
                assert!(before == contents(&world.files), "{path}: refused, and changed");
            }
            // Nothing reads that file any more.
            Ok(()) => {
                assert!(path.starts_with("journal/"), "{path} is read as format {format}");
                assert_eq!(words(&world.held()), expected, "{path}");
            }
        }
    }
}

fn contents(files: &SimFiles) -> Vec<(String, Vec<u8>)> {
    let paths = files.paths().into_iter().filter(|path| path != "lock");
    paths.map(|path| (path.clone(), files.bytes(&path).unwrap())).collect()
}
