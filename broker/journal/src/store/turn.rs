//! A store's turn: from its first order to the hand-over.
//!
//! Invariants: orders leave together; what is left to another store is written by whoever
//! wants a sync next, or by the writer's thread: at once where that is too much for the
//! other, and two milliseconds or so later, at the next commit, where the other takes long.

use smallvec::SmallVec;
use weir_core::command::Level;
use weir_core::store::{LogId, Stamp, StoreError};
use weir_message::Batch;

use super::{Gone, JournalStore};
use crate::keeper::Told;
use crate::limits;
use crate::log::{Body, Log, resident};
use crate::order::{self, Order};
use crate::waits::Wait;

impl JournalStore {
    /// An order of this level is about to be added to the turn.
    pub(super) fn begin_turn(&mut self, level: Level) {
        if level == Level::Disk && !std::mem::replace(&mut self.is_in_turn, true) {
            self.shared.begin_turn();
        }
    }

    /// Appends what is longer than a block: in several, each message in one of them.
    pub(super) fn append_in_pieces(
        &mut self,
        log: LogId,
        stamp: Stamp,
        batch: Batch,
        level: Level,
    ) -> Result<(), StoreError> {
        let pieces = order::pieces(&batch, self.shared.config.block_bytes());
        let pieces = pieces.ok_or(StoreError::NoSpace)?;
        self.take_room(level, pieces.iter().map(resident).sum())?;
        for piece in pieces {
            let Log { number, end, .. } = *self.log(log);
            self.append_piece((log, number, end), stamp, piece, level);
        }
        Ok(())
    }

    /// Takes room for so many bytes of memory, and on the disk where they come there.
    pub(super) fn take_room(&mut self, level: Level, bytes: u64) -> Result<(), StoreError> {
        let has_room = match level {
            Level::Memory => self.pinned_bytes + bytes <= self.resident_max,
            _ => self.shared.take_room(&mut self.room_held, bytes),
        };
        has_room.then_some(()).ok_or(StoreError::NoSpace)
    }

    /// Appends what fits a block, for which there is room, to a log by its place and number
    /// here, at its end.
    pub(super) fn append_piece(
        &mut self,
        (log, number, base): (LogId, u64, u64),
        stamp: Stamp,
        batch: Batch,
        level: Level,
    ) {
        let (bytes, taken) = (batch.bytes.len() as u64, resident(&batch));
        let count = u32::try_from(batch.len()).expect("a batch has fewer than 2^32 messages");
        self.appended.push((log, base, base + u64::from(count), level));
        if level == Level::Memory {
            self.pinned_bytes += taken;
        } else {
            self.resident_bytes += taken;
            self.resident.push_back((log, base));
            self.begin_turn(level);
            let (Stamp { time_ms, due_ms }, batch) = (stamp, batch.clone());
            self.turn.push(Order::Append { level, log: number, base, time_ms, due_ms, batch });
        }
        self.log_mut(log).append(stamp, level, count, bytes, Body::Memory(batch, None));
    }

    pub(super) fn hand_over(&mut self) -> Result<(), StoreError> {
        let mut blocks = SmallVec::new();
        self.look_after_what_was_left();
        if !self.turn.is_empty() {
            let level = self.turn.iter().map(Order::level).max().unwrap_or_default();
            let bytes = self.turn.iter().map(Order::bytes).sum();
            let mut resting = self.shared.resting_writer(level, bytes);
            if std::mem::take(&mut self.is_in_turn) {
                self.shared.end_turn();
            }
            // What nobody would write quickly is the thread's from the start.
            let may_leave = resting.is_some() && self.shared.has_successor();
            if may_leave {
                // So that the other gets it.
                resting = None;
            }
            let shared = &self.shared;
            let orders = self.turn.drain(..);
            let handed_over = shared.hand_over(Some(self.number), orders, may_leave)?;
            // Its room is kept for the next turn, which is about as long.
            self.turn.shrink_to(limits::TURN_ORDERS_KEPT_MAX);
            (self.position, blocks) = (handed_over.position, handed_over.blocks);
            // Behind what was left before, it waits no longer than that.
            let since_ms = || self.left_ms.unwrap_or_else(|| shared.clock.now().steady_ms);
            self.left_ms = handed_over.is_left.then(since_ms);
            if !handed_over.is_left {
                if may_leave {
                    resting = shared.try_writer(level, bytes);
                }
                if let Some(writer) = resting.as_mut().and_then(|writer| writer.as_mut()) {
                    writer.step_to(self.position, level, self.number);
                }
                drop(resting);
                // What it wrote by itself may have failed.
                shared.check()?;
                shared.ring_writer();
            }
        }
        let mut blocks = blocks
            .into_iter()
            .flat_map(|(block, appends)| std::iter::repeat_n(block, appends as usize));
        for (log, base, end, level) in self.appended.drain(..) {
            let block = if level == Level::Memory { None } else { blocks.next() };
            let Some(target) = self.logs.get_mut(log.0) else { continue };
            if let Some(block) = block {
                target.lies_in(base, block);
            }
            let position = self.position;
            self.waits.add(&mut target.waiting, Wait { log, end, position }, level);
        }
        self.tell_gone();
        Ok(())
    }

    /// Has the thread write what was left to a store that takes long over its turn.
    fn look_after_what_was_left(&mut self) {
        let Some(left_ms) = self.left_ms else { return };
        let now_ms = self.shared.clock.now().steady_ms;
        if self.shared.written() >= self.position {
            self.left_ms = None;
        } else if now_ms > left_ms + limits::LEFT_MS_MAX {
            self.left_ms = None;
            self.shared.note_left_in_vain(now_ms);
            self.shared.ring_writer();
        }
    }

    /// Lets the keeper delete what holds nothing any more.
    pub(super) fn tell_gone(&mut self) {
        let position = self.position;
        for gone in self.gone.drain(..) {
            self.shared.tell(match gone {
                Gone::Log(log) => Told::Removed { log, position },
                Gone::Segments(log, segments) => Told::Trimmed { log, segments, position },
            });
        }
    }
}

impl Drop for JournalStore {
    fn drop(&mut self) {
        if self.is_in_turn {
            self.shared.end_turn();
        }
    }
}
