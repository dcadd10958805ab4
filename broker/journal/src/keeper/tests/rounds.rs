//! Rounds that nothing disturbs.

use super::harness::{Harness, STORE, journal_path, place_of, policy, record, recover};
use crate::files::Files;
use crate::format::{CheckpointContent, SegmentState};
use crate::keeper::{Idle, KeeperEvent, Told};
use crate::segment;
use crate::sim::{Effect, Fault, Operation};

#[test]
fn nothing_is_filed_while_few_files_wait() {
    let mut harness = Harness::new(policy());
    harness.fill(2);
    harness.settle().unwrap();
    assert!(harness.rest.model().events.is_empty());
    assert!(harness.files.paths().iter().all(|path| !path.starts_with("logs/")));
}

#[test]
fn a_round_files_exactly_what_is_alive() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    let before = harness.rest.model().contents();
    harness.settle().unwrap();
    harness.check_stores();
    assert_eq!(harness.rest.model().contents(), before);
    assert_eq!(recover(&harness.files, false), before);
    let model = harness.rest.model();
    let filed: u64 = model
        .stores
        .iter()
        .flatten()
        .flat_map(|(_, log)| &log.segments)
        .flat_map(|segment| &segment.blocks)
        .map(|block| u64::from(block.live))
        .sum();
    let KeeperEvent::Filed { through, records, .. } = model.events[0] else { panic!() };
    assert_eq!((through, records), (1, filed));
    let live_of_first: u64 = model
        .stores
        .iter()
        .flatten()
        .map(|(_, log)| {
            let filed = log.segments.last().map_or(0, |segment| segment.end);
            (0..filed).filter(|offset| !log.released.contains(offset)).count() as u64
        })
        .sum();
    assert_eq!(filed, live_of_first, "released records are not copied");
    assert!(matches!(model.events[1], KeeperEvent::Checkpoint { number: 1, replay_from: 2 }));
}

/// What is synced while its logs are captured may not be in it.
#[test]
fn a_checkpoint_answers_for_what_was_synced_before_it_looked() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    let synced = harness.rest.model().synced;
    harness.settle().unwrap();
    assert!(harness.rest.model().synced > synced);
    let paths = harness.files.paths().into_iter();
    let checkpoint = paths.filter(|path| path.starts_with("checkpoint-")).max().unwrap();
    let bytes = harness.files.bytes(&checkpoint).unwrap();
    assert_eq!(CheckpointContent::decode(&bytes).unwrap().1.covered, synced);
}

#[test]
fn journal_files_go_when_two_checkpoints_do_without_them() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    harness.settle().unwrap();
    assert!(harness.rest.model().recycled.is_empty(), "the first start needs file 1 still");
    harness.fill(2);
    harness.settle().unwrap();
    assert_eq!(harness.rest.model().recycled, [1]);
    harness.fill(1);
    harness.settle().unwrap();
    assert_eq!(harness.rest.model().recycled, [1, 2, 3]);
    assert!(harness.files.bytes(&journal_path(4)).is_some());
    let checkpoints: Vec<String> =
        harness.files.paths().into_iter().filter(|path| path.starts_with("checkpoint-")).collect();
    assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
    let expected = harness.rest.model().contents();
    assert_eq!(recover(&harness.files, false), expected);
    assert_eq!(recover(&harness.files, true), expected, "the one before the newest will do");
}

#[test]
fn rounds_go_on_with_the_active_segment_and_seal_full_ones() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    for _ in 0..12 {
        harness.fill(1);
        harness.settle().unwrap();
        harness.check_stores();
        assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
    }
    let model = harness.rest.model();
    let logs: Vec<_> = model.stores.iter().flatten().map(|(_, log)| log).collect();
    assert!(logs.iter().any(|log| log.segments.len() > 2), "some were sealed");
    for log in logs {
        let open = log.segments.iter().filter(|segment| !segment.sealed).count();
        assert!(open <= 1 && log.segments.iter().rev().skip(1).all(|segment| segment.sealed));
        for segment in &log.segments {
            assert!(segment.len <= 12_000 + 4_096, "{}", segment.len);
        }
    }
}

#[test]
fn what_is_empty_goes_with_a_checkpoint_that_does_not_name_it() {
    let mut harness = Harness::new(policy());
    harness.fill(6);
    harness.settle().unwrap();
    let first = harness.rest.model().log(3).segments[0].clone();
    let path = segment::path(3, first.base, 0);
    harness.release(3, 0, first.end);
    harness.settle().unwrap();
    assert!(harness.files.bytes(&path).is_some(), "the checkpoint names it");
    harness.clock.advance(10_000);
    harness.settle().unwrap();
    assert!(harness.files.bytes(&path).is_none(), "a checkpoint was made for it");
    harness.check_stores();
    harness.remove(2);
    harness.fill_without(2);
    harness.settle().unwrap();
    assert!(harness.files.list(&segment::folder(2)).unwrap().is_empty());
    let expected = harness.rest.model().contents();
    assert_eq!(recover(&harness.files, false), expected);
    assert_eq!(recover(&harness.files, true), expected);
}

#[test]
fn a_segment_that_is_emptied_while_it_is_filed_to_stays() {
    let mut harness = Harness::new(policy());
    harness.append(&[(1, 3)]);
    (0..3).for_each(|_| harness.roll());
    harness.settle().unwrap();
    let active = harness.rest.model().log(1).segments[0].clone();
    assert!(!active.sealed);
    harness.append(&[(1, 4)]);
    (0..3).for_each(|_| harness.roll());
    harness.rest.model().holds_asks = true;
    harness.keeper.step().unwrap();
    harness.rest.answer();
    // Collected with the active segment; now all of that is settled.
    harness.release(1, 0, 3);
    assert!(harness.rest.model().log(1).segments.is_empty());
    harness.keeper.step().unwrap();
    harness.rest.answer();
    harness.settle().unwrap();
    harness.rest.model().holds_asks = false;
    harness.rest.answer();
    harness.settle().unwrap();
    harness.clock.advance(60_000);
    harness.settle().unwrap();
    let again = harness.rest.model().log(1).segments[0].clone();
    assert_eq!((again.base, again.blocks.len()), (active.base, 1), "with its new block only");
    harness.check_stores();
    assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
    // It can be sealed with blocks that its store does not know.
    for _ in 0..40 {
        harness.append(&[(1, 8)]);
    }
    (0..3).for_each(|_| harness.roll());
    harness.settle().unwrap();
    harness.check_stores();
    let sealed = harness.rest.model().log(1).segments[0].clone();
    assert!(sealed.sealed);
    let file = harness.files.open(&segment::path(1, sealed.base, 0)).unwrap();
    let state = SegmentState {
        log: 1,
        base: sealed.base,
        revision: sealed.revision,
        end: sealed.end,
        len: sealed.len,
        is_sealed: true,
    };
    let footer = segment::footer_of(&*file, STORE, &state).unwrap();
    assert_eq!(footer.blocks.len(), sealed.blocks.len() + 1);
    assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
}

#[test]
fn a_log_that_is_opened_in_between_is_not_lost() {
    // The keeper has asked, the stores have not answered: at each of these moments
    // log 4 gets an owner.
    for moment in 0..6 {
        let mut harness = Harness::new(policy());
        harness.fill(4);
        harness.rest.model().holds_asks = true;
        for step in 0..6 {
            if step == moment {
                let mut model = harness.rest.model();
                let log = model.stores[2].remove(&4).unwrap();
                model.stores[1].insert(4, log);
            }
            if step % 2 == 0 {
                harness.keeper.step().unwrap();
            } else {
                harness.rest.answer();
            }
        }
        harness.rest.model().holds_asks = false;
        harness.rest.answer();
        harness.settle().unwrap();
        harness.check_stores();
        assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
        assert!(harness.rest.model().log(4).segments.len() == 1, "moment {moment}");
    }
}

#[test]
fn a_log_removed_while_it_is_collected_leaves_no_files() {
    let mut harness = Harness::new(policy());
    harness.fill(4);
    harness.rest.model().holds_asks = true;
    harness.keeper.step().unwrap();
    harness.rest.answer();
    harness.remove(1);
    harness.keeper.step().unwrap();
    harness.rest.model().holds_asks = false;
    harness.rest.answer();
    harness.settle().unwrap();
    harness.clock.advance(20_000);
    harness.settle().unwrap();
    assert!(harness.files.list(&segment::folder(1)).unwrap().is_empty());
    assert_eq!(recover(&harness.files, false), harness.rest.model().contents());
}

#[test]
fn a_damaged_active_segment_is_left_and_told_of() {
    let mut harness = Harness::new(policy());
    harness.fill(3);
    harness.settle().unwrap();
    let active = harness.rest.model().log(3).segments.last().unwrap().clone();
    assert!(!active.sealed);
    let last = active.blocks.last().unwrap();
    harness.files.flip_bit(&segment::path(3, active.base, 0), u64::from(last.at) + 20, 3);
    harness.fill(1);
    harness.settle().unwrap();
    let model = harness.rest.model();
    let damages =
        model.events.iter().filter(|event| matches!(event, KeeperEvent::Damage(_))).count();
    assert_eq!(damages, 1);
    let log = &model.stores[0][&3];
    assert_eq!(log.segments[0], active, "nothing was added to it");
    assert!(log.segments.len() > 1);
}

#[test]
fn an_active_segment_that_cannot_be_read_is_left_and_told_of() {
    // One read of it after the other: to go on with it, and to seal it.
    for nth in 1..6 {
        let mut harness = Harness::new(policy());
        harness.fill(3);
        harness.settle().unwrap();
        let active = harness.rest.model().log(3).segments.last().unwrap().clone();
        assert!(!active.sealed);
        let path = segment::path(3, active.base, 0);
        harness.files.arm(Fault::new(Operation::Read, nth, Effect::Error).under(&path));
        for _ in 0..8 {
            harness.fill(1);
            harness.settle().unwrap();
        }
        let log = harness.rest.model().log(3).clone();
        assert!(log.segments.len() > 1, "read {nth}");
        assert!(nth > 1 || log.segments[0] == active, "something was added to it");
        let expected = harness.rest.model().contents();
        assert_eq!(recover(&harness.files.fork(), false), expected, "read {nth}");
    }
}

#[test]
fn damage_in_the_journal_stops_the_keeper() {
    let mut harness = Harness::new(policy());
    harness.append(&[(1, 3)]);
    // This one has left memory.
    harness.append(&[(1, 3)]);
    let bytes = harness.files.bytes(&journal_path(1)).unwrap();
    harness.files.flip_bit(&journal_path(1), place_of(&bytes, &record(1, 4)), 1);
    (0..3).for_each(|_| harness.roll());
    let why = harness.settle().unwrap_err();
    assert!(why.contains("log 1 offsets 3..6"), "{why}");
    assert_eq!(harness.rest.model().fence.as_deref(), Some(why.as_str()));
}

#[test]
fn it_stops_when_told() {
    let mut harness = Harness::new(policy());
    harness.tell(Told::Stop);
    assert_eq!(harness.keeper.step(), Ok(Idle::Stopped));
}
