//! Sparse segments are written again.

use std::collections::BTreeMap;

use weir_core::command::Level;

use super::harness::{Harness, STORE, place_of, policy, record, recover};
use crate::files::Files;
use crate::format::Found;
use crate::keeper::{Idle, KeeperEvent, KeeperPolicy};
use crate::segment::{self, Segment, Sizes};
use crate::sim::{Effect, Fault, Operation};

/// Bytes of a second in tests that look at each step.
const SLOW: u64 = 3_000;

fn rewriting(rewrite_bytes_per_second: u64) -> KeeperPolicy {
    let sizes = Sizes { block_bytes: 1_000, segment_bytes: 40_000 };
    KeeperPolicy { sizes, rewrite_bytes_per_second, ..policy() }
}

/// Log 3 has sealed segments, and most of what is in them is settled in small holes.
/// The next checkpoint knows.
fn sparse(policy: KeeperPolicy) -> (Harness, Vec<Segment>) {
    let mut harness = Harness::new(policy);
    harness.append(&[(1, 1), (2, 1)]);
    for _ in 0..7 {
        (0..8).for_each(|_| harness.append(&[(3, 30), (4, 3)]));
        harness.roll();
    }
    harness.settle().unwrap();
    let segments = sealed(&harness);
    assert!(segments.len() >= 3, "{} sealed", segments.len());
    for segment in &segments {
        for base in (segment.base..segment.end).step_by(10) {
            harness.release(3, base + 1, (base + 10).min(segment.end));
        }
    }
    harness.keeper.checkpoint_now();
    (harness, segments)
}

fn sealed(harness: &Harness) -> Vec<Segment> {
    let mut model = harness.rest.model();
    model.log(3).segments.iter().filter(|segment| segment.sealed).cloned().collect()
}

fn path(segment: &Segment) -> String {
    segment::path(3, segment.base, segment.revision)
}

fn rewritten(harness: &Harness) -> usize {
    let model = harness.rest.model();
    model.events.iter().filter(|event| matches!(event, KeeperEvent::Rewritten { .. })).count()
}

fn damages(harness: &Harness) -> usize {
    let model = harness.rest.model();
    model.events.iter().filter(|event| matches!(event, KeeperEvent::Damage(_))).count()
}

fn checkpoint(harness: &mut Harness) {
    harness.keeper.checkpoint_now();
    harness.settle().unwrap();
}

/// Bytes of all files of log 3.
fn folder_bytes(harness: &Harness) -> u64 {
    harness.files.list(&segment::folder(3)).unwrap().iter().map(|entry| entry.len).sum()
}

fn has_temporary(harness: &Harness) -> bool {
    harness.files.paths().iter().any(|path| path.ends_with(".tmp"))
}

/// Level, times and bytes of what is in segments of log 3 and not settled.
fn stored(harness: &Harness) -> BTreeMap<u64, (Level, u64, u64, Vec<u8>)> {
    let mut model = harness.rest.model();
    let log = model.log(3);
    let mut found = BTreeMap::new();
    for one in &log.segments {
        let file = harness.files.open(&path(one)).unwrap();
        let identity = segment::identity(STORE, one.base, one.revision);
        for block in &one.blocks {
            for piece in segment::read_pieces(&*file, identity, 3, block).unwrap() {
                for (offset, bytes) in (piece.base..).zip(piece.batch.iter()) {
                    let stamp = piece.stamp;
                    let is_new = !log.released.contains(&offset)
                        && found
                            .insert(
                                offset,
                                (piece.level, stamp.time_ms, stamp.due_ms, bytes.to_vec()),
                            )
                            .is_some();
                    assert!(!is_new, "offset {offset} twice");
                }
            }
        }
    }
    found
}

#[test]
fn what_lives_is_kept_byte_for_byte_and_the_space_comes_back() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    let (before, expected) = (folder_bytes(&harness), stored(&harness));
    let contents = harness.rest.model().contents();
    // Readers have the old files open.
    harness.check_stores();
    harness.settle().unwrap();
    assert_eq!(rewritten(&harness), old.len());
    let new = sealed(&harness);
    for (old, new) in old.iter().zip(&new) {
        assert_eq!((new.base, new.revision), (old.base, 1));
        assert!(new.len * 2 < old.len, "{} of {}", new.len, old.len);
        assert!(harness.files.bytes(&path(old)).is_some(), "the checkpoint names it");
    }
    assert_eq!(stored(&harness), expected);
    harness.check_stores();
    checkpoint(&mut harness);
    assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_some()), "the one before does");
    assert_eq!(recover(&harness.files, false), contents);
    assert_eq!(recover(&harness.files, true), contents);
    checkpoint(&mut harness);
    assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_none()));
    let all: u64 = harness.rest.model().log(3).segments.iter().map(|one| one.len).sum();
    assert_eq!(folder_bytes(&harness), all, "nothing is left over");
    assert!(all * 2 < before, "{all} of {before}");
    assert_eq!(stored(&harness), expected);
    harness.check_stores();
    assert_eq!(recover(&harness.files, false), contents);
    assert_eq!(recover(&harness.files, true), contents);
    // It has come to an end.
    let count = rewritten(&harness);
    (0..3).for_each(|_| checkpoint(&mut harness));
    assert_eq!(rewritten(&harness), count);
    harness.start_again(rewriting(1 << 20));
    checkpoint(&mut harness);
    assert_eq!((rewritten(&harness), stored(&harness)), (0, expected));
    harness.check_stores();
}

#[test]
fn checkpoints_come_by_themselves_to_give_the_space_back() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    for _ in 0..4 {
        harness.settle().unwrap();
        harness.clock.advance(10_000);
    }
    harness.settle().unwrap();
    assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_none()));
}

#[test]
fn one_that_gets_sparse_again_is_written_again() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    harness.settle().unwrap();
    // A run of records stays at the end of each.
    for segment in &old {
        harness.release(3, segment.base, segment.end - 30);
    }
    for segment in sealed(&harness) {
        assert_eq!(segment.revision, 1);
    }
    (0..3).for_each(|_| checkpoint(&mut harness));
    harness.check_stores();
    let contents = harness.rest.model().contents();
    assert_eq!(recover(&harness.files, false), contents);
    assert_eq!(recover(&harness.files, true), contents);
    // All that it can still win is less than is worth it.
    let win = rewriting(0).sizes.segment_bytes / crate::limits::SPARSE_WIN_SHARE;
    for segment in sealed(&harness) {
        assert!(segment.revision == 2 || segment.len < 2 * (4_096 + win) + 8_192);
    }
}

#[test]
fn what_is_mostly_alive_is_left_as_it_is() {
    let mut harness = Harness::new(rewriting(1 << 20));
    for _ in 0..7 {
        (0..8).for_each(|_| harness.append(&[(3, 30)]));
        harness.roll();
    }
    harness.settle().unwrap();
    for segment in sealed(&harness) {
        // Four of ten.
        for base in (segment.base..segment.end).step_by(10) {
            harness.release(3, base, (base + 4).min(segment.end));
        }
    }
    (0..3).for_each(|_| checkpoint(&mut harness));
    assert_eq!((rewritten(&harness), has_temporary(&harness)), (0, false));
}

#[test]
fn what_was_never_filed_does_not_make_a_segment_sparse() {
    let mut harness = Harness::new(rewriting(1 << 20));
    for _ in 0..24 {
        for _ in 0..8 {
            harness.append(&[(3, 30)]);
            let end = harness.rest.model().log(3).end;
            harness.release(3, end - 27, end);
        }
        harness.roll();
        harness.settle().unwrap();
    }
    assert!(!sealed(&harness).is_empty());
    (0..3).for_each(|_| checkpoint(&mut harness));
    assert_eq!(rewritten(&harness), 0);
}

#[test]
fn what_is_settled_meanwhile_stays_settled() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    harness.rest.model().holds_asks = true;
    harness.keeper.step().unwrap();
    harness.rest.answer();
    // The checkpoint is in place, and does not know of this.
    for segment in &old {
        harness.release(3, segment.base, segment.base + 35);
    }
    harness.settle().unwrap();
    assert_eq!(rewritten(&harness), old.len());
    harness.release(3, old[0].base + 35, old[0].base + 55);
    let contents = harness.rest.model().contents();
    harness.rest.answer();
    harness.rest.model().holds_asks = false;
    harness.check_stores();
    for _ in 0..3 {
        assert_eq!(recover(&harness.files, false), contents);
        assert_eq!(recover(&harness.files, true), contents);
        checkpoint(&mut harness);
        harness.check_stores();
    }
    assert!(sealed(&harness).iter().all(|segment| segment.revision > 0));
}

#[test]
fn one_that_is_emptied_at_any_moment_goes() {
    // Before, while and after it is written again; and with the log.
    for moment in (0..40).step_by(3) {
        for whole in [false, true] {
            let (mut harness, old) = sparse(rewriting(SLOW));
            harness.settle().unwrap();
            for _ in 0..moment {
                harness.clock.advance(1_000);
                harness.settle().unwrap();
            }
            harness.rest.model().holds_asks = true;
            if whole {
                harness.remove(3);
            } else {
                harness.release(3, 0, old.last().unwrap().end);
            }
            harness.clock.advance(1_000);
            harness.settle().unwrap();
            assert!(!has_temporary(&harness), "moment {moment}: it is written for nothing");
            harness.rest.model().holds_asks = false;
            harness.rest.answer();
            for _ in 0..4 {
                harness.clock.advance(10_000);
                harness.settle().unwrap();
            }
            let names = harness.files.list(&segment::folder(3)).unwrap();
            let gone: Vec<u64> = old.iter().map(|old| old.base).collect();
            for name in names.iter().map(|entry| &entry.name) {
                let (base, _) = segment::parse_name(name).unwrap_or_else(|| panic!("{name}"));
                assert!(!whole && !gone.contains(&base), "moment {moment}: {name}");
            }
            let contents = harness.rest.model().contents();
            assert_eq!(recover(&harness.files, false), contents, "moment {moment}");
        }
    }
}

#[test]
fn filing_goes_first_and_waits_for_a_step_at_most() {
    let (mut harness, old) = sparse(rewriting(SLOW));
    harness.settle().unwrap();
    let mut rounds = 0;
    let mut written = harness.files.used_bytes();
    for second in 0.. {
        assert!(second < 200, "it never ends");
        if second % 7 == 3 {
            harness.append(&[(1, 4)]);
            harness.roll();
            harness.clock.advance(1);
            let filed = |harness: &Harness| {
                let model = harness.rest.model();
                let events = model.events.iter();
                events.filter(|event| matches!(event, KeeperEvent::Filed { .. })).count()
            };
            let before = filed(&harness);
            // Collect, file, and nothing in between.
            (0..2).for_each(|_| assert_eq!(harness.keeper.step(), Ok(Idle::No)));
            assert_eq!(filed(&harness), before + 1);
            rounds += 1;
            harness.settle().unwrap();
            written = harness.files.used_bytes();
        }
        harness.clock.advance(1_000);
        harness.keeper.step().unwrap();
        let now = harness.files.used_bytes();
        // A block may be longer than what is left, and a file has a head and a footer.
        assert!(now.saturating_sub(written) <= SLOW + 4_096 + 6_000, "{written} to {now}");
        harness.settle().unwrap();
        written = harness.files.used_bytes();
        if rewritten(&harness) == old.len() {
            break;
        }
    }
    assert!(rounds >= 2, "{rounds} rounds meanwhile");
    harness.check_stores();
    assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
}

#[test]
fn damage_leaves_the_segment_alone_and_is_told() {
    let (harness, old) = sparse(rewriting(0));
    let block = &old[1].blocks[3];
    let bytes = harness.files.bytes(&path(&old[1])).unwrap();
    let live = (block.base..block.end).find(|offset| (offset - old[1].base).is_multiple_of(10));
    let places = [
        30,
        u64::from(block.at) + 9,
        u64::from(block.at) + 70,
        place_of(&bytes, &record(3, live.unwrap())),
        old[1].len - 3,
    ];
    for place in places {
        let scrubbing = KeeperPolicy {
            scrub_period_ms: 100_000,
            scrub_bytes_per_second: 50_000,
            ..rewriting(1 << 20)
        };
        let (mut harness, old) = sparse(scrubbing);
        harness.files.flip_bit(&path(&old[1]), place, 4);
        let before = harness.files.bytes(&path(&old[1]));
        harness.settle().unwrap();
        for _ in 0..3 {
            checkpoint(&mut harness);
        }
        assert_eq!(rewritten(&harness), old.len() - 1, "byte {place}");
        assert!(!has_temporary(&harness), "byte {place}");
        let now = sealed(&harness);
        assert_eq!(now[1], old[1], "byte {place}");
        assert_eq!(harness.files.bytes(&path(&old[1])), before, "byte {place}");
        harness.rest.model().events.clear();
        for _ in 0..40 {
            harness.clock.advance(1_000);
            harness.settle().unwrap();
        }
        assert!(damages(&harness) > 0, "byte {place}: the scrub says nothing");
        assert_eq!(rewritten(&harness), 0);
    }
}

#[test]
fn a_power_cut_anywhere_leaves_the_one_or_the_other() {
    let mut calls = 0;
    loop {
        calls += 1;
        let (mut harness, old) = sparse(rewriting(1 << 20));
        let contents = harness.rest.model().contents();
        harness.files.cut_power_at(calls);
        let mut settled = harness.settle();
        for _ in 0..2 {
            harness.keeper.checkpoint_now();
            settled = settled.and_then(|()| harness.settle());
        }
        if harness.files.has_power() {
            settled.unwrap();
            assert_eq!(rewritten(&harness), old.len());
            break;
        }
        for seed in 0..3 {
            let after = harness.files.fork();
            after.crash(calls * 100 + seed);
            assert_eq!(recover(&after, false), contents, "call {calls}, seed {seed}");
            assert_eq!(recover(&after, true), contents, "call {calls}, seed {seed}");
        }
    }
    assert!(calls > 50, "only {calls} calls");
}

#[test]
fn an_error_anywhere_stops_the_keeper_or_does_no_harm() {
    let operations = [
        Operation::Create,
        Operation::Read,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncFolder,
        Operation::Remove,
    ];
    for operation in operations {
        for nth in 1..20 {
            let (mut harness, _) = sparse(rewriting(1 << 20));
            let contents = harness.rest.model().contents();
            harness.files.arm(Fault::new(operation, nth, Effect::Error).under("logs/"));
            let mut settled = harness.settle();
            for _ in 0..2 {
                harness.keeper.checkpoint_now();
                settled = settled.and_then(|()| harness.settle());
            }
            assert_eq!(settled.is_err(), harness.rest.model().fence.is_some());
            let is_harmless = matches!(operation, Operation::Read | Operation::Remove);
            assert!(settled.is_ok() || !is_harmless, "{operation:?} {nth}: {settled:?}");
            let after = harness.files.fork();
            after.crash(nth);
            assert_eq!(recover(&after, false), contents, "{operation:?} {nth}: {settled:?}");
            assert_eq!(recover(&after, true), contents, "{operation:?} {nth}: {settled:?}");
        }
    }
}

#[test]
fn without_space_it_is_left_for_later_and_nobody_is_refused() {
    for room in (0..30_000).step_by(900) {
        let (mut harness, old) = sparse(rewriting(1 << 20));
        let contents = harness.rest.model().contents();
        harness.keeper.step().unwrap();
        harness.keeper.step().unwrap();
        let used = harness.files.used_bytes();
        harness.files.set_room(used + room);
        harness.settle().unwrap();
        assert!(!has_temporary(&harness), "room {room}");
        assert!(!harness.rest.model().no_space.contains(&true), "room {room}");
        assert_eq!(recover(&harness.files.fork(), false), contents);
        harness.files.set_room(u64::MAX);
        (0..3).for_each(|_| checkpoint(&mut harness));
        assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_none()), "room {room}");
        harness.check_stores();
        assert_eq!(recover(&harness.files, false), contents);
    }
}

#[test]
fn an_old_file_under_the_new_name_is_not_read() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    let stale = harness.files.bytes(&path(&old[0])).unwrap();
    harness.settle().unwrap();
    let new = sealed(&harness)[0].clone();
    let file = harness.files.open(&path(&new)).unwrap();
    file.set_len(0).unwrap();
    file.write_at(&stale, 0).unwrap();
    let identity = segment::identity(STORE, new.base, new.revision);
    for block in old[0].blocks.iter().chain(&new.blocks) {
        assert!(segment::read_pieces(&*file, identity, 3, block).is_err());
        let found = crate::format::read_head_at(&*file, block.at.into(), identity).unwrap();
        assert!(!matches!(found, Found::Block(_)));
    }
}

#[test]
fn a_start_between_two_checkpoints_gets_rid_of_the_old_file_later() {
    let (mut harness, old) = sparse(rewriting(1 << 20));
    harness.settle().unwrap();
    checkpoint(&mut harness);
    let contents = harness.rest.model().contents();
    harness.start_again(rewriting(1 << 20));
    harness.settle().unwrap();
    assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_some()));
    (0..2).for_each(|_| checkpoint(&mut harness));
    assert!(old.iter().all(|old| harness.files.bytes(&path(old)).is_none()));
    harness.check_stores();
    assert_eq!(recover(&harness.files, false), contents);
}
