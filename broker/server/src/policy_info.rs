//! What the policy host says about itself, as clients see it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};
use weir_policy::RollbackError;
use weir_policy::status::{BindingStatus, PolicyListing};
use weir_protocol::{
    ErrorCode, GenerationStatus, PolicyItem, PolicyListAnswer, PolicyStatusAnswer, WireError,
};

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

/// The answer to a policy_status request.
#[must_use]
pub fn status(bindings: &[BindingStatus]) -> PolicyStatusAnswer {
    PolicyStatusAnswer { bindings: bindings.iter().map(binding).collect() }
}

/// One binding.
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
        calls: figures.calls,
        rows: figures.rows,
        memo_hits: figures.memo_hits,
        refused_rows: figures.refused_rows,
        traps: figures.traps,
        previous: status
            .history
            .iter()
            .rev()
            .filter(|entry| entry.generation != status.generation)
            .map(|entry| GenerationStatus {
                generation: entry.generation,
                digest: entry.digest.clone(),
                rows: entry.counters.rows,
                state: word(&entry.state),
            })
            .collect(),
    }
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
