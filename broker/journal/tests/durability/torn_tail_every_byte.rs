//! D4: wherever the last block ends early or holds something else, the store
//! starts, keeps every block before it whole, and takes the next.

use weir_core::command::Level;
use weir_journal::files::Files;

use crate::anatomy::{Anatomy, Part};
use crate::proof::Proof;
use crate::world::{EVERYTHING, World, config, count};

/// Of the stores.
const SEED: u64 = 4;

/// What becomes of the last block from one byte on.
#[derive(Clone, Copy, Debug)]
enum Wound {
    /// The file ends there.
    Cut,
    /// Zeros follow.
    Zeros,
    /// Random bytes follow.
    Garbage,
    /// That byte is another.
    Garbled,
}

/// A store whose last block holds records of those lengths, and that block.
fn prepare(lengths: &[usize]) -> (World, Part) {
    let mut config = config();
    config.journal_file_bytes = 64 << 10;
    let mut world = World::with(SEED, config);
    for _ in 0..5 {
        assert!(world.append("queue/a", 2, Level::Disk) && world.append("queue/b", 1, Level::Disk));
        assert!(world.commit() && world.journal().step().is_ok());
    }
    world.try_append("queue/a", lengths, Level::Disk).unwrap();
    world.try_append("queue/b", lengths, Level::Disk).unwrap();
    assert!(world.commit() && world.journal().step().is_ok());
    world.stop();
    world.files.kill();
    let anatomy = Anatomy::of(&world.files);
    let last = anatomy.journal_blocks().last().unwrap().clone();
    (world, last)
}

fn wound(world: &mut World, block: &Part, at: usize, wound: Wound) {
    let mut bytes = vec![0; block.to - at];
    match wound {
        Wound::Cut => {
            let file = world.files.open(&block.path).unwrap();
            file.set_len(at as u64).unwrap();
            return;
        }
        Wound::Zeros => {}
        Wound::Garbage => world.random.fill(&mut bytes),
        Wound::Garbled => {
            let old = world.files.bytes(&block.path).unwrap()[at];
            bytes = vec![old ^ (1 + world.below(255)) as u8];
        }
    }
    world.files.damage(&block.path, &bytes, at as u64);
}

#[test]
fn torn_tail_every_byte() {
    // One block of one sector, one of several; every byte of both in full.
    let stride = count(5, 1).max(1) as usize;
    let blocks = [(prepare(&[7, 40]), 1), (prepare(&[700, 3, 1_100]), stride)];
    let wounds = [Wound::Cut, Wound::Zeros, Wound::Garbage, Wound::Garbled];
    let (mut runs, mut full) = (0, 0);
    for ((_, block), stride) in &blocks {
        let bytes = block.to - block.from;
        runs += (bytes.div_ceil(*stride) * wounds.len()) as u64;
        full += (bytes * wounds.len()) as u64;
    }
    let mut proof = Proof::begin("torn_tail_every_byte", runs, full, SEED..=SEED);
    for ((base, block), stride) in &blocks {
        for at in (block.from..block.to).step_by(*stride) {
            for kind in wounds {
                let mut world = base.fork();
                world.random = weir_journal::sim::Seeded::new(at as u64);
                wound(&mut world, block, at, kind);
                world.seed = at as u64;
                check(world, block, at, kind);
            }
        }
    }
    proof.figure("0 lost before the block, 0 kept of half of it".to_owned());
}

fn check(mut world: World, block: &Part, at: usize, kind: Wound) {
    world.start();
    let report = world.journal().report().clone();
    assert!(report.damage.is_empty(), "byte {at} {kind:?}: {}", report.summary());
    let mut is_whole = Vec::new();
    for name in ["queue/a", "queue/b"] {
        let found = world.read_all(name);
        let was = world.logs[name].clone();
        let (last, _) = block.appends().into_iter().map(|(_, from, to)| (from, to)).next().unwrap();
        let last = if name == "queue/a" { last } else { block.appends()[1].1 };
        for (offset, known) in &was.records {
            match found.get(offset) {
                Some(found) => {
                    assert!(*found == known.payload, "byte {at} {kind:?}: {name}@{offset}")
                }
                None => assert!(*offset >= last, "byte {at} {kind:?}: {name}@{offset} is lost"),
            }
        }
        let kept = was.records.range(last..).filter(|(offset, _)| found.contains_key(offset));
        let kept = kept.count();
        let all = was.records.range(last..).count();
        assert!(kept == 0 || kept == all, "byte {at} {kind:?}: {kept} of {all} of a block");
        is_whole.push(kept == all);
        let end = world.bounds(name).end;
        assert_eq!(end, if kept == all { was.end } else { last }, "byte {at} {kind:?}: {name}");
        let model = world.logs.get_mut(name).unwrap();
        model.records.retain(|offset, _| found.contains_key(offset));
        model.end = end;
    }
    assert_eq!(is_whole[0], is_whole[1], "byte {at} {kind:?}: half of a turn");
    // It goes on, over a power cut.
    world.check(EVERYTHING, false);
    assert!(world.append("queue/a", 2, Level::Disk));
    assert!(world.commit() && world.journal().step().is_ok() && world.commit());
    let safe = world.safe();
    world.stop();
    world.files.crash(at as u64);
    world.start();
    assert!(world.journal().report().damage.is_empty());
    world.check(safe, true);
}
