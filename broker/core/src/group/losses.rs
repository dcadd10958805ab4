//! Messages that turn out to be damaged when the group comes to them: how many there were,
//! and which of them its consumers have not been told of yet.
//!
//! Owned by `Group`. Invariants: what is noted is told with the first dispatch that finds a
//! consumer, to everybody who is there then; there are never more stretches than the bound
//! says, and one for each partition.

use std::ops::Range;

use super::Group;
use super::consumer::Consumer;
use super::slot::{MessageId, offset_of, partition_of};
use crate::effect::Effect;
use crate::limits;

/// Offsets among which messages are lost.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    partition: u16,
    from: u64,
    to: u64,
    /// Messages of it that nobody had settled.
    count: u64,
}

impl Stretch {
    /// As a consumer is told of it.
    fn told_to(self, consumer: &Consumer) -> Effect {
        let Self { partition, from, to, count } = self;
        let Consumer { connection, subscription, .. } = *consumer;
        Effect::Lost { connection, subscription, partition, from, to, count }
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Messages since the owner last asked.
    count: u64,
    untold: Vec<Stretch>,
}

impl Losses {
    /// Messages that could not be read back since the last call.
    pub(crate) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// Neighbours are told together, and so is what is apart where there is much of it.
    fn note(&mut self, new: Stretch) {
        let is_much = self.untold.len() >= limits::LOST_STRETCHES_MAX;
        let last = self.untold.iter_mut().rfind(|one| one.partition == new.partition);
        match last.filter(|last| is_much || last.to == new.from) {
            Some(last) => {
                (last.from, last.to) = (last.from.min(new.from), last.to.max(new.to));
                last.count += new.count;
            }
            None => self.untold.push(new),
        }
    }
}

impl Group {
    /// `count` messages in `range` are lost that nobody had settled: counted, for the
    /// operator as removed ones, and noted for the consumers.
    pub(super) fn note_lost(&mut self, partition: u16, range: Range<u64>, count: u64) {
        self.lost.count += count;
        if count > 0 {
            let Range { start: from, end: to } = range;
            self.lost.note(Stretch { partition, from, to, count });
        }
    }

    /// The store cannot read the message any more: noted as lost, and told to the policy.
    pub(crate) fn lose(&mut self, now_ms: u64, message: MessageId) {
        let Some(&slot) = self.slot(message) else { return };
        if slot.released {
            // Compaction has counted it.
            return self.gone(now_ms, message);
        }
        let (partition, offset) = (partition_of(message) as u16, offset_of(message));
        self.note_lost(partition, offset..offset + 1, 1);
        self.leave_out(now_ms, message);
    }

    /// Tells every consumer what was lost since the last one was told.
    pub(super) fn tell_lost(&mut self, effects: &mut Vec<Effect>) {
        if self.lost.untold.is_empty() || self.consumers.is_empty() {
            return;
        }
        let untold = std::mem::take(&mut self.lost.untold);
        for consumer in self.consumers.values() {
            effects.extend(untold.iter().map(|stretch| stretch.told_to(consumer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, attach, part};
    use super::super::slot::{State, message_id};
    use super::*;
    use crate::command::SubscriptionId;
    use crate::memory_store::MemoryStore;
    use crate::policy::Plan;

    /// A group over a log with `count` messages.
    fn group(store: &mut MemoryStore, count: usize) -> Group {
        fixture::group(store, Plan::AT_LEAST_ONCE, 0..count)
    }

    /// What everybody gets: of messages the number, of losses all.
    fn dispatch(group: &mut Group, store: &mut MemoryStore) -> Vec<String> {
        let text = |effect| match effect {
            Effect::Deliver { connection, runs, .. } => {
                let count: u32 = runs.iter().map(|run| run.count).sum();
                format!("{} gets {count}", connection.0)
            }
            Effect::Lost {
                connection,
                subscription: SubscriptionId(7),
                partition,
                from,
                to,
                count,
            } => format!("{} has lost {count} in {partition}/{from}..{to}", connection.0),
            other => panic!("not expected: {other:?}"),
        };
        fixture::dispatch(group, store).into_iter().map(text).collect()
    }

    #[test]
    fn what_was_taken_and_cannot_be_read_again_is_told_together_to_everybody() {
        let mut store = MemoryStore::new(0);
        let mut group = group(&mut store, 5);
        attach(&mut group, 1, 9);
        assert_eq!(dispatch(&mut group, &mut store), ["1 gets 5"]);
        group.leave(0, 1, false, &mut Vec::new());
        store.damage_log("orders", 1..4);
        attach(&mut group, 2, 9);
        attach(&mut group, 3, 0);
        assert_eq!(
            dispatch(&mut group, &mut store),
            ["2 has lost 3 in 0/1..4", "3 has lost 3 in 0/1..4", "2 gets 2"]
        );
        assert!(group.settled.is_empty(), "who puts the files back gets them");
        assert_eq!((group.lost.take_count(), group.lost.take_count()), (3, 0));
        assert_eq!((group.live(), group.in_state(State::InFlight)), (2, 2));
        assert!(dispatch(&mut group, &mut store).is_empty(), "once");
        for offset in [0, 4] {
            group.finish(0, message_id(0, offset));
        }
        assert_eq!(group.parts[0].floor(5), 1, "what is lost is not settled with the others");
    }

    #[test]
    fn what_is_lost_is_told_by_its_partition() {
        let mut store = MemoryStore::new(0);
        let mut group = group(&mut store, 2);
        group.parts.push(part(&mut store, "more", 0..3));
        store.damage_log("more", 0..2);
        attach(&mut group, 1, 4);
        let first = dispatch(&mut group, &mut store);
        assert_eq!(first, ["1 has lost 2 in 1/0..2", "1 gets 3"]);
        group.leave(0, 1, false, &mut Vec::new());
        store.damage_log("more", 2..3);
        attach(&mut group, 2, 4);
        assert_eq!(dispatch(&mut group, &mut store), ["2 has lost 1 in 1/2..3", "2 gets 2"]);
    }

    #[test]
    fn what_is_lost_while_nobody_is_there_is_told_to_who_comes_first() {
        let mut store = MemoryStore::new(0);
        let mut group = group(&mut store, 1);
        group.note_lost(0, 5..9, 0);
        group.note_lost(0, 5..9, 3);
        assert!(dispatch(&mut group, &mut store).is_empty());
        attach(&mut group, 1, 9);
        assert_eq!(dispatch(&mut group, &mut store), ["1 has lost 3 in 0/5..9", "1 gets 1"]);
        attach(&mut group, 2, 0);
        assert!(dispatch(&mut group, &mut store).is_empty(), "once");
        assert_eq!(group.lost.take_count(), 3);
    }

    #[test]
    fn very_many_stretches_are_told_as_few() {
        let mut store = MemoryStore::new(0);
        let mut group = group(&mut store, 1);
        attach(&mut group, 1, 0);
        let most = limits::LOST_STRETCHES_MAX as u64;
        for number in 0..=most + 1 {
            group.note_lost(0, 2 * number..2 * number + 1, 1);
        }
        let told = dispatch(&mut group, &mut store);
        assert_eq!(told.len() as u64, most);
        let (from, to) = (2 * most - 2, 2 * most + 3);
        assert_eq!(told.last(), Some(&format!("1 has lost 3 in 0/{from}..{to}")));
    }
}
