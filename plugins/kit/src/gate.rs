//! What the shipped filters do with messages that do not pass.

use crate::condition::Condition;
use crate::limits::REASON_BYTES_MAX;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::{Context, Power, Verdict};

/// The settings of a filter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Messages that this holds for pass.
    pub keep: Condition,
    /// What becomes of the others.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// What their publisher reads, or what stands on a diverted message.
    pub reason: Option<String>,
}

/// What becomes of messages that do not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// The publisher gets an error; where messages are delivered, they are gone
    /// (power "drop" there).
    #[default]
    Refuse,
    /// They are taken and silently gone (power "drop").
    Drop,
    /// They go to the dead-letter queue (power "dead-letter").
    Divert,
}

impl Gate {
    /// The verdict on messages that do not pass.
    ///
    /// # Errors
    /// When the operator did not grant the power that it takes.
    pub fn verdict(&self, context: &Context) -> Result<Verdict, String> {
        let reason = || {
            let standard = || format!("does not pass the filter {:?}", context.binding);
            let mut reason = self.reason.clone().unwrap_or_else(standard);
            // It is said for every message: a batch of long ones would be no answer.
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            reason
        };
        match self.otherwise {
            // Nobody is there to be told: the broker takes a refusal for a drop.
            Otherwise::Refuse if context.stage == "deliver" => {
                context.require(Power::Drop).map(|()| Verdict::Refuse(reason()))
            }
            Otherwise::Refuse => Ok(Verdict::Refuse(reason())),
            Otherwise::Drop => context.require(Power::Drop).map(|()| Verdict::Drop),
            Otherwise::Divert => {
                context.require(Power::DeadLetter).map(|()| Verdict::Divert(reason()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rest: &str) -> Gate {
        let text = format!(r#"{{"keep": {{"field": "a", "op": "exists"}}{rest}}}"#);
        serde_json::from_str(&text).expect("gate")
    }

    /// Without it the broker would hold such a message, and ask again for ever.
    #[test]
    fn a_refusal_takes_the_power_to_drop_where_messages_are_delivered() {
        let deliver = Context { stage: "deliver".to_owned(), ..Context::default() };
        let error = gate("").verdict(&deliver).expect_err("no power");
        assert!(error.contains("\"drop\""), "{error}");
        let granted = Context { powers: vec!["drop".to_owned()], ..deliver };
        assert!(matches!(gate("").verdict(&granted), Ok(Verdict::Refuse(_))));
        let publish = Context { stage: "publish".to_owned(), ..Context::default() };
        assert!(matches!(gate("").verdict(&publish), Ok(Verdict::Refuse(_))));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let reason = format!("x{}", "\u{e4}".repeat(2_000));
        let gate = gate(&format!(r#", "reason": "{reason}""#));
        let verdict = gate.verdict(&Context::default());
        assert_eq!(verdict, Ok(Verdict::Refuse(reason[..511].to_owned())));
    }
}
