//! Journal files that were only allocated, for hardly anybody asked for syncs: what is synced
//! in them is as safe as elsewhere, though a sync there may not tell that it failed.

use weir_core::command::Level;
use weir_core::store::Store;
use weir_journal::limits::{SECTOR_BYTES, SPARE_MARGIN_SHARE};

use crate::world::{World, seeds};

/// Turns after which the power must have gone.
const TURNS_MAX: u64 = 20_000;

/// Journal files that were only allocated: such a one ends within a sector.
fn allocated(world: &World) -> usize {
    let paths = world.files.paths().into_iter().filter(|path| path.starts_with("journal/j-"));
    let len = |path: &str| world.files.bytes(path).unwrap().len();
    paths.filter(|path| !len(path).is_multiple_of(SECTOR_BYTES)).count()
}

/// A turn of much at `os` and, one time in `rare`, something that is to be synced. False when
/// the store has stopped.
fn turn(world: &mut World, rare: u64) -> bool {
    let level = if world.below(rare) == 0 { Level::Disk } else { Level::Os };
    let name = format!("queue/{}", world.below(3));
    let lengths: Vec<usize> = (0..=world.below(4)).map(|_| world.below(6_000) as usize).collect();
    if world.try_append(&name, &lengths, level).is_err() || !world.commit() {
        return false;
    }
    if world.below(3) > 0 {
        while world.journal().step_writer() {}
    }
    if world.below(20) > 0 {
        return true;
    }
    world.clock.advance(3);
    world.journal().step().is_ok() && world.commit()
}

#[test]
fn allocated_files() {
    let mut met = 0;
    for seed in seeds(150, 5_000) {
        let mut world = World::new(seed);
        for life in 0..3 {
            let nth = 1 + world.below(300);
            world.files.cut_power_at(nth);
            let rare = 2 + world.below(30);
            let ended = (0..TURNS_MAX).any(|_| !turn(&mut world, rare));
            assert!(ended, "seed {seed}: the power never went");
            met += allocated(&world);
            world.lose_power(&format!("seed {seed}, life {life}"));
        }
    }
    assert!(met > 100, "{met} files were only allocated");
}

#[test]
fn who_asks_often_gets_files_full_of_zeros() {
    for (level, wanted) in [(Level::Disk, false), (Level::Os, true)] {
        let mut world = World::new(1);
        for _ in 0..1_000 {
            assert!(world.append("queue/0", 1, level) && world.commit());
            while world.journal().step_writer() {}
        }
        assert_eq!(allocated(&world) > 0, wanted, "{level:?}");
    }
}

/// What the journal has stays its own: with nothing left but the room for checkpoints its files
/// go round, whatever they were to begin with.
#[test]
fn a_disk_that_is_full_leaves_files_that_were_allocated() {
    let mut met = 0;
    for seed in seeds(30, 300) {
        let mut world = World::new(seed);
        for _ in 0..200 {
            assert!(turn(&mut world, 1_000), "seed {seed}");
        }
        assert!(world.settle(), "seed {seed}");
        met += usize::from(allocated(&world) > 0);
        for name in ["queue/0", "queue/1", "queue/2"] {
            let end = world.bounds(name).end;
            world.trim(name, end);
        }
        assert!(world.commit() && world.settle(), "seed {seed}");
        let margin = world.config.journal_file_bytes / SPARE_MARGIN_SHARE;
        let mut room = u64::MAX;
        // Some thirty files of what consumers leave behind.
        for number in 0..2_000_u64 {
            let state = number.to_le_bytes().repeat(256);
            // Somebody else takes all that becomes free.
            room = room.min(world.files.used_bytes() + margin - 1);
            world.files.set_room(room);
            world.store().put_snapshot("state", state.into()).unwrap();
            assert!(world.commit(), "seed {seed}");
            while world.journal().step_writer() {}
            if number.is_multiple_of(4) {
                world.clock.advance(1_100);
                assert!(world.journal().step().is_ok() && world.commit(), "seed {seed}");
            }
            assert_eq!(world.journal().sync(), Ok(()), "seed {seed}, state {number}");
        }
        world.files.set_room(1 << 40);
        assert!(world.settle(), "seed {seed}");
        world.lose_power(&format!("seed {seed}"));
    }
    assert!(met > 10, "{met} journals had files that were only allocated");
}
