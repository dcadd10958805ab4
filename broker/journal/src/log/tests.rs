//! What a log forgets, and what it is told twice.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::segment::BlockIndex;

fn log() -> Log {
    Log::new(1, "queue/flights".into())
}

/// One message, in memory only.
fn append(log: &mut Log) {
    let batch = Batch::of_one(vec![7; 100].into());
    log.append(Stamp::default(), Level::Memory, 1, 100, Body::Memory(batch, None));
}

/// Offsets of the chunks that hold something.
fn live(log: &Log) -> Vec<u64> {
    let live = log.chunks.iter().filter(|chunk| chunk.live > 0);
    live.flat_map(|chunk| chunk.base..chunk.end()).collect()
}

#[test]
fn what_is_settled_behind_a_message_that_stays_takes_no_memory() {
    let mut log = log();
    append(&mut log);
    for offset in 1..10_000 {
        append(&mut log);
        let freed = log.release(offset, offset + 1);
        assert!(freed.any && freed.pinned > 0);
    }
    assert!(log.chunks.len() <= 1 + GONE_CHUNKS, "{} chunks", log.chunks.len());
    assert_eq!((log.start, log.end, log.bytes, live(&log)), (0, 10_000, 100, vec![0]));
    drop(log.release(0, 1));
    assert_eq!((log.start, log.bytes, log.chunks.len()), (10_000, 0, 0));
}

#[test]
fn those_that_stay_among_settled_ones_are_found() {
    let mut log = log();
    (0..1_000).for_each(|_| append(&mut log));
    // The next to leave memory, at first.
    log.leaving = 900;
    for offset in (0..1_000).rev().filter(|offset| offset % 10 > 0) {
        drop(log.release(offset, offset + 1));
    }
    let expected: Vec<u64> = (0..1_000).step_by(10).collect();
    assert_eq!(live(&log), expected);
    let most = expected.len() + GONE_CHUNKS.max(expected.len());
    assert!(log.chunks.len() <= most, "{} chunks", log.chunks.len());
    assert_eq!(log.chunks[log.leaving].base, 900);
    for &offset in &expected {
        assert_eq!(log.chunk_from(offset).map(|at| log.chunks[at].base), Some(offset));
        let next = log.chunks.get(log.chunk_at(offset + 1));
        assert!(next.is_none_or(|next| next.end() > offset + 1));
    }
}

/// A segment with these blocks: first offset, and one past the last.
fn segment(base: u64, len: u64, sealed: bool, blocks: &[(u64, u64)]) -> Segment {
    let block = |&(base, end): &(u64, u64)| BlockIndex {
        base,
        end,
        at: 4_096,
        len: 512,
        time_max_ms: 0,
        bytes: 100 * (end - base) as u32,
        live: (end - base) as u32,
    };
    let end = blocks.last().unwrap().1;
    Segment { base, revision: 0, end, len, sealed, blocks: blocks.iter().map(block).collect() }
}

/// Segments 0..10, 10..20 and 20..30; the last one is active.
fn filed() -> Log {
    let mut log = log();
    for _ in 0..3 {
        let body = Body::Journal(Place { sequence: 1, at: 4_096 });
        log.append(Stamp::default(), Level::Disk, 10, 1_000, body);
    }
    let segment = |base| segment(base, 4_608, base < 20, &[(base, base + 10)]);
    drop(log.filed(vec![segment(0), segment(10), segment(20)], 30));
    log
}

fn bases(log: &Log) -> Vec<u64> {
    log.segments.iter().map(|segment| segment.base).collect()
}

#[test]
fn a_segment_that_holds_nothing_goes_wherever_it_lies() {
    let mut log = filed();
    assert!(log.release(11, 20).segments.is_empty(), "its first record is there");
    assert_eq!(log.release(5, 11).segments, [10]);
    assert_eq!((bases(&log), log.filed_end(), log.filed_live), (vec![0, 20], 30, 15));
    // The last one says what is filed, and is filed to.
    assert!(log.release(20, 30).segments.is_empty());
    assert_eq!((bases(&log), log.filed_end(), log.filed_live), (vec![0, 20], 30, 5));
    // Until there is another.
    let body = Body::Journal(Place { sequence: 2, at: 4_096 });
    log.append(Stamp::default(), Level::Disk, 10, 1_000, body);
    let freed = log.filed(vec![segment(30, 4_608, false, &[(30, 40)])], 40);
    assert_eq!((freed.segments, bases(&log), log.filed_live), (vec![20], vec![0, 30], 15));
    assert_eq!(log.release(0, 5).segments, [0]);
    assert_eq!((log.start, bases(&log)), (30, vec![30]));
    assert_eq!(log.trim(40).segments, [30]);
    assert_eq!((log.filed_live, log.bytes), (0, 0));
}

/// What is released in several parts at once is counted in all of them.
#[test]
fn a_segment_that_goes_with_gaps_before_is_counted_whole() {
    let mut log = filed();
    assert!(log.release(14, 15).segments.is_empty());
    assert_eq!(log.release(10, 20).segments, [10]);
    assert_eq!((log.filed_live, log.bytes), (20, 2_000));
    let mut log = filed();
    assert!(log.release(4, 5).segments.is_empty());
    assert!(log.release(14, 15).segments.is_empty());
    assert_eq!(log.trim(20).segments, [0, 10]);
    assert_eq!((log.filed_live, log.bytes), (10, 1_000));
}

/// First as one that nobody has opened, and then by the store that has.
#[test]
fn what_is_filed_is_told_twice_and_changes_nothing() {
    let mut log = filed();
    let body = Body::Journal(Place { sequence: 2, at: 4_096 });
    log.append(Stamp::default(), Level::Disk, 20, 2_000, body);
    // New blocks of the active one, and another one.
    let new = vec![
        segment(20, 5_632, true, &[(30, 40)]),
        segment(40, 4_608, true, &[(40, 45)]),
        segment(45, 4_608, false, &[(45, 50)]),
    ];
    drop(log.filed(new.clone(), 50));
    assert_eq!(log.segments[2].blocks.len(), 2);
    let once = format!("{log:?}");
    drop(log.filed(new.clone(), 50));
    assert_eq!(format!("{log:?}"), once);
    // Written again.
    let again = Segment { revision: 1, ..segment(20, 4_608, true, &[(25, 35)]) };
    drop(log.filed(vec![again.clone()], 0));
    assert_eq!(log.segments[2], again);
    drop(log.filed(vec![again.clone()], 0));
    assert_eq!(log.segments[2], again);
    // In between one of them was emptied.
    assert_eq!(log.release(40, 45).segments, [40]);
    assert!(log.filed(new, 50).segments.is_empty());
    assert_eq!((bases(&log), log.filed_end()), (vec![0, 10, 20, 45], 50));
    assert_eq!(log.segments[2], again);
}
