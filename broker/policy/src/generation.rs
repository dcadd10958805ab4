//! The generations of one binding: which one runs, which earlier ones are kept
//! compiled to go back to, which candidate was refused and why.
//!
//! Owned by the loader. Invariants: at most one generation runs; numbers only
//! grow, also when an older component comes back; a candidate that was refused,
//! or rolled back, is not tried again until one of its files changes.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_core::policy::Powers;

use crate::binding::Binding;
use crate::component::Component;
use crate::counters::{Counters, CountersSnapshot};
use crate::filter::FilterBinding;
use crate::folder::Source;
use crate::kv::Kv;
use crate::log::PolicyLog;
use crate::metrics::PolicyMetrics;
use crate::router::RouterBinding;
use crate::settle::Stamp;
use crate::setup::Role;

/// Good generations kept compiled beside the running one.
const KEPT_MAX: usize = 2;
/// Generations remembered with their counters; older ones are summed up.
const HISTORY_MAX: usize = 32;

/// How a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingState {
    /// Its files are being written; nothing runs yet.
    Waiting,
    /// What lies on disk runs.
    Active,
    /// What lies on disk was refused; the generation before keeps running.
    Kept,
    /// Gone back to an earlier generation; what lies on disk stays out.
    RolledBack,
    /// It runs and fails, and there is nothing to go back to.
    Failing,
    /// Nothing runs.
    Failed,
    /// Taken away.
    Removed,
}

/// How a generation ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GenerationState {
    /// Runs.
    Active,
    /// Replaced by a newer one, or taken away.
    Retired,
    /// Failed at work.
    Failed,
    /// The operator went back to an earlier one.
    RolledBack,
}

/// What would run, by content and by the files it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) component: Arc<str>,
    pub(crate) definition: Arc<str>,
    pub(crate) stamps: Vec<Stamp>,
}

impl Key {
    /// Whether both mean the same component with the same binding.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.component == other.component && self.definition == other.definition
    }
}

/// A generation that passed every check.
#[derive(Clone)]
pub(crate) struct Good {
    pub(crate) key: Key,
    pub(crate) component: Arc<Component>,
    pub(crate) binding: Arc<Binding>,
    pub(crate) role: Role,
    pub(crate) powers: Powers,
    pub(crate) source: Source,
    /// State by shard, handed on while the policy's name stays.
    pub(crate) kv: Arc<[Arc<Kv>]>,
}

/// What the publish chain or the shards hold of a generation.
pub(crate) enum Running {
    Router(Arc<RouterBinding>),
    Filter(Arc<FilterBinding>),
    /// Instances that belong to the shards.
    Delivery,
    DeliverFilter,
}

/// The running generation.
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) good: Good,
    pub(crate) running: Running,
    /// Came by a rollback after a failure: not rolled back once more.
    pub(crate) last_resort: bool,
}

/// One generation, for people.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) digest: Arc<str>,
    pub(crate) policy: String,
    pub(crate) version: String,
    pub(crate) state: GenerationState,
    /// Number of the generation this one came instead of, by rollback.
    pub(crate) rolled_back_from: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) activated_ms: u64,
    pub(crate) retired_ms: Option<u64>,
    pub(crate) counters: Arc<Counters>,
}

/// Everything known of one binding.
pub(crate) struct Record {
    pub(crate) name: Arc<str>,
    /// The binding as last understood, also when it does not run.
    pub(crate) binding: Option<Arc<Binding>>,
    pub(crate) active: Option<Active>,
    /// Earlier good ones, the one to go back to last.
    pub(crate) kept: VecDeque<Good>,
    pub(crate) history: VecDeque<Entry>,
    /// Sum of what fell out of the history.
    pub(crate) earlier: CountersSnapshot,
    pub(crate) numbers_used: u64,
    /// The last candidate that was refused, and why.
    pub(crate) refused: Option<(Key, String)>,
    /// What was rolled back and still lies on disk.
    pub(crate) withdrawn: Option<Key>,
    pub(crate) state: BindingState,
    pub(crate) error: Option<String>,
    pub(crate) since_ms: u64,
    pub(crate) metrics: Arc<PolicyMetrics>,
    pub(crate) log: Arc<PolicyLog>,
}

impl Record {
    pub(crate) fn new(name: Arc<str>, wall_ms: u64) -> Self {
        Self {
            log: Arc::new(PolicyLog::new(Arc::clone(&name))),
            name,
            binding: None,
            active: None,
            kept: VecDeque::new(),
            history: VecDeque::new(),
            earlier: CountersSnapshot::default(),
            numbers_used: 0,
            refused: None,
            withdrawn: None,
            state: BindingState::Waiting,
            error: None,
            since_ms: wall_ms,
            metrics: Arc::default(),
        }
    }

    /// Sets how the binding stands. True when that is news.
    pub(crate) fn note(
        &mut self,
        wall_ms: u64,
        state: BindingState,
        error: Option<String>,
    ) -> bool {
        if self.state == state && self.error == error {
            return false;
        }
        self.state = state;
        self.error = error;
        self.since_ms = wall_ms;
        true
    }

    /// State for a generation of `policy`: what the running or a kept one has.
    pub(crate) fn kv_of(&self, policy: &str, shards: u32) -> Arc<[Arc<Kv>]> {
        let active = self.active.as_ref().map(|active| &active.good);
        let mut known = active.into_iter().chain(self.kept.iter().rev());
        match known.find(|good| good.component.manifest().name == policy) {
            Some(good) => Arc::clone(&good.kv),
            None => (0..shards.max(1)).map(|_| Arc::default()).collect(),
        }
    }

    /// Ends the running generation, if there is one, and hands it out.
    pub(crate) fn retire(
        &mut self,
        wall_ms: u64,
        state: GenerationState,
        reason: Option<&str>,
    ) -> Option<Active> {
        let active = self.active.take()?;
        if let Some(entry) = self.history.iter_mut().find(|entry| entry.number == active.number) {
            entry.state = state;
            entry.retired_ms = Some(wall_ms);
            entry.reason = reason.map(str::to_owned);
        }
        Some(active)
    }

    /// Puts `active` in charge; the generation before must have been retired.
    pub(crate) fn activate(
        &mut self,
        wall_ms: u64,
        active: Active,
        counters: Arc<Counters>,
        rolled_back_from: Option<u64>,
    ) {
        assert!(self.active.is_none(), "one generation runs at a time");
        let manifest = active.good.component.manifest();
        self.history.push_back(Entry {
            number: active.number,
            digest: Arc::clone(active.good.component.digest()),
            policy: manifest.name.clone(),
            version: manifest.version.to_string(),
            state: GenerationState::Active,
            rolled_back_from,
            reason: None,
            activated_ms: wall_ms,
            retired_ms: None,
            counters,
        });
        while self.history.len() > HISTORY_MAX {
            let oldest = self.history.pop_front().expect("longer than the bound");
            self.earlier = sum(self.earlier, oldest.counters.snapshot());
        }
        self.numbers_used = active.number;
        self.kept.retain(|good| !good.key.same_content(&active.good.key));
        self.binding = Some(Arc::clone(&active.good.binding));
        self.active = Some(active);
    }

    /// Keeps a good generation to go back to: as the next choice, or as the last
    /// one, for what the operator has just gone back from.
    pub(crate) fn keep(&mut self, good: Good, next_choice: bool) {
        self.kept.retain(|kept| !kept.key.same_content(&good.key));
        if next_choice {
            self.kept.push_back(good);
            while self.kept.len() > KEPT_MAX {
                self.kept.pop_front();
            }
        } else {
            self.kept.push_front(good);
            self.kept.truncate(KEPT_MAX);
        }
    }
}

/// Adds up counters; memory is the largest, not the sum.
pub(crate) fn sum(a: CountersSnapshot, b: CountersSnapshot) -> CountersSnapshot {
    CountersSnapshot {
        calls: a.calls + b.calls,
        rows: a.rows + b.rows,
        memo_hits: a.memo_hits + b.memo_hits,
        failed_rows: a.failed_rows + b.failed_rows,
        refused_rows: a.refused_rows + b.refused_rows,
        dropped_rows: a.dropped_rows + b.dropped_rows,
        diverted_rows: a.diverted_rows + b.diverted_rows,
        denied_rows: a.denied_rows + b.denied_rows,
        failures: a.failures + b.failures,
        traps: a.traps + b.traps,
        kv_refused: a.kv_refused + b.kv_refused,
        instances: a.instances + b.instances,
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
    }
}
