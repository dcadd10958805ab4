//! Router: where a message goes, by its headers.
//!
//! ```toml
//! policy = "headers-router"
//! subjects = ["events.>"]
//! powers = ["retarget"]                            # to send outside `subjects`
//! [config]
//! otherwise = "events.other"                       # left out: its own subject
//! [[config.rules]]
//! when = { all = [{ header = "region", value = "eu" }, { header = "tier", op = "in", value = ["gold", "silver"] }] }
//! to = "events.{region}.priority"                  # {region}: the header's value
//! [[config.rules]]
//! when = { any = [{ header = "debug", op = "exists" }, { header = "retries", op = "gt", value = 3 }] }
//! to = ["events.inspect", "{$subject}"]
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::condition::{Names, Source};
use weir_policy_kit::json::Found;
use weir_policy_kit::rules::{Rules, Table};

/// The router.
#[derive(Debug)]
pub struct HeadersRouter {
    table: Table,
    names: Names,
    found: Found,
}

impl Policy for HeadersRouter {
    type Config = Rules;

    fn manifest() -> Manifest {
        manifest!("routes by header values")
            .columns(&[Column::Subject, Column::Headers])
            .wants(Power::Retarget)
    }

    fn new(rules: Rules, _context: &Context) -> Result<Self, String> {
        let (table, names) = rules.compile(Source::Headers)?;
        Ok(Self { table, names, found: Found::default() })
    }
}

impl Router for HeadersRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        let Self { table, names, found } = self;
        let text = names.scan_headers(message.headers(), found);
        table.route(message.subject(), &|number| found.value(text, number), to);
    }
}

weir_plugin_sdk::router!(HeadersRouter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    const RULES: &str = r#"{"otherwise": "rest", "rules": [
        {"when": {"all": [{"header": "region", "value": "eu"},
                          {"header": "tier", "op": "in", "value": ["gold", "silver"]}]},
         "to": "events.{region}.priority"},
        {"when": {"any": [{"header": "debug", "op": "exists"},
                          {"header": "retries", "op": "gt", "value": 3}]},
         "to": ["inspect", "{$subject}"]}
    ]}"#;

    fn routed(config: &str, headers: &[(&str, &str)]) -> Vec<String> {
        let mut router = test::start::<HeadersRouter>(config).unwrap();
        let mut message = TestMessage::new("events.a");
        for (name, value) in headers {
            message = message.header(name, *value);
        }
        test::route(&mut router, &[message]).unwrap().remove(0)
    }

    #[test]
    fn all_of_the_values() {
        let headers = [("tier", "silver"), ("region", "eu")];
        assert_eq!(routed(RULES, &headers), ["events.eu.priority"]);
        assert_eq!(routed(RULES, &headers[..1]), ["rest"]);
    }

    #[test]
    fn any_of_the_values() {
        assert_eq!(routed(RULES, &[("debug", "")]), ["inspect", "events.a"]);
        assert_eq!(routed(RULES, &[("retries", "4")]), ["inspect", "events.a"]);
        assert_eq!(routed(RULES, &[("retries", "3")]), ["rest"]);
        assert_eq!(routed(RULES, &[]), ["rest"]);
    }

    #[test]
    fn what_otherwise_has_no_value_for_keeps_its_subject() {
        let rules = r#"{"otherwise": "other.{region}"}"#;
        assert_eq!(routed(rules, &[("region", "eu")]), ["other.eu"]);
        assert_eq!(routed(rules, &[]), ["events.a"]);
        assert_eq!(routed(r#"{"otherwise": []}"#, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_rule_has_no_more_targets_than_a_message() {
        let start = |targets: usize| {
            let to = vec![r#""a""#; targets].join(",");
            let when = r#"{"header": "a", "op": "exists"}"#;
            let rules = format!(r#"{{"rules": [{{"when": {when}, "to": [{to}]}}]}}"#);
            test::start::<HeadersRouter>(&rules).map(drop)
        };
        assert_eq!(start(256), Ok(()));
        let error = start(257).unwrap_err();
        assert!(error.starts_with("rule 1: 257 targets"), "{error}");
    }

    #[test]
    fn values_cannot_change_the_shape_of_a_target() {
        let rules = r#"{"rules": [{"when": {"header": "a", "op": "exists"}, "to": "t.{a}"}]}"#;
        assert_eq!(routed(rules, &[("a", "x.y z>*")]), ["t.x_y_z__"]);
        assert_eq!(routed(rules, &[("a", "")]), ["events.a"]);
    }
}
