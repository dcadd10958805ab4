//! What became of a publish, added up over many receipts.

use std::time::Duration;

use weir_client::{ErrorCode, Level, Receipt};

use super::failure::{Exit, Failure};
use super::output::{Output, note};

/// Refusals told one by one.
const REFUSALS_TOLD: usize = 5;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) messages: u64,
    stored: u64,
    level: Option<Level>,
    reached: u64,
    unrouted: u64,
    refused: u64,
    /// The first refusals: number of the message from 1, why.
    told: Vec<(u64, ErrorCode, String)>,
}

impl Summary {
    /// Adds a receipt whose first message is number `first` from 0.
    pub(crate) fn add(&mut self, first: u64, receipt: Receipt) {
        self.messages += receipt.messages;
        self.reached += receipt.reached;
        self.unrouted += receipt.unrouted;
        self.refused += receipt.refused();
        if receipt.stored > 0 {
            self.stored += receipt.stored;
            self.level = Some(self.level.map_or(receipt.level, |level| level.min(receipt.level)));
        }
        for refusal in receipt.refusals {
            if self.told.len() < REFUSALS_TOLD {
                let number = first + refusal.position + 1;
                self.told.push((number, refusal.code, refusal.message.into_owned()));
            }
        }
    }

    /// Writes it, and fails when messages were refused.
    pub(crate) fn finish(&self, out: &mut Output, took: Duration) -> Result<(), Failure> {
        self.write(out, took)?;
        if self.refused == 0 {
            return Ok(());
        }
        for (number, code, message) in &self.told {
            note(out.json, &format!("message {number}: {code}: {message}"));
        }
        let (_, code, _) = &self.told[0];
        let message = format!("{} of {} messages were refused", self.refused, self.messages);
        Err(Failure::new(Exit::Refused, code.text(), message, code.hint()))
    }

    fn write(&self, out: &mut Output, took: Duration) -> Result<(), Failure> {
        if out.json {
            return out.value(&serde_json::json!({
                "messages": self.messages,
                "stored": self.stored,
                "level": self.level,
                "reached": self.reached,
                "unrouted": self.unrouted,
                "refused": self.refused,
                "took_ms": took.as_millis() as u64,
            }));
        }
        out.line(&self.sentence(took))?;
        out.flush()?;
        if self.unrouted > 0 {
            let hint = "nobody listened; `weir queue create NAME --subject PATTERN` keeps messages";
            note(false, &format!("note: {} unrouted: {hint}", self.unrouted));
        }
        Ok(())
    }

    fn sentence(&self, took: Duration) -> String {
        let plural = if self.messages == 1 { "" } else { "s" };
        let mut text = format!("published {} message{plural}", self.messages);
        if self.stored > 0 {
            let level = match self.level.unwrap_or_default() {
                Level::Memory => "in memory",
                Level::Os => "by the operating system",
                Level::Disk => "on disk",
            };
            text += &format!(", {} kept {level}", self.stored);
        }
        if self.reached > 0 {
            text += &format!(", {} handed to listeners", self.reached);
        }
        if self.unrouted > 0 {
            text += &format!(", {} reached nobody", self.unrouted);
        }
        if self.refused > 0 {
            text += &format!(", {} refused", self.refused);
        }
        if self.messages > 1 {
            let rate = self.messages as f64 / took.as_secs_f64().max(0.001);
            text += &format!(" ({:.1} s, {rate:.0}/s)", took.as_secs_f64());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use weir_client::Refusal;

    use super::super::output::tests::Written;
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            messages: 10,
            level: Level::Disk,
            stored: 9,
            reached: 2,
            unrouted: 0,
            refusals: vec![Refusal {
                position: 4,
                count: 1,
                code: ErrorCode::QueueFull,
                message: "orders is full".into(),
            }],
        }
    }

    #[test]
    fn receipts_add_up_and_refusals_fail_the_command() {
        let mut summary = Summary::default();
        summary.add(0, receipt());
        summary.add(10, Receipt { level: Level::Os, refusals: Vec::new(), ..receipt() });
        let written = Written::default();
        let failure = summary
            .finish(&mut written.output(false), Duration::from_secs(2))
            .expect_err("one was refused");
        assert_eq!(
            written.text(),
            "published 20 messages, 18 kept by the operating system, \
             4 handed to listeners, 1 refused (2.0 s, 10/s)\n"
        );
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Refused, "queue_full"));
        assert_eq!(summary.told[0].0, 5, "people count from 1");
    }

    #[test]
    fn programs_get_every_figure() {
        let mut summary = Summary::default();
        summary.add(0, Receipt { refusals: Vec::new(), ..receipt() });
        let written = Written::default();
        summary.finish(&mut written.output(true), Duration::from_millis(1500)).expect("fine");
        let json: serde_json::Value = serde_json::from_str(&written.text()).expect("JSON");
        let expected = serde_json::json!({
            "messages": 10, "stored": 9, "level": "disk", "reached": 2, "unrouted": 0,
            "refused": 0, "took_ms": 1500
        });
        assert_eq!(json, expected);
    }
}
