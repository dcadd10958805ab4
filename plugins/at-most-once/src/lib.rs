//! Delivery policy: a message is settled when it is handed to its consumer's
//! connection. Nothing is delivered twice; what a consumer had when it died is
//! lost. The broker carries it out by itself, by the plan.
//!
//! ```toml
//! policy = "at-most-once"
//! queues = ["metrics"]
//! ```

use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::prelude::*;

/// The operator's settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Most messages handed to one consumer and not yet taken by it, whatever its
    /// credit; 0: no limit.
    pub per_consumer: u32,
}

/// The policy.
#[derive(Debug)]
pub struct AtMostOnce {
    settings: Settings,
}

impl Policy for AtMostOnce {
    type Config = Settings;

    fn manifest() -> Manifest {
        manifest!("hands each message over once and forgets it")
    }

    fn new(settings: Settings, _context: &Context) -> Result<Self, String> {
        Ok(Self { settings })
    }
}

impl Delivery for AtMostOnce {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(Plan::at_most_once().per_consumer(self.settings.per_consumer))
    }
}

weir_plugin_sdk::delivery!(AtMostOnce);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test;

    #[test]
    fn settles_at_hand_over() {
        let mut policy = test::start::<AtMostOnce>(r#"{"per_consumer": 7}"#).unwrap();
        let plan = policy.open(&Group::default()).unwrap();
        assert_eq!(plan, Plan::at_most_once().per_consumer(7));
    }

    #[test]
    fn a_lost_consumer_costs_what_it_held_and_nothing_twice() {
        let mut policy = test::start::<AtMostOnce>("").unwrap();
        let mut bench = test::Bench::open(&mut policy).unwrap();
        let (ann, bob) = (bench.join("ann", 2).unwrap(), bench.join("bob", 2).unwrap());
        bench.publish(4, |_| None);
        bench.lose(ann);
        bench.run_for_ms(120_000);
        assert_eq!(bench.deliveries_per_message(), [1, 1, 1, 1]);
        assert_eq!(bench.deliveries().iter().filter(|one| one.consumer == bob).count(), 2);
    }
}
