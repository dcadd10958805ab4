//! What the broker tells a policy when it starts it.

use crate::bindings::weir::policy::types;
use crate::manifest::Power;

/// Where and how this instance runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Version of the broker.
    pub broker: String,
    /// Name of the binding: one policy, one configuration, one scope.
    pub binding: String,
    /// "router", "filter" or "delivery".
    pub role: String,
    /// "publish" or "deliver" for a filter, otherwise "".
    pub stage: String,
    /// This instance serves one shard and is never shared.
    pub shard: u32,
    /// How many there are.
    pub shards: u32,
    /// Counts the reloads of this binding.
    pub generation: u64,
    /// Names of the powers granted.
    pub powers: Vec<String>,
    /// Random, differs per instance: seeds hash maps and generators.
    pub seed: u64,
    /// Budget of one call, microseconds; 0 when unknown.
    pub budget_us: u64,
    /// Largest batch the broker will send, messages; 0 when unknown.
    pub batch_rows_max: u64,
}

impl Context {
    /// Whether the operator granted `power`.
    #[must_use]
    pub fn has(&self, power: Power) -> bool {
        self.powers.iter().any(|granted| granted == power.name())
    }

    /// Refuses to start without `power`, in words the operator can act on.
    ///
    /// # Errors
    /// The sentence, when it was not granted.
    pub fn require(&self, power: Power) -> Result<(), String> {
        if self.has(power) {
            return Ok(());
        }
        let name = power.name();
        Err(format!("needs the power {name:?}: add it to `powers` in the binding's file"))
    }

    pub(crate) fn of(wire: &types::Context) -> Self {
        let setting = |id| wire.settings.iter().find(|entry| entry.id == id).map_or(0, |e| e.value);
        Self {
            broker: wire.broker.clone(),
            binding: wire.binding.clone(),
            role: wire.role.clone(),
            stage: wire.stage.clone(),
            shard: wire.shard,
            shards: wire.shards,
            generation: wire.generation,
            powers: wire.powers.clone(),
            seed: wire.seed,
            budget_us: setting(1),
            batch_rows_max: setting(2),
        }
    }
}
