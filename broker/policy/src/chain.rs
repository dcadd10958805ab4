//! All publish-stage policies at one moment: filters, then one router, per
//! message. Immutable; the loader makes a new chain for every change, and whoever
//! publishes picks one up per batch, so a batch meets one generation of each.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use crate::counters::Counters;
use crate::filter::FilterBinding;
use crate::judge::{JudgeInput, Judged};
use crate::limits::CHAIN_SCRATCHES_MAX;
use crate::router::RouterBinding;
use crate::scratch::Scratch;

/// The publish stage.
#[derive(Debug, Default)]
pub struct PublishChain {
    generation: u64,
    pub(crate) filters: Vec<Arc<FilterBinding>>,
    pub(crate) routers: Vec<Arc<RouterBinding>>,
    /// Working memory with what it remembers; a batch takes one and puts it back,
    /// so there are as many as threads that judge at once.
    scratches: Mutex<Vec<Scratch>>,
}

/// Where messages of one subject go, for callers that keep a table of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectVerdict {
    /// To their own subject, as they are.
    Identity,
    /// To these subjects instead. The message must be written anew for each that
    /// is not its own.
    Targets(Arc<[Arc<str>]>),
    /// Each message must be judged.
    PerMessage,
}

/// [`SubjectVerdict`] and whose it is. Good for as long as the chain's generation
/// is the same.
#[derive(Clone, Debug)]
pub struct SubjectRoute {
    /// Where messages go.
    pub verdict: SubjectVerdict,
    counters: Option<Arc<Counters>>,
}

impl SubjectRoute {
    pub(crate) fn new(verdict: SubjectVerdict, counters: Option<Arc<Counters>>) -> Self {
        Self { verdict, counters }
    }

    /// To be told by the caller: `rows` messages went where the verdict says,
    /// without [`PublishChain::judge`]. Keeps the counts of generations whole.
    pub fn count(&self, rows: u64) {
        if let Some(counters) = &self.counters {
            counters.rows.fetch_add(rows, Relaxed);
            counters.memo_hits.fetch_add(rows, Relaxed);
        }
    }
}

impl PublishChain {
    /// A chain of these bindings; `generation` differs from that of every chain
    /// before.
    #[must_use]
    pub fn new(
        mut filters: Vec<Arc<FilterBinding>>,
        mut routers: Vec<Arc<RouterBinding>>,
        generation: u64,
    ) -> Self {
        filters.sort_by_key(|filter| (filter.setup().order, filter.setup().binding.clone()));
        routers.sort_by_key(|router| (router.setup().order, router.setup().binding.clone()));
        Self { generation, filters, routers, scratches: Mutex::default() }
    }

    /// Changes whenever a publish binding changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when no binding works at the publish stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.routers.is_empty()
    }

    /// The filters, in the order they work.
    #[must_use]
    pub fn filters(&self) -> &[Arc<FilterBinding>] {
        &self.filters
    }

    /// The routers, in the order they are considered.
    #[must_use]
    pub fn routers(&self) -> &[Arc<RouterBinding>] {
        &self.routers
    }

    /// Judges a batch; `judged` is filled anew. Takes as long as the policies'
    /// budgets allow, never waits for anything else.
    ///
    /// # Panics
    /// When `input.parts` do not lie in `input.buffer`.
    pub fn judge(&self, input: JudgeInput<'_>, judged: &mut Judged) {
        let mut scratch = self.take_scratch();
        scratch.judge(self, input, judged);
        self.put_scratch(scratch);
    }

    /// Where messages of `subject` go, when that hangs on the subject alone. Asks
    /// the router once and remembers the answer.
    #[must_use]
    pub fn verdict_for_subject(&self, subject: &str) -> SubjectRoute {
        let mut scratch = self.take_scratch();
        let route = scratch.subject_route(self, subject);
        self.put_scratch(scratch);
        route
    }

    fn take_scratch(&self) -> Scratch {
        self.scratches
            .lock()
            .expect("no panic under this lock")
            .pop()
            .unwrap_or_else(|| Scratch::new(self.filters.len(), self.routers.len()))
    }

    fn put_scratch(&self, mut scratch: Scratch) {
        if !scratch.is_fit() {
            return;
        }
        let mut scratches = self.scratches.lock().expect("no panic under this lock");
        if scratches.len() < CHAIN_SCRATCHES_MAX {
            scratches.push(scratch);
        }
    }
}
