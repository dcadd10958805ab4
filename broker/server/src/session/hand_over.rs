//! From runs to those who get them: outboxes of listeners, batches for shards.
//! The second half of a session's publisher.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use weir_core::directory::Target;
use weir_core::env::Now;
use weir_message::Parts;

use super::gathering::Send;
use super::publish::Publisher;
use super::route::Listener;
use super::run::{Run, Span};
use crate::broker::Broker;
use crate::limits::{
    COPIES_PER_READ_MAX, LISTENER_PROGRESS_BYTES_MIN, LISTENER_WAIT_MS_MAX, RUN_BYTES_MAX,
    SKIPPED_MESSAGES_MAX,
};
use crate::outbox::{Listened, Outbox};
use crate::wire::Refusal;

impl Publisher {
    /// Pushes the run into a listener's outbox, in frames of bounded length.
    pub(super) fn listen(&mut self, listener: &Listener, run: &Run, now: Now) {
        let mut first = 0;
        while first < run.segments.len() {
            let mut bytes = run.segments[first].len();
            let mut end = first + 1;
            while end < run.segments.len() && bytes + run.segments[end].len() <= RUN_BYTES_MAX {
                bytes += run.segments[end].len();
                end += 1;
            }
            self.listen_to(listener, &run.segments[first..end], &run.spans[first..end], now);
            first = end;
        }
    }

    fn listen_to(&mut self, listener: &Listener, segments: &[Bytes], spans: &[Span], now: Now) {
        let Listener { outbox, id } = listener;
        let rows = spans.iter().map(|span| span.rows).sum();
        let (listened, ring) = outbox.push_run(*id, now.wall_ms, rows, segments);
        if ring {
            self.touched.push(outbox.clone());
        }
        match listened {
            Listened::Skipped(total) => {
                if total >= SKIPPED_MESSAGES_MAX {
                    self.cut_off.push(listener.clone());
                }
                return;
            }
            Listened::Full => self.full.push(outbox.clone()),
            Listened::Taken => {}
        }
        for span in spans {
            if let Some(request) = self.frames[span.frame].request {
                self.receipt.requests[request].reached += u64::from(span.rows);
            }
        }
    }

    /// Gathers a run for each of `targets`.
    pub(super) fn gather(&mut self, targets: &[Target], run: &Run) {
        if targets.is_empty() {
            return;
        }
        let copies = u64::from(self.gathering.rows()) + u64::from(run.rows) * targets.len() as u64;
        if copies > COPIES_PER_READ_MAX {
            let rows: Vec<u32> =
                run.spans.iter().flat_map(|span| span.row..span.row + span.rows).collect();
            self.receipt.refused(run.rows, &rows, &Refusal::too_many_copies());
            return;
        }
        let first_source = self.gathering.add_sources(&run.segments);
        for target in targets {
            self.gather_for(target, run, first_source);
        }
    }

    fn gather_for(&mut self, target: &Target, run: &Run, first_source: u32) {
        let mut first = 0;
        for (source, (segment, span)) in (first_source..).zip(run.segments.iter().zip(&run.spans)) {
            let ends = &run.ends[first..first + span.rows as usize];
            first += span.rows as usize;
            let delay_ms = run.delay_ms.max(self.frames[span.frame].delay_ms);
            let place = (source, 0..segment.len() as u32);
            let rows = span.row..span.row + span.rows;
            self.gathering.add(target, delay_ms, place, ends.iter().copied(), rows);
        }
    }

    /// As by a run, for rows that lie as they were read in a source of what is gathered.
    pub(super) fn gather_rows(
        &mut self,
        target: &Target,
        (source, parts): (u32, &[Parts]),
        rows: Range<u32>,
    ) {
        let mut row = rows.start;
        while row < rows.end {
            let frame = self.frame_of(row);
            let end = self.frame_end(frame).min(rows.end);
            let of_frame = &parts[row as usize..end as usize];
            let (start, stop) = (of_frame[0].start, of_frame[of_frame.len() - 1].end);
            let ends = of_frame.iter().map(|part| part.end - start);
            let delay_ms = self.frames[frame].delay_ms;
            self.gathering.add(target, delay_ms, (source, start..stop), ends, row..end);
            row = end;
        }
    }

    /// Turns what was gathered into commands, but for what full queues have no place for,
    /// and opens the receipt for them or answers it at once.
    pub(super) fn prepare(
        &mut self,
        broker: &Broker,
        outbox: &Arc<Outbox>,
        makes_room: &HashSet<u32, RandomState>,
    ) -> Vec<Send> {
        let mut receipt = std::mem::take(&mut self.receipt);
        // Room that this client makes is there in the order it says so: only the shard
        // knows.
        let pressed = |shard, queue| match makes_room.contains(&shard) {
            true => None,
            false => broker.shards.pressed_queue(shard, queue),
        };
        let refused = self.gathering.shed(&mut self.flood, pressed);
        if !refused.is_empty() {
            receipt.refused(refused.len() as u32, &refused, &Refusal::queue_full());
        }
        receipt.outstanding = self.gathering.rows();
        let mut receipt_id = None;
        if !receipt.requests.is_empty() {
            let ring = outbox.push(|pen| {
                if receipt.is_complete() {
                    receipt.encode(pen.buffer());
                } else {
                    receipt_id = Some(pen.open_receipt(receipt));
                }
            });
            if ring {
                self.touched.push(outbox.clone());
            }
        }
        self.gathering.take(outbox.connection, receipt_id)
    }

    /// Waits a little for listeners that are far behind but still reading, so
    /// that a fast publisher does not outrun them. One that reads nothing in that
    /// time is not waited for again until it has caught up.
    pub(super) async fn wait_for_listeners(&mut self) {
        self.full.retain(|outbox| !outbox.is_slow());
        if self.full.is_empty() {
            return;
        }
        let full = std::mem::take(&mut self.full);
        let before: Vec<u64> = full.iter().map(|outbox| outbox.written_bytes()).collect();
        let drained = async {
            for outbox in &full {
                outbox.wait_drained().await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(LISTENER_WAIT_MS_MAX), drained).await.is_err()
        {
            for (outbox, before) in full.iter().zip(before) {
                if outbox.written_bytes() - before < LISTENER_PROGRESS_BYTES_MIN {
                    outbox.mark_slow();
                }
            }
        }
    }

    /// Subscriptions that missed too much and must be ended.
    pub fn take_cut_off(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.cut_off)
    }
}
