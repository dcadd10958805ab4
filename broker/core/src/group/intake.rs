//! Taking messages from the log: facts, lanes and delays of what comes next.
//!
//! The plan's window bounds what waits. Beyond it the group looks where nothing in the
//! window helps a consumer that has room: all of it is owed to others or stands behind
//! a message of its key, and a slow consumer is to hurt itself only. A dispatch looks so
//! far and no farther, so that others have their turn; the next one goes on.

use super::lanes::lane_of;
use super::slot::{MessageId, Slot, State, message_id};
use super::{Group, Io};
use crate::env::Now;
use crate::limits;
use crate::store::StoreError;

/// Bytes of a message that count as one more.
const BEYOND_BYTES: usize = 4 << 10;
/// Messages that one dispatch takes beyond the window: about a millisecond's work.
pub(super) const BEYOND_MAX: usize = 4096;

/// Where a group is with taking messages.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// The partition whose turn it was last.
    turn: u16,
    /// Messages that this dispatch has taken beyond the window, long ones counted more.
    beyond: usize,
}

impl Group {
    /// Whether messages are looked at beyond the next to be handed out.
    fn is_windowed(&self) -> bool {
        self.plan.order > 0 || matches!(self.plan.chooser, 0 | 3)
    }

    fn needs_keys(&self) -> bool {
        self.plan.order == 1
            || matches!(self.plan.chooser, 0 | 3)
            || self.plan.interest >> crate::policy::event::READY & 1 == 1
    }

    /// Messages that may be taken now, when consumers have room for `demand`.
    fn intake_room(&self, demand: usize) -> usize {
        let wanted = if self.is_windowed() {
            match self.window_room() {
                0 if demand > 0 && self.is_stuck() => self.room_beyond(demand),
                room => room,
            }
        } else {
            // Not the lists' lengths: those hold entries of messages that are gone.
            demand.saturating_sub(self.in_state(State::Ready))
        };
        wanted.min(limits::PENDING_PER_GROUP_MAX.saturating_sub(self.live()))
    }

    /// Messages that wait for somebody to get them, or for one of their key.
    fn waiting(&self) -> usize {
        let waiting = [State::Ready, State::Offered, State::Blocked];
        waiting.map(|state| self.in_state(state)).iter().sum()
    }

    fn window_room(&self) -> usize {
        (self.plan.window.max(1) as usize).saturating_sub(self.waiting())
    }

    /// Whether only what comes later helps a consumer that has room. Where all messages
    /// are one line, that helps nobody.
    fn is_stuck(&self) -> bool {
        // Chooser 3: what is ready and not in line is owed to those whose key it has.
        let is_owed = self.plan.chooser == 3 && self.ready.is_empty();
        self.plan.order < 2 && (is_owed || self.in_state(State::Ready) == 0)
    }

    /// Messages that may be taken beyond the window: `demand`, then as many again as were
    /// taken in vain, so that a few rounds look at many. What is in flight, delayed or parked
    /// takes no room: nobody looks at it again when consumers come and go.
    fn room_beyond(&self, demand: usize) -> usize {
        let beyond = self.intake.beyond;
        let windows = limits::WINDOWS_HELD_MAX * self.plan.window as usize;
        let most = windows.max(limits::SMALL_WINDOW_HELD_MAX);
        let left = BEYOND_MAX.saturating_sub(beyond).min(most.saturating_sub(self.waiting()));
        demand.max(beyond).min(left)
    }

    /// A dispatch begins.
    pub(super) fn begin_intake(&mut self) {
        self.intake.beyond = 0;
    }

    /// Whether the last dispatch has stopped while there may be more for consumers that
    /// have room: another is to go on.
    pub(crate) fn is_behind(&self) -> bool {
        self.intake.beyond >= BEYOND_MAX
    }

    /// Takes messages beyond the window, if it is full. Whether there were any.
    pub(super) fn take_beyond(&mut self, io: &mut Io<'_>, demand: usize) -> bool {
        let before = self.intake.beyond;
        if self.window_room() == 0 {
            self.take_in(io, demand);
        }
        self.intake.beyond > before
    }

    /// Takes messages from the log until consumers' `demand` (or the window) is
    /// met. Partitions take turns.
    pub(super) fn take_in(&mut self, io: &mut Io<'_>, demand: usize) {
        for _ in 0..self.parts.len() {
            let turn = (usize::from(self.intake.turn) + 1) % self.parts.len();
            self.intake.turn = turn as u16;
            while self.intake_room(demand) > 0 && self.take_piece(io, turn, demand) {}
            if self.intake_room(demand) == 0 {
                return;
            }
        }
    }

    /// Takes one piece of neighbours. False when the partition has no more.
    fn take_piece(&mut self, io: &mut Io<'_>, partition: usize, demand: usize) -> bool {
        let part = &mut self.parts[partition];
        let bounds = io.store.bounds(part.log);
        part.skip_to(io.store, bounds.start);
        let settled_from = part.skip_settled(io.store);
        if part.slots.next() >= bounds.stable {
            return false;
        }
        let found = match io.reader.seek(io.store, part.log, part.slots.next()) {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(StoreError::Damaged { from, to }) => {
                // What lies before it was released.
                let from = from.max(part.slots.next());
                let count = part.skip_damage(io.store, to);
                let to = part.slots.next();
                self.note_lost(partition as u16, from..to, count);
                return true;
            }
            Err(_) => return false,
        };
        if io.reader.offset(found) >= settled_from {
            // What lay before is gone.
            part.skip_to(io.store, settled_from);
            return true;
        }
        part.skip_to(io.store, io.reader.offset(found));
        let records = io.reader.piece(found);
        let batch = &records.batch;
        let due_ms = due_steady_ms(io.now, records.due_ms);
        let needs_keys = self.needs_keys();
        let end = bounds.stable.min(settled_from);
        let readable = end - self.parts[partition].slots.next();
        let rows = batch.len().min(found.row.saturating_add(readable as usize));
        let mut left = self.intake_room(demand);
        let is_beyond = self.is_windowed() && self.window_room() == 0;
        if !needs_keys && self.plan.order == 0 && due_ms <= io.now.steady_ms {
            let rows = found.row..rows.min(found.row + left);
            self.admit_ready(partition, batch.lengths(rows));
            return true;
        }
        for row in found.row..rows {
            if left == 0 {
                break;
            }
            let message = batch.message(row);
            let key = needs_keys.then(|| key_of(message)).flatten();
            let bytes = message.len() as u32;
            self.admit(io.now.steady_ms, partition as u16, bytes, due_ms, key);
            self.intake.beyond += usize::from(is_beyond) * (1 + bytes as usize / BEYOND_BYTES);
            // One that waits for its time is none that a consumer gets now.
            left -= usize::from(due_ms <= io.now.steady_ms);
        }
        true
    }

    /// Takes the next messages of a partition, of these lengths in bytes, that wait for
    /// nothing and of which nobody wants to hear.
    fn admit_ready(&mut self, partition: usize, lengths: impl ExactSizeIterator<Item = u32>) {
        let count = lengths.len();
        let slots = &mut self.parts[partition].slots;
        let first = message_id(partition as u16, slots.next());
        let mut bytes = 0;
        slots.extend(lengths.map(|length| {
            bytes += u64::from(length);
            Slot { state: State::Ready, bytes: length, ..Slot::default() }
        }));
        self.live_bytes += bytes;
        self.counts[State::Ready as usize] += count as u32;
        self.ready.push_fresh(first, count as u64);
    }

    /// Takes the next message of a partition; it waits until `due_ms`.
    fn admit(&mut self, now_ms: u64, partition: u16, bytes: u32, due_ms: u64, key: Option<Key>) {
        let slot = Slot {
            state: State::Blocked,
            keyed: key.is_some_and(|key| key.keyed),
            bytes,
            key_hash: key.map_or(0, |key| key.hash),
            mark_ms: due_ms,
            ..Slot::default()
        };
        let offset = self.parts[usize::from(partition)].slots.push(slot);
        self.counts[State::Blocked as usize] += 1;
        self.live_bytes += u64::from(bytes);
        let message = message_id(partition, offset);
        let first = match lane_of(self.plan.order, &slot) {
            Some(key) => self.lanes.enter(key, message),
            None => true,
        };
        if first {
            self.make_eligible(now_ms, message, false);
        }
    }

    /// Looks up the keys of live messages, when the plan has begun to need them.
    pub(super) fn look_up_keys(&mut self, io: &mut Io<'_>) {
        if !self.needs_keys() {
            return;
        }
        let unknown: Vec<MessageId> = self.messages(|slot| slot.key_hash == 0);
        for message in unknown {
            let log = self.parts[super::partition_of(message)].log;
            let found = io.reader.find(io.store, log, super::offset_of(message));
            let key = found.ok().flatten().and_then(|found| key_of(io.reader.bytes(found)));
            if let (Some(key), Some(slot)) = (key, self.slot_mut(message)) {
                (slot.keyed, slot.key_hash) = (key.keyed, key.hash);
            }
        }
    }

    /// Live messages that `wanted` says yes to, in order.
    pub(super) fn messages(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<MessageId> {
        let mut messages = Vec::new();
        for (partition, part) in self.parts.iter().enumerate() {
            let some = part.slots.iter().filter(|(_, slot)| wanted(slot));
            messages.extend(some.map(|(offset, _)| message_id(partition as u16, offset)));
        }
        messages
    }
}

/// When a message is due whose record says `due_ms` (wall), steady ms; 0 when it
/// is. The wall clock is asked once: what it does later moves nothing, and one
/// that has jumped back delays no message for longer than any delay may be.
fn due_steady_ms(now: Now, due_ms: u64) -> u64 {
    match due_ms.saturating_sub(now.wall_ms) {
        0 => 0,
        left_ms => now.steady_ms + left_ms.min(limits::TIMER_MS_MAX),
    }
}

#[derive(Clone, Copy)]
struct Key {
    keyed: bool,
    hash: u32,
}

fn key_of(message: &[u8]) -> Option<Key> {
    let key = weir_message::parse(message, 0).ok()?.view(message).key;
    Some(Key { keyed: !key.is_empty(), hash: weir_message::key_hash(key) })
}
