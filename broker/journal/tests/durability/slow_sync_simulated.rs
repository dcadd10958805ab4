//! A sync that does not come back: nothing is acknowledged meanwhile, what piles up
//! is bounded by congestion, and when the disk is back everything is there in its
//! order.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::store::{LogId, Stamp, Store};
use weir_journal::limits::{BLOCK_TARGET_BYTES, PENDING_BYTES_MAX};
use weir_journal::sim::SimFiles;
use weir_journal::{Journal, JournalConfig, JournalStore};
use weir_message::BatchBuilder;

use crate::world::{STORE, TestClock};

/// Longest a wait may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Rings when the store is to run a turn.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.rings.notify_all();
    }

    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "the store never got there");
        let rung = self.rung.lock().unwrap();
        let (mut rung, _) = self.rings.wait_timeout_while(rung, left, |rung| !*rung).unwrap();
        *rung = false;
    }
}

fn message(number: u64, len: usize) -> Bytes {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(len, number as u8);
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", b"", &[], &payload);
    message.into()
}

fn append(store: &mut JournalStore, log: LogId, number: u64, len: usize) -> usize {
    let mut batch = BatchBuilder::default();
    batch.push(&message(number, len));
    let batch = batch.take();
    store.append(log, number, Stamp::default(), batch.clone(), Level::Disk).unwrap();
    store.commit().unwrap();
    batch.bytes.len()
}

fn await_synced(store: &mut JournalStore, bell: &Bell) {
    let until = Instant::now() + LONGEST;
    while store.safe(Level::Disk) < store.position() {
        bell.wait(until);
        store.commit().unwrap();
    }
    store.commit().unwrap();
}

#[test]
fn slow_sync_simulated() {
    const LEN: usize = 200 << 10;
    let files = SimFiles::new(15);
    let mut config = JournalConfig::new(STORE);
    config.journal_file_bytes = 16 << 20;
    // Syncs are held here: the test must not wait for them itself.
    config.quick_sync_us = 0;
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    let disk = Arc::new(files.clone());
    let clock = Arc::new(TestClock::default());
    let journal = Journal::open(disk, clock.clone(), config.clone(), 1).unwrap();
    let bell = Arc::new(Bell::default());
    let ringing = bell.clone();
    let mut store = journal.store(Box::new(move || ringing.ring()));
    let log = store.open("queue/a").unwrap();

    // From the first: a disk that was quick before would have its turn wait for it.
    files.hold_syncs();
    append(&mut store, log, 0, LEN);
    assert!(files.await_held_sync(LONGEST), "nobody syncs");
    let (safe, stable) = (store.safe(Level::Disk), store.bounds(log).stable);
    let (mut number, mut piled) = (1, 0);
    // Where the keeper is the one who syncs, the writer takes a block before it does, too.
    let most = PENDING_BYTES_MAX + (BLOCK_TARGET_BYTES + 2 * LEN) as u64;
    while !store.is_congested() {
        piled += append(&mut store, log, number, LEN) as u64;
        number += 1;
        assert!(piled <= most, "it is never congested");
        assert_eq!(store.safe(Level::Disk), safe, "safe while the sync is held");
        assert_eq!(store.bounds(log).stable, stable, "stable while the sync is held");
    }
    let pending = journal.figures().pending_bytes;
    assert!(pending <= PENDING_BYTES_MAX + 2 * LEN as u64, "{pending} bytes wait");
    let mut records = Vec::new();
    store.read(log, stable, usize::MAX, &mut records).unwrap();
    assert!(records.is_empty(), "what is not safe was handed out");

    files.release_syncs();
    await_synced(&mut store, &bell);
    assert!(!store.is_congested());
    check(&store, log, number, LEN);
    // None of it was only said. The disk is another: this journal's threads live on.
    let cut = files.fork();
    cut.crash(15);
    drop(store);
    journal.close().unwrap();
    let journal = Journal::open_stepped(Arc::new(cut), clock, config, 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue/a").unwrap();
    check(&store, log, number, LEN);
}

/// All are there, in their order.
fn check(store: &JournalStore, log: LogId, number: u64, len: usize) {
    assert_eq!(store.bounds(log).stable, number);
    let mut at = 0;
    while at < number {
        let mut records = Vec::new();
        store.read(log, at, 1 << 20, &mut records).unwrap();
        for piece in &records {
            for (offset, row) in (piece.offset..).zip(piece.batch.iter()) {
                assert_eq!(offset, at, "a gap");
                let expected = message(at, len);
                assert!(row == expected, "offset {at} has other bytes");
                at += 1;
            }
        }
    }
}
