//! Every bound of the policy host, with its unit.

use std::time::Duration;

/// Largest component, bytes.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;
/// Period of the engine's epoch ticker.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker rests until the next.
pub(crate) const IDLE_TICKS_MAX: u32 = 100;
/// Longest `describe`, ms.
pub(crate) const DESCRIBE_MS: u32 = 50;
/// Longest `init`, `check`, `save` or `load`, ms; these run once, not per batch.
pub(crate) const LIFECYCLE_MS: u32 = 250;
/// Longest call, ms.
pub const BUDGET_MS: u32 = 20;
/// Memory of one instance, bytes.
pub const MEMORY_BYTES: usize = 64 << 20;
/// Longest answer of one call, bytes.
pub const OUTPUT_BYTES: usize = 1 << 20;
/// Most rows of one call.
pub const BATCH_ROWS: u32 = 512;
/// Linear memories, tables and core instances of one component instance. A
/// component made of one core module needs one, one and about three.
pub(crate) const MEMORIES_MAX: usize = 4;
pub(crate) const TABLES_MAX: usize = 16;
pub(crate) const INSTANCES_MAX: usize = 32;
/// Elements of one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Stack of a call, bytes.
pub(crate) const STACK_BYTES: usize = 512 << 10;
/// Room for the few strings of `describe`, `init` and `save`, bytes.
pub(crate) const LIFECYCLE_OUTPUT_BYTES: usize = 16 << 20;
/// Saved state of a policy, bytes.
pub(crate) const STATE_BYTES_MAX: usize = 4 << 20;
/// Idle instances kept per publish-stage binding.
pub(crate) const POOL_INSTANCES_MAX: usize = 8;
/// Working memories kept per chain, about one per thread that judges.
pub(crate) const CHAIN_SCRATCHES_MAX: usize = 64;
/// Answers remembered per generation and judging thread.
pub(crate) const MEMO_ENTRIES_MAX: usize = 100_000;
/// The same, bytes of keys and answers: up to 80 an answer where all are there.
pub(crate) const MEMO_BYTES_MAX: usize = 8 << 20;
/// Longest key under which an answer is remembered, bytes: longer ones seldom come
/// again, and push out many.
pub(crate) const MEMO_KEY_BYTES_MAX: usize = 1 << 10;
/// Routes remembered with their subjects per judging thread, bytes.
pub(crate) const PLAN_ROUTES_BYTES_MAX: usize = 16 << 20;
/// Subjects that a judging thread keeps beyond a batch.
pub(crate) const NAMES_KEPT_MAX: usize = 2 * MEMO_ENTRIES_MAX;
/// Subjects that it keeps within one: about 100 bytes each.
pub(crate) const NAMES_MAX: usize = 1_000_000;
/// Targets one message may be sent to.
pub const PICKS_PER_ROW_MAX: usize = 256;
/// Longest message an edit may make, bytes: what a client can publish in a frame of
/// the default length. A longer one could be stored, and no client take the delivery.
pub const MESSAGE_BYTES_MAX: usize = (1 << 20) - 64;
/// Bytes of re-encoded messages one judged batch may come to.
pub(crate) const REWRITTEN_BYTES_MAX: usize = 64 << 20;
/// Longest delay a router may ask for, ms (7 days).
pub(crate) const DELAY_MS_MAX: u32 = 7 * 24 * 3_600 * 1_000;
/// Failing calls that end a generation in probation.
pub(crate) const PROBATION_FAILURES: u32 = 3;
/// Length of the probation after a swap, ms and batches; whichever ends first.
pub(crate) const PROBATION_MS: u64 = 10_000;
pub(crate) const PROBATION_BATCHES: u64 = 1_000;
/// Failing batches, without `BREAKER_RESET_MS` of good work between them, that
/// open the breaker after the probation.
pub(crate) const BREAKER_FAILURES: u32 = 3;
/// Halving a failed batch: time in call budgets, and failing calls.
pub(crate) const HALVING_BUDGETS: u64 = 2;
pub(crate) const HALVING_FAILURES_MAX: u32 = 64;
/// How long the open breaker keeps calls away: first, and at most, ms.
pub(crate) const BREAKER_FIRST_MS: u64 = 1_000;
pub(crate) const BREAKER_MAX_MS: u64 = 30_000;
/// Good work after which the breaker forgets, ms.
pub(crate) const BREAKER_RESET_MS: u64 = 10_000;
/// Failures of a delivery policy within [`DELIVERY_FAILURE_WINDOW_MS`] that end it.
pub(crate) const DELIVERY_FAILURES: usize = 3;
pub(crate) const DELIVERY_FAILURE_WINDOW_MS: u64 = 10_000;
/// Log lines per binding and second, and lines kept for people.
pub(crate) const LOG_LINES_PER_SECOND: u32 = 50;
pub(crate) const LOG_LINES_KEPT: usize = 100;
/// Longest log line, bytes; the rest is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 2_048;
/// Longest reason a policy may give, bytes; the rest is cut.
pub(crate) const REASON_BYTES_MAX: usize = 512;
/// Longest version of a policy, bytes.
pub(crate) const VERSION_BYTES_MAX: usize = 64;
/// Bytes shown of a name in a sentence; the rest is cut.
pub(crate) const SHOWN_BYTES_MAX: usize = 128;
/// Names shown in a sentence; the others are counted.
pub(crate) const SHOWN_NAMES_MAX: usize = 8;
/// kv: longest key, bytes.
pub const KV_KEY_BYTES_MAX: usize = 256;
/// kv: longest value, bytes.
pub const KV_VALUE_BYTES_MAX: usize = 64 << 10;
/// kv: keys and values of one binding and shard, bytes.
pub const KV_BYTES_MAX: usize = 1 << 20;
/// Keys one `kv.keys` returns.
pub(crate) const KV_KEYS_MAX: usize = 1_024;
/// Metric writes one call may leave behind.
pub(crate) const METRIC_WRITES_MAX: usize = 10_000;
/// Metrics one binding may define, and the longest name and help, bytes.
pub(crate) const METRICS_MAX: usize = 64;
pub(crate) const METRIC_NAME_BYTES_MAX: usize = 64;
pub(crate) const METRIC_HELP_BYTES_MAX: usize = 256;
