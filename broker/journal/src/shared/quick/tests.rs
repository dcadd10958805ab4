//! What the owner of a store writes by itself, and what it leaves to the thread.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, Lone, QueueConfig, ReceiptId, Spread,
};
use weir_core::env::{Clock, Now};
use weir_core::shard::Shard;
use weir_core::store::{LogId, Stamp, Store};
use weir_message::BatchBuilder;

use crate::limits::{
    LEFT_IN_VAIN_MS, QUICK_SYNC_BYTES, QUICK_WRITE_BYTES, SECTOR_BYTES, UNFILLED_SYNCS_MAX,
};
use crate::shared::Shared;
use crate::sim::SimFiles;
use crate::{Journal, JournalConfig, JournalStore};

const STORE: u128 = 7;
/// Longest wait for a thread.
const LONGEST: Duration = Duration::from_secs(60);

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

#[derive(Default)]
struct Settable(AtomicU64);

impl Clock for Settable {
    fn now(&self) -> Now {
        let steady_ms = self.0.load(Ordering::Relaxed);
        Now { steady_ms, ..Now::default() }
    }
}

fn config() -> JournalConfig {
    let mut config = JournalConfig::new(STORE);
    config.journal_file_bytes = 16 << 20;
    // However long a busy machine takes over one.
    config.quick_sync_us = u64::MAX;
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config
}

fn stepped() -> Journal {
    stepped_on(Arc::new(SimFiles::new(1)))
}

fn stepped_on(files: Arc<SimFiles>) -> Journal {
    Journal::open_stepped(files, Arc::new(Still), config(), 2).unwrap()
}

/// With nothing to do it stays so, until it is rung.
fn until_the_thread_rests(journal: &Journal) {
    while !journal.shared.is_writer_waiting.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// One message of so many bytes, committed. Position of its hand-over.
fn append(store: &mut JournalStore, log: LogId, bytes: usize, level: Level) -> u64 {
    hand_in(store, log, bytes, level);
    store.commit().unwrap();
    store.position()
}

fn hand_in(store: &mut JournalStore, log: LogId, bytes: usize, level: Level) {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", b"", &[], &vec![b'.'; bytes]);
    let mut batch = BatchBuilder::default();
    batch.push(&message);
    let end = store.bounds(log).end;
    store.append(log, end, Stamp::default(), batch.take(), level).unwrap();
}

/// Steps the writer as the owner of store 0 would. How far it has come.
fn step(journal: &Journal, position: u64, level: Level) -> u64 {
    Shared::lock(&journal.shared.writer).as_mut().unwrap().step_to(position, level, 0);
    journal.shared.written()
}

#[test]
fn short_turns_without_a_sync_are_written_when_they_are_committed_long_ones_by_the_thread() {
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open(files, Arc::new(Still), config(), 1).unwrap();
    let (ring, bell) = mpsc::sync_channel(1_000);
    let mut store = journal.store(Box::new(move || ring.try_send(()).unwrap_or_default()));
    let log = store.open("short").unwrap();
    // It may still be at what came before.
    while append(&mut store, log, 10, Level::Os) > store.safe(Level::Os) {
        bell.recv_timeout(LONGEST).unwrap();
    }
    until_the_thread_rests(&journal);
    while bell.try_recv().is_ok() {}
    for _ in 0..100 {
        let position = append(&mut store, log, 10, Level::Os);
        assert_eq!(store.safe(Level::Os), position);
    }
    assert!(bell.try_recv().is_err(), "its owner need not be told");
    let position = append(&mut store, log, 2 * QUICK_WRITE_BYTES, Level::Os);
    while store.safe(Level::Os) < position {
        bell.recv_timeout(LONGEST).unwrap();
    }
    journal.close().unwrap();
}

#[test]
fn an_owner_whose_write_fails_hears_of_it_at_once() {
    let files = Arc::new(SimFiles::new(1));
    let journal = stepped_on(files.clone());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("short").unwrap();
    while journal.step_writer() {}
    journal.shared.has_thread_now();
    let position = append(&mut store, log, 10, Level::Os);
    assert_eq!(store.safe(Level::Os), position, "its owner writes by itself");
    files.fail_write(1);
    hand_in(&mut store, log, 10, Level::Os);
    assert!(store.commit().is_err(), "nothing may be answered any more");
}

#[test]
fn a_sync_of_what_others_have_written_is_left_to_the_thread() {
    let journal = stepped();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("long").unwrap();
    while journal.step_writer() {}
    journal.shared.has_thread_now();
    let is_quick = |level| journal.shared.resting_writer(level, 10).is_some();
    assert!(is_quick(Level::Disk));
    append(&mut store, log, 2 * QUICK_SYNC_BYTES, Level::Os);
    while journal.step_writer() {}
    assert!(!is_quick(Level::Disk));
    assert!(is_quick(Level::Os));
}

#[test]
fn an_append_behind_a_safer_one_waits_for_that_ones_sync_only() {
    let journal = stepped();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("altered").unwrap();
    append(&mut store, log, 10, Level::Disk);
    while journal.step_writer() {}
    // Both are written, and the first is synced: nobody asks for another sync.
    append(&mut store, log, 10, Level::Os);
    while journal.step_writer() {}
    store.commit().unwrap();
    let bounds = store.bounds(log);
    assert_eq!((bounds.end, bounds.stable), (2, 2));
}

#[test]
fn an_owner_writes_no_more_than_its_own() {
    let journal = stepped();
    let (mut one, mut other) = (journal.store(Box::new(|| {})), journal.store(Box::new(|| {})));
    let (first, second) = (one.open("one").unwrap(), other.open("other").unwrap());
    let own = append(&mut one, first, 10, Level::Os);
    // Too long for the block that holds the first.
    let behind = append(&mut other, second, config().block_bytes(), Level::Os);
    assert_eq!(step(&journal, own, Level::Os), own);
    assert!(journal.step_writer());
    assert_eq!(journal.shared.written(), behind);
}

#[test]
fn an_owner_writes_nothing_long_that_others_put_before_its_own() {
    let journal = stepped();
    let (mut one, mut other) = (journal.store(Box::new(|| {})), journal.store(Box::new(|| {})));
    let (first, second) = (one.open("one").unwrap(), other.open("other").unwrap());
    append(&mut other, second, 2 * QUICK_WRITE_BYTES, Level::Os);
    let own = append(&mut one, first, 10, Level::Os);
    let before = journal.shared.written();
    assert_eq!(step(&journal, own, Level::Os), before, "left to the writer's thread");
    assert!(journal.step_writer());
    assert_eq!(journal.shared.written(), own);
}

#[test]
fn an_owner_that_wants_no_sync_makes_none() {
    let journal = stepped();
    let (mut one, mut other) = (journal.store(Box::new(|| {})), journal.store(Box::new(|| {})));
    let (first, second) = (one.open("one").unwrap(), other.open("other").unwrap());
    append(&mut other, second, 10, Level::Disk);
    let own = append(&mut one, first, 10, Level::Os);
    let before = journal.shared.written();
    assert_eq!(step(&journal, own, Level::Os), before, "left to the writer's thread");
    assert_eq!(step(&journal, own, Level::Disk), own);
    assert_eq!(journal.shared.synced(), own);
}

#[test]
fn an_owner_goes_on_in_no_other_file() {
    let journal = stepped();
    let has_room =
        |bytes| Shared::lock(&journal.shared.writer).as_ref().unwrap().has_room(Level::Disk, bytes);
    assert!(has_room(QUICK_WRITE_BYTES));
    assert!(!has_room(config().journal_file_bytes as usize));
}

/// An owner does not look for the next file, and the last one is not given for shorter syncs.
#[test]
fn what_is_often_synced_goes_to_a_file_full_of_zeros() {
    for is_last in [false, true] {
        let files = Arc::new(SimFiles::new(1));
        let journal = stepped_on(files.clone());
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("log").unwrap();
        journal.shared.keep_spare();
        let in_use = || *Shared::lock(&journal.shared.journal_files).keys().next_back().unwrap();
        let has_room =
            || Shared::lock(&journal.shared.writer).as_ref().unwrap().has_room(Level::Disk, 10);
        let mut write = |bytes, level| {
            append(&mut store, log, bytes, level);
            while journal.step_writer() {}
        };
        let first = in_use();
        while in_use() == first {
            write(1 << 20, Level::Os);
        }
        let is_filled = |sequence| {
            let bytes = files.bytes(&crate::writer::path(sequence)).unwrap();
            bytes.len().is_multiple_of(SECTOR_BYTES)
        };
        assert!(!is_filled(in_use()), "it is only allocated");
        if is_last {
            files.set_room(files.used_bytes() + 1);
        }
        (0..UNFILLED_SYNCS_MAX).for_each(|_| write(10, Level::Disk));
        assert_eq!((in_use(), has_room()), (first + 1, is_last));
        write(10, Level::Disk);
        assert_eq!(in_use(), if is_last { first + 1 } else { first + 2 });
        assert_eq!(is_filled(in_use()), !is_last);
    }
}

/// Two stores with a log each, of a journal whose writer rests and has a thread.
fn two() -> (Journal, [(JournalStore, LogId); 2]) {
    two_by(Arc::new(Still))
}

fn two_by(clock: Arc<dyn Clock>) -> (Journal, [(JournalStore, LogId); 2]) {
    let journal = Journal::open_stepped(Arc::new(SimFiles::new(1)), clock, config(), 2).unwrap();
    let stores = ["one", "other"].map(|name| {
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open(name).unwrap();
        store.commit().unwrap();
        (store, log)
    });
    while journal.step_writer() {}
    journal.shared.has_thread_now();
    (journal, stores)
}

fn syncs(journal: &Journal) -> u64 {
    journal.shared.counts.syncs.load(Ordering::Relaxed)
}

#[test]
fn the_first_of_two_turns_is_synced_with_the_second() {
    let (journal, [(mut one, first), (mut other, second)]) = two();
    let before = syncs(&journal);
    hand_in(&mut other, second, 10, Level::Disk);
    let left = append(&mut one, first, 10, Level::Disk);
    assert!(one.waits_for_another());
    assert!(journal.shared.written() < left, "left to the other, which is in a turn");
    other.commit().unwrap();
    assert_eq!(journal.shared.synced(), other.position());
    assert_eq!(syncs(&journal) - before, 1);
    assert!(!one.waits_for_another() && !other.waits_for_another());
    one.commit().unwrap();
    assert_eq!(one.bounds(first).stable, 1);
}

#[test]
fn nothing_is_left_to_who_is_in_no_turn_or_wants_no_sync() {
    let (journal, [(mut one, first), (mut other, second)]) = two();
    let own = append(&mut one, first, 10, Level::Disk);
    assert_eq!(journal.shared.synced(), own);
    hand_in(&mut other, second, 10, Level::Os);
    let own = append(&mut one, first, 10, Level::Disk);
    assert_eq!(journal.shared.synced(), own);
}

#[test]
fn what_was_left_is_left_once_only() {
    let journal = stepped();
    let mut stores: Vec<_> = (0..3)
        .map(|number| {
            let mut store = journal.store(Box::new(|| {}));
            let log = store.open(&number.to_string()).unwrap();
            store.commit().unwrap();
            (store, log)
        })
        .collect();
    while journal.step_writer() {}
    journal.shared.has_thread_now();
    for (store, log) in &mut stores {
        hand_in(store, *log, 10, Level::Disk);
    }
    stores[0].0.commit().unwrap();
    assert!(journal.shared.written() < stores[0].0.position());
    stores[1].0.commit().unwrap();
    assert_eq!(journal.shared.synced(), stores[1].0.position(), "the third may take long");
}

#[test]
fn what_wants_no_sync_is_left_behind_what_is_left() {
    let (journal, [(mut one, first), (mut other, second)]) = two();
    let before = syncs(&journal);
    hand_in(&mut other, second, 10, Level::Disk);
    append(&mut one, first, 10, Level::Disk);
    let own = append(&mut one, first, 10, Level::Os);
    assert!(journal.shared.written() < own && one.waits_for_another());
    other.commit().unwrap();
    assert_eq!(journal.shared.synced(), other.position());
    assert_eq!(syncs(&journal) - before, 1);
}

#[test]
fn what_would_be_too_long_for_one_quick_write_is_not_left() {
    let (journal, [(mut one, first), (mut other, second)]) = two();
    hand_in(&mut other, second, 10, Level::Disk);
    let own = append(&mut one, first, QUICK_SYNC_BYTES * 3 / 4, Level::Disk);
    assert_eq!(journal.shared.synced(), own);
}

#[test]
fn nothing_is_left_for_a_while_behind_a_turn_that_takes_long() {
    let clock = Arc::new(Settable::default());
    let (journal, [(mut one, first), (mut other, second)]) = two_by(clock.clone());
    hand_in(&mut other, second, 10, Level::Disk);
    append(&mut one, first, 10, Level::Disk);
    // What follows without a sync puts nothing off, and is not left once that is late.
    for now_ms in 1..=2 {
        clock.0.store(now_ms, Ordering::Relaxed);
        append(&mut one, first, 10, Level::Os);
        assert_eq!(one.waits_for_another(), now_ms == 1);
    }
    assert!(journal.step_writer());
    let own = append(&mut one, first, 10, Level::Disk);
    assert_eq!(journal.shared.synced(), own, "the other is in the same turn");
    clock.0.store(2 + LEFT_IN_VAIN_MS, Ordering::Relaxed);
    append(&mut one, first, 10, Level::Disk);
    assert!(one.waits_for_another(), "its turn may be short again");
}

#[test]
fn what_the_other_has_written_was_not_left_in_vain() {
    let clock = Arc::new(Settable::default());
    let (journal, [(mut one, first), (mut other, second)]) = two_by(clock.clone());
    hand_in(&mut other, second, 10, Level::Disk);
    append(&mut one, first, 10, Level::Disk);
    other.commit().unwrap();
    clock.0.store(5, Ordering::Relaxed);
    one.commit().unwrap();
    journal.shared.note_left_in_vain(5);
    hand_in(&mut other, second, 10, Level::Disk);
    append(&mut one, first, 10, Level::Disk);
    assert!(one.waits_for_another());
}

#[test]
fn a_store_that_goes_in_the_middle_of_a_turn_is_not_waited_for() {
    let (journal, [(mut one, first), (mut other, second)]) = two();
    hand_in(&mut other, second, 10, Level::Disk);
    drop(other);
    let own = append(&mut one, first, 10, Level::Disk);
    assert_eq!(journal.shared.synced(), own);
}

/// What a shard does with what was left.
#[test]
fn the_shard_of_what_was_left_has_a_turn_that_is_due() {
    let (_journal, [(one, _), (mut other, second)]) = two();
    let now = Now { steady_ms: 5, wall_ms: 5 };
    let (mut shard, mut effects) = (Shard::new(Box::new(one), 100..110), Vec::new());
    let (id, config) = (DestinationId(1), QueueConfig { level: Level::Disk, ..Default::default() });
    shard.apply(now, Command::CreateQueue { id, name: "q".into(), config }, &mut effects);
    shard.commit(now, &mut effects).unwrap();
    assert_eq!(shard.next_deadline(), None);
    hand_in(&mut other, second, 10, Level::Disk);
    let mut message = Vec::new();
    weir_message::encode(&mut message, "q", b"", &[], b"x");
    let messages = vec![Lone { destination: id, row: 0, message: message.into() }];
    let (connection, receipt) = (ConnectionId(1), Some(ReceiptId(1)));
    let spread = Spread { connection, receipt, messages };
    shard.apply(now, Command::Spread(spread), &mut effects);
    shard.commit(now, &mut effects).unwrap();
    assert_eq!((shard.next_deadline(), effects.len()), (Some(5), 0));
    other.commit().unwrap();
    shard.commit(now, &mut effects).unwrap();
    assert_eq!((shard.next_deadline(), effects.len()), (None, 1));
}

/// As a policy that thinks for long makes it.
#[test]
fn what_was_left_to_a_long_turn_is_written_two_milliseconds_later() {
    let clock = Arc::new(Settable::default());
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open_stepped(files, clock.clone(), config(), 2).unwrap();
    let (ring, bell) = mpsc::sync_channel(1_000);
    let mut one = journal.store(Box::new(move || ring.try_send(()).unwrap_or_default()));
    let mut other = journal.store(Box::new(|| {}));
    let (first, second) = (one.open("one").unwrap(), other.open("other").unwrap());
    one.commit().unwrap();
    other.commit().unwrap();
    while journal.step_writer() {}
    let shared = journal.shared.clone();
    shared.has_thread_now();
    let thread = std::thread::spawn(move || crate::writer::run(&shared));
    until_the_thread_rests(&journal);
    while bell.try_recv().is_ok() {}
    hand_in(&mut other, second, 10, Level::Disk);
    let left = append(&mut one, first, 10, Level::Disk);
    one.commit().unwrap();
    assert!(one.waits_for_another() && one.safe(Level::Disk) < left, "the same millisecond");
    clock.0.store(1, Ordering::Relaxed);
    one.commit().unwrap();
    assert!(one.waits_for_another() && one.safe(Level::Disk) < left, "hardly a millisecond");
    clock.0.store(2, Ordering::Relaxed);
    one.commit().unwrap();
    while one.safe(Level::Disk) < left {
        bell.recv_timeout(LONGEST).unwrap();
    }
    journal.shared.stop_writer();
    thread.join().unwrap();
}
