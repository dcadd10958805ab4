//! Router: where a message goes, by a table of subject patterns. A subject can be
//! kept, rewritten with parts of itself, or sent to several others. With an empty
//! table every message keeps its subject: that is the broker's default router.
//!
//! The subject alone decides, so the broker asks once per subject and remembers
//! the answer. Weighted splits depend on more: `split-router` has them.
//!
//! ```toml
//! policy = "subject-router"
//! subjects = ["orders.>"]
//! powers = ["retarget"]                            # to send outside `subjects`
//! [config]
//! match = "first"                         # or "all": every rule that matches
//! [[config.rules]]
//! pattern = "orders.*.created"
//! to = ["billing.{1}", "{$subject}"]      # {1}: what the first * matched
//! [[config.rules]]
//! pattern = "orders.>"
//! to = "archive.{>}"                      # {>}: what > matched
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::table::{Subjects, Table};

/// The router.
#[derive(Debug)]
pub struct SubjectRouter {
    table: Table,
}

impl Policy for SubjectRouter {
    type Config = Subjects;

    fn manifest() -> Manifest {
        manifest!("routes by a table of subject patterns")
            .memo_by(&[Column::Subject])
            .wants(Power::Retarget)
    }

    fn new(subjects: Subjects, _context: &Context) -> Result<Self, String> {
        if subjects.splits() {
            return Err("a split needs more than the subject: \
                        use policy = \"split-router\" with the same table"
                .to_owned());
        }
        Ok(Self { table: subjects.compile()? })
    }
}

impl Router for SubjectRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        self.table.route(message.subject(), || None, to);
    }
}

weir_plugin_sdk::router!(SubjectRouter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    fn routed(config: &str, subject: &str) -> Vec<String> {
        let mut router = test::start::<SubjectRouter>(config).unwrap();
        test::route(&mut router, &[TestMessage::new(subject)]).unwrap().remove(0)
    }

    const TABLE: &str = r#"{"rules": [
        {"pattern": "orders.*.created", "to": ["billing.{1}", "{$subject}"]},
        {"pattern": "orders.>", "to": "archive.{>}"},
        {"pattern": "noise.>", "to": []}
    ]}"#;

    #[test]
    fn an_empty_table_keeps_every_subject() {
        assert_eq!(routed("{}", "a.b"), ["a.b"]);
        assert_eq!(routed("", "a.b"), ["a.b"]);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        assert_eq!(routed(TABLE, "orders.eu.created"), ["billing.eu", "orders.eu.created"]);
        assert_eq!(routed(TABLE, "orders.eu.paid"), ["archive.eu.paid"]);
        assert_eq!(routed(TABLE, "noise.x"), Vec::<String>::new());
        assert_eq!(routed(TABLE, "other"), ["other"]);
    }

    #[test]
    fn all_rules_that_match_decide_when_asked_to() {
        let table = TABLE.replacen('{', r#"{"match": "all", "otherwise": "rest","#, 1);
        let expected = ["billing.eu", "orders.eu.created", "archive.eu.created"];
        assert_eq!(routed(&table, "orders.eu.created"), expected);
        assert_eq!(routed(&table, "other"), ["rest"]);
    }

    #[test]
    fn a_rule_whose_target_cannot_be_filled_does_not_hold() {
        let table = r#"{"rules": [
            {"pattern": "mail*.in", "to": ["boxes.{1}", "seen.{$subject}"]},
            {"pattern": "mail*.>", "to": "archived.{>}"}
        ]}"#;
        assert_eq!(routed(table, "mail-eu.in"), ["boxes.-eu", "seen.mail-eu.in"]);
        // The first `*` has matched nothing.
        assert_eq!(routed(table, "mail.in"), ["archived.in"]);
        // Subjects have 255 bytes at most.
        let (fits, long) = ("x".repeat(246), "x".repeat(247));
        assert_eq!(routed(table, &format!("mail.{fits}")), [format!("archived.{fits}")]);
        let own = format!("mail.{long}");
        assert_eq!(routed(table, &own), [own.as_str()]);
        let all = table.replacen('{', r#"{"match": "all", "otherwise": "rest","#, 1);
        assert_eq!(routed(&all, "mail.in"), ["archived.in"]);
        assert_eq!(routed(&all, &own), ["rest"]);
    }

    #[test]
    fn a_message_for_which_too_many_rules_hold_fails() {
        let start = |rules: usize| {
            let rules = vec![r#"{"pattern": ">", "to": "a"}"#; rules].join(",");
            let table = format!(r#"{{"match": "all", "rules": [{rules}]}}"#);
            test::start::<SubjectRouter>(&table).unwrap()
        };
        let messages = [TestMessage::new("x")];
        assert_eq!(test::route(&mut start(256), &messages).unwrap()[0].len(), 256);
        let error = test::route(&mut start(257), &messages).unwrap_err();
        assert!(error.contains("more than 256 targets"), "{error}");
    }

    #[test]
    fn a_split_is_sent_to_the_policy_that_can() {
        let table = r#"{"rules":[{"pattern":"a","split":[{"to":"b","weight":1}]}]}"#;
        assert!(test::start::<SubjectRouter>(table).unwrap_err().contains("split-router"));
    }

    #[test]
    fn mistakes_name_their_rule() {
        let table = r#"{"rules":[{"pattern":"a","to":"b"},{"pattern":"a.*","to":"b.{2}"}]}"#;
        assert!(test::start::<SubjectRouter>(table).unwrap_err().starts_with("rule 2"));
    }
}
