//! What one read publishes into queues and streams, and how the next read waits for it.
//!
//! A connection that has more to read gives others their turn first. Refusing costs a
//! fraction of storing, but who sends without end could have all of the broker's time spent
//! on refusals: when many messages were just refused by a full queue, its next read comes a
//! little later. Until then all that it has sent waits in its socket, and consumers make
//! room. A client that waits for its answers hardly ever meets this.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{FLOOD_LOOK_MS, FLOOD_MS_MAX, FLOOD_REFUSED_SHARE};
use crate::pressed::PressedQueue;
use crate::session::Session;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Messages for queues and streams.
    published: usize,
    /// Of those, by full queues.
    refused: usize,
    /// The one that refused last, and the bytes of the first message that it did.
    queue: Option<(Arc<PressedQueue>, u64)>,
}

impl Session {
    /// A read was acted on; whether there is more to read.
    pub async fn between_reads(&mut self, has_more: bool) {
        match has_more {
            true => self.publisher.flood.subside().await,
            false => self.publisher.flood.forget(),
        }
    }
}

impl Flood {
    pub(super) fn note_published(&mut self, messages: usize) {
        self.published += messages;
    }

    /// `bytes` are those of the first of them.
    pub(super) fn note_refused(&mut self, messages: usize, bytes: u64, by: Arc<PressedQueue>) {
        self.refused += messages;
        self.queue = Some((by, bytes));
    }

    /// Begins anew. The queue to wait for, when much was refused, and for how many bytes.
    fn take(&mut self) -> Option<(Arc<PressedQueue>, u64)> {
        let Self { published, refused, queue } = std::mem::take(self);
        queue.filter(|_| refused * FLOOD_REFUSED_SHARE >= published)
    }

    /// Begins anew without a pause.
    fn forget(&mut self) {
        *self = Self::default();
    }

    /// Waits until something may fit again, not for long.
    async fn subside(&mut self) {
        if self.published == 0 {
            return;
        }
        // While tasks run on the runtime does not look whose sockets are ready: who sends
        // without end would keep acknowledgements waiting for milliseconds.
        tokio::task::yield_now().await;
        let Some((queue, bytes)) = self.take() else { return };
        let until = Instant::now() + Duration::from_millis(FLOOD_MS_MAX);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(FLOOD_LOOK_MS)).await;
            if queue.has_room(bytes) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weir_core::command::DestinationId;
    use weir_core::effect::Free;

    use super::*;
    use crate::pressed::PressedQueues;

    fn pressed(messages: u64, bytes: u64) -> Arc<PressedQueue> {
        let (queues, id) = (PressedQueues::default(), DestinationId(1));
        queues.note([(id, Some(Free { messages, bytes }))].into_iter());
        queues.find(id).unwrap()
    }

    /// How long the next read waits, ms.
    async fn pause_ms(flood: &mut Flood) -> u64 {
        let started = Instant::now();
        flood.subside().await;
        started.elapsed().as_millis() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn who_floods_a_full_queue_waits_for_a_place_but_not_long() {
        let mut flood = Flood::default();
        flood.note_published(100);
        flood.note_refused(25, 100, pressed(0, u64::MAX));
        assert_eq!(pause_ms(&mut flood).await, FLOOD_MS_MAX);
        assert_eq!(pause_ms(&mut flood).await, 0, "once for each read");
        flood.note_published(100);
        flood.note_refused(100, 100, pressed(3, u64::MAX));
        assert_eq!(pause_ms(&mut flood).await, FLOOD_LOOK_MS, "there is a place by now");
        flood.note_published(100);
        flood.note_refused(100, 100, pressed(3, 99));
        assert_eq!(pause_ms(&mut flood).await, FLOOD_MS_MAX, "but not for so long a message");
    }

    #[tokio::test(start_paused = true)]
    async fn few_refusals_make_nobody_wait() {
        let mut flood = Flood::default();
        assert_eq!(pause_ms(&mut flood).await, 0);
        flood.note_published(100);
        assert_eq!(pause_ms(&mut flood).await, 0);
        flood.note_published(101);
        flood.note_refused(25, 100, pressed(0, u64::MAX));
        assert_eq!(pause_ms(&mut flood).await, 0);
        flood.note_published(1);
        flood.note_refused(1, 100, pressed(0, u64::MAX));
        flood.forget();
        assert_eq!(pause_ms(&mut flood).await, 0);
    }
}
