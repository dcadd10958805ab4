//! What the policy host says about itself, as clients see it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};
use weir_policy::RollbackError;
use weir_policy::log::LogLine;
use weir_policy::metrics::{MetricKind, MetricSnapshot};
use weir_policy::status::{BindingStatus, HostCounters, PolicyListing};
use weir_protocol::{
    ErrorCode, GenerationStatus, PolicyCounters, PolicyFailure, PolicyItem, PolicyListAnswer,
    PolicyLogLine, PolicyMetric, PolicyStatusAnswer, WireError,
};

/// Log lines told of one binding. With the longest ones there is still room for
/// everything else in one answer.
const LOG_LINES_TOLD_MAX: usize = 20;

/// The answer to a policy_list request.
#[must_use]
pub fn list(policies: &[PolicyListing]) -> PolicyListAnswer {
    let item = |policy: &PolicyListing| PolicyItem {
        name: policy.name.clone(),
        version: policy.version.clone(),
        roles: policy.roles.iter().map(ToString::to_string).collect(),
        origin: word(&policy.source),
        digest: policy.digest.clone(),
        bindings: policy.bindings.clone(),
        error: policy.problem.clone(),
    };
    PolicyListAnswer { policies: policies.iter().map(item).collect() }
}

/// The answer to a policy_status request; `in_detail` when it asked for one.
#[must_use]
pub fn status(
    bindings: &[BindingStatus],
    counters: HostCounters,
    in_detail: bool,
) -> PolicyStatusAnswer {
    let told = |status: &BindingStatus| match in_detail {
        true => detailed(status),
        false => binding(status),
    };
    let HostCounters {
        passes,
        compilations,
        activations,
        refusals,
        rollbacks,
        troubles,
        file_problems,
    } = counters;
    PolicyStatusAnswer {
        bindings: bindings.iter().map(told).collect(),
        counters: PolicyCounters {
            passes,
            compilations,
            activations,
            refusals,
            rollbacks,
            troubles,
            file_problems,
        },
    }
}

/// One binding with its metrics and log, which may be long.
fn detailed(status: &BindingStatus) -> weir_protocol::BindingStatus {
    let skipped = status.log.len().saturating_sub(LOG_LINES_TOLD_MAX);
    weir_protocol::BindingStatus {
        metrics: status.metrics.iter().map(metric).collect(),
        log: status.log.iter().skip(skipped).map(log_line).collect(),
        ..binding(status)
    }
}

fn metric(metric: &MetricSnapshot) -> PolicyMetric {
    let value = match metric.kind {
        // A count, kept as a float: whole up to 2^53.
        MetricKind::Counter => Value::from(metric.value as u64),
        _ => Value::from(metric.value),
    };
    PolicyMetric {
        name: metric.name.clone(),
        kind: word(&metric.kind),
        help: metric.help.clone(),
        value,
        buckets: metric.buckets.clone(),
    }
}

fn log_line(line: &LogLine) -> PolicyLogLine {
    let level = match line.level {
        0 | 1 => "error",
        2 => "warn",
        3 => "info",
        4 => "debug",
        _ => "trace",
    };
    PolicyLogLine {
        time_ms: line.time_ms,
        generation: line.generation,
        level: level.to_owned(),
        message: line.message.clone(),
    }
}

/// One binding, without what may be long.
#[must_use]
pub fn binding(status: &BindingStatus) -> weir_protocol::BindingStatus {
    let active = status.history.iter().find(|entry| entry.generation == status.generation);
    let figures = active.map(|entry| entry.counters).unwrap_or_default();
    // A pattern over queues and one over groups may read the same.
    let scope = [&status.subjects, &status.queues, &status.groups].into_iter().flatten();
    let scope: BTreeSet<String> = scope.cloned().collect();
    weir_protocol::BindingStatus {
        binding: status.name.clone(),
        policy: status.policy.clone(),
        version: status.version.clone(),
        role: status.role.to_owned(),
        stage: status.stage.to_owned(),
        scope: scope.into_iter().collect(),
        order: status.order,
        on_failure: status.on_failure.to_owned(),
        powers: status.powers.iter().map(ToString::to_string).collect(),
        config: config(&status.config),
        state: word(&status.state),
        error: status.error.clone(),
        generation: status.generation,
        digest: status.digest.clone(),
        since_ms: active.map_or(status.since_ms, |entry| entry.activated_ms),
        breaker: status.breaker.as_ref().map(word).unwrap_or_default(),
        calls: figures.calls,
        rows: figures.rows,
        memo_hits: figures.memo_hits,
        failed_rows: figures.failed_rows,
        denied_rows: figures.denied_rows,
        refused_rows: figures.refused_rows,
        dropped_rows: figures.dropped_rows,
        diverted_rows: figures.diverted_rows,
        failures: figures.failures,
        traps: figures.traps,
        instances: figures.instances,
        memory_bytes: figures.memory_bytes,
        kv_refused: figures.kv_refused,
        kv_bytes: status.kv_bytes as u64,
        log_lines_dropped: status.log_lines_dropped,
        last_failure: last_failure(status),
        metrics: Vec::new(),
        log: Vec::new(),
        previous: status
            .history
            .iter()
            .rev()
            .filter(|entry| entry.generation != status.generation)
            .map(|entry| GenerationStatus {
                generation: entry.generation,
                digest: entry.digest.clone(),
                rows: entry.counters.rows,
                failed_rows: entry.counters.failed_rows,
                state: word(&entry.state),
                reason: entry.reason.clone(),
            })
            .collect(),
    }
}

/// The failure of the latest generation that had one.
fn last_failure(status: &BindingStatus) -> Option<PolicyFailure> {
    status.history.iter().rev().find_map(|entry| {
        let failure = entry.last_failure.as_ref()?;
        Some(PolicyFailure {
            generation: entry.generation,
            time_ms: failure.time_ms,
            reason: failure.reason.clone(),
        })
    })
}

/// Why a rollback did not happen.
#[must_use]
pub fn rollback_refused(error: &RollbackError) -> WireError {
    let (code, hint) = match error {
        RollbackError::NoBinding(_) => {
            (ErrorCode::NotFound, "weir policy status lists the bindings")
        }
        _ => (ErrorCode::BadRequest, "weir policy status BINDING shows its generations"),
    };
    WireError { hint: hint.into(), ..WireError::new(code, error.to_string()) }
}

fn config(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The word an enum is written as everywhere.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
