//! Settings of delivery policies that try again.

use crate::limits::{ATTEMPTS_MAX, TIMER_MS_MAX};
use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::{Context, Exhausted, Order, Plan, Power, log_info};

/// What an operator sets for a policy that tries again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retrying {
    /// How long a consumer may keep a message before it counts as lost, ms.
    #[schemars(range(min = 1))]
    pub lease_ms: u32,
    /// Tries per message; 0 for no end.
    pub attempts: u32,
    /// What becomes of a message after the last try.
    pub exhausted: WhenExhausted,
    /// Pauses between tries.
    pub retry: Retry,
    /// The order to keep; a policy may keep more.
    pub order: KeepOrder,
    /// Most messages in flight per consumer, whatever its credit; 0: no limit.
    pub per_consumer: u32,
}

/// What becomes of a message after the last try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenExhausted {
    /// It waits for an operator.
    Park,
    /// It goes to the dead-letter queue; without the power, it waits.
    DeadLetter,
}

/// The order to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeepOrder {
    /// None: a message tried again comes after later ones.
    None,
    /// Messages with the same key, one at a time.
    Key,
    /// The whole group, one at a time.
    Group,
}

/// Pauses between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Before the second try, ms.
    pub first_ms: u32,
    /// The longest, ms.
    pub max_ms: u32,
    /// Growth from one pause to the next, percent: 200 doubles it.
    #[schemars(range(min = 100))]
    pub growth_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first_ms: 1_000, max_ms: 60_000, growth_percent: 200 }
    }
}

impl Default for Retrying {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            attempts: 10,
            exhausted: WhenExhausted::DeadLetter,
            retry: Retry::default(),
            order: KeepOrder::None,
            per_consumer: 0,
        }
    }
}

impl Retrying {
    /// The plan that these settings make of `plan`.
    ///
    /// # Errors
    /// When the pauses contradict each other, or the broker cannot keep what is asked.
    pub fn apply(&self, plan: Plan, context: &Context) -> Result<Plan, String> {
        let Retry { first_ms, max_ms, growth_percent } = self.retry;
        if first_ms > max_ms {
            return Err(format!("retry.first_ms {first_ms} is above retry.max_ms {max_ms}"));
        }
        for (setting, ms) in [("lease_ms", self.lease_ms), ("retry.max_ms", max_ms)] {
            if ms > TIMER_MS_MAX {
                return Err(format!("{setting} {ms} is above {TIMER_MS_MAX}, which is 7 days"));
            }
        }
        if self.attempts > ATTEMPTS_MAX {
            let attempts = self.attempts;
            return Err(format!("attempts {attempts} is above {ATTEMPTS_MAX}: 0 is for no end"));
        }
        let dead_letter = context.has(Power::DeadLetter);
        let exhausted = match self.exhausted {
            WhenExhausted::DeadLetter if dead_letter => Exhausted::DeadLetter,
            WhenExhausted::DeadLetter => {
                log_info!("without the power \"dead-letter\" messages wait after the last attempt");
                Exhausted::Park
            }
            WhenExhausted::Park => Exhausted::Park,
        };
        let plan = match self.order {
            KeepOrder::None => plan,
            KeepOrder::Key => plan.order(Order::PerKey),
            KeepOrder::Group => plan.order(Order::Group),
        };
        Ok(plan
            .lease_ms(self.lease_ms)
            .attempts(self.attempts, exhausted)
            .retry(first_ms, max_ms, growth_percent)
            .per_consumer(self.per_consumer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_would_cut_or_never_reach_is_refused() {
        let apply = |settings: &str| {
            let settings: Retrying = serde_json::from_str(settings).expect("settings");
            settings.apply(Plan::at_least_once(), &Context::default())
        };
        let most = r#"{"lease_ms": 604800000, "retry": {"max_ms": 604800000}, "attempts": 65535}"#;
        assert!(apply(most).is_ok());
        for (settings, named) in [
            (r#"{"lease_ms": 604800001}"#, "lease_ms"),
            (r#"{"retry": {"max_ms": 604800001}}"#, "retry.max_ms"),
            (r#"{"attempts": 65536}"#, "attempts"),
        ] {
            let error = apply(settings).expect_err(settings);
            assert!(error.starts_with(named), "{error}");
        }
    }
}
