//! The tools on a simulated disk: looking changes nothing, what is exported comes
//! back, an accepted loss opens the log again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Catalogue, Stamp, Store, StoreError};
use weir_journal::sim::SimFiles;
use weir_journal::tools::{Folder, accept_loss, import};
use weir_journal::{Journal, JournalConfig};
use weir_message::BatchBuilder;

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { steady_ms: 1, wall_ms: 1_000 }
    }
}

fn config() -> JournalConfig {
    let mut config = JournalConfig::new(77);
    config.journal_file_bytes = 256 << 10;
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config
}

fn fill(files: &SimFiles) {
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue/a").unwrap();
    for turn in 0..10_u8 {
        let mut batch = BatchBuilder::default();
        let mut message = Vec::new();
        weir_message::encode(&mut message, "a", b"", &[], &[turn; 100]);
        (0..5).for_each(|_| batch.push(&message));
        let end = store.bounds(log).end;
        let stamp = Stamp { time_ms: u64::from(turn), due_ms: 0 };
        store.append(log, end, stamp, &batch.take(), Level::Disk).unwrap();
        store.commit().unwrap();
        journal.step().unwrap();
    }
    store.release(log, 0, 7, Level::Disk);
    store.release(log, 20, 30, Level::Disk);
    store.commit().unwrap();
    journal.step().unwrap();
    let mut catalogue = journal.catalogue();
    catalogue.put("queue/a", Some(b"settings".as_slice().into()), 0).unwrap();
    drop(store);
    journal.close().unwrap();
}

fn exported(files: &SimFiles) -> String {
    let folder = Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap();
    let mut out = Vec::new();
    folder.export(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn looking_changes_nothing_and_an_export_comes_back() {
    let files = SimFiles::new(1);
    fill(&files);
    let before: Vec<_> = files.paths().iter().map(|path| files.bytes(path)).collect();
    let folder = Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap();
    let figures = folder.figures();
    assert_eq!((figures.logs[0].start, figures.logs[0].end, figures.logs[0].live), (7, 50, 33));
    assert!(folder.check(&mut |_, _| {}).is_empty());
    let text = exported(&files);
    let after: Vec<_> = files.paths().iter().map(|path| files.bytes(path)).collect();
    assert!(before == after, "a tool that looks writes nothing");

    let other = SimFiles::new(2);
    let count =
        import(Arc::new(other.clone()), Arc::new(Still), config(), &mut text.as_bytes()).unwrap();
    assert_eq!(count, 33);
    assert_eq!(exported(&other), text);
    let again = import(Arc::new(other.clone()), Arc::new(Still), config(), &mut text.as_bytes());
    assert!(again.unwrap_err().to_string().contains("not empty"));
}

#[test]
fn an_accepted_loss_opens_the_log_again() {
    let files = SimFiles::new(3);
    fill(&files);
    // The third block is one of the appends; the byte lies in its messages.
    let bytes = files.bytes("journal/j-0000000000000001.wj").unwrap();
    let at = bytes.windows(50).position(|window| window == [3; 50]).unwrap();
    files.flip_bit("journal/j-0000000000000001.wj", at as u64, 2);
    let open = |files: &SimFiles| {
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap()
    };
    let refused = |files: &SimFiles| {
        let journal = open(files);
        let lost: Vec<_> = journal.report().lost().map(|lost| (lost.from, lost.to)).collect();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open("queue/a").unwrap();
        let mut batch = BatchBuilder::default();
        let mut message = Vec::new();
        weir_message::encode(&mut message, "a", b"", &[], b"more");
        batch.push(&message);
        let end = store.bounds(log).end;
        let stamp = Stamp { time_ms: 1, due_ms: 0 };
        (lost, store.append(log, end, stamp, &batch.take(), Level::Disk))
    };
    let (lost, answer) = refused(&files);
    assert_eq!(lost, [(15, 20)]);
    assert_eq!(answer, Err(StoreError::Damaged { from: 15, to: 20 }));
    let accept =
        |range| accept_loss(Arc::new(files.clone()), Arc::new(Still), config(), "queue/a", range);
    assert!(accept(0..10).is_err());
    assert_eq!(accept(15..20).unwrap(), [(15, 20)]);
    let (lost, answer) = refused(&files);
    assert_eq!((lost, answer), (Vec::new(), Ok(())));
    let folder = Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap();
    assert_eq!(folder.figures().logs[0].live, 28, "{:?}", folder.figures());
}
