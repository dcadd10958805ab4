//! Passes by hand, over a disk in memory and a clock that stands still, with real
//! components. A component with another digest but the same behaviour is made by
//! adding a custom section to it.
#![allow(clippy::unwrap_used)]

mod restarts;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use weir_core::env::{Clock, Disk};

use super::*;
use crate::breaker::BreakerState;
use crate::engine::Engine;
use crate::generation::{GenerationState, Running};
use crate::setup::Trouble;
use crate::status::BindingStatus;
use crate::testing::{CountingRandom, ManualClock, MemoryDisk, shipped, variant};

struct Desk {
    disk: Arc<MemoryDisk>,
    clock: Arc<ManualClock>,
    /// What the shards were told: "0 +delivery@2", "1 -delivery".
    installed: Arc<Mutex<Vec<String>>>,
    loader: Loader,
    shelf: Arc<Shelf>,
}

fn desk() -> Desk {
    desk_with(true, shipped())
}

fn desk_with(development: bool, shipped: Vec<ShippedComponent>) -> Desk {
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(MemoryDisk::new(Arc::clone(&clock)));
    desk_over(development, shipped, (clock, disk, Arc::default()))
}

fn desk_over(
    development: bool,
    shipped: Vec<ShippedComponent>,
    (clock, disk, shelf): (Arc<ManualClock>, Arc<MemoryDisk>, Arc<Shelf>),
) -> Desk {
    let port: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(&disk);
    let folders = Folders::open(port, "/d/plugins".into(), "/d/bindings".into(), development);
    let workshop = Workshop {
        engine: Engine::new().unwrap(),
        clock: Arc::<ManualClock>::clone(&clock),
        random: Arc::new(CountingRandom::default()),
        shards: 2,
        trouble: Arc::new(|_| {}),
        compiled: std::collections::HashMap::new(),
    };
    let installed: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&installed);
    let install: Install = Box::new(move |shard, command| {
        let line = match command {
            Command::BindDelivery { binding, policy: Some(policy), .. } => {
                format!("{shard} +{binding}@{}", policy.generation().number)
            }
            Command::BindDelivery { binding, policy: None, .. } => format!("{shard} -{binding}"),
            Command::BindFilter { binding, .. } => format!("{shard} filter {binding}"),
            _ => panic!("not a loader's command"),
        };
        log.lock().unwrap().push(line);
    });
    let archive: Arc<dyn Archive> = Arc::<Shelf>::clone(&shelf);
    let loader = Loader::new(folders.unwrap(), workshop, shipped, install, archive);
    Desk { disk, clock, installed, loader, shelf }
}

/// An archive in memory.
#[derive(Default)]
struct Shelf {
    values: Mutex<BTreeMap<String, Bytes>>,
    blobs: Mutex<BTreeMap<String, Bytes>>,
    puts: AtomicUsize,
    is_full: AtomicBool,
}

impl Archive for Shelf {
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let values = self.values.lock().unwrap();
        let found = values.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn put(&self, key: &str, value: Option<Bytes>) -> bool {
        self.puts.fetch_add(1, Ordering::Relaxed);
        if self.is_full.load(Ordering::Relaxed) {
            return false;
        }
        let mut values = self.values.lock().unwrap();
        match value {
            Some(value) => values.insert(key.to_owned(), value),
            None => values.remove(key),
        };
        true
    }

    fn blob(&self, digest: &str) -> Option<Bytes> {
        self.blobs.lock().unwrap().get(digest).cloned()
    }

    fn put_blob(&self, digest: &str, bytes: Bytes) -> bool {
        self.blobs.lock().unwrap().insert(digest.to_owned(), bytes);
        true
    }
}

impl Desk {
    /// Another process over the same folders and archive.
    fn restart(self) -> Self {
        let over = (self.clock, self.disk, self.shelf);
        let mut desk = desk_over(true, shipped(), over);
        desk.clock.advance(200);
        desk.loader.pass(true);
        desk
    }

    /// Lets files grow old enough and makes a pass.
    fn pass(&mut self) {
        self.clock.advance(200);
        self.loader.pass(false);
    }

    fn status(&self, name: &str) -> BindingStatus {
        let found = self.loader.board().load().status(Some(name));
        found.into_iter().next().unwrap_or_else(|| panic!("no binding {name}"))
    }

    /// State and generation: "active@2".
    fn stand(&self, name: &str) -> String {
        let status = self.status(name);
        let state = serde_json::to_value(status.state).unwrap();
        format!("{}@{}", state.as_str().unwrap(), status.generation)
    }

    fn error(&self, name: &str) -> String {
        self.status(name).error.unwrap_or_default()
    }

    /// Routers of the current chain: binding and generation.
    fn routers(&self) -> Vec<String> {
        let chain = self.loader.chain().load_full();
        let routers = chain.routers().iter();
        routers.map(|r| format!("{}@{}", r.setup().binding, r.setup().generation.number)).collect()
    }

    fn installed(&self) -> Vec<String> {
        std::mem::take(&mut self.installed.lock().unwrap())
    }

    fn compilations(&self) -> u64 {
        self.loader.workshop.engine.compilations()
    }

    /// As the breaker has it when a generation failed too often.
    fn trip(&self, binding: &str) {
        let now_ms = self.clock.now().steady_ms;
        let active = self.loader.records.get(binding).unwrap().active.as_ref().unwrap();
        for breaker in active.running.breakers() {
            (0..3).for_each(|_| {
                breaker.failed(now_ms);
            });
            assert_eq!(breaker.state(now_ms), BreakerState::Open);
        }
    }

    /// A batch goes well, if the policy is called.
    fn work(&self, binding: &str) {
        let now_ms = self.clock.now().steady_ms;
        let active = self.loader.records.get(binding).unwrap().active.as_ref().unwrap();
        for breaker in active.running.breakers().iter().filter(|b| b.admits(now_ms)) {
            breaker.succeeded();
        }
    }

    /// Passes the probation.
    fn settle(&self) {
        self.clock.advance(10_000);
    }

    /// Number of the generation that stands in for the running one.
    fn leans_on(&self, binding: &str) -> Option<u64> {
        let active = self.loader.records.get(binding).unwrap().active.as_ref().unwrap();
        match active.fallback.get()? {
            Running::Router(router) => Some(router.setup().generation.number),
            _ => None,
        }
    }

    fn trouble(&mut self, binding: &str, generation: u64) {
        if self.status(binding).generation == generation {
            self.trip(binding);
        }
        let reason = "it does not stop".to_owned();
        self.loader.trouble(&Trouble {
            binding: binding.into(),
            generation,
            reason,
            probation: true,
        });
    }
}

fn router() -> Vec<u8> {
    shipped().iter().find(|shipped| shipped.name == "subject-router").unwrap().bytes.to_vec()
}

const TO_A: &str =
    "policy='subject-router'\nsubjects=['in.>']\nconfig.rules=[{pattern='in.>',to='a'}]";
const TO_B: &str =
    "policy='subject-router'\nsubjects=['in.>']\nconfig.rules=[{pattern='in.>',to='b'}]";

#[test]
fn the_defaults_are_there_and_a_file_of_their_name_replaces_them() {
    let mut desk = desk();
    desk.loader.pass(true);
    assert_eq!(desk.stand("default-router"), "active@1");
    assert_eq!(desk.stand("default-delivery"), "active@1");
    assert_eq!(desk.installed(), ["0 +default-delivery@1", "1 +default-delivery@1"]);
    assert_eq!(desk.routers(), ["default-router@1"]);
    assert_eq!(desk.status("default-router").origin, Origin::Default);

    desk.disk.write("/d/bindings/default-router.toml", TO_A);
    desk.pass();
    assert_eq!(desk.stand("default-router"), "active@2");
    assert_eq!(desk.status("default-router").subjects, ["in.>"]);
    desk.disk.write("/d/bindings/default-router.toml", "policy='subject-router'");
    desk.pass();
    assert_eq!(desk.stand("default-router"), "kept@2", "a broken file evicts nobody");
    desk.disk.remove("/d/bindings/default-router.toml");
    desk.pass();
    assert_eq!(desk.stand("default-router"), "active@3");
    assert_eq!(desk.status("default-router").subjects, [">"]);
    assert!(desk.installed().is_empty(), "delivery was not touched");
}

#[test]
fn a_broken_file_over_a_default_at_start_leaves_the_default() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/default-router.toml", "policy='subject-router'\nordr=3");
    desk.loader.pass(true);
    assert_eq!(desk.stand("default-router"), "kept@1");
    assert!(desk.error("default-router").contains("did you mean `order`?"));
    assert_eq!(desk.routers(), ["default-router@1"]);
    desk.pass();
    assert_eq!(desk.stand("default-router"), "kept@1");
}

#[test]
fn a_dropped_component_acts_is_replaced_survives_a_broken_one_and_goes() {
    let mut desk = desk();
    desk.loader.pass(true);
    let name = "mine";
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.loader.pass(false);
    assert_eq!(desk.stand(name), "waiting@0");
    desk.pass();
    assert_eq!(desk.stand(name), "active@1");
    assert_eq!(desk.routers(), ["mine@1", "default-router@1"]);
    assert_eq!(desk.status(name).origin, Origin::Automatic);
    assert_eq!(desk.status(name).on_failure, "pass");

    desk.disk.write("/d/plugins/mine.wasm", variant(&router(), 1));
    desk.pass();
    assert_eq!(desk.stand(name), "active@2");
    let second = desk.status(name).digest;

    desk.disk.write("/d/plugins/mine.wasm", "no component at all");
    desk.pass();
    assert_eq!(desk.stand(name), "kept@2");
    assert_eq!(desk.error(name), "mine.wasm: this is not a WebAssembly file");
    assert_eq!(desk.status(name).digest, second);
    desk.disk.write("/d/plugins/mine.wasm", variant(b"\0asm\x0d\0\x01\0", 1));
    desk.pass();
    assert!(
        desk.error(name).contains("it exports no weir:policy/lifecycle"),
        "{}",
        desk.error(name)
    );
    assert_eq!(desk.stand(name), "kept@2");

    desk.disk.write("/d/plugins/mine.wasm", variant(&router(), 3));
    desk.pass();
    assert_eq!(desk.stand(name), "active@3");
    assert_eq!(desk.error(name), "");

    desk.disk.remove("/d/plugins/mine.wasm");
    desk.pass();
    assert_eq!(desk.stand(name), "removed@0");
    assert_eq!(desk.routers(), ["default-router@1"]);
    let all = desk.loader.board().load().status(None);
    assert!(all.iter().all(|status| status.name != name));
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.pass();
    assert_eq!(desk.stand(name), "active@4", "numbers are not used again");
    assert_eq!(desk.status(name).history.len(), 4);
}

#[test]
fn a_half_written_replacement_waits_and_then_acts() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.loader.pass(true);
    assert_eq!(desk.stand("mine"), "active@1");
    let next = variant(&router(), 1);
    desk.disk.write("/d/plugins/mine.wasm", &next[..next.len() / 2]);
    desk.pass();
    assert_eq!(desk.stand("mine"), "active@1");
    desk.clock.advance(10_000);
    desk.pass();
    assert_eq!(desk.stand("mine"), "kept@1");
    assert!(desk.error("mine").contains("copy it again"), "{}", desk.error("mine"));
    desk.disk.write("/d/plugins/mine.wasm", next);
    desk.pass();
    assert_eq!(desk.stand("mine"), "active@2");
}

#[test]
fn a_new_component_that_is_half_written_is_no_failure() {
    let mut desk = desk();
    desk.loader.pass(true);
    desk.disk.write("/d/plugins/mine.wasm", &router()[..1_000]);
    desk.pass();
    assert_eq!(desk.stand("mine"), "waiting@0");
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.pass();
    assert_eq!(desk.stand("mine"), "active@1");
}

#[test]
fn a_binding_changes_its_configuration_without_compiling() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    let compiled = desk.compilations();
    assert_eq!(desk.stand("in"), "active@1");
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert_eq!(desk.stand("in"), "active@2");
    assert_eq!(desk.compilations(), compiled);
    let history = desk.status("in").history;
    assert_eq!(history[0].state, GenerationState::Retired);
    assert_eq!(history[1].state, GenerationState::Active);
    assert_eq!(history[0].digest, history[1].digest);
}

#[test]
fn one_content_is_compiled_once() {
    let mut desk = desk();
    for binding in ["a", "b", "c"] {
        desk.disk.write(&format!("/d/bindings/{binding}.toml"), TO_A);
    }
    desk.disk.write("/d/plugins/copy.wasm", router());
    let exports_nothing = variant(b"\0asm\x0d\0\x01\0", 1);
    desk.disk.write("/d/plugins/bad.wasm", exports_nothing);
    desk.loader.pass(true);
    for _ in 0..5 {
        desk.clock.advance(31_000);
        desk.pass();
    }
    // Subject router, at-least-once, and the one that is no policy.
    assert_eq!(desk.compilations(), 3);
    assert_eq!(desk.loader.counters.activations, 6);
    assert_eq!(desk.loader.counters.refusals, 1);
}

#[test]
fn a_bad_configuration_is_named_and_the_old_one_stays() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    let bad = "policy='subject-router'\nsubjects=['in.>']\nconfig.rules=[{pattern=7,to='a'}]";
    desk.disk.write("/d/bindings/in.toml", bad);
    desk.pass();
    assert_eq!(desk.stand("in"), "kept@1");
    let error = desk.error("in");
    assert!(error.starts_with("config.rules[0]"), "{error}");
    assert!(!error.contains('\n'));
    let refusals = desk.loader.counters.refusals;
    desk.pass();
    assert_eq!(desk.loader.counters.refusals, refusals, "not tried again before it changes");
}

#[test]
fn several_candidates_that_are_refused_are_tried_once_each() {
    let (name, bytes) =
        weir_shipped::SHIPPED.iter().find(|(name, _)| *name == "headers-router").unwrap();
    let shipped = ShippedComponent { name: (*name).into(), bytes: Bytes::from_static(bytes) };
    let mut desk = desk_with(true, vec![shipped]);
    desk.disk.write("/d/plugins/headers-router.wasm", variant(bytes, 1));
    let binding = "policy='headers-router'\nsubjects=['in.>']";
    desk.disk.write("/d/bindings/in.toml", format!("{binding}\nconfig.wrong=1"));
    desk.loader.pass(true);
    let counts = |desk: &Desk| (desk.loader.counters.refusals, desk.compilations());
    assert_eq!((desk.stand("in"), counts(&desk)), ("failed@0".into(), (2, 2)));
    for _ in 0..3 {
        desk.clock.advance(31_000);
        desk.pass();
    }
    assert_eq!((desk.stand("in"), counts(&desk)), ("failed@0".into(), (2, 2)));
    desk.disk.write("/d/bindings/in.toml", binding);
    desk.pass();
    assert_eq!((desk.stand("in"), counts(&desk)), ("active@1".into(), (2, 2)));
}

#[test]
fn an_unknown_policy_is_named_with_the_nearest_one() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", "policy='subject-rooter'\nsubjects=['>']");
    desk.loader.pass(true);
    assert_eq!(desk.stand("in"), "failed@0");
    assert!(desk.error("in").contains("did you mean `subject-router`?"), "{}", desk.error("in"));
}

#[test]
fn a_role_the_component_does_not_have_is_named() {
    let mut desk = desk();
    let wrong = "policy='subject-router'\nrole='delivery'\nqueues=['*']";
    desk.disk.write("/d/bindings/in.toml", wrong);
    desk.loader.pass(true);
    assert_eq!(desk.error("in"), "`subject-router` is no delivery, it is a router");
}

#[test]
fn a_plugin_that_goes_leaves_its_binding_running() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.disk.write("/d/bindings/in.toml", "policy='mine'\nsubjects=['in.>']");
    desk.loader.pass(true);
    assert_eq!(desk.stand("in"), "active@1");
    assert_eq!(desk.routers(), ["in@1", "default-router@1"], "no automatic binding beside it");
    desk.disk.remove("/d/plugins/mine.wasm");
    desk.pass();
    assert_eq!(desk.stand("in"), "kept@1");
    assert!(desk.error("in").contains("plugin `mine` is gone"), "{}", desk.error("in"));
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.pass();
    assert_eq!(desk.stand("in"), "active@1", "the same content is the same generation");
    desk.disk.remove("/d/bindings/in.toml");
    desk.pass();
    assert_eq!(desk.stand("in"), "removed@0");
    assert_eq!(desk.stand("mine"), "active@1", "now it binds itself");
}

#[test]
fn a_binding_takes_over_from_an_automatic_one_once_it_runs() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.loader.pass(true);
    desk.disk.write("/d/bindings/in.toml", "policy='mine'\nsubjects=['in.>']\nconfig.wrong=1");
    desk.pass();
    assert_eq!(desk.stand("in"), "failed@0");
    assert_eq!(desk.stand("mine"), "active@1", "it stays while the other does not run");
    desk.disk.write("/d/bindings/in.toml", "policy='mine'\nsubjects=['in.>']");
    desk.pass();
    assert_eq!(desk.stand("in"), "active@1");
    assert_eq!(desk.stand("mine"), "removed@0", "in the same pass");
}

#[test]
fn a_renamed_binding_does_not_become_an_automatic_one() {
    let mut desk = desk();
    let toml = "policy='mine'\nsubjects=['in.>']";
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.disk.write("/d/bindings/mine.toml", toml);
    desk.loader.pass(true);
    assert_eq!(desk.stand("mine"), "active@1");
    desk.disk.remove("/d/bindings/mine.toml");
    desk.disk.write("/d/bindings/renamed.toml", toml);
    desk.pass();
    assert_eq!(
        (desk.stand("mine"), desk.stand("renamed")),
        ("removed@0".into(), "active@1".into())
    );
}

#[test]
fn a_bare_component_whose_name_is_another_bindings_is_told_of() {
    let mut desk = desk();
    let file = "plugins/default-router.wasm";
    desk.disk.write("/d/plugins/default-router.wasm", variant(&router(), 1));
    desk.loader.pass(true);
    assert!(desk.error(file).contains("another name"), "{}", desk.error(file));
    desk.disk.write("/d/bindings/in.toml", "policy='default-router'\nsubjects=['in.>']");
    desk.pass();
    assert_eq!(desk.stand("in"), "active@1");
    assert!(desk.loader.board().load().status(Some(file)).is_empty(), "a binding names it");
}

#[test]
fn a_binding_that_is_being_written_may_name_the_component() {
    let mut desk = desk();
    let file = "plugins/default-router.wasm";
    let is_told = |desk: &Desk| !desk.loader.board().load().status(Some(file)).is_empty();
    let other = "policy='header-filter'\nsubjects=['in.>']";
    desk.disk.write("/d/plugins/default-router.wasm", variant(&router(), 1));
    desk.clock.advance(200);
    desk.disk.write("/d/bindings/in.toml", other);
    desk.loader.pass(false);
    assert!(!is_told(&desk), "it may name it");
    desk.pass();
    assert!(is_told(&desk), "it names another");
    desk.disk.write("/d/bindings/in.toml", format!("{other}\n"));
    desk.loader.pass(false);
    assert!(is_told(&desk), "what was told stays");
}

#[test]
fn production_takes_plugins_with_a_manifest_only() {
    let mut desk = desk_with(false, shipped());
    desk.disk.write("/d/plugins/bare.wasm", router());
    desk.disk.write("/d/plugins/subject-router/r.wasm", variant(&router(), 1));
    let digest = sha256_hex(&variant(&router(), 1));
    let manifest = |version: &str| {
        format!("name='subject-router'\nversion='{version}'\ncomponent='r.wasm'\nsha256='{digest}'")
    };
    desk.disk.write("/d/plugins/subject-router/plugin.toml", manifest("9.9.9"));
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    let problem = desk.status("plugins/bare.wasm");
    assert_eq!(problem.state, BindingState::Failed);
    assert!(problem.error.unwrap().contains("development mode only"));
    assert_eq!(desk.stand("in"), "kept@1", "the shipped one of that name stands in at start");
    assert!(desk.error("in").contains("plugin.toml says 9.9.9"), "{}", desk.error("in"));
    assert_eq!(desk.status("in").source, Some(Source::Shipped));

    let version = desk.status("in").version;
    desk.disk.write("/d/plugins/subject-router/plugin.toml", manifest(&version));
    desk.pass();
    assert_eq!(desk.stand("in"), "active@2");
    assert_eq!(desk.status("in").source, Some(Source::Folder));
    assert_eq!(desk.status("in").digest, digest);
}

#[test]
fn a_rollback_is_remembered_until_a_file_changes() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    let nothing = desk.loader.rollback("in").unwrap_err();
    assert_eq!(nothing, RollbackError::NothingBefore("in".to_owned()));
    assert_eq!(desk.stand("in"), "active@1");
    assert_eq!(desk.loader.rollback("on").unwrap_err(), RollbackError::NoBinding("on".to_owned()));

    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    let compiled = desk.compilations();
    desk.loader.rollback("in").unwrap();
    assert_eq!(desk.compilations(), compiled);
    assert_eq!(desk.stand("in"), "rolled-back@3");
    assert_eq!(desk.status("in").config["rules"][0]["to"], "a");
    let history = desk.status("in").history;
    assert_eq!(history[1].state, GenerationState::RolledBack);
    assert_eq!(history[2].rolled_back_from, Some(2));
    for _ in 0..3 {
        desk.clock.advance(31_000);
        desk.pass();
    }
    assert_eq!(desk.stand("in"), "rolled-back@3", "what lies on disk stays out");

    desk.loader.rollback("in").unwrap();
    assert_eq!(desk.status("in").config["rules"][0]["to"], "b", "a second one undoes the first");
    desk.loader.rollback("in").unwrap();
    assert_eq!(desk.stand("in"), "rolled-back@5");
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert_eq!(desk.stand("in"), "active@6", "written again, it is meant");
}

#[test]
fn trouble_goes_back_once() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    desk.trouble("in", 1);
    assert_eq!(desk.stand("in"), "active@2", "late word of a generation that is gone");
    desk.trouble("in", 2);
    assert_eq!(desk.stand("in"), "rolled-back@3");
    assert!(desk.error("in").contains("it does not stop"), "{}", desk.error("in"));
    assert_eq!(desk.status("in").history[1].state, GenerationState::Failed);
    desk.pass();
    assert_eq!(desk.stand("in"), "rolled-back@3");
    desk.trouble("in", 3);
    assert_eq!(desk.stand("in"), "failing@3", "it stays, and its failure rule applies");
    assert!(desk.error("in").contains("failure rule applies (refuse)"), "{}", desk.error("in"));
    desk.pass();
    assert_eq!(desk.stand("in"), "failing@3");
    let third = "policy='subject-router'\nsubjects=['in.>']\n";
    desk.disk.write("/d/bindings/in.toml", third);
    desk.pass();
    assert_eq!(desk.stand("in"), "active@4");
}

#[test]
fn a_binding_is_failing_for_as_long_as_it_fails() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.settle();
    assert_eq!(desk.status("in").breaker, Some(BreakerState::Closed));
    desk.trouble("in", 1);
    assert_eq!(desk.stand("in"), "failing@1");
    assert_eq!(desk.status("in").breaker, Some(BreakerState::Open));
    desk.pass();
    assert_eq!(desk.stand("in"), "failing@1");
    desk.clock.advance(1_000);
    assert_eq!(desk.status("in").breaker, Some(BreakerState::HalfOpen));
    assert_eq!(desk.stand("in"), "failing@1", "nothing has gone well yet");
    desk.work("in");
    assert_eq!(desk.stand("in"), "active@1", "before the loader looks again");
    assert_eq!(desk.error("in"), "");
    assert_eq!(desk.status("in").breaker, Some(BreakerState::Closed));
    desk.pass();
    assert_eq!(desk.stand("in"), "active@1");
    desk.trouble("in", 1);
    assert_eq!(desk.stand("in"), "failing@1", "and once more");
}

#[test]
fn what_was_true_of_a_failing_binding_is_true_of_it_afterwards() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.settle();
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    desk.trouble("in", 2);
    let error = desk.error("in");
    desk.trouble("in", 3);
    assert_eq!(desk.stand("in"), "failing@3");
    // A file that cannot be used changes nothing about that.
    desk.disk.write("/d/bindings/in.toml", "policy=");
    desk.pass();
    assert_eq!(desk.stand("in"), "failing@3");
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.pass();
    desk.clock.advance(10_000);
    desk.work("in");
    assert_eq!(desk.stand("in"), "active@3");
    assert!(error.contains("generation 2 failed"), "{error}");
}

#[test]
fn a_generation_replaced_within_its_probation_is_no_last_good_one() {
    let mut desk = desk();
    let to = |to: &str| TO_A.replace("to='a'", &format!("to='{to}'"));
    desk.disk.write("/d/bindings/in.toml", to("good"));
    desk.loader.pass(true);
    desk.settle();
    for (number, name) in (2..).zip(["x", "y", "z"]) {
        desk.disk.write("/d/bindings/in.toml", to(name));
        desk.pass();
        assert_eq!(desk.stand("in"), format!("active@{number}"));
        assert_eq!(desk.leans_on("in"), Some(1), "the one that is known to work");
    }
    desk.trouble("in", 4);
    assert_eq!(desk.stand("in"), "rolled-back@5");
    assert_eq!(desk.status("in").config["rules"][0]["to"], "good");
}

#[test]
fn the_operator_goes_back_to_the_generation_before_whatever_is_known_of_it() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.settle();
    for to in ["x", "y"] {
        desk.disk.write("/d/bindings/in.toml", TO_A.replace("to='a'", &format!("to='{to}'")));
        desk.pass();
    }
    desk.loader.rollback("in").unwrap();
    assert_eq!(desk.status("in").config["rules"][0]["to"], "x");
}

#[test]
fn a_generation_that_fails_is_nothing_to_go_back_to() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.trouble("in", 1);
    assert_eq!(desk.stand("in"), "failing@1");
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert_eq!((desk.stand("in").as_str(), desk.leans_on("in")), ("active@2", None));
    desk.trouble("in", 2);
    assert_eq!(desk.stand("in"), "failing@2");
}

#[test]
fn a_dropped_in_component_that_never_worked_is_taken_out() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/mine.wasm", router());
    desk.loader.pass(true);
    assert_eq!(desk.routers(), ["mine@1", "default-router@1"]);
    desk.trouble("mine", 1);
    assert_eq!(desk.stand("mine"), "failed@0");
    assert_eq!(desk.routers(), ["default-router@1"]);
    assert!(desk.error("mine").contains("taken out: it does not stop"));
    desk.pass();
    assert_eq!(desk.stand("mine"), "failed@0");
    assert!(desk.error("mine").contains("taken out"));
    desk.disk.write("/d/plugins/mine.wasm", variant(&router(), 1));
    desk.pass();
    assert_eq!(desk.stand("mine"), "active@2");
}

#[test]
fn delivery_reaches_every_shard_and_leaves_it_again() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/mail.toml", "policy='at-least-once'\nqueues=['mail-*']");
    desk.loader.pass(true);
    let mut installed = desk.installed();
    installed.retain(|line| line.contains("mail"));
    assert_eq!(installed, ["0 +mail@1", "1 +mail@1"]);
    let changed = "policy='at-least-once'\nqueues=['mail-*']\norder=3";
    desk.disk.write("/d/bindings/mail.toml", changed);
    desk.pass();
    assert_eq!(desk.installed(), ["0 +mail@2", "1 +mail@2"]);
    assert_eq!(desk.status("mail").order, 3);
    desk.trouble("mail", 2);
    assert_eq!(desk.installed(), ["0 +mail@3", "1 +mail@3"]);
    desk.trouble("mail", 3);
    assert!(desk.error("mail").contains("built-in at-least-once plan"), "{}", desk.error("mail"));
    assert!(desk.installed().is_empty());
    desk.disk.write("/d/bindings/mail.toml", TO_A);
    desk.pass();
    assert_eq!(desk.stand("mail"), "active@4");
    assert_eq!(desk.installed(), ["0 -mail", "1 -mail"], "another role takes the instances away");
    desk.disk.remove("/d/bindings/mail.toml");
    desk.pass();
    assert!(desk.installed().is_empty());
}

#[test]
fn a_folder_swapped_by_link_acts() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/.v1/mine.wasm", router());
    desk.disk.write("/d/plugins/.v2/mine.wasm", variant(&router(), 2));
    desk.disk.link("/d/plugins/.now", ".v1");
    desk.disk.link("/d/plugins/mine.wasm", ".now/mine.wasm");
    desk.loader.pass(true);
    assert_eq!(desk.stand("mine"), "active@1");
    desk.disk.link("/d/plugins/.now", ".v2");
    desk.pass();
    assert_eq!(desk.stand("mine"), "active@2");
    desk.disk.rename("/d/plugins/mine.wasm", "/d/plugins/other.wasm");
    desk.pass();
    assert_eq!(desk.stand("mine"), "removed@0");
    assert_eq!(desk.stand("other"), "active@1");
}

#[test]
fn state_and_counters_outlive_their_generation() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    let kv = |desk: &Desk| {
        let record = desk.loader.records.get("in").unwrap();
        Arc::clone(&record.active.as_ref().unwrap().good.kv)
    };
    let before = kv(&desk);
    let counters = |desk: &Desk, index: usize| {
        Arc::clone(&desk.loader.records.get("in").unwrap().history[index].counters)
    };
    counters(&desk, 0).rows.store(7, std::sync::atomic::Ordering::Relaxed);
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert!(Arc::ptr_eq(&before, &kv(&desk)));
    counters(&desk, 1).rows.store(5, std::sync::atomic::Ordering::Relaxed);
    // Counted after the pass: the status reads when it is asked.
    counters(&desk, 0).rows.store(8, std::sync::atomic::Ordering::Relaxed);
    let status = desk.status("in");
    assert_eq!(status.totals.rows, 13);
    assert_eq!([status.history[0].counters.rows, status.history[1].counters.rows], [8, 5]);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["rows"], 13);
    assert_eq!(json["history"][0]["rows"], 8);
    assert_eq!(json["state"], "active");
}

#[test]
fn a_file_that_cannot_be_used_is_counted_once() {
    let mut desk = desk();
    let count = |desk: &Desk| desk.loader.board().load().counters.file_problems;
    desk.loader.pass(true);
    assert_eq!(count(&desk), 0);
    desk.disk.write("/d/plugins/lost/lost.wasm", router());
    desk.disk.write("/d/plugins/odd/plugin.toml", "name = ");
    desk.disk.write("/d/plugins/mine.wasm", "nonsense");
    desk.disk.write("/d/bindings/in.toml", "policy = ");
    desk.clock.advance(10_000);
    desk.pass();
    assert_eq!(count(&desk), 4);
    for _ in 0..3 {
        desk.clock.advance(31_000);
        desk.pass();
    }
    assert_eq!(count(&desk), 4, "nothing new");
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.pass();
    assert_eq!((count(&desk), desk.stand("in")), (4, "active@1".into()));
    desk.disk.write("/d/bindings/in.toml", "policy = 7");
    desk.pass();
    assert_eq!(count(&desk), 5);
}

#[test]
fn policies_are_listed_with_who_runs_them() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/bad.wasm", "nonsense");
    desk.loader.pass(true);
    let policies = desk.loader.board().load().policies.clone();
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["at-least-once", "bad", "subject-router"]);
    assert_eq!(policies[2].bindings, ["default-router"]);
    assert_eq!(policies[2].roles, ["router"]);
    assert_eq!(policies[1].problem.as_deref(), Some("this is not a WebAssembly file"));
}
