//! Too little space, and none.

use super::harness::{Harness, policy, recover};
use crate::keeper::{KeeperEvent, KeeperPolicy};
use crate::segment;

#[test]
fn no_space_on_the_way_takes_everything_back_and_is_tried_again() {
    let used = {
        let mut harness = Harness::new(policy());
        harness.fill(6);
        let before = harness.files.used_bytes();
        harness.settle().unwrap();
        harness.files.used_bytes() - before
    };
    let mut failed = 0;
    for room in (0..used).step_by(700) {
        let mut harness = Harness::new(policy());
        harness.fill(6);
        let before = harness.files.used_bytes();
        let expected = harness.rest.model().contents();
        harness.files.set_room(before + room);
        harness.settle().unwrap();
        harness.check_stores();
        if harness.rest.model().no_space == [true] {
            failed += 1;
            let has_filed = harness
                .rest
                .model()
                .stores
                .iter()
                .flatten()
                .any(|(_, log)| !log.segments.is_empty());
            if !has_filed {
                assert_eq!(harness.files.used_bytes(), before, "room {room}");
            }
        }
        assert_eq!(recover(&harness.files.fork(), false), expected, "room {room}");
        harness.settle().unwrap();
        harness.files.set_room(u64::MAX);
        harness.clock.advance(1_000);
        harness.settle().unwrap();
        assert_ne!(harness.rest.model().no_space.last(), Some(&true));
        harness.check_stores();
        assert_eq!(recover(&harness.files, false), expected, "room {room}");
        let events = &harness.rest.model().events;
        let last = events.last();
        assert!(matches!(last, Some(KeeperEvent::Checkpoint { .. })), "room {room}: {events:?}");
    }
    assert!(failed > 10);
}

#[test]
fn little_space_refuses_publishes_until_there_is_a_tenth_more() {
    let mut harness =
        Harness::new(KeeperPolicy { free_bytes_min: 100_000, free_percent_min: 10, ..policy() });
    let used = harness.files.used_bytes();
    let look = |harness: &mut Harness, free: u64| {
        harness.files.set_room(used + free);
        harness.clock.advance(1_000);
        harness.settle().unwrap();
        harness.rest.model().no_space.clone()
    };
    assert!(look(&mut harness, 100_000).is_empty());
    assert_eq!(look(&mut harness, 99_999), [true]);
    assert_eq!(look(&mut harness, 105_000), [true], "no flutter");
    assert_eq!(look(&mut harness, 110_000), [true, false]);
    // The share counts where it is more.
    harness.files.set_room(100 * used);
    let free = 99 * used;
    assert!(free > 110_000);
    harness.clock.advance(1_000);
    harness.settle().unwrap();
    assert_eq!(harness.rest.model().no_space, [true, false]);
}

#[test]
fn prepared_files_go_but_for_one_where_little_space_is_left() {
    let mut harness = Harness::new(KeeperPolicy { free_bytes_min: 100_000, ..policy() });
    harness.rest.model().spares = 9;
    let used = harness.files.used_bytes();
    for (free, spares) in [(200_000, 9), (99_999, 1)] {
        harness.files.set_room(used + free);
        harness.clock.advance(1_000);
        harness.settle().unwrap();
        assert_eq!(harness.rest.model().spares, spares, "with {free} bytes free");
    }
}

#[test]
fn prepared_files_go_but_for_one_where_filing_finds_no_space() {
    let mut harness = Harness::new(policy());
    harness.rest.model().spares = 9;
    harness.fill(6);
    harness.files.set_room(harness.files.used_bytes());
    harness.settle().unwrap();
    assert_eq!(harness.rest.model().no_space, [true]);
    assert_eq!(harness.rest.model().spares, 1);
}

#[test]
fn space_is_looked_at_once_a_second() {
    let mut harness = Harness::new(KeeperPolicy { free_bytes_min: 1_000_000, ..policy() });
    harness.files.set_room(u64::MAX);
    harness.settle().unwrap();
    harness.files.set_room(harness.files.used_bytes());
    harness.clock.advance(999);
    harness.settle().unwrap();
    assert!(harness.rest.model().no_space.is_empty());
    harness.clock.advance(1);
    harness.settle().unwrap();
    assert_eq!(harness.rest.model().no_space, [true]);
}

/// Filing takes space, and a checkpoint alone may give some back: where filing finds
/// none, that comes first.
#[test]
fn what_holds_nothing_goes_first_where_filing_finds_no_space() {
    let mut harness = Harness::new(policy());
    harness.fill(6);
    harness.settle().unwrap();
    let end = harness.rest.model().log(3).segments.first().unwrap().end;
    let path = segment::path(3, 0, 0);
    assert!(harness.files.bytes(&path).is_some());
    harness.fill(20);
    harness.release(3, 0, end);
    let expected = harness.rest.model().contents();
    // Enough for checkpoints, by far not for twenty files.
    harness.files.set_room(harness.files.used_bytes() + (24 << 10));
    for _ in 0..4 {
        harness.settle().unwrap();
        harness.clock.advance(1_000);
    }
    assert!(harness.files.bytes(&path).is_none(), "it is still there");
    assert_eq!(harness.rest.model().no_space.first(), Some(&true), "filing found space");
    assert_eq!(recover(&harness.files, false), expected);
}
