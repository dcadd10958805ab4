//! The whole host over real folders, with the real watch. Nothing sleeps: tests
//! wait for the loader, until a deadline.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;

use super::*;
use crate::archive::NoArchive;
use crate::status::BindingState;
use crate::testing::{CountingRandom, FileDisk, MachineClock, shipped, variant};

/// Longest wait for something that must happen; on an idle machine it takes
/// about a quarter of a second.
const DEADLINE: Duration = Duration::from_secs(30);

fn start(folder: &Path, watch: bool) -> PolicyHost {
    start_over(folder, watch, Arc::new(NoArchive))
}

fn start_over(folder: &Path, watch: bool, archive: Arc<dyn Archive>) -> PolicyHost {
    let config = HostConfig {
        plugins: folder.join("plugins"),
        bindings: folder.join("bindings"),
        development: true,
        shards: 1,
        watch,
        shipped: shipped(),
    };
    let env = HostEnv {
        clock: Arc::new(MachineClock::default()),
        random: Arc::new(CountingRandom::default()),
        disk: Arc::new(FileDisk),
        archive,
    };
    PolicyHost::start(config, env, Box::new(|_, _| {})).unwrap()
}

fn router() -> Vec<u8> {
    shipped().iter().find(|shipped| shipped.name == "subject-router").unwrap().bytes.to_vec()
}

fn wait_for(host: &PolicyHost, binding: &str, state: BindingState, generation: u64) {
    let stands = |host: &PolicyHost| {
        let status = host.status(Some(binding));
        status.iter().any(|status| status.state == state && status.generation == generation)
    };
    let met = host.wait_until(DEADLINE, stands);
    assert!(met, "{binding} is not {state:?} {generation}: {:?}", host.status(Some(binding)));
}

/// As a careful deployer does it: written aside, renamed over the old one.
fn put(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("new");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, path).unwrap();
}

#[test]
fn a_file_dropped_into_the_folder_acts_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path(), true);
    assert_eq!(host.chain().routers().len(), 1, "the default router is there from the start");
    let mine = folder.path().join("plugins/mine.wasm");
    fs::write(&mine, router()).unwrap();
    wait_for(&host, "mine", BindingState::Active, 1);
    put(&mine, &variant(&router(), 1));
    wait_for(&host, "mine", BindingState::Active, 2);
    put(&mine, b"nonsense");
    wait_for(&host, "mine", BindingState::Kept, 2);
    fs::remove_file(&mine).unwrap();
    wait_for(&host, "mine", BindingState::Removed, 0);
    host.shutdown();
    assert_eq!(host.rollback("mine").unwrap_err(), RollbackError::Stopped);
    assert_eq!(host.chain().routers().len(), 1, "what runs outlives the loader");
}

#[test]
fn a_binding_file_changes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path(), true);
    let file = folder.path().join("bindings/in.toml");
    fs::write(&file, "policy = 'subject-router'\nsubjects = ['in.>']\n").unwrap();
    wait_for(&host, "in", BindingState::Active, 1);
    put(&file, b"policy = 'subject-router'\nsubjects = ['in.>', 'on.>']\n");
    wait_for(&host, "in", BindingState::Active, 2);
    let status = host.rollback("in").unwrap();
    assert_eq!((status.state, status.generation), (BindingState::RolledBack, 3));
    assert_eq!(status.subjects, ["in.>"]);
}

#[cfg(unix)]
#[test]
fn links_and_whole_folders_are_exchanged() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    for version in 1..=2 {
        let version_folder = plugins.join(format!(".v{version}"));
        fs::create_dir_all(&version_folder).unwrap();
        fs::write(version_folder.join("mine.wasm"), variant(&router(), version)).unwrap();
    }
    symlink(".v1", plugins.join(".now")).unwrap();
    symlink(".now/mine.wasm", plugins.join("mine.wasm")).unwrap();
    let host = start(folder.path(), true);
    wait_for(&host, "mine", BindingState::Active, 1);
    symlink(".v2", plugins.join(".next")).unwrap();
    fs::rename(plugins.join(".next"), plugins.join(".now")).unwrap();
    wait_for(&host, "mine", BindingState::Active, 2);

    // The plugins folder itself makes way for another one.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine.wasm"), variant(&router(), 3)).unwrap();
    fs::rename(&plugins, folder.path().join("before")).unwrap();
    fs::rename(&other, &plugins).unwrap();
    let third =
        |host: &PolicyHost| host.status(Some("mine")).iter().any(|status| status.generation == 3);
    assert!(host.wait_until(DEADLINE, third), "{:?}", host.status(Some("mine")));
    // And the new one is watched as the old one was.
    put(&plugins.join("mine.wasm"), &variant(&router(), 4));
    let fourth =
        |host: &PolicyHost| host.status(Some("mine")).iter().any(|status| status.generation == 4);
    assert!(host.wait_until(DEADLINE, fourth), "{:?}", host.status(Some("mine")));
}

/// An archive that counts what is put under keys of kept state.
#[derive(Default)]
struct Tally(AtomicUsize);

impl Archive for Tally {
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)> {
        NoArchive.list(prefix)
    }

    fn put(&self, key: &str, _: Option<Bytes>) -> bool {
        if key.starts_with("kv/in/") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn blob(&self, digest: &str) -> Option<Bytes> {
        NoArchive.blob(digest)
    }

    fn put_blob(&self, digest: &str, bytes: Bytes) -> bool {
        NoArchive.put_blob(digest, bytes)
    }
}

#[test]
fn a_loader_that_is_never_idle_keeps_state_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let text = "policy = 'subject-router'\nsubjects = ['in.>']\nkeep-kv = true\n";
    fs::create_dir(folder.path().join("bindings")).unwrap();
    fs::write(folder.path().join("bindings/in.toml"), text).unwrap();
    let tally = Arc::new(Tally::default());
    let host = start_over(folder.path(), false, tally.clone());
    wait_for(&host, "in", BindingState::Active, 1);
    let latest = Instant::now() + DEADLINE;
    while tally.0.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < latest, "nothing was kept");
        host.rescan();
    }
}

#[test]
fn without_a_watch_it_looks_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path(), false);
    let passes = host.counters().passes;
    fs::write(folder.path().join("bindings/bad.toml"), "policy = 'x'\n").unwrap();
    host.rescan();
    assert_eq!(host.counters().passes, passes + 1);
    assert_eq!(host.list().len(), 2);
    assert!(host.status(Some("nothing")).is_empty());
}
