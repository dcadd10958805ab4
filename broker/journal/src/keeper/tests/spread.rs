//! Messages that lie alone among those of other logs, in blocks that all share: a real
//! journal, of which nothing stays in memory.

use std::collections::HashMap;
use std::sync::Arc;

use weir_core::command::Level;
use weir_core::store::{LogId, Stamp, Store};
use weir_message::BatchBuilder;

use super::harness::{self, Harness, TestClock, policy, record};
use crate::format::{Kind, store_tag};
use crate::keeper::loaded::Loaded;
use crate::keeper::{Collected, CollectedBody};
use crate::sim::SimFiles;
use crate::{Journal, JournalConfig, JournalStore};

const LOGS: usize = 40;

fn config() -> JournalConfig {
    let mut config = JournalConfig::new(7);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    (config.journal_file_bytes, config.resident_bytes_max) = (32 << 10, 0);
    (config.kept_journal_files, config.filed_at_once) = (1, 2);
    config
}

/// A message that says whose it is, as long as all others: its length does not tell.
fn message(log: usize, offset: u64) -> Vec<u8> {
    let mut message = Vec::new();
    let payload = format!("{offset:04} of {log:04}");
    weir_message::encode(&mut message, "s", b"", &[], payload.as_bytes());
    message
}

/// Three messages to each log, one by one, in one block.
fn append(store: &mut JournalStore, logs: &[LogId]) {
    for _ in 0..3 {
        for (number, &log) in logs.iter().enumerate() {
            let mut batch = BatchBuilder::default();
            let end = store.bounds(log).end;
            batch.push(&message(number, end));
            store.append(log, end, Stamp::default(), batch.take(), Level::Disk).unwrap();
        }
    }
    store.commit().unwrap();
}

#[test]
fn each_log_gets_its_own_from_blocks_that_all_share() {
    let files = Arc::new(SimFiles::new(1));
    let journal =
        Journal::open_stepped(files.clone(), Arc::<TestClock>::default(), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let logs: Vec<LogId> =
        (0..LOGS).map(|number| store.open(&format!("queue/{number}")).unwrap()).collect();
    for turn in 0..60 {
        append(&mut store, &logs);
        // Some of what is to be filed is settled: all of a log, the middle one of three.
        store.release(logs[0], 3 * turn, 3 * turn + 3, Level::Disk);
        store.release(logs[1], 3 * turn + 1, 3 * turn + 2, Level::Disk);
        store.commit().unwrap();
        journal.step().unwrap();
    }
    store.commit().unwrap();
    assert!(files.paths().iter().filter(|path| path.starts_with("logs/")).count() >= LOGS - 1);
    let mut alive = 0;
    for (number, &log) in logs.iter().enumerate() {
        let mut from = 0;
        while from < store.bounds(log).end {
            let mut found = Vec::new();
            store.read(log, from, 1 << 20, &mut found).unwrap();
            let Some(last) = found.last() else { break };
            from = last.offset + last.batch.len() as u64;
            for records in &found {
                for (offset, bytes) in (records.offset..).zip(records.batch.iter()) {
                    assert_eq!(bytes, message(number, offset), "log {number}, offset {offset}");
                    alive += 1;
                }
            }
        }
    }
    assert_eq!(alive, (LOGS - 1) * 180 - 60);
}

/// What is read ahead is what was written, and all that shares a block is.
#[test]
fn chunks_that_share_a_block_are_read_ahead() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    let model = harness.rest.model();
    let collected = model.collect(0, 1);
    drop(model);
    let logs: Vec<&Collected> = collected.iter().collect();
    let mut loaded = Loaded::default();
    let count = loaded.load(&*harness.rest, store_tag(harness::STORE, Kind::Journal), &logs);
    assert_eq!(count, logs.len());
    let mut blocks: HashMap<(u64, u32), usize> = HashMap::new();
    let places = || {
        logs.iter().flat_map(|one| &one.chunks).filter_map(|chunk| match chunk.body {
            CollectedBody::Journal { sequence, at } => Some((sequence, at)),
            CollectedBody::Memory(_) => None,
        })
    };
    places().for_each(|place| *blocks.entry(place).or_default() += 1);
    let mut seen = 0;
    for one in &logs {
        for chunk in &one.chunks {
            let CollectedBody::Journal { sequence, at } = chunk.body else { continue };
            let pieces = loaded.take(one.log, chunk.base);
            assert_eq!(pieces.is_some(), blocks[&(sequence, at)] > 1);
            for (first, batch) in pieces.into_iter().flatten() {
                for (offset, bytes) in (first..).zip(batch.iter()) {
                    assert_eq!(bytes, record(one.log, offset));
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 0, "some share a block");
}
