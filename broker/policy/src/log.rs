//! Log lines of policies: rate-limited per binding, sent on through `tracing`,
//! and the last ones kept for people. Shared by all instances of a binding.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_KEPT, LOG_LINES_PER_SECOND};

/// One line a policy wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// When, ms since the Unix epoch.
    pub time_ms: u64,
    /// Which generation wrote it.
    pub generation: u64,
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// The line, cut at 2 KiB.
    pub message: String,
}

/// Log of one binding, carried over generations.
#[derive(Debug)]
pub struct PolicyLog {
    binding: Arc<str>,
    dropped: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<LogLine>,
    /// The second the budget below belongs to, ms of the steady clock.
    second_ms: u64,
    written: u32,
}

impl PolicyLog {
    /// An empty log of `binding`.
    #[must_use]
    pub fn new(binding: Arc<str>) -> Self {
        Self { binding, dropped: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Lines left out because the binding wrote too many.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        self.state.lock().expect("no panic under this lock").lines.iter().cloned().collect()
    }

    /// Writes one line, or counts it as left out.
    pub(crate) fn write(&self, steady_ms: u64, line: LogLine) {
        let mut line = line;
        crate::text::cut(&mut line.message, LOG_LINE_BYTES_MAX);
        {
            let mut state = self.state.lock().expect("no panic under this lock");
            if steady_ms.saturating_sub(state.second_ms) >= 1_000 {
                state.second_ms = steady_ms;
                state.written = 0;
            }
            if state.written >= LOG_LINES_PER_SECOND {
                self.dropped.fetch_add(1, Relaxed);
                return;
            }
            state.written += 1;
            if state.lines.len() == LOG_LINES_KEPT {
                state.lines.pop_front();
            }
            state.lines.push_back(line.clone());
        }
        self.trace(&line);
    }

    fn trace(&self, line: &LogLine) {
        let (binding, generation, message) = (&*self.binding, line.generation, &*line.message);
        match line.level {
            0 | 1 => tracing::error!(target: "weir::policy", binding, generation, "{message}"),
            2 => tracing::warn!(target: "weir::policy", binding, generation, "{message}"),
            3 => tracing::info!(target: "weir::policy", binding, generation, "{message}"),
            4 => tracing::debug!(target: "weir::policy", binding, generation, "{message}"),
            _ => tracing::trace!(target: "weir::policy", binding, generation, "{message}"),
        }
    }
}

/// Whether anybody reads lines of `level`.
pub(crate) fn enabled(level: u8) -> bool {
    match level {
        // These are kept for `weir policy status`, whoever listens.
        0..=3 => true,
        4 => tracing::enabled!(target: "weir::policy", tracing::Level::DEBUG),
        _ => tracing::enabled!(target: "weir::policy", tracing::Level::TRACE),
    }
}
