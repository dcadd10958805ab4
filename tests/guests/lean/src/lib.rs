//! A router with next to no work of its own, written as any author would: what a
//! message costs with it is what the border costs.

use weir_plugin_sdk::prelude::*;

/// Nothing to configure.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Settings {}

/// Sends the late elsewhere and leaves the rest.
#[derive(Debug)]
pub struct Lean;

impl Policy for Lean {
    type Config = Settings;

    fn manifest() -> Manifest {
        manifest!("sends the late elsewhere").columns(&[Column::Subject])
    }

    fn new(_settings: Settings, _context: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Router for Lean {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        to.send(if message.subject().ends_with(".7") { "late" } else { message.subject() });
    }
}

weir_plugin_sdk::router!(Lean);
