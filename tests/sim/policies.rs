//! Delivery policies for the simulated broker: fixed plans, and a wild one that
//! picks consumers by chance, asks for what it may not have, and fails.

use std::collections::BTreeSet;

use weir_core::policy::{
    Action, DeliveryPolicy, Event, Failure, Generation, GroupInfo, Joining, Plan, Powers,
    ReadyMessage, action, event,
};

use crate::random::Random;

/// Length of a lease under every plan made here, ms.
pub(crate) const LEASE_MS: u32 = 400;

/// A policy whose plan does it all.
pub(crate) struct Planned {
    pub(crate) generation: u64,
    pub(crate) plan: Plan,
}

/// Three tries, then the dead-letter queue.
pub(crate) fn three_tries() -> Plan {
    Plan {
        attempts: 3,
        exhausted: 1,
        lease_ms: LEASE_MS,
        retry_first_ms: 20,
        retry_max_ms: 60,
        chooser: 2,
        ..Plan::AT_LEAST_ONCE
    }
}

/// Settled when handed over.
pub(crate) fn at_most_once() -> Plan {
    Plan { ack: 0, ..Plan::AT_LEAST_ONCE }
}

/// Every consumer gets every message.
pub(crate) fn everyone() -> Plan {
    Plan { spread: 1, lease_ms: LEASE_MS, retry_first_ms: 10, ..Plan::AT_LEAST_ONCE }
}

/// Keys stay with a consumer, and in order.
pub(crate) fn by_key() -> Plan {
    Plan { chooser: 3, order: 1, lease_ms: LEASE_MS, retry_first_ms: 10, ..Plan::AT_LEAST_ONCE }
}

impl DeliveryPolicy for Planned {
    fn generation(&self) -> Generation {
        Generation { number: self.generation, digest: "planned".into() }
    }

    fn powers(&self) -> Powers {
        Powers { dead_letter: true, ..Powers::default() }
    }

    fn reads_messages(&self) -> bool {
        true
    }

    fn classify(&mut self, _now_ms: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        Ok(vec![0; subjects.len()])
    }

    fn open(&mut self, _now_ms: u64, _group: &GroupInfo<'_>) -> Result<Plan, Failure> {
        Ok(self.plan.clone())
    }

    fn join(&mut self, _now_ms: u64, _consumer: &Joining<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self, _now_ms: u64, _group: u32) {}

    fn step(
        &mut self,
        _now_ms: u64,
        _events: &[Event],
        _ready: &[ReadyMessage<'_>],
        _actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        Ok(())
    }

    fn save(&mut self, _now_ms: u64) -> Option<(u32, Vec<u8>)> {
        None
    }

    fn load(&mut self, _now_ms: u64, _version: u32, _state: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Picks by chance, and misbehaves.
pub(crate) struct Wild {
    generation: u64,
    random: Random,
    consumers: BTreeSet<(u32, u32)>,
    ready: BTreeSet<(u32, u64)>,
}

impl Wild {
    pub(crate) fn new(generation: u64, seed: u64) -> Self {
        let (consumers, ready) = (BTreeSet::new(), BTreeSet::new());
        Self { generation, random: Random::new(seed), consumers, ready }
    }

    fn note(&mut self, told: &Event) {
        match told.kind {
            event::READY => drop(self.ready.insert((told.group, told.message))),
            event::LEASED | event::GONE => drop(self.ready.remove(&(told.group, told.message))),
            event::JOINED => drop(self.consumers.insert((told.group, told.consumer))),
            event::LEFT => drop(self.consumers.remove(&(told.group, told.consumer))),
            _ => {}
        }
    }

    fn wish(&mut self, group: u32, message: u64, consumer: u32) -> Action {
        let kind = match self.random.below(100) {
            0..=1 => action::PARK,
            2..=3 => action::DROP,
            4..=5 => action::DEAD_LETTER,
            6..=7 => action::RETRY,
            8 => action::WAKE,
            9 => 77,
            _ => action::DISPATCH,
        };
        let (message, value) = match self.random.below(50) {
            0 => (message + 1_000, 0),
            _ => (message, self.random.below(2) as u32 * 50),
        };
        let value = if kind == action::DISPATCH { 0 } else { value };
        Action { kind, code: 0, group, consumer, value, message }
    }
}

impl DeliveryPolicy for Wild {
    fn generation(&self) -> Generation {
        Generation { number: self.generation, digest: "wild".into() }
    }

    fn powers(&self) -> Powers {
        Powers::default()
    }

    fn reads_messages(&self) -> bool {
        false
    }

    fn classify(&mut self, _now_ms: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        Ok(vec![0; subjects.len()])
    }

    fn open(&mut self, _now_ms: u64, _group: &GroupInfo<'_>) -> Result<Plan, Failure> {
        let interest = [
            event::READY,
            event::ACKED,
            event::NACKED,
            event::EXPIRED,
            event::JOINED,
            event::LEFT,
            event::CREDIT,
            event::LEASED,
            event::REFUSED,
            event::WOKE,
            event::GONE,
        ];
        let interest = interest.iter().fold(0, |bits, kind| bits | 1 << kind);
        Ok(Plan { chooser: 0, interest, lease_ms: LEASE_MS, ..Plan::AT_LEAST_ONCE })
    }

    fn join(&mut self, _now_ms: u64, _consumer: &Joining<'_>) -> Result<(), Failure> {
        match self.random.below(40) {
            0 => Err(Failure::Refused("not today".to_owned())),
            _ => Ok(()),
        }
    }

    fn close(&mut self, _now_ms: u64, group: u32) {
        self.consumers.retain(|&(of, _)| of != group);
        self.ready.retain(|&(of, _)| of != group);
    }

    fn step(
        &mut self,
        _now_ms: u64,
        events: &[Event],
        _ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        events.iter().for_each(|told| self.note(told));
        if self.random.chance(3) {
            self.consumers.clear();
            self.ready.clear();
            return Err(Failure::Restarted("a trap".to_owned()));
        }
        // Refusals alone are no reason to ask again: that would never end.
        if events.iter().all(|told| told.kind == event::REFUSED) {
            return Ok(());
        }
        let ready: Vec<_> = self.ready.iter().copied().collect();
        for (group, message) in ready {
            let there: Vec<_> = self.consumers.iter().filter(|&&(of, _)| of == group).collect();
            if !there.is_empty() {
                let consumer = self.random.pick(&there).1;
                let wish = self.wish(group, message, consumer);
                if wish.kind == action::DISPATCH && self.random.chance(50) {
                    self.ready.remove(&(group, message));
                }
                actions.push(wish);
            }
        }
        Ok(())
    }

    fn save(&mut self, _now_ms: u64) -> Option<(u32, Vec<u8>)> {
        Some((1, vec![1, 2, 3]))
    }

    fn load(&mut self, _now_ms: u64, _version: u32, _state: &[u8]) -> Result<(), Failure> {
        match self.random.chance(30) {
            true => Err(Failure::Refused("unknown state".to_owned())),
            false => Ok(()),
        }
    }
}
