//! Delivery policy: each group gets one copy of every message, one member of the
//! group takes it, and the messages of a key stay in order, also while many
//! members share the work. A key's messages go to the same member; when members
//! join or leave, only the keys of those members move, and a key moves only
//! between two of its messages, never while one is in flight.
//!
//! Messages are settled by acknowledgement and tried again, in place: later
//! messages of the key wait until the earlier one is settled, or given up.
//!
//! ```toml
//! policy = "per-group"
//! groups = ["orders/*"]
//! powers = ["dead-letter"]
//! [config]
//! lease_ms = 30000
//! attempts = 10               # then dead-letter, or park
//! retry = { first_ms = 100, max_ms = 5000, growth_percent = 200 }
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::retrying::{KeepOrder, Retrying};

/// The policy: its plan, made once.
#[derive(Debug)]
pub struct PerGroup {
    plan: Plan,
}

impl Policy for PerGroup {
    type Config = Retrying;

    fn manifest() -> Manifest {
        manifest!("one copy per group, one member per message, in order per key")
            .wants(Power::DeadLetter)
    }

    fn new(mut settings: Retrying, context: &Context) -> Result<Self, String> {
        // Order per key is what this policy is for; only more can be asked.
        if settings.order == KeepOrder::None {
            settings.order = KeepOrder::Key;
        }
        Ok(Self { plan: settings.apply(Plan::ordered_by_key(), context)? })
    }
}

impl Delivery for PerGroup {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(self.plan.clone())
    }
}

weir_plugin_sdk::delivery!(PerGroup);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, Bench};

    #[test]
    fn order_is_never_less_than_per_key() {
        let mut policy = test::start::<PerGroup>("").unwrap();
        let expected = Plan::ordered_by_key().attempts(10, Exhausted::DeadLetter);
        assert_eq!(policy.open(&Group::default()).unwrap(), expected);
        let mut policy = test::start::<PerGroup>(r#"{"order": "group"}"#).unwrap();
        assert_eq!(policy.open(&Group::default()).unwrap(), expected.order(Order::Group));
    }

    /// Members come, go and die; messages are given back and forgotten: each key's
    /// messages are settled in the order they were published.
    #[test]
    fn keys_keep_their_order_while_members_come_and_go() {
        for seed in 0..50 {
            let mut policy = test::start::<PerGroup>(r#"{"attempts": 0}"#).unwrap();
            let mut bench = Bench::open(&mut policy).unwrap();
            bench.publish(200, |number| Some(format!("key-{}", number % 7)));
            bench.storm(seed, 400);
            bench.drain();
            let settled = bench.settled();
            assert_eq!(settled.len(), 200, "seed {seed}: all settled once");
            for key in 0..7 {
                let of_key: Vec<_> = settled.iter().filter(|&&id| id.0 % 7 == key).collect();
                assert!(of_key.is_sorted(), "seed {seed}: key {key} out of order");
            }
        }
    }
}
