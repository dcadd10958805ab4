//! The generations of one binding: which one runs, which earlier ones are kept
//! compiled to go back to, which candidate was refused and why.
//!
//! Owned by the loader. Invariants: at most one generation runs; numbers only
//! grow, also when an older component comes back; a candidate that was refused,
//! or rolled back, is not tried again until one of its files changes.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use weir_core::policy::Powers;

use crate::binding::Binding;
use crate::breaker::{Breaker, BreakerState};
use crate::caller::Caller;
use crate::component::Component;
use crate::counters::{Counters, CountersSnapshot};
use crate::filter::FilterBinding;
use crate::folder::Source;
use crate::kv::Kv;
use crate::limits::PROBATION_MS;
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
#[derive(Clone)]
pub(crate) enum Running {
    Router(Arc<RouterBinding>),
    Filter(Arc<FilterBinding>),
    /// Instances that belong to the shards.
    Delivery,
    /// What the shards ask, one each.
    DeliverFilter(Vec<Arc<Caller>>),
}

impl Running {
    /// Every breaker of the generation; none for delivery, whose instances are
    /// watched by their shards.
    pub(crate) fn breakers(&self) -> Vec<&Breaker> {
        match self {
            Self::Router(router) => vec![router.caller.breaker()],
            Self::Filter(filter) => vec![filter.caller.breaker()],
            Self::Delivery => Vec::new(),
            Self::DeliverFilter(callers) => callers.iter().map(|c| c.breaker()).collect(),
        }
    }

    /// Whether a generation that was reported to fail still does. A delivery
    /// policy that a shard gave up on does not come back.
    pub(crate) fn goes_on_failing(&self) -> bool {
        matches!(self, Self::Delivery) || self.breakers().iter().any(|b| b.is_failing())
    }

    /// The worst of its breakers; `None` for delivery.
    pub(crate) fn breaker_state(&self, steady_ms: u64) -> Option<BreakerState> {
        self.breakers().iter().map(|breaker| breaker.state(steady_ms)).max()
    }
}

/// What the running generation leans on in its probation. Weak: it lets go of it
/// by itself when the probation is over.
#[derive(Clone)]
pub(crate) enum Fallback {
    Nothing,
    Router(Weak<RouterBinding>),
    Filter(Weak<FilterBinding>),
}

impl Fallback {
    /// What leans on `running`.
    pub(crate) fn on(running: Option<&Running>) -> Self {
        match running {
            Some(Running::Router(router)) => Self::Router(Arc::downgrade(router)),
            Some(Running::Filter(filter)) => Self::Filter(Arc::downgrade(filter)),
            _ => Self::Nothing,
        }
    }

    /// What is leaned on, as long as it is.
    pub(crate) fn get(&self) -> Option<Running> {
        match self {
            Self::Nothing => None,
            Self::Router(router) => router.upgrade().map(Running::Router),
            Self::Filter(filter) => filter.upgrade().map(Running::Filter),
        }
    }
}

/// What is known of a generation that ran; the better, the greater.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Merit {
    /// It failed, or somebody went back from it.
    Failed,
    /// Replaced within its probation: nobody knows.
    Untried,
    /// It passed its probation.
    Passed,
}

/// An earlier generation to go back to.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) good: Good,
    pub(crate) merit: Merit,
}

/// The running generation.
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) good: Good,
    pub(crate) running: Running,
    /// When it started, ms of the steady clock.
    pub(crate) started_ms: u64,
    pub(crate) fallback: Fallback,
    /// Came by a rollback after a failure: not rolled back once more.
    pub(crate) last_resort: bool,
}

impl Active {
    /// Whether its probation is over, and was passed.
    fn passed_probation(&self, steady_ms: u64) -> bool {
        match self.running {
            Running::Delivery => steady_ms.saturating_sub(self.started_ms) >= PROBATION_MS,
            _ => self.running.breakers().iter().all(|b| b.passed_probation(steady_ms)),
        }
    }
}

/// That a generation fails and nothing can take over.
#[derive(Clone)]
pub(crate) struct Failing {
    /// One sentence.
    pub(crate) error: String,
    /// Since when, ms since the Unix epoch.
    pub(crate) since_ms: u64,
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
    /// Earlier ones, the latest last.
    pub(crate) kept: VecDeque<Kept>,
    pub(crate) history: VecDeque<Entry>,
    /// Sum of what fell out of the history.
    pub(crate) earlier: CountersSnapshot,
    pub(crate) numbers_used: u64,
    /// What `numbers_used` goes on from when a generation of an earlier process has
    /// its number again.
    pub(crate) numbers_resumed: Option<u64>,
    /// State that was kept over a restart or a removal, and the policy it is of.
    pub(crate) recalled: Option<(String, Arc<[Arc<Kv>]>)>,
    /// Candidates that were refused, and why: of those that the files mean now.
    pub(crate) refused: Vec<(Key, String)>,
    /// What lies on disk and was rolled back: of all that ran, the last that came
    /// from there.
    pub(crate) withdrawn: Option<Key>,
    /// How it stands, apart from `failing`; never [`BindingState::Failing`].
    pub(crate) state: BindingState,
    pub(crate) error: Option<String>,
    pub(crate) since_ms: u64,
    /// Set when the running generation fails for good. It counts for as long as
    /// [`Running::goes_on_failing`] says.
    pub(crate) failing: Option<Failing>,
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
            numbers_resumed: None,
            recalled: None,
            refused: Vec::new(),
            withdrawn: None,
            state: BindingState::Waiting,
            error: None,
            since_ms: wall_ms,
            failing: None,
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

    /// Whether the running generation fails now and nothing can take over.
    pub(crate) fn fails(&self) -> bool {
        let active = self.active.as_ref().filter(|_| self.failing.is_some());
        active.is_some_and(|active| active.running.goes_on_failing())
    }

    /// What is known of the running generation.
    pub(crate) fn merit(&self, steady_ms: u64) -> Merit {
        match &self.active {
            _ if self.fails() => Merit::Failed,
            Some(active) if active.passed_probation(steady_ms) => Merit::Passed,
            _ => Merit::Untried,
        }
    }

    /// What a generation of `good` may lean on in its probation: what runs, once
    /// that has passed its own; until then what that leans on itself.
    pub(crate) fn to_lean_on(&self, good: &Good, steady_ms: u64) -> Option<Running> {
        let active = self.active.as_ref()?;
        if active.good.binding.subjects != good.binding.subjects {
            return None;
        }
        match self.merit(steady_ms) {
            Merit::Passed => Some(active.running.clone()),
            // What nobody knows is still better than nothing.
            Merit::Untried => active.fallback.get().or_else(|| Some(active.running.clone())),
            Merit::Failed => active.fallback.get(),
        }
    }

    /// Takes out the earlier generation to go back to: the latest on the
    /// operator's word, else the latest of the best that did not fail.
    pub(crate) fn take_kept(&mut self, on_demand: bool) -> Option<Kept> {
        if on_demand {
            return self.kept.pop_back();
        }
        let usable = self.kept.iter().enumerate().filter(|(_, kept)| kept.merit > Merit::Failed);
        // The last of equals.
        let (at, _) = usable.max_by_key(|(_, kept)| kept.merit)?;
        self.kept.remove(at)
    }

    /// State for a generation of `policy`: what the running one has; with `keeps`, what
    /// was kept over a restart or a removal; what an earlier one has. In this order:
    /// after a restart, earlier ones may be there before the state they shared is.
    pub(crate) fn kv_of(&self, policy: &str, shards: u32, keeps: bool) -> Arc<[Arc<Kv>]> {
        let is_of = |good: &&Good| good.component.manifest().name == policy;
        let active = self.active.as_ref().map(|active| &active.good).filter(is_of);
        let recalled = self.recalled.as_ref().filter(|(name, _)| keeps && name == policy);
        let mut earlier = self.kept.iter().rev().map(|kept| &kept.good);
        let known = active.map(|good| &good.kv).or(recalled.map(|(_, kv)| kv));
        let known = known.or_else(|| earlier.find(is_of).map(|good| &good.kv));
        known.cloned().unwrap_or_else(|| (0..shards.max(1)).map(|_| Arc::default()).collect())
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
        self.kept.retain(|kept| !kept.good.key.same_content(&active.good.key));
        // One policy has one state, whichever of its generations runs: also where an
        // earlier one was made anew without what was kept.
        let (policy, kv) = (&manifest.name, &active.good.kv);
        for kept in &mut self.kept {
            if kept.good.component.manifest().name == *policy {
                kept.good.kv = Arc::clone(kv);
            }
        }
        let is_old = |(name, recalled): &(String, Arc<[Arc<Kv>]>)| {
            name == policy && !Arc::ptr_eq(recalled, kv)
        };
        if self.recalled.as_ref().is_some_and(is_old) {
            self.recalled = None;
        }
        self.failing = None;
        self.binding = Some(Arc::clone(&active.good.binding));
        self.active = Some(active);
    }

    /// Keeps a generation to go back to, as the latest or as the earliest. Those
    /// that passed their probation stay longest.
    pub(crate) fn keep(&mut self, kept: Kept, as_latest: bool) {
        self.kept.retain(|other| !other.good.key.same_content(&kept.good.key));
        if !as_latest {
            self.kept.push_front(kept);
            self.kept.truncate(KEPT_MAX);
            return;
        }
        self.kept.push_back(kept);
        while self.kept.len() > KEPT_MAX {
            let earlier = self.kept.iter().take(self.kept.len() - 1).enumerate();
            let worst = earlier.min_by_key(|(_, kept)| kept.merit).map_or(0, |(at, _)| at);
            self.kept.remove(worst);
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
