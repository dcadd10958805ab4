//! The policy host: what the server starts, asks and shuts down. Owns the loader
//! thread, which owns everything that changes; what others may see is published
//! in one piece (the chain, the status) and never waited for.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use weir_core::command::Command;
use weir_core::env::{Clock, Disk, Random};

use crate::archive::Archive;
use crate::chain::PublishChain;
use crate::engine::Engine;
use crate::error::LoadError;
use crate::folder::Folders;
use crate::loader::{Install, Loader};
pub use crate::loader::{RollbackError, ShippedComponent};
use crate::setup::{Trouble, TroubleSink};
use crate::status::{BindingStatus, Board, HostCounters, PolicyListing};
use crate::watcher::FolderWatch;
use crate::workshop::Workshop;

/// Events in a row count as one after this much quiet, and at most so late.
const DEBOUNCE: Duration = Duration::from_millis(50);
const DEBOUNCE_MAX: Duration = Duration::from_millis(250);
/// A look without any hint: some file systems give none.
const RESCAN: Duration = Duration::from_secs(30);
/// How often state that outlives the process is kept, where it has changed.
const STATE: Duration = Duration::from_secs(1);
/// What may wait for the loader. Hints count once, so that these are requests
/// and failures: more than there are bindings would have to fail at once.
const ASKS_MAX: usize = 4_096;

/// What the host is to do.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Folder of plugins; made when missing.
    pub plugins: PathBuf,
    /// Folder of binding files; made when missing.
    pub bindings: PathBuf,
    /// Whether bare `.wasm` files are loaded, and bound to everything when no
    /// binding names them.
    pub development: bool,
    /// Number of shards.
    pub shards: u32,
    /// Whether to look again on events and every 30 s, or only when told.
    pub watch: bool,
    /// Policies that come with the broker.
    pub shipped: Vec<ShippedComponent>,
}

/// What the host uses instead of the operating system.
#[derive(Clone)]
pub struct HostEnv {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Seeds for policies.
    pub random: Arc<dyn Random>,
    /// The folders.
    pub disk: Arc<dyn Disk>,
    /// What outlives the process.
    pub archive: Arc<dyn Archive>,
}

impl std::fmt::Debug for HostEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostEnv").finish_non_exhaustive()
    }
}

/// Why the host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No engine on this machine.
    #[error(transparent)]
    Engine(#[from] LoadError),
    /// The folders cannot be made.
    #[error("the policy folders cannot be made: {0}")]
    Folders(std::io::Error),
    /// No thread for the loader.
    #[error("no thread for the policy loader: {0}")]
    Thread(std::io::Error),
    /// The loader ended before it had looked once.
    #[error("the policy loader ended while it started")]
    Ended,
}

/// What the loader thread is asked.
enum Ask {
    /// Something may have changed on disk.
    Look,
    /// Make a pass now and say when it is done.
    Rescan(SyncSender<()>),
    Rollback(String, SyncSender<Result<(), RollbackError>>),
    Trouble(Trouble),
    Stop,
}

/// The policies of a broker. A handle: clones mean the same host.
#[derive(Clone)]
pub struct PolicyHost {
    shared: Arc<Shared>,
}

struct Shared {
    chain: Arc<ArcSwap<PublishChain>>,
    board: Arc<ArcSwap<Board>>,
    ask: SyncSender<Ask>,
    steps: Steps,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Counts what the loader did, for those who wait for it.
type Steps = Arc<(Mutex<u64>, Condvar)>;

impl PolicyHost {
    /// Starts the host. When this returns, the folders have been looked at once,
    /// and `install` has been called for every shard with what is bound there.
    /// `install` is called on the loader's thread and must not wait for a shard.
    ///
    /// # Errors
    /// See [`HostError`]. A policy that cannot be loaded is no error: it is
    /// listed in the status.
    pub fn start(
        config: HostConfig,
        env: HostEnv,
        install: Box<dyn Fn(u32, Command) + Send + Sync>,
    ) -> Result<Self, HostError> {
        let (ask, asked) = sync_channel(ASKS_MAX);
        let loader = loader(&config, env, install, ask.clone())?;
        let (chain, board) = (loader.chain(), loader.board());
        let (started, has_started) = sync_channel(1);
        let hinted = Arc::new(AtomicBool::new(false));
        let watch = config.watch.then(|| Hints { ask: ask.clone(), hinted: Arc::clone(&hinted) });
        let steps = Steps::default();
        let signal = Arc::clone(&steps);
        let thread = std::thread::Builder::new()
            .name("weir-policies".to_owned())
            .spawn(move || run(loader, &Asked { inbox: asked, hinted }, watch, &started, &signal))
            .map_err(HostError::Thread)?;
        let shared = Shared { chain, board, ask, steps, thread: Mutex::new(Some(thread)) };
        let host = Self { shared: Arc::new(shared) };
        has_started.recv().map_err(|_| HostError::Ended)?;
        Ok(host)
    }

    /// The publish chain of this moment. Take it once per batch.
    #[must_use]
    pub fn chain(&self) -> Arc<PublishChain> {
        self.shared.chain.load_full()
    }

    /// How the bindings stand: all, with files that are none, or one.
    #[must_use]
    pub fn status(&self, binding: Option<&str>) -> Vec<BindingStatus> {
        self.shared.board.load().status(binding)
    }

    /// The plugins and shipped policies there are.
    #[must_use]
    pub fn list(&self) -> Vec<PolicyListing> {
        self.shared.board.load().policies.clone()
    }

    /// What the host did so far.
    #[must_use]
    pub fn counters(&self) -> HostCounters {
        self.shared.board.load().counters
    }

    /// Goes back to the generation before. Waits for the loader: well below a
    /// second, unless it is just compiling something large.
    ///
    /// # Errors
    /// See [`RollbackError`].
    pub fn rollback(&self, binding: &str) -> Result<BindingStatus, RollbackError> {
        let (done, is_done) = sync_channel(1);
        let stopped = |_| RollbackError::Stopped;
        self.shared
            .ask
            .send(Ask::Rollback(binding.to_owned(), done))
            .map_err(|_| RollbackError::Stopped)?;
        is_done.recv().map_err(stopped)??;
        let status = self.status(Some(binding)).into_iter().next();
        status.ok_or_else(|| RollbackError::NoBinding(binding.to_owned()))
    }

    /// A delivery policy failed too often in a shard: the host goes back to its
    /// last good generation. Does not wait; one report per generation counts.
    pub fn policy_failed(&self, binding: &str, generation: u64, reason: &str) {
        let trouble = Trouble {
            binding: binding.into(),
            generation,
            reason: reason.to_owned(),
            probation: false,
        };
        report(&self.shared.ask, trouble);
    }

    /// Looks at the folders now and waits until that is done. Files younger than
    /// their quiet time (150 ms) are left for the next look.
    pub fn rescan(&self) {
        let (done, is_done) = sync_channel(1);
        if self.shared.ask.send(Ask::Rescan(done)).is_ok() {
            // An error means that the loader has stopped.
            let _ = is_done.recv();
        }
    }

    /// Waits until `ready` says so, asking after everything the loader does.
    /// False when `timeout` passed first.
    pub fn wait_until(&self, timeout: Duration, ready: impl Fn(&Self) -> bool) -> bool {
        let latest = Instant::now() + timeout;
        let (steps, stepped) = &*self.shared.steps;
        let mut seen = *steps.lock().expect("no panic under this lock");
        loop {
            if ready(self) {
                return true;
            }
            let left = latest.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let guard = steps.lock().expect("no panic under this lock");
            let (guard, _) = stepped
                .wait_timeout_while(guard, left, |steps| *steps == seen)
                .expect("no panic under this lock");
            seen = *guard;
        }
    }

    /// Ends the loader and the watch, and waits for both. What runs keeps
    /// running: chain and shards hold their own.
    pub fn shutdown(&self) {
        self.shared.stop();
    }
}

impl std::fmt::Debug for PolicyHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyHost").finish_non_exhaustive()
    }
}

impl Shared {
    fn stop(&self) {
        let thread = self.thread.lock().expect("no panic under this lock").take();
        if let Some(thread) = thread {
            // Stopped already when this fails.
            let _ = self.ask.send(Ask::Stop);
            if thread.join().is_err() {
                tracing::error!("the policy loader panicked");
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

fn loader(
    config: &HostConfig,
    env: HostEnv,
    install: Install,
    ask: SyncSender<Ask>,
) -> Result<Loader, HostError> {
    let HostConfig { plugins, bindings, development, .. } = config.clone();
    let folders =
        Folders::open(env.disk, plugins, bindings, development).map_err(HostError::Folders)?;
    // Called in the middle of judging a batch: only leaves word.
    let trouble: TroubleSink = Arc::new(move |trouble| report(&ask, trouble));
    let workshop = Workshop {
        engine: Engine::new()?,
        clock: env.clock,
        random: env.random,
        shards: config.shards,
        trouble,
        compiled: std::collections::HashMap::new(),
    };
    Ok(Loader::new(folders, workshop, config.shipped.clone(), install, env.archive))
}

/// Leaves word of a failure without waiting. When the inbox is full or the loader
/// has ended it is left out: a generation that goes on failing is reported again.
fn report(ask: &SyncSender<Ask>, trouble: Trouble) {
    let _ = ask.try_send(Ask::Trouble(trouble));
}

/// Where the watch leaves its hints: one at a time, however many events there
/// are, so that a burst of them takes no room from anything else.
struct Hints {
    ask: SyncSender<Ask>,
    hinted: Arc<AtomicBool>,
}

impl Hints {
    fn leave(&self) {
        if !self.hinted.swap(true, Ordering::AcqRel) && self.ask.try_send(Ask::Look).is_err() {
            self.hinted.store(false, Ordering::Release);
        }
    }
}

/// What the loader is asked.
struct Asked {
    inbox: Receiver<Ask>,
    hinted: Arc<AtomicBool>,
}

impl Asked {
    /// The next ask, within `wait` or whenever it comes. A hint is forgotten
    /// before the look that follows it, so that none is lost.
    fn next(&self, wait: Option<Duration>) -> Result<Ask, RecvTimeoutError> {
        let ask = match wait {
            Some(wait) => self.inbox.recv_timeout(wait)?,
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        };
        if matches!(ask, Ask::Look) {
            self.hinted.store(false, Ordering::Release);
        }
        Ok(ask)
    }
}

/// The loader's thread. `watch` is where the watch leaves its hints, or `None`
/// when the host looks only when told.
fn run(
    mut loader: Loader,
    asked: &Asked,
    watch: Option<Hints>,
    started: &SyncSender<()>,
    (steps, stepped): &(Mutex<u64>, Condvar),
) {
    let watching = watch.is_some();
    let mut watch = watch.and_then(|hints| start_watch(&loader, hints));
    let mut due = look(&mut loader, &mut watch, true);
    // Whoever started the host may have given up; the stop follows then.
    let _ = started.send(());
    let mut state_due = Instant::now() + STATE;
    loop {
        *steps.lock().expect("no panic under this lock") += 1;
        stepped.notify_all();
        // However much is asked: a loader that is never idle keeps state all the same.
        if Instant::now() >= state_due {
            loader.save_state();
            state_due = Instant::now() + STATE;
        }
        let next_look = watching.then_some(due);
        let next_save = loader.keeps_state().then_some(state_due);
        let next = next_look.into_iter().chain(next_save).min();
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        let ask = match asked.next(wait) {
            Ok(ask) => ask,
            Err(RecvTimeoutError::Timeout) => {
                if next_look.is_some_and(|due| due <= Instant::now()) {
                    due = look(&mut loader, &mut watch, false);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match ask {
            Ask::Look => {
                let Some(other) = settle_down(asked) else { return loader.save_state() };
                // A rollback must not wait for whatever the look has to compile.
                let _ = answer(&mut loader, &mut watch, other);
                due = look(&mut loader, &mut watch, false);
            }
            Ask::Stop => return loader.save_state(),
            ask => due = answer(&mut loader, &mut watch, ask).unwrap_or(due),
        }
    }
}

/// Waits until the folders are quiet for a moment. Anything else that is asked
/// ends the wait and is handed back; `None` means to stop.
fn settle_down(asked: &Asked) -> Option<Ask> {
    let latest = Instant::now() + DEBOUNCE_MAX;
    loop {
        let left = latest.saturating_duration_since(Instant::now());
        match asked.next(Some(DEBOUNCE.min(left))) {
            Ok(Ask::Look) if !left.is_zero() => {}
            Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => return Some(Ask::Look),
            Ok(ask) => return Some(ask),
        }
    }
}

/// Does what is asked; the next look's time when it made one.
fn answer(loader: &mut Loader, watch: &mut Option<FolderWatch>, ask: Ask) -> Option<Instant> {
    // Whoever asked may have gone meanwhile.
    match ask {
        Ask::Look | Ask::Stop => None,
        Ask::Rescan(done) => {
            let due = look(loader, watch, false);
            let _ = done.send(());
            Some(due)
        }
        Ask::Rollback(binding, done) => {
            let _ = done.send(loader.rollback(&binding));
            None
        }
        Ask::Trouble(trouble) => {
            loader.trouble(&trouble);
            None
        }
    }
}

/// One pass. The watch is armed first, so that no change falls between.
fn look(loader: &mut Loader, watch: &mut Option<FolderWatch>, at_once: bool) -> Instant {
    if let Some(watch) = watch {
        watch.arm(&loader.folders().watched());
    }
    let wait_ms = loader.pass(at_once);
    Instant::now() + wait_ms.map_or(RESCAN, |ms| RESCAN.min(Duration::from_millis(ms)))
}

fn start_watch(loader: &Loader, hints: Hints) -> Option<FolderWatch> {
    let hint = move || hints.leave();
    match FolderWatch::start(&loader.folders().roots(), hint) {
        Ok(watch) => Some(watch),
        Err(why) => {
            tracing::warn!("{why}; policies are looked for every 30 s instead");
            None
        }
    }
}
