//! Router: a table of subject patterns like `subject-router`'s, with weighted
//! splits. A split sends each message to one of its shares: by the message's key,
//! so that a key always goes the same way, or in turn.
//!
//! Every message is asked about, in batches, since more than the subject decides.
//!
//! ```toml
//! policy = "split-router"
//! subjects = ["jobs.>"]
//! powers = ["retarget"]                            # to send outside `subjects`
//! [[config.rules]]
//! pattern = "jobs.>"
//! by = "key"                              # or "turn"
//! split = [
//!     { to = "stable.{>}", weight = 95 },
//!     { to = "canary.{>}", weight = 5 },
//! ]
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::table::{Subjects, Table};

/// The router.
#[derive(Debug)]
pub struct SplitRouter {
    table: Table,
}

/// The broker's hash of no key at all.
const EMPTY_KEY_HASH: u32 = 0xab3e_7c0b;

impl Policy for SplitRouter {
    type Config = Subjects;

    fn manifest() -> Manifest {
        manifest!("routes by a table of subject patterns, with weighted splits")
            .columns(&[Column::Subject, Column::KeyHash])
            .wants(Power::Retarget)
    }

    fn new(subjects: Subjects, context: &Context) -> Result<Self, String> {
        Ok(Self { table: subjects.compile()?.with_turns_from(context.seed) })
    }
}

impl Router for SplitRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        let key_hash = || Some(message.key_hash()).filter(|&hash| hash != EMPTY_KEY_HASH);
        self.table.route(message.subject(), key_hash, to);
    }
}

weir_plugin_sdk::router!(SplitRouter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    fn counts(by: &str, key: impl Fn(u32) -> Option<String>) -> (usize, usize) {
        let config = format!(
            r#"{{"rules": [{{"pattern": "jobs.>", "by": "{by}", "split":
                [{{"to": "a.{{>}}", "weight": 3}}, {{"to": "b.{{>}}", "weight": 1}}]}}]}}"#
        );
        let mut router = test::start::<SplitRouter>(&config).unwrap();
        let messages: Vec<_> = (0..4_000)
            .map(|number| match key(number) {
                Some(key) => TestMessage::new("jobs.x").key(key),
                None => TestMessage::new("jobs.x"),
            })
            .collect();
        let routed = test::route(&mut router, &messages).unwrap();
        let count = |target: &str| routed.iter().filter(|row| *row == &[target]).count();
        (count("a.x"), count("b.x"))
    }

    #[test]
    fn turns_keep_the_weights() {
        let (a, b) = counts("turn", |_| None);
        assert_eq!(a + b, 4_000);
        assert!((2_990..=3_010).contains(&a), "{a}");
    }

    #[test]
    fn keys_keep_the_weights_and_their_way() {
        let (a, b) = counts("key", |number| Some(format!("key-{number}")));
        assert_eq!(a + b, 4_000);
        assert!((2_850..=3_150).contains(&a), "{a}");
        let (a, b) = counts("key", |_| Some("one".to_owned()));
        assert!(a == 4_000 || b == 4_000);
    }

    #[test]
    fn instances_that_come_and_go_keep_the_weights() {
        let config = r#"{"rules": [{"pattern": "jobs", "by": "turn", "split":
            [{"to": "stable", "weight": 95}, {"to": "canary", "weight": 5}]}]}"#;
        // Each gets one message.
        let goes_to_canary = |seed: &u64| {
            let context = Context { seed: *seed, ..Context::default() };
            let mut router = test::start_in::<SplitRouter>(config, &context).unwrap();
            test::route(&mut router, &[TestMessage::new("jobs")]).unwrap() == [["canary"]]
        };
        let canary = (0..2_000).filter(goes_to_canary).count();
        assert!((70..=130).contains(&canary), "{canary} of 2000, 100 expected");
    }

    #[test]
    fn messages_without_a_key_take_turns() {
        let (a, _) = counts("key", |_| None);
        assert!((2_990..=3_010).contains(&a), "{a}");
    }
}
