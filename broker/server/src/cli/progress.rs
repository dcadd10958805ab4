//! Progress of long work, on standard error and only where a person watches.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redraws a second.
const REDRAWS: u8 = 10;

/// A bar over `bytes` if their number is known, else a spinner; both count
/// messages. Draws nothing when JSON was asked for or nobody watches.
pub(crate) struct Progress {
    bar: ProgressBar,
    messages: u64,
}

impl Progress {
    pub(crate) fn new(quiet: bool, bytes: Option<u64>) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let bar = match (visible, bytes) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(bytes)) => ProgressBar::with_draw_target(
                Some(bytes),
                ProgressDrawTarget::stderr_with_hz(REDRAWS),
            )
            .with_style(style("{bar:32} {percent:>3}%  {msg}  {eta} left")),
            (true, None) => {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS))
                    .with_style(style("{spinner} {msg}"))
            }
        };
        Self { bar, messages: 0 }
    }

    /// A spinner with a text, for work whose length nobody knows.
    pub(crate) fn spinner(quiet: bool, text: &str) -> Self {
        let progress = Self::new(quiet, None);
        progress.bar.set_message(text.to_owned());
        progress.bar.enable_steady_tick(Duration::from_millis(120));
        progress
    }

    /// Another text.
    pub(crate) fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// So many more messages, read from so many more bytes.
    pub(crate) fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bar.inc(bytes);
        if !self.bar.is_hidden() {
            let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
            let rate = self.messages as f64 / seconds;
            self.bar.set_message(format!("{} messages, {rate:.0}/s", self.messages));
        }
    }

    /// Takes it off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are well formed")
}
