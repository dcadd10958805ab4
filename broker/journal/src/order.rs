//! What a shard wants written, in the order it wants it: entries of the journal to be.
//!
//! Invariant: what is settled joins the entry before it where one entry can say both, so
//! that consumers who take turns do not cost an entry a message.

use weir_core::command::Level;
use weir_message::Batch;

use crate::format::{EntryKind, SOME_OFFSETS, bits_of};
use crate::limits;
use crate::read::slice;

/// An entry to hand over.
pub(crate) enum Order {
    Append { level: Level, log: u64, base: u64, time_ms: u64, due_ms: u64, batch: Batch },
    Plain { kind: EntryKind, level: Level, log: u64, numbers: [u64; 4], body: Vec<u8> },
}

impl Order {
    pub(crate) fn bytes(&self) -> usize {
        limits::TABLE_ENTRY_BYTES
            + match self {
                Self::Append { batch, .. } => body_bytes(batch),
                Self::Plain { body, .. } => body.len(),
            }
    }

    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Append { level, .. } | Self::Plain { level, .. } => *level,
        }
    }
}

/// Bytes of the body of an append.
pub(crate) fn body_bytes(batch: &Batch) -> usize {
    batch.bytes.len() + 4 * batch.len()
}

/// Cuts a batch between its messages into appends with bodies of up to `bytes_max`, or of one
/// message. `None`: one of them fits no block. None that a publisher can send is so long.
pub(crate) fn pieces(batch: &Batch, bytes_max: usize) -> Option<Vec<Batch>> {
    let mut pieces = Vec::new();
    let mut row = 0;
    while row < batch.len() {
        let bytes = |end: usize| batch.start(end) - batch.start(row) + 4 * (end - row);
        let ends = (row + 1..=batch.len()).take_while(|&end| bytes(end) <= bytes_max);
        let end = ends.last().unwrap_or(row + 1);
        pieces.push(slice(batch, row, end));
        row = end;
    }
    let fit = pieces.iter().all(|piece| body_bytes(piece) <= limits::BODY_BYTES_MAX);
    fit.then_some(pieces)
}

/// Orders that `from..to` of a log is settled, behind what `turn` holds.
pub(crate) fn release(turn: &mut Vec<Order>, level: Level, log: u64, from: u64, to: u64) {
    if let Some(Order::Plain { kind, level: asked, log: of, numbers, .. }) = turn.last_mut()
        && (*asked, *of) == (level, log)
        && let Some(joined) = join(*kind, *numbers, from, to)
    {
        (*kind, *numbers) = joined;
        return;
    }
    let (kind, numbers) = (EntryKind::Release, [from, to, 0, 0]);
    turn.push(Order::Plain { kind, level, log, numbers, body: Vec::new() });
}

/// The one entry that settles what the entry settles, and `from..to` too.
fn join(kind: EntryKind, numbers: [u64; 4], from: u64, to: u64) -> Option<(EntryKind, [u64; 4])> {
    let [start, end, low, high] = numbers;
    let (first, last) = (start.min(from), end.max(to));
    if kind == EntryKind::Release && from <= end && start <= to {
        return Some((kind, [first, last, 0, 0]));
    }
    if last - first > SOME_OFFSETS {
        return None;
    }
    let before = match kind {
        EntryKind::Release => ones(end - start),
        EntryKind::ReleaseSome => bits_of(low, high),
        _ => return None,
    };
    let bits = before << (start - first) | ones(to - from) << (from - first);
    Some(if bits == ones(last - first) {
        (EntryKind::Release, [first, last, 0, 0])
    } else {
        (EntryKind::ReleaseSome, [first, last, bits as u64, (bits >> 64) as u64])
    })
}

/// The lowest `count` bits, of which there are at least one and at most all.
fn ones(count: u64) -> u128 {
    u128::MAX >> (SOME_OFFSETS - count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlockBuilder, BlockHead, Entry, Found, Identity, read_block};
    use crate::sim::Seeded;
    use std::collections::BTreeSet;

    /// What a reader finds of the orders.
    fn written(turn: &[Order]) -> Vec<Entry> {
        let mut builder = BlockBuilder::new();
        for order in turn {
            let Order::Plain { kind, level, log, numbers, body } = order else { unreachable!() };
            builder.push(*kind, *level, *log, *numbers, &[body]);
        }
        let head =
            BlockHead { store_tag: 1, number: 1, file_sequence: 1, durable: 0, previous_crc: 0 };
        let mut bytes = Vec::new();
        builder.finish(head, &mut bytes);
        match read_block(&bytes, 0, Identity { store_tag: 1, file_sequence: 1 }) {
            Found::Block(block) => block.entries,
            other => panic!("what was written is not read: {other:?}"),
        }
    }

    /// What the orders say is settled is what was asked for, however it lies.
    #[test]
    fn entries_say_what_was_settled_and_nothing_else() {
        for seed in 0..300 {
            let mut random = Seeded::new(seed);
            let (mut turn, mut plain) = (Vec::new(), BTreeSet::new());
            for _ in 0..1 + random.below(80) {
                let from = random.below(600);
                let long = random.below(10) == 0;
                let to = from + 1 + random.below(if long { 200 } else { 3 });
                let log = random.below(10) / 9;
                release(&mut turn, Level::Os, log, from, to);
                plain.extend((from..to).map(|offset| (log, offset)));
            }
            let entries = written(&turn);
            let said = entries
                .iter()
                .flat_map(|entry| entry.settled().flatten().map(|offset| (entry.log, offset)));
            assert_eq!(said.collect::<BTreeSet<_>>(), plain, "seed {seed}");
        }
    }

    #[test]
    fn consumers_in_turns_cost_one_entry() {
        let mut turn = Vec::new();
        for consumer in 0..4 {
            (0..32).for_each(|n| {
                release(&mut turn, Level::Os, 1, 4 * n + consumer, 4 * n + consumer + 1)
            });
        }
        let kinds: Vec<_> = written(&turn).iter().map(|one| (one.kind, one.a, one.b)).collect();
        assert_eq!(kinds, [(EntryKind::Release, 0, 128)]);
    }

    #[test]
    fn another_level_or_log_or_entry_is_not_joined() {
        let mut turn = Vec::new();
        release(&mut turn, Level::Os, 1, 0, 1);
        release(&mut turn, Level::Disk, 1, 2, 3);
        release(&mut turn, Level::Disk, 2, 4, 5);
        let numbers = [9, 0, 0, 0];
        let (kind, level) = (EntryKind::Trim, Level::Disk);
        turn.push(Order::Plain { kind, level, log: 2, numbers, body: Vec::new() });
        release(&mut turn, Level::Disk, 2, 10, 11);
        release(&mut turn, Level::Disk, 2, 200, 201);
        assert_eq!(turn.len(), 6);
    }
}
