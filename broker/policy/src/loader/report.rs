//! Publishes what came of a pass: the chain, the status, a line in the log.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Loader, Wanted, unusable};
use crate::chain::PublishChain;
use crate::folder::{FileProblem, Plugin, Scan, Source, Standing};
use crate::generation::{BindingState, Record, Running};
use crate::status::{Board, BoardRow, PolicyListing};

impl Loader {
    /// Publishes a new chain if a publish binding changed. Done after every
    /// binding: the next one may take seconds to compile.
    pub(super) fn renew_chain(&mut self) {
        if !std::mem::take(&mut self.chain_is_old) {
            return;
        }
        self.chain_number += 1;
        let (mut filters, mut routers) = (Vec::new(), Vec::new());
        for active in self.records.values().filter_map(|record| record.active.as_ref()) {
            match &active.running {
                Running::Router(router) => routers.push(Arc::clone(router)),
                Running::Filter(filter) => filters.push(Arc::clone(filter)),
                Running::Delivery | Running::DeliverFilter(_) => {}
            }
        }
        self.chain.store(Arc::new(PublishChain::new(filters, routers, self.chain_number)));
    }

    /// Publishes what changed: the chain, then the status.
    pub(super) fn finish(&mut self) {
        self.renew_chain();
        let mut needed: HashSet<Arc<str>> = HashSet::new();
        for record in self.records.values() {
            needed.extend(record.active.iter().map(|active| active.good.key.component.clone()));
            needed.extend(record.kept.iter().map(|kept| kept.good.key.component.clone()));
            needed.extend(record.refused.iter().map(|(key, _)| key.component.clone()));
        }
        self.workshop.forget(&needed);
        self.counters.compilations = self.workshop.engine.compilations();
        let board = Board {
            rows: self.records.values().map(|r| BoardRow::new(r, &self.workshop.clock)).collect(),
            problems: self.last_scan.problems.clone(),
            policies: self.policies(),
            counters: self.counters,
        };
        self.board.store(Arc::new(board));
        // Last, since it waits for the disk: nobody's message waits for it.
        self.save();
    }

    /// Bare components that would bind themselves, were their name not another binding's.
    pub(super) fn nameless(&self, scan: &Scan) -> Vec<FileProblem> {
        let wanted = self.wanted(scan);
        // A file that is not understood may name the component.
        let is_known = |wanted: &Wanted<'_>| {
            wanted.file.is_none_or(|file| matches!(file.standing, Standing::Whole(_)))
        };
        let mut problems = Vec::new();
        for (name, plugin) in &scan.plugins {
            let is_bare = plugin.source == Source::Bare;
            let is_whole = matches!(plugin.standing, Standing::Whole(_));
            let is_taken = wanted.get(name.as_str()).is_some_and(is_known);
            if is_bare && is_whole && is_taken && self.binds_itself(name, &wanted) {
                let file = format!("plugins/{}", plugin.file);
                let reason = format!(
                    "no binding names this component, and it cannot bind itself, since \
                     there is a binding `{name}` of another policy; give the file another name"
                );
                problems.push(FileProblem { file, reason });
            }
        }
        // A file that is being written may name any of them: nothing new is said meanwhile.
        if scan.bindings.values().any(|file| matches!(file.standing, Standing::Waiting(_))) {
            problems.retain(|problem| self.faults.contains(problem));
        }
        problems
    }

    /// Counts every file that cannot be used, once, and tells the log of those that
    /// no binding has told of.
    pub(super) fn tell_faults(&mut self, scan: &Scan) {
        let mut faults: HashSet<FileProblem> = scan.problems.iter().cloned().collect();
        let told: HashSet<&str> =
            self.records.values().filter_map(|record| record.error.as_deref()).collect();
        let mut told_by_bindings = HashSet::new();
        for plugin in scan.plugins.values() {
            if let Standing::Broken(why) = &plugin.standing {
                let file = format!("plugins/{}", plugin.file);
                let fault = FileProblem { file, reason: why.clone() };
                if told.contains(unusable(plugin, why).as_str()) {
                    told_by_bindings.insert(fault.clone());
                }
                faults.insert(fault);
            }
        }
        for (name, binding) in &scan.bindings {
            if let Standing::Broken(why) = &binding.standing {
                let file = format!("bindings/{name}.toml");
                let fault = FileProblem { file, reason: why.clone() };
                told_by_bindings.insert(fault.clone());
                faults.insert(fault);
            }
        }
        for fault in faults.difference(&self.faults) {
            self.counters.file_problems += 1;
            if !told_by_bindings.contains(fault) {
                let reason = crate::text::sentence(&fault.reason);
                tracing::warn!(file = fault.file, "this file is not used: {reason}");
            }
        }
        self.faults = faults;
    }

    fn policies(&self) -> Vec<PolicyListing> {
        let folder = &self.last_scan.plugins;
        let shipped = self.shipped.iter().filter(|(name, _)| !folder.contains_key(*name));
        let mut policies: Vec<_> =
            folder.iter().chain(shipped).map(|(name, plugin)| self.listing(name, plugin)).collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        policies
    }

    fn listing(&self, name: &str, plugin: &Plugin) -> PolicyListing {
        let runs = |record: &&Record| {
            record.active.as_ref().is_some_and(|active| active.good.binding.policy == name)
        };
        let bindings = self.records.values().filter(runs).map(|r| r.name.to_string()).collect();
        let mut listing = PolicyListing {
            name: name.to_owned(),
            source: plugin.source,
            file: plugin.file.clone(),
            version: plugin.version.clone().unwrap_or_default(),
            summary: String::new(),
            roles: Vec::new(),
            digest: String::new(),
            bytes: 0,
            bindings,
            problem: None,
        };
        let code = match &plugin.standing {
            Standing::Whole(code) => code,
            Standing::Waiting(why) | Standing::Broken(why) => {
                listing.problem = Some(why.clone());
                return listing;
            }
        };
        listing.digest = code.digest.to_string();
        listing.bytes = code.bytes.len();
        match self.workshop.compiled.get(&code.digest) {
            Some(Ok(component)) => {
                listing.version = component.manifest().version.to_string();
                listing.summary.clone_from(&component.manifest().summary);
                listing.roles = component.roles().iter().map(|role| role.as_str()).collect();
            }
            Some(Err(error)) => listing.problem = Some(error.to_string()),
            None => {}
        }
        listing
    }
}

/// Of a digest, in the log.
const DIGEST_DIGITS: usize = 12;

/// Tells the log how a binding stands now.
pub(super) fn announce(record: &Record) {
    let binding = &*record.name;
    let active = record.active.as_ref();
    let generation = active.map_or(0, |active| active.number);
    let digest = active.map_or("", |active| &**active.good.component.digest());
    // As people compare them.
    let digest = digest.get(..DIGEST_DIGITS).unwrap_or(digest);
    match (&record.error, record.state) {
        (None, state) => {
            tracing::info!(binding, generation, digest, ?state, "policy binding changed");
        }
        (Some(_), BindingState::Waiting) => {}
        (Some(error), state) => tracing::warn!(binding, generation, digest, ?state, "{error}"),
    }
}

/// Tells the log that a binding fails for good.
pub(super) fn announce_failing(record: &Record, error: &str) {
    let binding = &*record.name;
    let generation = record.active.as_ref().map_or(0, |active| active.number);
    tracing::warn!(binding, generation, state = ?BindingState::Failing, "{error}");
}
