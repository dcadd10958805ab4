//! Messages that lie alone among those of other logs, in blocks that all share: a real
//! journal, of which nothing stays in memory.

use std::sync::Arc;

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{LogId, Stamp, Store};
use weir_message::BatchBuilder;

use crate::sim::SimFiles;
use crate::{Journal, JournalConfig, JournalStore};

const LOGS: usize = 40;

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

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

/// One message to each log, in one block.
fn append(store: &mut JournalStore, logs: &[LogId]) {
    for (number, &log) in logs.iter().enumerate() {
        let mut batch = BatchBuilder::default();
        let end = store.bounds(log).end;
        batch.push(&message(number, end));
        store.append(log, end, Stamp::default(), batch.take(), Level::Disk).unwrap();
    }
    store.commit().unwrap();
}

#[test]
fn each_log_gets_its_own_from_blocks_that_all_share() {
    let files = Arc::new(SimFiles::new(1));
    let journal = Journal::open_stepped(files.clone(), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let logs: Vec<LogId> =
        (0..LOGS).map(|number| store.open(&format!("queue/{number}")).unwrap()).collect();
    for turn in 0..60 {
        append(&mut store, &logs);
        if turn % 3 == 0 {
            // Some of what is to be filed is settled, at the beginning and in the middle.
            store.release(logs[turn % LOGS], turn as u64, turn as u64 + 1, Level::Disk);
            store.release(logs[1], turn as u64, turn as u64 + 1, Level::Disk);
        }
        store.commit().unwrap();
        journal.step().unwrap();
    }
    store.commit().unwrap();
    assert!(files.paths().iter().filter(|path| path.starts_with("logs/")).count() >= LOGS);
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
    assert_eq!(alive, LOGS * 60 - 40);
}
