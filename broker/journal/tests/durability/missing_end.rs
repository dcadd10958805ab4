//! What was synced when the broker stopped in good order, and is not there any
//! more, is damage and no torn end: however often it is started, until the files are
//! put back or the loss is accepted.

use std::sync::Arc;

use weir_core::command::Level;
use weir_core::store::{Store, StoreError};
use weir_journal::files::Files;
use weir_journal::tools::{Folder, accept_all_losses};

use crate::anatomy::Anatomy;
use crate::world::{World, config, count};

/// A store that was stopped in good order.
fn stopped(seed: u64) -> World {
    let mut world = World::aged(seed);
    world.start();
    let steps = 20 + world.below(200);
    world.run(steps);
    assert!(world.append("queue/0", 1, Level::Disk) && world.commit() && world.settle());
    (world.store, world.catalogue) = (None, None);
    world.journal.take().unwrap().close().unwrap();
    world
}

/// Takes the end away. Returns the file and what it held.
fn take_end(world: &mut World) -> (String, Vec<u8>) {
    let anatomy = Anatomy::of(&world.files);
    let last = anatomy.journal_blocks().next_back().unwrap().path.clone();
    let blocks: Vec<_> = anatomy.journal_blocks().filter(|part| part.path == last).collect();
    let (held, cut) = {
        let first = world.below(blocks.len() as u64) as usize;
        (world.files.bytes(&last).unwrap(), blocks[first].from)
    };
    match world.below(4) {
        0 => world.files.open(&last).unwrap().set_len(cut as u64).unwrap(),
        1 => world.files.open(&last).unwrap().set_len(cut as u64 + 100).unwrap(),
        2 => world.files.damage(&last, &vec![0; held.len() - cut], cut as u64),
        _ => world.files.remove(&last).unwrap(),
    }
    (last, held)
}

/// What is told to be lost, by log.
fn lost(world: &World) -> Vec<(String, u64, u64)> {
    let report = world.journal().report();
    report.lost().map(|lost| (lost.log.clone(), lost.from, lost.to)).collect()
}

/// Whether the log takes a record.
fn takes(world: &mut World, name: &str) -> bool {
    let log = world.log(name);
    let mut batch = weir_message::BatchBuilder::default();
    let mut message = Vec::new();
    weir_message::encode(&mut message, "a", b"", &[], b"more");
    batch.push(&message);
    let end = world.store().bounds(log).end;
    let stamp = weir_core::store::Stamp { time_ms: 1, due_ms: 0 };
    match world.store().append(log, end, stamp, batch.take(), Level::Disk) {
        Ok(()) => true,
        Err(StoreError::Damaged { .. }) => false,
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn missing_end() {
    for seed in 1..=count(40, 1_000) {
        let mut world = stopped(seed);
        let truth = {
            let mut sound = world.fork();
            sound.start();
            assert!(sound.journal().report().damage.is_empty(), "seed {seed}");
            sound.held()
        };
        let (path, held) = take_end(&mut world);
        let mut before = None;
        for _ in 0..3 {
            world.start();
            let told = lost(&world);
            assert!(!told.is_empty(), "seed {seed}: {path} is short and nothing is told");
            for name in truth.logs.keys() {
                let is_closed = told.iter().any(|(log, ..)| log == name);
                assert!(is_closed != takes(&mut world, name), "seed {seed}: {name} {told:?}");
            }
            world.stop();
            world.files.kill();
            assert_eq!(*before.get_or_insert(told.clone()), told, "seed {seed}: another loss");
        }
        let mut given_up = world.fork();
        let files = Arc::new(given_up.files.clone());
        accept_all_losses(files.clone(), given_up.clock.clone(), config()).unwrap();
        let again = accept_all_losses(files.clone(), given_up.clock.clone(), config());
        assert!(again.is_err(), "seed {seed}: accepted twice");
        let folder = Folder::open(files, given_up.clock.clone()).unwrap();
        assert!(folder.report().damage.is_empty(), "seed {seed}: {:?}", folder.report());
        drop(folder);
        given_up.start();
        for name in truth.logs.keys() {
            assert!(takes(&mut given_up, name), "seed {seed}: {name} stays closed");
        }
        // Put back, it is as if nothing had been.
        let files = &world.files;
        drop(files.remove(&path));
        let file = files.create(&path).unwrap();
        file.write_at(&held, 0).unwrap();
        file.sync_data().unwrap();
        files.sync_folder("journal").unwrap();
        world.start();
        let report = world.journal().report();
        assert!(report.damage.is_empty(), "seed {seed}: {report:?}");
        let now = world.held();
        for (name, was) in &truth.logs {
            let now = &now.logs[name];
            assert!(now.records == was.records, "seed {seed}: {name} has not come back");
            assert!(takes(&mut world, name), "seed {seed}: {name} stays closed");
        }
    }
}
