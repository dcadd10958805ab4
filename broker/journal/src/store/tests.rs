//! What a store keeps in memory does not grow with what has passed through it; what is too
//! long for one block, or for one file, is kept all the same; nobody waits for ever.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use weir_core::env::{Clock, Now};
use weir_core::store::Catalogue as _;
use weir_message::BatchBuilder;

use super::*;
use crate::sim::SimFiles;
use crate::{Journal, JournalConfig};

/// Longest wait for a thread.
const LONGEST: Duration = Duration::from_secs(60);

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

/// Panics on the thread of that name.
struct Broken(&'static str);

impl Clock for Broken {
    fn now(&self) -> Now {
        assert_ne!(std::thread::current().name(), Some(self.0), "as this test wants it");
        Now::default()
    }
}

fn config() -> JournalConfig {
    let mut config = JournalConfig::new(7);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config
}

fn stepped(files: &Arc<SimFiles>, config: JournalConfig) -> Journal {
    Journal::open_stepped(files.clone(), Arc::new(Still), config, 1).unwrap()
}

/// A message of that number, somewhat longer than `len`.
fn long_message(number: u8, len: usize) -> Vec<u8> {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", b"", &[], &vec![number; len]);
    message
}

fn messages(store: &JournalStore, log: LogId) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    store.read(log, 0, usize::MAX, &mut records).unwrap();
    let rows = |records: &Records| records.batch.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    records.iter().flat_map(rows).collect()
}

fn append(store: &mut JournalStore, log: LogId) -> u64 {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", b"", &[], b"payload");
    let mut batch = BatchBuilder::default();
    batch.push(&message);
    let at = store.bounds(log).end;
    store.append(log, at, Stamp::default(), batch.take(), Level::Os).unwrap();
    at
}

#[test]
fn bodies_that_are_settled_leave_nothing_behind_in_memory() {
    let journal = stepped(&Arc::new(SimFiles::new(1)), config());
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

/// One that nobody settles, and many that pass behind it.
#[test]
fn what_is_settled_behind_a_message_that_stays_leaves_nothing_behind_in_memory() {
    let journal = stepped(&Arc::new(SimFiles::new(1)), config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    append(&mut store, log);
    for _ in 0..10_000 {
        let at = append(&mut store, log);
        store.release(log, at, at + 1, Level::Os);
        store.commit().unwrap();
        journal.step().unwrap();
    }
    append(&mut store, log);
    store.commit().unwrap();
    journal.step().unwrap();
    store.commit().unwrap();
    assert!(store.log(log).chunks.len() < 100, "{} chunks", store.log(log).chunks.len());
    assert_eq!(messages(&store, log).len(), 2);
}

#[test]
fn an_append_of_any_length_is_kept() {
    let files = Arc::new(SimFiles::new(1));
    let config = || JournalConfig { resident_bytes_max: 1 << 20, ..config() };
    let expected: Vec<_> = (0..20).map(|number| long_message(number, 1 << 20)).collect();
    let mut batch = BatchBuilder::default();
    expected.iter().for_each(|message| batch.push(message));
    let batch = batch.take();
    assert!(batch.bytes.len() > limits::BLOCK_BYTES_MAX);
    let journal = stepped(&files, config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    store.append(log, 0, Stamp::default(), batch, Level::Disk).unwrap();
    assert_eq!(store.bounds(log).end, 20);
    store.commit().unwrap();
    assert!(messages(&store, log).is_empty(), "none is stable");
    journal.step().unwrap();
    store.commit().unwrap();
    assert_eq!(store.bounds(log).stable, 20);
    assert!(store.resident_bytes() <= 1 << 20, "{}", store.resident_bytes());
    assert!(messages(&store, log) == expected, "from the journal");
    // It goes on behind them, and settles across where they were cut.
    assert_eq!(append(&mut store, log), 20);
    store.release(log, 1, 19, Level::Disk);
    store.commit().unwrap();
    drop(store);
    journal.close().unwrap();
    let journal = stepped(&files, config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    let found = messages(&store, log);
    assert!(found.len() == 3 && found[0] == expected[0] && found[1] == expected[19]);
}

/// No frame has room for one.
#[test]
fn a_message_that_fits_no_block_is_refused() {
    let journal = stepped(&Arc::new(SimFiles::new(1)), config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    for level in [Level::Memory, Level::Os, Level::Disk] {
        let mut batch = BatchBuilder::default();
        batch.push(&long_message(1, 10));
        batch.push(&long_message(2, limits::BODY_BYTES_MAX));
        let refused = store.append(log, 0, Stamp::default(), batch.take(), level);
        assert_eq!(refused, Err(StoreError::NoSpace));
        assert_eq!(store.bounds(log).end, 0, "nor is the first of them kept");
    }
}

/// A file is as long as it is because a block must find its room there.
#[test]
fn a_block_that_is_longer_than_a_file_waits_for_its_room() {
    let files = Arc::new(SimFiles::new(1));
    let config = || JournalConfig { journal_file_bytes: 16 << 10, ..config() };
    let journal = stepped(&files, config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    // Enough for a file, and not for one that is longer.
    files.set_room(files.used_bytes() + (24 << 10));
    let message = long_message(1, 40 << 10);
    let batch = Batch::of_one(message.clone().into());
    store.append(log, 0, Stamp::default(), batch, Level::Disk).unwrap();
    store.commit().unwrap();
    for _ in 0..3 {
        assert_eq!(journal.step(), Ok(()));
        store.commit().unwrap();
        assert!(store.safe(Level::Disk) < store.position() && journal.shared.is_held());
    }
    files.set_room(1 << 30);
    journal.step().unwrap();
    store.commit().unwrap();
    assert_eq!((store.safe(Level::Disk), store.bounds(log).stable), (store.position(), 1));
    append(&mut store, log);
    store.commit().unwrap();
    drop(store);
    journal.close().unwrap();
    let journal = stepped(&files, config());
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue").unwrap();
    let found = messages(&store, log);
    assert!(found.len() == 2 && found[0] == message);
}

/// State of that length.
fn state(len: usize) -> Order {
    let (kind, level) = (EntryKind::Snapshot, Level::Disk);
    Order::Plain { kind, level, log: 0, numbers: [0; 4], body: named_body("state", &vec![7; len]) }
}

#[test]
fn nobody_waits_for_a_writer_that_has_panicked() {
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open(files, Arc::new(Still), config(), 1).unwrap();
    let (tell, told) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        // No block is so long, and the writer relies on that.
        let done = journal.hand_over([state(limits::BLOCK_BYTES_MAX)]);
        drop(tell.send((done, journal.close())));
    });
    let (done, closed) = told.recv_timeout(LONGEST).expect("it waits for ever");
    assert!(matches!(done, Err(StoreError::Fenced(_))), "{done:?}");
    assert!(matches!(closed, Err(StoreError::Fenced(_))), "{closed:?}");
    thread.join().unwrap();
}

#[test]
fn what_was_deleted_leaves_nothing_behind_in_memory() {
    let journal = stepped(&Arc::new(SimFiles::new(1)), config());
    let (mut store, mut catalogue) = (journal.store(Box::new(|| {})), journal.catalogue());
    let stays = store.open("queue/stays").unwrap();
    for number in 0..100 {
        let key = format!("queue/{number}");
        let revision = catalogue.put(&key, Some("{}".into()), 0).unwrap();
        let log = store.open(&key).unwrap();
        append(&mut store, log);
        store.commit().unwrap();
        store.remove(log).unwrap();
        catalogue.put(&key, None, revision).unwrap();
        store.commit().unwrap();
        let again = store.open(&key).unwrap();
        assert_ne!(again, log, "who still has the old number must not find the new log");
        store.remove(again).unwrap();
    }
    assert!(store.logs.iter().map(|log| &*log.name).eq(["queue/stays"]));
    assert_eq!((store.names.len(), store.by_number.len()), (1, 1));
    assert!(Shared::lock(&store.shared.catalogue).entries.is_empty());
    append(&mut store, stays);
}

#[test]
fn nothing_is_kept_without_a_keeper() {
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open(files, Arc::new(Broken("weir-keeper")), config(), 1).unwrap();
    let until = Instant::now() + LONGEST;
    while journal.hand_over([state(1)]).is_ok() {
        assert!(Instant::now() < until, "it goes on");
    }
    assert!(matches!(journal.close(), Err(StoreError::Fenced(_))));
}
