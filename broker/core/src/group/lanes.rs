//! Order: messages of one key, one at a time.
//!
//! Owned by `Group`. A lane is the line of the messages of one key (or of the
//! whole group). The message at its head may be ready, delayed or in flight, and
//! nothing behind it moves until it has left the lane. Only after a change of
//! plan may several be in flight at once; then the lane waits for all of them.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::slot::{MessageId, Slot};

/// Which lane a message belongs to: 0 is the whole group's.
pub(crate) type LaneKey = u64;

/// Lane of a message under `order` (see `Plan::order`); `None` is no lane.
pub(crate) fn lane_of(order: u8, slot: &Slot) -> Option<LaneKey> {
    match order {
        0 => None,
        1 => slot.keyed.then(|| 1 << 32 | u64::from(slot.key_hash)),
        _ => Some(0),
    }
}

#[derive(Debug, Default)]
struct Lane {
    /// Messages that are ready, delayed or in flight: 1, but for a change of plan.
    busy: u32,
    /// Those behind, in offset order.
    queue: VecDeque<MessageId>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<LaneKey, Lane, FixedState>,
}

impl Lanes {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.lanes.clear();
    }

    /// Puts a message into its lane. True when it is at the head.
    pub(crate) fn enter(&mut self, key: LaneKey, message: MessageId) -> bool {
        let lane = self.lanes.entry(key).or_default();
        if lane.busy == 0 {
            lane.busy = 1;
            return true;
        }
        insert_in_order(&mut lane.queue, message);
        false
    }

    /// Counts a message that is with a consumer already (after a change of plan).
    pub(crate) fn enter_busy(&mut self, key: LaneKey) {
        self.lanes.entry(key).or_default().busy += 1;
    }

    /// A message that was at the head comes back from a consumer. True when it
    /// is at the head still; false when others are in flight and it waits.
    pub(crate) fn come_back(&mut self, key: LaneKey, message: MessageId) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return self.enter(key, message) };
        if lane.busy <= 1 {
            return true;
        }
        lane.busy -= 1;
        insert_in_order(&mut lane.queue, message);
        false
    }

    /// The head leaves the lane for good. Returns the next head.
    pub(crate) fn leave(&mut self, key: LaneKey) -> Option<MessageId> {
        let lane = self.lanes.get_mut(&key)?;
        lane.busy -= 1;
        if lane.busy > 0 {
            return None;
        }
        let next = lane.queue.pop_front();
        if next.is_some() {
            lane.busy = 1;
        } else {
            self.lanes.remove(&key);
        }
        next
    }

    /// A message that waits behind the head leaves.
    pub(crate) fn give_up_place(&mut self, key: LaneKey, message: MessageId) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let Ok(place) = lane.queue.binary_search(&message) {
            lane.queue.remove(place);
        }
    }
}

#[cfg(test)]
impl Lanes {
    /// # Panics
    /// When the lanes are not those that the messages' states make.
    pub(super) fn check(
        &self,
        busy: &std::collections::BTreeMap<LaneKey, u32>,
        blocked: &std::collections::BTreeMap<LaneKey, Vec<MessageId>>,
    ) {
        assert_eq!(self.lanes.len(), busy.len(), "a lane lives as long as it is busy");
        for (key, lane) in &self.lanes {
            assert_eq!(Some(&lane.busy), busy.get(key), "lane {key}");
            let none = Vec::new();
            assert!(lane.queue.iter().eq(blocked.get(key).unwrap_or(&none)), "lane {key}");
        }
        assert!(blocked.keys().all(|key| self.lanes.contains_key(key)), "nobody waits for nothing");
    }
}

fn insert_in_order(queue: &mut VecDeque<MessageId>, message: MessageId) {
    match queue.back() {
        Some(&last) if last > message => {
            let place = queue.partition_point(|&other| other < message);
            queue.insert(place, message);
        }
        _ => queue.push_back(message),
    }
}
