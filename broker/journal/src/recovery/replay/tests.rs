//! Offsets that nothing on the disk has: those of messages kept in memory only are gone
//! with the process, those of a lost block are told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Bounds, LogId, Stamp, Store, StoreError};
use weir_message::{Batch, BatchBuilder};

use crate::format::{CheckpointContent, FILE_HEAD_BYTES};
use crate::sim::SimFiles;
use crate::{Journal, JournalConfig, JournalStore, segment};

mod missing;

const QUEUE: &str = "queue/orders";

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

fn config() -> JournalConfig {
    let mut config = JournalConfig::new(7);
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config
}

/// Files so small that checkpoints come soon.
fn small_files() -> JournalConfig {
    let mut config = config();
    config.journal_file_bytes = 16 << 10;
    (config.kept_journal_files, config.filed_at_once) = (1, 1);
    config
}

/// Checkpoints that come so late that blocks behind the first 100 KiB are still read.
fn late_checkpoints() -> JournalConfig {
    JournalConfig { kept_journal_files: 6, ..small_files() }
}

/// The newest checkpoint.
fn checkpoint(files: &SimFiles) -> CheckpointContent {
    let paths = files.paths().into_iter();
    let newest = paths.filter(|path| path.starts_with("checkpoint-")).max();
    newest.map_or_else(CheckpointContent::default, |path| {
        CheckpointContent::decode(&files.bytes(&path).unwrap()).unwrap().1
    })
}

/// A process with one log open.
struct Life {
    journal: Journal,
    store: JournalStore,
    log: LogId,
    /// What [`Self::make_checkpoint`] wrote last.
    last_payload: Vec<u8>,
}

impl Life {
    fn of(files: &Arc<SimFiles>, config: JournalConfig, log: &str) -> Self {
        let journal = Journal::open_stepped(files.clone(), Arc::new(Still), config, 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open(log).unwrap();
        Self { journal, store, log, last_payload: Vec::new() }
    }

    fn append_to(&mut self, log: LogId, level: Level) -> Result<(), StoreError> {
        self.append_payload(log, level, b"payload")
    }

    /// Appends a message that was published at that time, and says so.
    fn append_at(&mut self, time_ms: u64) {
        let mut message = Vec::new();
        let payload = format!("taken at {time_ms}");
        weir_message::encode(&mut message, "s", b"", &[], payload.as_bytes());
        let end = self.store.bounds(self.log).end;
        let (stamp, batch) = (Stamp { time_ms, due_ms: 0 }, Batch::of_one(message.into()));
        self.store.append(self.log, end, stamp, batch, Level::Disk).unwrap();
    }

    fn append_payload(
        &mut self,
        log: LogId,
        level: Level,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let mut message = Vec::new();
        weir_message::encode(&mut message, "s", b"", &[], payload);
        let mut batch = BatchBuilder::default();
        batch.push(&message);
        let end = self.store.bounds(log).end;
        self.store.append(log, end, Stamp::default(), batch.take(), level)
    }

    fn append(&mut self, levels: &[Level]) {
        for &level in levels {
            self.append_to(self.log, level).unwrap();
        }
    }

    /// Writes what there is. How far the first journal file is written, bytes.
    fn write(&mut self) -> u64 {
        self.store.commit().unwrap();
        self.journal.step().unwrap();
        FILE_HEAD_BYTES as u64 + self.journal.figures().bytes
    }

    /// Lets checkpoints be made, by what is written to another log.
    fn make_checkpoints(&mut self) {
        let other = self.store.open("queue/other").unwrap();
        for _ in 0..400 {
            self.append_to(other, Level::Disk).unwrap();
            self.write();
        }
    }

    /// Lets the next checkpoint be made, by what is written to that log.
    fn make_checkpoint(&mut self, files: &SimFiles, log: &str) {
        let other = self.store.open(log).unwrap();
        let newest = checkpoint(files);
        while checkpoint(files) == newest {
            let end = self.store.bounds(other).end;
            self.last_payload = format!("{log} has {end}.").into_bytes();
            self.append_payload(other, Level::Disk, &self.last_payload.clone()).unwrap();
            // It is made of this state: nothing is appended meanwhile.
            for _ in 0..4 {
                self.write();
            }
        }
    }

    /// Whether its log takes a record.
    fn takes_more(&mut self) -> bool {
        match self.append_to(self.log, Level::Disk) {
            Ok(()) => true,
            Err(StoreError::Damaged { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Without a goodbye.
    fn kill(self) {
        drop(self);
    }

    fn end(mut self) {
        self.write();
        drop(self.store);
        self.journal.close().unwrap();
    }

    /// First offset, and one past the last.
    fn bounds(&self) -> (u64, u64) {
        let Bounds { start, end, .. } = self.store.bounds(self.log);
        (start, end)
    }

    fn settled(&self, from: u64) -> Option<Range<u64>> {
        self.store.settled(self.log, from)
    }

    /// Records that can be read.
    fn count(&self) -> usize {
        let mut records = Vec::new();
        let (from, _) = self.bounds();
        self.store.read(self.log, from, usize::MAX, &mut records).unwrap();
        records.iter().map(|records| records.batch.len()).sum()
    }

    /// Whether the log is told to have lost something.
    fn has_lost(&self) -> bool {
        self.journal.report().lost().any(|lost| *lost.log == *QUEUE)
    }
}

/// A block behind its end would need room that nobody has taken.
#[test]
fn a_file_of_an_earlier_configuration_is_not_used_again_if_it_is_shorter() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, small_files(), QUEUE);
    life.make_checkpoints();
    life.end();
    let longer = 2 * small_files().journal_file_bytes;
    let life =
        Life::of(&files, JournalConfig { journal_file_bytes: longer, ..small_files() }, QUEUE);
    life.end();
    let newest = files.paths().into_iter().filter(|path| path.starts_with("journal/j-")).max();
    assert_eq!(files.bytes(&newest.unwrap()).unwrap().len() as u64, longer);
}

/// What was written down of them must not be said of others, however often it is read.
#[test]
fn offsets_that_were_settled_are_not_given_again() {
    for (kept, settled) in [(0, 3..4), (1, 3..4), (1, 1..4), (2, 4..5)] {
        let case = format!("{kept} kept, {settled:?} settled");
        let files = Arc::new(SimFiles::new(1));
        let mut life = Life::of(&files, config(), QUEUE);
        for number in 0..5 {
            life.append(&[if number < kept { Level::Disk } else { Level::Memory }]);
        }
        life.store.release(life.log, settled.start, settled.end, Level::Os);
        for start in 0..4 {
            life.end();
            life = Life::of(&files, config(), QUEUE);
            let first = if kept == 0 { settled.end } else { 0 };
            assert_eq!(life.bounds(), (first, settled.end + start), "start {start}, {case}");
            let holes = (kept > 0).then_some(kept..settled.end);
            assert_eq!(life.settled(first), holes, "start {start}, {case}");
            assert_eq!(life.count() as u64, kept + start, "start {start}, {case}");
            life.append(&[Level::Disk]);
        }
    }
}

/// What was kept in memory only is no message any more, whether it was settled or not.
#[test]
fn a_gap_between_records_counts_as_settled() {
    let files = Arc::new(SimFiles::new(1));
    for start in 0..3 {
        let mut life = Life::of(&files, config(), QUEUE);
        assert_eq!(life.bounds(), if start == 0 { (0, 0) } else { (3, 4 * start) });
        if start == 2 {
            assert_eq!(life.settled(3), Some(4..7));
        }
        life.append(&[Level::Memory, Level::Memory, Level::Memory, Level::Disk, Level::Memory]);
        life.end();
    }
}

/// They would be in the way for good.
#[test]
fn messages_in_memory_that_a_checkpoint_knew_are_gone_with_the_process() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, small_files(), QUEUE);
    life.append(&[Level::Memory; 3]);
    life.make_checkpoints();
    life.end();
    let life = Life::of(&files, small_files(), QUEUE);
    assert!(life.journal.report().checkpoint > 0, "none was made");
    assert_eq!(life.bounds(), (3, 3));
}

/// Which append was the latest the checkpoint does not say: not each of those before it.
#[test]
fn a_time_is_found_again_before_what_a_checkpoint_knew_as_the_latest() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    life.make_checkpoints();
    for time_ms in [1_000, 2_000, 3_000] {
        life.append_at(time_ms);
    }
    let known = || checkpoint(&files).logs.into_iter().find(|log| log.name == QUEUE);
    let other = life.store.open("queue/other").unwrap();
    while known().is_none_or(|log| log.time_max_ms < 3_000) {
        life.append_to(other, Level::Disk).unwrap();
        life.write();
    }
    assert_eq!(known().unwrap().segments, 0, "they are still in the journal");
    life.end();
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    let found = [1_000, 1_001, 2_000, 3_000, 3_001].map(|at| life.store.offset_at(life.log, at));
    assert_eq!(found, [0, 1, 1, 2, 3]);
}

/// Bases of the segments that there are files of.
fn segments(files: &SimFiles, log: u64) -> BTreeSet<u64> {
    let folder = format!("{}/", segment::folder(log));
    let paths = files.paths();
    let names = paths.iter().filter_map(|path| path.strip_prefix(&folder));
    names.filter_map(segment::parse_name).map(|(base, _)| base).collect()
}

/// One that nobody settles, in a queue through which many pass, would keep all of them.
#[test]
fn segments_behind_a_message_that_stays_go_when_all_else_is_settled() {
    let config = || JournalConfig { segment_bytes: 8 << 10, ..small_files() };
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), QUEUE);
    for round in 0..3 {
        let from = life.bounds().1;
        for _ in 0..400 {
            life.append(&[Level::Disk]);
            life.write();
        }
        assert!(segments(&files, 1).len() > 4, "{:?}", segments(&files, 1));
        life.store.release(life.log, from.max(1), from + 400, Level::Disk);
        life.write();
        // Without a checkpoint that says so, and then with the files gone that it names.
        for start in 0..2 * round {
            life.kill();
            life = Life::of(&files, config(), QUEUE);
            let report = life.journal.report();
            assert!(report.damage.is_empty(), "start {start}: {}", report.summary());
            assert_eq!((life.bounds(), life.count()), ((0, from + 400), 1), "start {start}");
            assert!(segments(&files, 1).len() <= 2, "{:?}", segments(&files, 1));
        }
        life.make_checkpoints();
        // The one with the message, and the last one, which may be filed to.
        assert!(segments(&files, 1).len() <= 2, "{:?}", segments(&files, 1));
        assert_eq!((life.bounds(), life.count()), ((0, from + 400), 1), "round {round}");
    }
}

/// Those around it in its block are whole.
#[test]
fn one_damaged_message_in_a_segment_costs_no_other() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, small_files(), QUEUE);
    for time_ms in [1_000, 2_000, 3_000] {
        life.append_at(time_ms);
    }
    life.make_checkpoints();
    life.end();
    let text = b"taken at 2000";
    let mut segments = files.paths().into_iter().filter(|path| path.starts_with("logs/"));
    let found = segments.find_map(|path| {
        let bytes = files.bytes(&path)?;
        let at = bytes.windows(text.len()).position(|some| some == text)?;
        Some((path, at as u64))
    });
    let (path, at) = found.expect("it is filed");
    files.flip_bit(&path, at, 0);
    let life = Life::of(&files, small_files(), QUEUE);
    let read = |from| {
        let mut records = Vec::new();
        life.store.read(life.log, from, usize::MAX, &mut records)?;
        Ok(records.iter().map(|piece| (piece.offset, piece.batch.len())).collect::<Vec<_>>())
    };
    assert_eq!(read(0), Ok(vec![(0, 1)]));
    assert_eq!(read(1), Err(StoreError::Damaged { from: 1, to: 2 }));
    assert_eq!(read(2), Ok(vec![(2, 1)]));
}

/// A broker that gave offsets again has told of them before it did.
#[test]
fn what_was_settled_before_offsets_were_given_again_is_not_said_of_them() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), QUEUE);
    life.store.release(life.log, 3, 4, Level::Os);
    life.append(&[Level::Disk; 5]);
    life.end();
    assert_eq!(Life::of(&files, config(), QUEUE).count(), 5);
}

/// A group's log has no records, and its settlements say nothing of its end.
#[test]
fn what_a_group_has_settled_out_of_order_stays_so() {
    let files = Arc::new(SimFiles::new(1));
    for start in 0..3 {
        let mut life = Life::of(&files, config(), "group/flights/audit/0");
        assert_eq!(life.settled(0), (start > 0).then_some(3..5 + start));
        life.store.release(life.log, 3, 6 + start, Level::Os);
        life.end();
    }
}
