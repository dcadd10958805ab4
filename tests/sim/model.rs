//! What must be true of each queue, stream and group, told apart from how the
//! broker does it. Every check panics with the sentence that was broken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use weir_core::command::{ConnectionId, DestinationId, SubscriptionId};

/// A consumer as its connection names it.
pub(crate) type Consumer = (ConnectionId, SubscriptionId);

/// What a group promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Delivered until it is settled.
    AtLeastOnce,
    /// The same, and in order per key, one at a time.
    InOrder,
    /// Delivered once, or never.
    AtMostOnce,
    /// Delivered to every consumer.
    Everyone,
}

/// What became of a published message at one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Kept,
    Refused,
    /// The broker ended before it said so; it has it.
    Untold,
}

/// A message at one destination.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) key: u64,
    pub(crate) outcome: Outcome,
    /// Not before this moment, steady ms.
    pub(crate) due_ms: u64,
}

impl Message {
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.outcome, Outcome::Kept | Outcome::Untold)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) message: u64,
    pub(crate) lease_end_ms: u64,
}

/// What is known of an attached consumer.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) destination: DestinationId,
    pub(crate) group: String,
    /// The shard that serves it.
    pub(crate) shard: u32,
    /// Credit and pulls granted so far, deliveries.
    pub(crate) granted: u64,
    pub(crate) last_tag: u64,
}

/// A group as its consumers see it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rule: Rule,
    pub(crate) lease_ms: u64,
    pub(crate) held: BTreeMap<(Consumer, u64), Held>,
    /// Settled, and the answer has not come: it waits until it is safe.
    pub(crate) leaving: BTreeMap<(Consumer, u64), Held>,
    /// Acked or rejected, or handed over for good.
    pub(crate) finished: BTreeSet<u64>,
    /// For `Everyone`: acked by this consumer.
    finished_by: BTreeSet<(Consumer, u64)>,
    /// Settled in a range of which only a part was known: either way is right.
    pub(crate) unsure: BTreeSet<u64>,
    /// Rejected: where there was no room to bury them, they wait for it, and come
    /// again when the broker starts again meanwhile.
    pub(crate) rejected: BTreeSet<u64>,
    pub(crate) seen: BTreeMap<u64, u16>,
    /// A seek has left messages out, or retention may have.
    pub(crate) has_gaps: bool,
}

impl Group {
    pub(crate) fn new(rule: Rule, lease_ms: u64) -> Self {
        Self {
            rule,
            lease_ms,
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            finished: BTreeSet::new(),
            finished_by: BTreeSet::new(),
            unsure: BTreeSet::new(),
            rejected: BTreeSet::new(),
            seen: BTreeMap::new(),
            has_gaps: false,
        }
    }

    /// A seek: everything starts anew.
    pub(crate) fn forget(&mut self, has_gaps: bool) {
        let Self { rule, lease_ms, .. } = *self;
        *self = Self { has_gaps, ..Self::new(rule, lease_ms) };
    }

    pub(crate) fn lose_consumer(&mut self, consumer: Consumer) {
        self.held.retain(|(of, _), _| *of != consumer);
        // Nobody hears what became of these.
        let unheard = self.leaving.range((consumer, 0)..=(consumer, u64::MAX));
        self.unsure.extend(unheard.map(|(_, held)| held.message));
        self.leaving.retain(|(of, _), _| *of != consumer);
    }

    /// Leases of a consumer end otherwise: `end_ms` is given their end and the
    /// length of the group's.
    pub(crate) fn extend(
        &mut self,
        consumer: Consumer,
        tags: RangeInclusive<u64>,
        end_ms: impl Fn(u64, u64) -> u64,
    ) {
        if self.rule == Rule::AtMostOnce {
            return;
        }
        for tag in tags {
            if let Some(held) = self.held.get_mut(&(consumer, tag)) {
                held.lease_end_ms = end_ms(held.lease_end_ms, self.lease_ms);
            }
        }
    }

    /// A consumer settles deliveries.
    pub(crate) fn leave(&mut self, consumer: Consumer, tags: RangeInclusive<u64>) {
        for tag in tags {
            if let Some(held) = self.held.remove(&(consumer, tag)) {
                self.leaving.insert((consumer, tag), held);
            }
        }
    }

    /// The broker has started again: nobody holds anything, nobody heard what
    /// became of what was about to be settled.
    pub(crate) fn start_again(&mut self) {
        self.held.clear();
        let leaving = std::mem::take(&mut self.leaving);
        self.unsure.extend(leaving.into_values().map(|held| held.message));
        self.unsure.append(&mut self.rejected);
    }

    /// Whether it may have been settled and may not.
    fn is_unsure(&self, message: u64) -> bool {
        self.unsure.contains(&message) || self.leaving.values().any(|held| held.message == message)
    }

    /// Deliveries of a consumer whose lease runs.
    pub(crate) fn in_hand(&self, consumer: Consumer, now_ms: u64) -> u64 {
        let held = self.held.range((consumer, 0)..=(consumer, u64::MAX));
        held.filter(|(_, held)| held.lease_end_ms > now_ms).count() as u64
    }

    pub(crate) fn finish(&mut self, consumer: Consumer, message: u64) {
        if self.rule == Rule::Everyone {
            self.finished_by.insert((consumer, message));
        }
        self.finished.insert(message);
    }
}

/// A queue or stream.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) name: String,
    /// In the order in which the shard took them.
    pub(crate) messages: BTreeMap<u64, Message>,
    /// The order of each key.
    pub(crate) lanes: BTreeMap<u64, Vec<u64>>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// For dead-letter queues: what was seen in it.
    pub(crate) dead: BTreeSet<u64>,
    pub(crate) is_stream: bool,
    /// Retention removes messages.
    pub(crate) is_lossy: bool,
}

impl Destination {
    /// A message is handed to a consumer: may that be?
    pub(crate) fn check_delivery(
        &mut self,
        group: &str,
        consumer: Consumer,
        message: u64,
        attempt: u16,
        now_ms: u64,
    ) {
        let name = &self.name;
        let known = self.messages.get(&message);
        let known = known.unwrap_or_else(|| panic!("{name}: {message} was never published here"));
        assert!(known.is_there(), "{name}: {message} is delivered, not kept");
        assert!(known.due_ms <= now_ms, "{name}: {message} is delivered before its delay is over");
        let rules = self.groups.get(group).expect("a known group");
        let seen = rules.seen.get(&message).copied().unwrap_or(0);
        assert!(
            attempt >= 1 && (attempt <= seen + 1 || rules.has_gaps || rules.rule == Rule::Everyone),
            "{name}/{group}: {message} was seen {seen} times and has attempt {attempt}"
        );
        match rules.rule {
            Rule::Everyone => assert!(
                !rules.finished_by.contains(&(consumer, message)),
                "{name}/{group}: {message} is delivered to {consumer:?} after its ack"
            ),
            _ => assert!(
                !rules.finished.contains(&message) || rules.is_unsure(message),
                "{name}/{group}: {message} is delivered after it was settled"
            ),
        }
        if rules.rule == Rule::InOrder && known.key != 0 {
            self.check_order(group, message, known.key, now_ms);
        }
        let rules = self.groups.get_mut(group).expect("a known group");
        *rules.seen.entry(message).or_default() += 1;
        if rules.rule == Rule::AtMostOnce {
            rules.finished.insert(message);
        }
    }

    fn check_order(&self, group: &str, message: u64, key: u64, now_ms: u64) {
        let (name, rules) = (&self.name, &self.groups[group]);
        for held in rules.held.values() {
            let other = &self.messages[&held.message];
            assert!(
                other.key != key
                    || held.lease_end_ms <= now_ms
                    || rules.finished.contains(&held.message),
                "{name}/{group}: {message} is delivered while {} of its key is in flight",
                held.message
            );
        }
        for earlier in self.lanes[&key].iter().take_while(|&&other| other != message) {
            assert!(
                rules.finished.contains(earlier)
                    || rules.is_unsure(*earlier)
                    || rules.has_gaps
                    || self.messages[earlier].outcome == Outcome::Refused,
                "{name}/{group}: {message} overtakes {earlier} of its key"
            );
        }
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = u64> {
        self.messages
            .iter()
            .filter(|(_, message)| message.outcome == Outcome::Kept)
            .map(|(&id, _)| id)
    }
}
