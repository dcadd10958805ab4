//! A Weir router: where each message goes. Edit `route`; `cargo test` runs the
//! test below natively, `weir policy build` makes the component.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::prelude::*;

/// The operator's settings: `[config]` in the binding's file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where urgent messages go; empty: nowhere special.
    pub urgent_to: String,
}

/// The router.
pub struct MyRouter {
    settings: Settings,
}

impl Policy for MyRouter {
    type Config = Settings;

    fn manifest() -> Manifest {
        // Ask only for what `route` looks at: fewer columns, cheaper calls.
        // Elsewhere may be outside the binding's subjects: that takes a power.
        manifest!("sends urgent messages elsewhere")
            .columns(&[Column::Subject])
            .header("urgent")
            .wants(Power::Retarget)
    }

    fn new(settings: Settings, _context: &Context) -> Result<Self, String> {
        Ok(Self { settings })
    }
}

impl Router for MyRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        if message.header("urgent").is_some() && !self.settings.urgent_to.is_empty() {
            to.send(&self.settings.urgent_to);
        } else {
            to.send(message.subject());
        }
    }
}

weir_plugin_sdk::router!(MyRouter);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    #[test]
    fn urgent_messages_go_elsewhere() {
        let mut router = test::start::<MyRouter>(r#"{"urgent_to": "alarm"}"#).expect("starts");
        let messages = [TestMessage::new("mail").header("urgent", "yes"), TestMessage::new("mail")];
        let routed = test::route(&mut router, &messages).expect("routes");
        assert_eq!(routed, [["alarm"], ["mail"]]);
    }
}
