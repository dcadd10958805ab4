//! Turns what lies on disk into what runs. A pass looks at both folders, works
//! out for every binding what should run, tries what is new, and swaps it in;
//! whatever is refused leaves the generation before in charge and says why.
//!
//! Owned by the host's loader thread and called by nobody else, so compiling and
//! trying out never stand in a message's way. A pass depends on the disk, the
//! clock and its own memory only: tests run passes by hand.

mod report;
mod resume;
mod retreat;
mod swap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use weir_core::command::Command;

use crate::archive::Archive;
use crate::binding::{Binding, DEFAULTS, Origin};
use crate::chain::PublishChain;
use crate::fields::did_you_mean;
use crate::folder::{BindingFile, Code, FileProblem, Folders, Plugin, Scan, Source, Standing};
use crate::generation::{BindingState, Key, Record};
use crate::kv::Kv;
use crate::settle::{Stamp, sha256_hex};
use crate::status::{Board, HostCounters};
use crate::workshop::{Candidate, Workshop};

use report::announce;
use resume::Saved;
pub use retreat::RollbackError;

/// Removed bindings remembered with their counters.
const REMOVED_MAX: usize = 256;

/// Puts a command before a shard. Must not wait for the shard.
pub(crate) type Install = Box<dyn Fn(u32, Command) + Send + Sync>;

/// A policy that comes with the broker.
#[derive(Clone, Debug)]
pub struct ShippedComponent {
    /// Its name in binding files.
    pub name: String,
    /// The component.
    pub bytes: bytes::Bytes,
}

/// What somebody wants of one binding: its file, and what stands in for it.
#[derive(Default)]
struct Wanted<'a> {
    file: Option<&'a BindingFile>,
    instead: Option<Arc<Binding>>,
}

/// Something that would run, or why not.
enum Choice {
    Candidate(Box<Candidate>),
    Waiting(String),
    Unusable(String),
}

impl Choice {
    fn is(&self, key: &Key) -> bool {
        matches!(self, Self::Candidate(candidate) if candidate.key == *key)
    }
}

/// The loader's state.
pub(crate) struct Loader {
    folders: Folders,
    workshop: Workshop,
    install: Install,
    shipped: BTreeMap<String, Plugin>,
    defaults: BTreeMap<Arc<str>, Arc<Binding>>,
    records: BTreeMap<Arc<str>, Record>,
    chain: Arc<ArcSwap<PublishChain>>,
    chain_number: u64,
    /// A publish binding changed since the chain was built.
    chain_is_old: bool,
    board: Arc<ArcSwap<Board>>,
    counters: HostCounters,
    /// The folders' listing failed in the last pass.
    blind: bool,
    last_scan: Scan,
    /// What the last pass found wrong with files: all of it has been told.
    faults: HashSet<FileProblem>,
    archive: Arc<dyn Archive>,
    /// Bindings of an earlier process that this one has not come to yet.
    saved: BTreeMap<Arc<str>, Saved>,
    /// What the archive has of bindings, by key.
    archived: BTreeMap<String, bytes::Bytes>,
    /// Of which state the archive has which change, by key. Weak, and still no other
    /// state lies where that one did.
    archived_state: BTreeMap<String, (Weak<Kv>, u64)>,
    /// Digests of components that the archive has.
    kept_components: HashSet<Arc<str>>,
}

impl Loader {
    /// A loader that has not looked yet.
    pub(crate) fn new(
        folders: Folders,
        workshop: Workshop,
        shipped: Vec<ShippedComponent>,
        install: Install,
        archive: Arc<dyn Archive>,
    ) -> Self {
        let shipped: BTreeMap<_, _> =
            shipped.into_iter().map(|shipped| (shipped.name.clone(), plugin(shipped))).collect();
        let defaults = DEFAULTS.iter().filter_map(|(name, text)| {
            let binding = Binding::parse(name, Origin::Default, text);
            let binding = binding.expect("the default bindings are tested");
            // A host without shipped policies (a test's) has no defaults either.
            let known = shipped.contains_key(&binding.policy);
            known.then(|| (Arc::clone(&binding.name), Arc::new(binding)))
        });
        let mut loader = Self {
            folders,
            workshop,
            install,
            defaults: defaults.collect(),
            shipped,
            records: BTreeMap::new(),
            chain: Arc::new(ArcSwap::from_pointee(PublishChain::new(Vec::new(), Vec::new(), 0))),
            chain_number: 0,
            chain_is_old: true,
            board: Arc::default(),
            counters: HostCounters::default(),
            blind: false,
            last_scan: Scan::default(),
            faults: HashSet::new(),
            archive,
            saved: BTreeMap::new(),
            archived: BTreeMap::new(),
            archived_state: BTreeMap::new(),
            kept_components: HashSet::new(),
        };
        loader.recall();
        loader
    }

    /// Where the current publish chain is found.
    pub(crate) fn chain(&self) -> Arc<ArcSwap<PublishChain>> {
        Arc::clone(&self.chain)
    }

    /// Where the current status is found.
    pub(crate) fn board(&self) -> Arc<ArcSwap<Board>> {
        Arc::clone(&self.board)
    }

    /// The folders, for the watcher.
    pub(crate) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// One pass. Returns in how many ms to make the next without being told.
    /// `at_once` takes files however young they are: for the first pass.
    pub(crate) fn pass(&mut self, at_once: bool) -> Option<u64> {
        self.counters.passes += 1;
        match self.folders.scan(self.workshop.clock.now(), at_once) {
            Ok(scan) => {
                self.blind = false;
                self.last_scan = scan;
            }
            Err(error) => {
                if !self.blind {
                    tracing::warn!(%error, "policy folders cannot be read; what runs goes on");
                }
                self.blind = true;
                return None;
            }
        }
        let mut scan = std::mem::take(&mut self.last_scan);
        for (name, wanted) in &self.wanted(&scan) {
            self.advance(name, wanted, &scan);
        }
        // Removal comes last: what replaces a binding is in place before it goes.
        // Asked again, since what runs now may have ended an automatic binding.
        let wanted = self.wanted(&scan);
        let gone: Vec<Arc<str>> =
            self.records.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        drop(wanted);
        for name in gone {
            self.remove(&name);
        }
        self.resume_removed();
        let nameless = self.nameless(&scan);
        scan.problems.extend(nameless);
        self.tell_faults(&scan);
        let now_ms = self.workshop.clock.now().steady_ms;
        let wait_ms = scan.due_ms.map(|due_ms| due_ms.saturating_sub(now_ms).max(1));
        self.last_scan = scan;
        self.finish();
        wait_ms
    }

    /// What should run, by name.
    fn wanted<'a>(&self, scan: &'a Scan) -> BTreeMap<Arc<str>, Wanted<'a>> {
        let mut wanted: BTreeMap<Arc<str>, Wanted<'a>> = BTreeMap::new();
        for (name, file) in &scan.bindings {
            wanted.entry(name.as_str().into()).or_default().file = Some(file);
        }
        for (name, binding) in &self.defaults {
            wanted.entry(Arc::clone(name)).or_default().instead = Some(Arc::clone(binding));
        }
        for (name, plugin) in &scan.plugins {
            if plugin.source == Source::Bare
                && !wanted.contains_key(name.as_str())
                && self.binds_itself(name, &wanted)
            {
                let instead = Some(Arc::new(Binding::automatic(name)));
                wanted.insert(name.as_str().into(), Wanted { file: None, instead });
            }
        }
        wanted
    }

    /// Whether the bare component `policy` gets a binding of its own: no other
    /// names it. One that runs already stays until another that names it runs.
    fn binds_itself(&self, policy: &str, wanted: &BTreeMap<Arc<str>, Wanted<'_>>) -> bool {
        let active = |name: &str| self.records.get(name).and_then(|record| record.active.as_ref());
        let runs = |name: &str| active(name).is_some();
        let runs_by_itself =
            active(policy).is_some_and(|active| active.good.binding.origin == Origin::Automatic);
        let mut named = wanted.iter().filter_map(|(name, wanted)| {
            let file = match wanted.file.map(|file| &file.standing) {
                Some(Standing::Whole(binding)) => Some(&binding.policy),
                _ => None,
            };
            let running = active(name).map(|active| &active.good.binding.policy);
            let instead = wanted.instead.as_ref().filter(|_| wanted.file.is_none());
            let names = file.or(running).or(instead.map(|binding| &binding.policy));
            names.filter(|names| *names == policy).map(|_| name)
        });
        match runs_by_itself {
            true => !named.any(|name| runs(name)),
            false => named.next().is_none(),
        }
    }

    /// Brings one binding as far as its files allow.
    fn advance(&mut self, name: &Arc<str>, wanted: &Wanted<'_>, scan: &Scan) {
        let wall_ms = self.workshop.clock.now().wall_ms;
        let mut record = self.records.remove(name).unwrap_or_else(|| {
            let mut record = Record::new(Arc::clone(name), wall_ms);
            self.recall_state(&mut record);
            record
        });
        if record.state == BindingState::Removed && record.recalled.is_none() {
            // It was away, perhaps since before this process: nothing was read for it.
            self.recall_state(&mut record);
        }
        if record.failing.is_some() && !record.fails() {
            record.failing = None;
            announce(&record);
        }
        let number = |record: &Record| record.active.as_ref().map(|active| active.number);
        let before = number(&record);
        let first = match self.choices(&record, wanted, scan).into_iter().next() {
            Some(Choice::Candidate(candidate)) => Some(candidate.key),
            _ => None,
        };
        self.resume(&mut record, first.as_ref());
        let choices = self.choices(&record, wanted, scan);
        record.refused.retain(|(key, _)| choices.iter().any(|choice| choice.is(key)));
        if let Some(Choice::Candidate(first)) = choices.first()
            && record.withdrawn.as_ref().is_some_and(|withdrawn| *withdrawn != first.key)
        {
            // Its files have changed: should they come back, that is a change as well.
            record.withdrawn = None;
        }
        let mut verdict: Option<(BindingState, Option<String>)> = None;
        for choice in choices {
            let refused = match choice {
                Choice::Candidate(candidate) => match self.take(&mut record, &candidate) {
                    Ok(state) => {
                        verdict.get_or_insert(state);
                        break;
                    }
                    Err(why) => (BindingState::Failed, Some(why)),
                },
                Choice::Waiting(why) => (BindingState::Waiting, Some(why)),
                Choice::Unusable(why) => (BindingState::Failed, Some(why)),
            };
            verdict.get_or_insert(refused);
            if record.active.is_some() {
                break;
            }
        }
        let verdict = verdict.map(|(state, error)| match (state, &record.active) {
            // Its file is being written: what was true of it before still is.
            (BindingState::Waiting, Some(_)) => (record.state, record.error.clone()),
            (BindingState::Failed, Some(_)) => (BindingState::Kept, error),
            _ => (state, error),
        });
        let (state, error) = verdict.expect("a binding that is wanted has something to try");
        // A swap is news, also where the binding stands as it did.
        if record.note(wall_ms, state, error) || number(&record) != before {
            announce(&record);
        }
        self.records.insert(Arc::clone(name), record);
        self.renew_chain();
    }

    /// What could run for a binding, best first. Only the first counts while
    /// something runs; the others are for a broker that starts.
    fn choices(&self, record: &Record, wanted: &Wanted<'_>, scan: &Scan) -> Vec<Choice> {
        let mut choices = Vec::new();
        match wanted.file {
            Some(BindingFile { standing: Standing::Whole(binding), stamp }) => {
                self.supply(record, binding, stamp.as_ref(), scan, &mut choices);
            }
            Some(BindingFile { standing: Standing::Waiting(why), .. }) => {
                choices.push(Choice::Waiting(why.clone()));
            }
            Some(BindingFile { standing: Standing::Broken(why), .. }) => {
                choices.push(Choice::Unusable(format!("bindings/{}.toml: {why}", record.name)));
            }
            None => {}
        }
        if let Some(binding) = &wanted.instead {
            self.supply(record, binding, None, scan, &mut choices);
        }
        choices
    }

    /// The code `binding` names: from the folder, else shipped.
    fn supply(
        &self,
        record: &Record,
        binding: &Arc<Binding>,
        stamp: Option<&Stamp>,
        scan: &Scan,
        choices: &mut Vec<Choice>,
    ) {
        let policy = &binding.policy;
        let before = choices.len();
        let plugins = [scan.plugins.get(policy), self.shipped.get(policy)];
        for plugin in plugins.into_iter().flatten() {
            choices.push(match &plugin.standing {
                Standing::Whole(code) => {
                    Choice::Candidate(Box::new(Candidate::new(binding, stamp, plugin, code)))
                }
                Standing::Waiting(why) => Choice::Waiting(format!("{}: {why}", plugin.file)),
                Standing::Broken(why) => Choice::Unusable(unusable(plugin, why)),
            });
        }
        if choices.len() > before {
            return;
        }
        let runs =
            record.active.as_ref().is_some_and(|active| active.good.binding.policy == *policy);
        choices.push(Choice::Unusable(if runs {
            format!("the file of plugin `{policy}` is gone; put it back, or remove the binding")
        } else {
            let known: Vec<&str> =
                self.shipped.keys().chain(scan.plugins.keys()).map(String::as_str).collect();
            format!(
                "there is no plugin or shipped policy `{policy}`{}",
                did_you_mean(policy, &known)
            )
        }));
    }
}

/// What is said of a binding whose plugin is broken.
fn unusable(plugin: &Plugin, why: &str) -> String {
    format!("{}: {why}", plugin.file)
}

fn plugin(shipped: ShippedComponent) -> Plugin {
    let digest = sha256_hex(&shipped.bytes).into();
    Plugin {
        source: Source::Shipped,
        file: String::new(),
        version: None,
        stamps: Vec::new(),
        standing: Standing::Whole(Code { digest, bytes: shipped.bytes }),
    }
}
