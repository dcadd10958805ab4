//! D14: checkpoints and heads that are damaged, cut short or gone. Either the
//! generation before serves, and everything is there, or the start is refused and
//! nothing is changed. "Empty" is never the answer.

use std::collections::BTreeMap;

use weir_journal::OpenError;
use weir_journal::files::Files;
use weir_journal::format::FILE_HEAD_BYTES;
use weir_journal::sim::SimFiles;

use crate::anatomy::Anatomy;
use crate::world::{Held, World, count};

#[test]
fn damaged_metadata() {
    let (images, all) = (5, count(300, 1_000));
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=images {
        let base = World::aged(200 + seed);
        let mut sound = base.fork();
        sound.start();
        let truth = sound.held();
        assert!(truth.logs.values().any(|log| !log.records.is_empty()));
        for case in 0..all / images {
            let mut world = base.fork();
            world.random = weir_journal::sim::Seeded::new(seed << 32 | case);
            let what = format!("seed {seed} case {case}: {}", damage(&mut world));
            *tally.entry(check(&mut world, &truth, &what)).or_default() += 1;
        }
    }
    println!("damaged_metadata: {tally:?}");
    assert!(tally["refused"] > 0 && tally["all there"] > 0);
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
