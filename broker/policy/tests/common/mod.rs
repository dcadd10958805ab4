//! What tests of the runtime share: a clock to turn by hand, messages, bindings.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use weir_core::env::{Clock, Now, Random};
use weir_core::name::Pattern;
use weir_core::policy::{Generation, Powers};
use weir_message::{Parts, parse};
use weir_policy::component::Component;
use weir_policy::counters::CountersSnapshot;
use weir_policy::engine::Engine;
use weir_policy::filter::FilterBinding;
use weir_policy::judge::{JudgeInput, Judged, RowVerdict};
use weir_policy::log::PolicyLog;
use weir_policy::router::RouterBinding;
use weir_policy::setup::{CallLimits, FailureRule, Role, Setup, Stage, Trouble};

/// A clock turned by hand, or one that runs.
pub struct TestClock {
    offset_ms: AtomicU64,
    started: Option<std::time::Instant>,
}

impl TestClock {
    pub fn manual(steady_ms: u64) -> Arc<Self> {
        Arc::new(Self { offset_ms: AtomicU64::new(steady_ms), started: None })
    }

    pub fn running() -> Arc<Self> {
        let started = Some(std::time::Instant::now());
        Arc::new(Self { offset_ms: AtomicU64::new(1), started })
    }

    pub fn advance(&self, by_ms: u64) {
        self.offset_ms.fetch_add(by_ms, Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let ran_ms = self.started.map_or(0, |started| started.elapsed().as_millis() as u64);
        let steady_ms = self.offset_ms.load(Relaxed) + ran_ms;
        Now { steady_ms, wall_ms: 1_700_000_000_000 + steady_ms }
    }
}

/// Counts up: seeds that differ and are the same in every run.
pub struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)
    }
}

pub fn random() -> Arc<dyn Random> {
    Arc::new(TestRandom(AtomicU64::new(7)))
}

pub fn all_powers() -> Powers {
    Powers { drop: true, dead_letter: true, rewrite: true, retarget: true, transient: true }
}

/// What [`Bench::setup`] reported.
pub type Troubles = Arc<Mutex<Vec<Trouble>>>;

/// An engine with a clock, to make bindings from.
pub struct Bench {
    pub engine: Engine,
    pub clock: Arc<TestClock>,
    pub troubles: Troubles,
}

impl Bench {
    pub fn new(clock: Arc<TestClock>) -> Self {
        Self { engine: Engine::new().unwrap(), clock, troubles: Troubles::default() }
    }

    pub fn shipped(&self, name: &str) -> Arc<Component> {
        let (_, bytes) = weir_shipped::SHIPPED.iter().find(|(n, _)| *n == name).unwrap();
        Component::load(&self.engine, bytes).unwrap()
    }

    /// The guest in `tests/guests/<name>`, as a component.
    pub fn guest(&self, name: &str) -> Arc<Component> {
        Component::load(&self.engine, &guest_bytes(name)).unwrap()
    }

    pub fn setup(&self, role: Role, generation: u64, config_json: &str) -> Setup {
        let troubles = self.troubles.clone();
        Setup {
            binding: "tested".into(),
            role,
            stage: Stage::Publish,
            generation: Generation { number: generation, digest: "00".into() },
            subjects: vec![Pattern::parse(">").unwrap()],
            order: 100,
            config_json: config_json.to_owned(),
            powers: all_powers(),
            limits: CallLimits::default(),
            on_failure: FailureRule::Refuse,
            shard: 0,
            shards: 1,
            kv: Arc::default(),
            counters: Arc::default(),
            metrics: Arc::default(),
            log: Arc::new(PolicyLog::new("tested".into())),
            random: random(),
            clock: self.clock.clone(),
            trouble: Some(Arc::new(move |trouble| troubles.lock().unwrap().push(trouble))),
        }
    }

    pub fn router(&self, component: &Arc<Component>, config_json: &str) -> Arc<RouterBinding> {
        let setup = self.setup(Role::Router, 1, config_json);
        Arc::new(RouterBinding::new(component.clone(), setup, None).unwrap())
    }

    pub fn filter(&self, component: &Arc<Component>, config_json: &str) -> Arc<FilterBinding> {
        let setup = self.setup(Role::Filter, 1, config_json);
        Arc::new(FilterBinding::new(component.clone(), setup, None).unwrap())
    }
}

/// The component of the guest in `tests/guests/<name>`, built from its source.
pub fn guest_bytes(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests").join(name);
    let target = weir_guests::target_folder();
    let toolchain = weir_guests::toolchain().unwrap();
    weir_toolchain::build(&folder, toolchain, &target, &target).unwrap().component
}

/// Messages laid end to end, as a read buffer holds them.
#[derive(Default)]
pub struct Messages {
    pub buffer: Vec<u8>,
    pub parts: Vec<Parts>,
}

impl Messages {
    pub fn of(messages: &[(&str, &str)]) -> Self {
        let mut all = Self::default();
        for (subject, payload) in messages {
            all.push(subject, b"", payload.as_bytes());
        }
        all
    }

    pub fn push(&mut self, subject: &str, key: &[u8], payload: &[u8]) {
        self.push_with(subject, key, &[], payload);
    }

    pub fn push_with(&mut self, subject: &str, key: &[u8], headers: &[u8], payload: &[u8]) {
        let at = self.buffer.len();
        weir_message::encode(&mut self.buffer, subject, key, headers, payload);
        self.parts.push(parse(&self.buffer, at).unwrap());
    }

    pub fn input(&self, now: Now) -> JudgeInput<'_> {
        JudgeInput { buffer: &self.buffer, parts: &self.parts, publisher: 9, now }
    }
}

/// A verdict as text, with what the copies hold.
pub fn show(judged: &Judged, row: usize) -> String {
    let bytes = |place: weir_policy::judge::Place| match place {
        weir_policy::judge::Place::Input => "as published".to_owned(),
        weir_policy::judge::Place::Rewritten { start, end } => {
            let message = &judged.rewritten()[start as usize..end as usize];
            let view = weir_message::View::of(message).unwrap();
            format!("{}={}", view.subject, String::from_utf8_lossy(view.payload))
        }
    };
    match judged.row(row) {
        RowVerdict::Same => "same".to_owned(),
        RowVerdict::Dropped => "dropped".to_owned(),
        RowVerdict::Refused(refusal) => {
            format!("refused {:?} by {}: {}", refusal.code, refusal.generation, refusal.reason)
        }
        RowVerdict::Diverted { queue, reason, place } => {
            format!("to {queue}: {reason} [{}]", bytes(place))
        }
        RowVerdict::Picks(picks) => {
            let pick = |pick: &weir_policy::judge::Pick| {
                let delay = if pick.delay_ms > 0 {
                    format!(" after {}", pick.delay_ms)
                } else {
                    String::new()
                };
                let target = &judged.targets()[pick.target as usize];
                format!("{target} [{}]{delay}", bytes(pick.place))
            };
            picks.iter().map(pick).collect::<Vec<_>>().join(", ")
        }
    }
}

pub fn shown(judged: &Judged) -> Vec<String> {
    (0..judged.len()).map(|row| show(judged, row)).collect()
}

pub fn counts(setup: &Setup) -> CountersSnapshot {
    setup.counters.snapshot()
}
