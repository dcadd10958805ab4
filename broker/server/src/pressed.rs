//! Queues that refuse messages because they are full, as publishers' tasks see them: what
//! will not fit is refused before it is copied and sent to the shard.
//!
//! One per shard, which tells at the end of its turns what fits, and is told at the
//! beginning of each what was refused in its name. It is the shard that decides: what
//! is let through and does not fit after all it refuses itself. Invariants: whoever makes
//! room and then publishes finds it, so what fits is told here before anybody hears what
//! has made the room, and what a connection publishes that itself makes room there is
//! left to the shard; only the shard lowers or raises what may be let through, publishers
//! only count.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_core::command::DestinationId;
use weir_core::effect::Free;

/// Up to where messages are let through, for a queue that is pressed no more.
const EASED: u64 = u64::MAX;

/// Messages, and bytes of messages.
#[derive(Debug, Default)]
struct Amount {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Amount {
    fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

/// One of them.
#[derive(Debug, Default)]
pub struct PressedQueue {
    /// Let through since the queue is pressed.
    admitted: Amount,
    /// Of those, what the shard has taken out of its inbox.
    arrived: Amount,
    /// As many may be let through in all: the shard's word.
    until: Amount,
    /// Refused, and not counted by the shard yet.
    refused: AtomicU64,
}

impl PressedQueue {
    /// How many messages, the first of those that end at `ends` one behind the other, may
    /// go to the shard. The others are refused; two publishers at once may take the same
    /// place, and the shard sees to that.
    pub fn admit(&self, ends: &[u32]) -> usize {
        let (messages, bytes) = self.left();
        let fits = ends.iter().take_while(|end| u64::from(**end) <= bytes);
        let fitting = fits.take(usize::try_from(messages).unwrap_or(usize::MAX)).count();
        if let Some(last) = fitting.checked_sub(1) {
            self.admitted.add(fitting as u64, u64::from(ends[last]));
        }
        self.refused.fetch_add((ends.len() - fitting) as u64, Relaxed);
        fitting
    }

    /// As [`PressedQueue::admit`], behind a message that was refused: none of them.
    pub fn refuse(&self, ends: &[u32]) -> usize {
        self.refused.fetch_add(ends.len() as u64, Relaxed);
        0
    }

    /// Whether a message of so many bytes may be let through.
    pub fn has_room(&self, bytes: u64) -> bool {
        let left = self.left();
        left.0 > 0 && left.1 >= bytes
    }

    /// Messages and bytes that may be let through.
    fn left(&self) -> (u64, u64) {
        let left = |until: &AtomicU64, taken: &AtomicU64| match until.load(Relaxed) {
            EASED => EASED,
            until => until.saturating_sub(taken.load(Relaxed)),
        };
        let bytes = left(&self.until.bytes, &self.admitted.bytes);
        (left(&self.until.messages, &self.admitted.messages), bytes)
    }

    /// The shard has what was let through out of its inbox.
    pub fn arrive(&self, messages: u64, bytes: u64) {
        self.arrived.add(messages, bytes);
    }

    fn note(&self, free: Option<Free>) {
        let until = |free: Option<u64>, arrived: &AtomicU64| match free {
            None | Some(u64::MAX) => EASED,
            Some(free) => arrived.load(Relaxed).saturating_add(free),
        };
        let messages = until(free.map(|free| free.messages), &self.arrived.messages);
        let bytes = until(free.map(|free| free.bytes), &self.arrived.bytes);
        self.until.messages.store(messages, Relaxed);
        self.until.bytes.store(bytes, Relaxed);
    }

    fn is_eased(&self) -> bool {
        [&self.until.messages, &self.until.bytes].iter().all(|until| until.load(Relaxed) == EASED)
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

    /// The shard's turn begins: `count` is told what was refused since the last.
    pub fn begin_turn(&self, mut count: impl FnMut(DestinationId, u64)) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|&id, queue| {
            // One that somebody still holds may be about to refuse something.
            let is_over = queue.is_eased() && Arc::get_mut(queue).is_some();
            let refused = queue.refused.swap(0, Relaxed);
            if refused > 0 {
                count(id, refused);
            }
            !is_over
        });
        self.count.store(queues.len(), Relaxed);
    }

    /// The shard's word at the end of its turn; `None`: pressed no more.
    pub fn note(&self, told: impl Iterator<Item = (DestinationId, Option<Free>)>) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        for (id, free) in told {
            match queues.get(&id) {
                Some(queue) => queue.note(free),
                None if free.is_some() => queues.entry(id).or_default().note(free),
                None => {}
            }
        }
        self.count.store(queues.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicBool;

    use super::*;

    const QUEUE: DestinationId = DestinationId(7);

    fn counted(queues: &PressedQueues) -> u64 {
        let mut counted = 0;
        queues.begin_turn(|id, messages| {
            assert_eq!(id, QUEUE);
            counted += messages;
        });
        counted
    }

    fn note(queues: &PressedQueues, messages: u64, bytes: u64) {
        queues.note([(QUEUE, Some(Free { messages, bytes }))].into_iter());
    }

    #[test]
    fn what_fits_is_let_through_once() {
        let queues = PressedQueues::default();
        assert!(queues.find(QUEUE).is_none());
        note(&queues, 3, u64::MAX);
        let queue = queues.find(QUEUE).unwrap();
        assert_eq!(queue.admit(&[10, 20]), 2);
        assert_eq!(queue.admit(&[10, 20]), 1);
        assert_eq!(queue.admit(&[10]), 0);
        assert_eq!((counted(&queues), counted(&queues)), (2, 0));
    }

    #[test]
    fn what_is_on_its_way_is_taken_off() {
        let queues = PressedQueues::default();
        note(&queues, 5, 100);
        let queue = queues.find(QUEUE).unwrap();
        assert_eq!(queue.admit(&[10, 20, 30]), 3);
        queue.arrive(1, 10);
        // Two are still in the inbox when the shard says that four fit.
        note(&queues, 4, 90);
        assert_eq!(queue.admit(&[1, 2, 3]), 2);
        queue.arrive(4, 22);
        note(&queues, u64::MAX, 50);
        assert_eq!(queue.admit(&[20, 40, 60]), 2);
    }

    #[test]
    fn a_queue_that_is_eased_is_forgotten_once_nobody_can_refuse_in_its_name() {
        let queues = PressedQueues::default();
        note(&queues, 0, u64::MAX);
        let queue = queues.find(QUEUE).unwrap();
        queues.note([(QUEUE, None)].into_iter());
        assert_eq!(queue.admit(&[1]), 1);
        assert_eq!(queue.refuse(&[1]), 0);
        assert_eq!(counted(&queues), 1);
        assert!(queues.find(QUEUE).is_some());
        drop(queue);
        assert_eq!(counted(&queues), 0);
        assert!(queues.find(QUEUE).is_none());
        queues.note([(QUEUE, None)].into_iter());
        assert!(queues.find(QUEUE).is_none());
    }

    #[test]
    fn an_eased_queue_stays_eased_whatever_publishers_do_meanwhile() {
        let (queues, stop) = (PressedQueues::default(), AtomicBool::new(false));
        note(&queues, 64, u64::MAX);
        let queue = queues.find(QUEUE).unwrap();
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                while !stop.load(Relaxed) {
                    queue.admit(&[1; 64]);
                }
            });
            for _ in 0..10_000 {
                note(&queues, 64, u64::MAX);
                queues.note([(QUEUE, None)].into_iter());
                assert!(queues.find(QUEUE).unwrap().is_eased());
            }
            stop.store(true, Relaxed);
            publisher.join().unwrap();
            assert!(queue.is_eased());
            assert_eq!(queue.admit(&[1; 64]), 64);
        });
    }
}
