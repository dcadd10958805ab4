//! Offsets that nothing on the disk has: those of messages kept in memory only are gone
//! with the process, those of a lost block are told.
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::sync::Arc;

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Bounds, LogId, Stamp, Store, StoreError};
use weir_message::BatchBuilder;

use crate::format::{CheckpointContent, FILE_HEAD_BYTES};
use crate::sim::SimFiles;
use crate::tools::accept_all_losses;
use crate::{Journal, JournalConfig, JournalStore};

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

/// Checkpoints that come so late that the damage of [`lost_end`] is still read.
fn late_checkpoints() -> JournalConfig {
    JournalConfig { kept_journal_files: 6, ..small_files() }
}

/// A process with one log open.
struct Life {
    journal: Journal,
    store: JournalStore,
    log: LogId,
}

impl Life {
    fn of(files: &Arc<SimFiles>, config: JournalConfig, log: &str) -> Self {
        let journal = Journal::open_stepped(files.clone(), Arc::new(Still), config, 1).unwrap();
        let mut store = journal.store(Box::new(|| {}));
        let log = store.open(log).unwrap();
        Self { journal, store, log }
    }

    fn append_to(&mut self, log: LogId, level: Level) -> Result<(), StoreError> {
        self.append_payload(log, level, b"payload")
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
            self.append_to(other, Level::Disk).unwrap();
            self.write();
        }
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

/// Makes a part of the first journal file unreadable.
fn damage(files: &SimFiles, part: Range<u64>) {
    let path = files.paths().into_iter().find(|path| path.starts_with("journal/j-")).unwrap();
    files.damage(&path, &vec![0; (part.end - part.start) as usize], part.start);
}

/// The rest is lost all the same, and must be told.
#[test]
fn what_was_settled_of_a_lost_block_does_not_hide_the_rest() {
    for kept in [0, 3] {
        let files = Arc::new(SimFiles::new(1));
        let mut life = Life::of(&files, config(), QUEUE);
        life.append(&vec![Level::Disk; kept]);
        let from = life.write();
        life.append(&[Level::Disk; 5]);
        let to = life.write();
        life.store.release(life.log, kept as u64, kept as u64 + 2, Level::Disk);
        life.end();
        damage(&files, from..to);
        for _ in 0..2 {
            let mut life = Life::of(&files, config(), QUEUE);
            assert!(life.has_lost(), "{kept}: {:?}", life.journal.report().damage);
            let taken = life.append_to(life.log, Level::Disk);
            assert!(matches!(taken, Err(StoreError::Damaged { .. })), "{kept}: {taken:?}");
            life.end();
        }
    }
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

/// The newest checkpoint.
fn checkpoint(files: &SimFiles) -> CheckpointContent {
    let paths = files.paths().into_iter();
    let newest = paths.filter(|path| path.starts_with("checkpoint-")).max();
    newest.map_or_else(CheckpointContent::default, |path| {
        CheckpointContent::decode(&files.bytes(&path).unwrap()).unwrap().1
    })
}

/// Makes the block that holds this record unreadable. Number of its journal file.
fn damage_block_of(files: &SimFiles, payload: &[u8]) -> u64 {
    let mut paths = files.paths().into_iter().filter(|path| path.starts_with("journal/j-"));
    let found = paths.find_map(|path| {
        let bytes = files.bytes(&path).unwrap();
        let at = bytes.windows(payload.len()).position(|part| part == payload)?;
        Some((path, at as u64 / 512 * 512))
    });
    let (path, at) = found.unwrap();
    files.damage(&path, &[0; 512], at);
    u64::from_str_radix(&path["journal/j-".len()..][..16], 16).unwrap()
}

/// A log that has lost its last record, in a late journal file. Before that it had these
/// records; a checkpoint has seen that those of memory are gone, where one `passes_over`
/// them. Number of that file.
fn lost_end(files: &Arc<SimFiles>, before: &[Level], passes_over: bool) -> u64 {
    let mut life = Life::of(files, late_checkpoints(), QUEUE);
    let other = life.store.open("queue/other").unwrap();
    while life.write() < 100 << 10 {
        life.append_to(other, Level::Disk).unwrap();
    }
    life.append(before);
    if passes_over {
        // Only so is anything of them written down.
        life.store.release(life.log, 1, 3, Level::Os);
        life.end();
        life = Life::of(files, late_checkpoints(), QUEUE);
        life.make_checkpoint(files, "queue/other");
    }
    life.write();
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.end();
    damage_block_of(files, b"lost")
}

/// Whatever a checkpoint had seen when one was made: missing blocks, or that they are
/// given up.
#[test]
fn an_end_that_was_given_up_is_no_loss_any_more() {
    let disk: &[Level] = &[Level::Disk; 3];
    let with_memory: &[Level] = &[Level::Disk, Level::Memory, Level::Memory];
    for (before, passes_over, sees_damage) in [
        (&[][..], false, false),
        (&[], false, true),
        (disk, false, false),
        (disk, false, true),
        (with_memory, false, false),
        (with_memory, false, true),
        (with_memory, true, false),
        (with_memory, true, true),
    ] {
        let case = format!("behind {before:?}, {passes_over}, {sees_damage}");
        let files = Arc::new(SimFiles::new(1));
        let damaged = lost_end(&files, before, passes_over);
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.has_lost(), "{case}");
        if sees_damage {
            life.make_checkpoint(&files, "queue/later");
        }
        let end = life.bounds().1;
        life.end();
        accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
        for _ in 0..3 {
            let mut life = Life::of(&files, late_checkpoints(), QUEUE);
            let report = life.journal.report();
            assert!(report.damage.is_empty(), "{case}: {report:?}");
            assert_eq!(life.bounds().1, end, "{case}");
            assert!(checkpoint(&files).replay_from <= damaged, "{case}: too late");
            life.make_checkpoint(&files, "queue/later");
            life.end();
        }
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert_eq!(life.append_to(life.log, Level::Disk), Ok(()), "{case}");
    }
}

/// Giving up what is lost would have it pass over messages that are there.
#[test]
fn a_group_has_no_end_to_lose() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), "group/flights/audit/0");
    life.store.release(life.log, 0, 3, Level::Disk);
    let queue = life.store.open(QUEUE).unwrap();
    life.write();
    life.append_payload(queue, Level::Disk, b"lost").unwrap();
    life.end();
    damage_block_of(&files, b"lost");
    let life = Life::of(&files, config(), "group/flights/audit/0");
    let lost: Vec<_> = life.journal.report().lost().map(|lost| lost.log.clone()).collect();
    assert_eq!(lost, [QUEUE]);
    life.end();
    accept_all_losses(files.clone(), Arc::new(Still), config()).unwrap();
    let life = Life::of(&files, config(), "group/flights/audit/0");
    assert_eq!(life.bounds().0, 3);
}

/// No more is closed than has lost something.
#[test]
fn where_a_checkpoint_knows_the_end_only_what_was_there_is_lost() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), QUEUE);
    let other = life.store.open("queue/other").unwrap();
    life.append_to(other, Level::Disk).unwrap();
    life.end();
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    while life.write() < 100 << 10 {
        life.append(&[Level::Disk]);
    }
    let from = life.bounds().1;
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.make_checkpoint(&files, "queue/later");
    life.end();
    let damaged = damage_block_of(&files, b"lost");
    assert!(checkpoint(&files).replay_from <= damaged, "too late");
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    let lost = life.journal.report().lost().map(|lost| (lost.log.clone(), lost.from, lost.to));
    assert_eq!(lost.collect::<Vec<_>>(), [(QUEUE.to_owned(), from, from + 1)]);
    let other = life.store.open("queue/other").unwrap();
    assert_eq!(life.append_to(other, Level::Disk), Ok(()));
    let refused = Err(StoreError::Damaged { from, to: from + 1 });
    assert_eq!(life.append_to(life.log, Level::Disk), refused);
    life.end();
    accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert_eq!(life.append_to(life.log, Level::Disk), Ok(()));
    assert_eq!(life.bounds().1, from + 2);
}
