//! Scans of a disk in memory, with a clock that stands still.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use weir_core::env::Clock;

use super::*;
use crate::settle::sha256_hex;
use crate::testing::{ManualClock, MemoryDisk};

struct Desk {
    disk: Arc<MemoryDisk>,
    clock: Arc<ManualClock>,
    folders: Folders,
}

fn desk(development: bool) -> Desk {
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(MemoryDisk::new(Arc::clone(&clock)));
    let port: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(&disk);
    let folders = Folders::open(port, "/d/plugins".into(), "/d/bindings".into(), development);
    Desk { disk, clock, folders: folders.unwrap() }
}

impl Desk {
    fn scan(&mut self) -> Scan {
        self.folders.scan(self.clock.now(), false).unwrap()
    }

    /// "whole", or what is said of the plugin.
    fn plugin(&mut self, name: &str) -> String {
        match self.scan().plugins.get(name).map(|plugin| plugin.standing.clone()) {
            None => "none".to_owned(),
            Some(Standing::Whole(code)) => format!("whole {}", code.bytes.len()),
            Some(Standing::Waiting(why)) => format!("waiting: {why}"),
            Some(Standing::Broken(why)) => format!("broken: {why}"),
        }
    }
}

/// The frame of a component with one section of `len` bytes.
fn component(len: u8) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0\x00".to_vec();
    bytes.push(len);
    bytes.extend(std::iter::repeat_n(len, usize::from(len)));
    bytes
}

fn manifest(name: &str, component: &[u8]) -> String {
    let digest = sha256_hex(component);
    format!(
        "name='{name}'\nversion='1.0.0'\ncomponent='c.wasm'\nsha256='{digest}'\nsize={}\n",
        component.len()
    )
}

#[test]
fn a_bare_component_is_taken_when_it_has_stood_still() {
    let mut desk = desk(true);
    desk.disk.write("/d/plugins/geo.wasm", component(9));
    assert_eq!(desk.plugin("geo"), "waiting: the file is being written");
    assert_eq!(desk.scan().due_ms, Some(desk.clock.now().steady_ms + 150));
    desk.clock.advance(149);
    assert_eq!(desk.plugin("geo"), "waiting: the file is being written");
    assert_eq!(desk.disk.reads(), 0, "nothing is opened before");
    desk.clock.advance(1);
    assert_eq!(desk.plugin("geo"), "whole 19");
    assert_eq!(desk.scan().due_ms, None);
}

#[test]
fn a_file_that_never_stands_still_is_looked_at_in_the_end() {
    let mut desk = desk(true);
    for _ in 0..20 {
        desk.disk.write("/d/plugins/geo.wasm", component(9));
        assert!(desk.plugin("geo").starts_with("waiting"));
        desk.clock.advance(100);
    }
    desk.disk.write("/d/plugins/geo.wasm", component(9));
    assert_eq!(desk.plugin("geo"), "whole 19");
}

#[test]
fn an_old_file_is_taken_at_once_and_read_once() {
    let mut desk = desk(true);
    desk.disk.write("/d/plugins/geo.wasm", component(9));
    desk.clock.advance(60_000);
    assert_eq!(desk.plugin("geo"), "whole 19");
    assert_eq!(desk.plugin("geo"), "whole 19");
    assert_eq!(desk.disk.reads(), 1);
    desk.disk.write("/d/plugins/geo.wasm", component(10));
    desk.clock.advance(150);
    assert_eq!(desk.plugin("geo"), "whole 20");
}

#[test]
fn a_half_written_file_is_waited_for_and_then_reported() {
    let mut desk = desk(true);
    let whole = component(100);
    desk.disk.write("/d/plugins/geo.wasm", &whole[..50]);
    desk.clock.advance(200);
    let waiting = desk.plugin("geo");
    assert!(waiting.contains("ends after 50 bytes but needs at least 110"), "{waiting}");
    assert!(waiting.starts_with("waiting"), "{waiting}");
    desk.clock.advance(9_000);
    assert!(desk.plugin("geo").starts_with("waiting"));
    desk.clock.advance(1_000);
    assert!(desk.plugin("geo").starts_with("broken: the file ends after 50 bytes"));
    desk.disk.write("/d/plugins/geo.wasm", whole);
    desk.clock.advance(150);
    assert_eq!(desk.plugin("geo"), "whole 110");
}

#[test]
fn garbage_is_named_at_once() {
    let mut desk = desk(true);
    desk.disk.write("/d/plugins/geo.wasm", "hello");
    desk.clock.advance(150);
    assert_eq!(desk.plugin("geo"), "broken: this is not a WebAssembly file");
}

#[test]
fn a_manifest_settles_whether_the_component_is_whole() {
    let mut desk = desk(false);
    let whole = component(50);
    desk.disk.write("/d/plugins/geo/c.wasm", &whole[..20]);
    desk.disk.write("/d/plugins/geo/plugin.toml", manifest("geo", &whole));
    desk.clock.advance(200);
    let waiting = desk.plugin("geo");
    assert!(waiting.starts_with("waiting: c.wasm has 20 bytes with sha256"), "{waiting}");
    desk.disk.write("/d/plugins/geo/c.wasm", &*whole);
    assert_eq!(desk.plugin("geo"), "whole 60", "the digest is enough, no quiet time is needed");

    // The next version: component first, manifest renamed over the old one.
    let next = component(60);
    desk.disk.write("/d/plugins/geo/c.wasm", &*next);
    assert!(desk.plugin("geo").starts_with("waiting"));
    desk.disk.write("/d/plugins/geo/.plugin.toml.new", manifest("geo", &next));
    desk.disk.rename("/d/plugins/geo/.plugin.toml.new", "/d/plugins/geo/plugin.toml");
    desk.clock.advance(150);
    assert_eq!(desk.plugin("geo"), "whole 70");

    desk.disk.remove("/d/plugins/geo/c.wasm");
    assert!(desk.plugin("geo").starts_with("waiting: plugin.toml names c.wasm"));
    desk.clock.advance(10_000);
    assert!(desk.plugin("geo").starts_with("broken: plugin.toml names c.wasm"));
}

#[test]
fn a_manifest_with_a_mistake_is_named() {
    let mut desk = desk(false);
    desk.disk.write("/d/plugins/geo/c.wasm", component(5));
    desk.disk.write("/d/plugins/geo/plugin.toml", "name='geo'\nversoin='1.0.0'");
    desk.clock.advance(150);
    let broken = desk.plugin("geo");
    assert_eq!(broken, "broken: plugin.toml: `version` is missing");
}

#[test]
fn pipes_are_never_opened_and_links_do_not_lead_out() {
    let mut desk = desk(true);
    desk.disk.pipe("/d/plugins/pipe.wasm");
    desk.disk.write("/elsewhere/evil.wasm", component(5));
    desk.disk.link("/d/plugins/evil.wasm", "/elsewhere/evil.wasm");
    desk.disk.link("/d/plugins/folder", "/elsewhere");
    desk.disk.write("/elsewhere/plugin.toml", manifest("folder", &component(5)));
    desk.clock.advance(1_000);
    assert!(desk.plugin("pipe").contains("pipe, socket or device"));
    assert!(desk.plugin("evil").contains("leads out of the folder"));
    assert!(desk.plugin("folder").contains("leads out of the folder"));
    assert_eq!(desk.disk.reads(), 0);
}

#[test]
fn links_inside_the_folder_are_followed_and_swaps_are_seen() {
    let mut desk = desk(true);
    desk.disk.write("/d/plugins/.v1/geo.wasm", component(5));
    desk.disk.write("/d/plugins/.v2/geo.wasm", component(6));
    desk.disk.link("/d/plugins/.data", ".v1");
    desk.disk.link("/d/plugins/geo.wasm", ".data/geo.wasm");
    desk.clock.advance(5_000);
    assert_eq!(desk.plugin("geo"), "whole 15");
    assert_eq!(desk.scan().plugins.len(), 1, "hidden folders are nobody's plugins");
    desk.disk.link("/d/plugins/.data", ".v2");
    assert_eq!(desk.plugin("geo"), "whole 16");
}

#[test]
fn production_refuses_bare_components() {
    let mut desk = desk(false);
    desk.disk.write("/d/plugins/geo.wasm", component(5));
    desk.disk.write("/d/plugins/loose/c.wasm", component(5));
    desk.clock.advance(1_000);
    let scan = desk.scan();
    assert!(scan.plugins.is_empty());
    assert_eq!(scan.problems[0].file, "plugins/geo.wasm");
    assert!(scan.problems[0].reason.contains("development mode only"));
    assert_eq!(scan.problems[1].file, "plugins/loose");
    assert!(scan.problems[1].reason.contains("no plugin.toml"));
}

#[test]
fn bindings_are_read_and_named_by_file() {
    let mut desk = desk(true);
    desk.disk.write("/d/bindings/a.toml", "policy='p'\nrole='router'\nsubjects=['>']");
    desk.disk.write("/d/bindings/b.toml", "policy='p'\nsubject=['>']");
    desk.disk.write("/d/bindings/not a name.toml", "");
    desk.disk.write("/d/bindings/README.md", "not looked at");
    desk.clock.advance(150);
    let scan = desk.scan();
    assert!(matches!(&scan.bindings["a"].standing, Standing::Whole(b) if b.policy == "p"));
    let Standing::Broken(why) = &scan.bindings["b"].standing else { panic!("broken") };
    assert_eq!(why, "unknown key `subject`, did you mean `subjects`?");
    assert_eq!(scan.problems[0].file, "bindings/not a name.toml");
    assert_eq!(scan.bindings.len(), 2);
}

#[test]
fn what_is_too_long_is_not_read() {
    let mut desk = desk(true);
    desk.disk.write("/d/bindings/a.toml", vec![b'#'; 1 << 20 | 1]);
    desk.clock.advance(150);
    let scan = desk.scan();
    let Standing::Broken(why) = &scan.bindings["a"].standing else { panic!("broken") };
    assert!(why.contains("1048577 bytes, 1048576 are allowed"), "{why}");
    assert_eq!(desk.disk.reads(), 0);
}
