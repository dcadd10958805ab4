//! What a store keeps in memory does not grow with what has passed through it.
#![allow(clippy::unwrap_used)]

use weir_core::env::Now;
use weir_message::BatchBuilder;

use super::*;
use crate::sim::SimFiles;
use crate::{Journal, JournalConfig};

struct Still;

impl weir_core::env::Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

fn append(store: &mut JournalStore, log: LogId) -> u64 {
    append_at(store, log, Level::Os)
}

fn append_at(store: &mut JournalStore, log: LogId, level: Level) -> u64 {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", b"", &[], b"payload");
    let mut batch = BatchBuilder::default();
    batch.push(&message);
    let at = store.bounds(log).end;
    store.append(log, at, Stamp::default(), batch.take(), level).unwrap();
    at
}

#[test]
fn bodies_that_are_settled_leave_nothing_behind_in_memory() {
    let mut config = JournalConfig::new(7);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open_stepped(files, Arc::new(Still), config, 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let (kept, passing) = (store.open("kept").unwrap(), store.open("passing").unwrap());
    for turn in 0..5 * limits::RESIDENT_LOOK {
        // One that stays before all others, and a few that stay among them.
        if turn % 1_000 == 0 {
            append(&mut store, kept);
        }
        let at = append(&mut store, passing);
        store.release(passing, at, at + 1, Level::Os);
        store.commit().unwrap();
        journal.step().unwrap();
    }
    let live = 5 * limits::RESIDENT_LOOK / 1_000 + 1;
    assert!(store.resident.len() <= limits::RESIDENT_LOOK + live, "{}", store.resident.len());
    let held = |log: LogId| store.resident.iter().filter(|entry| entry.0 == log).count();
    assert_eq!(held(kept), live, "what is in memory may still leave it");
}

/// Offsets of messages kept in memory only are gone with the process, and what was written
/// down of them must not be said of others, however often that is read again.
#[test]
fn offsets_that_were_settled_are_not_given_again() {
    for (kept, settled) in [(0, 3..4), (1, 3..4), (1, 1..4), (2, 4..5)] {
        let case = format!("{kept} kept, {settled:?} settled");
        let files = Arc::new(SimFiles::new(1));
        let mut config = JournalConfig::new(7);
        (config.free_bytes_min, config.free_percent_min) = (0, 0);
        let open = |files: &Arc<SimFiles>| {
            let journal =
                Journal::open_stepped(files.clone(), Arc::new(Still), config.clone(), 1).unwrap();
            let mut store = journal.store(Box::new(|| {}));
            let log = store.open("queue/orders").unwrap();
            (journal, store, log)
        };
        let (mut journal, mut store, mut log) = open(&files);
        for number in 0..5 {
            let level = if number < kept { Level::Disk } else { Level::Memory };
            append_at(&mut store, log, level);
        }
        store.release(log, settled.start, settled.end, Level::Os);
        for start in 0..4 {
            store.commit().unwrap();
            drop(store);
            journal.close().unwrap();
            (journal, store, log) = open(&files);
            let Bounds { start: first, end, .. } = store.bounds(log);
            assert_eq!(end, settled.end + start, "start {start}, {case}");
            let holes = if kept == 0 { 0..0 } else { kept..settled.end };
            assert_eq!(store.settled(log, first).unwrap_or_default(), holes, "{case}");
            assert_eq!(first, if kept == 0 { settled.end } else { 0 }, "{case}");
            let mut records = Vec::new();
            store.read(log, first, usize::MAX, &mut records).unwrap();
            let read: usize = records.iter().map(|records| records.batch.len()).sum();
            assert_eq!(read as u64, kept + start, "start {start}, {case}");
            append_at(&mut store, log, Level::Disk);
        }
    }
}

/// What was kept in memory only is no message any more, whether it was settled or not.
#[test]
fn a_gap_between_records_counts_as_settled() {
    let files = Arc::new(SimFiles::new(1));
    let config = JournalConfig::new(7);
    for start in 0..3 {
        let journal =
            Journal::open_stepped(files.clone(), Arc::new(Still), config.clone(), 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("queue/orders").unwrap();
        let Bounds { start: first, end, .. } = store.bounds(log);
        assert_eq!((first, end), if start == 0 { (0, 0) } else { (3, 4 * start) });
        if start == 2 {
            assert_eq!(store.settled(log, 3), Some(4..7));
        }
        for level in [Level::Memory, Level::Memory, Level::Memory, Level::Disk] {
            append_at(&mut store, log, level);
        }
        append_at(&mut store, log, Level::Memory);
        store.commit().unwrap();
        drop(store);
        journal.close().unwrap();
    }
}

/// Also where a checkpoint has seen them: they would be in the way for good.
#[test]
fn messages_in_memory_that_a_checkpoint_knew_are_gone_with_the_process() {
    let files = Arc::new(SimFiles::new(1));
    let mut config = JournalConfig::new(7);
    config.journal_file_bytes = 16 << 10;
    (config.kept_journal_files, config.filed_at_once) = (1, 1);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    let open = || {
        let journal =
            Journal::open_stepped(files.clone(), Arc::new(Still), config.clone(), 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("queue/orders").unwrap();
        (journal, store, log)
    };
    let (journal, mut store, log) = open();
    for _ in 0..3 {
        append_at(&mut store, log, Level::Memory);
    }
    let other = store.open("queue/other").unwrap();
    for _ in 0..400 {
        append_at(&mut store, other, Level::Disk);
        store.commit().unwrap();
        journal.step().unwrap();
    }
    drop(store);
    journal.close().unwrap();
    let (journal, store, log) = open();
    assert!(journal.report().checkpoint > 0, "none was made");
    let Bounds { start, end, .. } = store.bounds(log);
    assert_eq!((start, end), (3, 3));
}

/// A broker that gave offsets again has told of them before it did.
#[test]
fn what_was_settled_before_offsets_were_given_again_is_not_said_of_them() {
    let files = Arc::new(SimFiles::new(1));
    let open = || {
        let config = JournalConfig::new(7);
        let journal = Journal::open_stepped(files.clone(), Arc::new(Still), config, 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("queue/orders").unwrap();
        (journal, store, log)
    };
    let (journal, mut store, log) = open();
    store.release(log, 3, 4, Level::Os);
    for _ in 0..5 {
        append_at(&mut store, log, Level::Disk);
    }
    store.commit().unwrap();
    drop(store);
    journal.close().unwrap();
    let (_journal, store, log) = open();
    let mut records = Vec::new();
    store.read(log, 0, usize::MAX, &mut records).unwrap();
    assert_eq!(records.iter().map(|records| records.batch.len()).sum::<usize>(), 5);
}

/// What lies behind a damaged block may have been settled in part: the rest is lost all the
/// same, and must be told.
#[test]
fn what_was_settled_of_a_lost_block_does_not_hide_the_rest() {
    for kept in [0, 3] {
        let files = Arc::new(SimFiles::new(1));
        let open = || {
            let config = JournalConfig::new(7);
            let journal = Journal::open_stepped(files.clone(), Arc::new(Still), config, 1).unwrap();
            let mut store = journal.store(Box::new(|| {}));
            let log = store.open("queue/orders").unwrap();
            (journal, store, log)
        };
        let (journal, mut store, log) = open();
        let written = |store: &mut JournalStore| {
            store.commit().unwrap();
            journal.step().unwrap();
            crate::format::FILE_HEAD_BYTES as u64 + journal.figures().bytes
        };
        (0..kept).for_each(|_| assert!(append_at(&mut store, log, Level::Disk) < kept));
        let from = written(&mut store);
        (0..5).for_each(|_| assert!(append_at(&mut store, log, Level::Disk) >= kept));
        let to = written(&mut store);
        store.release(log, kept, kept + 2, Level::Disk);
        written(&mut store);
        drop(store);
        journal.close().unwrap();
        let path = files.paths().into_iter().find(|path| path.starts_with("journal/j-")).unwrap();
        files.damage(&path, &vec![0; (to - from) as usize], from);
        for _ in 0..2 {
            let (journal, mut store, log) = open();
            let lost: Vec<_> = journal.report().lost().collect();
            assert!(lost.iter().any(|lost| *lost.log == *"queue/orders"), "{kept}: {lost:?}");
            let end = store.bounds(log).end;
            let mut batch = BatchBuilder::default();
            batch.push(b"more");
            let taken = store.append(log, end, Stamp::default(), batch.take(), Level::Disk);
            assert!(matches!(taken, Err(StoreError::Damaged { .. })), "{kept}: {taken:?}");
            drop(store);
            journal.close().unwrap();
        }
    }
}

/// A group's log has no records, and its settlements say nothing of its end.
#[test]
fn what_a_group_has_settled_out_of_order_stays_so() {
    let files = Arc::new(SimFiles::new(1));
    let config = JournalConfig::new(7);
    for start in 0..3 {
        let journal =
            Journal::open_stepped(files.clone(), Arc::new(Still), config.clone(), 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("group/flights/audit/0").unwrap();
        let settled = store.settled(log, 0);
        assert_eq!(settled, (start > 0).then_some(3..4 + 2 * start));
        store.release(log, 3, 6 + 2 * start, Level::Os);
        store.commit().unwrap();
        drop(store);
        journal.close().unwrap();
    }
}
