//! Somebody else takes all that is left of the disk, and the journal comes to the end
//! of its file. Publishes are refused while consumers go on; when even what is kept
//! for them is used up the journal waits, does not stop, and goes on by itself when
//! there is room. What was acknowledged is there whatever happens meanwhile.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::store::{Catalogue, Store, StoreError};
use weir_journal::sim::SimFiles;
use weir_journal::{Journal, JournalConfig};

use crate::world::{TestClock, World, config, seeds};

/// Longest a wait may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Room of a disk with nothing to worry about, bytes.
const ENOUGH: u64 = 1 << 40;

#[test]
fn full_disk_roll() {
    let mut held = 0;
    for seed in seeds(200, 2_000) {
        let mut world = World::new(seed);
        let steps = world.below(400);
        world.run(steps);
        assert!(world.settle(), "seed {seed}");
        // All of it at once, before the keeper has looked.
        let used = world.files.used_bytes();
        let left = world.below(3 << 10);
        world.files.set_room(used + left);
        refuses(&mut world);
        if world.below(4) == 0 {
            world.clock.advance(1_000);
            assert!(world.journal().step().is_ok() && world.commit(), "seed {seed}");
        }
        if holds(&mut world) {
            held += 1;
        }
        match world.below(3) {
            0 => {
                world.files.set_room(ENOUGH);
                world.lose_power(&format!("seed {seed}"));
            }
            1 => {
                let safe = world.safe();
                world.store = None;
                world.catalogue = None;
                let closed = world.journal.take().unwrap().close();
                assert!(!matches!(closed, Err(StoreError::NoSpace)), "seed {seed}");
                world.files.set_room(ENOUGH);
                world.start();
                assert!(world.journal().report().damage.is_empty(), "seed {seed}");
                world.check(safe, false);
            }
            _ => {
                world.files.set_room(ENOUGH);
                assert!(world.settle(), "seed {seed}: it does not go on");
                assert_eq!(world.journal().sync(), Ok(()), "seed {seed}: it does not go on");
                assert!(world.append("queue/0", 1, Level::Disk) && world.settle(), "seed {seed}");
                world.lose_power(&format!("seed {seed}"));
            }
        }
    }
    assert!(held > 20, "it came to the end of what is kept for consumers {held} times only");
}

/// Publishes until that is refused, as it must be, and with the right word. It may take
/// no more than the file in use and those prepared.
fn refuses(world: &mut World) {
    let seed = world.seed;
    for _ in 0..1_000 {
        match world.try_append("queue/0", &[1_000], Level::Disk) {
            Ok(()) => {}
            Err(StoreError::NoSpace) => {
                assert!(world.journal().figures().has_no_space, "seed {seed}");
                // What was taken before is acknowledged.
                assert!(world.commit(), "seed {seed}");
                assert_eq!(world.journal().sync(), Ok(()), "seed {seed}: it holds what was taken");
                return;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
        assert!(world.commit(), "seed {seed}: {:?}", world.store().commit());
        while world.journal().step_writer() {}
    }
    panic!("seed {seed}: never refused");
}

/// Settles and keeps state until nothing more is written. Whether it came to that: what
/// is settled may make room.
fn holds(world: &mut World) -> bool {
    let seed = world.seed;
    for _ in 0..2_000 {
        let name = format!("queue/{}", world.below(4));
        let bounds = world.bounds(&name);
        if bounds.stable > bounds.start {
            world.release(&name, bounds.start, bounds.start + 1, Level::Disk);
        }
        let len = 1 + world.below(4 << 10) as usize;
        world.store().put_snapshot("state", Bytes::from(vec![7; len])).unwrap();
        assert!(world.commit(), "seed {seed}: {:?}", world.store().commit());
        if world.below(8) == 0 {
            world.clock.advance(100);
            assert!(world.journal().step().is_ok(), "seed {seed}: {:?}", world.store().commit());
        }
        while world.journal().step_writer() {}
        if let Err(error) = world.journal().sync() {
            assert_eq!(error, StoreError::NoSpace, "seed {seed}");
            // Neither keeper nor catalogue waits for it, and nothing changes by trying.
            for _ in 0..10 {
                world.clock.advance(1_100);
                assert!(world.journal().step().is_ok() && world.commit(), "seed {seed}");
            }
            if world.journal().sync().is_ok() {
                continue;
            }
            let put = world.catalogue.as_mut().unwrap().put("key/new", None, 0);
            assert!(matches!(put, Ok(0) | Err(StoreError::NoSpace)), "seed {seed}: {put:?}");
            assert!(!world.put("key/1", b"1"), "seed {seed}: a put while nothing is written");
            assert!(!world.append("queue/0", 1, Level::Disk), "seed {seed}");
            return true;
        }
    }
    false
}

/// With the threads that there are in a broker: none of them waits for another.
#[test]
fn full_disk_roll_with_threads() {
    for is_closed in [false, true] {
        let files = SimFiles::new(8);
        let config = JournalConfig { quick_sync_us: 0, ..config() };
        let open = |files: &SimFiles| {
            let clock = Arc::new(TestClock::default());
            Journal::open(Arc::new(files.clone()), clock, config.clone(), 1).unwrap()
        };
        let journal = open(&files);
        // Rung when the writer has written what the store handed over.
        let (ring, bell) = sync_channel(1);
        let mut store = journal.store(Box::new(move || {
            // Full: it has been rung already.
            let _ = ring.try_send(());
        }));
        let mut catalogue = journal.catalogue();
        let revision = catalogue.put("key", Some(Bytes::from_static(b"value")), 0).unwrap();
        files.set_room(files.used_bytes());
        let mut kept = 0_u32;
        let held = (0..10_000).any(|number| {
            let bytes = Bytes::from(number.to_string().into_bytes().repeat(500));
            store.put_snapshot("state", bytes).unwrap();
            store.commit().unwrap();
            match journal.sync() {
                Ok(()) => kept = number,
                Err(error) => assert!(matches!(error, StoreError::NoSpace), "{error}"),
            }
            kept < number
        });
        assert!(held, "there was always room");
        let put = catalogue.put("key", None, revision);
        assert!(matches!(put, Err(StoreError::NoSpace)), "{put:?}");
        assert!(journal.figures().has_no_space);
        if !is_closed {
            files.set_room(ENOUGH);
            kept += 1;
            let (done, sync) = within(move || {
                while matches!(journal.sync(), Err(StoreError::NoSpace)) {
                    bell.recv().unwrap();
                }
                journal
            });
            let journal = sync.recv_timeout(LONGEST).expect("it goes on when there is room");
            done.join().unwrap();
            catalogue.put("key", None, revision).unwrap();
            drop((store, catalogue));
            journal.close().unwrap();
        } else {
            drop((store, catalogue));
            let (done, closed) = within(move || journal.close());
            let closed = closed.recv_timeout(LONGEST).expect("it ends");
            done.join().unwrap();
            assert!(matches!(closed, Err(StoreError::Fenced(_))), "{closed:?}");
            files.set_room(ENOUGH);
        }
        let journal = open(&files);
        assert!(journal.report().damage.is_empty());
        let store = journal.store(Box::new(|| {}));
        let state = store.snapshot("state").unwrap().unwrap();
        assert_eq!(state, kept.to_string().into_bytes().repeat(500));
        assert_eq!(journal.catalogue().get("key").is_some(), is_closed);
        drop(store);
        journal.close().unwrap();
    }
}

/// Runs `work` in a thread of its own; what it comes to.
fn within<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> (std::thread::JoinHandle<()>, std::sync::mpsc::Receiver<T>) {
    let (tell, told) = sync_channel(1);
    let thread = std::thread::spawn(move || drop(tell.send(work())));
    (thread, told)
}

/// Room comes back soon where all that takes it is settled: nobody waits for the next
/// timed checkpoint.
#[test]
fn settled_segments_make_room_at_once() {
    for seed in seeds(20, 200) {
        let mut world = World::with(seed, JournalConfig { free_bytes_min: 64 << 10, ..config() });
        while world.files.paths().iter().all(|path| !path.starts_with("logs/")) {
            assert!(world.append("queue/0", 4, Level::Disk) && world.commit());
            world.clock.advance(5);
            assert!(world.journal().step().is_ok() && world.commit());
        }
        assert!(world.settle());
        // A little is left above the mark, less than a message takes.
        let used = world.files.used_bytes();
        world.files.set_room(used + (64 << 10) + world.random.below(900));
        world.clock.advance(1_000);
        assert!(world.journal().step().is_ok() && world.commit());
        assert_eq!(world.try_append("queue/0", &[1_000], Level::Disk), Err(StoreError::NoSpace));
        let end = world.bounds("queue/0").end;
        world.release("queue/0", 0, end, Level::Disk);
        assert!(world.commit());
        let resumed = (0..15).find(|_| {
            world.clock.advance(200);
            assert!(world.journal().step().is_ok() && world.commit());
            world.try_append("queue/0", &[1_000], Level::Disk).is_ok()
        });
        assert!(resumed.is_some(), "seed {seed}: no room 3 s after all was settled");
    }
}
