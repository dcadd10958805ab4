//! A Weir delivery policy: how stored messages reach consumers. `open` says what
//! the broker does by itself; `event` hears of what the plan asks to hear. `cargo
//! test` runs the test below natively, `weir policy build` makes the component.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::prelude::*;

/// The operator's settings: `[config]` in the binding's file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Tries per message before it waits for an operator.
    pub attempts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempts: 5 }
    }
}

/// The policy.
pub struct MyDelivery {
    settings: Settings,
}

impl Policy for MyDelivery {
    type Config = Settings;

    fn manifest() -> Manifest {
        manifest!("tries a few times, then waits for an operator")
    }

    fn new(settings: Settings, _context: &Context) -> Result<Self, String> {
        Ok(Self { settings })
    }
}

impl Delivery for MyDelivery {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        // The broker carries this out without a call per message. For a policy
        // that picks consumers itself, start from `Plan::dispatched_by_policy`.
        Ok(Plan::at_least_once()
            .attempts(self.settings.attempts, Exhausted::Park)
            .retry(1_000, 30_000, 200)
            .interest(&[EventKind::Nacked]))
    }

    fn event(&mut self, _now_ms: u64, event: &Event<'_>, _actions: &mut Actions) {
        if let Event::Nacked { message, attempt, .. } = event {
            log_info!("message {} was given back after try {attempt}", message.0);
        }
    }
}

weir_plugin_sdk::delivery!(MyDelivery);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugin_sdk::test::{self, Bench, Fate};

    #[test]
    fn a_message_nobody_wants_is_parked() {
        let mut policy = test::start::<MyDelivery>(r#"{"attempts": 2}"#).expect("starts");
        let mut bench = Bench::open(&mut policy).expect("opens");
        bench.join("ann", 10).expect("joins");
        bench.publish(1, |_| None);
        for _ in 0..2 {
            let held: Vec<_> = bench.held().collect();
            bench.nack(held[0], 0);
            bench.run_for_ms(1_000);
        }
        assert_eq!(bench.deliveries_per_message(), [2]);
        assert!(bench.fates().eq([Fate::Parked]));
    }
}
