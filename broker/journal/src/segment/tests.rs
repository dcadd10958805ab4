//! One segment at a time.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use weir_core::command::Level;
use weir_core::store::{Records, Stamp};
use weir_message::Batch;

use super::*;
use crate::files::Files;
use crate::format::{FileHead, Found, read_block};
use crate::sim::{Effect, Fault, Operation, Seeded, SimFiles};

const STORE: u128 = 99;
const LOG: u64 = 5;
const SIZES: Sizes = Sizes { block_bytes: 2_000, segment_bytes: 40_000 };

fn record(offset: u64) -> Vec<u8> {
    format!("record {offset} {}", "y".repeat((offset * 13 % 70) as usize)).into_bytes()
}

fn batch(base: u64, count: u64) -> Batch {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for offset in base..base + count {
        bytes.extend(record(offset));
        ends.push(bytes.len() as u32);
    }
    Batch { bytes: bytes.into(), ends: ends.into() }
}

fn disk() -> SimFiles {
    SimFiles::new(1)
}

/// Adds records 10 by 10, leaving out every third ten.
fn push_all(writer: &mut SegmentWriter, offsets: std::ops::Range<u64>) {
    for base in offsets.step_by(10).filter(|base| base % 30 != 20) {
        let stamp = Stamp { time_ms: 1_000 + base, due_ms: base % 20 };
        writer.push(Level::Disk, base, stamp, &batch(base, 10)).unwrap();
    }
}

/// A segment with offsets 100..400, most of them.
fn written(files: &SimFiles, seal: bool) -> Segment {
    let mut writer = SegmentWriter::create(files, STORE, LOG, (100, 0), 1, SIZES).unwrap();
    push_all(&mut writer, 100..400);
    if seal {
        writer.seal().unwrap();
    }
    let segment = writer.finish(files).unwrap();
    files.sync_folder(&folder(LOG)).unwrap();
    segment
}

fn state(segment: &Segment) -> SegmentState {
    let Segment { base, revision, end, len, sealed, .. } = *segment;
    SegmentState { log: LOG, base, revision, end, len, is_sealed: sealed }
}

fn read(
    files: &SimFiles,
    segment: &Segment,
    block: &BlockIndex,
    wanted: Range<u64>,
    bytes_max: usize,
    or_one: bool,
) -> (Vec<Records>, Result<(), SegmentDamage>) {
    let handles = Mutex::default();
    let source = Source { files, handles: &handles, store_id: STORE, log: LOG };
    let mut into = Vec::new();
    let read = read_records(&source, segment, block, wanted, bytes_max, or_one, &mut into);
    (into, read)
}

/// Offsets read; checks that each is the record it should be.
fn offsets(records: &[Records]) -> Vec<u64> {
    let mut found = Vec::new();
    for run in records {
        assert_eq!(
            (run.time_ms, run.due_ms),
            (1_000 + run.offset / 10 * 10, run.offset / 10 * 10 % 20)
        );
        for (row, bytes) in run.batch.iter().enumerate() {
            let offset = run.offset + row as u64;
            assert_eq!(bytes, record(offset));
            found.push(offset);
        }
    }
    found
}

fn kept(range: Range<u64>) -> Vec<u64> {
    range.filter(|offset| offset / 10 * 10 % 30 != 20).collect()
}

fn all_offsets(files: &SimFiles, segment: &Segment) -> Vec<u64> {
    let mut found = Vec::new();
    for block in &segment.blocks {
        let (records, read) = read(files, segment, block, 0..u64::MAX, usize::MAX, true);
        read.unwrap();
        found.extend(offsets(&records));
    }
    found
}

#[test]
fn the_index_is_the_same_from_writer_footer_and_scan() {
    for seal in [false, true] {
        let files = disk();
        let segment = written(&files, seal);
        assert!(segment.blocks.len() > 5);
        assert_eq!(segment.sealed, seal);
        assert_eq!(all_offsets(&files, &segment), kept(100..400));
        let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
        assert_eq!((&opened.segment, &opened.damage), (&segment, &Vec::new()));
        let file = files.open(&path(LOG, 100, 0)).unwrap();
        assert_eq!(index::scan_blocks(&*file, STORE, &state(&segment)), segment.blocks);
        let footer = footer_of(&*file, STORE, &state(&segment));
        assert_eq!(footer.is_some(), seal);
        if let Some(footer) = footer {
            let bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
            assert_eq!(bytes.len() as u64, segment.len);
            assert_eq!(footer.crc, crc32c::crc32c(&bytes[..footer.at as usize]));
        }
        let live: u32 = segment.blocks.iter().map(|block| block.live).sum();
        assert_eq!(live as usize, kept(100..400).len());
        let head =
            FileHead::decode(&files.bytes(&path(LOG, 100, 0)).unwrap(), Kind::Segment).unwrap();
        assert_eq!((head.log, head.sequence, head.store), (LOG, 100, STORE));
    }
}

#[test]
fn a_damaged_footer_is_made_up_for_by_the_blocks() {
    let files = disk();
    let segment = written(&files, true);
    let file = files.open(&path(LOG, 100, 0)).unwrap();
    let footer_at = footer_of(&*file, STORE, &state(&segment)).unwrap().at;
    for byte in [footer_at + 2, footer_at + 70, footer_at + 130, segment.len - 6, segment.len - 1] {
        let files = files.fork();
        files.flip_bit(&path(LOG, 100, 0), byte, 2);
        let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
        assert_eq!(opened.segment, segment, "byte {byte}");
        assert!(!opened.damage.is_empty(), "byte {byte}");
        assert!(opened.damage.iter().all(|damage| damage.from == damage.to), "no record is lost");
    }
}

#[test]
fn what_lies_behind_the_trusted_length_is_cut() {
    let files = disk();
    let segment = written(&files, false);
    {
        // Somebody wrote on, and a checkpoint never told.
        let mut writer = SegmentWriter::open(&files, STORE, LOG, segment.clone(), SIZES).unwrap();
        push_all(&mut writer, 400..500);
        writer.finish(&files).unwrap();
    }
    let longer = files.bytes(&path(LOG, 100, 0)).unwrap().len() as u64;
    assert!(longer > segment.len);
    let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
    assert_eq!(opened.segment, segment);
    assert_eq!(files.bytes(&path(LOG, 100, 0)).unwrap().len() as u64, longer, "read only");
    let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
    assert_eq!((opened.segment, opened.damage), (segment.clone(), Vec::new()));
    assert_eq!(files.bytes(&path(LOG, 100, 0)).unwrap().len() as u64, segment.len);
}

#[test]
fn going_on_cuts_and_chains_and_tells_new_blocks_only() {
    let files = disk();
    let mut segment = written(&files, false);
    let file = files.open(&path(LOG, 100, 0)).unwrap();
    file.write_at(&[7; 30_000], segment.len).unwrap();
    let mut writer = SegmentWriter::open(&files, STORE, LOG, segment.clone(), SIZES).unwrap();
    push_all(&mut writer, 400..500);
    writer.seal().unwrap();
    let new = writer.finish(&files).unwrap();
    assert_eq!(new.blocks[0].base, 400);
    assert_eq!(file.len().unwrap(), new.len);
    segment.blocks.extend(new.blocks.clone());
    (segment.end, segment.len, segment.sealed) = (new.end, new.len, true);
    let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
    assert_eq!((&opened.segment, &opened.damage), (&segment, &Vec::new()));
    assert_eq!(all_offsets(&files, &segment), kept(100..500));
}

#[test]
fn every_bit_of_a_block_counts() {
    let files = disk();
    let segment = written(&files, false);
    let (before, block, after) = (&segment.blocks[1], &segment.blocks[2], &segment.blocks[3]);
    let bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
    let at = block.at as usize;
    let Found::Block(found) = read_block(&bytes, at, identity(STORE, 100, 0)) else { panic!() };
    let content = found.entries.last().unwrap().body.end;
    let bodies = found.entries[0].body.start;
    for byte in (at..at + content).step_by(3) {
        let files = files.fork();
        files.flip_bit(&path(LOG, 100, 0), byte as u64, (byte % 8) as u8);
        let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
        let (records, result) = read(&files, &segment, block, 0..u64::MAX, usize::MAX, true);
        let damage = result.unwrap_err();
        if byte < at + bodies {
            let [found] = &opened.damage[..] else { panic!("{:?}", opened.damage) };
            assert_eq!((found.from, found.to), (before.end, after.base), "byte {byte}");
            assert_eq!(found.bytes, block.at.into()..u64::from(block.at + block.len));
            assert_eq!(opened.segment.blocks.len(), segment.blocks.len() - 1);
            assert_eq!((damage.from, damage.to), (block.base, block.end));
            assert!(records.is_empty());
        } else {
            assert!(opened.damage.is_empty(), "bodies are looked at when they are read");
            assert_eq!(damage.to - damage.from, 10, "one entry");
            let read = offsets(&records);
            assert_eq!(read, kept(block.base..damage.from), "what comes before it is good");
        }
    }
}

#[test]
fn a_block_of_an_earlier_try_breaks_the_chain() {
    let files = disk();
    let segment = written(&files, false);
    let other = disk();
    let mut writer = SegmentWriter::create(&other, STORE, LOG, (100, 0), 1, SIZES).unwrap();
    for base in (100..400).step_by(10).filter(|base| base % 30 != 20) {
        writer.push(Level::Disk, base, Stamp { time_ms: 7, due_ms: 7 }, &batch(base, 10)).unwrap();
    }
    let again = writer.finish(&other).unwrap();
    let (old, new) = (&again.blocks[0], &segment.blocks[0]);
    assert_eq!((old.at, old.len), (new.at, new.len));
    let bytes = other.bytes(&path(LOG, 100, 0)).unwrap();
    files.damage(&path(LOG, 100, 0), &bytes[old.at as usize..][..old.len as usize], old.at.into());
    let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
    let [damage] = &opened.damage[..] else { panic!("{:?}", opened.damage) };
    assert_eq!((damage.from, damage.to), (100, segment.blocks[1].base));
    assert_eq!(damage.bytes, u64::from(new.at)..u64::from(new.at + new.len));
    assert_eq!(opened.segment.blocks, segment.blocks[1..]);
    let (records, result) = read(&files, &segment, new, 0..u64::MAX, usize::MAX, true);
    assert!(result.is_err() && records.is_empty(), "nor is it read by an index that knows better");
}

#[test]
fn a_file_that_ends_early_loses_what_is_not_there() {
    let files = disk();
    let segment = written(&files, true);
    let first = &segment.blocks[0];
    for len in
        [0, 100, 4_096, u64::from(first.at + first.len), u64::from(first.at + first.len) + 300]
    {
        let files = files.fork();
        files.open(&path(LOG, 100, 0)).unwrap().set_len(len).unwrap();
        let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
        let good = usize::from(len > 4_096);
        assert_eq!(opened.segment.blocks, segment.blocks[..good]);
        let from = if good > 0 { first.end } else { 100 };
        let lost = opened.damage.iter().find(|damage| damage.to > damage.from).unwrap();
        assert_eq!((lost.from, lost.to), (from, segment.end), "{len}");
    }
    files.remove(&path(LOG, 100, 0)).unwrap();
    let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
    assert_eq!((opened.damage[0].from, opened.damage[0].to), (100, segment.end));
    assert!(opened.segment.blocks.is_empty());
}

/// Every record is there, and the block before the last one in any case.
#[test]
fn a_file_that_ends_in_padding_loses_nothing() {
    let files = disk();
    let segment = written(&files, false);
    let bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
    let content = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
    assert!(content < segment.len, "there is padding");
    for len in [content, segment.len - 1] {
        let files = files.fork();
        files.open(&path(LOG, 100, 0)).unwrap().set_len(len).unwrap();
        let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
        assert_eq!((&opened.segment, &opened.damage), (&segment, &Vec::new()), "{len}");
        assert_eq!(all_offsets(&files, &opened.segment), kept(100..400), "{len}");
    }
}

/// The blocks say the same: it is told, and there is nothing to accept.
#[test]
fn a_footer_costs_nothing_however_it_is_damaged() {
    let files = disk();
    let segment = written(&files, true);
    let file = files.open(&path(LOG, 100, 0)).unwrap();
    let footer_at = footer_of(&*file, STORE, &state(&segment)).unwrap().at;
    let check = |files: &SimFiles, what: &str| {
        let opened = open_index(files, STORE, &state(&segment), false).unwrap();
        assert_eq!(opened.segment, segment, "{what}");
        let [damage] = &opened.damage[..] else { panic!("{what}: {:?}", opened.damage) };
        assert!(damage.costs_nothing, "{what}: {damage:?}");
    };
    for byte in [footer_at + 2, footer_at + 70, footer_at + 130, segment.len - 1] {
        let files = files.fork();
        files.flip_bit(&path(LOG, 100, 0), byte, 2);
        check(&files, &format!("byte {byte} is flipped"));
    }
    for len in [footer_at, footer_at + 100, segment.len - 1] {
        let files = files.fork();
        files.open(&path(LOG, 100, 0)).unwrap().set_len(len).unwrap();
        check(&files, &format!("the file ends at {len}"));
    }
}

#[test]
fn a_read_that_fails_once_costs_no_block() {
    let files = disk();
    let segment = written(&files, false);
    // The first is of the head, which is named.
    for nth in 2..12 {
        let files = files.fork();
        files.arm(Fault::new(Operation::Read, nth, Effect::Error));
        let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
        assert_eq!((&opened.segment, &opened.damage), (&segment, &Vec::new()), "read {nth}");
    }
}

#[test]
fn segments_of_others_are_not_ours() {
    let files = disk();
    let segment = written(&files, true);
    let opened = open_index(&files, STORE + 1, &state(&segment), true).unwrap();
    assert!(opened.segment.blocks.is_empty());
    assert!(opened.damage.iter().any(|damage| damage.to == segment.end));
    // The whole file at another segment's place.
    let bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
    let file = files.create(&path(LOG, 90, 0)).unwrap();
    file.write_at(&bytes, 0).unwrap();
    let wrong = SegmentState { base: 90, ..state(&segment) };
    assert!(open_index(&files, STORE, &wrong, true).unwrap().segment.blocks.is_empty());
}

#[test]
fn a_newer_format_is_refused() {
    let files = disk();
    let segment = written(&files, true);
    let mut bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..52]);
    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    files.damage(&path(LOG, 100, 0), &bytes[..4_096], 0);
    let opened = open_index(&files, STORE, &state(&segment), false);
    let refused = matches!(&opened, Err(error) if error.to_string().contains("newer"));
    assert!(refused, "{opened:?}");
}

#[test]
fn reading_keeps_to_what_was_asked() {
    let files = disk();
    let segment = written(&files, true);
    let mut seeded = Seeded::new(11);
    for _ in 0..2_000 {
        let block = &segment.blocks[seeded.below(segment.blocks.len() as u64) as usize];
        let from = block.base + seeded.below(block.end - block.base + 5);
        let to = from + seeded.below(40);
        let bytes_max = seeded.below(1_500) as usize;
        let or_one = seeded.below(2) == 0;
        let (records, result) = read(&files, &segment, block, from..to, bytes_max, or_one);
        result.unwrap();
        let mut left = bytes_max;
        let mut expected = Vec::new();
        for offset in kept(from.max(block.base)..to.min(block.end).max(from)) {
            let len = record(offset).len();
            let entry = offset / 10 * 10;
            let begins = expected.last().is_none_or(|last| last / 10 * 10 != entry);
            let whole: usize = (entry..entry + 10).map(|offset| record(offset).len()).sum();
            let bytes = if begins { whole } else { len };
            if bytes > left && !(or_one && expected.is_empty()) {
                break;
            }
            left = left.saturating_sub(len);
            expected.push(offset);
        }
        assert_eq!(offsets(&records), expected, "{from}..{to} {bytes_max} {or_one}");
    }
}

#[test]
fn an_interrupted_write_leaves_the_trusted_length() {
    let files = disk();
    let segment = written(&files, false);
    for nth in 1..12 {
        let files = files.fork();
        files.cut_power_at(nth);
        let write = || -> Result<Segment, OpenError> {
            let mut writer = SegmentWriter::open(&files, STORE, LOG, segment.clone(), SIZES)?;
            for base in (400..900).step_by(10) {
                writer.push(Level::Disk, base, Stamp::default(), &batch(base, 10))?;
            }
            writer.seal()?;
            Ok(writer.finish(&files)?)
        };
        let ended = write();
        for seed in 0..5 {
            let files = files.fork();
            files.crash(seed);
            let opened = open_index(&files, STORE, &state(&segment), false).unwrap();
            assert_eq!((&opened.segment, &opened.damage), (&segment, &Vec::new()), "{ended:?}");
            assert_eq!(all_offsets(&files, &segment), kept(100..400));
        }
    }
}

#[test]
fn a_new_segment_has_its_name_only_when_it_is_whole() {
    for nth in 1..40 {
        let files = disk();
        files.cut_power_at(nth);
        let write = || -> std::io::Result<Segment> {
            let mut writer = SegmentWriter::create(&files, STORE, LOG, (100, 0), 1, SIZES)?;
            for base in (100..400).step_by(10) {
                let stamp = Stamp { time_ms: 1_000 + base, due_ms: base % 20 };
                writer.push(Level::Disk, base, stamp, &batch(base, 10))?;
            }
            writer.seal()?;
            let segment = writer.finish(&files)?;
            files.sync_folder(&folder(LOG))?;
            Ok(segment)
        };
        let ended = write();
        for seed in 0..5 {
            let files = files.fork();
            files.crash(seed);
            match (&ended, files.bytes(&path(LOG, 100, 0))) {
                (Err(_), None) => {}
                (Ok(_), None) => panic!("a synced segment is gone"),
                (_, Some(bytes)) => {
                    let len = bytes.len() as u64;
                    let state = SegmentState {
                        log: LOG,
                        base: 100,
                        revision: 0,
                        end: 400,
                        len,
                        is_sealed: true,
                    };
                    let opened = open_index(&files, STORE, &state, true).unwrap();
                    assert_eq!(opened.damage, Vec::new(), "call {nth}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_leftover_of_an_earlier_try_is_in_nobodys_way() {
    let files = disk();
    drop(SegmentWriter::create(&files, STORE, LOG, (100, 0), 1, SIZES).unwrap());
    let segment = written(&files, true);
    assert_eq!(all_offsets(&files, &segment), kept(100..400));
    // And one that got its name, but no checkpoint.
    let again = written(&files, false);
    assert_eq!(all_offsets(&files, &again), kept(100..400));
}

#[test]
fn revisions_are_files_of_their_own_and_keep_all_that_was_filed() {
    let files = disk();
    let levels = [Level::Memory, Level::Os, Level::Disk];
    let filed = |turn: u64| {
        let stamp = Stamp { time_ms: 1_000 + turn * turn, due_ms: turn % 4 * 500 };
        (levels[turn as usize % 3], 100 + 7 * turn, stamp, batch(100 + 7 * turn, 1 + turn % 6))
    };
    for revision in [0, 1, 0xfe] {
        let mut writer =
            SegmentWriter::create(&files, STORE, LOG, (100, revision), 1, SIZES).unwrap();
        for (level, base, stamp, batch) in (u64::from(revision % 2)..60).map(filed) {
            writer.push(level, base, stamp, &batch).unwrap();
        }
        writer.seal().unwrap();
        let segment = writer.finish(&files).unwrap();
        let path = path(LOG, 100, revision);
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(parse_name(name), Some((100, revision)));
        let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
        assert_eq!((opened.segment, opened.damage.len()), (segment.clone(), 0));
        let file = files.open(&path).unwrap();
        let mut turns = u64::from(revision % 2)..60;
        for block in &segment.blocks {
            let identity = identity(STORE, 100, revision);
            for piece in read_pieces(&*file, identity, LOG, block).unwrap() {
                let found = (piece.level, piece.base, piece.stamp, piece.batch);
                assert_eq!(found, filed(turns.next().unwrap()));
            }
        }
        assert_eq!(turns.next(), None);
        // Under another revision's name nothing of it is believed.
        files.rename(&path, &super::path(LOG, 100, revision + 1)).unwrap();
        let wrong = SegmentState { revision: revision + 1, ..state(&segment) };
        let opened = open_index(&files, STORE, &wrong, true).unwrap();
        assert!(opened.segment.blocks.is_empty());
        assert!(opened.damage.iter().any(|damage| damage.from == 100 && damage.to == segment.end));
    }
    for name in ["s-64.ws", "s-0000000000000064-00.ws", "s-0000000000000064-1.ws", "x.ws"] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}

#[test]
fn few_files_stay_open_and_forgotten_ones_close() {
    let files = disk();
    files.make_folder(&folder(LOG)).unwrap();
    let mut handles = Handles::default();
    for base in 0..600 {
        files.create(&path(LOG, base, 0)).unwrap();
        handles.get(&files, LOG, base, 0).unwrap();
        handles.get(&files, LOG, 0, 0).unwrap();
        assert!(handles.len() <= 256);
    }
    // The one used all the time is still there: its file is not looked for.
    files.remove(&path(LOG, 0, 0)).unwrap();
    handles.get(&files, LOG, 0, 0).unwrap();
    handles.forget(LOG, |base, _| base == 0);
    assert!(handles.get(&files, LOG, 0, 0).is_err());
    handles.forget(LOG, |_, _| true);
    assert_eq!(handles.len(), 0);
}

#[test]
fn what_cannot_be_read_is_told_of_and_the_rest_is_indexed() {
    use crate::sim::{Effect, Fault, Operation};
    for seal in [false, true] {
        let files = disk();
        let segment = written(&files, seal);
        for nth in 1..12 {
            let files = files.fork();
            files.arm(Fault::new(Operation::Read, nth, Effect::Error));
            let opened = open_index(&files, STORE, &state(&segment), true).unwrap();
            let lost = |offset: u64| {
                opened.damage.iter().any(|damage| (damage.from..damage.to).contains(&offset))
            };
            for block in &segment.blocks {
                let is_known = opened.segment.blocks.contains(block);
                assert!(is_known || lost(block.base) && lost(block.end - 1), "read {nth}");
            }
            assert!(opened.segment.blocks.len() + 1 >= segment.blocks.len());
        }
    }
}

/// The keeper would end, and after each start again.
#[test]
fn a_read_error_in_an_active_segment_stops_nobody() {
    use crate::sim::{Effect, Fault, Operation};
    let files = disk();
    let segment = written(&files, false);
    let fail = |nth| files.arm(Fault::new(Operation::Read, nth, Effect::Error));
    // Whether it can be gone on with shows the head of its last block.
    fail(1);
    let opened = SegmentWriter::open(&files, STORE, LOG, segment.clone(), SIZES);
    let Err(OpenError::Damage(damage)) = opened else { panic!("it is gone on with") };
    assert_eq!((damage.from, damage.to), (400, 400), "no record is concerned");
    // What was written before is summed up at the end.
    let mut writer = SegmentWriter::open(&files, STORE, LOG, segment.clone(), SIZES).unwrap();
    push_all(&mut writer, 400..500);
    fail(1);
    writer.seal().unwrap();
    let sealed = writer.finish(&files).unwrap();
    let opened = open_index(&files, STORE, &state(&sealed), true).unwrap();
    assert_eq!(opened.damage, Vec::new());
    assert_eq!(all_offsets(&files, &opened.segment), kept(100..500));
    let file = files.open(&path(LOG, 100, 0)).unwrap();
    let footer = footer_of(&*file, STORE, &state(&sealed)).unwrap();
    let bytes = files.bytes(&path(LOG, 100, 0)).unwrap();
    assert_ne!(footer.crc, crc32c::crc32c(&bytes[..footer.at as usize]), "it was not all read");
}
