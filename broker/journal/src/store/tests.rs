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
