//! Deliver-stage filters of the shard, and which groups they apply to.

use std::collections::BTreeMap;

use super::Shard;
use crate::group::{GroupId, Identity};
use crate::name::scope_matches;
use crate::policy::{DeliveryFilter, ReadyMessage, Scope, Verdict};

/// Number of a filter binding in the shard.
pub(crate) type FilterId = u32;

struct Bound {
    name: String,
    scope: Scope,
    filter: Box<dyn DeliveryFilter>,
}

/// See the file's head.
#[derive(Default)]
pub(crate) struct Filters {
    bound: BTreeMap<FilterId, Bound>,
    made: FilterId,
}

/// Whether a scope names a queue or a group.
pub(super) fn applies(scope: &Scope, identity: &Identity) -> bool {
    let globs = if identity.is_queue { &scope.queues } else { &scope.groups };
    globs.iter().any(|glob| scope_matches(glob, &identity.full_name))
}

impl Filters {
    /// A binding's new generation, or its end.
    pub(super) fn bind(
        &mut self,
        name: String,
        scope: Scope,
        filter: Option<Box<dyn DeliveryFilter>>,
    ) {
        self.bound.retain(|_, bound| bound.name != name);
        if let Some(filter) = filter {
            self.made += 1;
            self.bound.insert(self.made, Bound { name, scope, filter });
        }
    }

    /// Filters of a group, in the order they are asked.
    fn of(&self, identity: &Identity) -> Box<[FilterId]> {
        let some = self.bound.iter().filter(|(_, bound)| applies(&bound.scope, identity));
        let mut ranked: Vec<_> =
            some.map(|(&id, bound)| (bound.scope.order, &bound.name, id)).collect();
        ranked.sort();
        ranked.into_iter().map(|(_, _, id)| id).collect()
    }

    /// One verdict per message. What a filter leaves unsaid is asked again later.
    pub(crate) fn ask(
        &mut self,
        id: FilterId,
        now_ms: u64,
        messages: &[ReadyMessage<'_>],
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(messages.len());
        if let Some(bound) = self.bound.get_mut(&id) {
            bound.filter.filter(now_ms, messages, &mut verdicts);
            verdicts.resize(messages.len(), Verdict::Hold);
        } else {
            verdicts.resize(messages.len(), Verdict::Keep);
        }
        verdicts
    }
}

impl Shard {
    /// Gives every group the filters that apply to it.
    pub(super) fn assign_filters(&mut self) {
        for group in self.groups.values_mut() {
            group.filters = self.filters.of(&group.identity);
        }
    }

    pub(super) fn assign_filters_of(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.filters = self.filters.of(&group.identity);
        }
    }
}
