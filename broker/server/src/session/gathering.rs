//! What a read brings for queues and streams, until it is handed over: message by
//! message in, one batch for each of them out.
//!
//! Scratch of one session's publisher. Invariants: messages of one queue or stream
//! keep their order; the destinations of a shard come out in the order in which they were
//! first met; a small batch keeps no more than [`PACKED_BYTES_MAX`] alive in memory, and
//! nothing that another shard counts, too.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_core::command::{
    Command, ConnectionId, DestinationId, Lone, Publish, ReceiptId, Rows, Spread,
};
use weir_core::directory::Target;
use weir_message::{Batch, Ends};

use crate::limits::PACKED_BYTES_MAX;
use crate::pressed::PressedQueue;
use crate::session::flood::Flood;
use crate::shards::{Admitted, Load};

/// No further piece.
const NONE: u32 = u32::MAX;

/// One queue or stream, for messages with one delay.
#[derive(Debug)]
struct Slot {
    destination: DestinationId,
    shard: u32,
    delay_ms: u32,
    rows: u32,
    bytes: usize,
    /// Its pieces, a list through `Piece::next`.
    first: u32,
    last: u32,
}

impl Slot {
    /// Whether it holds one message, which waits for nothing.
    fn is_lone(&self) -> bool {
        self.rows == 1 && self.delay_ms == 0
    }
}

/// Neighbouring messages for one slot.
#[derive(Debug)]
struct Piece {
    /// Which of `Gathering::sources` they lie in, and where.
    source: u32,
    start: u32,
    end: u32,
    /// Where their ends, relative to `start`, begin in `Gathering::ends`.
    ends_at: u32,
    row: u32,
    rows: u32,
    next: u32,
}

/// Commands for one shard, and what they hold.
pub(super) type Send = (u32, Vec<Command>, Load);

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    by_destination: HashMap<(DestinationId, u32), u32, RandomState>,
    slots: Vec<Slot>,
    /// What pieces lie in: shared once, not for each of them.
    sources: Vec<Bytes>,
    pieces: Vec<Piece>,
    ends: Vec<u32>,
    rows: u32,
    /// By shard, what pressed queues have a place for.
    admitted: Vec<(u32, Admitted)>,
}

impl Gathering {
    /// Messages so far; one for two destinations counts twice.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes that messages are added of. What it returns names the first of them in
    /// [`Self::add`], the next number the next.
    pub(super) fn add_sources(&mut self, bytes: &[Bytes]) -> u32 {
        self.sources.extend_from_slice(bytes);
        (self.sources.len() - bytes.len()) as u32
    }

    /// Adds the messages that lie at `place` of a source, end to end; `ends` are theirs,
    /// relative to its start, and `rows` their rows.
    pub(super) fn add(
        &mut self,
        target: &Target,
        delay_ms: u32,
        (source, place): (u32, Range<u32>),
        ends: impl IntoIterator<Item = u32>,
        rows: Range<u32>,
    ) {
        let slot = match self.slots.last() {
            Some(last) if last.destination == target.id && last.delay_ms == delay_ms => {
                self.slots.len() - 1
            }
            _ => self.slot_of(target, delay_ms),
        };
        let (piece, ends_at) = (self.pieces.len() as u32, self.ends.len() as u32);
        self.ends.extend(ends);
        let slot = &mut self.slots[slot];
        match slot.last {
            NONE => slot.first = piece,
            last => self.pieces[last as usize].next = piece,
        }
        let (Range { start, end }, row, rows) = (place, rows.start, rows.end - rows.start);
        slot.last = piece;
        slot.rows += rows;
        slot.bytes += (end - start) as usize;
        self.rows += rows;
        self.pieces.push(Piece { source, start, end, ends_at, row, rows, next: NONE });
    }

    fn slot_of(&mut self, target: &Target, delay_ms: u32) -> usize {
        let slots = &mut self.slots;
        let slot = self.by_destination.entry((target.id, delay_ms)).or_insert_with(|| {
            slots.push(Slot {
                destination: target.id,
                shard: target.shard,
                delay_ms,
                rows: 0,
                bytes: 0,
                first: NONE,
                last: NONE,
            });
            slots.len() as u32 - 1
        });
        *slot as usize
    }

    /// Takes out what pressed queues have no place for. Returns its rows. What is let
    /// through is noted with the commands for its shard.
    pub(super) fn shed(
        &mut self,
        flood: &mut Flood,
        find: impl Fn(u32, DestinationId) -> Option<Arc<PressedQueue>>,
    ) -> Vec<u32> {
        let mut refused = Vec::new();
        let Self { slots, pieces, ends, rows, admitted, .. } = self;
        slots.retain_mut(|slot| {
            let Some(queue) = find(slot.shard, slot.destination) else { return true };
            let (mut at, mut is_full, before) = (slot.first, false, refused.len());
            let mut first_bytes = 0;
            while let Some(piece) = pieces.get_mut(at as usize) {
                let of_piece = &ends[piece.ends_at as usize..][..piece.rows as usize];
                // Behind one that does not fit, none does: they keep their order.
                let fitting = if is_full { queue.refuse(of_piece) } else { queue.admit(of_piece) };
                at = piece.next;
                if fitting < of_piece.len() {
                    let left = fitting.checked_sub(1).map_or(0, |last| of_piece[last] as usize);
                    if !is_full {
                        first_bytes = u64::from(of_piece[fitting]) - left as u64;
                    }
                    is_full = true;
                    refused.extend(piece.row + fitting as u32..piece.row + piece.rows);
                    let gone = piece.rows - fitting as u32;
                    let stop = piece.start + left as u32;
                    slot.bytes -= (std::mem::replace(&mut piece.end, stop) - stop) as usize;
                    (piece.rows, slot.rows, *rows) =
                        (fitting as u32, slot.rows - gone, *rows - gone);
                }
            }
            if is_full {
                flood.note_refused(refused.len() - before, first_bytes, queue.clone());
            }
            if slot.rows > 0 {
                let (messages, bytes) = (u64::from(slot.rows), slot.bytes as u64);
                admitted.push((slot.shard, Admitted { queue, messages, bytes }));
            }
            slot.rows > 0
        });
        refused
    }

    /// Turns everything into commands, by shard, and begins anew.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        receipt: Option<ReceiptId>,
    ) -> Vec<Send> {
        let mut sends: Vec<Send> = Vec::new();
        self.slots.sort_by_key(|slot| slot.shard);
        let mut batches = self.batches().into_iter();
        for of_shard in self.slots.chunk_by(|one, next| one.shard == next.shard) {
            let (mut commands, mut load) = (Vec::new(), Load::default());
            for alike in of_shard.chunk_by(|one, next| one.is_lone() && next.is_lone()) {
                load.bytes += alike.iter().map(|slot| slot.bytes).sum::<usize>();
                let mut with_batches = alike.iter().zip(&mut batches);
                if alike.len() > 1 {
                    let lone = |(slot, batch): (&Slot, Batch)| Lone {
                        destination: slot.destination,
                        row: self.pieces[slot.first as usize].row,
                        message: batch.bytes,
                    };
                    let mut messages = Vec::with_capacity(alike.len());
                    messages.extend(with_batches.map(lone));
                    commands.push(Command::Spread(Spread { connection, receipt, messages }));
                } else if let Some((slot, batch)) = with_batches.next() {
                    commands.push(Command::Publish(Publish {
                        destination: slot.destination,
                        connection,
                        receipt,
                        batch,
                        rows: self.rows_of(slot),
                        delay_ms: slot.delay_ms,
                    }));
                }
            }
            sends.push((of_shard[0].shard, commands, load));
        }
        for (shard, admitted) in self.admitted.drain(..) {
            let send = sends.iter_mut().find(|(number, ..)| *number == shard);
            let (.., load) = send.expect("what was let through is sent");
            load.admitted.push(admitted);
        }
        self.clear();
        sends
    }

    /// The messages of each slot, which lie shard by shard. Small ones lie in memory with
    /// their neighbours: an allocation for each costs more than the copy. Not with those of
    /// another shard: both would count its owners on one line of the caches, at once. A long
    /// piece that is a slot's only one is copied once for all such slots: what a frame is
    /// published to does not multiply its bytes.
    fn batches(&self) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::with_capacity(self.slots.len());
        for of_shard in self.slots.chunk_by(|one, next| one.shard == next.shard) {
            let mut left: usize = of_shard.iter().map(|slot| slot.bytes).sum();
            let (mut pack, mut packed) = (Vec::new(), batches.len());
            let mut copied: HashMap<(u32, u32), Bytes, RandomState> = HashMap::default();
            for slot in of_shard {
                if slot.bytes > PACKED_BYTES_MAX && slot.first == slot.last {
                    unpack(&mut pack, &mut batches[packed..]);
                    let piece = &self.pieces[slot.first as usize];
                    let copied = copied.entry((piece.source, piece.start)).or_default();
                    // Of several a full queue may have taken the end off.
                    if copied.len() < slot.bytes {
                        *copied = Bytes::copy_from_slice(self.bytes_of(piece));
                    }
                    left -= slot.bytes;
                    let ends = Ends::from_slice(self.ends_of(piece));
                    batches.push(Batch { bytes: copied.slice(..slot.bytes), ends });
                    packed = batches.len();
                    continue;
                }
                if pack.is_empty() || pack.len() + slot.bytes > PACKED_BYTES_MAX {
                    unpack(&mut pack, &mut batches[packed..]);
                    packed = batches.len();
                    // What is not filled stays with the last that is kept.
                    pack.reserve_exact(slot.bytes.max(PACKED_BYTES_MAX.min(left)));
                }
                left -= slot.bytes;
                let ends = self.copy(slot, &mut pack);
                batches.push(Batch { bytes: Bytes::new(), ends });
            }
            unpack(&mut pack, &mut batches[packed..]);
        }
        batches
    }

    fn pieces_of(&self, slot: &Slot) -> impl Iterator<Item = &Piece> {
        let piece = |at: u32| self.pieces.get(at as usize);
        std::iter::successors(piece(slot.first), move |last| piece(last.next))
    }

    /// Copies the slot's messages to the end of `into`. Returns their ends.
    fn copy(&self, slot: &Slot, into: &mut Vec<u8>) -> Ends {
        let mut ends = Ends::with_capacity(slot.rows as usize);
        let start = into.len();
        for piece in self.pieces_of(slot) {
            let base = (into.len() - start) as u32;
            into.extend_from_slice(self.bytes_of(piece));
            ends.extend(self.ends_of(piece).iter().map(|end| base + end));
        }
        ends
    }

    fn bytes_of(&self, piece: &Piece) -> &[u8] {
        &self.sources[piece.source as usize][piece.start as usize..piece.end as usize]
    }

    /// Where the messages of a piece end, relative to its start.
    fn ends_of(&self, piece: &Piece) -> &[u32] {
        &self.ends[piece.ends_at as usize..][..piece.rows as usize]
    }

    fn rows_of(&self, slot: &Slot) -> Rows {
        let mut rows = Rows::with_capacity(slot.rows as usize);
        for piece in self.pieces_of(slot) {
            rows.extend(piece.row..piece.row + piece.rows);
        }
        rows
    }

    fn clear(&mut self) {
        self.by_destination.clear();
        self.slots.clear();
        self.sources.clear();
        self.pieces.clear();
        self.ends.clear();
        self.rows = 0;
    }
}

/// Gives batches whose messages lie in `pack` one behind the other their bytes.
fn unpack(pack: &mut Vec<u8>, batches: &mut [Batch]) {
    let pack = Bytes::from(std::mem::take(pack));
    let mut at = 0;
    for batch in batches {
        let len = batch.ends.last().map_or(0, |end| *end as usize);
        batch.bytes = pack.slice(at..at + len);
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use weir_core::effect::Free;

    use super::*;
    use crate::pressed::PressedQueues;

    fn add(gathering: &mut Gathering, id: u32, delay_ms: u32, row: u32, messages: &[&str]) {
        let mut ends = Vec::new();
        let mut segment = String::new();
        for message in messages {
            segment.push_str(message);
            ends.push(segment.len() as u32);
        }
        let target = Target { id: DestinationId(id), shard: id % 2 };
        // Something else lies before them.
        let source = gathering.add_sources(&[format!("else{segment}").into()]);
        let place = 4..4 + segment.len() as u32;
        gathering.add(&target, delay_ms, (source, place), ends, row..row + messages.len() as u32);
    }

    /// What commands publish, one by one.
    fn publishes(commands: Vec<Command>) -> impl Iterator<Item = Publish> {
        commands.into_iter().flat_map(|command| match command {
            Command::Publish(publish) => vec![publish],
            Command::Spread(spread) => spread.publishes().collect(),
            _ => panic!("nothing else is made"),
        })
    }

    fn told(sends: Vec<Send>) -> Vec<String> {
        let mut told = Vec::new();
        for (shard, commands, Load { bytes, .. }) in sends {
            for publish in publishes(commands) {
                let messages: Vec<String> = publish
                    .batch
                    .iter()
                    .map(|message| String::from_utf8_lossy(message).into_owned())
                    .collect();
                let (id, delay_ms) = (publish.destination.0, publish.delay_ms);
                let rows = publish.rows.as_slice();
                told.push(format!("{shard}: {id} +{delay_ms} {messages:?} {rows:?}"));
            }
            told.push(format!("{shard}: {bytes} bytes"));
        }
        told
    }

    #[test]
    fn messages_come_out_by_destination_in_order() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1, 0, 0, &["a", "bc"]);
        add(&mut gathering, 2, 0, 2, &["d"]);
        add(&mut gathering, 1, 0, 3, &["ef"]);
        add(&mut gathering, 1, 50, 4, &["g"]);
        add(&mut gathering, 4, 0, 5, &["h"]);
        assert_eq!(gathering.rows(), 6);
        let sends = gathering.take(ConnectionId(1), None);
        let expected = [
            r#"0: 2 +0 ["d"] [2]"#,
            r#"0: 4 +0 ["h"] [5]"#,
            "0: 2 bytes",
            r#"1: 1 +0 ["a", "bc", "ef"] [0, 1, 3]"#,
            r#"1: 1 +50 ["g"] [4]"#,
            "1: 6 bytes",
        ];
        assert_eq!(told(sends), expected);
        assert_eq!(gathering.rows(), 0);
        assert!(gathering.take(ConnectionId(1), None).is_empty());
    }

    #[test]
    fn lone_messages_cross_in_commands_no_larger_than_they_are() {
        let mut gathering = Gathering::default();
        // Two between any two lone ones, and a run of lone ones.
        for id in (0..400).step_by(4) {
            add(&mut gathering, id, 0, id, &["a"]);
            add(&mut gathering, id + 2, 0, id + 1, &["b", "c"]);
        }
        (400..600).step_by(2).for_each(|id| add(&mut gathering, id, 0, id, &["d"]));
        let sends = gathering.take(ConnectionId(1), None);
        let [(_, commands, _)] = &sends[..] else { panic!("all go to one shard") };
        let spreads = commands.iter().filter_map(|command| match command {
            Command::Spread(spread) => Some((spread.messages.len(), spread.messages.capacity())),
            _ => None,
        });
        assert_eq!(spreads.collect::<Vec<_>>(), [(100, 100)]);
    }

    #[test]
    fn a_long_piece_for_many_queues_is_copied_once_a_shard() {
        let mut gathering = Gathering::default();
        let message = "a".repeat(PACKED_BYTES_MAX + 1);
        let source = gathering.add_sources(&[format!("{message}{message}").into()]);
        let len = message.len() as u32;
        for id in 0..100 {
            let target = Target { id: DestinationId(id), shard: id % 2 };
            // What is in between is in memory with its neighbours.
            if id % 10 == 5 {
                add(&mut gathering, 1_000 + id, 0, 2, &["b"]);
            }
            gathering.add(&target, 0, (source, 0..2 * len), [len, 2 * len], 0..2);
        }
        // Of one of them only the first fits.
        let pressed = PressedQueues::default();
        let free = Some(Free { messages: 1, bytes: u64::MAX });
        pressed.note([(DestinationId(4), free)].into_iter());
        gathering.shed(&mut Flood::default(), |_, queue| pressed.find(queue));
        let sends = gathering.take(ConnectionId(1), None);
        assert_eq!(sends.len(), 2);
        for (_, commands, _) in sends {
            let mut copies: Vec<*const u8> = Vec::new();
            for Publish { destination, batch, .. } in publishes(commands) {
                if destination.0 >= 1_000 {
                    assert_eq!(&batch.bytes[..], b"b");
                    continue;
                }
                let rows = if destination.0 == 4 { 1 } else { 2 };
                assert_eq!(batch.len(), rows, "{destination:?}");
                assert!(batch.iter().all(|it| it == message.as_bytes()), "{destination:?}");
                copies.push(batch.bytes.as_ptr());
            }
            copies.dedup();
            assert_eq!(copies.len(), 1);
        }
    }

    #[test]
    fn what_a_pressed_queue_has_no_place_for_is_taken_out() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1, 0, 0, &["a", "bc"]);
        add(&mut gathering, 2, 0, 2, &["d"]);
        add(&mut gathering, 1, 0, 3, &["ef", "g"]);
        add(&mut gathering, 3, 0, 5, &["h"]);
        let pressed = PressedQueues::default();
        let free = |messages| Some(Free { messages, bytes: u64::MAX });
        pressed.note([(DestinationId(1), free(3)), (DestinationId(3), free(0))].into_iter());
        assert_eq!(gathering.shed(&mut Flood::default(), |_, queue| pressed.find(queue)), [4, 5]);
        assert_eq!(gathering.rows(), 4);
        let sends = gathering.take(ConnectionId(1), None);
        let [admitted] = &sends[1].2.admitted[..] else { panic!("one is pressed") };
        assert_eq!((admitted.messages, admitted.bytes), (3, 5));
        assert!(sends[0].2.admitted.is_empty());
        let expected = [
            r#"0: 2 +0 ["d"] [2]"#,
            "0: 1 bytes",
            r#"1: 1 +0 ["a", "bc", "ef"] [0, 1, 3]"#,
            "1: 5 bytes",
        ];
        assert_eq!(told(sends), expected);
        assert_eq!(
            gathering.shed(&mut Flood::default(), |_, queue| pressed.find(queue)),
            [0_u32; 0]
        );
    }

    #[test]
    fn behind_a_message_that_does_not_fit_none_is_let_through() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1, 0, 0, &["a"]);
        add(&mut gathering, 1, 0, 1, &["too long"]);
        add(&mut gathering, 1, 0, 2, &["b"]);
        let pressed = PressedQueues::default();
        let free = Some(Free { messages: u64::MAX, bytes: 3 });
        pressed.note([(DestinationId(1), free)].into_iter());
        assert_eq!(gathering.shed(&mut Flood::default(), |_, queue| pressed.find(queue)), [1, 2]);
        let mut counted = 0;
        pressed.begin_turn(|_, messages| counted += messages);
        assert_eq!((gathering.rows(), counted), (1, 2));
    }

    #[test]
    fn a_small_batch_keeps_little_else_alive() {
        let mut gathering = Gathering::default();
        let large = "x".repeat(3 * PACKED_BYTES_MAX);
        add(&mut gathering, 0, 0, 0, &["small"]);
        add(&mut gathering, 2, 0, 1, &[&large]);
        for id in 0..100 {
            add(&mut gathering, 4 + 2 * id, 0, 2 + id, &["one of many, each in its own queue"]);
        }
        let sends = gathering.take(ConnectionId(1), None);
        let (_, commands, _) = sends.into_iter().next().expect("all go to one shard");
        let batches: Vec<Bytes> = publishes(commands).map(|one| one.batch.bytes).collect();
        // Neighbours in one allocation lie one behind the other.
        let (mut together, mut end) = (0, std::ptr::null());
        for bytes in batches {
            let range = bytes.as_ptr_range();
            together = if range.start == end { together + bytes.len() } else { bytes.len() };
            end = range.end;
            assert!(together <= PACKED_BYTES_MAX.max(bytes.len()), "{together} bytes together");
        }
    }

    #[test]
    fn shards_share_no_allocation_and_none_is_larger_than_what_lies_in_it() {
        let mut gathering = Gathering::default();
        for id in 0..8 {
            add(&mut gathering, id, 0, id, &["one of many, each in its own queue"]);
        }
        let sends = gathering.take(ConnectionId(1), None);
        assert_eq!(sends.len(), 2);
        for (_, commands, load) in sends {
            let mut batches = publishes(commands).map(|publish| publish.batch.bytes);
            let first = batches.next().expect("each shard has some");
            batches.for_each(drop);
            let whole = first.try_into_mut().expect("nobody else has a part of it");
            assert!(
                whole.capacity() <= load.bytes,
                "{} bytes for {}",
                whole.capacity(),
                load.bytes
            );
        }
    }
}
