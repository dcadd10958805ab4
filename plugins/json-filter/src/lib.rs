//! Filter: which messages pass, by fields of their JSON payload. The others are
//! refused, dropped or diverted. A payload that is no JSON has no fields.
//!
//! ```toml
//! policy = "json-filter"
//! subjects = ["orders.>"]
//! [config]
//! keep = { all = [{ field = "id", op = "exists" }, { field = "total", op = "gt", value = 0 }] }
//! otherwise = "refuse"                    # (when left out) | drop | divert
//! reason = "an order has an id and a total"
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::condition::{Judge, Names, Source};
use weir_policy_kit::gate::Gate;
use weir_policy_kit::json::Found;

/// The filter.
#[derive(Debug)]
pub struct JsonFilter {
    keep: Judge,
    names: Names,
    found: Found,
    otherwise: Verdict,
}

impl Policy for JsonFilter {
    type Config = Gate;

    fn manifest() -> Manifest {
        manifest!("passes messages by fields of the JSON payload")
            .columns(&[Column::Payload])
            .wants(Power::Drop)
            .wants(Power::DeadLetter)
    }

    fn new(gate: Gate, context: &Context) -> Result<Self, String> {
        let mut names = Names::new(Source::Fields);
        let keep = gate.keep.compile(&mut names)?;
        Ok(Self { keep, names, found: Found::default(), otherwise: gate.verdict(context)? })
    }
}

impl Filter for JsonFilter {
    fn filter(&mut self, message: &Message<'_>) -> Verdict {
        let payload = message.payload();
        self.names.paths().scan(payload, &mut self.found);
        if self.keep.holds(&|number| self.found.value(payload, number)) {
            Verdict::Keep
        } else {
            self.otherwise.clone()
        }
    }
}

weir_plugin_sdk::filter!(JsonFilter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    #[test]
    fn fields_decide() {
        let config = r#"{"keep": {"all": [{"field": "id", "op": "exists"},
            {"field": "total", "op": "gt", "value": 0}]}, "otherwise": "divert", "reason": "bad"}"#;
        let mut filter = test::start::<JsonFilter>(config).unwrap();
        let payloads = [r#"{"id":7,"total":0.5}"#, r#"{"id":7,"total":0}"#, "{}", "nonsense"];
        let messages = payloads.map(|payload| TestMessage::new("a").payload(payload));
        let no = Verdict::Divert("bad".to_owned());
        let expected = [Verdict::Keep, no.clone(), no.clone(), no];
        assert_eq!(test::filter(&mut filter, &messages).unwrap(), expected);
    }

    #[test]
    fn the_standard_reason_names_the_binding() {
        let context = Context { binding: "orders-check".to_owned(), ..Context::default() };
        let config = r#"{"keep": {"field": "id", "op": "exists"}}"#;
        let mut filter = test::start_in::<JsonFilter>(config, &context).unwrap();
        let verdicts = test::filter(&mut filter, &[TestMessage::new("a").payload("{}")]).unwrap();
        assert!(matches!(&verdicts[0], Verdict::Refuse(why) if why.contains("orders-check")));
    }
}
