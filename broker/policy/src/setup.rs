//! What a binding hands to the runtime: which role, which configuration, which
//! powers and limits. The loader fills it in, the runtime only reads it.

use std::fmt;
use std::sync::Arc;

use weir_core::env::{Clock, Random};
use weir_core::name::Pattern;
use weir_core::policy::{Generation, Powers};

use crate::counters::Counters;
use crate::kv::Kv;
use crate::limits;
use crate::log::PolicyLog;
use crate::metrics::PolicyMetrics;

/// What a policy does for a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Says where a message goes.
    Router,
    /// Says whether and in what form a message passes.
    Filter,
    /// Says how messages reach consumers.
    Delivery,
}

impl Role {
    /// The word used in binding files, status and the policy's context.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Filter => "filter",
            Self::Delivery => "delivery",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a filter works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before a message is kept; routers always work here.
    #[default]
    Publish,
    /// Before a message is handed to a consumer.
    Deliver,
}

impl Stage {
    /// The word used in binding files and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Deliver => "deliver",
        }
    }
}

/// What becomes of a message its policy could not judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureRule {
    /// The publisher gets an error it may retry. Deliver stage: as `Hold`.
    #[default]
    Refuse,
    /// As if the binding did not exist.
    Pass,
    /// Publish stage: kept in the queue `<binding>/held`. Deliver stage: asked
    /// about again later.
    Hold,
}

impl FailureRule {
    /// The word used in binding files and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Pass => "pass",
            Self::Hold => "hold",
        }
    }
}

/// Bounds of one call and one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Longest call, ms of the thread's time.
    pub budget_ms: u32,
    /// Memory of one instance, bytes.
    pub memory_bytes: usize,
    /// Longest answer, bytes.
    pub output_bytes: usize,
    /// Most rows of one call.
    pub batch_rows: u32,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            budget_ms: limits::BUDGET_MS,
            memory_bytes: limits::MEMORY_BYTES,
            output_bytes: limits::OUTPUT_BYTES,
            batch_rows: limits::BATCH_ROWS,
        }
    }
}

/// A generation is in trouble; the loader should go back to the last good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The binding.
    pub binding: Arc<str>,
    /// The generation that failed.
    pub generation: u64,
    /// One sentence.
    pub reason: String,
    /// Whether it failed in its probation (else its breaker opened later).
    pub probation: bool,
}

/// Where [`Trouble`] is told. Called on the thread that judged the batch: it must
/// not wait.
pub type TroubleSink = Arc<dyn Fn(Trouble) + Send + Sync>;

/// One generation of one binding, as the runtime needs it.
#[derive(Clone)]
pub struct Setup {
    /// The binding's name.
    pub binding: Arc<str>,
    /// What the component does for it.
    pub role: Role,
    /// Where, for filters.
    pub stage: Stage,
    /// Which version this is.
    pub generation: Generation,
    /// What routers and publish filters apply to.
    pub subjects: Vec<Pattern>,
    /// Rank among bindings that apply as well; lower decides first.
    pub order: i32,
    /// The configuration, JSON text that is valid against the schema.
    pub config_json: String,
    /// What the operator granted.
    pub powers: Powers,
    /// Bounds of calls.
    pub limits: CallLimits,
    /// What becomes of a message that could not be judged.
    pub on_failure: FailureRule,
    /// The shard this instance serves; 0 for the publish stage.
    pub shard: u32,
    /// Number of shards.
    pub shards: u32,
    /// State of the binding in this shard, carried over generations.
    pub kv: Arc<Kv>,
    /// Counters of this generation.
    pub counters: Arc<Counters>,
    /// Metrics the policy defines, carried over generations.
    pub metrics: Arc<PolicyMetrics>,
    /// Log lines of the binding, carried over generations.
    pub log: Arc<PolicyLog>,
    /// Seeds.
    pub random: Arc<dyn Random>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where to report that the generation should be replaced.
    pub trouble: Option<TroubleSink>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("binding", &self.binding)
            .field("role", &self.role)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
