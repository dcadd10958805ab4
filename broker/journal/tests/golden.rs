//! The bytes of the format, kept in files: what this program writes is what the
//! files hold, and what they hold is read as what was meant. A change of these
//! files is a change of the format.
//!
//! `WEIR_BLESS=1 cargo test -p weir-journal --test golden` writes them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::Store;
use weir_journal::files::Files;
use weir_journal::format::{
    Block, BlockBuilder, BlockHead, CheckpointContent, EntryKind, FILE_HEAD_BYTES, FileHead, Found,
    HeadError, Identity, Kind, LogState, SegmentState, named_body, parse_named, read_block,
    store_tag,
};
use weir_journal::sim::SimFiles;
use weir_journal::{Journal, JournalConfig};
use weir_message::{Batch, BatchBuilder};

#[path = "common/hex.rs"]
mod hex;

use hex::{from_hex, to_hex};

const STORE: u128 = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
const CREATED_MS: u64 = 1_760_000_000_000;

/// Compares with the file of that name, or writes it. Returns the file's bytes.
fn golden(name: &str, text: &str, bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(&path, to_hex(text, bytes)).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    let kept = from_hex(&kept);
    assert!(kept == bytes, "{name} differs:\n{}", to_hex(text, bytes));
    kept
}

fn batch(payloads: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for payload in payloads {
        let mut message = Vec::new();
        weir_message::encode(&mut message, "flights.lax", b"", &[], payload.as_bytes());
        builder.push(&message);
    }
    builder.take()
}

fn head(kind: Kind, sequence: u64, number: u64, previous_crc: u32) -> BlockHead {
    let durable = if kind == Kind::Journal { number - 1 } else { 0 };
    let store_tag = store_tag(STORE, kind);
    BlockHead { store_tag, number, file_sequence: sequence, durable, previous_crc }
}

/// The block at `at`; all its bodies are sound.
fn block(bytes: &Bytes, at: usize, kind: Kind, sequence: u64) -> (Block, Bytes) {
    let identity = Identity { store_tag: store_tag(STORE, kind), file_sequence: sequence };
    let Found::Block(block) = read_block(bytes, at, identity) else {
        panic!("no block at {at}: {:?}", read_block(bytes, at, identity));
    };
    let its_bytes = bytes.slice(at..at + block.len);
    assert!(block.entries.iter().all(|entry| entry.body_is_sound(&its_bytes)));
    (block, its_bytes)
}

#[test]
fn journal() {
    let file_head =
        FileHead { kind: Kind::Journal, store: STORE, sequence: 5, log: 0, created_ms: CREATED_MS };
    let mut bytes = file_head.encode();
    let mut builder = BlockBuilder::new();
    let (first, more, late) = (batch(&["one", "two"]), batch(&["three"]), batch(&["later"]));
    builder.push(EntryKind::OpenLog, Level::Disk, 7, [0; 4], &[b"queue/orders"]);
    builder.push_append(Level::Disk, 7, 100, CREATED_MS, 0, first.clone());
    assert!(builder.extend_last_append(Level::Disk, 7, 102, CREATED_MS, 0, &more));
    builder.push_append(Level::Os, 7, 103, CREATED_MS, CREATED_MS + 5_000, late.clone());
    builder.push(EntryKind::Release, Level::Os, 7, [100, 102, 0, 0], &[]);
    builder.push(EntryKind::ReleaseSome, Level::Disk, 7, [103, 170, 0b101, 0b100], &[]);
    let finished = builder.finish(head(Kind::Journal, 5, 41, 0x1122_3344), &mut bytes);
    let second_at = FILE_HEAD_BYTES + finished.len;
    builder.push(EntryKind::Trim, Level::Disk, 7, [102, 0, 0, 0], &[]);
    builder.push(EntryKind::Reset, Level::Disk, 8, [64, 0, 0, 0], &[]);
    builder.push(EntryKind::RemoveLog, Level::Disk, 9, [0; 4], &[]);
    let put = named_body("stream/flights", b"value");
    builder.push(EntryKind::Put, Level::Disk, 0, [3, 0, 0, 0], &[&put]);
    builder.push(EntryKind::Unput, Level::Disk, 0, [4, 0, 0, 0], &[b"stream/gone"]);
    let snapshot = named_body("policy/per-group", b"state");
    builder.push(EntryKind::Snapshot, Level::Disk, 0, [0; 4], &[&snapshot]);
    builder.push(EntryKind::LossAccepted, Level::Disk, 7, [110, 120, 0, 0], &[]);
    builder.finish(head(Kind::Journal, 5, 42, finished.header_crc), &mut bytes);

    let text = "Journal file 5: blocks 41 and 42, every kind of entry a journal has.";
    let bytes = Bytes::from(golden("journal.hex", text, &bytes));
    assert_eq!(FileHead::decode(&bytes, Kind::Journal), Ok(file_head));
    let (one, its_bytes) = block(&bytes, FILE_HEAD_BYTES, Kind::Journal, 5);
    assert_eq!(one.head, head(Kind::Journal, 5, 41, 0x1122_3344));
    assert_eq!(one.entries[1].append_batch(&its_bytes), Ok(batch(&["one", "two", "three"])));
    let append = &one.entries[1];
    assert_eq!((append.a, append.b, append.c, append.d), (100, 3, CREATED_MS, 0));
    assert_eq!(one.entries[2].append_batch(&its_bytes), Ok(late));
    assert_eq!(one.entries[2].level, Level::Os);
    assert!(one.entries[3].settled().eq(std::iter::once(100..102)));
    assert!(one.entries[4].settled().eq([103..104, 105..106, 169..170]));
    let (two, its_bytes) = block(&bytes, second_at, Kind::Journal, 5);
    assert_eq!(two.head, head(Kind::Journal, 5, 42, one.header_crc));
    let kinds = one.entries.iter().chain(&two.entries).map(|entry| entry.kind as u8);
    assert_eq!(kinds.collect::<Vec<_>>(), [5, 1, 1, 2, 16, 3, 4, 6, 7, 8, 9, 10]);
    let put = two.entries[3].sound_body(&its_bytes).unwrap();
    assert_eq!(parse_named(put), Ok(("stream/flights", &b"value"[..])));
    assert_eq!(two.entries[4].sound_body(&its_bytes), Ok(&b"stream/gone"[..]));
    let snapshot = two.entries[5].sound_body(&its_bytes).unwrap();
    assert_eq!(parse_named(snapshot), Ok(("policy/per-group", &b"state"[..])));
    let identity = Identity { store_tag: store_tag(STORE, Kind::Journal), file_sequence: 5 };
    assert_eq!(read_block(&bytes, second_at + two.len, identity), Found::End);
}

#[test]
fn segment() {
    let file_head = FileHead {
        kind: Kind::Segment,
        store: STORE,
        sequence: 100,
        log: 7,
        created_ms: CREATED_MS,
    };
    let mut bytes = file_head.encode();
    let mut builder = BlockBuilder::new();
    builder.push_append(Level::Disk, 7, 100, CREATED_MS, 0, batch(&["one", "two"]));
    let finished = builder.finish(head(Kind::Segment, 100, 1, 0), &mut bytes);
    builder.push_append(Level::Disk, 7, 102, CREATED_MS, 0, batch(&["three"]));
    builder.finish(head(Kind::Segment, 100, 2, finished.header_crc), &mut bytes);

    let text = "Segment of log 7 from offset 100 on: two blocks.";
    let bytes = Bytes::from(golden("segment.hex", text, &bytes));
    assert_eq!(FileHead::decode(&bytes, Kind::Segment), Ok(file_head));
    let (one, its_bytes) = block(&bytes, FILE_HEAD_BYTES, Kind::Segment, 100);
    assert_eq!(one.entries[0].append_batch(&its_bytes), Ok(batch(&["one", "two"])));
    let (two, its_bytes) = block(&bytes, FILE_HEAD_BYTES + one.len, Kind::Segment, 100);
    assert_eq!(two.head, head(Kind::Segment, 100, 2, one.header_crc));
    assert_eq!(two.entries[0].append_batch(&its_bytes), Ok(batch(&["three"])));
}

#[test]
fn checkpoint() {
    let log = |log, name: &str, released, damage| LogState {
        log,
        name: name.to_owned(),
        start: 100,
        end: 200,
        kept_end: 200,
        segments: 2,
        time_max_ms: CREATED_MS,
        released,
        damage,
    };
    let content = CheckpointContent {
        logs: vec![
            log(7, "queue/orders", vec![(110, 120), (130, 131)], vec![(140, 150)]),
            log(8, "group/flights/a/0", vec![], vec![]),
        ],
        segments: vec![
            SegmentState { log: 7, base: 100, revision: 3, end: 150, len: 8192, is_sealed: true },
            SegmentState { log: 7, base: 150, revision: 0, end: 160, len: 4608, is_sealed: false },
        ],
        catalogue: vec![("stream/flights".to_owned(), 3, Bytes::from_static(b"value"))],
        snapshots: vec![("policy/per-group".to_owned(), Bytes::from_static(b"state"))],
        replay_from: 5,
        durable: 40,
        covered: 0,
        next_block: 41,
        chain_crc: 0x1122_3344,
        next_log: 10,
        revision: 4,
    };
    let bytes = content.encode(STORE, 12, CREATED_MS);
    let text = "Checkpoint 12: two logs, two segments, a catalogue entry, a snapshot.";
    let bytes = golden("checkpoint.hex", text, &bytes);
    let (head, read) = CheckpointContent::decode(&bytes).unwrap();
    assert_eq!((head.store, head.sequence), (STORE, 12));
    assert_eq!(read, content);
}

/// Time stands still: it is in the head of every file.
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Now {
        Now { steady_ms: 0, wall_ms: CREATED_MS }
    }
}

/// The journal itself, over what is on that disk.
fn open(files: &SimFiles) -> Journal {
    let mut config = JournalConfig::new(STORE);
    config.journal_file_bytes = 16 << 10;
    Journal::open_stepped(Arc::new(files.clone()), Arc::new(StillClock), config, 1).unwrap()
}

/// A disk with these files.
fn disk(kept: &[(&str, &[u8])]) -> SimFiles {
    let files = SimFiles::new(1);
    files.make_folder("journal").unwrap();
    for (path, bytes) in kept {
        files.create(path).unwrap().write_at(bytes, 0).unwrap();
    }
    files
}

/// What a store writes for a snapshot, and the mark that a stop in good order leaves.
#[test]
fn snapshot_and_mark() {
    const JOURNAL: &str = "journal/j-0000000000000001.wj";
    const MARK: &str = "synced";
    let files = disk(&[]);
    let journal = open(&files);
    let mut store = journal.store(Box::new(|| {}));
    store.put_snapshot("policy/per-group", Bytes::from_static(b"state")).unwrap();
    store.commit().unwrap();
    drop(store);
    journal.close().unwrap();

    let text = "Journal file 1 of a new store: block 1, with a snapshot. Stopped in good order.";
    let snapshot = Bytes::from(golden("snapshot.hex", text, &files.bytes(JOURNAL).unwrap()));
    let (one, its_bytes) = block(&snapshot, FILE_HEAD_BYTES, Kind::Journal, 1);
    assert_eq!(one.head, head(Kind::Journal, 1, 1, 0));
    let [entry] = &one.entries[..] else { panic!("not one entry: {:?}", one.entries) };
    assert_eq!((entry.kind, entry.level, entry.log), (EntryKind::Snapshot, Level::Os, 0));
    assert_eq!([entry.a, entry.b, entry.c, entry.d], [0; 4]);
    let body = entry.sound_body(&its_bytes).unwrap();
    assert_eq!(parse_named(body), Ok(("policy/per-group", &b"state"[..])));

    let text = "The mark of that store: block 1 is synced.";
    let mark = golden("mark.hex", text, &files.bytes(MARK).unwrap());
    let (kind, sequence, created_ms) = (Kind::Mark, 1, CREATED_MS);
    let expected = FileHead { kind, store: STORE, sequence, log: 0, created_ms };
    assert_eq!(FileHead::decode(&mark, Kind::Mark), Ok(expected));

    let journal = open(&disk(&[(JOURNAL, &snapshot[..]), (MARK, &mark[..])]));
    assert!(journal.report().damage.is_empty(), "{}", journal.report().summary());
    let state = journal.store(Box::new(|| {})).snapshot("policy/per-group");
    assert_eq!(state, Ok(Some(Bytes::from_static(b"state"))));
    // Where the block is missing, the mark alone says that it was synced.
    let mut missing = snapshot.to_vec();
    missing[FILE_HEAD_BYTES..].fill(0);
    let with_mark = open(&disk(&[(JOURNAL, &missing[..]), (MARK, &mark[..])]));
    assert!(!with_mark.report().damage.is_empty());
    let without = open(&disk(&[(JOURNAL, &missing[..])]));
    assert!(without.report().damage.is_empty(), "{}", without.report().summary());
}

/// What a version after this one writes is refused in words, not as damage.
#[test]
fn newer() {
    let file_head =
        FileHead { kind: Kind::Journal, store: STORE, sequence: 5, log: 0, created_ms: CREATED_MS };
    let mut bytes = file_head.encode();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..52]);
    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    let bytes = golden("newer.hex", "The head of a journal file of format 3.", &bytes);
    let refused = FileHead::decode(&bytes, Kind::Journal).unwrap_err();
    assert_eq!(refused, HeadError::Newer(3));
    assert_eq!(refused.to_string(), "made by a newer weir: format 3, this one reads up to 2",);
}
