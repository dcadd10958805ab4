//! One consumer of a group: its credit, what it holds, and until when.
//!
//! Owned by `Group`. Invariants: every delivery takes one credit (or one place
//! of a pull) and every settlement of it gives that credit back; delivery tags
//! rise by one, from 1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::line::Line;
use super::ring::Ring;
use super::slot::MessageId;
use crate::command::{ConnectionId, RequestId, SubscriptionId};
use crate::effect::Run;
use crate::limits;

/// Number of a consumer, unique in the shard; policies know it by this.
pub(crate) type ConsumerId = u32;

/// A message in the hands of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: MessageId,
    /// Steady ms; `u64::MAX` where the delivery was settled when handed over and
    /// the consumer's ack only returns the credit.
    pub(crate) expires_ms: u64,
    pub(crate) bytes: u32,
    /// Tries before this one, of this consumer's copy.
    pub(crate) attempts: u16,
    /// Taken by a pull: settling it returns no credit.
    pub(crate) pulled: bool,
}

impl Delivery {
    /// Settled when it was handed over.
    pub(crate) fn is_settled(&self) -> bool {
        self.expires_ms == u64::MAX
    }
}

/// A message that a policy has chosen a consumer for who has no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) message: MessageId,
    /// Its lease, once it is handed over, ms.
    pub(crate) lease_ms: u32,
    /// When it is void, steady ms: a lease from when it was made.
    pub(crate) until_ms: u64,
}

/// A waiting receive.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) request: RequestId,
    pub(crate) max: u32,
    pub(crate) left: u32,
    /// Steady ms.
    pub(crate) until_ms: u64,
}

/// What became of deliveries that a consumer has settled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    /// Settled before, expired, or never handed out.
    pub(crate) unknown: u64,
}

impl Tally {
    /// Consumers may name any tags: the sum ends at the largest number.
    pub(crate) fn add(&mut self, more: Self) {
        self.done = self.done.saturating_add(more.done);
        self.unknown = self.unknown.saturating_add(more.unknown);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) connection: ConnectionId,
    pub(crate) subscription: SubscriptionId,
    /// Shared with the other consumers of its connection.
    pub(crate) line: Arc<Line>,
    /// What the policy has chosen for it, in that order, until there is room: its credit
    /// pays for each.
    pub(crate) promised: VecDeque<Promise>,
    pub(crate) name: String,
    pub(crate) labels: String,
    pub(crate) credit: u32,
    /// Picked for it in this turn, not yet handed over.
    pub(crate) picked: u32,
    pub(crate) bytes_in_flight: u64,
    pub(crate) deliveries: Ring<Delivery>,
    /// Ends of leases in tag order: steady ms, last tag.
    leases: VecDeque<(u64, u64)>,
    /// Leases that do not fit the order above, of what it holds: steady ms, tag.
    leases_apart: BTreeSet<(u64, u64)>,
    /// When the group looks at the leases next, steady ms; `u64::MAX` for never.
    pub(crate) check_ms: u64,
    /// The same of its promises.
    pub(crate) promise_check_ms: u64,
    /// Whether it stands in the group's line of open consumers.
    pub(crate) in_turn: bool,
    /// Messages meant for it that wait until it has room.
    pub(crate) waiting: BTreeSet<MessageId>,
    /// Failed tries of its own copies, where every consumer gets one.
    pub(crate) tries: BTreeMap<MessageId, u16>,
    pub(crate) pulls: VecDeque<Pull>,
    /// Of what it has settled without asking, since it last asked for all of that.
    pub(crate) untold: Tally,
    /// Runs of this turn, on their way out.
    pub(crate) outgoing: Vec<Run>,
}

impl Consumer {
    pub(crate) fn new(
        id: ConsumerId,
        line: Arc<Line>,
        subscription: SubscriptionId,
        credit: u32,
    ) -> Self {
        Self {
            id,
            connection: line.connection,
            subscription,
            line,
            promised: VecDeque::new(),
            name: String::new(),
            labels: String::new(),
            credit: credit.min(limits::CREDIT_MAX),
            picked: 0,
            bytes_in_flight: 0,
            deliveries: Ring::new(1),
            leases: VecDeque::new(),
            leases_apart: BTreeSet::new(),
            check_ms: u64::MAX,
            promise_check_ms: u64::MAX,
            in_turn: false,
            waiting: BTreeSet::new(),
            tries: BTreeMap::new(),
            pulls: VecDeque::new(),
            untold: Tally::default(),
            outgoing: Vec::new(),
        }
    }

    /// Deliveries it holds or will hold at the end of the turn.
    pub(crate) fn in_flight(&self) -> u32 {
        self.deliveries.len() as u32 + self.picked
    }

    /// Deliveries it may receive now. `bytes_max` bounds what it holds; one
    /// message passes whatever its size.
    pub(crate) fn room(&self, per_consumer: u32, bytes_max: u64) -> u32 {
        if self.bytes_left(bytes_max) == 0 { 0 } else { self.places(per_consumer) }
    }

    /// Deliveries that its credit and pulls pay for.
    pub(crate) fn places(&self, per_consumer: u32) -> u32 {
        let pulled: u32 = self.pulls.iter().map(|pull| pull.left).sum();
        let room = self.credit.saturating_add(pulled);
        if per_consumer == 0 {
            return room;
        }
        room.min(per_consumer.saturating_sub(self.in_flight()))
    }

    /// Bytes it may receive now; one message passes whatever its size.
    pub(crate) fn bytes_left(&self, bytes_max: u64) -> u64 {
        bytes_max.saturating_sub(self.bytes_in_flight).min(self.line.bytes_left())
    }

    /// Messages that may be reserved at once: those that one pull, or the credit, pays
    /// for.
    pub(crate) fn paid_at_once(&self) -> u32 {
        self.open_pull().map_or(self.credit, |place| self.pulls[place].left)
    }

    fn open_pull(&self) -> Option<usize> {
        self.pulls.iter().position(|pull| pull.left > 0)
    }

    /// More credit, up to the limit. Returns what was added.
    pub(crate) fn add_credit(&mut self, amount: u32) -> u32 {
        let before = self.credit;
        self.credit = before.saturating_add(amount).min(limits::CREDIT_MAX);
        self.credit - before
    }

    /// Takes room for `count` messages of `bytes` together, no more than are paid at
    /// once. True when a pull pays for them.
    pub(crate) fn reserve(&mut self, count: u32, bytes: u64) -> bool {
        self.picked += count;
        self.bytes_in_flight += bytes;
        if let Some(place) = self.open_pull() {
            self.pulls[place].left -= count;
            return true;
        }
        self.credit -= count;
        false
    }

    /// Undoes a `reserve` of one: the message was not handed over.
    pub(crate) fn release(&mut self, bytes: u32, pulled: bool) {
        self.picked -= 1;
        self.bytes_in_flight -= u64::from(bytes);
        if !pulled {
            self.credit += 1;
        } else if let Some(pull) = self.pulls.iter_mut().rev().find(|pull| pull.left < pull.max) {
            pull.left += 1;
        }
    }

    /// Hands over what was reserved, all with one end. Returns the first delivery tag
    /// and the number.
    pub(crate) fn hand_over(
        &mut self,
        expires_ms: u64,
        deliveries: impl Iterator<Item = Delivery>,
    ) -> (u64, u32) {
        let first = self.deliveries.next();
        self.deliveries.extend(deliveries);
        let next = self.deliveries.next();
        let count = (next - first) as u32;
        self.picked -= count;
        if expires_ms != u64::MAX {
            self.note_leases(first..next, expires_ms);
        }
        (first, count)
    }

    /// Takes a delivery out, with its credit.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Delivery> {
        let delivery = self.deliveries.remove(tag)?;
        if !self.leases_apart.is_empty() {
            self.leases_apart.remove(&(delivery.expires_ms, tag));
        }
        self.bytes_in_flight -= u64::from(delivery.bytes);
        if !delivery.pulled {
            self.credit = (self.credit + 1).min(limits::CREDIT_MAX);
        }
        Some(delivery)
    }

    /// Takes the deliveries `first..=last` out, with their credit, into `taken`.
    /// Returns the credit that came back.
    pub(crate) fn take_range(
        &mut self,
        first: u64,
        last: u64,
        taken: &mut Vec<(u64, Delivery)>,
    ) -> u32 {
        let (mut bytes, mut returned) = (0, 0);
        let apart = &mut self.leases_apart;
        self.deliveries.remove_range(first, last, |tag, delivery| {
            if !apart.is_empty() {
                apart.remove(&(delivery.expires_ms, tag));
            }
            bytes += u64::from(delivery.bytes);
            returned += u32::from(!delivery.pulled);
            taken.push((tag, delivery));
        });
        self.bytes_in_flight -= bytes;
        self.credit = self.credit.saturating_add(returned).min(limits::CREDIT_MAX);
        returned
    }

    /// Gives delivery `tag` another end.
    pub(crate) fn extend(&mut self, tag: u64, expires_ms: u64) -> bool {
        let Some(delivery) = self.deliveries.get_mut(tag) else { return false };
        if !delivery.is_settled() {
            self.leases_apart.remove(&(delivery.expires_ms, tag));
            delivery.expires_ms = expires_ms;
            self.leases_apart.insert((expires_ms, tag));
        }
        true
    }

    /// Tag of the delivery of `message`, if it is leased.
    pub(crate) fn tag_of(&self, message: MessageId) -> Option<u64> {
        self.deliveries
            .iter()
            .find(|(_, delivery)| delivery.message == message && !delivery.is_settled())
            .map(|(tag, _)| tag)
    }

    /// When the next lease may end, steady ms.
    pub(crate) fn next_lease_end(&self) -> u64 {
        let apart = self.leases_apart.first().map_or(u64::MAX, |&(at, _)| at);
        self.leases.front().map_or(apart, |&(at, _)| at.min(apart))
    }

    /// Appends the tags whose lease has ended by `now_ms`.
    pub(crate) fn ended_leases(&mut self, now_ms: u64, tags: &mut Vec<u64>) {
        let mut last_ended = None;
        while let Some(&(at, last)) = self.leases.front() {
            // What is settled needs no alarm.
            if at > now_ms && self.deliveries.first() <= last {
                break;
            }
            last_ended = Some(last);
            self.leases.pop_front();
        }
        let ended = |delivery: &Delivery| delivery.expires_ms <= now_ms;
        if let Some(last) = last_ended {
            let range = self.deliveries.range(0, last);
            tags.extend(range.filter(|(_, delivery)| ended(delivery)).map(|(tag, _)| tag));
        }
        while let Some(&(at, tag)) = self.leases_apart.first() {
            let delivery = self.deliveries.get(tag);
            if at > now_ms && delivery.is_some_and(|delivery| delivery.expires_ms == at) {
                break;
            }
            // An entry that is not the delivery's own end any more is stale, and
            // the range above has those up to `last_ended` already.
            let own = delivery.is_some_and(|delivery| delivery.expires_ms == at);
            if own && at <= now_ms && last_ended.is_none_or(|last| tag > last) {
                tags.push(tag);
            }
            self.leases_apart.pop_first();
        }
    }

    fn note_leases(&mut self, tags: Range<u64>, expires_ms: u64) {
        match self.leases.back_mut() {
            Some((at, last)) if *at == expires_ms => *last = tags.end - 1,
            Some((at, _)) if *at > expires_ms => {
                self.leases_apart.extend(tags.map(|tag| (expires_ms, tag)));
            }
            _ => self.leases.push_back((expires_ms, tags.end - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A consumer that holds six messages, with tags from 1 on.
    fn consumer() -> Consumer {
        let line = Arc::new(Line::new(ConnectionId(1), 1 << 20));
        let mut consumer = Consumer::new(1, line, SubscriptionId(1), 9);
        consumer.reserve(6, 6);
        let (expires_ms, bytes, attempts, pulled) = (100, 1, 0, false);
        let deliveries =
            (0..6).map(|message| Delivery { message, expires_ms, bytes, attempts, pulled });
        assert_eq!(consumer.hand_over(expires_ms, deliveries), (1, 6));
        consumer
    }

    #[test]
    fn what_is_settled_leaves_no_extended_lease_behind() {
        let mut consumer = consumer();
        for tag in 1..=6 {
            assert!(consumer.extend(tag, 200 - tag));
        }
        assert!(consumer.take(2).is_some());
        assert_eq!(consumer.take_range(4, 9, &mut Vec::new()), 3);
        let left: Vec<(u64, u64)> = consumer.leases_apart.iter().copied().collect();
        assert_eq!(left, [(197, 3), (199, 1)]);
        consumer.take_range(1, 3, &mut Vec::new());
        assert!(consumer.leases_apart.is_empty());
        assert_eq!((consumer.credit, consumer.bytes_in_flight), (9, 0));
    }
}
