//! What a group counts, and its figures for people.

use super::Group;
use super::slot::State;
use crate::effect::{ConsumerInfo, GroupStats};
use crate::store::Store;

/// Counts since the group was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) expired: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) dropped: u64,
    pub(crate) refused_actions: u64,
}

impl Group {
    /// Messages in the log that the group has not taken.
    pub(crate) fn untaken(&self, store: &dyn Store) -> u64 {
        self.parts.iter().map(|part| part.untaken(store)).sum()
    }

    fn count(&self, state: State) -> u64 {
        self.in_state(state) as u64
    }

    /// Figures for people.
    pub(crate) fn stats(&self, store: &dyn Store) -> GroupStats {
        let untaken = self.untaken(store);
        let waits = [State::Ready, State::Offered, State::Promised];
        let waiting: u64 = waits.map(|state| self.count(state)).iter().sum();
        let cursor = |part: &super::Part| part.slots.first().max(store.bounds(part.log).start);
        let consumers = self.consumers.values().map(|consumer| ConsumerInfo {
            connection: consumer.connection,
            subscription: consumer.subscription,
            name: consumer.name.clone(),
            credit: consumer.credit,
            in_flight: consumer.in_flight(),
        });
        GroupStats {
            name: self.identity.name().to_owned(),
            binding: self.decider.name.as_deref().unwrap_or("built-in").to_owned(),
            generation: self.decider.generation.clone(),
            lag: untaken + self.live() as u64,
            ready: untaken + waiting + self.count(State::Blocked),
            in_flight: self.count(State::InFlight),
            delayed: self.count(State::Delayed),
            parked: self.count(State::Parked) + self.count(State::Dying),
            cursors: self.parts.iter().map(cursor).collect(),
            delivered: self.counters.delivered,
            redelivered: self.counters.redelivered,
            acked: self.counters.acked,
            nacked: self.counters.nacked,
            expired: self.counters.expired,
            dead_lettered: self.counters.dead_lettered,
            dropped: self.counters.dropped,
            refused_actions: self.counters.refused_actions,
            consumers: consumers.collect(),
        }
    }
}
