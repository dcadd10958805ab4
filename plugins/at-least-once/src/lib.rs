//! Delivery policy: a message is settled by its consumer's acknowledgement and
//! tried again until then, with growing pauses. After the last attempt it goes to
//! the dead-letter queue, or waits for an operator where the binding lacks that
//! power.
//!
//! The broker carries all of it out by itself, by the plan: no call of the policy
//! is made for a message, whether it is acknowledged, given back or forgotten.
//!
//! ```toml
//! policy = "at-least-once"
//! queues = ["orders"]
//! powers = ["dead-letter"]
//! [config]
//! lease_ms = 30000        # how long a consumer may take
//! attempts = 10           # 0: no end
//! exhausted = "dead-letter"
//! retry = { first_ms = 1000, max_ms = 60000, growth_percent = 200 }
//! order = "none"          # or "key", "group"
//! ```

use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::prelude::*;

/// The operator's settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a consumer may keep a message before it counts as lost, ms.
    #[schemars(range(min = 1))]
    pub lease_ms: u32,
    /// Tries per message; 0 for no end.
    pub attempts: u32,
    /// What becomes of a message after the last try.
    pub exhausted: WhenExhausted,
    /// Pauses between tries.
    pub retry: Retry,
    /// The order to keep.
    pub order: KeepOrder,
    /// Most messages in flight per consumer, whatever its credit; 0: no limit.
    pub per_consumer: u32,
}

/// What becomes of a message after the last try.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenExhausted {
    /// It waits for an operator.
    Park,
    /// It goes to the dead-letter queue; without the power, it waits.
    DeadLetter,
}

/// The order to keep.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
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

impl Default for Settings {
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

/// The policy: its plan, made once.
pub struct AtLeastOnce {
    plan: Plan,
}

impl Policy for AtLeastOnce {
    type Config = Settings;

    fn manifest() -> Manifest {
        manifest!("delivers until acknowledged, then gives up into the dead-letter queue")
            .wants(Power::DeadLetter)
    }

    fn new(settings: Settings, context: &Context) -> Result<Self, String> {
        let Retry { first_ms, max_ms, growth_percent } = settings.retry;
        if first_ms > max_ms {
            return Err(format!("retry.first_ms {first_ms} is above retry.max_ms {max_ms}"));
        }
        let exhausted = match settings.exhausted {
            WhenExhausted::DeadLetter if context.has(Power::DeadLetter) => Exhausted::DeadLetter,
            WhenExhausted::DeadLetter => {
                log_info!("without the power \"dead-letter\", messages are parked at the end");
                Exhausted::Park
            }
            WhenExhausted::Park => Exhausted::Park,
        };
        let order = match settings.order {
            KeepOrder::None => Order::None,
            KeepOrder::Key => Order::PerKey,
            KeepOrder::Group => Order::Group,
        };
        let plan = Plan::at_least_once()
            .lease_ms(settings.lease_ms)
            .attempts(settings.attempts, exhausted)
            .retry(first_ms, max_ms, growth_percent)
            .order(order)
            .per_consumer(settings.per_consumer);
        Ok(Self { plan })
    }
}

impl Delivery for AtLeastOnce {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(self.plan.clone())
    }
}

weir_plugin_sdk::delivery!(AtLeastOnce);
