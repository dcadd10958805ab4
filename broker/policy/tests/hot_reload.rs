//! Policies exchanged on disk while batches are judged: the whole host over real
//! folders, with the real watch. What is claimed here is what an operator counts:
//! every row judged once, by one generation, whatever happens to the files.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use common::{Messages, TestClock, random, show};
use weir_core::env::{Clock, DirEntry, Disk, FileKind, Place};
use weir_guests::Guests;
use weir_policy::archive::NoArchive;
use weir_policy::judge::Judged;
use weir_policy::status::{BindingState, BindingStatus};
use weir_policy::{HostConfig, HostEnv, PolicyHost, ShippedComponent};

/// Longest wait for something that must happen.
const DEADLINE: Duration = Duration::from_secs(60);
const ROWS: usize = 64;

struct RealDisk;

impl Disk for RealDisk {
    fn list(&self, folder: &Path) -> std::io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Ok(place) = self.locate(&path) else { continue };
            let is_dir = place.kind == FileKind::Folder;
            entries.push(DirEntry { path, is_dir, len: place.len, modified_ms: place.modified_ms });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn locate(&self, path: &Path) -> std::io::Result<Place> {
        let real_path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&real_path)?;
        let kind = if metadata.is_dir() { FileKind::Folder } else { FileKind::File };
        let age = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap();
        Ok(Place { real_path, kind, len: metadata.len(), modified_ms: age.as_millis() as u64 })
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> std::io::Result<Bytes> {
        fs::read(path).map(Bytes::from)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        fs::write(path, bytes)
    }

    fn make_folder(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)
    }
}

fn start(folder: &Path) -> (PolicyHost, Arc<TestClock>) {
    let clock = TestClock::running();
    let config = HostConfig {
        plugins: folder.join("plugins"),
        bindings: folder.join("bindings"),
        development: true,
        shards: 1,
        watch: true,
        shipped: weir_shipped::SHIPPED
            .iter()
            .map(|(name, bytes)| ShippedComponent {
                name: (*name).to_owned(),
                bytes: Bytes::from_static(bytes),
            })
            .collect(),
    };
    let env = HostEnv {
        clock: clock.clone(),
        random: random(),
        disk: Arc::new(RealDisk),
        archive: Arc::new(NoArchive),
    };
    (PolicyHost::start(config, env, Box::new(|_, _| {})).unwrap(), clock)
}

fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    let aside = path.with_extension("new");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, path).unwrap();
}

fn wait_for(host: &PolicyHost, binding: &str, ready: impl Fn(&BindingStatus) -> bool) {
    let met = host.wait_until(DEADLINE, |host| host.status(Some(binding)).iter().any(&ready));
    assert!(met, "{:#?}", host.status(Some(binding)));
}

fn table(to: &str) -> String {
    format!(
        "policy = 'subject-router'\nsubjects = ['in.>']\npowers = ['retarget']\n\
         [config]\nrules = [{{ pattern = 'in.>', to = '{to}' }}]\n"
    )
}

#[test]
fn every_row_is_judged_once_by_one_generation_while_files_change() {
    let folder = tempfile::tempdir().unwrap();
    let (host, clock) = start(folder.path());
    let file = folder.path().join("bindings/in.toml");
    put(&file, table("a0"));
    wait_for(&host, "in", |status| status.generation == 1);

    let stop = AtomicBool::new(false);
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let publisher = || {
            let mut judged = Judged::default();
            let mut messages = Messages::default();
            (0..ROWS).for_each(|row| messages.push(&format!("in.{row}"), b"", b"x"));
            while !stop.load(Relaxed) {
                host.chain().judge(messages.input(clock.now()), &mut judged);
                let first = show(&judged, 0);
                assert!(first.starts_with('a'), "routed by no generation: {first}");
                // A batch sees one generation.
                let target = |row| show(&judged, row).split(' ').next().map(str::to_owned);
                assert!((0..ROWS).all(|row| target(row) == target(0)));
                published.fetch_add(ROWS as u64, Relaxed);
            }
        };
        scope.spawn(publisher);
        scope.spawn(publisher);
        for change in 1..=5 {
            put(&file, table(&format!("a{change}")));
            wait_for(&host, "in", |status| status.generation == change + 1);
            put(&file, "policy = 'subject-router'\nsubjects = [");
            wait_for(&host, "in", |status| status.state == BindingState::Kept);
        }
        host.rollback("in").unwrap();
        stop.store(true, Relaxed);
    });
    let status = host.status(Some("in")).remove(0);
    assert_eq!(status.generation, 7);
    let sum: u64 = status.history.iter().map(|generation| generation.counters.rows).sum();
    assert_eq!(sum, published.load(Relaxed), "{:#?}", status.history);
    assert_eq!(status.totals.failed_rows, 0);
}

#[test]
fn hostile_components_are_named_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (host, clock) = start(folder.path());
    let plugins = folder.path().join("plugins");
    let guests = Guests::get();
    put(&plugins.join("wrong.wasm"), &guests.wrong_import);
    put(&plugins.join("garbage.wasm"), "not at all");
    for behaviour in ["loop", "panic", "eat-memory", "loop-init", "panic-check"] {
        put(&plugins.join(format!("{behaviour}.wasm")), guests.behaving(behaviour));
        let binding =
            format!("policy = '{behaviour}'\nrole = 'router'\nsubjects = ['bad.{behaviour}']");
        put(&folder.path().join(format!("bindings/{behaviour}.toml")), binding);
    }
    let failed = |status: &BindingStatus| status.state == BindingState::Failed;
    let says = |status: &BindingStatus, word: &str| {
        status.error.as_ref().is_some_and(|error| error.contains(word) && !error.contains('\n'))
    };
    wait_for(&host, "wrong", |status| failed(status) && says(status, "secret"));
    wait_for(&host, "garbage", |status| failed(status) && says(status, "not a WebAssembly file"));
    wait_for(&host, "loop-init", |status| failed(status) && says(status, "configuration"));
    wait_for(&host, "panic-check", |status| failed(status) && says(status, "check"));

    let mut judged = Judged::default();
    for behaviour in ["loop", "panic", "eat-memory"] {
        wait_for(&host, behaviour, |status| status.generation == 1);
        let messages = Messages::of(&[(&format!("bad.{behaviour}"), "x"), ("good", "x")]);
        let failing =
            |host: &PolicyHost| host.status(Some(behaviour))[0].state == BindingState::Failing;
        for _ in 0..20 {
            host.chain().judge(messages.input(clock.now()), &mut judged);
            assert!(show(&judged, 0).starts_with("refused"), "{}", show(&judged, 0));
            assert_eq!(show(&judged, 1), "same");
        }
        assert!(host.wait_until(DEADLINE, failing), "{:#?}", host.status(Some(behaviour)));
        let status = host.status(Some(behaviour)).remove(0);
        assert!(says(&status, "failure rule applies (refuse)"), "{:?}", status.error);
    }
}

#[test]
fn a_version_that_fails_at_work_makes_way_for_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (host, clock) = start(folder.path());
    let plugin = folder.path().join("plugins/mine.wasm");
    let guests = Guests::get();
    put(&plugin, guests.behaving("identity"));
    let binding = "policy = 'mine'\nrole = 'router'\nsubjects = ['in.>']";
    put(&folder.path().join("bindings/in.toml"), binding);
    wait_for(&host, "in", |status| status.generation == 1);
    put(&plugin, guests.behaving("panic"));
    wait_for(&host, "in", |status| status.generation == 2);

    let messages = Messages::of(&[("in.1", "x"), ("in.2", "x")]);
    let mut judged = Judged::default();
    let mut published = 0;
    for _ in 0..10 {
        host.chain().judge(messages.input(clock.now()), &mut judged);
        assert_eq!(show(&judged, 0), "same", "the one before answers for it");
        published += 2;
    }
    wait_for(&host, "in", |status| {
        status.state == BindingState::RolledBack && status.generation == 3
    });
    host.chain().judge(messages.input(clock.now()), &mut judged);
    let status = host.status(Some("in")).remove(0);
    assert_eq!(status.totals.rows, published + 2);
    assert_eq!(status.history[1].counters.rows, 0, "not one row was judged by the one that failed");
    assert!(status.history[1].reason.is_some());
}
