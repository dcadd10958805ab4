//! What the memory store promises, and that it frees what it holds.

use bytes::Bytes;
use weir_message::{Batch, BatchBuilder, encode};

use super::{MemoryCatalogue, MemoryStore};
use crate::command::Level;
use crate::store::{Bounds, Catalogue, LogId, Records, Stamp, Store, StoreError};

/// `count` messages of equal length whose payload is their number from `first`.
fn batch(first: u64, count: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for number in first..first + count {
        let mut message = Vec::new();
        encode(&mut message, "s", &[], &[], &number.to_be_bytes());
        builder.push(&message);
    }
    builder.take()
}

fn append(store: &mut MemoryStore, log: LogId, time_ms: u64, count: u64) {
    let end = store.bounds(log).end;
    let stamp = Stamp { time_ms, due_ms: 0 };
    store.append(log, end, stamp, batch(end, count), Level::Memory).expect("appended");
}

fn read(store: &MemoryStore, log: LogId, from: u64, bytes_max: usize) -> Vec<Records> {
    let mut records = Vec::new();
    store.read(log, from, bytes_max, &mut records).expect("readable");
    records
}

/// Offsets read; checks that each record carries the payload of its offset.
fn offsets(store: &MemoryStore, log: LogId, from: u64, bytes_max: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    for records in read(store, log, from, bytes_max) {
        assert_eq!(
            *records.batch.ends.last().expect("not empty"),
            records.batch.bytes.len() as u32
        );
        for row in 0..records.batch.len() {
            let offset = records.offset + row as u64;
            assert_eq!(records.batch.view(row).payload, offset.to_be_bytes());
            offsets.push(offset);
        }
    }
    offsets
}

fn filled() -> (MemoryStore, LogId, usize) {
    let mut store = MemoryStore::default();
    let log = store.open("orders").expect("opened");
    append(&mut store, log, 100, 3);
    append(&mut store, log, 200, 1);
    append(&mut store, log, 300, 4);
    (store, log, batch(0, 1).bytes.len())
}

#[test]
fn reads_by_bytes_and_at_least_one_record() {
    let (store, log, size) = filled();
    assert_eq!(offsets(&store, log, 0, usize::MAX), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(offsets(&store, log, 0, 0), [0]);
    assert_eq!(offsets(&store, log, 2, 2 * size), [2, 3]);
    assert_eq!(offsets(&store, log, 1, 4 * size + 1), [1, 2, 3, 4]);
    assert_eq!(offsets(&store, log, 8, usize::MAX), []);
    assert_eq!(offsets(&store, log, 99, usize::MAX), []);
    let times: Vec<_> = read(&store, log, 0, usize::MAX).iter().map(|r| r.time_ms).collect();
    assert_eq!(times, [100, 200, 300]);
}

#[test]
fn an_append_elsewhere_than_the_end_is_refused() {
    let (mut store, log, _) = filled();
    assert_eq!(
        store.append(log, 7, Stamp::default(), batch(0, 1), Level::Memory),
        Err(StoreError::Moved { expected: 7, actual: 8 })
    );
    assert_eq!(store.bounds(log).end, 8);
}

#[test]
fn released_records_are_skipped_and_their_chunks_freed() {
    let (mut store, log, size) = filled();
    let held = store.bytes_held();
    store.release(log, 1, 2, Level::Os);
    store.release(log, 1, 2, Level::Os);
    assert_eq!(offsets(&store, log, 0, usize::MAX), [0, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.bounds(log).bytes, 7 * size as u64);
    assert_eq!(store.bytes_held(), held);
    store.release(log, 3, 8, Level::Os);
    assert_eq!(offsets(&store, log, 0, usize::MAX), [0, 2]);
    assert_eq!(store.bytes_held(), 3 * size as u64);
    store.release(log, 0, 8, Level::Os);
    assert_eq!(store.bounds(log), Bounds { start: 8, end: 8, stable: 8, bytes: 0 });
    assert_eq!(store.bytes_held(), 0);
}

#[test]
fn one_record_kept_does_not_pin_what_was_released_around_it() {
    let mut store = MemoryStore::default();
    let log = store.open("q").expect("opened");
    append(&mut store, log, 0, 1);
    for _ in 0..10_000 {
        append(&mut store, log, 0, 1);
        let end = store.bounds(log).end;
        store.release(log, end - 1, end, Level::Os);
    }
    assert_eq!(store.bytes_held(), batch(0, 1).bytes.len() as u64);
    let kept = store.logs.get(0).expect("open");
    assert!(format!("{kept:?}").matches("Chunk {").count() < 200);
    assert_eq!(offsets(&store, log, 0, usize::MAX), [0]);
}

#[test]
fn trim_moves_the_start_inside_a_chunk_too() {
    let (mut store, log, size) = filled();
    store.trim(log, 5);
    assert_eq!(store.bounds(log), Bounds { start: 5, end: 8, stable: 8, bytes: 3 * size as u64 });
    assert_eq!(offsets(&store, log, 0, usize::MAX), [5, 6, 7]);
    store.trim(log, 2);
    assert_eq!(store.bounds(log).start, 5);
    store.trim(log, 99);
    assert_eq!(store.bounds(log), Bounds { start: 8, end: 8, stable: 8, bytes: 0 });
    assert_eq!(store.bytes_held(), 0);
    append(&mut store, log, 400, 2);
    assert_eq!(offsets(&store, log, 0, usize::MAX), [8, 9]);
}

#[test]
fn finds_offsets_by_time_even_when_the_clock_jumped_back() {
    let (mut store, log, _) = filled();
    append(&mut store, log, 250, 1);
    append(&mut store, log, 400, 1);
    let found: Vec<_> =
        [0, 100, 101, 300, 301, 400, 401].iter().map(|&t| store.offset_at(log, t)).collect();
    assert_eq!(found, [0, 0, 3, 4, 9, 9, 10]);
    store.trim(log, 2);
    assert_eq!(store.offset_at(log, 0), 2);
}

#[test]
fn held_back_records_are_not_read_until_they_are_stable() {
    let (mut store, log, _) = filled();
    let faults = store.faults();
    faults.hold_stable(true);
    append(&mut store, log, 400, 2);
    append(&mut store, log, 400, 1);
    store.commit().expect("committed");
    assert_eq!((store.bounds(log).stable, store.bounds(log).end), (8, 11));
    assert_eq!(offsets(&store, log, 6, usize::MAX), [6, 7]);
    assert_eq!(offsets(&store, log, 8, usize::MAX), []);
    faults.hold_stable(false);
    store.commit().expect("committed");
    assert_eq!(store.bounds(log).stable, 11);
    assert_eq!(offsets(&store, log, 8, usize::MAX), [8, 9, 10]);
}

#[test]
fn a_full_store_refuses_until_something_is_released() {
    let size = batch(0, 1).bytes.len() as u64;
    let mut store = MemoryStore::new(4 * size);
    let log = store.open("q").expect("opened");
    append(&mut store, log, 0, 3);
    let refused = store.append(log, 3, Stamp::default(), batch(3, 2), Level::Memory);
    assert_eq!(refused, Err(StoreError::NoSpace));
    assert_eq!(store.bounds(log).end, 3);
    store.release(log, 0, 3, Level::Os);
    append(&mut store, log, 0, 4);
    store.faults().no_space(true);
    store.trim(log, 7);
    assert_eq!(
        store.append(log, 7, Stamp::default(), batch(7, 1), Level::Memory),
        Err(StoreError::NoSpace)
    );
    store.faults().no_space(false);
    append(&mut store, log, 0, 1);
}

#[test]
fn a_removed_log_is_empty_when_it_is_opened_again() {
    let (mut store, log, _) = filled();
    assert_eq!(store.open("orders"), Ok(log));
    store.remove(log).expect("removed");
    assert_eq!(store.bytes_held(), 0);
    let again = store.open("orders").expect("opened");
    assert_ne!(again, log);
    assert_eq!(store.bounds(again), Bounds::default());
}

#[test]
fn snapshots_are_replaced() {
    let mut store = MemoryStore::default();
    assert_eq!(store.snapshot("a"), Ok(None));
    store.put_snapshot("a", Bytes::from_static(b"1")).expect("kept");
    store.put_snapshot("a", Bytes::from_static(b"2")).expect("kept");
    assert_eq!(store.snapshot("a"), Ok(Some(Bytes::from_static(b"2"))));
}

#[test]
fn the_catalogue_compares_before_it_sets() {
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let mut catalogue = MemoryCatalogue::default();
    let first = catalogue.put("queue/a", value("1"), 0).expect("new");
    assert_eq!(
        catalogue.put("queue/a", value("2"), 0),
        Err(StoreError::Conflict { expected: 0, actual: first })
    );
    catalogue.put("queue/b", value("1"), 0).expect("new");
    catalogue.put("stream/a", value("1"), 0).expect("new");
    let second = catalogue.put("queue/a", value("2"), first).expect("revision is right");
    let names = |prefix| catalogue.list(prefix).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(names("queue/"), ["queue/a", "queue/b"]);
    catalogue.put("queue/a", None, second).expect("removed");
    assert_eq!(catalogue.get("queue/a"), None);
    let third = catalogue.put("queue/a", value("3"), 0).expect("new again");
    assert!(third > second, "what was removed has no revision again");
    catalogue.put_blob("d1", Bytes::from_static(b"x")).expect("kept");
    assert_eq!(catalogue.blob("d1"), Some(Bytes::from_static(b"x")));
}
