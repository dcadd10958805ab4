//! A journal on a simulated disk beside a model of what it was told, and the check
//! that a start after a crash agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{Catalogue, LogId, Stamp, Store};
use weir_journal::sim::{Seeded, SimFiles};
use weir_journal::{Journal, JournalCatalogue, JournalConfig, JournalStore};
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
}

/// A catalogue key's history: value and whether the put had returned.
pub type Keys = BTreeMap<String, Option<Vec<u8>>>;

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
    pub config: JournalConfig,
    /// Appends and releases of the turn that is open.
    turn: Vec<(String, u64, u64, Level, bool)>,
}

pub fn config() -> JournalConfig {
    let mut config = JournalConfig::new(0x5eed_5eed);
    config.journal_file_bytes = 128 << 10;
    config.resident_bytes_max = 64 << 10;
    (config.free_bytes_min, config.free_percent_min) = (0, 0);
    config.scrub_period_ms = 0;
    config
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            random: Seeded::new(seed),
            files: SimFiles::new(seed ^ 0xd15c),
            clock: Arc::default(),
            journal: None,
            store: None,
            catalogue: None,
            logs: BTreeMap::new(),
            open: BTreeMap::new(),
            keys: Keys::new(),
            config: config(),
            turn: Vec::new(),
        };
        world.start();
        world
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    pub fn start(&mut self) {
        let files = Arc::new(self.files.clone());
        let journal = Journal::open_stepped(files, self.clock.clone(), self.config.clone(), 1);
        let journal = journal.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.store = Some(journal.store(Box::new(|| {})));
        self.catalogue = Some(journal.catalogue());
        self.journal = Some(journal);
        self.open.clear();
        self.turn.clear();
    }

    /// Drops the process without a goodbye.
    pub fn stop(&mut self) {
        self.store = None;
        self.catalogue = None;
        self.journal = None;
    }

    pub fn store(&mut self) -> &mut JournalStore {
        self.store.as_mut().unwrap()
    }

    pub fn log(&mut self, name: &str) -> LogId {
        if let Some(&log) = self.open.get(name) {
            return log;
        }
        let log = self.store().open(name).unwrap();
        self.open.insert(name.to_owned(), log);
        self.logs.entry(name.to_owned()).or_default();
        log
    }

    /// Appends `count` records; false when the store refuses.
    pub fn append(&mut self, name: &str, count: u64, level: Level) -> bool {
        let log = self.log(name);
        let base = self.store().bounds(log).end;
        let mut batch = BatchBuilder::default();
        let mut payloads = Vec::new();
        for offset in base..base + count {
            let len = self.below(1_500) as usize;
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
        if self.store().append(log, base, stamp, &taken, level).is_err() {
            return false;
        }
        let model = self.logs.get_mut(name).unwrap();
        for (offset, payload) in (base..).zip(payloads) {
            model.records.insert(offset, Known { payload, position: u64::MAX, level });
        }
        model.end = base + count;
        self.turn.push((name.to_owned(), base, base + count, level, true));
        true
    }

    pub fn release(&mut self, name: &str, from: u64, to: u64, level: Level) {
        let log = self.log(name);
        self.store().release(log, from, to, level);
        let model = self.logs.get_mut(name).unwrap();
        for offset in from..to {
            model.released.entry(offset).or_insert((u64::MAX, level));
        }
        self.turn.push((name.to_owned(), from, to, level, false));
    }

    /// Ends the turn.
    pub fn commit(&mut self) -> bool {
        if self.store().commit().is_err() {
            return false;
        }
        let position = self.store().position();
        for (name, from, to, _, is_append) in std::mem::take(&mut self.turn) {
            let model = self.logs.get_mut(&name).unwrap();
            for offset in from..to {
                if is_append {
                    model.records.get_mut(&offset).unwrap().position = position;
                } else if let Some(known) = model.released.get_mut(&offset)
                    && known.0 == u64::MAX
                {
                    known.0 = position;
                }
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
        }
        done
    }

    /// What is safe now at a level, as the store says.
    pub fn safe(&mut self) -> (u64, u64) {
        (self.store().safe(Level::Os), self.store().safe(Level::Disk))
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
            let any_promised = was.records.values().any(|known| promised(known.position));
            if !self.store().has(&name) {
                assert!(!any_promised, "seed {seed}: {name} is gone");
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

/// How many seeds a test runs: all of `default`, what the environment says, or one.
pub fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("WEIR_DURABILITY_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("WEIR_DURABILITY_SEEDS").unwrap_or(default)).collect(),
    }
}
