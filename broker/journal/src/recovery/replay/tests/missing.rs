//! Blocks that are missing: what of it is lost is told, no more than that is closed, and
//! what was given up stays so.

use std::ops::Range;
use std::sync::Arc;

use weir_core::command::Level;
use weir_core::store::{Store, StoreError};

use super::{Life, QUEUE, Still, checkpoint, config, late_checkpoints};
use crate::recovery::Damage;
use crate::sim::SimFiles;
use crate::tools::{accept_all_losses, accept_loss};

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
            assert!(!life.takes_more(), "{kept}");
            life.end();
        }
    }
}

/// It may have named logs, and said what the catalogue says.
#[test]
fn a_lost_block_is_told_when_its_records_are_settled() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), QUEUE);
    life.append(&[Level::Disk]);
    life.write();
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.append(&[Level::Disk]);
    life.store.release(life.log, 0, 3, Level::Disk);
    life.end();
    damage_block_of(&files, b"lost");
    for _ in 0..2 {
        let mut life = Life::of(&files, config(), QUEUE);
        assert_eq!(life.journal.report().damage.len(), 1);
        assert!(!life.has_lost() && life.takes_more(), "{:?}", life.journal.report());
        life.end();
    }
    accept_all_losses(files.clone(), Arc::new(Still), config()).unwrap();
    let life = Life::of(&files, config(), QUEUE);
    assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
}

/// A start finds what is lost, and somebody gives it up.
fn give_up(files: &Arc<SimFiles>) {
    drop(Life::of(files, late_checkpoints(), QUEUE));
    accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
}

/// A queue with these records, each in a block of its own.
fn one_by_one(files: &Arc<SimFiles>, payloads: &[&[u8; 4]]) -> Life {
    let mut life = Life::of(files, config(), QUEUE);
    for payload in payloads {
        life.append_payload(life.log, Level::Disk, *payload).unwrap();
        life.write();
    }
    life
}

/// What takes the place of records 4 and 5 in [`come_back`].
const SUCCESSORS: [(&[u8; 4], Level); 2] = [(b"next", Level::Disk), (b"last", Level::Disk)];

/// A log whose records 3, 4 and 5 were lost, given up and are back behind these successors,
/// the first of which is 4. The file that they lie in.
fn come_back(files: &Arc<SimFiles>, is_settled: bool, successors: &[(&[u8; 4], Level)]) -> String {
    let mut life = Life::of(files, config(), QUEUE);
    life.append(&[Level::Disk; 3]);
    life.write();
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.append(&[Level::Disk; 2]);
    if is_settled {
        life.store.release(life.log, 0, 6, Level::Disk);
    }
    life.end();
    let (path, held) = damage_block_of(files, b"lost");
    give_up(files);
    let mut life = Life::of(files, late_checkpoints(), QUEUE);
    for &(payload, level) in successors {
        life.append_payload(life.log, level, payload).unwrap();
        life.write();
    }
    life.end();
    files.damage(&path, &held, 0);
    path
}

/// The payloads of four bytes from `offset` on, one by one.
fn payloads(life: &Life, mut offset: u64) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    while offset < life.bounds().1 {
        let mut records = Vec::new();
        life.store.read(life.log, offset, 1 << 20, &mut records).unwrap();
        let Some(first) = records.first() else { break };
        let payload = first.batch.bytes[..first.batch.ends[0] as usize].last_chunk::<4>();
        found.push((first.offset, String::from_utf8_lossy(payload.unwrap()).into_owned()));
        offset = first.offset + 1;
    }
    found
}

/// They were given up, and their successors acknowledged after that: in the start that finds
/// them, from segments, and when they have left the journal.
#[test]
fn records_that_come_back_behind_their_successors_stay_given_up() {
    for is_settled in [false, true] {
        let files = Arc::new(SimFiles::new(1));
        let path = come_back(&files, is_settled, &SUCCESSORS);
        let expected = [(4, "next".to_owned()), (5, "last".to_owned())];
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
        assert_eq!(payloads(&life, 3), expected, "{is_settled}");
        assert_eq!(life.bounds().1, 6);
        let aside = life.journal.report().set_aside.iter().map(|it| (it.from, it.to));
        assert_eq!(aside.collect::<Vec<_>>(), if is_settled { vec![] } else { vec![(4, 6)] });
        while is_replayed(&files, &path) {
            life.make_checkpoint(&files, "queue/later");
        }
        assert_eq!(payloads(&life, 3), expected, "filed, {is_settled}");
        life.end();
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
        assert_eq!(payloads(&life, 3), expected, "behind, {is_settled}");
        assert!(life.takes_more());
    }
}

/// Nor in place of one that is missing, or that was kept in memory only.
#[test]
fn records_that_come_back_stand_for_no_others() {
    let files = Arc::new(SimFiles::new(1));
    come_back(&files, false, &SUCCESSORS);
    damage_block_of(&files, b"next");
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    let lost: Vec<_> = life.journal.report().lost().map(|lost| (lost.from, lost.to)).collect();
    assert_eq!((lost, life.takes_more()), (vec![(4, 5)], false));
    assert_eq!(payloads(&life, 5), [(5, "last".to_owned())]);

    let files = Arc::new(SimFiles::new(1));
    let in_memory = (b"gone", Level::Memory);
    come_back(&files, false, &[in_memory, in_memory, (b"more", Level::Disk)]);
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    assert_eq!(payloads(&life, 3), [(6, "more".to_owned())]);
}

/// Retention by bytes would trim what is good for it.
#[test]
fn what_was_given_up_and_is_back_counts_for_nothing() {
    let files = Arc::new(SimFiles::new(1));
    let life = one_by_one(&files, &[b"one.", b"lost", b"two."]);
    let bytes = life.store.bounds(life.log).bytes;
    life.end();
    let (path, held) = damage_block_of(&files, b"lost");
    give_up(&files);
    files.damage(&path, &held, 0);
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
    assert_eq!(life.store.bounds(life.log).bytes, bytes / 3 * 2);
}

/// After [`come_back`]: the file that says that they were given up, which is the one before
/// that of the successors.
fn file_of_acceptance(files: &SimFiles) -> String {
    let is_journal = |path: &String| path.starts_with("journal/j-");
    let last = files.paths().into_iter().rfind(is_journal).unwrap();
    let is_before = |path: &String| is_journal(path) && *path < last;
    files.paths().into_iter().rfind(is_before).unwrap()
}

/// Nobody has it any more.
#[test]
fn offsets_that_two_records_had_are_not_told_of_a_removed_log() {
    for is_removed in [false, true] {
        let files = Arc::new(SimFiles::new(1));
        come_back(&files, false, &SUCCESSORS);
        let acceptance = file_of_acceptance(&files);
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        if is_removed {
            life.store.remove(life.log).unwrap();
        }
        life.end();
        files.damage(&acceptance, &[0; 512], 4096);
        let life = Life::of(&files, late_checkpoints(), QUEUE);
        let damage = &life.journal.report().damage;
        let is_told = damage.iter().any(|one| one.what.contains("given twice"));
        assert_eq!(is_told, !is_removed, "{damage:?}");
    }
}

/// The block may be lost that says that they were given up.
#[test]
fn offsets_that_two_records_have_close_a_log_when_nobody_gave_one_up() {
    for is_settled in [false, true] {
        let files = Arc::new(SimFiles::new(1));
        come_back(&files, is_settled, &SUCCESSORS);
        files.damage(&file_of_acceptance(&files), &[0; 512], 4096);
        let mut ends = Vec::new();
        for _ in 0..3 {
            let mut life = Life::of(&files, late_checkpoints(), QUEUE);
            assert!(life.has_lost() && !life.takes_more(), "{:?}", life.journal.report());
            ends.push(life.bounds().1);
            life.make_checkpoint(&files, "queue/later");
            life.end();
        }
        assert_eq!(ends, [ends[0]; 3]);
        accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
        assert!(life.takes_more());
        assert_eq!(payloads(&life, 4)[..2], [(4, "next".to_owned()), (5, "last".to_owned())]);
    }
}

/// The rest was given up with it.
#[test]
fn an_end_that_was_given_up_and_is_back_in_part_is_no_loss_any_more() {
    let files = Arc::new(SimFiles::new(1));
    let life = one_by_one(&files, &[b"one.", b"end1", b"end2"]);
    life.end();
    damage_block_of(&files, b"end2");
    let (path, held) = damage_block_of(&files, b"end1");
    give_up(&files);
    files.damage(&path, &held, 0);
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(!life.has_lost() && life.takes_more(), "{:?}", life.journal.report());
}

/// Only what reaches the log's end says where that was.
#[test]
fn an_end_that_nobody_gave_up_is_not_set_aside() {
    let files = Arc::new(SimFiles::new(1));
    let life = one_by_one(&files, &[b"one.", b"lost", b"two.", b"end1", b"end2"]);
    life.end();
    let (path, held) = damage_block_of(&files, b"end1");
    damage_block_of(&files, b"end2");
    damage_block_of(&files, b"lost");
    let lost_in_the_middle = files.bytes(&path).unwrap();
    drop(Life::of(&files, late_checkpoints(), QUEUE));
    accept_loss(files.clone(), Arc::new(Still), late_checkpoints(), QUEUE, 1..2).unwrap();
    let mut restored = held;
    let at = restored.windows(4).rposition(|part| part == b"lost").unwrap() / 512 * 512;
    restored[at..at + 512].copy_from_slice(&lost_in_the_middle[at..at + 512]);
    files.damage(&path, &restored, 0);
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert_eq!(life.journal.report().set_aside, []);
    let expected = [(2, "two."), (3, "end1"), (4, "end2")];
    assert_eq!(payloads(&life, 1), expected.map(|(offset, text)| (offset, text.to_owned())));
    assert!(life.takes_more(), "{:?}", life.journal.report());
}

/// What was settled of them stays so, whatever was settled of those that were there before.
#[test]
fn what_was_settled_of_successors_stays_so() {
    let files = Arc::new(SimFiles::new(1));
    come_back(&files, true, &SUCCESSORS);
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    life.end();
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    life.store.release(life.log, 4, 5, Level::Disk);
    life.end();
    for _ in 0..2 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert_eq!(payloads(&life, 3), [(5, "last".to_owned())]);
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
}

/// Also where it was closed for a block that had nothing of it.
#[test]
fn an_offset_that_was_given_up_is_not_given_again() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = Life::of(&files, config(), QUEUE);
    let other = life.store.open("queue/other").unwrap();
    life.append(&[Level::Disk; 3]);
    life.write();
    life.append_payload(other, Level::Disk, b"lost").unwrap();
    life.end();
    let (path, held) = damage_block_of(&files, b"lost");
    give_up(&files);
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    life.append_payload(life.log, Level::Disk, b"next").unwrap();
    life.write();
    let other = life.store.open("queue/other").unwrap();
    life.append_to(other, Level::Disk).unwrap();
    life.end();
    files.damage(&path, &held, 0);
    damage_block_of(&files, b"next");
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(!life.takes_more(), "{:?}", life.journal.report());
}

/// Where the last block that holds such a record begins: path, byte.
fn block_of(files: &SimFiles, payload: &[u8]) -> (String, u64) {
    let paths = files.paths().into_iter().filter(|path| path.starts_with("journal/j-"));
    let found = paths.filter_map(|path| {
        let bytes = files.bytes(&path).unwrap();
        let at = bytes.windows(payload.len()).rposition(|part| part == payload)?;
        Some((path, at as u64 / 512 * 512))
    });
    found.max().unwrap()
}

/// Makes the block that holds this record unreadable. Its file, and what that held.
fn damage_block_of(files: &SimFiles, payload: &[u8]) -> (String, Vec<u8>) {
    let (path, at) = block_of(files, payload);
    let held = files.bytes(&path).unwrap();
    files.damage(&path, &[0; 512], at);
    (path, held)
}

/// Whether a start would read this journal file.
fn is_replayed(files: &SimFiles, path: &str) -> bool {
    let sequence = u64::from_str_radix(&path["journal/j-".len()..][..16], 16).unwrap();
    checkpoint(files).replay_from <= sequence
}

/// As [`damage_block_of`], with all behind it: it must be in the last file.
fn damage_from(files: &SimFiles, payload: &[u8]) -> (String, Vec<u8>) {
    let (path, at) = block_of(files, payload);
    let held = files.bytes(&path).unwrap();
    files.damage(&path, &vec![0; held.len() - at as usize], at);
    (path, held)
}

/// A process that has written 100 KiB to `queue/other`.
fn filled(files: &Arc<SimFiles>) -> Life {
    let mut life = Life::of(files, late_checkpoints(), QUEUE);
    let other = life.store.open("queue/other").unwrap();
    while life.write() < 100 << 10 {
        life.append_to(other, Level::Disk).unwrap();
    }
    life
}

/// A log that has lost its last record, in a late journal file. Before that it had these
/// records; a checkpoint has seen that those of memory are gone, where one `passes_over`
/// them. Path of that file.
fn lost_end(files: &Arc<SimFiles>, before: &[Level], passes_over: bool) -> String {
    let mut life = filled(files);
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
    damage_block_of(files, b"lost").0
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
            assert!(is_replayed(&files, &damaged), "{case}: too late");
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
    let (damaged, _) = damage_block_of(&files, b"lost");
    assert!(is_replayed(&files, &damaged), "too late");
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

/// How many blocks there were behind it nothing tells: those that are known may be all that
/// a checkpoint has.
#[test]
fn what_nothing_speaks_for_behind_the_damage_may_be_lost_too() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    life.append(&[Level::Disk]);
    life.make_checkpoint(&files, "queue/other");
    let last_covered = life.last_payload.clone();
    for _ in 0..3 {
        life.append(&[Level::Disk]);
        life.write();
    }
    life.kill();
    damage_from(&files, &last_covered);
    for _ in 0..3 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.has_lost(), "{:?}", life.journal.report());
        assert!(!life.takes_more(), "offsets would be given again");
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
}

/// What a checkpoint says of a log that was closed then is not its end.
#[test]
fn an_end_that_comes_back_in_part_is_lost_in_part() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    for payload in [b"rec-0", b"rec-1", b"rec-2", b"rec-3"] {
        life.append_payload(life.log, Level::Disk, payload).unwrap();
        life.write();
    }
    life.end();
    let (path, held) = damage_from(&files, b"rec-0");
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(!life.takes_more());
    life.make_checkpoint(&files, "queue/later");
    life.end();
    files.damage(&path, &held, 0);
    for payload in [b"rec-2", b"rec-3"] {
        damage_block_of(&files, payload);
    }
    for _ in 0..3 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.has_lost(), "{:?}", life.journal.report());
        assert_eq!((life.bounds().0, life.count()), (0, 2));
        assert!(!life.takes_more(), "offsets would be given again");
        life.end();
    }
}

#[test]
fn what_was_settled_behind_a_checkpoint_is_no_loss() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.make_checkpoint(&files, "queue/other");
    life.store.release(life.log, 0, 1, Level::Disk);
    life.end();
    damage_block_of(&files, b"lost");
    for count in 1..4 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(!life.has_lost(), "{:?}", life.journal.report());
        assert_eq!(life.journal.report().damage.len(), 1, "its blocks are missing all the same");
        assert!(life.takes_more());
        assert_eq!(life.bounds(), (1, 1 + count));
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
}

/// The older one must not take its place.
#[test]
fn a_log_whose_removal_is_lost_is_not_the_next_of_its_name() {
    for _ in 0..8 {
        let files = Arc::new(SimFiles::new(1));
        let mut life = Life::of(&files, config(), "queue/other");
        let old = life.store.open(QUEUE).unwrap();
        life.append_to(old, Level::Disk).unwrap();
        life.write();
        life.store.remove(old).unwrap();
        life.append_payload(life.log, Level::Disk, b"lost").unwrap();
        life.write();
        let new = life.store.open(QUEUE).unwrap();
        for _ in 0..2 {
            life.append_to(new, Level::Disk).unwrap();
        }
        life.end();
        damage_block_of(&files, b"lost");
        let life = Life::of(&files, config(), QUEUE);
        assert_eq!((life.bounds(), life.count()), ((0, 2), 2));
    }
}

/// An older checkpoint knows less: what nobody has given up must be told.
#[test]
fn no_log_is_closed_without_a_word() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    life.make_checkpoint(&files, "queue/other");
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.store.release(life.log, 0, 1, Level::Disk);
    life.write();
    life.make_checkpoint(&files, "queue/other");
    life.end();
    damage_block_of(&files, b"lost");
    accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
    life.end();
    let newest = files.paths().into_iter().filter(|path| path.starts_with("checkpoint-")).max();
    files.damage(&newest.unwrap(), &[0; 4096], 0);
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(life.journal.report().checkpoint_fallback.is_some());
    assert_eq!(life.takes_more(), !life.has_lost());
}

/// What is still said of it must not be said of another.
#[test]
fn the_number_of_a_log_whose_name_is_lost_is_not_given_again() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    let log = life.store.open("queue/new").unwrap();
    life.append_payload(log, Level::Disk, b"lost").unwrap();
    life.write();
    life.store.release(log, 0, 1, Level::Disk);
    life.end();
    let (path, held) = damage_block_of(&files, b"lost");
    let mut life = Life::of(&files, late_checkpoints(), "queue/new");
    life.append(&[Level::Disk; 2]);
    life.make_checkpoint(&files, "queue/later");
    life.end();
    for is_put_back in [false, true] {
        if is_put_back {
            files.damage(&path, &held, 0);
        }
        let life = Life::of(&files, late_checkpoints(), "queue/new");
        assert_eq!((life.bounds(), life.count()), ((0, 2), 2), "put back: {is_put_back}");
        life.end();
    }
}

#[test]
fn messages_in_memory_behind_a_hole_are_no_loss() {
    let files = Arc::new(SimFiles::new(1));
    lost_end(&files, &[Level::Disk], false);
    give_up(&files);
    for _ in 0..3 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
        assert!(life.takes_more());
        life.append(&[Level::Memory; 2]);
        let new = life.store.open("queue/new").unwrap();
        life.append_to(new, Level::Memory).unwrap();
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
}

/// Those of them that were lost and settled are not given again either.
#[test]
fn what_was_settled_of_an_end_that_was_given_up_is_not_said_of_others() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.append(&[Level::Disk; 2]);
    life.write();
    life.store.release(life.log, 0, 3, Level::Disk);
    life.end();
    damage_block_of(&files, b"lost");
    give_up(&files);
    for count in 1..4 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.takes_more(), "{count}: {:?}", life.journal.report());
        life.make_checkpoint(&files, "queue/later");
        assert_eq!((life.bounds().1, life.count()), (3 + count, count as usize));
        life.end();
    }
}

/// Until it is given up, whatever has become of the file.
#[test]
fn a_loss_is_told_when_its_file_is_gone() {
    let files = Arc::new(SimFiles::new(1));
    let damaged = lost_end(&files, &[Level::Disk], false);
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    while is_replayed(&files, &damaged) {
        life.make_checkpoint(&files, "queue/later");
    }
    life.end();
    for _ in 0..2 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        assert!(life.has_lost() && !life.takes_more(), "{:?}", life.journal.report());
        // As retention would.
        life.store.trim(life.log, life.bounds().1);
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
    accept_all_losses(files.clone(), Arc::new(Still), late_checkpoints()).unwrap();
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    assert!(life.journal.report().damage.is_empty(), "{:?}", life.journal.report());
    assert!(life.takes_more());
}

#[test]
fn each_hole_is_told_with_what_it_has_cost() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    for payload in [b"rec-0", b"rec-1", b"rec-2"] {
        life.append_payload(life.log, Level::Disk, payload).unwrap();
        life.write();
    }
    life.append(&[Level::Memory]);
    life.make_checkpoint(&files, "queue/other");
    life.end();
    for payload in [b"rec-0", b"rec-2"] {
        damage_block_of(&files, payload);
    }
    for _ in 0..3 {
        let mut life = Life::of(&files, late_checkpoints(), QUEUE);
        let damage = life.journal.report().damage.iter();
        let lost = |damage: &Damage| {
            damage.lost.iter().map(|lost| (lost.from, lost.to)).collect::<Vec<_>>()
        };
        let told: Vec<_> = damage.map(lost).collect();
        assert_eq!(told, [[(0, 1)], [(2, 3)]], "{:?}", life.journal.report());
        life.make_checkpoint(&files, "queue/later");
        life.end();
    }
}

/// The checkpoint was made by a life that did not know of it.
#[test]
fn a_log_of_which_a_checkpoint_does_not_know_is_kept() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    let new = life.store.open("queue/new").unwrap();
    life.append_payload(new, Level::Disk, b"rec-0").unwrap();
    life.write();
    for payload in [b"rec-1", b"rec-2"] {
        life.append_payload(life.log, Level::Disk, payload).unwrap();
        life.write();
    }
    life.end();
    let (path, held) = damage_from(&files, b"rec-0");
    let mut life = Life::of(&files, late_checkpoints(), QUEUE);
    life.make_checkpoint(&files, "queue/later");
    life.end();
    files.damage(&path, &held, 0);
    damage_block_of(&files, b"rec-2");
    for _ in 0..3 {
        assert!(checkpoint(&files).logs.iter().all(|log| log.name != "queue/new"));
        let mut life = Life::of(&files, late_checkpoints(), "queue/new");
        assert_eq!(life.count(), 1, "{:?}", life.journal.report());
        assert!(life.journal.report().lost().any(|lost| lost.log == "queue/new"));
        assert!(!life.takes_more());
        life.end();
    }
}

/// Its records may be in blocks that are read.
#[test]
fn a_queue_that_was_removed_in_a_hole_does_not_come_back() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    let removed = life.store.open("queue/removed").unwrap();
    life.append_payload(removed, Level::Disk, b"opened").unwrap();
    life.write();
    let opened = block_of(&files, b"opened").0;
    while is_replayed(&files, &opened) {
        life.append_to(removed, Level::Disk).unwrap();
        life.make_checkpoint(&files, "queue/other");
    }
    life.append_payload(removed, Level::Disk, b"read").unwrap();
    life.write();
    life.store.remove(removed).unwrap();
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.make_checkpoint(&files, "queue/other");
    life.end();
    assert!(is_replayed(&files, &block_of(&files, b"read").0), "too late");
    damage_block_of(&files, b"lost");
    let life = Life::of(&files, late_checkpoints(), QUEUE);
    let lost: Vec<_> = life.journal.report().lost().map(|lost| lost.log.as_str()).collect();
    assert_eq!(lost, [QUEUE]);
}

/// What it had settled would be said of another stream.
#[test]
fn a_group_that_was_removed_in_a_hole_does_not_come_back() {
    let files = Arc::new(SimFiles::new(1));
    let mut life = filled(&files);
    let cursor = life.store.open("group/flights/audit/0").unwrap();
    life.store.release(cursor, 0, 3, Level::Disk);
    life.write();
    life.store.remove(cursor).unwrap();
    life.append_payload(life.log, Level::Disk, b"lost").unwrap();
    life.write();
    life.make_checkpoint(&files, "queue/other");
    life.end();
    damage_block_of(&files, b"lost");
    let life = Life::of(&files, late_checkpoints(), "group/flights/audit/0");
    assert_eq!(life.bounds().0, 0);
}
