//! What the shipped filters do with messages that do not pass.

use crate::condition::Condition;
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
    /// The publisher gets an error; where messages are delivered, they are
    /// skipped.
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
            self.reason.clone().unwrap_or_else(standard)
        };
        match self.otherwise {
            Otherwise::Refuse => Ok(Verdict::Refuse(reason())),
            Otherwise::Drop => context.require(Power::Drop).map(|()| Verdict::Drop),
            Otherwise::Divert => {
                context.require(Power::DeadLetter).map(|()| Verdict::Divert(reason()))
            }
        }
    }
}
