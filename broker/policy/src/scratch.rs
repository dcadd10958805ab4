//! Judging one batch: which policies see a row, what they said before, what they
//! say now, and the copies that come of it. One [`Scratch`] per thread that
//! judges; it belongs to one [`PublishChain`] and remembers per subject. The
//! filters' half is in `scratch/filters.rs`, the question about a subject alone in
//! `scratch/subject.rs`.

mod filters;
mod subject;

use std::sync::Arc;

use weir_core::memo::Memo;
use weir_core::rejection::Rejection;

use crate::chain::PublishChain;
use crate::columns::ColumnBuffers;
use crate::copies::{Copies, Routed};
use crate::counters::Counters;
use crate::filter::{FilterAnswer, FilterSheet};
use crate::judge::{Diversion, JudgeInput, Judged, Place, Refusal, Row};
use crate::limits::{
    MEMO_BYTES_MAX, MEMO_ENTRIES_MAX, MEMO_KEY_BYTES_MAX, NAMES_KEPT_MAX, PLAN_ROUTES_BYTES_MAX,
};
use crate::messages::{Edited, Messages};
use crate::names::{NameId, Names};
use crate::router::{
    Failure, Memory, Route, RouteAnswer, RouteOutcome, RouteSheet, RouterBinding, Tools,
};
use crate::setup::{FailureRule, Setup};
use crate::words;

/// Marks a name that was met as a target only.
const NO_PLAN: u32 = u32::MAX;
/// Entries of the first look for a subject's plan: one per mark.
const RECENT_PLANS: usize = 256;

/// What is known of a subject.
#[derive(Debug)]
struct SubjectPlan {
    name: NameId,
    subject: Arc<str>,
    /// Filters that apply, indices into the chain's, in order.
    filters: Box<[u16]>,
    router: Option<u16>,
    /// The router's answer, where it hangs on the subject alone.
    routes: Option<Remembered>,
    /// The batch in which the router was asked about this subject.
    asked: u64,
    /// What came of it when it is not to be remembered: good for that batch.
    passing: Option<Passing>,
}

/// An answer that only the rows of the same batch share.
#[derive(Clone, Debug)]
enum Passing {
    /// Another generation than the binding's own gave it.
    Routes(Remembered),
    Failed(Failure),
}

/// A router's answer.
#[derive(Clone, Debug)]
enum Remembered {
    /// To the subject it has.
    Own,
    /// To these.
    Routes(Arc<[Route]>),
}

/// Where a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowRoute {
    /// To the subject it has.
    Own,
    /// `sheet.routes[start..end]`.
    Routes { start: u32, end: u32 },
}

/// Working memory of one judging thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    names: Names,
    /// Per name its plan, or `NO_PLAN`.
    plan_of: Vec<u32>,
    plans: Vec<SubjectPlan>,
    /// Bytes of the routes that plans hold.
    plan_routes_bytes: usize,
    /// Plans met lately, by a cheap mark of their subject: a batch has few subjects.
    recent: [u32; RECENT_PLANS],
    /// Per row its plan.
    row_plans: Vec<u32>,
    row_routes: Vec<RowRoute>,
    /// Per filter and per router: rows to ask about.
    filter_rows: Vec<Vec<u32>>,
    router_rows: Vec<Vec<u32>>,
    /// Rows whose subject is being asked about by an earlier row.
    waiting: Vec<u32>,
    filter_memos: Vec<Memo<FilterAnswer>>,
    router_memos: Vec<Memo<Remembered>>,
    /// Per router: rows answered from memory in this batch.
    remembered: Vec<u64>,
    columns: ColumnBuffers,
    filter_sheet: FilterSheet,
    sheet: RouteSheet,
    edited: Edited,
    copies: Copies,
    key: Vec<u8>,
    /// Counts the batches.
    stamp: u64,
}

impl Scratch {
    pub(crate) fn new(filters: usize, routers: usize) -> Self {
        Self {
            names: Names::default(),
            plan_of: Vec::new(),
            plans: Vec::new(),
            plan_routes_bytes: 0,
            recent: [NO_PLAN; RECENT_PLANS],
            row_plans: Vec::new(),
            row_routes: Vec::new(),
            filter_rows: vec![Vec::new(); filters],
            router_rows: vec![Vec::new(); routers],
            waiting: Vec::new(),
            filter_memos: (0..filters).map(|_| memo(FilterAnswer::bytes)).collect(),
            router_memos: (0..routers).map(|_| memo(Remembered::bytes)).collect(),
            remembered: vec![0; routers],
            columns: ColumnBuffers::default(),
            filter_sheet: FilterSheet::default(),
            sheet: RouteSheet::default(),
            edited: Edited::default(),
            copies: Copies::default(),
            key: Vec::new(),
            stamp: 0,
        }
    }

    /// Whether it may serve the next batch too: not when it has met too many subjects.
    /// Routes that are remembered by subject go by themselves.
    pub(crate) fn is_fit(&mut self) -> bool {
        if self.plan_routes_bytes > PLAN_ROUTES_BYTES_MAX {
            self.plans.iter_mut().for_each(|plan| plan.routes = None);
            self.plan_routes_bytes = 0;
        }
        self.names.len() <= NAMES_KEPT_MAX
    }

    pub(crate) fn judge(
        &mut self,
        chain: &PublishChain,
        input: JudgeInput<'_>,
        judged: &mut Judged,
    ) {
        self.start(input.parts.len());
        judged.clear(input.parts.len(), chain.generation());
        self.find_plans(chain, input);
        if !chain.filters.is_empty() {
            self.filter(chain, input, judged);
        }
        self.route_from_memory(chain, input, judged);
        for at in 0..chain.routers.len() {
            self.ask_router(chain, at, input, judged);
        }
        let messages = Messages { input, edited: &self.edited };
        let routed = Routed {
            messages,
            rows: &self.row_routes,
            routes: &self.sheet.routes,
            own: |row: usize| self.plans[self.row_plans[row] as usize].name,
        };
        self.copies.write(routed, &mut self.names, self.stamp, judged);
    }

    fn start(&mut self, rows: usize) {
        self.stamp += 1;
        self.row_plans.clear();
        self.row_routes.clear();
        self.row_routes.resize(rows, RowRoute::Own);
        self.filter_rows.iter_mut().for_each(Vec::clear);
        self.router_rows.iter_mut().for_each(Vec::clear);
        self.waiting.clear();
        self.remembered.fill(0);
        self.sheet.clear();
        self.edited.clear();
    }

    /// Finds which policies see each row.
    fn find_plans(&mut self, chain: &PublishChain, input: JudgeInput<'_>) {
        for parts in input.parts {
            let (start, len) = parts.subject;
            let subject = &input.buffer[start as usize..(start + len) as usize];
            let slot = usize::from(words::mark(subject));
            let known = self.plans.get(self.recent[slot] as usize);
            if !known.is_some_and(|plan| words::same(plan.subject.as_bytes(), subject)) {
                self.recent[slot] = self.plan(chain, subject);
            }
            self.row_plans.push(self.recent[slot]);
        }
    }

    fn plan(&mut self, chain: &PublishChain, subject: &[u8]) -> u32 {
        let known = self.names.find(subject).and_then(|name| self.plan_of.get(Names::index(name)));
        match known {
            Some(&plan) if plan != NO_PLAN => plan,
            _ => self.make_plan(chain, subject),
        }
    }

    fn make_plan(&mut self, chain: &PublishChain, subject: &[u8]) -> u32 {
        // `parse` has checked that subjects are UTF-8.
        let subject = std::str::from_utf8(subject).unwrap_or_default();
        let name = self.names.intern(subject);
        let applies = |setup: &Setup| setup.subjects.iter().any(|scope| scope.matches(subject));
        let filters = chain.filters.iter().enumerate();
        let filters = filters.filter(|(_, filter)| applies(filter.setup()));
        let plan = SubjectPlan {
            name,
            subject: self.names.text(name).clone(),
            filters: filters.map(|(at, _)| at as u16).collect(),
            router: chain.routers.iter().position(|r| applies(r.setup())).map(|at| at as u16),
            routes: None,
            asked: 0,
            passing: None,
        };
        self.plans.push(plan);
        let number = self.plans.len() as u32 - 1;
        self.plan_of.resize(self.names.len(), NO_PLAN);
        self.plan_of[Names::index(name)] = number;
        number
    }

    /// Routes what can be routed from memory, and collects the rest per router.
    fn route_from_memory(&mut self, chain: &PublishChain, input: JudgeInput<'_>, judged: &Judged) {
        for row in 0..input.parts.len() {
            if judged.rows[row] != Row::Same {
                continue;
            }
            let plan = &mut self.plans[self.row_plans[row] as usize];
            let Some(router) = plan.router else { continue };
            let at = usize::from(router);
            if let Some(routes) = &plan.routes {
                self.remembered[at] += 1;
                self.row_routes[row] = routes.replay(&mut self.sheet.routes);
                continue;
            }
            match chain.routers[at].memory {
                Memory::None => {}
                Memory::Subject if plan.asked == self.stamp => {
                    self.waiting.push(row as u32);
                    continue;
                }
                Memory::Subject => (plan.asked, plan.passing) = (self.stamp, None),
                Memory::Columns => {
                    let messages = Messages { input, edited: &self.edited };
                    self.key.clear();
                    let columns = chain.routers[at].caller.columns();
                    columns.key(messages.row(row as u32), &mut self.key);
                    if let Some(routes) = self.router_memos[at].get(&self.key) {
                        self.remembered[at] += 1;
                        self.row_routes[row] = routes.replay(&mut self.sheet.routes);
                        continue;
                    }
                }
            }
            self.router_rows[at].push(row as u32);
        }
    }

    /// Asks router `at` about its rows, and gives those that waited the answer of
    /// the row they waited for.
    fn ask_router(
        &mut self,
        chain: &PublishChain,
        at: usize,
        input: JudgeInput<'_>,
        judged: &mut Judged,
    ) {
        let router = &*chain.routers[at];
        let rows = std::mem::take(&mut self.router_rows[at]);
        self.ask(router, at, None, &rows, input, judged);
        self.router_rows[at] = rows;
        let stand_in = self.sheet.stand_in.take();
        let waiting = std::mem::take(&mut self.waiting);
        let (mut others, mut alone, mut stood_in, mut failed) = (Vec::new(), Vec::new(), 0, 0);
        for &row in &waiting {
            let plan = &self.plans[self.row_plans[row as usize] as usize];
            let answer = match (&plan.routes, &plan.passing) {
                _ if plan.router != Some(at as u16) => {
                    others.push(row);
                    continue;
                }
                (Some(routes), _) => {
                    self.remembered[at] += 1;
                    routes
                }
                (None, Some(Passing::Routes(routes))) => {
                    stood_in += 1;
                    routes
                }
                (None, Some(Passing::Failed(failure))) => {
                    // The answer hangs on the subject alone: asking again would
                    // cost the policy a failure more for the same reason.
                    fail(judged, row, router.setup(), failure.clone());
                    failed += 1;
                    continue;
                }
                (None, None) => {
                    // Whoever stood in is asked below; else it goes to its own subject.
                    alone.push(row);
                    continue;
                }
            };
            self.row_routes[row as usize] = answer.replay(&mut self.sheet.routes);
        }
        if let Some(stand_in) = stand_in.as_deref() {
            let counters = &stand_in.setup().counters;
            Counters::add(&counters.rows, stood_in);
            Counters::add(&counters.memo_hits, stood_in);
            // Its answers may hang on more than the subject.
            self.ask(router, at, Some(stand_in), &alone, input, judged);
        }
        self.waiting = others;
        let remembered = self.remembered[at];
        let counters = &router.setup().counters;
        Counters::add(&counters.rows, remembered + failed);
        Counters::add(&counters.failed_rows, failed);
        Counters::add(&counters.memo_hits, remembered);
    }

    /// Asks router `at`, or the generation that stands in for it, about `rows`.
    fn ask(
        &mut self,
        router: &RouterBinding,
        at: usize,
        stand_in: Option<&RouterBinding>,
        rows: &[u32],
        input: JudgeInput<'_>,
        judged: &mut Judged,
    ) {
        if rows.is_empty() {
            return;
        }
        self.sheet.outcomes.clear();
        self.sheet.failures.clear();
        let messages = Messages { input, edited: &self.edited };
        let (plans, row_plans) = (&self.plans, &self.row_plans);
        let own = |row: u32| plans[row_plans[row as usize] as usize].name;
        let tools = Tools { columns: &mut self.columns, names: &mut self.names };
        let asked = stand_in.unwrap_or(router);
        asked.route(messages, rows, &own, tools, &mut self.sheet, stand_in.is_some());
        let outcomes = std::mem::take(&mut self.sheet.outcomes);
        for outcome in &outcomes {
            let route = match outcome.answer {
                RouteAnswer::Own => RowRoute::Own,
                RouteAnswer::Routes { start, end } => self.own_or_routes(outcome.row, start, end),
                RouteAnswer::Failed(failure) => {
                    let failure = self.sheet.failures[failure as usize].clone();
                    self.pass(router, outcome, Passing::Failed(failure.clone()));
                    fail(judged, outcome.row, router.setup(), failure);
                    continue;
                }
            };
            self.row_routes[outcome.row as usize] = route;
            if router.memory != Memory::None {
                self.remember(router, at, outcome, route, input);
            }
        }
        self.sheet.outcomes = outcomes;
    }

    fn own_or_routes(&self, row: u32, start: u32, end: u32) -> RowRoute {
        let own = self.plans[self.row_plans[row as usize] as usize].name;
        match &self.sheet.routes[start as usize..end as usize] {
            [Route { name, delay_ms: 0 }] if *name == own => RowRoute::Own,
            _ => RowRoute::Routes { start, end },
        }
    }

    fn remember(
        &mut self,
        router: &RouterBinding,
        at: usize,
        outcome: &RouteOutcome,
        route: RowRoute,
        input: JudgeInput<'_>,
    ) {
        let row = outcome.row;
        let routes = |sheet: &RouteSheet, start: u32, end: u32| {
            Remembered::Routes(sheet.routes[start as usize..end as usize].into())
        };
        let by_subject = router.memory == Memory::Subject;
        let plan = &self.plans[self.row_plans[row as usize] as usize];
        let remembered = match route {
            RowRoute::Own if by_subject => Remembered::Own,
            // Another subject may have the same key: its own is another.
            RowRoute::Own => Remembered::Routes([Route { name: plan.name, delay_ms: 0 }].into()),
            RowRoute::Routes { start, end } => routes(&self.sheet, start, end),
        };
        if outcome.by_fallback {
            return self.pass(router, outcome, Passing::Routes(remembered));
        }
        if by_subject {
            self.plan_routes_bytes += remembered.bytes();
            self.plans[self.row_plans[row as usize] as usize].routes = Some(remembered);
            return;
        }
        let messages = Messages { input, edited: &self.edited };
        self.key.clear();
        router.caller.columns().key(messages.row(row), &mut self.key);
        if self.key.len() <= MEMO_KEY_BYTES_MAX {
            self.router_memos[at].insert(self.key.as_slice().into(), remembered);
        }
    }

    /// Keeps an outcome for the rows of this batch that wait for it, where whoever
    /// gave it looks at the subject alone.
    fn pass(&mut self, router: &RouterBinding, outcome: &RouteOutcome, passing: Passing) {
        let by_subject = |binding: &RouterBinding| binding.memory == Memory::Subject;
        let stand_in = self.sheet.stand_in.as_deref();
        if by_subject(router) && (!outcome.by_fallback || stand_in.is_some_and(by_subject)) {
            let plan = self.row_plans[outcome.row as usize];
            self.plans[plan as usize].passing = Some(passing);
        }
    }
}

impl Remembered {
    /// What it holds beside itself, bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Own => 0,
            Self::Routes(routes) => size_of_val(&**routes),
        }
    }

    /// The answer as if it had just been given.
    fn replay(&self, routes: &mut Vec<Route>) -> RowRoute {
        match self {
            Self::Own => RowRoute::Own,
            Self::Routes(remembered) => {
                let start = routes.len() as u32;
                routes.extend_from_slice(remembered);
                RowRoute::Routes { start, end: routes.len() as u32 }
            }
        }
    }
}

/// Answers by the values of columns.
fn memo<A: Clone>(weight: fn(&A) -> usize) -> Memo<A> {
    Memo::weighed(MEMO_ENTRIES_MAX, MEMO_BYTES_MAX, weight)
}

/// What becomes of a row that `setup`'s policy could not judge.
fn fail(judged: &mut Judged, row: u32, setup: &Setup, failure: Failure) {
    match setup.on_failure {
        FailureRule::Pass => {}
        FailureRule::Hold => divert(judged, row, setup, "held", failure.reason),
        FailureRule::Refuse => {
            let Failure { reason, generation } = failure;
            refuse(judged, row, setup, Rejection::PolicyFailed, reason, generation);
        }
    }
}

fn refuse(
    judged: &mut Judged,
    row: u32,
    setup: &Setup,
    code: Rejection,
    reason: Arc<str>,
    generation: u64,
) {
    judged.rows[row as usize] = Row::Refused(judged.refusals.len() as u32);
    let binding = setup.binding.clone();
    judged.refusals.push(Refusal { code, reason, binding, generation });
}

fn divert(judged: &mut Judged, row: u32, setup: &Setup, queue: &str, reason: Arc<str>) {
    let queue = format!("{}/{queue}", setup.binding).into();
    judged.rows[row as usize] = Row::Diverted(judged.diversions.len() as u32);
    judged.diversions.push(Diversion { queue, reason, place: Place::Input });
}
