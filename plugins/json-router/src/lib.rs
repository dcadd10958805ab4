//! Router: where a message goes, by fields of its JSON payload. The payload is
//! scanned for those fields only, once per message, up to the last of them.
//!
//! ```toml
//! policy = "json-router"
//! subjects = ["flights"]
//! powers = ["retarget"]                            # to send outside `subjects`
//! [config]
//! otherwise = "flights.on-time"                    # left out: its own subject
//! [[config.rules]]
//! when = { all = [{ field = "delay", op = "gt", value = 60 }, { field = "distance", op = "ge", value = 1000 }] }
//! to = "flights.late.long"
//! [[config.rules]]
//! when = { field = "airport.country", op = "in", value = ["DE", "AT"] }
//! to = "flights.{airport.country}"                 # {…}: the field's value
//! ```
//!
//! Operators: `eq` (when left out), `ne`, `lt`, `le`, `gt`, `ge`, `in`, `exists`, `null`,
//! `contains`, `prefix`, `suffix`; tied together by `all`, `any`, `not`.

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::condition::{Names, Source};
use weir_policy_kit::json::Found;
use weir_policy_kit::rules::{Rules, Table};

/// The router.
#[derive(Debug)]
pub struct JsonRouter {
    table: Table,
    names: Names,
    found: Found,
}

impl Policy for JsonRouter {
    type Config = Rules;

    fn manifest() -> Manifest {
        manifest!("routes by fields of the JSON payload")
            .columns(&[Column::Subject, Column::Payload])
            .wants(Power::Retarget)
    }

    fn new(rules: Rules, _context: &Context) -> Result<Self, String> {
        let (table, names) = rules.compile(Source::Fields)?;
        Ok(Self { table, names, found: Found::default() })
    }
}

impl Router for JsonRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        let payload = message.payload();
        let Self { table, names, found } = self;
        names.paths().scan(payload, found);
        table.route(message.subject(), &|number| found.value(payload, number), to);
    }
}

weir_plugin_sdk::router!(JsonRouter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    const RULES: &str = r#"{"otherwise": "flights.on-time", "rules": [
        {"when": {"all": [{"field": "delay", "op": "gt", "value": 60},
                          {"field": "distance", "op": "ge", "value": 1000}]},
         "to": "flights.late.long"},
        {"when": {"field": "delay", "op": "gt", "value": 60}, "to": "flights.late.short"},
        {"when": {"field": "airport.country", "op": "in", "value": ["DE", "AT"]},
         "to": ["flights.{airport.country}", "flights.delay-{delay}"]}
    ]}"#;

    fn routed(config: &str, payload: &str) -> Vec<String> {
        let mut router = test::start::<JsonRouter>(config).unwrap();
        let message = TestMessage::new("flights").payload(payload);
        test::route(&mut router, &[message]).unwrap().remove(0)
    }

    #[test]
    fn conditions_on_fields_decide() {
        assert_eq!(routed(RULES, r#"{"delay":61,"distance":1000}"#), ["flights.late.long"]);
        assert_eq!(routed(RULES, r#"{"distance":999,"delay":61}"#), ["flights.late.short"]);
        assert_eq!(routed(RULES, r#"{"distance":999,"delay":60}"#), ["flights.on-time"]);
        assert_eq!(routed(RULES, r#"{"distance":999}"#), ["flights.on-time"]);
    }

    #[test]
    fn placeholders_take_values_and_a_missing_one_unmakes_the_rule() {
        let payload = r#"{"airport":{"country":"AT"},"delay":-3}"#;
        assert_eq!(routed(RULES, payload), ["flights.AT", "flights.delay--3"]);
        assert_eq!(routed(RULES, r#"{"airport":{"country":"AT"}}"#), ["flights.on-time"]);
    }

    #[test]
    fn ids_of_64_bits_stay_what_they_are_in_targets() {
        let rules = r#"{"rules": [{"when": {"field": "id", "op": "exists"}, "to": "ids.{id}"}]}"#;
        for id in ["18446744073709551615", "9223372036854775808", "-9223372036854775808"] {
            assert_eq!(routed(rules, &format!(r#"{{"id":{id}}}"#)), [format!("ids.{id}")]);
        }
    }

    #[test]
    fn values_that_make_no_subject_unmake_the_rule() {
        let rules = r#"{"rules": [{"when": {"field": "a", "op": "exists"}, "to": "{a}.x"}]}"#;
        let of = |value: &str| routed(rules, &format!(r#"{{"a":"{value}"}}"#));
        let (fits, long) = ("a".repeat(253), "a".repeat(254));
        assert_eq!(of(&fits), [format!("{fits}.x")]);
        // The broker would refuse the message: subjects have 255 bytes at most.
        assert_eq!(of(&long), ["flights"]);
        // And this one would be the broker's own.
        assert_eq!(of(".a"), ["flights"]);
    }

    #[test]
    fn all_rules_that_hold() {
        let rules = RULES.replacen('{', r#"{"match": "all","#, 1);
        let expected = ["flights.late.long", "flights.late.short"];
        assert_eq!(routed(&rules, r#"{"delay":61,"distance":1000}"#), expected);
    }

    #[test]
    fn what_is_no_json_goes_the_other_way() {
        assert_eq!(routed(RULES, "delay=61"), ["flights.on-time"]);
        assert_eq!(routed(r#"{"rules": []}"#, ""), ["flights"]);
    }

    #[test]
    fn mistakes_name_their_rule() {
        let rules = r#"{"rules":[{"when":{"field":"a","op":"in","value":1},"to":"b"}]}"#;
        assert!(test::start::<JsonRouter>(rules).unwrap_err().starts_with("rule 1"));
    }
}
