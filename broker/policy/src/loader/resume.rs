//! Generations and state over the end of the process: what is kept of each binding,
//! and how a loader that starts goes on from it.
//!
//! A start first puts back what ran when its files have changed since, or were not
//! what ran; then it looks at the files as ever. So a file that was rolled back, or
//! is broken, stays out of charge after a restart too, numbers go on, and there is
//! something to go back to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Loader;
use crate::binding::{Binding, Origin};
use crate::folder::{Code, Source};
use crate::generation::{BindingState, Good, Kept, Key, Merit, Record};
use crate::kv::Kv;
use crate::settle::{Stamp, sha256_hex};
use crate::workshop::Candidate;

/// Keys of bindings in the archive start so.
const BINDINGS: &str = "policy/";
/// Keys of kept state start so; name of the binding and number of the shard follow.
const STATES: &str = "kv/";

/// What is kept of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Saved {
    numbers_used: u64,
    active: Option<SavedGeneration>,
    /// The latest last.
    earlier: Vec<SavedGeneration>,
    /// What was rolled back and lay on disk.
    withdrawn: Option<SavedKey>,
    /// What the status says of that.
    error: Option<String>,
}

/// A generation, as much as makes it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedGeneration {
    /// Its number; 0 for an earlier one.
    number: u64,
    /// Digest of its component.
    component: String,
    source: Source,
    origin: Origin,
    /// The binding's text; "" for one made up for a bare component.
    binding: String,
    definition: String,
    merit: Merit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedKey {
    component: String,
    definition: String,
    /// Path, length in bytes, last change in ms since the epoch.
    stamps: Vec<(PathBuf, u64, u64)>,
}

impl SavedKey {
    fn of(key: &Key) -> Self {
        let stamps = key.stamps.iter();
        let stamps = stamps.map(|it| (it.real_path.clone(), it.len, it.modified_ms)).collect();
        let (component, definition) = (key.component.to_string(), key.definition.to_string());
        Self { component, definition, stamps }
    }

    fn key(self) -> Key {
        let stamp = |(real_path, len, modified_ms)| Stamp { real_path, len, modified_ms };
        Key {
            component: self.component.into(),
            definition: self.definition.into(),
            stamps: self.stamps.into_iter().map(stamp).collect(),
        }
    }
}

impl SavedGeneration {
    fn of(good: &Good, number: u64, merit: Merit) -> Self {
        Self {
            number,
            component: good.key.component.to_string(),
            source: good.source,
            origin: good.binding.origin,
            binding: good.binding.text.to_string(),
            definition: good.key.definition.to_string(),
            merit,
        }
    }

    fn is(&self, key: &Key) -> bool {
        *self.component == *key.component && *self.definition == *key.definition
    }
}

impl Saved {
    fn of(record: &Record, steady_ms: u64) -> Self {
        let merit = record.merit(steady_ms);
        let active = record.active.as_ref();
        let earlier = record.kept.iter();
        let is_back = record.state == BindingState::RolledBack;
        Self {
            numbers_used: record.numbers_used,
            active: active.map(|active| SavedGeneration::of(&active.good, active.number, merit)),
            earlier: earlier.map(|kept| SavedGeneration::of(&kept.good, 0, kept.merit)).collect(),
            withdrawn: record.withdrawn.as_ref().map(SavedKey::of),
            error: record.error.clone().filter(|_| is_back),
        }
    }

    /// Whether a start without it would come to the same.
    fn says_nothing(&self) -> bool {
        self.numbers_used <= 1
            && self.earlier.is_empty()
            && self.active.as_ref().is_none_or(|active| active.source == Source::Shipped)
    }
}

impl Loader {
    /// Reads what an earlier process has left.
    pub(super) fn recall(&mut self) {
        for (key, value) in self.archive.list(BINDINGS) {
            let name = &key[BINDINGS.len()..];
            match serde_json::from_slice(&value) {
                Ok(saved) => {
                    self.saved.insert(name.into(), saved);
                    self.archived.insert(key, value);
                }
                Err(error) => {
                    tracing::warn!(binding = name, %error, "its generations cannot be read");
                }
            }
        }
    }

    /// Goes on with a binding that an earlier process had. `on_disk` is what its
    /// files mean, if they mean something.
    pub(super) fn resume(&mut self, record: &mut Record, on_disk: Option<&Key>) {
        let Some(saved) = self.saved.remove(&record.name) else { return };
        record.numbers_used = saved.numbers_used;
        for generation in &saved.earlier {
            let again = self.again(record, generation);
            self.keep_again(record, again, generation.merit);
        }
        let Some(active) = saved.active else { return };
        if on_disk.is_some_and(|key| active.is(key)) {
            // The files start it, under the number it had.
            record.numbers_resumed = Some(saved.numbers_used);
            record.numbers_used = active.number - 1;
            return;
        }
        match self.again(record, &active) {
            Err(why) => tell(record, &why),
            Ok(good) => {
                record.numbers_used = active.number.saturating_sub(1);
                let started = self.start(record, good, None);
                record.numbers_used = record.numbers_used.max(saved.numbers_used);
                match started {
                    Err(why) => tell(record, &why),
                    Ok(()) => {
                        record.withdrawn = saved.withdrawn.map(SavedKey::key);
                        if record.withdrawn.is_some() {
                            let wall_ms = self.workshop.clock.now().wall_ms;
                            record.note(wall_ms, BindingState::RolledBack, saved.error);
                        }
                    }
                }
            }
        }
    }

    /// Bindings of an earlier process that nobody wants now: their numbers go on
    /// when they come back.
    pub(super) fn resume_removed(&mut self) {
        let wall_ms = self.workshop.clock.now().wall_ms;
        for (name, saved) in std::mem::take(&mut self.saved) {
            let mut record = Record::new(Arc::clone(&name), wall_ms);
            record.numbers_used = saved.numbers_used;
            record.note(wall_ms, BindingState::Removed, None);
            self.records.entry(name).or_insert(record);
        }
    }

    fn keep_again(&self, record: &mut Record, good: Result<Good, String>, merit: Merit) {
        match good {
            Ok(good) => record.keep(Kept { good, merit }, true),
            Err(why) => tell(record, &why),
        }
    }

    /// Makes a generation anew, from the archive.
    fn again(&mut self, record: &Record, saved: &SavedGeneration) -> Result<Good, String> {
        if saved.source == Source::Bare && !self.folders.takes_bare() {
            return Err("its component is bare, and those run in development mode only".into());
        }
        let shipped = self.shipped.values().find_map(|plugin| match &plugin.standing {
            super::Standing::Whole(code) if *code.digest == *saved.component => Some(code.clone()),
            _ => None,
        });
        let code = match shipped {
            Some(code) => code,
            None => {
                let bytes = self.archive.blob(&saved.component);
                let bytes = bytes.filter(|bytes| sha256_hex(bytes) == saved.component);
                let bytes = bytes.ok_or("its component is not kept any more")?;
                Code { digest: saved.component.as_str().into(), bytes }
            }
        };
        let binding = match saved.origin {
            Origin::Automatic => Binding::automatic(&record.name),
            origin => Binding::parse(&record.name, origin, &saved.binding)?,
        };
        let key = Key {
            component: Arc::clone(&code.digest),
            definition: Arc::clone(&binding.digest),
            stamps: Vec::new(),
        };
        let (binding, source) = (Arc::new(binding), saved.source);
        let candidate = Candidate { binding, source, code, version: None, key };
        self.workshop.check(record, &candidate)
    }

    /// Keeps the component of a generation that was just put in charge.
    pub(super) fn keep_component(&mut self, candidate: &Candidate) {
        let digest = &candidate.code.digest;
        if candidate.source != Source::Shipped && !self.kept_components.contains(digest) {
            let bytes = candidate.code.bytes.clone();
            if self.archive.put_blob(digest, bytes) {
                self.kept_components.insert(Arc::clone(digest));
            }
        }
    }

    /// Keeps what has changed of the bindings.
    pub(super) fn save(&mut self) {
        let steady_ms = self.workshop.clock.now().steady_ms;
        for record in self.records.values() {
            let key = format!("{BINDINGS}{}", record.name);
            let saved = Saved::of(record, steady_ms);
            let is_known = self.archived.contains_key(&key);
            if saved.says_nothing() && !is_known {
                continue;
            }
            let value = serde_json::to_vec(&saved).expect("plain values with text keys");
            let value = Bytes::from(value);
            // What could not be kept is tried again when it is saved next.
            if self.archived.get(&key) != Some(&value)
                && self.archive.put(&key, Some(value.clone()))
            {
                self.archived.insert(key, value);
            }
        }
        let known = |key: &String| self.records.contains_key(&key[BINDINGS.len()..]);
        let gone: Vec<String> = self.archived.keys().filter(|key| !known(key)).cloned().collect();
        for key in gone {
            if self.archive.put(&key, None) {
                self.archived.remove(&key);
            }
        }
    }

    /// Whether some binding's state is to outlive the process.
    pub(crate) fn keeps_state(&self) -> bool {
        self.records.values().any(|record| kept_state(record).is_some())
    }

    /// Keeps the state of policies whose operator wants it kept, where it has
    /// changed.
    pub(crate) fn save_state(&mut self) {
        // Out of the loader for as long as what it has kept is noted there.
        let records = std::mem::take(&mut self.records);
        records.values().for_each(|record| self.save_state_of(record));
        self.records = records;
    }

    /// The same for one binding.
    pub(super) fn save_state_of(&mut self, record: &Record) {
        let Some(good) = kept_state(record) else { return };
        let now = self.workshop.clock.now();
        for (shard, kv) in good.kv.iter().enumerate() {
            let key = format!("{STATES}{}/{shard}", record.name);
            let changes = kv.changes();
            let known = self.archived_state.get(&key);
            if known.is_some_and(|(of, at)| of.as_ptr() == Arc::as_ptr(kv) && *at == changes) {
                continue;
            }
            let policy = &good.component.manifest().name;
            if !self.archive.put(&key, Some(kv.export(policy, now).into())) {
                // Nor the others': the first shard's says whose state all of it is.
                return;
            }
            self.archived_state.insert(key, (Arc::downgrade(kv), changes));
        }
    }

    /// Takes up state that was kept. It is used when the policy is the same, and the
    /// binding still wants it kept.
    pub(super) fn recall_state(&self, record: &mut Record) {
        let now = self.workshop.clock.now();
        let prefix = format!("{STATES}{}/", record.name);
        let shards = self.workshop.shards.max(1);
        let mut found: BTreeMap<u32, (String, Kv)> = BTreeMap::new();
        for (key, value) in self.archive.list(&prefix) {
            let shard = key[prefix.len()..].parse::<u32>().ok();
            let Some(shard) = shard.filter(|shard| *shard < shards) else { continue };
            let kv = Kv::default();
            match kv.import(&value, now) {
                Some(policy) => drop(found.insert(shard, (policy, kv))),
                None => tell(record, "its state cannot be read"),
            }
        }
        // The first shard's is kept first. Where the others' could not be kept behind it,
        // theirs is the state of the policy before, which this one must not be given.
        let policy = found.values().next().map(|(policy, _)| policy.clone());
        record.recalled = policy.map(|policy| {
            let kvs = (0..shards).map(|shard| match found.remove(&shard) {
                Some((of, kv)) if of == policy => Arc::new(kv),
                _ => Arc::default(),
            });
            let kvs: Arc<[Arc<Kv>]> = kvs.collect();
            (policy, kvs)
        });
    }
}

/// The running generation, when its state is to be kept.
fn kept_state(record: &Record) -> Option<&Good> {
    let good = &record.active.as_ref()?.good;
    good.binding.keep_kv.then_some(good)
}

fn tell(record: &Record, why: &str) {
    tracing::warn!(binding = %record.name, %why, "what ran before the restart is not there again");
}
