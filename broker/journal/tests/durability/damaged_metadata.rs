//! D14: checkpoints and heads that are damaged, cut short or gone. Either the
//! generation before serves, and everything is there, or the start is refused and
//! nothing is changed. "Empty" is never the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_journal::OpenError;
use weir_journal::files::Files;
use weir_journal::format::FILE_HEAD_BYTES;
use weir_journal::sim::SimFiles;
use weir_journal::tools::Folder;

use crate::anatomy::Anatomy;
use crate::proof::Proof;
use crate::world::{Held, World, seeds};

#[test]
fn damaged_metadata() {
    let images = 5;
    let (mut proof, each) = Proof::of_cases("damaged_metadata", 300, 1_000, images);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=images {
        let base = World::aged(200 + seed);
        let mut sound = base.fork();
        sound.start();
        let truth = sound.held();
        assert!(truth.logs.values().any(|log| !log.records.is_empty()));
        for case in 0..each {
            let mut world = base.fork();
            world.random = weir_journal::sim::Seeded::new(seed << 32 | case);
            let what = format!("seed {seed} case {case}: {}", damage(&mut world));
            *tally.entry(check(&mut world, &truth, &what)).or_default() += 1;
        }
    }
    proof.figure(format!("{tally:?}, 0 empty"));
    assert!(tally["refused"] > 0 && tally["all there"] > 0);
}

/// Where the mark and the checkpoint name the folder nothing is lost with the head of a
/// journal file, or with that of the mark. It is told all the same.
#[test]
fn damaged_heads_are_named() {
    for seed in seeds(10, 100) {
        let base = World::aged(300 + seed);
        let anatomy = Anatomy::of(&base.files);
        let (_, newest) = anatomy.checkpoints.last().unwrap();
        let needed = format!("journal/j-{:016x}.wj", newest.replay_from);
        let journal = anatomy.paths().into_iter().filter(|path| *path >= needed);
        let journal = journal.filter(|path| path.starts_with("journal/j-"));
        for path in journal.chain(["synced".to_owned()]) {
            let mut world = base.fork();
            let how = match world.below(3) {
                0 => {
                    world.files.damage(&path, &[0; FILE_HEAD_BYTES], 0);
                    "zeroed"
                }
                _ => {
                    let (byte, bit) = (world.below(56), world.below(8) as u8);
                    world.files.flip_bit(&path, byte, bit);
                    "with a flipped bit"
                }
            };
            let looked = Folder::open(Arc::new(world.files.clone()), world.clock.clone());
            let looked = looked.unwrap().report().clone();
            world.start();
            let report = world.journal().report();
            let is_named = |head: &String| head.starts_with(&format!("{path}: "));
            let what = format!("seed {seed}: {path} {how}");
            assert!(report.heads.iter().any(is_named), "{what}: {:?}", report.heads);
            assert_eq!(looked.heads, report.heads, "{what}");
            assert!(report.damage.is_empty(), "{what}: {}", report.summary());
        }
        let mut sound = base.fork();
        sound.start();
        assert_eq!(sound.journal().report().heads, [""; 0], "seed {seed}");
    }
}

/// Damages something. Tells what.
fn damage(world: &mut World) -> String {
    let anatomy = Anatomy::of(&world.files);
    let checkpoints: Vec<String> =
        anatomy.checkpoints.iter().map(|(path, _)| path.clone()).collect();
    let newest = checkpoints.last().unwrap().clone();
    // The last file may go unnoticed where no checkpoint knows of it.
    let mut journal: Vec<String> =
        anatomy.paths().into_iter().filter(|path| path.starts_with("journal/j-")).collect();
    journal.pop();
    match world.below(6) {
        0 | 1 => hurt(world, &newest, None),
        2 => {
            let path = checkpoints[world.below(checkpoints.len() as u64) as usize].clone();
            hurt(world, &path, None)
        }
        3 => {
            let each = checkpoints.iter().map(|path| hurt(world, path, None));
            each.collect::<Vec<_>>().join(", ")
        }
        4 => {
            let path = journal[world.below(journal.len() as u64) as usize].clone();
            hurt(world, &path, Some(FILE_HEAD_BYTES as u64))
        }
        _ => {
            let path = journal[world.below(journal.len() as u64) as usize].clone();
            let first = hurt(world, &newest, None);
            first + ", " + &hurt(world, &path, Some(FILE_HEAD_BYTES as u64))
        }
    }
}

/// Damages a file, only its first bytes if told. Tells how.
fn hurt(world: &mut World, path: &str, within: Option<u64>) -> String {
    let files = world.files.clone();
    let len = files.bytes(path).unwrap().len() as u64;
    let len = within.unwrap_or(len).min(len);
    let how = match world.below(5) {
        0 => {
            files.remove(path).unwrap();
            files.sync_folder(path.rsplit_once('/').map_or("", |(folder, _)| folder)).unwrap();
            "removed".to_owned()
        }
        1 if within.is_none() => {
            let to = world.below(len);
            files.open(path).unwrap().set_len(to).unwrap();
            format!("cut to {to}")
        }
        2 => {
            let from = world.below(len / 512) * 512;
            files.damage(path, &vec![0; (len - from) as usize], from);
            format!("zeroed from {from}")
        }
        _ => {
            // Heads are mostly padding, which says nothing.
            let bound = if world.below(2) == 0 { len } else { len.min(56) };
            let (byte, bit) = (world.below(bound), world.below(8) as u8);
            files.flip_bit(path, byte, bit);
            format!("byte {byte} bit {bit} flipped")
        }
    };
    format!("{path} {how}")
}

fn check(world: &mut World, truth: &Held, what: &str) -> &'static str {
    let before = contents(&world.files);
    match world.try_start() {
        Err(error) => {
            let is_known = matches!(
                error,
                OpenError::Metadata { .. } | OpenError::Foreign { .. } | OpenError::Newer { .. }
            );
            assert!(is_known && !error.to_string().is_empty(), "{what}: {error:?}");
            let after = contents(&world.files);
            let is_same = before == after;
            assert!(is_same, "{what}: refused, and changed {:?}", changed(&before, &after));
            "refused"
        }
        Ok(()) => {
            let report = world.journal().report().clone();
            let held = world.held();
            assert_eq!(truth.logs.len(), held.logs.len(), "{what}: {report:?}");
            for (name, was) in &truth.logs {
                let now = &held.logs[name];
                assert_eq!(was.bounds.end, now.bounds.end, "{what}: {name}: {report:?}");
                assert!(was.records == now.records, "{what}: {name} reads otherwise: {report:?}");
            }
            assert_eq!(truth.keys, held.keys, "{what}: {report:?}");
            // Journal files that nothing needs are used again; checkpoints stay.
            let after = contents(&world.files);
            for path in before.keys().filter(|path| path.starts_with("checkpoint-")) {
                assert!(before[path] == after[path], "{what}: {path} was touched");
            }
            "all there"
        }
    }
}

/// Every file but those that say that a start was tried.
fn contents(files: &SimFiles) -> BTreeMap<String, Vec<u8>> {
    let paths = files.paths().into_iter();
    let paths = paths.filter(|path| path != "lock" && !path.starts_with("last-recovery"));
    paths.map(|path| (path.clone(), files.bytes(&path).unwrap())).collect()
}

fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let paths = before.keys().chain(after.keys());
    paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}
