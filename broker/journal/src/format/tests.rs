//! Tests of the format that need no files of bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use weir_core::command::Level;
use weir_message::{Batch, BatchBuilder};

use super::*;
use crate::files::Files;
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, OPEN_APPENDS, TABLE_ENTRIES_MAX, TABLE_ENTRY_BYTES,
};
use crate::sim::{Seeded, SimFiles};

const STORE: u128 = 0xabcd_0123_4567_89ab_cdef_0000_1111_2222;
const IDENTITY: Identity =
    Identity { store_tag: store_tag(STORE, Kind::Journal), file_sequence: 3 };

fn head(number: u64, previous_crc: u32) -> BlockHead {
    let Identity { store_tag, file_sequence } = IDENTITY;
    BlockHead { store_tag, number, file_sequence, durable: number - 1, previous_crc }
}

fn batch(random: &mut Seeded, rows: u64, len_max: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for _ in 0..rows {
        let mut message = vec![0; 1 + random.below(len_max) as usize];
        random.fill(&mut message);
        builder.push(&message);
    }
    builder.take()
}

/// What was pushed, as the reader should see it.
#[derive(Debug, PartialEq)]
struct Meant {
    kind: EntryKind,
    level: Level,
    log: u64,
    numbers: [u64; 4],
    body: Vec<u8>,
    batch: Option<Batch>,
}

/// A block with a little of everything.
fn sample() -> Vec<u8> {
    let mut random = Seeded::new(7);
    let mut builder = BlockBuilder::new();
    builder.push(EntryKind::OpenLog, Level::Disk, 1, [0; 4], &[b"queue/", b"a"]);
    builder.push_append(Level::Disk, 1, 0, 5, 0, batch(&mut random, 3, 40));
    builder.push(EntryKind::Release, Level::Os, 1, [0, 2, 0, 0], &[]);
    builder.push_append(Level::Memory, 2, 9, 5, 6, batch(&mut random, 2, 300));
    let mut bytes = Vec::new();
    builder.finish(head(8, 77), &mut bytes);
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    match read_block(bytes, 0, IDENTITY) {
        Found::Block(block) => block.entries.iter().all(|entry| entry.body_is_sound(bytes)),
        Found::End | Found::Bad(_) => false,
    }
}

fn concat(batches: &[Batch]) -> Batch {
    let mut builder = BatchBuilder::default();
    batches.iter().flat_map(Batch::iter).for_each(|message| builder.push(message));
    builder.take()
}

#[test]
fn seeded_round_trips() {
    let mut builder = BlockBuilder::new();
    for seed in 0..500 {
        let mut random = Seeded::new(seed);
        let mut file = Vec::new();
        let mut blocks = Vec::new();
        let mut previous_crc = 0;
        for number in 1..=1 + random.below(4) {
            let meant = fill(&mut builder, &mut random);
            let (at, estimate) = (file.len(), builder.len_estimate());
            assert_eq!(builder.entries(), meant.len());
            let finished = builder.finish(head(number, previous_crc), &mut file);
            assert_eq!(finished.len, estimate, "seed {seed}");
            assert!(builder.is_empty());
            blocks.push((at, previous_crc, meant));
            previous_crc = finished.header_crc;
        }
        let file = Bytes::from(file);
        let mut at = 0;
        for (number, (expected_at, previous_crc, meant)) in blocks.into_iter().enumerate() {
            assert_eq!(at, expected_at);
            let Found::Block(block) = read_block(&file, at, IDENTITY) else {
                panic!("seed {seed}: no block at {at}");
            };
            assert_eq!(block.head, head(number as u64 + 1, previous_crc));
            let bytes = file.slice(at..at + block.len);
            let read: Vec<_> = block.entries.iter().map(|entry| meaning(entry, &bytes)).collect();
            assert_eq!(read, meant, "seed {seed}");
            at += block.len;
        }
        assert_eq!(read_block(&file, at, IDENTITY), Found::End);
    }
}

/// Logs whose numbers have one rest share a place in the builder's table.
#[test]
fn a_batch_never_joins_the_append_of_another_log() {
    let mut random = Seeded::new(3);
    let mut builder = BlockBuilder::new();
    let (one, other) = (5, 5 + OPEN_APPENDS);
    let mut meant = Vec::new();
    for (log, base) in [(one, 0), (other, 1), (one, 1), (one, 2)] {
        let batch = batch(&mut random, 1, 20);
        if builder.extend_last_append(Level::Os, log, base, 0, 0, &batch) {
            let (last_log, _, count) = meant.last_mut().unwrap();
            assert_eq!((*last_log, base), (one, 2), "only the last follows one of its log");
            *count += 1;
        } else {
            builder.push_append(Level::Os, log, base, 0, 0, batch);
            meant.push((log, base, 1));
        }
    }
    let mut bytes = Vec::new();
    builder.finish(head(1, 0), &mut bytes);
    let Found::Block(block) = read_block(&bytes, 0, IDENTITY) else { panic!("no block") };
    let read: Vec<_> = block.entries.iter().map(|entry| (entry.log, entry.a, entry.b)).collect();
    assert_eq!(read, meant);
    assert_eq!(read, [(one, 0, 1), (other, 1, 1), (one, 1, 2)]);
}

#[test]
fn the_first_who_asks_learns_of_what_closed_an_append_too() {
    let mut random = Seeded::new(4);
    let mut builder = BlockBuilder::new();
    for log in [1, 2] {
        builder.push_append(Level::Os, log, 0, 0, 0, batch(&mut random, 1, 20));
    }
    builder.push(EntryKind::Reset, Level::Os, 1, [1, 0, 0, 0], &[]);
    builder.push(EntryKind::Release, Level::Os, 2, [0, 1, 0, 0], &[]);
    let next = batch(&mut random, 1, 20);
    assert!(!builder.extend_last_append(Level::Os, 1, 1, 0, 0, &next));
    assert!(builder.extend_last_append(Level::Os, 2, 1, 0, 0, &next));
}

/// Pushes random entries; returns them as they should be read.
fn fill(builder: &mut BlockBuilder, random: &mut Seeded) -> Vec<Meant> {
    let levels = [Level::Memory, Level::Os, Level::Disk];
    let mut meant: Vec<Meant> = Vec::new();
    // By log: where its open append is in `meant`, and its parts.
    let mut open: Vec<Option<(usize, Vec<Batch>)>> = vec![None; 3];
    for _ in 0..random.below(20) {
        let log = random.below(3);
        let level = levels[random.below(3) as usize];
        if random.one_in(3) {
            let mut body = vec![0; random.below(60) as usize];
            random.fill(&mut body);
            let kind = if random.one_in(2) { EntryKind::Trim } else { EntryKind::RemoveLog };
            let numbers = [random.number(), 0, 0, random.number()];
            let (one, two) = body.split_at(body.len() / 3);
            builder.push(kind, level, log, numbers, &[one, &[], two]);
            if kind == EntryKind::RemoveLog {
                open[log as usize] = None;
            }
            meant.push(Meant { kind, level, log, numbers, body, batch: None });
            continue;
        }
        let rows = 1 + random.below(5);
        let batch = batch(random, rows, 200);
        if let Some((at, parts)) = &mut open[log as usize] {
            let last = &mut meant[*at];
            let [base, count, time_ms, due_ms] = last.numbers;
            let elsewhere = base + count + 1;
            assert!(
                !builder.extend_last_append(last.level, log, elsewhere, time_ms, due_ms, &batch)
            );
            let end = base + count;
            let joins = builder.extend_last_append(level, log, end, time_ms, due_ms, &batch);
            assert_eq!(joins, level == last.level);
            if joins {
                parts.push(batch);
                last.numbers[1] += rows;
                last.batch = Some(concat(parts));
                continue;
            }
        } else {
            assert!(!builder.extend_last_append(level, log, 0, 0, 0, &batch));
        }
        let numbers = [random.below(1 << 40), rows, random.number(), random.below(2)];
        builder.push_append(level, log, numbers[0], numbers[2], numbers[3], batch.clone());
        open[log as usize] = Some((meant.len(), vec![batch.clone()]));
        let kind = EntryKind::Append;
        meant.push(Meant { kind, level, log, numbers, body: Vec::new(), batch: Some(batch) });
    }
    meant
}

fn meaning(entry: &Entry, bytes: &Bytes) -> Meant {
    let is_append = entry.kind == EntryKind::Append;
    let body = entry.sound_body(bytes).unwrap();
    Meant {
        kind: entry.kind,
        level: entry.level,
        log: entry.log,
        numbers: [entry.a, entry.b, entry.c, entry.d],
        body: if is_append { Vec::new() } else { body.to_vec() },
        batch: is_append.then(|| entry.append_batch(bytes).unwrap()),
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let mut bytes = sample();
    let content = {
        let Found::Block(block) = read_block(&bytes, 0, IDENTITY) else { panic!("no block") };
        block.entries.last().unwrap().body.end
    };
    let table = BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + 4 * TABLE_ENTRY_BYTES;
    for bit in 0..content * 8 {
        let byte = bit / 8;
        bytes[byte] ^= 1 << (bit % 8);
        match read_block(&bytes, 0, IDENTITY) {
            Found::Bad(bad) if byte < BLOCK_HEADER_BYTES => {
                assert_eq!((bad.what, bad.head), (BadPart::Header, None), "bit {bit}");
            }
            Found::Bad(bad) if table.contains(&byte) => {
                assert_eq!((bad.what, bad.head), (BadPart::Table, Some(head(8, 77))), "bit {bit}");
            }
            Found::Block(block) if byte >= table.end => {
                let unsound = block.entries.iter().filter(|entry| !entry.body_is_sound(&bytes));
                let hit: Vec<_> = unsound.map(|entry| entry.body.contains(&byte)).collect();
                assert_eq!(hit, [true], "bit {bit}: exactly the entry whose body it is in");
            }
            other => panic!("bit {bit}: {other:?}"),
        }
        bytes[byte] ^= 1 << (bit % 8);
    }
    // Padding belongs to nobody: it may rot.
    bytes[content] ^= 1;
    assert!(is_whole(&bytes));
}

#[test]
fn a_block_torn_at_any_byte_is_not_whole() {
    let bytes = sample();
    let Found::Block(block) = read_block(&bytes, 0, IDENTITY) else { panic!("no block") };
    let content = block.entries.last().unwrap().body.end;
    let mut random = Seeded::new(3);
    let mut garbage = vec![0; bytes.len()];
    random.fill(&mut garbage);
    for cut in 0..bytes.len() {
        let short = &bytes[..cut];
        assert_eq!(is_whole(short), cut >= content, "the file ends at {cut}");
        for rest in [&vec![0; bytes.len()], &garbage] {
            let torn = [short, &rest[cut..]].concat();
            let same = torn[..content] == bytes[..content];
            assert_eq!(is_whole(&torn), same, "torn at {cut}");
        }
    }
    // A first sector that never arrived looks like the end; the rest of the block
    // is no witness of anything.
    let mut headless = bytes.clone();
    headless[..SECTOR_BYTES].fill(0);
    assert_eq!(read_block(&headless, 0, IDENTITY), Found::End);
    assert_eq!(scan_witness(&headless, 0, IDENTITY), None);
}

#[test]
fn blocks_of_others_are_stale() {
    let bytes = sample();
    let other_file = Identity { file_sequence: 4, ..IDENTITY };
    let other_store = Identity { store_tag: IDENTITY.store_tag ^ 1, ..IDENTITY };
    for identity in [other_file, other_store] {
        let Found::Bad(bad) = read_block(&bytes, 0, identity) else { panic!("not ours") };
        assert_eq!((bad.what, bad.head), (BadPart::Stale, None));
        assert_eq!(scan_witness(&bytes, 0, identity), None);
    }
}

#[test]
fn witnesses_and_the_next_block() {
    let mut file = Vec::new();
    let mut builder = BlockBuilder::new();
    let mut starts = Vec::new();
    for number in 1..=4 {
        starts.push(file.len());
        let body = vec![1; 700];
        builder.push(EntryKind::OpenLog, Level::Disk, 1, [0; 4], &[&body]);
        builder.finish(head(number, 0), &mut file);
    }
    assert_eq!(scan_witness(&file, 0, IDENTITY), Some(3));
    assert_eq!(scan_witness(&file, starts[3] + 1, IDENTITY), None);
    assert_eq!(scan_witness(&file, usize::MAX, IDENTITY), None);
    // A bad table does not make the header a liar.
    file[starts[3] + BLOCK_HEADER_BYTES] ^= 1;
    assert_eq!(scan_witness(&file, starts[1], IDENTITY), Some(3));
    file[starts[1]] ^= 1;
    let (at, block) = next_block(&file, starts[1], IDENTITY, 2).unwrap();
    assert_eq!((at, block.head.number), (starts[2], 3));
    assert!(next_block(&file, 0, IDENTITY, 3).is_none(), "the table of 4 is bad");
}

/// Recomputes the checksums of a block whose header or table was changed, so that
/// only the checks behind them are left.
fn reseal(bytes: &mut [u8]) {
    let entries = u32_at(bytes, 16) as usize;
    let table = BLOCK_HEADER_BYTES + entries.saturating_mul(TABLE_ENTRY_BYTES);
    if table <= bytes.len() {
        let crc = crc32c::crc32c(&bytes[BLOCK_HEADER_BYTES..table]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[8..BLOCK_HEADER_BYTES]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    let huge = |at: usize, value: u32| {
        let mut bytes = sample();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..BLOCK_HEADER_BYTES]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    let too_many = TABLE_ENTRIES_MAX as u32 + 1;
    for (at, value) in [(16, u32::MAX), (16, too_many), (20, 0), (24, u32::MAX), (28, 1), (60, 1)] {
        let bytes = huge(at, value);
        let Found::Bad(bad) = read_block(&bytes, 0, IDENTITY) else { panic!("{at} {value}") };
        assert_eq!((bad.what, bad.head), (BadPart::Header, None), "{at} {value}");
    }
    // Bytes that no entry claims.
    let bodies_len = u32_at(&sample(), 24);
    let Found::Bad(bad) = read_block(&huge(24, bodies_len + 1), 0, IDENTITY) else { panic!() };
    assert_eq!(bad.what, BadPart::Table);
    // As long as a block may be, in a file that is shorter.
    let longest = BLOCK_BYTES_MAX - BLOCK_HEADER_BYTES - 4 * TABLE_ENTRY_BYTES;
    let Found::Bad(bad) = read_block(&huge(24, longest as u32), 0, IDENTITY) else { panic!() };
    assert_eq!((bad.what, bad.len), (BadPart::Truncated, BLOCK_BYTES_MAX));
}

/// Random bytes, and blocks that were changed and sealed again: no panic, no
/// body out of the block, and only batches that hold together.
#[test]
fn no_bytes_make_it_panic() {
    let sample = sample();
    let mut blocks = 0;
    for seed in 0..10_000 {
        let mut random = Seeded::new(seed);
        let mut bytes = sample.clone();
        if random.one_in(4) {
            random.fill(&mut bytes);
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = if random.one_in(2) { random.number() as u8 } else { 0xff };
        }
        if random.one_in(5) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        if bytes.len() >= BLOCK_HEADER_BYTES && !random.one_in(8) {
            bytes[..4].copy_from_slice(&0x4b4c_4257_u32.to_le_bytes());
            reseal(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        let _ = scan_witness(&bytes, random.below(2000) as usize, IDENTITY);
        let _ = next_block(&bytes, 0, IDENTITY, random.below(10));
        let _ = FileHead::decode(&bytes, Kind::Journal);
        let _ = CheckpointContent::decode(&bytes);
        let _ = parse_named(&bytes);
        if let Found::Block(block) = read_block(&bytes, 0, IDENTITY) {
            blocks += 1;
            assert!(block.entries.len() <= TABLE_ENTRIES_MAX);
            for entry in &block.entries {
                assert!(entry.body.end <= block.len && block.len <= BLOCK_BYTES_MAX);
                let body = bytes.slice(entry.body.clone());
                if let Ok(batch) = batch_of_body(entry, &body) {
                    assert_eq!(batch.len() as u64, entry.b);
                    assert!(batch.iter().all(|message| !message.is_empty()));
                }
            }
        }
    }
    assert!(blocks > 1_000, "{blocks} of 10,000 were blocks: the test looks elsewhere");
}

#[test]
fn heads_say_what_is_wrong() {
    let head = FileHead { kind: Kind::Segment, store: STORE, sequence: 9, log: 4, created_ms: 1 };
    let bytes = head.encode();
    assert_eq!(bytes.len(), FILE_HEAD_BYTES);
    assert_eq!(FileHead::decode(&bytes, Kind::Segment), Ok(head));
    assert_eq!(FileHead::decode(&[], Kind::Segment), Err(HeadError::Blank));
    assert_eq!(FileHead::decode(&[0; 9000], Kind::Segment), Err(HeadError::Blank));
    for (kind, len) in [(Kind::Journal, 4096), (Kind::Segment, 4095), (Kind::Segment, 1)] {
        let refused = FileHead::decode(&bytes[..len], kind);
        assert!(matches!(refused, Err(HeadError::Damaged(_))), "{refused:?}");
    }
    for bit in 0..56 * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = FileHead::decode(&bytes, Kind::Segment);
        assert!(matches!(refused, Err(HeadError::Damaged(_))), "bit {bit}: {refused:?}");
    }
}

fn checkpoint(random: &mut Seeded, logs: u64, ranges: u64, value_len: usize) -> CheckpointContent {
    let mut value = || {
        let mut bytes = vec![0; value_len];
        random.fill(&mut bytes);
        Bytes::from(bytes)
    };
    CheckpointContent {
        logs: (0..logs)
            .map(|log| LogState {
                log,
                name: format!("stream/s/{log}"),
                start: log,
                end: log + 1_000_000,
                kept_end: log + 1_000_000 - log % 7,
                segments: 2,
                time_max_ms: 99,
                released: (0..ranges).map(|at| (2 * at, 2 * at + 1)).collect(),
                damage: (0..log % 3).map(|at| (at, at + 5)).collect(),
            })
            .collect(),
        segments: (0..logs)
            .map(|log| SegmentState {
                log,
                base: 1,
                revision: log as u8,
                end: 9,
                len: 8192,
                is_sealed: log % 2 == 0,
            })
            .collect(),
        catalogue: (0..5).map(|key| (format!("queue/{key}"), key, value())).collect(),
        snapshots: vec![("s".to_owned(), value()), (String::new(), Bytes::new())],
        replay_from: 3,
        durable: 17,
        covered: 15,
        next_block: 18,
        chain_crc: u32::MAX,
        next_log: logs,
        revision: 5,
    }
}

#[test]
fn checkpoints_of_several_blocks() {
    let mut random = Seeded::new(1);
    let empty = CheckpointContent::default();
    assert_eq!(CheckpointContent::decode(&empty.encode(STORE, 1, 2)).unwrap().1, empty);
    // More stretches than one entry takes, more bytes than one block.
    let content = checkpoint(&mut random, 3, 200_000, 3 << 20);
    let bytes = content.encode(STORE, 4, 5);
    let (head, read) = CheckpointContent::decode(&bytes).unwrap();
    assert_eq!((head.kind, head.store, head.sequence), (Kind::Checkpoint, STORE, 4));
    assert!(read == content, "the large checkpoint is read as it was written");
    // More entries than one block takes.
    let content = checkpoint(&mut random, 70_000, 0, 1);
    let (_, read) = CheckpointContent::decode(&content.encode(STORE, 4, 5)).unwrap();
    assert!(read == content, "so is the one of many logs");
}

#[test]
fn a_checkpoint_is_whole_or_damaged() {
    let content = checkpoint(&mut Seeded::new(2), 4, 3, 60);
    let bytes = content.encode(STORE, 4, 5);
    let content_end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for cut in 0..content_end {
        assert!(CheckpointContent::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut flipped = bytes.clone();
    for byte in (0..56).chain(FILE_HEAD_BYTES..content_end) {
        for bit in 0..8 {
            flipped[byte] ^= 1 << bit;
            assert!(CheckpointContent::decode(&flipped).is_err(), "bit {bit} of byte {byte}");
            flipped[byte] ^= 1 << bit;
        }
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&bytes[FILE_HEAD_BYTES..]);
    assert!(CheckpointContent::decode(&longer).is_err(), "something follows");
}

/// Every block of it is sound, but they were not written together.
#[test]
fn a_checkpoint_of_two_is_damaged() {
    let one = checkpoint(&mut Seeded::new(1), 1, 0, 3 << 20).encode(STORE, 4, 5);
    let two = checkpoint(&mut Seeded::new(2), 1, 0, 3 << 20).encode(STORE, 4, 5);
    let identity = Identity { store_tag: store_tag(STORE, Kind::Checkpoint), file_sequence: 4 };
    let (second, _) = next_block(&one, FILE_HEAD_BYTES, identity, 1).unwrap();
    let (other, _) = next_block(&two, FILE_HEAD_BYTES, identity, 1).unwrap();
    let mixed = [&one[..second], &two[other..]].concat();
    let damaged = CheckpointError::Damaged("a block is missing");
    assert_eq!(CheckpointContent::decode(&mixed).unwrap_err(), damaged);
}

#[test]
fn reading_from_files() {
    let disk = SimFiles::new(1);
    let file = disk.create("file").unwrap();
    let mut builder = BlockBuilder::new();
    // A table of several sectors.
    let body = vec![5; 3000];
    for log in 0..40 {
        builder.push(EntryKind::OpenLog, Level::Disk, log, [0; 4], &[&body]);
    }
    let mut bytes = vec![0; FILE_HEAD_BYTES];
    let finished = builder.finish(head(1, 0), &mut bytes);
    builder.push(EntryKind::Trim, Level::Disk, 1, [0; 4], &[]);
    builder.finish(head(2, finished.header_crc), &mut bytes);
    file.write_at(&bytes, 0).unwrap();
    let at = FILE_HEAD_BYTES;
    for at in [0, at, at + finished.len, at + 512, bytes.len(), bytes.len() + 512] {
        let expected = read_block(&bytes, at, IDENTITY);
        assert_eq!(read_head_at(&*file, at as u64, IDENTITY).unwrap(), expected, "at {at}");
    }
    let Found::Block(block) = read_block(&bytes, at, IDENTITY) else { panic!("no block") };
    let entry = &block.entries[39];
    assert_eq!(read_body(&*file, at as u64, entry).unwrap().unwrap(), body);
    disk.flip_bit("file", (at + entry.body.start) as u64, 3);
    assert_eq!(read_body(&*file, at as u64, entry).unwrap(), Err(Unsound::Checksum));
    file.set_len((at + entry.body.end - 1) as u64).unwrap();
    assert_eq!(read_body(&*file, at as u64, entry).unwrap(), Err(Unsound::Short));
    let Found::Bad(bad) = read_head_at(&*file, at as u64, IDENTITY).unwrap() else { panic!() };
    assert_eq!(bad.what, BadPart::Truncated);
    assert_eq!(load(&*file, u64::MAX, 10).unwrap(), Bytes::new());
    assert_eq!(load(&*file, 0, usize::MAX).unwrap().len() as u64, file.len().unwrap());
}
