//! What a running policy can reach: log, metrics, clock, kv, and its own memory
//! up to a bound. One [`State`] per instance, in its store.
//!
//! Time is frozen during a call. What a call writes is kept aside and takes
//! effect in [`State::commit`], when the call has returned.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wasmtime::ResourceLimiter;
use weir_core::env::Now;

use crate::bindings::weir::policy::{clock, kv, log, metrics, types};
use crate::counters::Counters;
use crate::deadline::Deadline;
use crate::kv::Transaction;
use crate::limits;
use crate::log::LogLine;
use crate::metrics::MetricWrite;
use crate::setup::Setup;
use crate::ticker::Pulse;

/// Which imports may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Imports {
    /// None: the component describes itself.
    None,
    /// No kv and no clock: answers are remembered, so they may depend on the
    /// columns only.
    Pure,
    /// All.
    All,
}

/// An import was called that is not to be had now.
#[derive(Debug, thiserror::Error)]
#[error("called {import}, which {why}")]
pub(crate) struct ImportRefused {
    import: &'static str,
    why: &'static str,
}

/// The instance asked for more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("asked for more than {} MiB of memory", bytes_max >> 20)]
pub(crate) struct PastMemory {
    bytes_max: usize,
}

/// Host side of one instance.
pub(crate) struct State {
    pub(crate) pulse: Arc<Pulse>,
    imports: Imports,
    /// The binding; `None` while a component describes itself.
    setup: Option<Setup>,
    now: Now,
    pub(crate) deadline: Deadline,
    /// Last line of level "error" in this call: what a panic hook wrote explains
    /// the trap that follows.
    pub(crate) last_error: Option<String>,
    kv: Transaction,
    metrics: Vec<MetricWrite>,
    memory_bytes: usize,
    memory_bytes_max: usize,
}

impl State {
    pub(crate) fn new(
        pulse: Arc<Pulse>,
        imports: Imports,
        setup: Option<Setup>,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            pulse,
            imports,
            setup,
            now: Now::default(),
            deadline: Deadline::default(),
            last_error: None,
            kv: Transaction::default(),
            metrics: Vec::new(),
            memory_bytes: 0,
            memory_bytes_max,
        }
    }

    /// A call begins at `now`.
    pub(crate) fn begin(&mut self, now: Now) {
        self.now = now;
        self.last_error = None;
    }

    /// The call returned: what it wrote takes effect.
    pub(crate) fn commit(&mut self) {
        let Some(setup) = &self.setup else { return };
        if !self.metrics.is_empty() {
            setup.metrics.apply(&self.metrics);
            self.metrics.clear();
        }
        let refused = setup.kv.commit(&mut self.kv, self.now.steady_ms);
        Counters::add(&setup.counters.kv_refused, refused);
    }

    /// The call failed or said "no", for `reason`: what it wrote is forgotten.
    pub(crate) fn roll_back(&mut self, reason: &str) {
        self.metrics.clear();
        self.kv.clear();
        if let Some(setup) = &self.setup {
            setup.counters.note_failure(self.now.wall_ms, reason);
        }
    }

    fn setup(&self, import: &'static str) -> wasmtime::Result<&Setup> {
        let why = "no policy may do while it describes itself";
        match (&self.setup, self.imports) {
            (Some(setup), Imports::Pure | Imports::All) => Ok(setup),
            _ => Err(ImportRefused { import, why }.into()),
        }
    }

    fn setup_impure(&self, import: &'static str) -> wasmtime::Result<&Setup> {
        let why = "a policy with `memo-by` must not do: its answers are remembered";
        match self.imports {
            Imports::Pure => Err(ImportRefused { import, why }.into()),
            _ => self.setup(import),
        }
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: u8, message: String) -> wasmtime::Result<()> {
        let now = self.now;
        let setup = self.setup("log")?;
        let (log, generation) = (setup.log.clone(), setup.generation.number);
        if level <= 1 {
            self.last_error = Some(crate::text::sentence(&message));
        }
        if crate::log::enabled(level) {
            log.write(now.steady_ms, LogLine { time_ms: now.wall_ms, generation, level, message });
        }
        Ok(())
    }

    fn enabled(&mut self, level: u8) -> wasmtime::Result<bool> {
        self.setup("log")?;
        Ok(crate::log::enabled(level))
    }
}

impl metrics::Host for State {
    fn define(&mut self, kind: u8, name: String, help: String) -> wasmtime::Result<u32> {
        Ok(self.setup("metrics")?.metrics.define(kind, &name, &help))
    }

    fn add(&mut self, id: u32, by: u64) -> wasmtime::Result<()> {
        self.setup("metrics")?;
        self.write_metric(MetricWrite::Add(id, by));
        Ok(())
    }

    fn put(&mut self, id: u32, value: f64) -> wasmtime::Result<()> {
        self.setup("metrics")?;
        self.write_metric(MetricWrite::Put(id, value));
        Ok(())
    }
}

impl State {
    /// Keeps a write until the call returns. Additions to one metric are one
    /// write, so a call that counts every row costs no memory; what is beyond the
    /// bound, which only a call gone wild reaches, is left out.
    fn write_metric(&mut self, write: MetricWrite) {
        if let (Some(MetricWrite::Add(last, sum)), MetricWrite::Add(id, by)) =
            (self.metrics.last_mut(), write)
            && *last == id
        {
            *sum = sum.saturating_add(by);
            return;
        }
        if self.metrics.len() < limits::METRIC_WRITES_MAX {
            self.metrics.push(write);
        }
    }
}

impl clock::Host for State {
    fn wall_ms(&mut self) -> wasmtime::Result<u64> {
        self.setup_impure("clock")?;
        Ok(self.now.wall_ms)
    }

    fn steady_us(&mut self) -> wasmtime::Result<u64> {
        self.setup_impure("clock")?;
        Ok(self.now.steady_ms.saturating_mul(1_000))
    }
}

impl kv::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let now_ms = self.now.steady_ms;
        Ok(self.setup_impure("kv")?.kv.get(&self.kv, now_ms, &key))
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl_ms: u64) -> wasmtime::Result<bool> {
        let setup = self.setup_impure("kv")?;
        let (kv, counters) = (setup.kv.clone(), setup.counters.clone());
        let taken = kv.put(&mut self.kv, self.now.steady_ms, key, value, ttl_ms);
        Counters::add(&counters.kv_refused, u64::from(!taken));
        Ok(taken)
    }

    fn remove(&mut self, key: String) -> wasmtime::Result<bool> {
        let kv = self.setup_impure("kv")?.kv.clone();
        Ok(kv.remove(&mut self.kv, self.now.steady_ms, key))
    }

    fn add(&mut self, key: String, by: i64, ttl_ms: u64) -> wasmtime::Result<i64> {
        let setup = self.setup_impure("kv")?;
        let (kv, counters) = (setup.kv.clone(), setup.counters.clone());
        let sum = kv.add(&mut self.kv, self.now.steady_ms, key, by, ttl_ms);
        Counters::add(&counters.kv_refused, u64::from(sum.is_none()));
        Ok(sum.unwrap_or(0))
    }

    fn keys(&mut self, prefix: String, limit: u32) -> wasmtime::Result<Vec<String>> {
        let limit = (limit as usize).min(limits::KV_KEYS_MAX);
        let now_ms = self.now.steady_ms;
        Ok(self.setup_impure("kv")?.kv.keys(&self.kv, now_ms, &prefix, limit))
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.memory_bytes + desired.saturating_sub(current);
        if bytes > self.memory_bytes_max {
            // A trap rather than "no": the guest's allocator would only abort
            // without a word.
            return Err(PastMemory { bytes_max: self.memory_bytes_max }.into());
        }
        self.memory_bytes = bytes;
        if let Some(setup) = &self.setup {
            setup.counters.memory_bytes.fetch_max(bytes as u64, Relaxed);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        limits::INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        limits::TABLES_MAX
    }

    fn memories(&self) -> usize {
        limits::MEMORIES_MAX
    }
}
