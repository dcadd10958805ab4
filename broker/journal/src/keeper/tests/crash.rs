//! Power cuts at every call that changes the disk.

use super::harness::{Harness, policy, recover};
use crate::keeper::checkpoint;
use crate::sim::{Effect, Fault, Operation, SimFiles};

/// A journal with something to file, after `rounds` rounds; with segments that have
/// just become empty, and a log that is gone.
fn prepare(rounds: u64) -> Harness {
    let mut harness = Harness::new(policy());
    harness.fill(4);
    for round in 0..rounds {
        harness.settle().unwrap();
        let end = harness.rest.model().log(3).segments.first().map_or(0, |first| first.end);
        harness.release(3, 0, end);
        if round == 1 {
            harness.remove(2);
            harness.fill_without(2);
        } else if round > 1 {
            harness.fill_without(3);
        } else {
            harness.fill(3);
        }
    }
    harness
}

#[test]
fn a_power_cut_anywhere_leaves_all_that_was_acknowledged() {
    for rounds in 0..4 {
        let mut calls = 0;
        loop {
            calls += 1;
            let mut harness = prepare(rounds);
            let expected = harness.rest.model().contents();
            harness.files.cut_power_at(calls);
            let settled = harness.settle();
            if harness.files.has_power() {
                settled.unwrap();
                break;
            }
            for seed in 0..3 {
                let after = harness.files.fork();
                after.crash(calls * 100 + seed);
                assert_eq!(
                    recover(&after, false),
                    expected,
                    "rounds {rounds}, call {calls}, seed {seed}"
                );
            }
        }
        assert!(calls > 25, "only {calls} calls: the round did not do what it should");
    }
}

#[test]
fn an_error_anywhere_stops_the_keeper_or_does_no_harm() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::SetLen,
        Operation::Rename,
        Operation::SyncFolder,
        Operation::Remove,
    ];
    for operation in operations {
        for nth in 1..8 {
            let mut harness = prepare(2);
            let expected = harness.rest.model().contents();
            harness.files.arm(Fault::new(operation, nth, Effect::Error));
            let settled = harness.settle();
            assert_eq!(settled.is_err(), harness.rest.model().fence.is_some());
            let after = harness.files.fork();
            after.crash(nth);
            assert_eq!(recover(&after, false), expected, "{operation:?} {nth}: {settled:?}");
        }
    }
}

#[test]
fn a_checkpoint_that_fails_keeps_the_one_before() {
    let mut harness = prepare(2);
    let expected = harness.rest.model().contents();
    harness.files.arm(Fault::new(Operation::Write, 1, Effect::Error).under("checkpoint-"));
    let why = harness.settle().unwrap_err();
    assert!(why.contains("checkpoint-"), "{why}");
    harness.files.crash(3);
    assert_eq!(recover(&harness.files, false), expected);
}

#[test]
fn a_checkpoint_that_was_written_is_there_after_any_crash() {
    let files = SimFiles::new(5);
    checkpoint::write(&files, 3, &[1; 3_000]).unwrap();
    for seed in 0..20 {
        let files = files.fork();
        files.crash(seed);
        assert_eq!(files.bytes(&checkpoint::path(3)).unwrap(), [1; 3_000]);
    }
    for nth in 1..5 {
        let files = SimFiles::new(5);
        files.cut_power_at(nth);
        checkpoint::write(&files, 3, &[1; 3_000]).unwrap_err();
        for seed in 0..20 {
            let files = files.fork();
            files.crash(seed);
            let bytes = files.bytes(&checkpoint::path(3));
            assert!(bytes.is_none_or(|bytes| bytes == [1; 3_000]), "call {nth}, seed {seed}");
        }
    }
}
