//! A group's own books, checked against each other. For tests only.

use std::collections::BTreeMap;

use super::Group;
use super::lanes::lane_of;
use super::slot::{MessageId, STATES, State, message_id};

impl Group {
    /// # Panics
    /// When something the group keeps disagrees with something else it keeps.
    pub(crate) fn check_books(&self) {
        let mut counts = [0; STATES];
        let mut bytes = 0;
        let mut busy: BTreeMap<u64, u32> = BTreeMap::new();
        let mut blocked: BTreeMap<u64, Vec<MessageId>> = BTreeMap::new();
        let holders = self.holders();
        for (partition, part) in self.parts.iter().enumerate() {
            for (offset, slot) in part.slots.iter() {
                let message = message_id(partition as u16, offset);
                counts[slot.state as usize] += 1;
                bytes += u64::from(slot.bytes);
                if let Some(lane) = lane_of(self.plan.order, slot) {
                    match slot.state {
                        State::Parked => {}
                        State::Blocked => blocked.entry(lane).or_default().push(message),
                        _ => *busy.entry(lane).or_default() += 1,
                    }
                }
                let listed = match slot.state {
                    State::Ready => {
                        self.ready.contains(message)
                            || self.consumers.values().any(|one| one.waiting.contains(&message))
                    }
                    State::Promised => {
                        let of_it = self.consumers.values().flat_map(|one| &one.promised);
                        of_it.filter(|promise| promise.message == message).count() == 1
                    }
                    State::Offered => self.timers.offers.contains(&(slot.mark_ms, message)),
                    State::Delayed => self.timers.delayed.contains(&(slot.mark_ms, message)),
                    State::Blocked => self.plan.order > 0,
                    State::InFlight => {
                        holders.get(&message).copied().unwrap_or(0) == slot.holders
                            && slot.holders > 0
                    }
                    State::Dying => self.dying.iter().any(|dying| dying.message == message),
                    State::Parked => true,
                };
                assert!(listed, "{message} is {:?} and nobody knows: {slot:?}", slot.state);
            }
        }
        assert_eq!(counts, self.counts, "states are counted right");
        assert_eq!(bytes, self.live_bytes, "bytes are counted right");
        assert_eq!(self.in_state(State::Delayed), self.timers.delayed.len());
        self.lanes.check(&busy, &blocked);
        assert!(self.timers.promise_checks.len() <= self.consumers.len(), "one for each");
        for consumer in self.consumers.values() {
            let first_ms = consumer.promised.iter().map(|promise| promise.until_ms).min();
            if let Some(first_ms) = first_ms {
                assert!(consumer.promise_check_ms <= first_ms, "every promise is watched");
                let check = (consumer.promise_check_ms, consumer.id);
                assert!(self.timers.promise_checks.contains(&check));
            }
            assert!(consumer.promised.len() <= consumer.places(self.plan.per_consumer) as usize);
            assert_eq!((consumer.picked, consumer.outgoing.len()), (0, 0));
            for &message in consumer.tries.keys() {
                // Who gets a copy may try again while the message is in flight, not longer.
                let state = self.slot(message).map(|slot| slot.state);
                assert_eq!(state, Some(State::InFlight), "{message} is to be tried again");
                assert_eq!(self.plan.spread, 1, "others count the tries of all together");
            }
            let held: u64 = consumer.deliveries.iter().map(|(_, one)| u64::from(one.bytes)).sum();
            assert_eq!(held, consumer.bytes_in_flight);
            let leased = consumer.deliveries.iter().filter(|(_, one)| !one.is_settled());
            if let Some(first) = leased.map(|(_, one)| one.expires_ms).min() {
                assert!(consumer.check_ms <= first, "every lease is watched");
                assert!(self.timers.lease_checks.contains(&(consumer.check_ms, consumer.id)));
            }
        }
    }

    /// How often each message is held by, or owed to, a consumer.
    fn holders(&self) -> BTreeMap<MessageId, u16> {
        let mut holders = BTreeMap::new();
        let mut count = |message: MessageId| *holders.entry(message).or_default() += 1;
        for consumer in self.consumers.values() {
            let held = consumer.deliveries.iter().filter(|(_, one)| !one.is_settled());
            held.for_each(|(_, delivery)| count(delivery.message));
            if self.plan.spread == 1 {
                consumer.waiting.iter().for_each(|&message| count(message));
            }
        }
        self.timers.delayed_copies.iter().for_each(|copy| count(copy.2));
        holders
    }
}
