//! D16: a data folder of each format there has been, kept in the repository, opens and
//! holds what it held; one of a later format is refused in a sentence that has both
//! numbers, and nothing in it is changed.
//!
//! `WEIR_BLESS=1 cargo test -p weir-journal --test durability format_compat` makes the
//! folders of the newest format that are not there. One that is there it leaves alone: an
//! earlier version of the program wrote it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Once;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::store::{Stamp, Store};
use weir_journal::files::Files;
use weir_journal::format::{EntryKind, FORMAT_VERSION, FileHead, Kind, SegmentState};
use weir_journal::sim::SimFiles;
use weir_message::BatchBuilder;

use crate::anatomy::Anatomy;
use crate::hex::{from_hex, to_hex};
use crate::proof::Proof;
use crate::world::{STORE, World, config};

/// Of the stores and the disks.
const SEED: u64 = 16;

/// Snapshots that [`make_more`] puts.
const SNAPSHOTS: [&str; 2] = ["policy/first", "policy/second"];

/// Where a folder is kept.
fn golden(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/folder-{folder}"))
}

/// Name of the folder that has what the first of its format has not.
fn more(format: u16) -> String {
    format!("{format}-more")
}

/// All that are kept. There was none more of format 1.
fn folders() -> Vec<String> {
    let first = (1..=FORMAT_VERSION).map(|format| format.to_string());
    first.chain((2..=FORMAT_VERSION).map(more)).collect()
}

/// A folder with everything in it that a folder may have, but for what [`make_more`] has.
fn make() -> World {
    let mut config = config();
    config.journal_file_bytes = 10 << 10;
    config.segment_bytes = 6 << 10;
    let mut world = World::with(SEED, config);
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

/// A folder with a segment that was written again, with snapshots in its checkpoints and
/// in the journal behind them, and with the mark of a stop in good order.
fn make_more() -> World {
    let mut config = config();
    // One journal file is filed, once; all that comes after it fits the second.
    config.journal_file_bytes = 40 << 10;
    config.kept_journal_files = 0;
    config.segment_bytes = 16 << 10;
    let mut world = World::with(SEED, config);
    world.store().put_snapshot("policy/first", Bytes::from_static(b"one")).unwrap();
    world.store().put_snapshot("policy/second", Bytes::from_static(b"before")).unwrap();
    assert!(world.put("key/0", &[7]));
    let mut turns = 0;
    while segments(&world).iter().filter(|state| state.is_sealed).count() < 2 {
        turns += 1;
        assert!(turns < 30, "no two segments are sealed: {:?}", segments(&world));
        append_zeros(&mut world, "queue/a");
        work(&mut world);
    }
    // Nothing of the first stays, so that checkpoints are made to get rid of it; three
    // records of the second do.
    let (base, end) = (segments(&world)[1].base, segments(&world)[1].end);
    let settled = [(0, base + 1), (base + 2, base + 3), (base + 4, base + 10), (base + 11, end)];
    for (from, to) in settled {
        world.release("queue/a", from, to, Level::Disk);
    }
    work(&mut world);
    let mut pauses = 0;
    while !is_revised(&world) {
        pauses += 1;
        assert!(pauses < 10, "it is not written again: {:?}", segments(&world));
        // Longer than anything the keeper waits for: how much it does in one pause, and so
        // the time in the files, does not hang on its pace.
        world.clock.advance(100_000);
        work(&mut world);
    }
    world.store().put_snapshot("policy/second", Bytes::from_static(b"after")).unwrap();
    append_zeros(&mut world, "queue/a");
    work(&mut world);
    (world.store, world.catalogue) = (None, None);
    world.journal.take().unwrap().close().unwrap();
    world
}

/// Appends four messages, mostly zeros: their lines are left out of the kept files.
fn append_zeros(world: &mut World, name: &str) {
    let log = world.log(name);
    let base = world.store().bounds(log).end;
    let mut batch = BatchBuilder::default();
    for offset in base..base + 4 {
        let mut payload = format!("{name}@{offset}").into_bytes();
        payload.resize(500, 0);
        let mut message = Vec::new();
        weir_message::encode(&mut message, "s", b"", &[], &payload);
        batch.push(&message);
    }
    let stamp = Stamp { time_ms: 1_000 + base, due_ms: 2_000 + base };
    world.store().append(log, base, stamp, batch.take(), Level::Disk).unwrap();
}

/// Lets writer and keeper do what they can at this moment: no time passes.
fn work(world: &mut World) {
    for _ in 0..12 {
        assert!(world.commit() && world.journal().step().is_ok());
    }
    assert!(world.commit());
}

/// Those that the newest checkpoint names.
fn segments(world: &World) -> Vec<SegmentState> {
    let checkpoints = Anatomy::of(&world.files).checkpoints;
    checkpoints.last().map(|(_, newest)| newest.segments.clone()).unwrap_or_default()
}

/// Whether both checkpoints name a segment that was written again: the file before it has
/// gone then.
fn is_revised(world: &World) -> bool {
    let checkpoints = Anatomy::of(&world.files).checkpoints;
    let mut names = checkpoints.iter().map(|(_, content)| &content.segments);
    checkpoints.len() == 2 && names.all(|named| named.iter().any(|state| state.revision == 1))
}

/// What a folder holds, in words.
fn words(world: &mut World) -> String {
    let held = world.held();
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
    for name in SNAPSHOTS {
        if let Some(bytes) = world.store().snapshot(name).unwrap() {
            writeln!(text, "snapshot {name} {bytes:?}").unwrap();
        }
    }
    text
}

/// Once for all tests: they read what it writes.
fn bless() {
    static BLESSED: Once = Once::new();
    if std::env::var_os("WEIR_BLESS").is_none() {
        return;
    }
    BLESSED.call_once(|| {
        let (first, more) = (FORMAT_VERSION.to_string(), more(FORMAT_VERSION));
        if !golden(&first).exists() {
            write(&first, make());
        }
        if !golden(&more).exists() {
            write(&more, make_more());
        }
    });
}

fn write(folder: &str, mut world: World) {
    let at = golden(folder);
    fs::create_dir_all(&at).unwrap();
    let kept = |path: &String| {
        path.starts_with("journal/j-")
            || path.starts_with("logs/")
            || path.ends_with(".wc")
            || path == "synced"
    };
    for path in world.files.paths().iter().filter(|path| kept(path)) {
        let bytes = world.files.bytes(path).unwrap();
        let hex = to_hex(&explained(path), &bytes);
        fs::write(at.join(path.replace('/', "+") + ".hex"), hex).unwrap();
    }
    world.start();
    fs::write(at.join("holds.txt"), words(&mut world)).unwrap();
}

/// What the first lines of a kept file say of it.
fn explained(path: &str) -> String {
    let more = match path {
        "synced" => "\nThe mark: a head alone, whose sequence is the last block that was synced.",
        _ if path.ends_with("-01.ws") => {
            "\nA sealed segment that was written again: a block with what lives, and a footer.\n\
             Its sequence is the base offset, with the revision, 1, in the highest byte."
        }
        _ => "",
    };
    path.to_owned() + more
}

/// The kept folder on a disk of its own.
fn load(folder: &str) -> World {
    let files = SimFiles::new(SEED);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(golden(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
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
    World::over(files, SEED, config())
}

#[test]
fn format_compat() {
    bless();
    let formats = u64::from(FORMAT_VERSION);
    let mut proof = Proof::begin("format_compat", formats, formats, SEED..=SEED);
    for folder in folders() {
        opens_and_refuses_what_is_newer(&folder);
    }
    (2..=FORMAT_VERSION).for_each(|format| holds_more(&more(format)));
    proof.figure(format!("formats 1 to {FORMAT_VERSION}, each of their files made newer in turn"));
}

/// The files of which nothing else has the bytes as the journal writes them.
#[test]
fn a_mark_and_a_revised_segment_are_written_as_they_are_kept() {
    bless();
    let (made, kept) = (make_more().files, load(&more(FORMAT_VERSION)).files);
    let is_it = |path: &String| path == "synced" || path.ends_with("-01.ws");
    let paths: Vec<String> = kept.paths().into_iter().filter(is_it).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    for path in paths {
        let bytes = made.bytes(&path).unwrap_or_default();
        let is_same = kept.bytes(&path).unwrap() == bytes;
        assert!(is_same, "{path} differs:\n{}", to_hex(&path, &bytes));
    }
}

/// What only such a folder has, read as what [`make_more`] has put there.
fn holds_more(folder: &str) {
    let mut world = load(folder);
    let anatomy = Anatomy::of(&world.files);
    // Snapshots: as the checkpoint has them, and the one that the journal has replaced.
    let (_, newest) = anatomy.checkpoints.last().unwrap();
    let [(first, one), (second, before)] = &newest.snapshots[..] else {
        panic!("other snapshots than two: {:?}", newest.snapshots);
    };
    assert_eq!([first.as_str(), second.as_str()], SNAPSHOTS);
    assert_eq!((&one[..], &before[..]), (&b"one"[..], &b"before"[..]));
    world.start();
    let found = SNAPSHOTS.map(|name| world.store().snapshot(name).unwrap().unwrap());
    assert_eq!((&found[0][..], &found[1][..]), (&b"one"[..], &b"after"[..]));

    // The revised segment: the three records with their times, and the footer.
    let revised = anatomy.parts.iter().filter(|part| part.path.ends_with("-01.ws"));
    let entries = revised.flat_map(|part| &part.entries);
    let entries: Vec<_> = entries.map(|e| (e.kind, e.log, [e.a, e.b, e.c, e.d])).collect();
    let expected = [
        (EntryKind::Append, 1, [21, 1, 1_020, 2_020]),
        (EntryKind::Append, 1, [23, 1, 1_020, 2_020]),
        (EntryKind::Append, 1, [30, 1, 1_028, 2_028]),
        (EntryKind::SegmentState, 1, [20, 31, 6_144, 1]),
    ];
    assert_eq!(entries, expected);

    // The mark. Only it says that the last block was synced: without it one that is missing
    // is no loss.
    let world = load(folder);
    let mark = FileHead::decode(&world.files.bytes("synced").unwrap(), Kind::Mark).unwrap();
    let last = anatomy.journal_blocks().next_back().unwrap();
    assert_eq!((mark.store, mark.sequence), (STORE, last.number));
    for has_mark in [true, false] {
        let mut world = load(folder);
        world.files.damage(&last.path, &vec![0; last.to - last.from], last.from as u64);
        if !has_mark {
            world.files.remove("synced").unwrap();
        }
        world.start();
        let report = world.journal().report();
        assert_eq!(report.damage.is_empty(), !has_mark, "{}", report.summary());
    }
}

fn opens_and_refuses_what_is_newer(folder: &str) {
    let mut world = load(folder);
    let kept = world.files.paths();
    for part in ["checkpoint-", "journal/j-", "logs/"] {
        assert!(kept.iter().any(|path| path.starts_with(part)), "no {part} in the folder");
    }
    assert!(!Anatomy::of(&world.files).footers().is_empty(), "no sealed segment in the folder");
    world.start();
    let report = world.journal().report().clone();
    assert!(report.damage.is_empty(), "{}", report.summary());
    assert!(report.torn.is_none() && report.checkpoint_fallback.is_none(), "{report:?}");
    let expected = fs::read_to_string(golden(folder).join("holds.txt")).unwrap();
    assert_eq!(words(&mut world), expected);
    assert!(!world.journal().unopened().contains(&"queue/gone".to_owned()));
    // It can be worked with, and read again.
    assert!(world.append("queue/a", 3, Level::Disk) && world.settle());
    let end = world.bounds("queue/a").end;
    world.stop();
    world.files.crash(SEED);
    world.start();
    assert_eq!(world.bounds("queue/a").end, end);

    // Whatever file is newer, it is said so.
    for path in kept {
        let mut world = load(folder);
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
                assert!(path.starts_with("journal/"), "{path} of folder {folder} is read");
                assert_eq!(words(&mut world), expected, "{path}");
            }
        }
    }
}

fn contents(files: &SimFiles) -> Vec<(String, Vec<u8>)> {
    let paths = files.paths().into_iter().filter(|path| path != "lock");
    paths.map(|path| (path.clone(), files.bytes(&path).unwrap())).collect()
}
