//! Queues that refuse messages because they are full, as publishers' tasks see them: what
//! will not fit is refused before it is copied and sent to the shard.
//!
//! One per shard, which tells at the end of each turn what fits, and is told at the
//! beginning of each what was refused in its name. It is the shard that decides: what
//! is let through and does not fit after all it refuses itself. Invariant: whoever makes
//! room and then publishes finds it. So what fits is told here before anybody hears what
//! has made the room, and what a connection publishes that consumes there itself is left
//! to the shard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_core::command::DestinationId;
use weir_core::effect::Free;

/// What there is no bound for.
const EASED: Free = Free { messages: u64::MAX, bytes: u64::MAX };

/// Messages and bytes.
#[derive(Debug, Default)]
struct Amount {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Amount {
    fn load(&self) -> Free {
        Free { messages: self.messages.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    fn store(&self, amount: Free) {
        self.messages.store(amount.messages, Relaxed);
        self.bytes.store(amount.bytes, Relaxed);
    }
}

/// One of them.
#[derive(Debug, Default)]
pub struct PressedQueue {
    /// What fits: the shard's word, less what was let through since.
    free: Amount,
    /// Let through since the queue is pressed.
    admitted: Amount,
    /// The same, when the shard's turn began.
    admitted_before: Amount,
    /// Refused, and not counted by the shard yet.
    refused: AtomicU64,
}

impl PressedQueue {
    /// How many messages, the first of those that end at `ends` one behind the other, may
    /// go to the shard. The others are to be refused.
    pub fn admit(&self, ends: &[u32]) -> usize {
        let free = self.free.load();
        let fits = ends.iter().take_while(|end| u64::from(**end) <= free.bytes);
        let fitting = fits.take(usize::try_from(free.messages).unwrap_or(usize::MAX)).count();
        if let Some(last) = fitting.checked_sub(1) {
            let (messages, bytes) = (fitting as u64, u64::from(ends[last]));
            self.admitted.messages.fetch_add(messages, Relaxed);
            self.admitted.bytes.fetch_add(bytes, Relaxed);
            // Two publishers at once may take the same place: the shard sees to that.
            self.free.store(less(free, Free { messages, bytes }));
        }
        self.refused.fetch_add((ends.len() - fitting) as u64, Relaxed);
        fitting
    }
}

impl PressedQueue {
    /// As [`PressedQueue::admit`], behind a message that was refused: none of them.
    pub fn refuse(&self, ends: &[u32]) -> usize {
        self.refused.fetch_add(ends.len() as u64, Relaxed);
        0
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct PressedQueues {
    count: AtomicUsize,
    queues: RwLock<HashMap<DestinationId, Arc<PressedQueue>, RandomState>>,
}

impl PressedQueues {
    /// The queue, if it is pressed.
    #[must_use]
    pub fn find(&self, queue: DestinationId) -> Option<Arc<PressedQueue>> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(&queue).cloned()
    }

    /// The shard has emptied its inbox: what is let through from now on it does not know
    /// of when it says what fits. `count` is told what was refused since the last turn.
    pub fn begin_turn(&self, mut count: impl FnMut(DestinationId, u64)) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|&id, queue| {
            queue.admitted_before.store(queue.admitted.load());
            let refused = queue.refused.swap(0, Relaxed);
            if refused > 0 {
                count(id, refused);
            }
            refused > 0 || queue.free.load() != EASED
        });
        self.count.store(queues.len(), Relaxed);
    }

    /// The shard's word at the end of its turn; `None`: pressed no more.
    pub fn note(&self, id: DestinationId, free: Option<Free>) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        match free {
            Some(free) => {
                let queue = queues.entry(id).or_default();
                let on_its_way = less(queue.admitted.load(), queue.admitted_before.load());
                queue.free.store(less(free, on_its_way));
            }
            // It goes with the next turn: somebody may just have refused something.
            None => {
                if let Some(queue) = queues.get(&id) {
                    queue.free.store(EASED);
                }
            }
        }
        self.count.store(queues.len(), Relaxed);
    }
}

fn less(free: Free, taken: Free) -> Free {
    let less = |free: u64, taken: u64| match free {
        u64::MAX => free,
        _ => free.saturating_sub(taken),
    };
    Free { messages: less(free.messages, taken.messages), bytes: less(free.bytes, taken.bytes) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const QUEUE: DestinationId = DestinationId(7);

    fn counted(queues: &PressedQueues) -> Vec<u64> {
        let mut counted = Vec::new();
        queues.begin_turn(|id, messages| {
            assert_eq!(id, QUEUE);
            counted.push(messages);
        });
        counted
    }

    #[test]
    fn what_fits_is_let_through_once() {
        let queues = PressedQueues::default();
        assert!(queues.find(QUEUE).is_none());
        queues.note(QUEUE, Some(Free { messages: 3, bytes: u64::MAX }));
        let queue = queues.find(QUEUE).unwrap();
        assert_eq!(queue.admit(&[10, 20]), 2);
        assert_eq!(queue.admit(&[10, 20]), 1);
        assert_eq!(queue.admit(&[10]), 0);
        assert_eq!(counted(&queues), [2]);
        assert_eq!(counted(&queues), [0_u64; 0]);
    }

    #[test]
    fn what_is_on_its_way_is_taken_off() {
        let queues = PressedQueues::default();
        queues.note(QUEUE, Some(Free { messages: 5, bytes: 100 }));
        let queue = queues.find(QUEUE).unwrap();
        assert_eq!(queue.admit(&[10]), 1);
        assert_eq!(counted(&queues), [0_u64; 0]);
        // Let through while the shard is at work, so that it cannot have counted them.
        assert_eq!(queue.admit(&[10, 20]), 2);
        queues.note(QUEUE, Some(Free { messages: 4, bytes: 90 }));
        assert_eq!(queue.admit(&[1, 2, 3]), 2);
        queues.note(QUEUE, Some(Free { messages: u64::MAX, bytes: 50 }));
        assert_eq!(queue.admit(&[20, 40]), 1, "22 are on their way");
    }

    #[test]
    fn a_queue_that_is_eased_is_forgotten_once_all_is_counted() {
        let queues = PressedQueues::default();
        queues.note(QUEUE, Some(Free { messages: 0, bytes: u64::MAX }));
        let queue = queues.find(QUEUE).unwrap();
        assert_eq!(queue.admit(&[1]), 0);
        queues.note(QUEUE, None);
        assert_eq!(queue.admit(&[1]), 1);
        assert_eq!(counted(&queues), [1]);
        assert!(queues.find(QUEUE).is_some());
        assert_eq!(counted(&queues), [0_u64; 0]);
        assert!(queues.find(QUEUE).is_none());
        queues.note(QUEUE, None);
        assert!(queues.find(QUEUE).is_none());
    }
}
