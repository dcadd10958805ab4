//! The filters' half of judging a batch: each filter that applies, in order, on
//! what the filters before it left.

use weir_core::rejection::Rejection;

use super::{Scratch, divert, fail, refuse};
use crate::chain::PublishChain;
use crate::counters::Counters;
use crate::filter::{FilterAnswer, FilterBinding, FilterOutcome};
use crate::judge::{JudgeInput, Judged, Row};
use crate::limits::MEMO_KEY_BYTES_MAX;
use crate::messages::{Messages, UNCHANGED};
use crate::setup::Setup;

impl Scratch {
    /// Puts the rows before every filter that applies, in order.
    pub(super) fn filter(
        &mut self,
        chain: &PublishChain,
        input: JudgeInput<'_>,
        judged: &mut Judged,
    ) {
        self.edited.of_row.resize(input.parts.len(), UNCHANGED);
        for at in 0..chain.filters.len() {
            let mut rows = std::mem::take(&mut self.filter_rows[at]);
            self.rows_for_filter(chain, at, input, judged, &mut rows);
            let sheet = &mut self.filter_sheet;
            sheet.clear();
            let filter = &chain.filters[at];
            if !rows.is_empty() {
                let messages = Messages { input, edited: &self.edited };
                filter.filter(messages, &rows, &mut self.columns, sheet);
            }
            self.take_filter_answers(filter, at, input, judged);
            self.filter_rows[at] = rows;
        }
    }

    /// Collects the rows filter `at` must be asked about; what it said before of
    /// rows like them is applied at once.
    fn rows_for_filter(
        &mut self,
        chain: &PublishChain,
        at: usize,
        input: JudgeInput<'_>,
        judged: &mut Judged,
        rows: &mut Vec<u32>,
    ) {
        let filter = &chain.filters[at];
        let remembers = !filter.component().manifest().memo_by.is_empty();
        let mut hits = 0;
        for row in 0..input.parts.len() {
            let applies = self.plans[self.row_plans[row] as usize].filters.contains(&(at as u16));
            if !applies || judged.rows[row] != Row::Same {
                continue;
            }
            if remembers {
                let messages = Messages { input, edited: &self.edited };
                self.key.clear();
                filter.caller.columns().key(messages.row(row as u32), &mut self.key);
                if let Some(answer) = self.filter_memos[at].get(&self.key) {
                    hits += 1;
                    answer.count(&filter.setup().counters);
                    self.apply(filter.setup(), row as u32, answer, judged);
                    continue;
                }
            }
            rows.push(row as u32);
        }
        Counters::add(&filter.setup().counters.rows, hits);
        Counters::add(&filter.setup().counters.memo_hits, hits);
    }

    /// Applies what the filter said, and remembers it where that is allowed.
    fn take_filter_answers(
        &mut self,
        filter: &FilterBinding,
        at: usize,
        input: JudgeInput<'_>,
        judged: &mut Judged,
    ) {
        let remembers = !filter.component().manifest().memo_by.is_empty();
        // Messages with edits join those of earlier filters.
        let base = self.edited.bytes.len() as u32;
        self.edited.bytes.extend_from_slice(&self.filter_sheet.edited);
        let mut outcomes = std::mem::take(&mut self.filter_sheet.outcomes);
        for FilterOutcome { row, by_fallback, answer } in outcomes.drain(..) {
            let answer = match answer {
                FilterAnswer::Edited { start } => FilterAnswer::Edited { start: base + start },
                other => other,
            };
            if remembers && !by_fallback && answer.may_be_remembered() {
                let messages = Messages { input, edited: &self.edited };
                self.key.clear();
                filter.caller.columns().key(messages.row(row), &mut self.key);
                if self.key.len() <= MEMO_KEY_BYTES_MAX {
                    self.filter_memos[at].insert(self.key.as_slice().into(), answer.clone());
                }
            }
            self.apply(filter.setup(), row, answer, judged);
        }
        self.filter_sheet.outcomes = outcomes;
    }

    /// Makes a filter's answer the row's state.
    fn apply(&mut self, setup: &Setup, row: u32, answer: FilterAnswer, judged: &mut Judged) {
        match answer {
            FilterAnswer::Keep => {}
            FilterAnswer::Drop => judged.rows[row as usize] = Row::Dropped,
            FilterAnswer::Refuse(reason) => {
                let generation = setup.generation.number;
                refuse(judged, row, setup, Rejection::PolicyRefused, reason, generation);
            }
            FilterAnswer::Divert(reason) => divert(judged, row, setup, "dead", reason),
            FilterAnswer::Failed(failure) => fail(judged, row, setup, failure),
            FilterAnswer::Edited { start } => {
                let parts = weir_message::parse(&self.edited.bytes, start as usize)
                    .expect("the filter's sheet holds parsed messages");
                self.edited.of_row[row as usize] = self.edited.parts.len() as u32;
                self.edited.parts.push(parts);
            }
        }
    }
}
