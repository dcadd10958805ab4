//! A few records stay in segments that are settled otherwise: the disk space comes
//! back, and what stays reads as before, whenever the power goes.

use std::collections::BTreeMap;

use weir_core::command::Level;
use weir_core::store::Store;
use weir_journal::format::SegmentState;
use weir_journal::sim::Seeded;

use crate::anatomy::{Anatomy, segment_path};
use crate::world::{World, seeds};

/// A store, not started, with segments of two queues of which it is settled that
/// little stays in them, and the journal that says so.
fn sparse(seed: u64) -> World {
    let mut world = World::new(seed);
    let names = ["queue/0", "queue/1"];
    for _ in 0..150 {
        for name in names {
            assert!(world.append(name, 4, Level::Disk));
        }
        world.clock.advance(7);
        assert!(world.commit() && world.journal().step().is_ok());
    }
    assert!(world.settle());
    for name in names {
        let end = world.bounds(name).end;
        let mut at = world.below(5);
        while at < end {
            let to = (at + 1 + world.below(25)).min(end);
            world.release(name, at, to, Level::Disk);
            at = to + 1 + world.below(2);
        }
        assert!(world.commit() && world.journal().step().is_ok() && world.commit());
    }
    world.stop();
    world.files.kill();
    world
}

/// Fills a journal file or two, so that the keeper makes rounds, and lets time pass.
fn go_on(world: &mut World) -> bool {
    (0..20).all(|_| world.append("queue/2", 6, Level::Disk) && world.commit() && world.settle())
}

fn segment_bytes(world: &World) -> u64 {
    let paths = world.files.paths().into_iter().filter(|path| path.starts_with("logs/"));
    paths.map(|path| world.files.bytes(&path).unwrap().len() as u64).sum()
}

/// Segments that the newest checkpoint knows by another revision than the first.
fn rewritten(world: &World) -> usize {
    let anatomy = Anatomy::of(&world.files);
    let newest = anatomy.checkpoints.last().map(|(_, content)| content);
    let segments = newest.into_iter().flat_map(|content| &content.segments);
    segments.filter(|state| state.revision > 0).count()
}

/// All records of the two queues with their times, as they are read.
fn read(world: &mut World) -> BTreeMap<(&'static str, u64), (u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for name in ["queue/0", "queue/1"] {
        let log = world.log(name);
        let bounds = world.store().bounds(log);
        let mut at = bounds.start;
        loop {
            let mut records = Vec::new();
            world.store().read(log, at, 8 << 10, &mut records).unwrap();
            let Some(last) = records.last() else { break };
            at = last.offset + last.batch.len() as u64;
            for piece in &records {
                for (offset, message) in (piece.offset..).zip(piece.batch.iter()) {
                    found.insert((name, offset), (piece.time_ms, message.to_vec()));
                }
            }
        }
    }
    found
}

#[test]
fn sparse_segments_give_their_space_back() {
    for seed in seeds(10, 200) {
        let mut world = sparse(300 + seed);
        world.start();
        let (before, expected) = (segment_bytes(&world), read(&mut world));
        assert!(expected.len() > 50, "seed {seed}: {} records stay", expected.len());
        assert!(go_on(&mut world), "seed {seed}");
        assert!(rewritten(&world) > 3, "seed {seed}: {} of them", rewritten(&world));
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise");
        // Active segments and what is young stays as it was.
        let after = segment_bytes(&world);
        assert!(after * 10 < before * 6, "seed {seed}: {after} of {before} bytes");
        let safe = world.safe();
        world.stop();
        world.files.crash(seed);
        world.start();
        let report = world.journal().report().clone();
        assert!(report.damage.is_empty(), "seed {seed}: {}", report.summary());
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise after a start");
        world.check(safe, true);
    }
}

#[test]
fn power_cuts_while_segments_are_written_again() {
    let (mut cuts, mut under_way) = (0, 0);
    for seed in seeds(4, 40) {
        let base = sparse(400 + seed);
        let mut nth = 0;
        loop {
            nth += 1;
            let mut world = base.fork();
            world.random = Seeded::new(seed << 32 | nth);
            world.files.cut_power_at(nth * 3);
            let mut safe = (u64::MAX - 1, u64::MAX - 1);
            let is_done = world.try_start().is_ok() && {
                world.check(safe, false);
                let is_done = go_on(&mut world);
                safe = world.safe();
                is_done
            };
            if is_done {
                break;
            }
            assert!(!world.files.has_power(), "seed {seed} call {nth}");
            cuts += 1;
            under_way += usize::from(world.files.paths().iter().any(|path| {
                path.starts_with("logs/") && (path.ends_with("-01.ws") || path.ends_with(".tmp"))
            }));
            // Another one on the way up.
            world.stop();
            let crash = world.below(u64::MAX);
            world.files.crash(crash);
            world.start();
            let report = world.journal().report().clone();
            assert!(report.damage.is_empty(), "seed {seed} call {nth}: {}", report.summary());
            world.check(safe, true);
            // What the checkpoint does not name is gone; it goes on.
            let strays = world.files.paths().into_iter().filter(|path| path.ends_with(".ws.tmp"));
            assert_eq!(strays.count(), 0, "seed {seed} call {nth}");
            assert!(go_on(&mut world), "seed {seed} call {nth}");
            let safe = world.safe();
            world.stop();
            world.files.crash(nth);
            world.start();
            world.check(safe, true);
        }
    }
    println!("power_cuts_while_segments_are_written_again: {cuts} cuts, {under_way} on the way");
    assert!(cuts > 100 && under_way > 50);
}

/// Whether the newest checkpoint names a segment that the one before knows by an
/// earlier revision.
fn is_between(world: &World) -> bool {
    let anatomy = Anatomy::of(&world.files);
    let [.., (_, older), (_, newest)] = &anatomy.checkpoints[..] else { return false };
    newest.segments.iter().any(|new| {
        let same = |old: &&SegmentState| (old.log, old.base) == (new.log, new.base);
        older.segments.iter().find(same).is_some_and(|old| old.revision < new.revision)
    })
}

#[test]
fn the_checkpoint_before_has_its_segments_still() {
    for seed in seeds(10, 100) {
        let mut world = sparse(500 + seed);
        world.start();
        let expected = read(&mut world);
        let mut steps = 0;
        while !is_between(&world) {
            steps += 1;
            assert!(steps < 2_000, "seed {seed}: it never comes to that");
            world.clock.advance(200);
            let is_added = steps > 200 || world.append("queue/2", 6, Level::Disk);
            assert!(is_added && world.commit() && world.journal().step().is_ok());
        }
        assert!(world.commit() && world.journal().sync().is_ok());
        // A start finds both files, and needs one.
        for _ in 0..2 {
            world.stop();
            world.files.kill();
            world.start();
        }
        world.stop();
        let newest = Anatomy::of(&world.files).checkpoints.last().unwrap().0.clone();
        world.files.flip_bit(&newest, 4_200, 3);
        world.start();
        let report = world.journal().report().clone();
        assert!(report.checkpoint_fallback.is_some(), "seed {seed}");
        assert!(report.damage.is_empty(), "seed {seed}: {}", report.summary());
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise");
        // It goes on from there, and the space still comes back.
        assert!(go_on(&mut world), "seed {seed}");
        assert!(rewritten(&world) > 3, "seed {seed}: {} of them", rewritten(&world));
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise");
        let safe = world.safe();
        world.stop();
        world.files.crash(seed);
        world.start();
        world.check(safe, true);
        // And no file is left of what another one stands for.
        let anatomy = Anatomy::of(&world.files);
        let named = anatomy.checkpoints.iter().flat_map(|(_, content)| &content.segments);
        let named: Vec<String> = named.map(segment_path).collect();
        for path in world.files.paths().iter().filter(|path| path.ends_with(".ws")) {
            assert!(named.contains(path), "seed {seed}: {path} is left over");
        }
    }
}

#[test]
fn one_that_is_emptied_before_its_store_hears_of_it_stays_away() {
    for seed in seeds(10, 100) {
        let mut world = sparse(600 + seed);
        world.start();
        let mut expected = read(&mut world);
        let new = |world: &World| {
            let paths = world.files.paths().into_iter();
            paths.filter(|path| path.ends_with("-01.ws")).collect::<Vec<_>>()
        };
        let mut steps = 0;
        while new(&world).is_empty() {
            steps += 1;
            assert!(steps < 2_000, "seed {seed}: it never comes to that");
            world.clock.advance(200);
            assert!(world.append("queue/2", 6, Level::Disk) && world.commit());
            assert!(world.journal().step().is_ok());
        }
        // It is on the way to the store, which empties the segment just now.
        let path = new(&world).remove(0);
        let anatomy = Anatomy::of(&world.files);
        let newest = &anatomy.checkpoints.last().unwrap().1;
        let of = |state: &&SegmentState| {
            segment_path(&SegmentState { revision: 1, is_sealed: true, ..**state }) == path
        };
        let state = newest.segments.iter().find(of).unwrap();
        let name = anatomy.names[&state.log].clone();
        world.trim(&name, state.end);
        expected.retain(|(of, offset), _| *of != name || *offset >= state.end);
        assert!(world.commit());
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise");
        assert!(go_on(&mut world), "seed {seed}");
        assert!(!new(&world).contains(&path), "seed {seed}: {path} is left over");
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise");
        let safe = world.safe();
        world.stop();
        world.files.crash(seed);
        world.start();
        assert!(read(&mut world) == expected, "seed {seed}: reads otherwise after a start");
        world.check(safe, true);
    }
}
