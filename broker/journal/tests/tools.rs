//! The tools on a simulated disk: looking changes nothing, what is exported comes
//! back, an accepted loss opens the log again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Catalogue, Stamp, Store, StoreError};
use weir_journal::sim::SimFiles;
use weir_journal::tools::{Folder, ToolError, accept_loss, import};
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
        store.append(log, end, stamp, batch.take(), Level::Disk).unwrap();
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
    assert!(matches!(again, Err(ToolError::NotEmpty)));
}

/// What becomes of an import of `text` into a new folder.
fn imported(text: &str) -> Result<u64, ToolError> {
    let files = SimFiles::new(5);
    import(Arc::new(files), Arc::new(Still), config(), &mut text.as_bytes())
}

#[test]
fn a_part_of_an_export_is_not_taken_for_the_whole() {
    let files = SimFiles::new(4);
    fill(&files);
    let text = exported(&files);
    let last = text.lines().last().unwrap();
    assert_eq!(last, r#"{"end":{"keys":1,"logs":1,"records":33}}"#);
    let lines: Vec<&str> = text.lines().collect();
    for kept in 0..lines.len() {
        let error = imported(&lines[..kept].join("\n")).unwrap_err();
        assert!(matches!(error, ToolError::NotWhole(_)), "{kept} lines: {error}");
    }
    for left_out in [0, 2] {
        let mut lines = lines.clone();
        lines.remove(left_out);
        let error = imported(&lines.join("\n")).unwrap_err();
        assert!(matches!(error, ToolError::NotWhole(_)), "without {left_out}: {error}");
    }
    let error = imported(&text[..text.len() / 2]).unwrap_err();
    assert!(matches!(error, ToolError::Input { .. }), "{error}");
    let error = imported(&format!("{text}{}", lines[0])).unwrap_err();
    assert!(matches!(error, ToolError::Input { .. }), "{error:?}");
}

#[test]
fn only_what_a_broker_keeps_is_read_in() {
    let log = |name: &str| {
        let line = serde_json::json!({ "log": name, "start": 0, "end": 0, "settled": [] });
        let end = r#"{"end":{"keys":0,"logs":1,"records":0}}"#;
        imported(&format!("{line}\n{end}\n"))
    };
    for name in ["queue/a", "queue/a/dead", "stream/a/0", "stream/a/b/12", "group/a/b/g/3"] {
        assert_eq!(log(name).unwrap(), 0, "{name}");
    }
    for name in
        ["", "a", "queue/", "queue/A", "queue/../a", "stream/a", "stream/a/x", "stream/a/01"]
    {
        assert!(matches!(log(name), Err(ToolError::Input { line: 1, .. })), "{name}");
    }
    for name in ["group/a/0", "group/a/b/", "group/a/_b/0", "other/a", "stream/a/70000"] {
        assert!(matches!(log(name), Err(ToolError::Input { line: 1, .. })), "{name}");
    }
    for line in [
        "{}",
        "not JSON",
        "[]",
        r#"{"key":"queue/a","value":"abc"}"#,
        r#"{"key":"other/a","value":"00"}"#,
        r#"{"log":"queue/a","start":0,"end":0}"#,
        r#"{"at":0,"time_ms":0,"due_ms":0,"messages":[]}"#,
    ] {
        assert!(matches!(imported(line), Err(ToolError::Input { line: 1, .. })), "{line}");
    }
}

/// Were it otherwise, the next messages would get offsets that count as settled.
#[test]
fn what_was_settled_at_the_end_stays_behind() {
    let files = SimFiles::new(6);
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue/a").unwrap();
    let mut batch = BatchBuilder::default();
    let mut message = Vec::new();
    weir_message::encode(&mut message, "a", b"", &[], b"text");
    (0..10).for_each(|_| batch.push(&message));
    let stamp = Stamp { time_ms: 1, due_ms: 0 };
    store.append(log, 0, stamp, batch.take(), Level::Disk).unwrap();
    store.release(log, 4, 10, Level::Disk);
    store.commit().unwrap();
    journal.step().unwrap();
    drop(store);
    journal.close().unwrap();
    let text = exported(&files);
    let other = SimFiles::new(7);
    import(Arc::new(other.clone()), Arc::new(Still), config(), &mut text.as_bytes()).unwrap();
    assert_eq!(exported(&other), text);
    let folder = Folder::open(Arc::new(other.clone()), Arc::new(Still)).unwrap();
    assert_eq!((folder.figures().logs[0].end, folder.figures().logs[0].live), (10, 4));
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
        (lost, store.append(log, end, stamp, batch.take(), Level::Disk))
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
