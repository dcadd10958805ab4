//! A journal on a simulated disk beside a model of what it was told, and the check
//! that a start after a crash agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Bounds, Catalogue, LogId, Stamp, Store, StoreError};
use weir_journal::sim::{Seeded, SimFiles};
use weir_journal::{Journal, JournalCatalogue, JournalConfig, JournalStore, OpenError};
use weir_message::BatchBuilder;

/// Time that moves when it is told to.
#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::Relaxed);
        Now { steady_ms: ms, wall_ms: 1_000_000 + ms }
    }
}

/// What is known of one record.
#[derive(Clone)]
pub struct Known {
    pub payload: Vec<u8>,
    /// Position it was handed over at, and the level asked for.
    pub position: u64,
    pub level: Level,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} handed over at {}", self.level, self.position)
    }
}

#[derive(Clone, Debug, Default)]
pub struct ModelLog {
    pub records: BTreeMap<u64, Known>,
    pub end: u64,
    /// Released offsets: position and level of the release.
    pub released: BTreeMap<u64, (u64, Level)>,
    /// Position at which it was removed.
    pub removed: Option<u64>,
}

/// A catalogue key's value.
pub type Keys = BTreeMap<String, Option<Vec<u8>>>;

/// What a turn has asked for.
enum Asked {
    Append(String, u64, u64),
    Release(String, u64, u64),
    Remove(String),
}

pub struct World {
    pub seed: u64,
    pub random: Seeded,
    pub files: SimFiles,
    pub clock: Arc<TestClock>,
    pub journal: Option<Journal>,
    pub store: Option<JournalStore>,
    pub catalogue: Option<JournalCatalogue>,
    pub logs: BTreeMap<String, ModelLog>,
    pub open: BTreeMap<String, LogId>,
    pub keys: Keys,
    /// Values of puts that failed: they may be there or not.
    pub maybe: Vec<(String, Vec<u8>)>,
    pub config: JournalConfig,
    /// What the turn that is open has asked for.
    turn: Vec<Asked>,
}

pub fn config() -> JournalConfig {
    let mut config = JournalConfig::new(STORE);
    config.journal_file_bytes = 128 << 10;
    config.kept_journal_files = 2;
    config.filed_at_once = 1;
    config.segment_bytes = 96 << 10;
    config.resident_bytes_max = 64 << 10;
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config.scrub_period_ms = 0;
    config
}

/// What is safe when everything that was handed over is.
pub const EVERYTHING: (u64, u64) = (u64::MAX - 1, u64::MAX - 1);

/// Number of the data folders.
pub const STORE: u128 = 0x5eed_5eed;

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, config())
    }

    pub fn with(seed: u64, config: JournalConfig) -> Self {
        let mut world = Self::over(SimFiles::new(seed ^ 0xd15c), seed, config);
        world.start();
        world
    }

    /// A world that knows of nothing, over that disk, and not started.
    pub fn over(files: SimFiles, seed: u64, config: JournalConfig) -> Self {
        Self {
            seed,
            random: Seeded::new(seed),
            files,
            clock: Arc::default(),
            journal: None,
            store: None,
            catalogue: None,
            logs: BTreeMap::new(),
            open: BTreeMap::new(),
            keys: Keys::new(),
            maybe: Vec::new(),
            config,
            turn: Vec::new(),
        }
    }

    /// The same disk and the same knowledge once more, not started.
    pub fn fork(&self) -> Self {
        let mut world = Self::over(self.files.fork(), self.seed, self.config.clone());
        world.logs.clone_from(&self.logs);
        world.keys.clone_from(&self.keys);
        world.maybe.clone_from(&self.maybe);
        world.clock.advance(self.clock.now().steady_ms);
        world
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    pub fn start(&mut self) {
        let seed = self.seed;
        self.try_start().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }

    pub fn try_start(&mut self) -> Result<(), OpenError> {
        let files = Arc::new(self.files.clone());
        let journal = Journal::open_stepped(files, self.clock.clone(), self.config.clone(), 1)?;
        self.store = Some(journal.store(Box::new(|| {})));
        self.catalogue = Some(journal.catalogue());
        self.journal = Some(journal);
        self.open.clear();
        self.turn.clear();
        Ok(())
    }

    /// Drops the process without a goodbye.
    pub fn stop(&mut self) {
        self.store = None;
        self.catalogue = None;
        self.journal = None;
    }

    pub fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    pub fn store(&mut self) -> &mut JournalStore {
        self.store.as_mut().unwrap()
    }

    pub fn log(&mut self, name: &str) -> LogId {
        let seed = self.seed;
        self.try_log(name).unwrap_or_else(|error| panic!("seed {seed}: {name}: {error}"))
    }

    pub fn try_log(&mut self, name: &str) -> Result<LogId, StoreError> {
        if let Some(&log) = self.open.get(name) {
            return Ok(log);
        }
        let log = self.store().open(name)?;
        self.open.insert(name.to_owned(), log);
        self.logs.entry(name.to_owned()).or_default();
        Ok(log)
    }

    pub fn bounds(&mut self, name: &str) -> Bounds {
        let log = self.log(name);
        self.store().bounds(log)
    }

    /// Appends `count` records; false when the store refuses.
    pub fn append(&mut self, name: &str, count: u64, level: Level) -> bool {
        let lengths: Vec<usize> = (0..count).map(|_| self.below(1_500) as usize).collect();
        self.try_append(name, &lengths, level).is_ok()
    }

    /// Appends records of those lengths.
    pub fn try_append(
        &mut self,
        name: &str,
        lengths: &[usize],
        level: Level,
    ) -> Result<(), StoreError> {
        let log = self.try_log(name)?;
        let base = self.store().bounds(log).end;
        let mut batch = BatchBuilder::default();
        let mut payloads = Vec::new();
        for (offset, len) in (base..).zip(lengths) {
            let mut payload = format!("{name}@{offset}:{}:", self.seed).into_bytes();
            let fill = self.below(256) as u8;
            payload.resize(payload.len() + len, fill);
            let mut message = Vec::new();
            weir_message::encode(&mut message, "s", b"", &[], &payload);
            batch.push(&message);
            payloads.push(message);
        }
        let now = self.clock.now();
        let stamp = Stamp { time_ms: now.wall_ms, due_ms: 0 };
        let taken = batch.take();
        self.store().append(log, base, stamp, taken.clone(), level)?;
        let end = base + lengths.len() as u64;
        let model = self.logs.get_mut(name).unwrap();
        for (offset, payload) in (base..).zip(payloads) {
            model.records.insert(offset, Known { payload, position: u64::MAX, level });
        }
        model.end = end;
        self.turn.push(Asked::Append(name.to_owned(), base, end));
        Ok(())
    }

    pub fn release(&mut self, name: &str, from: u64, to: u64, level: Level) {
        let log = self.log(name);
        self.store().release(log, from, to, level);
        self.note_released(name, from, to, level);
    }

    pub fn trim(&mut self, name: &str, to: u64) {
        let log = self.log(name);
        let from = self.store().bounds(log).start;
        self.store().trim(log, to);
        self.note_released(name, from, to, Level::Os);
    }

    fn note_released(&mut self, name: &str, from: u64, to: u64, level: Level) {
        let model = self.logs.get_mut(name).unwrap();
        for offset in from..to {
            model.released.entry(offset).or_insert((u64::MAX, level));
        }
        self.turn.push(Asked::Release(name.to_owned(), from, to));
    }

    /// Removes a log; its name is free again when that is safe.
    pub fn remove(&mut self, name: &str) {
        let log = self.log(name);
        if self.store().remove(log).is_ok() {
            self.open.remove(name);
            self.logs.get_mut(name).unwrap().removed = Some(u64::MAX);
            self.turn.push(Asked::Remove(name.to_owned()));
        }
    }

    /// Whether a log can be used: it was not removed, or for good.
    pub fn is_usable(&mut self, name: &str) -> bool {
        let Some(removed) = self.logs.get(name).and_then(|log| log.removed) else { return true };
        let is_safe = removed <= self.store().safe(Level::Disk);
        if is_safe {
            self.logs.remove(name);
        }
        is_safe
    }

    /// Ends the turn.
    pub fn commit(&mut self) -> bool {
        if self.store().commit().is_err() {
            return false;
        }
        let position = self.store().position();
        for asked in std::mem::take(&mut self.turn) {
            let logs = &mut self.logs;
            match asked {
                Asked::Append(name, from, to) => {
                    let records = &mut logs.get_mut(&name).unwrap().records;
                    records.range_mut(from..to).for_each(|(_, known)| known.position = position);
                }
                Asked::Release(name, from, to) => {
                    let released = &mut logs.get_mut(&name).unwrap().released;
                    let new = released.range_mut(from..to).filter(|(_, known)| known.0 == u64::MAX);
                    new.for_each(|(_, known)| known.0 = position);
                }
                Asked::Remove(name) => logs.get_mut(&name).unwrap().removed = Some(position),
            }
        }
        true
    }

    pub fn put(&mut self, key: &str, value: &[u8]) -> bool {
        let catalogue = self.catalogue.as_mut().unwrap();
        let revision = catalogue.get(key).map_or(0, |entry| entry.revision);
        let done = catalogue.put(key, Some(Bytes::copy_from_slice(value)), revision).is_ok();
        if done {
            self.keys.insert(key.to_owned(), Some(value.to_vec()));
        } else {
            self.maybe.push((key.to_owned(), value.to_vec()));
        }
        done
    }

    /// One step of a busy store. False when the store has stopped.
    pub fn step(&mut self) -> bool {
        let name = format!("queue/{}", self.below(4));
        match self.below(20) {
            0..8 => {
                let count = 1 + self.below(6);
                let level = if self.below(3) == 0 { Level::Os } else { Level::Disk };
                self.append(&name, count, level)
            }
            8..11 => {
                let Ok(log) = self.try_log(&name) else { return false };
                let bounds = self.store().bounds(log);
                if bounds.stable > bounds.start {
                    let from = bounds.start + self.below(bounds.stable - bounds.start);
                    let to = (from + 1 + self.below(8)).min(bounds.stable);
                    let level = if self.below(2) == 0 { Level::Os } else { Level::Disk };
                    self.release(&name, from, to, level);
                }
                true
            }
            11 => {
                let (key, value) = (format!("key/{}", self.below(5)), self.below(1_000));
                self.commit() && self.put(&key, value.to_string().as_bytes())
            }
            12..16 => self.commit(),
            16 | 17 => {
                let _more = self.journal().step_writer();
                true
            }
            _ => {
                self.clock.advance(3);
                self.journal().step().is_ok() && self.commit()
            }
        }
    }

    /// A number of steps in which nothing may fail.
    pub fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            if !self.step() {
                let why = self.store().commit();
                panic!("seed {}: nothing was to fail: {why:?}", self.seed);
            }
        }
    }

    /// Lets writer and keeper finish what they can. False when the journal stopped.
    pub fn settle(&mut self) -> bool {
        (0..8).all(|_| {
            self.clock.advance(1_100);
            self.commit() && self.journal().step().is_ok()
        }) && self.commit()
    }

    /// Random turns in which logs are also trimmed, removed and made again, until
    /// one fails or `steps` are done.
    pub fn churn(&mut self, steps: u64) -> bool {
        (0..steps).all(|_| {
            let name = format!("queue/{}", self.below(4));
            let is_other = self.below(12) > 0;
            if is_other || !self.is_usable(&name) || !self.logs.contains_key(&name) {
                return self.usable_step();
            }
            let Ok(log) = self.try_log(&name) else { return false };
            let bounds = self.store().bounds(log);
            match self.below(5) {
                0 => self.remove(&name),
                _ => {
                    let to = bounds.start + self.below(bounds.stable - bounds.start + 1);
                    self.trim(&name, to);
                }
            }
            true
        })
    }

    /// A step, unless it is about a log that cannot be used now.
    fn usable_step(&mut self) -> bool {
        let is_usable = (0..4).all(|number| self.is_usable(&format!("queue/{number}")));
        if is_usable {
            return self.step();
        }
        self.clock.advance(1_100);
        self.commit() && self.journal().step().is_ok() && self.commit()
    }

    /// What is safe now at a level, as the store says.
    pub fn safe(&mut self) -> (u64, u64) {
        (self.store().safe(Level::Os), self.store().safe(Level::Disk))
    }

    /// Cuts the power and starts again: no damage, and everything promised is there.
    /// `what` says where, should it not be so.
    pub fn lose_power(&mut self, what: &str) {
        let safe = self.safe();
        self.stop();
        let crash = self.below(u64::MAX);
        self.files.crash(crash);
        self.start();
        let report = self.journal().report().clone();
        assert!(report.damage.is_empty(), "{what}: {}", report.summary());
        self.check(safe, true);
    }

    /// Checks what a start has found against what was promised: `safe` is what the
    /// store said before the end, `cut` whether the power went.
    pub fn check(&mut self, safe: (u64, u64), cut: bool) {
        let seed = self.seed;
        let (written, synced) = safe;
        let promised = |position: u64| position <= if cut { synced } else { written };
        let names: Vec<String> = self.logs.keys().cloned().collect();
        for name in names {
            let was = self.logs[&name].clone();
            if was.removed.is_some_and(promised) {
                assert!(!self.store().has(&name), "seed {seed}: {name} was removed and is back");
                self.logs.remove(&name);
                continue;
            }
            let any_promised = was.records.values().any(|known| promised(known.position));
            if !self.store().has(&name) {
                let may_be_gone = !any_promised || was.removed.is_some();
                assert!(may_be_gone, "seed {seed}: {name} is gone");
                self.logs.remove(&name);
                continue;
            }
            let log = self.log(&name);
            let found = self.read_all(&name);
            let bounds = self.store().bounds(log);
            assert!(
                bounds.end <= was.end,
                "seed {seed}: {name} ends at {} of {}",
                bounds.end,
                was.end
            );
            let mut now = ModelLog { end: bounds.end, ..ModelLog::default() };
            for (offset, known) in &was.records {
                let is_there = found.contains_key(offset);
                let release = was.released.get(offset);
                if is_there {
                    assert!(
                        found[offset] == known.payload,
                        "seed {seed}: {name}@{offset} has other bytes"
                    );
                    let settled = release.is_some_and(|&(position, _)| promised(position));
                    assert!(!settled, "seed {seed}: {name}@{offset} was settled and is back");
                    now.records.insert(*offset, Known { position: 0, ..known.clone() });
                } else if promised(known.position) {
                    assert!(
                        release.is_some(),
                        "seed {seed}: {name}@{offset} is lost ({known:?} with {safe:?}, cut {cut}; \
                         {bounds:?}; {:?})",
                        self.journal.as_ref().unwrap().report()
                    );
                }
            }
            for offset in found.keys() {
                assert!(
                    was.records.contains_key(offset),
                    "seed {seed}: {name}@{offset} is made up"
                );
            }
            // A prefix: what lies before a record that is there is there or settled.
            if let Some(last) = found.keys().next_back() {
                for offset in was.records.range(..last).map(|(offset, _)| offset) {
                    let settled = was.released.contains_key(offset);
                    assert!(
                        found.contains_key(offset) || settled,
                        "seed {seed}: hole at {name}@{offset}"
                    );
                }
            }
            let live: u64 = found.values().map(|message| message.len() as u64).sum();
            assert_eq!(
                bounds.bytes > 0,
                live > 0,
                "seed {seed}: {name} bytes {} of {live}",
                bounds.bytes
            );
            self.logs.insert(name, now);
        }
        for (key, value) in std::mem::take(&mut self.maybe) {
            let found = self.catalogue.as_ref().unwrap().get(&key).map(|entry| entry.value);
            if found.is_some_and(|found| found == value) {
                self.keys.insert(key, Some(value));
            }
        }
        for (key, value) in &self.keys {
            let found = self.catalogue.as_ref().unwrap().get(key).map(|entry| entry.value.to_vec());
            assert_eq!(&found, value, "seed {seed}: catalogue {key}");
        }
    }

    /// Every record of a log, by offset.
    pub fn read_all(&mut self, name: &str) -> BTreeMap<u64, Vec<u8>> {
        let log = self.log(name);
        let bounds = self.store().bounds(log);
        let mut all = BTreeMap::new();
        let (mut at, mut seen) = (bounds.start, BTreeSet::new());
        while at < bounds.stable {
            let mut records = Vec::new();
            let bytes = 1 + self.below(20_000) as usize;
            self.store().read(log, at, bytes, &mut records).unwrap_or_else(|error| {
                panic!("seed {}: {name}@{at}: {error}", self.seed);
            });
            let Some(last) = records.last() else { break };
            at = last.offset + last.batch.len() as u64;
            for piece in &records {
                for (offset, message) in (piece.offset..).zip(piece.batch.iter()) {
                    assert!(seen.insert(offset), "seed {}: {name}@{offset} twice", self.seed);
                    all.insert(offset, message.to_vec());
                }
            }
        }
        all
    }
}

/// What a store holds, as it tells itself.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub logs: BTreeMap<String, HeldLog>,
    pub keys: Keys,
}

#[derive(Clone, Debug, Default)]
pub struct HeldLog {
    pub bounds: Bounds,
    pub records: BTreeMap<u64, Vec<u8>>,
    /// What it says is damaged when it is read.
    pub damaged: Vec<(u64, u64)>,
}

impl World {
    /// Everything the store holds of the logs that are known, and of those that a
    /// start names.
    pub fn held(&mut self) -> Held {
        let mut names: BTreeSet<String> = self.journal().unopened().into_iter().collect();
        let known = self.logs.keys().filter(|name| self.store.as_ref().unwrap().has(name));
        names.extend(known.cloned());
        let mut held = Held::default();
        for name in names {
            let log = self.held_log(&name);
            held.logs.insert(name, log);
        }
        for number in 0..5 {
            let key = format!("key/{number}");
            let value = self.catalogue.as_ref().unwrap().get(&key).map(|e| e.value.to_vec());
            held.keys.insert(key, value);
        }
        held
    }

    fn held_log(&mut self, name: &str) -> HeldLog {
        let bounds = self.bounds(name);
        let log = self.log(name);
        let mut held = HeldLog { bounds, ..HeldLog::default() };
        let mut at = bounds.start;
        while at < bounds.stable {
            let mut records = Vec::new();
            match self.store().read(log, at, 8 << 10, &mut records) {
                Ok(()) if records.is_empty() => break,
                Ok(()) => {
                    for piece in &records {
                        let rows = (piece.offset..).zip(piece.batch.iter());
                        held.records.extend(rows.map(|(offset, row)| (offset, row.to_vec())));
                        at = piece.offset + piece.batch.len() as u64;
                    }
                }
                Err(StoreError::Damaged { from, to }) => {
                    assert!(from < to && to > at, "seed {}: {name} {from}..{to}", self.seed);
                    held.damaged.push((from, to));
                    at = to;
                }
                Err(error) => panic!("seed {}: {name}@{at}: {error}", self.seed),
            }
        }
        held
    }

    /// A store of some age: journal files, checkpoints, active and sealed segments,
    /// and a last life that was not ended cleanly. All of it is synced.
    pub fn aged(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for _life in 0..2 {
            let steps = 700 + world.below(300);
            world.run(steps);
            assert!(world.settle());
            let safe = world.safe();
            world.stop();
            world.files.kill();
            world.start();
            world.check(safe, false);
        }
        world.run(250);
        // The last block tells that those before it are synced.
        for _ in 0..2 {
            assert!(world.append("queue/0", 1, Level::Disk) && world.commit());
            assert!(world.journal().step().is_ok() && world.commit());
        }
        world.stop();
        world.files.kill();
        world
    }
}

/// How often a test does what it does: `ci` times; `full` with `WEIR_DURABILITY=full`,
/// but no more than `WEIR_DURABILITY_SEEDS_MAX`; or as `WEIR_DURABILITY_SEEDS` says.
pub fn count(ci: u64, full: u64) -> u64 {
    let said = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    let is_full = std::env::var("WEIR_DURABILITY").is_ok_and(|kind| kind == "full");
    let most = said("WEIR_DURABILITY_SEEDS_MAX").unwrap_or(u64::MAX);
    let usual = if is_full { full.min(most) } else { ci };
    said("WEIR_DURABILITY_SEEDS").unwrap_or(usual)
}

/// The seeds a test runs: as many as [`count`] says, or `WEIR_DURABILITY_SEED` only.
pub fn seeds(ci: u64, full: u64) -> Vec<u64> {
    match std::env::var("WEIR_DURABILITY_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=count(ci, full)).collect(),
    }
}
