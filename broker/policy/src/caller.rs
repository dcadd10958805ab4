//! What routers, publish filters and deliver filters share: one generation of a
//! binding that can be asked about rows, with instances kept for the next batch,
//! a breaker, and the halving of batches that fail.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use weir_core::env::Now;

use crate::breaker::{Breaker, Consequence};
use crate::columns::ColumnSet;
use crate::component::Component;
use crate::counters::Counters;
use crate::error::LoadError;
use crate::instance::{CallError, Instance, count_failure};
use crate::limits::{HALVING_BUDGETS, HALVING_FAILURES_MAX, POOL_INSTANCES_MAX};
use crate::setup::{Setup, Trouble};

/// One generation of a binding, as asked by batches.
pub(crate) struct Caller {
    component: Arc<Component>,
    setup: Setup,
    columns: ColumnSet,
    batch_rows: usize,
    /// Idle instances. A batch takes one, and puts it back unless it trapped.
    pool: Mutex<Vec<Instance>>,
    breaker: Breaker,
}

/// What became of rows put before [`Caller::attempt`].
pub(crate) enum Asked<A> {
    /// The policy answered for the rows `start..end`.
    Answer { start: usize, end: usize, answer: A },
    /// It could not judge the rows `start..end`.
    Failed { start: usize, end: usize, reason: Arc<str> },
}

impl Caller {
    /// Makes the first instance, so that a generation that cannot start is
    /// refused here and not in traffic.
    pub(crate) fn new(component: Arc<Component>, setup: Setup) -> Result<Self, LoadError> {
        let first = Instance::new(&component, &setup)?;
        let manifest = component.manifest();
        let wanted = if manifest.batch_rows == 0 { u32::MAX } else { manifest.batch_rows };
        Ok(Self {
            columns: ColumnSet::of(manifest),
            batch_rows: setup.limits.batch_rows.min(wanted).max(1) as usize,
            breaker: Breaker::new(setup.clock.now().steady_ms),
            pool: Mutex::new(vec![first]),
            component,
            setup,
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn component(&self) -> &Arc<Component> {
        &self.component
    }

    pub(crate) fn columns(&self) -> &ColumnSet {
        &self.columns
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.setup.counters
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Most rows of one call.
    pub(crate) fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// Puts `rows` rows before the policy in one call, when the breaker lets it
    /// through. `call` is given the rows `start..end`. `fallback` is forgotten
    /// when the probation is over.
    ///
    /// # Errors
    /// How the call failed; counted, and weighed by the breaker when `weighs`.
    pub(crate) fn attempt<A, B>(
        &self,
        now: Now,
        rows: usize,
        weighs: bool,
        fallback: &ArcSwapOption<B>,
        call: &mut impl FnMut(&mut Instance, usize, usize) -> Result<A, CallError>,
    ) -> Result<A, CallError> {
        if !self.breaker.admits(now.steady_ms) {
            // A refusal, because there is nothing to halve.
            return Err(CallError::Refused("failed too often: not called for a while".into()));
        }
        // A generation whose probation failed keeps its fallback until the loader
        // has put another in its place.
        if fallback.load().is_some() && self.breaker.passed_probation(now.steady_ms) {
            fallback.store(None);
        }
        match self.call(&mut |instance| call(instance, 0, rows)) {
            Ok(answer) => {
                self.breaker.succeeded();
                Ok(answer)
            }
            Err(error) => {
                if weighs {
                    self.weigh(now, error.reason());
                }
                Err(error)
            }
        }
    }

    /// After `first` failed on `rows` rows: halves them until the offending ones
    /// stand alone. All of it is bounded in time; what is undecided then counts
    /// as offending.
    pub(crate) fn halve<A>(
        &self,
        rows: usize,
        first: &CallError,
        call: &mut impl FnMut(&mut Instance, usize, usize) -> Result<A, CallError>,
        sink: &mut impl FnMut(Asked<A>),
    ) {
        let reason: Arc<str> = first.reason().into();
        if rows == 1 || matches!(first, CallError::Refused(_)) {
            return sink(Asked::Failed { start: 0, end: rows, reason });
        }
        let budget_ms = u64::from(self.setup.limits.budget_ms) * HALVING_BUDGETS;
        let until_ms = self.setup.clock.now().steady_ms + budget_ms;
        let mut failures_left = HALVING_FAILURES_MAX;
        // Ranges still to be asked about, the next one last.
        let mut ranges = vec![(rows / 2, rows), (0, rows / 2)];
        while let Some((start, end)) = ranges.pop() {
            let late = failures_left == 0 || self.setup.clock.now().steady_ms > until_ms;
            if late {
                sink(Asked::Failed { start, end, reason: reason.clone() });
                continue;
            }
            match self.call(&mut |instance| call(instance, start, end)) {
                Ok(answer) => sink(Asked::Answer { start, end, answer }),
                Err(error) => {
                    failures_left -= 1;
                    if end - start == 1 || matches!(error, CallError::Refused(_)) {
                        sink(Asked::Failed { start, end, reason: error.reason().into() });
                    } else {
                        let middle = start + (end - start) / 2;
                        ranges.extend([(middle, end), (start, middle)]);
                    }
                }
            }
        }
    }

    /// One call on an idle instance or a fresh one.
    fn call<A>(
        &self,
        run: &mut dyn FnMut(&mut Instance) -> Result<A, CallError>,
    ) -> Result<A, CallError> {
        let idle = self.pool.lock().expect("no panic under this lock").pop();
        let mut instance = match idle {
            Some(instance) => instance,
            None => Instance::new(&self.component, &self.setup)
                .map_err(|error| CallError::Ended(error.to_string()))
                .inspect_err(|error| count_failure(self.counters(), error))?,
        };
        self.counters().calls.fetch_add(1, Relaxed);
        let result = run(&mut instance);
        match &result {
            Err(error @ CallError::Ended(_)) => count_failure(self.counters(), error),
            Err(error) => {
                count_failure(self.counters(), error);
                self.put_back(instance);
            }
            Ok(_) => self.put_back(instance),
        }
        result
    }

    fn put_back(&self, instance: Instance) {
        let mut pool = self.pool.lock().expect("no panic under this lock");
        if pool.len() < POOL_INSTANCES_MAX {
            pool.push(instance);
        }
    }

    /// Weighs a failed batch and tells the loader when it was one too many.
    fn weigh(&self, now: Now, reason: &str) {
        let probation = match self.breaker.failed(now.steady_ms) {
            Consequence::Tolerated => return,
            Consequence::ProbationFailed => true,
            Consequence::Opened => false,
        };
        if let Some(trouble) = &self.setup.trouble {
            trouble(Trouble {
                binding: self.setup.binding.clone(),
                generation: self.setup.generation.number,
                reason: reason.to_owned(),
                probation,
            });
        }
    }
}
