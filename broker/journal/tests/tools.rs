//! The tools on a simulated disk: looking changes nothing, what is exported comes
//! back, an accepted loss opens the log again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Catalogue, Stamp, Store, StoreError};
use weir_journal::files::Files;
use weir_journal::sim::{Effect, Fault, Operation, SimFiles};
use weir_journal::tools::{Folder, ToolError, accept_all_losses, accept_loss, import};
use weir_journal::{Journal, JournalConfig, LostRange, OpenError};
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
    assert_eq!(log("lost+found/7").unwrap(), 0);
    for name in
        ["", "a", "queue/", "queue/A", "queue/../a", "stream/a", "stream/a/x", "stream/a/01"]
    {
        assert!(matches!(log(name), Err(ToolError::Input { line: 1, .. })), "{name}");
    }
    for name in ["group/a/0", "group/a/b/", "group/a/_b/0", "other/a", "stream/a/70000"] {
        assert!(matches!(log(name), Err(ToolError::Input { line: 1, .. })), "{name}");
    }
    for name in ["lost+found", "lost+found/", "lost+found/x", "lost+found/01"] {
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
        r#"{"lost":[0,1]}"#,
        r#"{"log":"queue/a","start":2,"end":1,"settled":[]}"#,
        r#"{"log":"queue/a","start":0,"end":18446744073709551615,"settled":[]}"#,
        r#"{"log":"group/a/b/0","start":0,"end":0,"settled":[[0,18446744073709551615]]}"#,
        r#"{"log":"group/a/b/0","start":0,"end":0,"settled":[[2,1]]}"#,
    ] {
        assert!(matches!(imported(line), Err(ToolError::Input { line: 1, .. })), "{line}");
    }
    let long = format!(r#"{{"key":"queue/{}","value":""}}"#, "a".repeat(1 << 16));
    assert!(matches!(imported(&long), Err(ToolError::Input { line: 1, .. })));
    // No log has offsets behind its end, or none at all.
    let log = r#"{"log":"queue/a","start":0,"end":1,"settled":[]}"#;
    for at in [1, u64::MAX] {
        let messages = messages_at(at, &["text"]);
        let error = imported(&format!("{log}\n{messages}\n")).unwrap_err();
        assert!(matches!(error, ToolError::Input { line: 2, .. }), "{at}: {error}");
    }
    let error = imported(&format!("{log}\n{{\"lost\":[1]}}\n")).unwrap_err();
    assert!(matches!(error, ToolError::Input { line: 2, .. }), "{error}");
}

/// A line with messages from offset `at` on.
fn messages_at(at: u64, payloads: &[&str]) -> String {
    let hex = |payload: &&str| {
        let mut message = Vec::new();
        weir_message::encode(&mut message, "a", b"", &[], payload.as_bytes());
        message.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let messages: Vec<String> = payloads.iter().map(hex).collect();
    serde_json::json!({ "at": at, "time_ms": 1, "due_ms": 0, "messages": messages }).to_string()
}

/// Nobody waits for what is lost, its offsets are not given again, and what belongs to nothing
/// is not removed by a start over a folder where nothing is lost.
#[test]
fn what_is_lost_and_what_was_found_come_in() {
    let messages = messages_at(1, &["found"]);
    let text = [
        r#"{"log":"lost+found/7","start":0,"end":5,"settled":[]}"#,
        r#"{"lost":[0,1]}"#,
        messages.as_str(),
        r#"{"lost":[2,5]}"#,
        r#"{"end":{"keys":0,"logs":1,"records":1}}"#,
    ];
    let mut text = text.join("\n");
    for _ in 0..2 {
        let files = SimFiles::new(5);
        import(Arc::new(files.clone()), Arc::new(Still), config(), &mut text.as_bytes()).unwrap();
        let folder = Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap();
        let log = folder.figures().logs.remove(0);
        assert_eq!((log.start, log.end, log.live), (1, 5, 1), "{log:?}");
        let keys: Vec<String> = folder.catalogue().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["left/lost+found/7"]);
        text = exported(&files);
    }
}

/// Were it otherwise, the next messages would get offsets that count as settled.
#[test]
fn what_was_settled_at_the_end_stays_behind() {
    ["queue/a", "stream/a/0"].into_iter().for_each(stays_behind);
}

fn stays_behind(name: &str) {
    let files = SimFiles::new(6);
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open(name).unwrap();
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
    assert_eq!(exported(&other), text, "{name}");
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
    let told = accept(0..10).unwrap_err().to_string();
    assert!(told.contains("0..10") && told.contains("lost is 15..20"), "{told}");
    assert_eq!(accept(15..20).unwrap(), [(15, 20)]);
    let (lost, answer) = refused(&files);
    assert_eq!((lost, answer), (Vec::new(), Ok(())));
    let folder = Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap();
    assert_eq!(folder.figures().logs[0].live, 28, "{:?}", folder.figures());
}

/// Files so small that most of what is written leaves the journal.
fn small() -> JournalConfig {
    JournalConfig {
        journal_file_bytes: 16 << 10,
        segment_bytes: 8 << 10,
        kept_journal_files: 1,
        filed_at_once: 1,
        ..config()
    }
}

/// Messages of [`filed`].
const FILED: u64 = 200;

/// Queues of as many messages each, most of which lie in segments.
fn fill_and_file(files: &SimFiles, queues: &[&str]) {
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), small(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let logs: Vec<_> = queues.iter().map(|name| store.open(name).unwrap()).collect();
    for number in 0..FILED {
        for log in &logs {
            let (mut batch, mut message) = (BatchBuilder::default(), Vec::new());
            let payload = format!("message {number:04} {}", "x".repeat(400));
            weir_message::encode(&mut message, "a", b"", &[], payload.as_bytes());
            batch.push(&message);
            let stamp = Stamp { time_ms: number, due_ms: 0 };
            store.append(*log, number, stamp, batch.take(), Level::Disk).unwrap();
        }
        // The keeper asks, and is answered in the next turn.
        for _ in 0..2 {
            store.commit().unwrap();
            journal.step().unwrap();
        }
    }
    drop(store);
    journal.close().unwrap();
}

/// A queue most of whose messages lie in segments. The path of the first of those, which is
/// sealed.
fn filed(files: &SimFiles) -> String {
    fill_and_file(files, &["queue/a"]);
    let paths = files.paths();
    let under = |start: &str| paths.iter().filter(|path| path.starts_with(start)).count();
    assert!(under("checkpoint-") >= 2 && under("logs/") >= 3, "{paths:?}");
    paths.iter().find(|path| path.starts_with("logs/")).unwrap().clone()
}

/// Damages a message of a segment.
fn spoil(files: &SimFiles, path: &str, text: &str) {
    let bytes = files.bytes(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    files.flip_bit(path, at as u64, 2);
}

fn looked_at(files: &SimFiles) -> Folder {
    Folder::open(Arc::new(files.clone()), Arc::new(Still)).unwrap()
}

/// A start reads no messages in segments, and what cannot be given up is told for ever.
#[test]
fn what_only_reading_tells_can_be_given_up() {
    let files = SimFiles::new(8);
    let path = filed(&files);
    spoil(&files, &path, "message 0003");
    let folder = looked_at(&files);
    assert!(folder.report().damage.is_empty(), "{:?}", folder.report());
    assert_eq!(folder.check(&mut |_, _| {}), [("queue/a".to_owned(), 3, 4)]);
    assert_eq!(folder.figures().logs[0].live, FILED);
    let mut out = Vec::new();
    assert_eq!(folder.export(&mut out).unwrap(), 1, "an export tells what it lacks");
    drop(folder);
    for is_all in [false, true] {
        let files = files.fork();
        let accept = || -> Result<Vec<(u64, u64)>, ToolError> {
            let disk = Arc::new(files.clone());
            if !is_all {
                return accept_loss(disk, Arc::new(Still), small(), "queue/a", 0..u64::MAX);
            }
            let given_up = accept_all_losses(disk, Arc::new(Still), small())?;
            Ok(given_up.into_iter().map(|LostRange { from, to, .. }| (from, to)).collect())
        };
        assert_eq!(accept().unwrap(), [(3, 4)]);
        let folder = looked_at(&files);
        assert!(folder.check(&mut |_, _| {}).is_empty());
        let log = folder.figures().logs.remove(0);
        assert_eq!((log.start, log.end, log.live), (0, FILED, FILED - 1), "{log:?}");
        drop(folder);
        assert!(matches!(accept(), Err(ToolError::NotThere(_))), "there is nothing more");
    }
}

/// It would be gone for good, and is there.
#[test]
fn what_is_read_once_in_vain_is_not_given_up() {
    let files = SimFiles::new(15);
    let sealed = filed(&files);
    let active = files.paths().into_iter().rfind(|path| path.starts_with("logs/")).unwrap();
    for path in [sealed, active] {
        for nth in 1..20 {
            let files = files.fork();
            files.arm(Fault::new(Operation::Read, nth, Effect::Error).under(&path));
            let given_up = accept_all_losses(Arc::new(files.clone()), Arc::new(Still), small());
            assert!(matches!(given_up, Err(ToolError::NotThere(_))), "read {nth}: {given_up:?}");
            // A fork has no faults.
            let mut count = 0;
            let bad = looked_at(&files.fork()).check(&mut |_, messages| count += messages);
            assert_eq!((bad, count), (Vec::new(), FILED), "{path}, read {nth}");
        }
    }
}

/// Starts a broker whenever somebody asks it for the time.
struct Intruder {
    files: SimFiles,
    has_started: AtomicBool,
}

impl Clock for Intruder {
    fn now(&self) -> Now {
        let files = Arc::new(self.files.clone());
        let started = Journal::open_stepped(files, Arc::new(Still), small(), 1);
        if !matches!(started, Err(OpenError::Locked)) {
            self.has_started.store(true, Ordering::Relaxed);
        }
        Still.now()
    }
}

/// What it removes would be taken for lost.
#[test]
fn no_broker_starts_while_losses_are_looked_for() {
    let files = SimFiles::new(16);
    let path = filed(&files);
    spoil(&files, &path, "message 0003");
    let clock = Arc::new(Intruder { files: files.clone(), has_started: AtomicBool::new(false) });
    let given_up =
        accept_loss(Arc::new(files.clone()), clock.clone(), small(), "queue/a", 0..u64::MAX);
    assert_eq!(given_up.unwrap(), [(3, 4)]);
    assert!(!clock.has_started.load(Ordering::Relaxed));
}

/// Where there is room for the broker's files there may be none for longer ones.
#[test]
fn giving_up_needs_no_longer_journal_files_than_there_are() {
    let files = SimFiles::new(17);
    let path = filed(&files);
    spoil(&files, &path, "message 0003");
    files.set_room(files.used_bytes() + (4 << 20));
    let config = JournalConfig::new(77);
    assert!(config.journal_file_bytes > 4 << 20);
    let given_up = accept_loss(Arc::new(files), Arc::new(Still), config, "queue/a", 0..u64::MAX);
    assert_eq!(given_up.unwrap(), [(3, 4)]);
}

/// They would be removed as those of logs that are no more.
#[test]
fn segments_alone_are_not_taken_for_nothing() {
    let files = SimFiles::new(9);
    filed(&files);
    for path in files.paths().iter().filter(|path| !path.starts_with("logs/")) {
        files.remove(path).unwrap();
    }
    let before = files.paths();
    let started = Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), small(), 1);
    assert!(matches!(started, Err(OpenError::Metadata { .. })));
    let mut after = files.paths();
    after.retain(|path| path.starts_with("logs/"));
    assert_eq!(after, before);
}

#[test]
fn a_checkpoint_or_a_mark_that_cannot_be_read_can_be_looked_around() {
    let files = SimFiles::new(10);
    filed(&files);
    let checkpoints = files.paths().into_iter().filter(|path| path.starts_with("checkpoint-"));
    for path in [checkpoints.max().unwrap(), "synced".to_owned()] {
        let files = files.fork();
        files.arm(Fault::new(Operation::Read, 1, Effect::Error).under(&path));
        let folder = looked_at(&files);
        let report = folder.report();
        let mut told = report.checkpoint_fallback.iter().chain(&report.heads);
        assert!(told.any(|what| what.starts_with(&path)), "{path}: {report:?}");
        assert!(report.damage.is_empty(), "{path}: {report:?}");
        let mut count = 0;
        let bad = folder.check(&mut |_, messages| count += messages);
        assert_eq!((bad, count), (Vec::new(), FILED), "{path}");
        drop(folder);
        // The next start may be given it, and needs what it stands on.
        files.arm(Fault::new(Operation::Read, 1, Effect::Error).under(&path));
        let start = || Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), small(), 1);
        assert!(matches!(start(), Err(OpenError::Io { .. })), "{path}");
        let journal = start().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(journal.report().damage.is_empty(), "{path}: {:?}", journal.report());
    }
}

/// Nothing is lost by it, so there is nothing to accept, and a strict start goes on.
#[test]
fn heads_and_footers_of_segments_are_named_and_no_loss() {
    let files = SimFiles::new(11);
    let path = filed(&files);
    let bytes = files.bytes(&path).unwrap();
    let len = bytes.len() as u64;
    let footer_len = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap());
    for byte in [8, len - u64::from(footer_len), len - 1] {
        let files = files.fork();
        files.flip_bit(&path, byte, 0);
        let strict = JournalConfig { strict: true, ..small() };
        let journal = Journal::open_stepped(Arc::new(files), Arc::new(Still), strict, 1);
        let journal = journal.unwrap_or_else(|error| panic!("byte {byte}: {error}"));
        let report = journal.report();
        let is_named = report.heads.iter().any(|head| head.starts_with(&format!("{path}: ")));
        assert!(is_named && report.damage.is_empty(), "byte {byte}: {report:?}");
    }
}

#[test]
fn a_copy_under_half_a_name_does_not_stand_for_the_file() {
    let files = SimFiles::new(12);
    filed(&files);
    for path in ["journal/j-1.wj", "checkpoint-1.wc"] {
        drop(files.create(path).unwrap());
    }
    assert_eq!(looked_at(&files).figures().logs[0].live, FILED);
    let journal = Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), small(), 1);
    let journal = journal.unwrap();
    assert!(journal.report().damage.is_empty(), "{:?}", journal.report());
    for path in ["quarantine/j-1.wj", "checkpoint-1.wc"] {
        assert!(files.bytes(path).is_some(), "{path}: {:?}", files.paths());
    }
    drop(journal);
    for path in ["journal/j-999.wj", "checkpoint-999.wc"] {
        let files = files.fork();
        drop(files.create(path).unwrap());
        let error = Folder::open(Arc::new(files), Arc::new(Still)).err().unwrap();
        assert!(matches!(error, OpenError::Metadata { .. }), "{path}: {error}");
    }
}

/// Its blocks are sound, and none of them is of the log.
#[test]
fn a_segment_in_another_ones_place_is_a_loss() {
    let files = SimFiles::new(14);
    fill_and_file(&files, &["queue/a", "queue/b"]);
    let first = |log: u64| {
        let folder = format!("logs/{log:016x}/");
        files.paths().into_iter().find(|path| path.starts_with(&folder)).unwrap()
    };
    let (one, other) = (files.bytes(&first(1)).unwrap(), files.bytes(&first(2)).unwrap());
    assert_eq!(one.len(), other.len());
    files.damage(&first(1), &other, 0);
    let lost: Vec<_> = looked_at(&files).report().lost().cloned().collect();
    assert!(lost.iter().any(|it| it.log == "queue/a" && it.from == 0 && it.to > 1), "{lost:?}");
}

/// Its entry may be what is lost, and the next start finds no damage that would tell it so.
#[test]
fn who_accepts_a_loss_keeps_logs_that_belong_to_nothing() {
    let files = SimFiles::new(13);
    fill(&files);
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue/b").unwrap();
    let (mut batch, mut message) = (BatchBuilder::default(), Vec::new());
    weir_message::encode(&mut message, "b", b"", &[], b"kept");
    batch.push(&message);
    let stamp = Stamp { time_ms: 1, due_ms: 0 };
    store.append(log, 0, stamp, batch.take(), Level::Disk).unwrap();
    store.commit().unwrap();
    journal.step().unwrap();
    drop(store);
    journal.close().unwrap();
    let path = "journal/j-0000000000000001.wj";
    let bytes = files.bytes(path).unwrap();
    let at = bytes.windows(50).position(|window| window == [3; 50]).unwrap();
    files.flip_bit(path, at as u64, 2);
    accept_all_losses(Arc::new(files.clone()), Arc::new(Still), config()).unwrap();
    let keys: Vec<String> = looked_at(&files).catalogue().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["left/queue/b", "queue/a"]);
}

/// Nor may an export lose it: nothing is lost in the folder that is made of it.
#[test]
fn an_export_keeps_logs_whose_entries_may_be_lost() {
    let files = SimFiles::new(18);
    fill(&files);
    spoil(&files, "journal/j-0000000000000001.wj", "settings");
    let text = exported(&files);
    let other = SimFiles::new(19);
    import(Arc::new(other.clone()), Arc::new(Still), config(), &mut text.as_bytes()).unwrap();
    let folder = looked_at(&other);
    let keys: Vec<String> = folder.catalogue().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["left/queue/a"]);
    assert_eq!(folder.figures().logs[0].live, 33);
}

/// Nobody has said that changes may be missing too, and logs stay whose entries may be.
#[test]
fn who_gives_up_messages_accepts_no_other_damage() {
    let files = SimFiles::new(20);
    fill(&files);
    let path = "journal/j-0000000000000001.wj";
    spoil(&files, path, "settings");
    let bytes = files.bytes(path).unwrap();
    let at = bytes.windows(50).position(|window| window == [3; 50]).unwrap();
    files.flip_bit(path, at as u64, 2);
    let disk = || -> Arc<SimFiles> { Arc::new(files.clone()) };
    let given_up = accept_loss(disk(), Arc::new(Still), config(), "queue/a", 0..u64::MAX);
    assert_eq!(given_up.unwrap(), [(15, 20)]);
    let folder = looked_at(&files);
    let [damage] = &folder.report().damage[..] else { panic!("{:?}", folder.report()) };
    assert!(damage.lost.is_empty(), "{damage:?}");
    let keys: Vec<String> = folder.catalogue().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["left/queue/a"]);
    drop(folder);
    assert_eq!(accept_all_losses(disk(), Arc::new(Still), config()).unwrap(), []);
    assert!(looked_at(&files).report().damage.is_empty());
}

/// Its bodies are damaged one by one, and are accepted as one block.
#[test]
fn who_gives_up_messages_accepts_no_other_damage_of_their_block() {
    let files = SimFiles::new(21);
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    let log = store.open("queue/a").unwrap();
    let (mut batch, mut message) = (BatchBuilder::default(), Vec::new());
    weir_message::encode(&mut message, "a", b"", &[], b"message 0000");
    batch.push(&message);
    let stamp = Stamp { time_ms: 1, due_ms: 0 };
    store.append(log, 0, stamp, batch.take(), Level::Disk).unwrap();
    store.commit().unwrap();
    // Nothing is written before this asks for it.
    let mut catalogue = journal.catalogue();
    catalogue.put("queue/a", Some(b"settings".as_slice().into()), 0).unwrap();
    drop(store);
    journal.close().unwrap();
    let path = "journal/j-0000000000000001.wj";
    spoil(&files, path, "message 0000");
    spoil(&files, path, "settings");
    let folder = looked_at(&files);
    let [one, other] = &folder.report().damage[..] else { panic!("{:?}", folder.report()) };
    assert_eq!(one.first_block, other.first_block);
    drop(folder);
    let disk = || -> Arc<SimFiles> { Arc::new(files.clone()) };
    let given_up = accept_loss(disk(), Arc::new(Still), config(), "queue/a", 0..u64::MAX);
    assert_eq!(given_up.unwrap(), [(0, 1)]);
    let folder = looked_at(&files);
    let [damage] = &folder.report().damage[..] else { panic!("{:?}", folder.report()) };
    assert!(damage.lost.is_empty(), "{damage:?}");
    drop(folder);
    assert_eq!(accept_all_losses(disk(), Arc::new(Still), config()).unwrap(), []);
    assert!(looked_at(&files).report().damage.is_empty());
}

/// Where groups are is kept with the streams: without its stream a start removes a group.
#[test]
fn groups_are_kept_whose_streams_entry_may_be_lost() {
    let files = SimFiles::new(22);
    let journal =
        Journal::open_stepped(Arc::new(files.clone()), Arc::new(Still), config(), 1).unwrap();
    let mut store = journal.store(Box::new(|| {}));
    for name in ["stream/a/b/0", "group/a/b/g/0"] {
        store.open(name).unwrap();
    }
    store.commit().unwrap();
    let mut catalogue = journal.catalogue();
    for (key, value) in [("stream/a/b", "settings"), ("group/a/b/g", "other")] {
        catalogue.put(key, Some(value.as_bytes().into()), 0).unwrap();
    }
    drop(store);
    journal.close().unwrap();
    spoil(&files, "journal/j-0000000000000001.wj", "settings");
    let text = exported(&files);
    let other = SimFiles::new(23);
    import(Arc::new(other.clone()), Arc::new(Still), config(), &mut text.as_bytes()).unwrap();
    accept_all_losses(Arc::new(files.clone()), Arc::new(Still), config()).unwrap();
    for files in [files, other] {
        let folder = looked_at(&files);
        assert!(folder.report().damage.is_empty(), "{:?}", folder.report());
        let keys: Vec<String> = folder.catalogue().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["group/a/b/g", "left/group/a/b/g/0", "left/stream/a/b/0"]);
    }
}
