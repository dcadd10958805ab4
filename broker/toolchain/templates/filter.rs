//! A Weir filter: which messages pass. Edit `filter`; `cargo test` runs the test
//! below natively, `weir policy build` makes the component.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::prelude::*;

/// The operator's settings: `[config]` in the binding's file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Largest payload that passes, bytes.
    pub payload_bytes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { payload_bytes_max: 65_536 }
    }
}

/// The filter.
pub struct MyFilter {
    settings: Settings,
}

impl Policy for MyFilter {
    type Config = Settings;

    fn manifest() -> Manifest {
        // Ask only for what `filter` looks at: fewer columns, cheaper calls.
        manifest!("keeps large payloads out").columns(&[Column::Size])
    }

    fn new(settings: Settings, _context: &Context) -> Result<Self, String> {
        Ok(Self { settings })
    }
}

impl Filter for MyFilter {
    fn filter(&mut self, message: &Message<'_>) -> Verdict {
        if message.size() <= self.settings.payload_bytes_max {
            Verdict::Keep
        } else {
            Verdict::Refuse(format!("{} bytes are too many", message.size()))
        }
    }
}

weir_plugin_sdk::filter!(MyFilter);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugin_sdk::test::{self, TestMessage};

    #[test]
    fn large_payloads_are_refused() {
        let mut filter = test::start::<MyFilter>(r#"{"payload_bytes_max": 3}"#).expect("starts");
        let messages =
            [TestMessage::new("a").payload("abc"), TestMessage::new("a").payload("abcd")];
        let verdicts = test::filter(&mut filter, &messages).expect("judges");
        assert_eq!(verdicts[0], Verdict::Keep);
        assert_eq!(verdicts[1], Verdict::Refuse("4 bytes are too many".to_owned()));
    }
}
