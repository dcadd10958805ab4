//! One running copy of a component: a store, its limits and the calls into it.
//!
//! A call either returns an answer, or it is refused by the policy, or it ends
//! the instance ([`CallError::Ended`]): then the owner drops it, because
//! a trapped instance cannot be entered again.

use std::sync::atomic::Ordering::Relaxed;

use wasmtime::Store;
use weir_core::env::Now;
use weir_core::policy::Powers;

use crate::bindings::exports::weir::policy::{dispatching, filtering, lifecycle, routing};
use crate::bindings::weir::policy::types::{Batch, Context, Manifest, Setting};
use crate::component::{Component, Linked, of_another_contract};
use crate::counters::Counters;
use crate::deadline::PastDeadline;
use crate::error::LoadError;
use crate::host::{ImportRefused, Imports, PastMemory, State};
use crate::limits;
use crate::setup::{Role, Setup};
use crate::ticker::Running;

/// How a call failed, with one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The policy answered with an error. The instance is fit for more.
    Refused(String),
    /// The instance is gone.
    Ended(String),
}

impl CallError {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Ended(reason) => reason,
        }
    }
}

/// One running copy.
pub(crate) struct Instance {
    store: Store<State>,
    lifecycle: lifecycle::Guest,
    routing: Option<routing::Guest>,
    filtering: Option<filtering::Guest>,
    dispatching: Option<dispatching::Guest>,
    budget_ms: u32,
    output_bytes: usize,
}

impl Instance {
    /// Asks a component for its manifest, with every import trapping.
    pub(crate) fn describe(linked: &Linked) -> Result<Manifest, LoadError> {
        let state = State::new(linked.pulse.clone(), Imports::None, None, limits::MEMORY_BYTES);
        let mut store = new_store(linked, state);
        let failed = |store: &Store<State>, error: wasmtime::Error| {
            LoadError::Describe(explain(&error, store.data(), limits::DESCRIBE_MS))
        };
        let _running = arm(&mut store, limits::DESCRIBE_MS, limits::LIFECYCLE_OUTPUT_BYTES);
        let instance = linked.pre.instantiate(&mut store).map_err(|error| failed(&store, error))?;
        let guest = linked.lifecycle.load(&mut store, &instance).map_err(of_another_contract)?;
        guest.call_describe(&mut store).map_err(|error| failed(&store, error))
    }

    /// Starts a copy for `setup` and hands it its configuration.
    ///
    /// # Errors
    /// The role is not there, or the policy refused or failed.
    pub(crate) fn new(component: &Component, setup: &Setup) -> Result<Self, LoadError> {
        component.require(setup.role)?;
        let linked = &component.linked;
        let remembers = setup.role != Role::Delivery && !component.manifest().memo_by.is_empty();
        let imports = if remembers { Imports::Pure } else { Imports::All };
        let pulse = linked.pulse.clone();
        let state = State::new(pulse, imports, Some(setup.clone()), setup.limits.memory_bytes);
        let mut store = new_store(linked, state);
        let running = arm(&mut store, limits::LIFECYCLE_MS, limits::LIFECYCLE_OUTPUT_BYTES);
        let instance = linked.pre.instantiate(&mut store).map_err(|error| {
            let reason = explain(&error, store.data(), limits::LIFECYCLE_MS);
            setup.counters.note_failure(setup.clock.now().wall_ms, &reason);
            LoadError::Init(reason)
        })?;
        let routing = linked.routing.as_ref().map(|indices| indices.load(&mut store, &instance));
        let filtering =
            linked.filtering.as_ref().map(|indices| indices.load(&mut store, &instance));
        let dispatching =
            linked.dispatching.as_ref().map(|indices| indices.load(&mut store, &instance));
        let mut instance = Self {
            lifecycle: linked.lifecycle.load(&mut store, &instance).map_err(of_another_contract)?,
            routing: routing.transpose().map_err(of_another_contract)?,
            filtering: filtering.transpose().map_err(of_another_contract)?,
            dispatching: dispatching.transpose().map_err(of_another_contract)?,
            store,
            budget_ms: setup.limits.budget_ms,
            output_bytes: setup.limits.output_bytes,
        };
        drop(running);
        instance.init(component, setup)?;
        setup.counters.instances.fetch_add(1, Relaxed);
        Ok(instance)
    }

    fn init(&mut self, component: &Component, setup: &Setup) -> Result<(), LoadError> {
        let powers = power_names(setup.powers, &component.manifest().wants);
        let settings = [
            Setting { id: 1, value: u64::from(setup.limits.budget_ms) * 1_000 },
            Setting { id: 2, value: u64::from(setup.limits.batch_rows) },
        ];
        let stage = if setup.role == Role::Filter { setup.stage.as_str() } else { "" };
        let context = Context {
            broker: env!("CARGO_PKG_VERSION"),
            binding: &setup.binding,
            role: setup.role.as_str(),
            stage,
            shard: setup.shard,
            shards: setup.shards,
            generation: setup.generation.number,
            config: &setup.config_json,
            powers: &powers,
            seed: setup.random.next(),
            settings: &settings,
        };
        let guest = self.lifecycle.clone();
        self.lifecycle_call(setup.clock.now(), |store| guest.call_init(store, context))
            .map_err(|error| LoadError::Init(error.reason().to_owned()))
    }

    /// The policy's own sanity check.
    pub(crate) fn check(&mut self, now: Now) -> Result<(), LoadError> {
        let guest = self.lifecycle.clone();
        self.lifecycle_call(now, |store| guest.call_check(store))
            .map_err(|error| LoadError::Check(error.reason().to_owned()))
    }

    /// State for the next generation.
    pub(crate) fn save(&mut self, now: Now) -> Result<Vec<u8>, CallError> {
        let guest = self.lifecycle.clone();
        self.lifecycle_call(now, |store| guest.call_save(store))
    }

    /// State of an earlier generation.
    pub(crate) fn load(&mut self, now: Now, version: u32, state: &[u8]) -> Result<(), CallError> {
        let guest = self.lifecycle.clone();
        self.lifecycle_call(now, |store| guest.call_load(store, version, state))
    }

    /// Asks the router; `check` turns the answer into a sound one or says what is
    /// wrong with it.
    pub(crate) fn route<R>(
        &mut self,
        now: Now,
        input: Batch<'_>,
        check: impl FnOnce(routing::Routes) -> Result<R, String>,
    ) -> Result<R, CallError> {
        let guest = self.routing.clone().expect("Instance::new checked the role");
        self.call(now, |store| guest.call_route(store, input), check)
    }

    /// Asks the filter; `check` as for [`Instance::route`].
    pub(crate) fn filter<R>(
        &mut self,
        now: Now,
        input: Batch<'_>,
        check: impl FnOnce(filtering::Verdicts) -> Result<R, String>,
    ) -> Result<R, CallError> {
        let guest = self.filtering.clone().expect("Instance::new checked the role");
        self.call(now, |store| guest.call_filter(store, input), check)
    }

    /// Calls one function of the delivery role; `check` as for [`Instance::route`].
    pub(crate) fn dispatch<A, R>(
        &mut self,
        now: Now,
        run: impl FnOnce(&dispatching::Guest, &mut Store<State>) -> wasmtime::Result<Result<A, String>>,
        check: impl FnOnce(A) -> Result<R, String>,
    ) -> Result<R, CallError> {
        let guest = self.dispatching.clone().expect("Instance::new checked the role");
        self.call(now, |store| run(&guest, store), check)
    }

    fn call<A, R>(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<A, String>>,
        check: impl FnOnce(A) -> Result<R, String>,
    ) -> Result<R, CallError> {
        self.guarded(now, self.budget_ms, self.output_bytes, run, check)
    }

    fn lifecycle_call<R>(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, CallError> {
        let budget_ms = self.budget_ms.max(limits::LIFECYCLE_MS);
        self.guarded(now, budget_ms, limits::LIFECYCLE_OUTPUT_BYTES, run, Ok)
    }

    /// One call with deadline and output bound; what it wrote counts only when it
    /// returns a sound answer.
    fn guarded<A, R>(
        &mut self,
        now: Now,
        budget_ms: u32,
        output_bytes: usize,
        run: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<A, String>>,
        check: impl FnOnce(A) -> Result<R, String>,
    ) -> Result<R, CallError> {
        self.store.data_mut().begin(now);
        let running = arm(&mut self.store, budget_ms, output_bytes);
        let answered = run(&mut self.store);
        drop(running);
        let error = match answered {
            Ok(Ok(answer)) => match check(answer) {
                Ok(answer) => {
                    self.store.data_mut().commit();
                    return Ok(answer);
                }
                Err(what) => CallError::Ended(format!("answered with {what}")),
            },
            Ok(Err(refusal)) => CallError::Refused(crate::text::sentence(&refusal)),
            Err(error) => CallError::Ended(explain(&error, self.store.data(), budget_ms)),
        };
        self.store.data_mut().roll_back(error.reason());
        Err(error)
    }
}

/// Counts a failed call.
pub(crate) fn count_failure(counters: &Counters, error: &CallError) {
    counters.failures.fetch_add(1, Relaxed);
    if matches!(error, CallError::Ended(_)) {
        counters.traps.fetch_add(1, Relaxed);
    }
}

fn new_store(linked: &Linked, state: State) -> Store<State> {
    let mut store = Store::new(linked.pre.engine(), state);
    store.limiter(|state| state);
    store.epoch_deadline_callback(|mut context| context.data_mut().deadline.reached());
    store
}

/// Sets the bounds of the call that follows, which lasts as long as the answer is
/// held.
fn arm(store: &mut Store<State>, budget_ms: u32, output_bytes: usize) -> Running {
    let running = store.data().pulse.begin();
    let ticks = store.data_mut().deadline.start(budget_ms);
    store.set_epoch_deadline(ticks);
    store.set_hostcall_fuel(output_bytes);
    running
}

fn power_names(powers: Powers, wants: &[String]) -> Vec<&'static str> {
    let all = [
        ("drop", powers.drop),
        ("dead-letter", powers.dead_letter),
        ("rewrite", powers.rewrite),
        ("retarget", powers.retarget),
        ("transient", powers.transient),
    ];
    let wanted = |name: &str| wants.iter().any(|want| want == name);
    all.iter().filter(|(name, granted)| *granted && wanted(name)).map(|(name, _)| *name).collect()
}

/// One sentence for an operator.
fn explain(error: &wasmtime::Error, state: &State, budget_ms: u32) -> String {
    if error.is::<PastDeadline>() {
        return format!("ran past its {budget_ms} ms");
    }
    if let Some(error) = error.downcast_ref::<PastMemory>() {
        return error.to_string();
    }
    if let Some(error) = error.downcast_ref::<ImportRefused>() {
        return error.to_string();
    }
    let root = crate::text::sentence(&error.root_cause().to_string());
    match &state.last_error {
        Some(line) => format!("trapped: {line} ({root})"),
        None => format!("trapped: {root}"),
    }
}
