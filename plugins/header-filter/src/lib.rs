//! Filter: which messages pass, by their headers. The others are refused, dropped
//! or diverted.
//!
//! ```toml
//! policy = "header-filter"
//! subjects = ["orders.>"]
//! powers = ["dead-letter"]
//! [config]
//! keep = { all = [{ header = "tenant", op = "exists" }, { header = "version", op = "ge", value = 2 }] }
//! otherwise = "divert"                    # refuse (when left out) | drop | divert
//! reason = "no tenant, or an old version"
//! ```

use weir_plugin_sdk::prelude::*;
use weir_policy_kit::condition::{Judge, Names, Source};
use weir_policy_kit::gate::Gate;
use weir_policy_kit::json::Found;

/// The filter.
#[derive(Debug)]
pub struct HeaderFilter {
    keep: Judge,
    names: Names,
    found: Found,
    otherwise: Verdict,
}

impl Policy for HeaderFilter {
    type Config = Gate;

    fn manifest() -> Manifest {
        manifest!("passes messages by header values")
            .columns(&[Column::Headers])
            .wants(Power::Drop)
            .wants(Power::DeadLetter)
    }

    fn new(gate: Gate, context: &Context) -> Result<Self, String> {
        let mut names = Names::new(Source::Headers);
        let keep = gate.keep.compile(&mut names)?;
        Ok(Self { keep, names, found: Found::default(), otherwise: gate.verdict(context)? })
    }
}

impl Filter for HeaderFilter {
    fn filter(&mut self, message: &Message<'_>) -> Verdict {
        let text = self.names.scan_headers(message.headers(), &mut self.found);
        if self.keep.holds(&|number| self.found.value(text, number)) {
            Verdict::Keep
        } else {
            self.otherwise.clone()
        }
    }
}

weir_plugin_sdk::filter!(HeaderFilter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    const KEEP: &str = r#"{"header": "version", "op": "ge", "value": 2}"#;

    fn judged(rest: &str) -> Vec<Verdict> {
        let config = format!(r#"{{"keep": {KEEP}{rest}}}"#);
        let mut filter = test::start::<HeaderFilter>(&config).unwrap();
        let messages = [
            TestMessage::new("a").header("version", "2"),
            TestMessage::new("a").header("version", "1"),
            TestMessage::new("a"),
        ];
        test::filter(&mut filter, &messages).unwrap()
    }

    #[test]
    fn messages_that_hold_pass() {
        let no = Verdict::Refuse("too old".to_owned());
        assert_eq!(judged(r#", "reason": "too old""#), [Verdict::Keep, no.clone(), no]);
    }

    #[test]
    fn the_others_can_be_dropped_or_diverted() {
        assert_eq!(judged(r#", "otherwise": "drop""#)[1], Verdict::Drop);
        assert!(matches!(judged(r#", "otherwise": "divert""#)[1], Verdict::Divert(_)));
    }

    #[test]
    fn powers_are_asked_for() {
        let config = format!(r#"{{"keep": {KEEP}, "otherwise": "drop"}}"#);
        let context = Context::default();
        let error = test::start_in::<HeaderFilter>(&config, &context).unwrap_err();
        assert!(error.contains("\"drop\""), "{error}");
    }
}
