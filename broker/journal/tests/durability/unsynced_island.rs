//! D6: blocks that were never synced may reach the disk in any order. What lies
//! behind a hole is never served, not then and not later.

use weir_core::command::Level;
use weir_journal::sim::Seeded;

use crate::anatomy::{Anatomy, Part};
use crate::proof::Proof;
use crate::world::World;

#[test]
fn unsynced_island() {
    let (mut proof, seeds) = Proof::of_seeds("unsynced_island", 300, 2_000);
    let mut islands = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        let steps = 20 + world.below(200);
        world.run(steps);
        assert!(world.settle());
        let mark = Anatomy::of(&world.files).journal_blocks().next_back().map_or(0, |b| b.number);
        // From here on nothing is synced.
        for _ in 0..2 + world.below(8) {
            let (name, count) = (format!("queue/{}", world.below(3)), 1 + world.below(5));
            assert!(world.append(&name, count, Level::Os) && world.commit());
            let _more = world.journal().step_writer();
        }
        assert!(world.commit());
        let safe = world.safe();
        world.stop();
        world.files.kill();
        let anatomy = Anatomy::of(&world.files);
        let loose: Vec<Part> =
            anatomy.journal_blocks().filter(|block| block.number > mark).cloned().collect();
        let last_file = loose.last().map(|block| block.path.clone());
        // A roll syncs: what it left in the file before is no island.
        let loose: Vec<&Part> =
            loose.iter().filter(|block| Some(&block.path) == last_file.as_ref()).collect();
        let at = world.below(loose.len() as u64) as usize;
        let hole = loose[at];
        islands += u64::from(at + 1 < loose.len());
        punch(&mut world, hole);
        world.start();
        let report = world.journal().report().clone();
        assert!(report.damage.is_empty(), "seed {seed}: {}", report.summary());
        match report.torn {
            Some(torn) => assert_eq!(torn.block, hole.number, "seed {seed}"),
            // Of the last one nothing may be left at all.
            None => assert_eq!(at + 1, loose.len(), "seed {seed}: nothing is torn"),
        }
        let mut ends = Vec::new();
        for (log, from, _) in loose[at..].iter().flat_map(|block| block.appends()) {
            let name = &anatomy.names[&log];
            if !ends.iter().any(|(known, _)| known == name) {
                ends.push((name.clone(), from));
            }
        }
        for (name, end) in &ends {
            let found = world.bounds(name).end;
            assert_eq!(found, *end, "seed {seed}: {name} ends elsewhere than at the hole");
        }
        world.check((0, safe.1), true);
        // Over what follows, and over another power cut, none of it comes back:
        // it would be found as records of other bytes.
        world.run(60);
        let safe = world.safe();
        world.stop();
        let crash = world.below(u64::MAX);
        world.files.crash(crash);
        world.start();
        assert!(world.journal().report().damage.is_empty(), "seed {seed}");
        world.check(safe, true);
    }
    proof.figure(format!("{islands} with an island, 0 served"));
    assert!(islands > 0);
}

/// Makes a hole: the whole block or any sector of it did not arrive.
fn punch(world: &mut World, block: &Part) {
    let sectors = ((block.to - block.from) / 512) as u64;
    let (first, number) = match world.below(3) {
        0 => (0, sectors),
        // Padding alone is no hole: the first sector always counts.
        1 => (0, 1),
        _ => {
            let end = block.entries.iter().map(|entry| entry.body.end).max().unwrap_or(1) as u64;
            (world.below(end.div_ceil(512)), 1)
        }
    };
    let mut bytes = vec![0; (number * 512) as usize];
    let old = world.files.bytes(&block.path).unwrap();
    let from = block.from + (first * 512) as usize;
    if world.below(2) == 0 || old[from..from + bytes.len()] == bytes[..] {
        Seeded::new(world.below(u64::MAX)).fill(&mut bytes);
    }
    world.files.damage(&block.path, &bytes, from as u64);
}
