//! What the host says about itself: plain data for the command line, the wire
//! and metrics pages. Built by the loader after every pass; counters are read
//! when somebody asks, so they are never old.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use weir_core::env::Clock;

pub use crate::binding::Origin;
use crate::binding::{Grant, power_words};
pub use crate::breaker::BreakerState;
pub use crate::counters::LastFailure;
use crate::counters::{Counters, CountersSnapshot};
pub use crate::folder::{FileProblem, Source};
pub use crate::generation::{BindingState, GenerationState};
use crate::generation::{Failing, Record, Running, sum};
use crate::kv::Kv;
use crate::log::{LogLine, PolicyLog};
use crate::metrics::{MetricSnapshot, PolicyMetrics};
use crate::setup::CallLimits;

/// One binding: what it is, what runs, and what it did.
#[derive(Clone, Debug, Serialize)]
pub struct BindingStatus {
    /// Its name; for a file that is no binding, the file.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Name of the plugin or shipped policy it names.
    pub policy: String,
    /// Where the running component comes from.
    pub source: Option<Source>,
    /// Version the running component gives itself.
    pub version: String,
    /// "router", "filter", "delivery"; "" when not known yet.
    pub role: &'static str,
    /// "publish" or "deliver".
    pub stage: &'static str,
    /// Patterns over subjects.
    pub subjects: Vec<String>,
    /// Patterns over queue names.
    pub queues: Vec<String>,
    /// Patterns over `stream/group`.
    pub groups: Vec<String>,
    /// Rank; the lower decides first.
    pub order: i32,
    /// "refuse", "pass" or "hold".
    pub on_failure: &'static str,
    /// How it stands.
    pub state: BindingState,
    /// Why it stands so, one sentence.
    pub error: Option<String>,
    /// Since when, ms since the Unix epoch.
    pub since_ms: u64,
    /// Whether the running generation is called; `None` when nothing runs.
    pub breaker: Option<BreakerState>,
    /// Number of the running generation, 0 for none.
    pub generation: u64,
    /// Hex SHA-256 of the running component.
    pub digest: String,
    /// Powers granted.
    pub powers: Vec<&'static str>,
    /// Powers the policy wants.
    pub wants: Vec<String>,
    /// Bounds of its calls.
    pub limits: LimitsStatus,
    /// Its configuration.
    pub config: Value,
    /// Sums over all generations.
    #[serde(flatten)]
    pub totals: CountersSnapshot,
    /// State it keeps in the broker, bytes.
    pub kv_bytes: usize,
    /// Log lines left out because there were too many.
    pub log_lines_dropped: u64,
    /// Its last log lines, oldest first.
    pub log: Vec<LogLine>,
    /// Metrics it defined.
    pub metrics: Vec<MetricSnapshot>,
    /// Its generations, oldest first.
    pub history: Vec<GenerationStatus>,
}

/// Bounds of a policy's calls.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LimitsStatus {
    /// Longest call, ms.
    pub budget_ms: u32,
    /// Memory of one instance, bytes.
    pub memory_bytes: usize,
    /// Longest answer, bytes.
    pub output_bytes: usize,
    /// Most rows of one call.
    pub batch_rows: u32,
}

/// One generation.
#[derive(Clone, Debug, Serialize)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u64,
    /// Hex SHA-256 of its component.
    pub digest: String,
    /// Name the component gives itself.
    pub policy: String,
    /// Version the component gives itself.
    pub version: String,
    /// Whether it runs, or how it ended.
    pub state: GenerationState,
    /// The generation it came instead of, when it came by a rollback.
    pub rolled_back_from: Option<u64>,
    /// Why it ended, where there is more to say than "replaced".
    pub reason: Option<String>,
    /// When it started, ms since the Unix epoch.
    pub activated_ms: u64,
    /// When it ended.
    pub retired_ms: Option<u64>,
    /// What it did.
    #[serde(flatten)]
    pub counters: CountersSnapshot,
    /// The failure it met last.
    pub last_failure: Option<LastFailure>,
}

/// A plugin or shipped policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyListing {
    /// Its name in binding files.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Its file, relative to the plugins folder; "" when shipped.
    pub file: String,
    /// From its manifest; "" while it is not compiled.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// What it can be bound as; empty while it is not compiled.
    pub roles: Vec<&'static str>,
    /// Hex SHA-256, "" when there is nothing usable.
    pub digest: String,
    /// Size of the component.
    pub bytes: usize,
    /// Bindings that run it.
    pub bindings: Vec<String>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// What the host did so far, for a metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostCounters {
    /// Looks at the folders.
    pub passes: u64,
    /// Components compiled.
    pub compilations: u64,
    /// Generations started.
    pub activations: u64,
    /// Candidates refused.
    pub refusals: u64,
    /// Generations left for an earlier one, by the operator or by failure.
    pub rollbacks: u64,
    /// Failures at work that were reported.
    pub troubles: u64,
    /// Files found in the folders that are not what their name promises; each
    /// counts once, until it changes its fault or goes and comes back.
    pub file_problems: u64,
}

/// Everything that can be asked, as of the last pass.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) rows: Vec<BoardRow>,
    pub(crate) problems: Vec<FileProblem>,
    pub(crate) policies: Vec<PolicyListing>,
    pub(crate) counters: HostCounters,
}

/// One binding: what stands still between passes, and what does not.
pub(crate) struct BoardRow {
    fixed: BindingStatus,
    running: Option<Running>,
    failing: Option<Failing>,
    clock: Arc<dyn Clock>,
    counters: Vec<Arc<Counters>>,
    earlier: CountersSnapshot,
    kv: Option<Arc<[Arc<Kv>]>>,
    metrics: Arc<PolicyMetrics>,
    log: Arc<PolicyLog>,
}

impl Board {
    /// Bindings with files that are none; or the one asked for, also when it has
    /// been removed.
    pub(crate) fn status(&self, binding: Option<&str>) -> Vec<BindingStatus> {
        let rows = self.rows.iter().filter(|row| match binding {
            Some(name) => row.fixed.name == name,
            None => row.fixed.state != BindingState::Removed,
        });
        let problems =
            self.problems.iter().filter(|problem| binding.is_none_or(|name| name == problem.file));
        rows.map(BoardRow::read).chain(problems.map(problem_status)).collect()
    }
}

impl BoardRow {
    /// The row of `record` as it is now.
    pub(crate) fn new(record: &Record, clock: &Arc<dyn Clock>) -> Self {
        let active = record.active.as_ref();
        let mut fixed = blank(record.name.to_string());
        fixed.state = record.state;
        fixed.error = record.error.clone();
        fixed.since_ms = record.since_ms;
        if let Some(binding) = &record.binding {
            fixed.origin = binding.origin;
            fixed.policy = binding.policy.clone();
            fixed.role = binding.role.map_or("", |role| role.as_str());
            fixed.stage = binding.stage.as_str();
            fixed.subjects = binding.subjects.iter().map(ToString::to_string).collect();
            fixed.queues = binding.queues.clone();
            fixed.groups = binding.groups.clone();
            fixed.order = binding.order;
            fixed.on_failure = binding.on_failure.as_str();
            fixed.limits = binding.limits.into();
            fixed.config = binding.config.clone();
            if let Grant::Listed(powers) = binding.grant {
                fixed.powers = power_words(powers);
            }
        }
        if let Some(active) = active {
            let manifest = active.good.component.manifest();
            fixed.generation = active.number;
            fixed.source = Some(active.good.source);
            fixed.version = manifest.version.to_string();
            fixed.digest = active.good.component.digest().to_string();
            fixed.role = active.good.role.as_str();
            fixed.powers = power_words(active.good.powers);
            fixed.wants = manifest.wants.clone();
            if active.good.binding.at_publish(active.good.role) {
                fixed.queues.clear();
                fixed.groups.clear();
            } else {
                fixed.stage = "deliver";
                fixed.subjects.clear();
            }
        }
        fixed.history = record.history.iter().map(entry_status).collect();
        Self {
            fixed,
            running: active.map(|active| active.running.clone()),
            failing: record.failing.clone(),
            clock: Arc::clone(clock),
            counters: record.history.iter().map(|entry| Arc::clone(&entry.counters)).collect(),
            earlier: record.earlier,
            kv: active.map(|active| Arc::clone(&active.good.kv)),
            metrics: Arc::clone(&record.metrics),
            log: Arc::clone(&record.log),
        }
    }

    fn read(&self) -> BindingStatus {
        let mut status = self.fixed.clone();
        if let Some(running) = &self.running {
            let steady_ms = self.clock.now().steady_ms;
            // Asked now: a breaker closes without the loader's doing.
            let failing = self.failing.as_ref().filter(|_| running.goes_on_failing());
            status.breaker = running.breaker_state(steady_ms).or(Some(match failing {
                Some(_) => BreakerState::Open,
                None => BreakerState::Closed,
            }));
            if let Some(failing) = failing {
                status.state = BindingState::Failing;
                status.error = Some(failing.error.clone());
                status.since_ms = failing.since_ms;
            }
        }
        status.totals = self.earlier;
        for (generation, counters) in status.history.iter_mut().zip(&self.counters) {
            generation.counters = counters.snapshot();
            generation.last_failure = counters.last_failure();
            status.totals = sum(status.totals, generation.counters);
        }
        status.kv_bytes = self.kv.iter().flat_map(|kv| kv.iter()).map(|kv| kv.bytes()).sum();
        status.log_lines_dropped = self.log.dropped();
        status.log = self.log.lines();
        status.metrics = self.metrics.snapshot();
        status
    }
}

fn entry_status(entry: &crate::generation::Entry) -> GenerationStatus {
    GenerationStatus {
        generation: entry.number,
        digest: entry.digest.to_string(),
        policy: entry.policy.clone(),
        version: entry.version.clone(),
        state: entry.state,
        rolled_back_from: entry.rolled_back_from,
        reason: entry.reason.clone(),
        activated_ms: entry.activated_ms,
        retired_ms: entry.retired_ms,
        counters: CountersSnapshot::default(),
        last_failure: None,
    }
}

fn problem_status(problem: &FileProblem) -> BindingStatus {
    let mut status = blank(problem.file.clone());
    status.state = BindingState::Failed;
    status.error = Some(problem.reason.clone());
    status
}

fn blank(name: String) -> BindingStatus {
    BindingStatus {
        name,
        origin: Origin::File,
        policy: String::new(),
        source: None,
        version: String::new(),
        role: "",
        stage: "",
        subjects: Vec::new(),
        queues: Vec::new(),
        groups: Vec::new(),
        order: 0,
        on_failure: "",
        state: BindingState::Waiting,
        error: None,
        since_ms: 0,
        breaker: None,
        generation: 0,
        digest: String::new(),
        powers: Vec::new(),
        wants: Vec::new(),
        limits: LimitsStatus::default(),
        config: Value::Null,
        totals: CountersSnapshot::default(),
        kv_bytes: 0,
        log_lines_dropped: 0,
        log: Vec::new(),
        metrics: Vec::new(),
        history: Vec::new(),
    }
}

impl From<CallLimits> for LimitsStatus {
    fn from(limits: CallLimits) -> Self {
        Self {
            budget_ms: limits.budget_ms,
            memory_bytes: limits.memory_bytes,
            output_bytes: limits.output_bytes,
            batch_rows: limits.batch_rows,
        }
    }
}
