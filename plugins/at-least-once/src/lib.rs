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
//! lease_ms = 30000            # how long a consumer may take
//! attempts = 10               # 0: no end
//! exhausted = "dead-letter"   # or "park"
//! order = "none"              # or "key", "group"
//! retry = { first_ms = 1000, max_ms = 60000, growth_percent = 200 }
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::retrying::Retrying;

/// The policy: its plan, made once.
#[derive(Debug)]
pub struct AtLeastOnce {
    plan: Plan,
}

impl Policy for AtLeastOnce {
    type Config = Retrying;

    fn manifest() -> Manifest {
        manifest!("delivers until acknowledged; gives up into the dead-letter queue")
            .wants(Power::DeadLetter)
    }

    fn new(settings: Retrying, context: &Context) -> Result<Self, String> {
        Ok(Self { plan: settings.apply(Plan::at_least_once(), context)? })
    }
}

impl Delivery for AtLeastOnce {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(self.plan.clone())
    }
}

weir_plugin_sdk::delivery!(AtLeastOnce);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test;

    fn plan(config: &str) -> Plan {
        test::start::<AtLeastOnce>(config).unwrap().open(&Group::default()).unwrap()
    }

    #[test]
    fn defaults_give_up_after_ten_tries_into_the_dead_letter_queue() {
        assert_eq!(plan(""), Plan::at_least_once().attempts(10, Exhausted::DeadLetter));
    }

    #[test]
    fn settings_reach_the_plan() {
        let config = r#"{"lease_ms": 5, "attempts": 2, "exhausted": "park", "order": "key",
            "retry": {"first_ms": 1, "max_ms": 4, "growth_percent": 150}, "per_consumer": 3}"#;
        let expected = Plan::at_least_once()
            .lease_ms(5)
            .attempts(2, Exhausted::Park)
            .order(Order::PerKey)
            .retry(1, 4, 150)
            .per_consumer(3);
        assert_eq!(plan(config), expected);
    }

    #[test]
    fn without_the_power_messages_are_parked() {
        let context = Context::default();
        let mut policy = AtLeastOnce::new(Retrying::default(), &context).unwrap();
        let plan = policy.open(&Group::default()).unwrap();
        assert_eq!(plan, Plan::at_least_once().attempts(10, Exhausted::Park));
    }

    #[test]
    fn contradictions_and_typing_mistakes_are_refused() {
        let error = test::start::<AtLeastOnce>(r#"{"retry": {"first_ms": 9, "max_ms": 5}}"#);
        assert!(error.unwrap_err().contains("first_ms"));
        assert!(test::start::<AtLeastOnce>(r#"{"leese_ms": 5}"#).is_err());
    }
}
