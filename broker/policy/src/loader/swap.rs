//! Exchanges the running generation of a binding: the half of the loader that
//! tries candidates and hands what was built to the shards or the chain.

use std::sync::Arc;

use weir_core::command::Command;
use weir_core::policy::{DeliveryFilter, Scope};

use super::{Loader, REMOVED_MAX};
use crate::binding::Binding;
use crate::deliver_filter::WasmDeliveryFilter;
use crate::generation::{
    Active, BindingState, Fallback, GenerationState, Good, Kept, Merit, Record, Running,
};
use crate::loader::report::announce;
use crate::workshop::{Built, Candidate};

impl Loader {
    /// Tries a candidate, unless it runs already or was refused before.
    pub(super) fn take(
        &mut self,
        record: &mut Record,
        candidate: &Candidate,
    ) -> Result<(BindingState, Option<String>), String> {
        let key = &candidate.key;
        if let Some(active) = record.active.as_mut().filter(|a| a.good.key.same_content(key)) {
            active.good.key.stamps.clone_from(&key.stamps);
            record.refused.clear();
            // It lies on disk once more, after something that was rolled back.
            record.withdrawn = None;
            return Ok((BindingState::Active, None));
        }
        if record.withdrawn.as_ref() == Some(key) {
            return Ok((record.state, record.error.clone()));
        }
        if let Some((_, why)) = record.refused.iter().find(|(refused, _)| refused == key) {
            return Err(why.clone());
        }
        let tried = self.workshop.check(record, candidate);
        let started = tried.and_then(|good| self.start(record, good, None));
        if let Some(used) = record.numbers_resumed.take() {
            record.numbers_used = record.numbers_used.max(used);
        }
        match started {
            Ok(()) => {
                record.refused.clear();
                record.withdrawn = None;
                self.keep_component(candidate);
                Ok((BindingState::Active, None))
            }
            Err(why) => {
                self.counters.refusals += 1;
                record.binding.get_or_insert_with(|| Arc::clone(&candidate.binding));
                record.refused.push((key.clone(), why.clone()));
                Err(why)
            }
        }
    }

    /// Puts `good` in charge of its binding, in place of what runs.
    pub(super) fn start(
        &mut self,
        record: &mut Record,
        good: Good,
        instead_of: Option<(GenerationState, &str)>,
    ) -> Result<(), String> {
        let number = record.numbers_used + 1;
        let counters = Arc::default();
        let now = self.workshop.clock.now();
        let wall_ms = now.wall_ms;
        let lean_on = match instead_of {
            None => record.to_lean_on(&good, now.steady_ms),
            Some(_) => None,
        };
        let merit = record.merit(now.steady_ms);
        let fallback = Fallback::on(lean_on.as_ref());
        let built = self.workshop.build(record, &good, number, &counters, lean_on)?;
        let (ended, reason) = instead_of.unzip();
        let ended = ended.unwrap_or(GenerationState::Retired);
        let before = record.retire(wall_ms, ended, reason);
        let rolled_back_from = match ended {
            GenerationState::Retired => None,
            _ => before.as_ref().map(|before| before.number),
        };
        let running = self.install(record, &good, built, before.as_ref());
        if let Some(before) = before {
            match ended {
                GenerationState::Failed => {}
                GenerationState::RolledBack => {
                    record.keep(Kept { good: before.good, merit: Merit::Failed }, false);
                }
                _ => record.keep(Kept { good: before.good, merit }, true),
            }
        }
        let last_resort = ended == GenerationState::Failed;
        let started_ms = now.steady_ms;
        let active = Active { number, good, running, started_ms, fallback, last_resort };
        record.activate(wall_ms, active, counters, rolled_back_from);
        self.counters.activations += 1;
        Ok(())
    }

    /// Hands what was built to the shards, or marks the chain as old.
    fn install(
        &mut self,
        record: &Record,
        good: &Good,
        built: Built,
        before: Option<&Active>,
    ) -> Running {
        self.chain_is_old = true;
        let binding = || record.name.to_string();
        let scope = scope(&good.binding);
        let running = match built {
            Built::Router(router) => Running::Router(Arc::new(router)),
            Built::Filter(filter) => Running::Filter(Arc::new(filter)),
            Built::Delivery(policies) => {
                for (shard, policy) in (0..).zip(policies) {
                    let (binding, scope) = (binding(), scope.clone());
                    let policy = Some(policy);
                    (self.install)(shard, Command::BindDelivery { binding, scope, policy });
                }
                Running::Delivery
            }
            Built::DeliverFilter(filters) => {
                let callers = filters.iter().map(WasmDeliveryFilter::caller).collect();
                for (shard, filter) in (0..).zip(filters) {
                    let (binding, scope) = (binding(), scope.clone());
                    let filter: Option<Box<dyn DeliveryFilter>> = Some(Box::new(filter));
                    (self.install)(shard, Command::BindFilter { binding, scope, filter });
                }
                Running::DeliverFilter(callers)
            }
        };
        if let Some(before) = before
            && std::mem::discriminant(&before.running) != std::mem::discriminant(&running)
        {
            self.uninstall(record, before);
        }
        running
    }

    /// Takes a generation away from the shards.
    pub(super) fn uninstall(&mut self, record: &Record, active: &Active) {
        self.chain_is_old = true;
        let scope = scope(&active.good.binding);
        for shard in 0..self.workshop.shards {
            let (binding, scope) = (record.name.to_string(), scope.clone());
            match active.running {
                Running::Router(_) | Running::Filter(_) => return,
                Running::Delivery => {
                    (self.install)(shard, Command::BindDelivery { binding, scope, policy: None });
                }
                Running::DeliverFilter(_) => {
                    (self.install)(shard, Command::BindFilter { binding, scope, filter: None });
                }
            }
        }
    }

    /// Ends a binding that nobody wants any more. Its counters stay, and state that is
    /// to outlive the process: the file may come back.
    pub(super) fn remove(&mut self, name: &Arc<str>) {
        let Some(mut record) = self.records.remove(name) else { return };
        self.save_state_of(&record);
        let wall_ms = self.workshop.clock.now().wall_ms;
        if let Some(active) = record.retire(wall_ms, GenerationState::Retired, None) {
            if active.good.binding.keep_kv {
                let policy = active.good.component.manifest().name.clone();
                record.recalled = Some((policy, Arc::clone(&active.good.kv)));
            }
            self.uninstall(&record, &active);
        }
        record.kept.clear();
        record.failing = None;
        record.refused.clear();
        record.withdrawn = None;
        if record.note(wall_ms, BindingState::Removed, None) {
            announce(&record);
        }
        self.records.insert(Arc::clone(name), record);
        let removed = self.records.values().filter(|record| record.state == BindingState::Removed);
        if removed.count() > REMOVED_MAX {
            let removed = self.records.values().filter(|r| r.state == BindingState::Removed);
            let oldest = removed.min_by_key(|record| record.since_ms).map(|r| Arc::clone(&r.name));
            oldest.map(|name| self.records.remove(&name));
        }
    }
}

fn scope(binding: &Binding) -> Scope {
    Scope { queues: binding.queues.clone(), groups: binding.groups.clone(), order: binding.order }
}
