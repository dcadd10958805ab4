//! A delivery policy's instance of one shard: the core's port two on top of a
//! component. The shard calls it from its own thread, so there is no lock.
//!
//! A call that ends the instance is followed by a fresh one at once; the core
//! opens its groups again and replays. Too many in a short time, and the policy
//! is reported broken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wasmtime::Store;
use weir_core::env::Now;
use weir_core::limits::TIMER_MS_MAX;
use weir_core::policy::{
    Action, DeliveryPolicy, Event, Failure, Generation, GroupInfo, Joining, Plan, Powers,
    ReadyMessage, event,
};
use weir_message::Parts;

use crate::bindings::exports::weir::policy::dispatching::{self, Guest};
use crate::bindings::weir::policy::types::BlobsParam;
use crate::columns::{ColumnBuffers, ColumnSet, RowRef};
use crate::component::Component;
use crate::error::LoadError;
use crate::host::State;
use crate::instance::{CallError, Instance, count_failure};
use crate::limits::{DELIVERY_FAILURE_WINDOW_MS, DELIVERY_FAILURES, STATE_BYTES_MAX};
use crate::setup::Setup;
use crate::step::{EventBuffers, read_actions};

/// One generation of a delivery binding in one shard.
pub struct WasmDelivery {
    component: Arc<Component>,
    setup: Setup,
    columns: ColumnSet,
    /// `None` once the policy is broken.
    instance: Option<Instance>,
    /// When it failed lately, ms of the steady clock.
    failures: VecDeque<u64>,
    buffers: ColumnBuffers,
    parts: Vec<Parts>,
    events: EventBuffers,
}

impl WasmDelivery {
    /// An instance that is ready for its shard.
    ///
    /// # Errors
    /// The component is no delivery policy, or does not start.
    pub fn start(component: Arc<Component>, setup: Setup) -> Result<Self, LoadError> {
        let instance = Instance::new(&component, &setup)?;
        Ok(Self {
            columns: ColumnSet::of_delivery(component.manifest()),
            component,
            setup,
            instance: Some(instance),
            failures: VecDeque::new(),
            buffers: ColumnBuffers::default(),
            parts: Vec::new(),
            events: EventBuffers::default(),
        })
    }

    /// As [`WasmDelivery::start`], as the core takes it.
    ///
    /// # Errors
    /// As there.
    #[allow(clippy::new_ret_no_self, reason = "the core owns policies as trait objects")]
    pub fn new(
        component: Arc<Component>,
        setup: Setup,
    ) -> Result<Box<dyn DeliveryPolicy>, LoadError> {
        Ok(Box::new(Self::start(component, setup)?))
    }

    /// One guest call; after a failure a fresh instance stands ready.
    fn call<A, R>(
        &mut self,
        now_ms: u64,
        run: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<Result<A, String>>,
        check: impl FnOnce(A) -> Result<R, String>,
    ) -> Result<R, Failure> {
        let Some(instance) = &mut self.instance else {
            return Err(Failure::Broken("failed too often".into()));
        };
        self.setup.counters.calls.fetch_add(1, Relaxed);
        // The shard's turn tells the wall clock; steady time is for kv and the log.
        let now = Now { wall_ms: now_ms, ..self.setup.clock.now() };
        instance.dispatch(now, run, check).map_err(|error| self.fail(now, error))
    }

    fn fail(&mut self, now: Now, error: CallError) -> Failure {
        count_failure(&self.setup.counters, &error);
        match error {
            CallError::Refused(reason) => Failure::Refused(reason),
            CallError::Ended(reason) => self.replace(now, reason),
        }
    }

    /// Puts a fresh instance in place of one that is not to be used any more.
    fn replace(&mut self, now: Now, reason: String) -> Failure {
        self.instance = None;
        self.failures.push_back(now.steady_ms);
        let since = now.steady_ms.saturating_sub(DELIVERY_FAILURE_WINDOW_MS);
        self.failures.retain(|&failed_ms| failed_ms >= since);
        if self.failures.len() >= DELIVERY_FAILURES {
            return Failure::Broken(reason);
        }
        match Instance::new(&self.component, &self.setup) {
            Ok(instance) => {
                self.instance = Some(instance);
                Failure::Restarted(reason)
            }
            Err(error) => Failure::Broken(format!("{reason}; then {error}")),
        }
    }

    /// Tells of state that does not reach the next generation: the core goes on
    /// without it and says nothing.
    fn tell_of_lost_state(&self, now: Now, reason: &str) {
        self.setup.counters.note_failure(now.wall_ms, reason);
        let (binding, number) = (&*self.setup.binding, self.setup.generation.number);
        let shard = self.setup.shard;
        tracing::warn!(
            target: "weir::policy", binding, generation = number, shard,
            "state is not handed on to the next generation: {reason}"
        );
    }
}

impl DeliveryPolicy for WasmDelivery {
    fn generation(&self) -> Generation {
        self.setup.generation.clone()
    }

    fn powers(&self) -> Powers {
        self.setup.powers
    }

    fn reads_messages(&self) -> bool {
        !self.columns.is_empty()
    }

    fn classify(&mut self, now_ms: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        let bytes = subjects.concat();
        let ends: Vec<u32> = subjects
            .iter()
            .scan(0, |end, subject| {
                *end += subject.len() as u32;
                Some(*end)
            })
            .collect();
        let count = subjects.len();
        let blobs = BlobsParam { bytes: bytes.as_bytes(), ends: &ends };
        let transient = self.setup.powers.transient;
        let mut levels = self.call(
            now_ms,
            |guest, store| guest.call_classify(store, blobs),
            |levels| {
                if levels.len() != count {
                    return Err(format!("{} levels for {count} subjects", levels.len()));
                }
                match levels.iter().find(|&&level| level > 3) {
                    Some(level) => Err(format!("the level {level}, which does not exist")),
                    None => Ok(levels),
                }
            },
        )?;
        if !transient {
            levels.iter_mut().for_each(|level| *level = (*level).max(1));
        }
        Ok(levels)
    }

    fn open(&mut self, now_ms: u64, group: &GroupInfo<'_>) -> Result<Plan, Failure> {
        let group = dispatching::Group {
            id: group.id,
            name: group.name,
            subject: group.subject,
            options: group.options,
        };
        let plan = self.call(now_ms, |guest, store| guest.call_open(store, group), check_plan)?;
        Ok(to_plan(&plan, self.setup.powers))
    }

    fn join(&mut self, now_ms: u64, consumer: &Joining<'_>) -> Result<(), Failure> {
        let consumer = dispatching::Consumer {
            group: consumer.group,
            id: consumer.id,
            name: consumer.name,
            labels: consumer.labels,
        };
        self.call(now_ms, |guest, store| guest.call_join(store, consumer), Ok)
    }

    fn close(&mut self, now_ms: u64, group: u32) {
        // Nothing waits for this; a failure has put a fresh instance in place,
        // and the next call of the core opens its groups there.
        let closed = self.call(now_ms, |guest, store| guest.call_close(store, group).map(Ok), Ok);
        if let Err(failure) = closed {
            let (binding, number) = (&*self.setup.binding, self.setup.generation.number);
            tracing::warn!(target: "weir::policy", binding, generation = number, ?failure, "close failed");
        }
    }

    fn step(
        &mut self,
        now_ms: u64,
        events: &[Event],
        ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let mut buffers = std::mem::take(&mut self.buffers);
        self.fill(&mut buffers, ready);
        let mut sent = std::mem::take(&mut self.events);
        sent.fill(events);
        let columns = if self.columns.is_empty() || ready.is_empty() {
            Vec::new()
        } else {
            buffers.columns(&self.columns)
        };
        let told = events.iter().filter(|told| told.kind == event::READY).count();
        self.setup.counters.rows.fetch_add(told as u64, Relaxed);
        let answer = self.call(
            now_ms,
            |guest, store| guest.call_step(store, now_ms, sent.columns(), &columns),
            |answer| read_actions(&answer, actions),
        );
        drop(columns);
        self.buffers = buffers;
        self.events = sent;
        answer
    }

    fn save(&mut self, _now_ms: u64) -> Option<(u32, Vec<u8>)> {
        let version = self.component.manifest().state_version;
        if version == 0 {
            return None;
        }
        let now = self.setup.clock.now();
        let state = self.instance.as_mut()?.save(now);
        // The last call of all: whatever it left behind, the instance is done.
        self.instance = None;
        let error = match state {
            Ok(state) if state.len() <= STATE_BYTES_MAX => return Some((version, state)),
            Ok(state) => CallError::Refused(format!(
                "`save` answered with {} bytes, at most {STATE_BYTES_MAX} are handed on",
                state.len()
            )),
            Err(error) => error,
        };
        count_failure(&self.setup.counters, &error);
        self.tell_of_lost_state(now, error.reason());
        None
    }

    fn load(&mut self, _now_ms: u64, version: u32, state: &[u8]) -> Result<(), Failure> {
        let manifest = self.component.manifest();
        let now = self.setup.clock.now();
        if manifest.state_version == 0 {
            // It has no state: whoever puts it in another's place knows.
            return Err(Failure::Refused("it keeps no state".into()));
        }
        if version < manifest.state_reads || version > manifest.state_version {
            let reason = format!(
                "state of format {version} is not read, only {} to {}",
                manifest.state_reads, manifest.state_version
            );
            self.tell_of_lost_state(now, &reason);
            return Err(Failure::Refused(reason));
        }
        let Some(instance) = &mut self.instance else {
            return Err(Failure::Broken("failed too often".into()));
        };
        let Err(error) = instance.load(now, version, state) else { return Ok(()) };
        count_failure(&self.setup.counters, &error);
        self.tell_of_lost_state(now, error.reason());
        // A refusal is no trap, but it too may have left half of the state behind.
        Err(self.replace(now, error.reason().to_owned()))
    }
}

impl WasmDelivery {
    fn fill(&mut self, buffers: &mut ColumnBuffers, ready: &[ReadyMessage<'_>]) {
        if self.columns.is_empty() || ready.is_empty() {
            return;
        }
        self.parts.clear();
        let parse = |message: &ReadyMessage<'_>| {
            weir_message::parse(message.bytes, 0).expect("kept messages were checked when taken")
        };
        self.parts.extend(ready.iter().map(parse));
        let parts = &self.parts;
        buffers.fill(&self.columns, ready.len(), |at| ready_row(&ready[at], &parts[at]));
    }
}

/// A kept message as a row of columns.
pub(crate) fn ready_row<'a>(message: &ReadyMessage<'a>, parts: &'a Parts) -> RowRef<'a> {
    RowRef {
        buffer: message.bytes,
        parts,
        publisher: 0,
        time_ms: message.time_ms,
        sequence: message.offset,
    }
}

impl std::fmt::Debug for WasmDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmDelivery").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// Refuses codes the broker does not know, so that a typo is not taken for a wish.
fn check_plan(plan: dispatching::Plan) -> Result<dispatching::Plan, String> {
    let codes = [
        ("chooser", plan.chooser, 3),
        ("spread", plan.spread, 1),
        ("ack", plan.ack, 1),
        ("order", plan.order, 2),
        ("exhausted", plan.exhausted, 2),
    ];
    match codes.iter().find(|(_, code, code_max)| code > code_max) {
        Some((field, code, _)) => Err(format!("a plan whose {field} is {code}")),
        None => Ok(plan),
    }
}

/// The core's plan. Without the power to, an exhausted message is parked.
fn to_plan(plan: &dispatching::Plan, powers: Powers) -> Plan {
    let setting = |id: u16| {
        let setting = plan.settings.iter().find(|setting| setting.id == id);
        setting.map_or(0, |setting| u32::try_from(setting.value).unwrap_or(u32::MAX))
    };
    let time = |ms: u32| ms.min(u32::try_from(TIMER_MS_MAX).unwrap_or(u32::MAX));
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let default = Plan::AT_LEAST_ONCE;
    let exhausted = match plan.exhausted {
        1 if powers.dead_letter => 1,
        2 if powers.drop => 2,
        _ => 0,
    };
    Plan {
        interest: plan.interest,
        chooser: plan.chooser,
        spread: plan.spread,
        ack: plan.ack,
        order: plan.order,
        exhausted,
        lease_ms: time(or(plan.lease_ms, default.lease_ms)),
        attempts: plan.attempts,
        retry_first_ms: time(plan.retry_first_ms),
        retry_max_ms: time(plan.retry_max_ms.max(plan.retry_first_ms)),
        retry_growth: plan.retry_growth.max(100),
        window: or(plan.window, default.window),
        per_consumer: plan.per_consumer,
        tick_ms: time(plan.tick_ms),
        undecided_ms_max: time(setting(1)),
        bytes_per_consumer: setting(2),
    }
}
