//! The scrub.

use super::harness::{Harness, place_of, policy, record};
use crate::keeper::{KeeperEvent, KeeperPolicy};
use crate::segment::{self, Segment, Sizes};

const PERIOD_MS: u64 = 100_000;
const RATE: u64 = 5_000;

/// A store with sealed segments of log 3.
fn prepared() -> (Harness, Vec<Segment>) {
    prepared_with(1_000)
}

fn scrubbing(block_bytes: usize) -> KeeperPolicy {
    KeeperPolicy {
        scrub_period_ms: PERIOD_MS,
        scrub_bytes_per_second: RATE,
        sizes: Sizes { block_bytes, ..policy().sizes },
        ..policy()
    }
}

fn prepared_with(block_bytes: usize) -> (Harness, Vec<Segment>) {
    let mut harness = Harness::new(scrubbing(block_bytes));
    harness.fill(14);
    harness.settle().unwrap();
    let sealed = |segment: &&Segment| segment.sealed;
    let segments: Vec<Segment> =
        harness.rest.model().log(3).segments.iter().filter(sealed).cloned().collect();
    assert!(segments.len() >= 2);
    (harness, segments)
}

fn events(harness: &Harness) -> Vec<KeeperEvent> {
    let model = harness.rest.model();
    let of_scrub = |event: &&KeeperEvent| {
        matches!(event, KeeperEvent::Damage(_) | KeeperEvent::Scrubbed { .. })
    };
    model.events.iter().filter(of_scrub).cloned().collect()
}

/// Lets `ms` pass in small steps.
fn pass(harness: &mut Harness, ms: u64) {
    for _ in 0..ms / 100 {
        harness.clock.advance(100);
        harness.settle().unwrap();
    }
}

#[test]
fn every_sealed_byte_is_read_once_in_a_period_and_not_too_fast() {
    let (mut harness, _) = prepared();
    let sealed: u64 = harness
        .rest
        .model()
        .stores
        .iter()
        .flatten()
        .flat_map(|(_, log)| &log.segments)
        .filter(|segment| segment.sealed)
        .map(|segment| segment.len)
        .sum();
    let least_ms = sealed * 1_000 / RATE;
    assert!(least_ms > 5_000 && least_ms < PERIOD_MS);
    pass(&mut harness, least_ms - 4_000);
    assert!(events(&harness).is_empty(), "faster than it may");
    pass(&mut harness, 8_000);
    let [KeeperEvent::Scrubbed { bytes, .. }] = events(&harness)[..] else {
        panic!("{:?}", events(&harness));
    };
    assert_eq!(bytes, sealed);
    pass(&mut harness, PERIOD_MS - least_ms - 12_000);
    assert_eq!(events(&harness).len(), 1);
    pass(&mut harness, least_ms + 12_000);
    assert_eq!(events(&harness).len(), 2, "the next period has its own");
}

#[test]
fn damage_is_told_with_its_offsets() {
    let (_, segments) = prepared();
    let (segment, block) = (&segments[1], &segments[1].blocks[2]);
    let path = segment::path(3, segment.base, 0);
    let at = u64::from(block.at);
    // Header, table, first body, padding, head of the file, footer.
    let places = [
        (at + 9, block.base..block.end),
        (at + 70, block.base..block.end),
        (at + u64::from(block.len) - 1, segment.end..segment.end),
        (1_000, segment.end..segment.end),
        (30, segment.base..segment.base),
        (segment.len - 3, segment.end..segment.end),
    ];
    for (place, offsets) in places {
        let (mut harness, _) = prepared();
        harness.files.flip_bit(&path, place, 5);
        pass(&mut harness, 60_000);
        let events = events(&harness);
        let damages: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                KeeperEvent::Damage(damage) => Some(damage),
                _ => None,
            })
            .collect();
        assert_eq!(damages.len(), 1, "byte {place}: {damages:?}");
        let found = damages[0].from..damages[0].to;
        assert_eq!((damages[0].log, found), (3, offsets), "byte {place}");
        assert!(events.iter().any(|event| matches!(event, KeeperEvent::Scrubbed { .. })));
    }
}

#[test]
fn a_damaged_body_costs_only_its_own_entry() {
    let (mut harness, segments) = prepared_with(4_000);
    let segment = &segments[0];
    let block = &segment.blocks[0];
    assert!(block.live > 9, "several appends");
    let path = segment::path(3, segment.base, 0);
    let at = place_of(&harness.files.bytes(&path).unwrap(), &record(3, block.base + 9));
    harness.files.flip_bit(&path, at, 0);
    pass(&mut harness, 60_000);
    let KeeperEvent::Damage(damage) = &events(&harness)[0] else { panic!() };
    assert!(damage.from <= block.base + 9 && damage.to > block.base + 9);
    assert!(damage.to - damage.from <= 9, "{damage}");
}

#[test]
fn segments_that_go_are_forgotten() {
    let (mut harness, segments) = prepared();
    harness.release(3, 0, segments[1].end);
    harness.clock.advance(10_000);
    pass(&mut harness, 60_000);
    assert!(harness.files.bytes(&segment::path(3, segments[0].base, 0)).is_none());
    assert!(events(&harness).iter().all(|event| !matches!(event, KeeperEvent::Damage(_))));
}

#[test]
fn what_an_earlier_process_sealed_is_read_too() {
    let (mut harness, _) = prepared();
    harness.start_again(scrubbing(1_000));
    pass(&mut harness, 60_000);
    let [KeeperEvent::Scrubbed { segments, .. }] = events(&harness)[..] else { panic!() };
    assert!(segments >= 2);
}
