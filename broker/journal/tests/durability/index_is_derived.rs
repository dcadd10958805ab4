//! D11: the footer of a segment is only an index. Without it, or with another in
//! its place, the store answers as a scan of the blocks would, and no log ends
//! elsewhere.

use weir_core::store::Store;
use weir_journal::files::Files;

use crate::anatomy::{Anatomy, Part};
use crate::proof::Proof;
use crate::world::{EVERYTHING, Held, World};

#[test]
fn index_is_derived() {
    let images = 5;
    let (mut proof, each) = Proof::of_cases("index_is_derived", 100, 500, images);
    for seed in 1..=images {
        let base = World::aged(100 + seed);
        let footers = Anatomy::of(&base.files).footers();
        assert!(footers.len() > 1, "seed {seed}: {} sealed segments", footers.len());
        let mut sound = base.fork();
        sound.start();
        let truth = sound.held();
        for case in 0..each {
            let mut world = base.fork();
            world.random = weir_journal::sim::Seeded::new(seed << 32 | case);
            let mut what = format!("seed {seed} case {case}");
            for _ in 0..1 + world.below(2) {
                what += &damage(&mut world, &footers);
            }
            world.start();
            let report = world.journal().report().clone();
            assert_eq!(report.lost().count(), 0, "{what}: {}", report.summary());
            let held = world.held();
            compare(&truth, &held, &what);
            world.check(EVERYTHING, false);
            // It goes on, and the next start finds the same and more.
            for name in truth.logs.keys() {
                let log = world.log(name);
                assert!(world.store().damage(log).is_none(), "{what}: {name} is closed");
            }
            world.run(100);
            assert!(world.settle(), "{what}");
            let safe = world.safe();
            world.stop();
            world.files.crash(case);
            world.start();
            world.check(safe, true);
        }
    }
    proof.figure("0 answered otherwise than a scan".to_owned());
}

/// Does something to a footer. Tells what.
fn damage(world: &mut World, footers: &[Part]) -> String {
    let pick = |world: &mut World| footers[world.below(footers.len() as u64) as usize].clone();
    let footer = pick(world);
    let (at, len) = (footer.from as u64, footer.to - footer.from);
    let how = match world.below(5) {
        0 => {
            world.files.open(&footer.path).unwrap().set_len(at).unwrap();
            "deleted"
        }
        1 => {
            world.files.damage(&footer.path, &vec![0; len], at);
            "zeroed"
        }
        2 => {
            let cut = at + world.below(len as u64);
            world.files.open(&footer.path).unwrap().set_len(cut).unwrap();
            "truncated"
        }
        3 => {
            let byte = at + world.below(len as u64);
            let bit = world.below(8) as u8;
            if world.files.bytes(&footer.path).unwrap().len() as u64 > byte {
                world.files.flip_bit(&footer.path, byte, bit);
            }
            "flipped"
        }
        _ => {
            // That of another segment, ended where this one is trusted to end.
            let other = pick(world);
            let mut bytes = vec![0; len];
            let theirs = &world.files.bytes(&other.path).unwrap();
            let theirs = &theirs[other.from.min(theirs.len())..other.to.min(theirs.len())];
            let common = len.min(theirs.len());
            bytes[len - common..].copy_from_slice(&theirs[theirs.len() - common..]);
            world.files.damage(&footer.path, &bytes, at);
            "swapped"
        }
    };
    format!(", {} {how}", footer.path)
}

fn compare(truth: &Held, held: &Held, what: &str) {
    assert_eq!(truth.keys, held.keys, "{what}");
    assert_eq!(truth.logs.len(), held.logs.len(), "{what}");
    for (name, was) in &truth.logs {
        let now = &held.logs[name];
        assert!(now.damaged.is_empty(), "{what}: {name} {:?}", now.damaged);
        assert_eq!(was.bounds, now.bounds, "{what}: {name}");
        assert!(was.records == now.records, "{what}: {name} reads otherwise");
    }
}
