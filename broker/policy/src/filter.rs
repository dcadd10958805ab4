//! A publish-stage filter binding: rows in, verdicts out. Asked by
//! [`crate::chain::PublishChain`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwapOption;
use weir_core::policy::Powers;

use crate::asking::ask;
use crate::bindings::weir::policy::types::Batch;
use crate::caller::{Asked, Caller};
use crate::columns::ColumnBuffers;
use crate::component::Component;
use crate::counters::Counters;
use crate::error::LoadError;
use crate::instance::Instance;
use crate::messages::Messages;
use crate::router::Failure;
use crate::setup::Setup;
use crate::verdicts::{SoundVerdicts, code};

/// One generation of a publish-stage filter binding.
pub struct FilterBinding {
    pub(crate) caller: Caller,
    /// The last good generation, which judges while this one fails its probation.
    fallback: ArcSwapOption<FilterBinding>,
}

/// What the filter said of one row.
#[derive(Clone, Debug)]
pub(crate) struct FilterOutcome {
    pub(crate) row: u32,
    /// Whether another generation than the binding's own answered.
    pub(crate) by_fallback: bool,
    pub(crate) answer: FilterAnswer,
}

#[derive(Clone, Debug)]
pub(crate) enum FilterAnswer {
    Keep,
    /// `sheet.edited[start..]` holds the row's message from now on.
    Edited {
        start: u32,
    },
    Drop,
    Refuse(Arc<str>),
    Divert(Arc<str>),
    Failed(Failure),
}

/// Answers of one batch of rows; buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct FilterSheet {
    pub(crate) outcomes: Vec<FilterOutcome>,
    /// Messages with edits, end to end.
    pub(crate) edited: Vec<u8>,
}

impl FilterBinding {
    /// A generation that is ready for traffic. `fallback` judges the batches it
    /// fails on while it is in probation.
    ///
    /// # Errors
    /// The component is no filter, or its first instance does not start.
    pub fn new(
        component: Arc<Component>,
        setup: Setup,
        fallback: Option<Arc<Self>>,
    ) -> Result<Self, LoadError> {
        // First: a generation that does not start leaves the running one as it is,
        // with the one it falls back to.
        let caller = Caller::new(component, setup)?;
        if let Some(fallback) = &fallback {
            // Or every generation there ever was would be kept.
            fallback.fallback.store(None);
        }
        Ok(Self { caller, fallback: ArcSwapOption::from(fallback) })
    }

    /// What it was made with.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        self.caller.setup()
    }

    /// What it runs.
    #[must_use]
    pub fn component(&self) -> &Arc<Component> {
        self.caller.component()
    }

    /// Whether calls are kept away from it now.
    #[must_use]
    pub fn is_open(&self, steady_ms: u64) -> bool {
        self.caller.breaker().is_open(steady_ms)
    }

    /// Asks about `rows` and adds one outcome per row to `sheet`.
    pub(crate) fn filter(
        &self,
        messages: Messages<'_>,
        rows: &[u32],
        columns: &mut ColumnBuffers,
        sheet: &mut FilterSheet,
    ) {
        self.filter_as(messages, rows, columns, sheet, false);
    }

    fn filter_as(
        &self,
        messages: Messages<'_>,
        rows: &[u32],
        columns: &mut ColumnBuffers,
        sheet: &mut FilterSheet,
        by_fallback: bool,
    ) {
        let now = messages.input.now;
        for chunk in rows.chunks(self.caller.batch_rows()) {
            let mut call = |instance: &mut Instance, start: usize, end: usize| {
                let chunk = &chunk[start..end];
                columns.fill(self.caller.columns(), chunk.len(), |at| messages.row(chunk[at]));
                let input = Batch {
                    rows: chunk.len() as u32,
                    now_ms: now.wall_ms,
                    columns: &columns.columns(self.caller.columns()),
                };
                instance.filter(now, input, |answer| SoundVerdicts::check(answer, chunk.len()))
            };
            let mut sink = |asked| match asked {
                Asked::Answer { start, end, answer } => {
                    self.take(messages, &answer, &chunk[start..end], sheet, by_fallback);
                }
                Asked::Failed { start, end, reason } => {
                    self.fail(&chunk[start..end], &reason, sheet, by_fallback);
                }
            };
            let len = chunk.len();
            let fallback = ask(&self.caller, now, len, &self.fallback, &mut call, &mut sink);
            if let Some(fallback) = fallback {
                fallback.filter_as(messages, chunk, columns, sheet, true);
            }
        }
    }

    /// Writes a sound answer about `rows` to the sheet.
    fn take(
        &self,
        messages: Messages<'_>,
        answer: &SoundVerdicts,
        rows: &[u32],
        sheet: &mut FilterSheet,
        by_fallback: bool,
    ) {
        let counters = self.caller.counters();
        let powers = self.setup().powers;
        let mut denied = 0;
        let mut last_failure = None;
        for (at, &row) in rows.iter().enumerate() {
            let code = answer.codes[at];
            let verdict = if let Some(power) = missing_power(powers, code) {
                denied += 1;
                self.failure(needs_power(power))
            } else {
                match code {
                    code::DROP => FilterAnswer::Drop,
                    code::REFUSE => FilterAnswer::Refuse(self.reason(answer, at, "refused")),
                    code::DIVERT => FilterAnswer::Divert(self.reason(answer, at, "diverted")),
                    code::EDIT => {
                        let start = sheet.edited.len() as u32;
                        match answer.encode(at, messages.row(row), &mut sheet.edited) {
                            Ok(_) => FilterAnswer::Edited { start },
                            Err(what) => self.failure(format!("answered with {what}")),
                        }
                    }
                    _ => FilterAnswer::Keep,
                }
            };
            if let FilterAnswer::Failed(failure) = &verdict {
                last_failure = Some(Arc::clone(&failure.reason));
            }
            verdict.count(counters);
            sheet.outcomes.push(FilterOutcome { row, by_fallback, answer: verdict });
        }
        counters.rows.fetch_add(rows.len() as u64, Relaxed);
        Counters::add(&counters.denied_rows, denied);
        if let Some(reason) = last_failure {
            counters.note_failure(messages.input.now.wall_ms, &reason);
        }
    }

    fn fail(&self, rows: &[u32], reason: &Arc<str>, sheet: &mut FilterSheet, by_fallback: bool) {
        let counters = self.caller.counters();
        counters.rows.fetch_add(rows.len() as u64, Relaxed);
        counters.failed_rows.fetch_add(rows.len() as u64, Relaxed);
        let generation = self.setup().generation.number;
        sheet.outcomes.extend(rows.iter().map(|&row| {
            let answer = FilterAnswer::Failed(Failure { reason: reason.clone(), generation });
            FilterOutcome { row, by_fallback, answer }
        }));
    }

    fn failure(&self, reason: String) -> FilterAnswer {
        let generation = self.setup().generation.number;
        FilterAnswer::Failed(Failure { reason: reason.into(), generation })
    }

    fn reason(&self, answer: &SoundVerdicts, at: usize, verb: &str) -> Arc<str> {
        let told = answer.reason(at).filter(|reason| !reason.is_empty());
        told.unwrap_or_else(|| format!("{verb} by {}", self.setup().binding).into())
    }
}

impl std::fmt::Debug for FilterBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterBinding").field("setup", self.setup()).finish_non_exhaustive()
    }
}

impl FilterAnswer {
    /// Whether it may stand for later rows with the same columns. An edit may
    /// not: it holds parts of the message the filter was not shown.
    pub(crate) fn may_be_remembered(&self) -> bool {
        matches!(self, Self::Keep | Self::Drop | Self::Refuse(_) | Self::Divert(_))
    }

    /// What it holds beside itself, bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Refuse(reason) | Self::Divert(reason) => reason.len(),
            Self::Failed(failure) => failure.reason.len(),
            Self::Keep | Self::Drop | Self::Edited { .. } => 0,
        }
    }

    /// Counts one row that met this answer; `rows` itself is counted per batch.
    pub(crate) fn count(&self, counters: &Counters) {
        let counter = match self {
            Self::Failed(_) => &counters.failed_rows,
            Self::Refuse(_) => &counters.refused_rows,
            Self::Drop => &counters.dropped_rows,
            Self::Divert(_) => &counters.diverted_rows,
            Self::Keep | Self::Edited { .. } => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl FilterSheet {
    pub(crate) fn clear(&mut self) {
        self.outcomes.clear();
        self.edited.clear();
    }
}

/// What is said of a row whose answer needs `power`, which is not granted.
pub(crate) fn needs_power(power: &str) -> String {
    format!("its answer needs the power {power:?}, which is not granted")
}

/// The power a verdict needs and the binding lacks.
pub(crate) fn missing_power(powers: Powers, code: u8) -> Option<&'static str> {
    match code {
        code::DROP if !powers.drop => Some("drop"),
        code::DIVERT if !powers.dead_letter => Some("dead-letter"),
        code::EDIT if !powers.rewrite => Some("rewrite"),
        _ => None,
    }
}
