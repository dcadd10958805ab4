//! What an append costs the journal until its block is with the operating system, and what
//! the keeper has to do for it: 256 messages at level os, all settled before the next.
//! `cargo bench -p weir-journal --bench block`; `append` holds it against the disk.

#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{LogId, Stamp, Store};
use weir_journal::files::OsFiles;
use weir_journal::{Journal, JournalConfig, JournalStore};
use weir_message::{Batch, BatchBuilder};

const MESSAGES: usize = 256;

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 }
    }
}

/// A journal that the benchmark steps, its store, and so many logs of it.
struct Appends {
    journal: Journal,
    store: JournalStore,
    logs: Vec<LogId>,
}

impl Appends {
    fn to(logs: usize, folder: &Path) -> Self {
        let files = Arc::new(OsFiles::new(folder).expect("a folder of its own"));
        let mut config = JournalConfig::new(7);
        (config.free_bytes_min, config.free_percent_min) = (0, 0);
        let journal = Journal::open_stepped(files, Arc::new(StoppedClock), config, 1);
        let journal = journal.expect("an empty folder opens");
        let mut store = journal.store(Box::new(|| {}));
        let open = |number| store.open(&format!("queue/{number}")).expect("it is new");
        let logs = (0..logs).map(open).collect();
        Self { journal, store, logs }
    }

    /// Appends the batch to each log, and settles it.
    fn turn(&mut self, batch: &Batch) {
        let stamp = Stamp { time_ms: 1, due_ms: 0 };
        for &log in &self.logs {
            let end = self.store.bounds(log).end;
            let appended = self.store.append(log, end, stamp, batch.clone(), Level::Os);
            appended.expect("nothing is lost");
        }
        self.step();
        for &log in &self.logs {
            let bounds = self.store.bounds(log);
            self.store.release(log, bounds.start, bounds.end, Level::Os);
        }
        self.step();
    }

    fn step(&mut self) {
        self.store.commit().expect("the disk is sound");
        self.journal.step().expect("the disk is sound");
    }
}

fn batch(messages: usize, payload: usize) -> Batch {
    let (mut builder, mut message) = (BatchBuilder::default(), Vec::new());
    weir_message::encode(&mut message, "bench.subject", b"", &[], &vec![b'x'; payload]);
    (0..messages).for_each(|_| builder.push(&message));
    builder.take()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("256 messages appended");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (logs, payload) in [(1, 128), (1, 1_024), (256, 128)] {
        let folder = tempfile::tempdir().expect("a folder of its own");
        let mut appends = Appends::to(logs, folder.path());
        let batch = batch(MESSAGES / logs, payload);
        group.bench_function(format!("to {logs} logs, {payload} bytes each"), |bencher| {
            bencher.iter(|| appends.turn(&batch));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
