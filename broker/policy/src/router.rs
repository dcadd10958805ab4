//! A router binding: rows in, target subjects out. Asked by
//! [`crate::chain::PublishChain`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwapOption;

use crate::bindings::exports::weir::policy::routing::Routes;
use crate::bindings::weir::policy::types::{Batch, BlobsResult, CellsResult};
use crate::caller::{Asked, Caller};
use crate::columns::ColumnBuffers;
use crate::component::Component;
use crate::counters::Counters;
use crate::error::LoadError;
use crate::instance::Instance;
use crate::limits::{DELAY_MS_MAX, NAMES_MAX, PICKS_PER_ROW_MAX};
use crate::manifest::column;
use crate::messages::Messages;
use crate::names::{NameId, Names, check_target};
use crate::setup::Setup;

/// The pick that means "nowhere".
const NOWHERE: u32 = u32::MAX;
/// The pick that means "the subject the row has".
const OWN: u32 = u32::MAX - 1;

/// One generation of a router binding.
pub struct RouterBinding {
    pub(crate) caller: Caller,
    pub(crate) memory: Memory,
    /// The last good generation, which judges while this one fails its probation.
    fallback: ArcSwapOption<RouterBinding>,
}

/// What an answer of a router hangs on, and so how long it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Each message is asked about.
    None,
    /// The subject alone.
    Subject,
    /// The values of its columns.
    Columns,
}

/// One copy a router wants: where to, and how late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) name: NameId,
    pub(crate) delay_ms: u32,
}

/// What the router said of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteOutcome {
    pub(crate) row: u32,
    /// Whether another generation than the binding's own answered.
    pub(crate) by_fallback: bool,
    pub(crate) answer: RouteAnswer,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RouteAnswer {
    /// To the subject it has. Said of a row only where answers are remembered.
    Own,
    /// `sheet.routes[start..end]`.
    Routes { start: u32, end: u32 },
    /// `sheet.failures[..]`.
    Failed(u32),
}

/// Why a row was not judged, and by which generation.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Arc<str>,
    pub(crate) generation: u64,
}

/// Answers of one batch of rows; buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct RouteSheet {
    /// A question that is no message: no rows are counted.
    pub(crate) uncounted: bool,
    /// The generation that stood in, where one did.
    pub(crate) stand_in: Option<Arc<RouterBinding>>,
    pub(crate) routes: Vec<Route>,
    pub(crate) outcomes: Vec<RouteOutcome>,
    pub(crate) failures: Vec<Failure>,
}

/// What a call needs beside the messages; kept by the scratch.
pub(crate) struct Tools<'a> {
    pub(crate) columns: &'a mut ColumnBuffers,
    pub(crate) names: &'a mut Names,
}

/// An answer whose counts and indices are sound.
struct SoundRoutes {
    targets: Vec<Target>,
    picks: Vec<u32>,
    ends: Vec<u32>,
    delays: Vec<u32>,
}

/// A target of an answer, looked at once per call.
enum Target {
    Name(NameId),
    /// Rows that pick it are not judged.
    Bad {
        reason: String,
        denied: bool,
    },
}

impl RouterBinding {
    /// A generation that is ready for traffic. `fallback` judges the batches it
    /// fails on while it is in probation.
    ///
    /// # Errors
    /// The component is no router, or its first instance does not start.
    pub fn new(
        component: Arc<Component>,
        setup: Setup,
        fallback: Option<Arc<Self>>,
    ) -> Result<Self, LoadError> {
        // First: a generation that does not start leaves the running one as it is,
        // with the one it falls back to.
        let caller = Caller::new(component, setup)?;
        let manifest = caller.component().manifest();
        let memory = match manifest.memo_by.is_empty() {
            true => Memory::None,
            false if manifest.memo_by_subject() => Memory::Subject,
            false => Memory::Columns,
        };
        if let Some(fallback) = &fallback {
            // Or every generation there ever was would be kept.
            fallback.fallback.store(None);
        }
        Ok(Self { caller, memory, fallback: ArcSwapOption::from(fallback) })
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

    /// Asks about `rows` and adds an outcome to `sheet` for each that does not
    /// simply go to its own subject; for each, where it remembers answers. `own`
    /// tells a row's subject; `by_fallback` says that another generation is in work,
    /// and this one stands in.
    pub(crate) fn route(
        &self,
        messages: Messages<'_>,
        rows: &[u32],
        own: &impl Fn(u32) -> NameId,
        Tools { columns, names }: Tools<'_>,
        sheet: &mut RouteSheet,
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
                instance.route(now, input, |answer| self.check(answer, chunk.len(), names))
            };
            // A question that is no message says nothing about the policy's work.
            let (len, weighs) = (chunk.len(), !sheet.uncounted);
            let error = match self.caller.attempt(now, len, weighs, &self.fallback, &mut call) {
                Ok(answer) => {
                    self.take(&answer, chunk, own, sheet, by_fallback);
                    continue;
                }
                Err(error) => error,
            };
            if let Some(fallback) = self.fallback.load_full() {
                let tools = Tools { columns, names };
                fallback.route(messages, chunk, own, tools, sheet, true);
                sheet.stand_in = Some(fallback);
                continue;
            }
            self.caller.halve(chunk.len(), &error, &mut call, &mut |asked| match asked {
                Asked::Answer { start, end, answer } => {
                    self.take(&answer, &chunk[start..end], own, sheet, by_fallback);
                }
                Asked::Failed { start, end, reason } => {
                    self.fail(&chunk[start..end], reason, sheet, by_fallback);
                }
            });
        }
    }

    /// Writes a sound answer about `rows` to the sheet.
    fn take(
        &self,
        answer: &SoundRoutes,
        rows: &[u32],
        own: &impl Fn(u32) -> NameId,
        sheet: &mut RouteSheet,
        by_fallback: bool,
    ) {
        let counters = self.caller.counters();
        let (mut failed, mut denied, mut start) = (0, 0, 0);
        for (at, &row) in rows.iter().enumerate() {
            let end = answer.ends.get(at).map_or(at + 1, |&end| end as usize);
            let picks = start..end;
            start = end;
            let said = if answer.is_own(picks.clone()) {
                if self.memory == Memory::None {
                    continue;
                }
                RouteAnswer::Own
            } else {
                match sheet.add(answer, picks, || own(row)) {
                    Ok(routes) => routes,
                    Err((reason, no_power)) => {
                        failed += 1;
                        denied += u64::from(no_power);
                        sheet.fail(reason.into(), self.setup().generation.number)
                    }
                }
            };
            sheet.outcomes.push(RouteOutcome { row, by_fallback, answer: said });
        }
        if sheet.uncounted {
            return;
        }
        counters.rows.fetch_add(rows.len() as u64, Relaxed);
        Counters::add(&counters.failed_rows, failed);
        Counters::add(&counters.denied_rows, denied);
    }

    fn fail(&self, rows: &[u32], reason: Arc<str>, sheet: &mut RouteSheet, by_fallback: bool) {
        let counters = self.caller.counters();
        let counted = if sheet.uncounted { 0 } else { rows.len() as u64 };
        Counters::add(&counters.rows, counted);
        Counters::add(&counters.failed_rows, counted);
        let answer = sheet.fail(reason, self.setup().generation.number);
        sheet.outcomes.extend(rows.iter().map(|&row| RouteOutcome { row, by_fallback, answer }));
    }

    /// Checks an answer about `rows` rows; what is wrong comes back as half a
    /// sentence.
    fn check(&self, answer: Routes, rows: usize, names: &mut Names) -> Result<SoundRoutes, String> {
        check_indices(&answer, rows)?;
        let Routes { targets, picks, ends, extras } = answer;
        if names.len() + targets.ends.len() > NAMES_MAX {
            return Err("more different targets than one batch may have".into());
        }
        let delays = extras.into_iter().find(|extra| extra.id == column::DELAY);
        let delays = match delays.map(|extra| extra.cells) {
            None => Vec::new(),
            Some(CellsResult::Words(words)) if words.len() == picks.len() => words,
            Some(_) => return Err("delays that are not one word per pick".into()),
        };
        if delays.iter().any(|&delay| delay > DELAY_MS_MAX) {
            return Err("a delay of more than 7 days".into());
        }
        Ok(SoundRoutes { targets: self.targets(&targets, names), picks, ends, delays })
    }

    fn targets(&self, targets: &BlobsResult, names: &mut Names) -> Vec<Target> {
        let mut start = 0;
        let target = |&end: &u32| {
            let text = &targets.bytes[start as usize..end as usize];
            start = end;
            // Whatever is here passed the check, or was published by a client, whose
            // subjects the session checks.
            if let Some(name) = names.find(text) {
                return self.denied(names.text(name)).unwrap_or(Target::Name(name));
            }
            match check_target(text) {
                // Only a subject that rows may be sent to is worth a name.
                Ok(text) => self.denied(text).unwrap_or_else(|| Target::Name(names.intern(text))),
                Err(what) => Target::Bad { reason: format!("answered with {what}"), denied: false },
            }
        };
        targets.ends.iter().map(target).collect()
    }

    /// What a target is instead where this binding may not send to `subject`.
    fn denied(&self, subject: &str) -> Option<Target> {
        let setup = self.setup();
        if setup.powers.retarget || setup.subjects.iter().any(|scope| scope.matches(subject)) {
            return None;
        }
        let reason = format!(
            "sent a message to {subject:?}, outside its own subjects, without the power \
             \"retarget\""
        );
        Some(Target::Bad { reason, denied: true })
    }
}

impl std::fmt::Debug for RouterBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterBinding").field("setup", self.setup()).finish_non_exhaustive()
    }
}

impl SoundRoutes {
    /// Whether these picks are the row's own subject, at once, and nothing else.
    fn is_own(&self, picks: Range<usize>) -> bool {
        picks.len() == 1 && self.picks[picks.start] == OWN && self.delay_ms(picks.start) == 0
    }

    fn delay_ms(&self, pick: usize) -> u32 {
        self.delays.get(pick).copied().unwrap_or(0)
    }
}

impl RouteSheet {
    /// Adds the routes of one row; without any when one of its targets is bad:
    /// then why, and whether for want of a power.
    fn add<'a>(
        &mut self,
        answer: &'a SoundRoutes,
        picks: Range<usize>,
        own: impl Fn() -> NameId,
    ) -> Result<RouteAnswer, (&'a str, bool)> {
        let start = self.routes.len();
        for pick in picks {
            let name = match answer.picks[pick] {
                NOWHERE => continue,
                OWN => own(),
                number => match &answer.targets[number as usize] {
                    Target::Name(name) => *name,
                    Target::Bad { reason, denied } => {
                        self.routes.truncate(start);
                        return Err((reason, *denied));
                    }
                },
            };
            self.routes.push(Route { name, delay_ms: answer.delay_ms(pick) });
        }
        Ok(RouteAnswer::Routes { start: start as u32, end: self.routes.len() as u32 })
    }

    pub(crate) fn clear(&mut self) {
        self.routes.clear();
        self.stand_in = None;
        self.outcomes.clear();
        self.failures.clear();
    }

    fn fail(&mut self, reason: Arc<str>, generation: u64) -> RouteAnswer {
        self.failures.push(Failure { reason, generation });
        RouteAnswer::Failed(self.failures.len() as u32 - 1)
    }
}

/// Checks counts and indices of an answer about `rows` rows.
fn check_indices(answer: &Routes, rows: usize) -> Result<(), String> {
    let Routes { targets, picks, ends, .. } = answer;
    if ends.is_empty() {
        if picks.len() != rows {
            return Err(format!("{} picks for {rows} rows", picks.len()));
        }
    } else {
        check_ends(ends, rows, picks.len(), "picks")?;
    }
    let count = targets.ends.len();
    check_ends(&targets.ends, count, targets.bytes.len(), "targets")?;
    // Each is there once and for a pick: the names of others would be kept for nobody.
    if count > picks.len() {
        return Err(format!("{count} targets for {} picks", picks.len()));
    }
    let count = u32::try_from(count).unwrap_or(OWN).min(OWN);
    if let Some(pick) = picks.iter().find(|&&pick| pick >= count && pick < OWN) {
        return Err(format!("pick {pick} where there are {count} targets"));
    }
    let mut start = 0;
    for &end in ends {
        let row = &picks[start as usize..end as usize];
        if row.len() > PICKS_PER_ROW_MAX {
            return Err(format!("more than {PICKS_PER_ROW_MAX} picks for one row"));
        }
        if row.len() > 1 && row.contains(&NOWHERE) {
            return Err("\"nowhere\" beside another pick".into());
        }
        start = end;
    }
    Ok(())
}

/// Checks that `ends` are `count` rising positions, the last of them `last`.
pub(crate) fn check_ends(
    ends: &[u32],
    count: usize,
    last: usize,
    what: &str,
) -> Result<(), String> {
    if ends.len() != count {
        return Err(format!("{} ends of {what} for {count} rows", ends.len()));
    }
    if ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == last {
        return Ok(());
    }
    Err(format!("ends of {what} that fall or do not meet their length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(targets: u32, picks: &[u32], ends: &[u32]) -> Routes {
        let bytes = vec![b'a'; targets as usize];
        Routes {
            targets: BlobsResult { bytes, ends: (1..=targets).collect() },
            picks: picks.to_vec(),
            ends: ends.to_vec(),
            extras: Vec::new(),
        }
    }

    #[test]
    fn targets_that_nobody_picks_are_refused() {
        assert_eq!(check_indices(&routes(2, &[0, 1], &[]), 2), Ok(()));
        assert_eq!(check_indices(&routes(1, &[0, OWN, NOWHERE], &[]), 3), Ok(()));
        assert_eq!(check_indices(&routes(2, &[1, OWN, 0], &[2, 3]), 2), Ok(()));
        let refused = check_indices(&routes(100_000, &[0, 1], &[]), 2);
        assert_eq!(refused, Err("100000 targets for 2 picks".to_owned()));
        let refused = check_indices(&routes(3, &[OWN, NOWHERE], &[]), 2);
        assert_eq!(refused, Err("3 targets for 2 picks".to_owned()));
    }

    #[test]
    fn indices_are_checked() {
        for (answer, what) in [
            (routes(1, &[0], &[]), "1 picks for 2 rows"),
            (routes(1, &[0, 1], &[]), "pick 1 where there are 1 targets"),
            (routes(1, &[0, 0], &[2, 1]), "ends of picks that fall or do not meet their length"),
            (routes(1, &[0, NOWHERE, 0], &[2, 3]), "\"nowhere\" beside another pick"),
            (routes(1, &[0; 258], &[257, 258]), "more than 256 picks for one row"),
        ] {
            assert_eq!(check_indices(&answer, 2), Err(what.to_owned()));
        }
    }
}
