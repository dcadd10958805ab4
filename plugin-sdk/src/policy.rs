//! What every policy has, whatever its role: a configuration, a manifest, a
//! beginning, and perhaps state that outlives it.

use crate::context::Context;
use crate::manifest::Manifest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The part of a policy that all roles share.
pub trait Policy: Sized + 'static {
    /// The operator's `[config]`. Its JSON Schema is derived and checked by the
    /// broker before the policy sees it; [`NoConfig`] when there is none.
    type Config: DeserializeOwned + JsonSchema;

    /// Says what the policy is and what it wants to see. Answers the same each
    /// time, without looking at anything outside.
    fn manifest() -> Manifest;

    /// Starts with a configuration.
    ///
    /// # Errors
    /// A sentence the operator can act on; the policy then does not go live.
    fn new(config: Self::Config, context: &Context) -> Result<Self, String>;

    /// The policy's own sanity test, run once before a new generation goes live,
    /// on an instance that sees no traffic.
    ///
    /// # Errors
    /// Keeps the generation out, with this sentence.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// State for the next generation; declare it with
    /// [`Manifest::state`](crate::Manifest::state).
    ///
    /// # Errors
    /// The state is then lost, which the broker survives.
    fn save(&mut self) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    /// Takes over the state of an earlier generation, in format `version`.
    ///
    /// # Errors
    /// The instance is then replaced by a fresh one without the state.
    fn load(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        let _ = (version, state);
        Ok(())
    }
}

/// For policies without configuration: an empty table, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The JSON Schema of a configuration.
#[must_use]
pub fn config_schema<C: JsonSchema>() -> String {
    schemars::schema_for!(C).to_value().to_string()
}

/// Reads a configuration; none at all is an empty table.
///
/// # Errors
/// Where and why the text is not such a configuration.
pub fn read_config<C: DeserializeOwned>(text: &str) -> Result<C, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| format!("the configuration does not fit: {error}"))
}
