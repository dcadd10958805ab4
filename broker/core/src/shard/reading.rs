//! Reading a stream without a group, moving a group, figures, purging.

use super::{Destination, Shard};
use crate::command::{DestinationId, Level, Start};
use crate::effect::{Reply, Run, Stats};
use crate::env::Now;
use crate::limits;
use crate::rejection::Rejection;
use crate::store::{Records, StoreError};

impl Shard {
    pub(super) fn seek(
        &mut self,
        now: Now,
        stream: DestinationId,
        group: &str,
        partition: Option<u16>,
        to: Start,
    ) -> Result<(Reply, Level), Rejection> {
        let store = &*self.store;
        let Some(found) = self.destinations.get(&stream) else { return Err(Rejection::NotFound) };
        let Destination::Stream(found) = found else { return Err(Rejection::WrongKind) };
        let group = *found.groups.get(group).ok_or(Rejection::NotFound)?;
        let all = found.parts.len();
        let wanted = match partition {
            Some(partition) if usize::from(partition) >= all => {
                return Err(Rejection::NoPartition);
            }
            Some(partition) => usize::from(partition)..usize::from(partition) + 1,
            None => 0..all,
        };
        let mut starts = Vec::new();
        let only_one = wanted.len() == 1;
        for partition in wanted {
            let bounds = store.bounds(found.parts[partition]);
            let offset = found.offset_of(store, partition, to);
            // With all partitions the shorter ones are moved to their end.
            if matches!(to, Start::Offset(_)) && offset > bounds.end && only_one {
                return Err(Rejection::OffsetOutOfRange);
            }
            starts.push((partition as u16, offset.min(bounds.end)));
        }
        let moved = self.groups.get_mut(&group).expect("a stream's groups exist");
        moved.seek(now.steady_ms, &mut *self.store, &starts);
        let level = moved.level;
        self.answers.hand_over(self.store.level_max());
        self.touch(group);
        Ok((Reply::Done, level))
    }

    pub(super) fn read(
        &mut self,
        stream: DestinationId,
        partition: u16,
        from: Start,
        (messages_max, bytes_max): (u32, u32),
    ) -> Result<Reply, Rejection> {
        let Some(found) = self.destinations.get(&stream) else { return Err(Rejection::NotFound) };
        let Destination::Stream(found) = found else { return Err(Rejection::WrongKind) };
        let parts = &found.parts;
        let &log = parts.get(usize::from(partition)).ok_or(Rejection::NoPartition)?;
        let bounds = self.store.bounds(log);
        let asked = match from {
            // What compaction has left out is passed over, at the start too.
            Start::Offset(offset) if found.config.compact => offset.max(bounds.start),
            Start::Offset(offset) => offset,
            from => found.offset_of(&*self.store, usize::from(partition), from),
        };
        if asked < bounds.start || asked > bounds.end {
            return Err(Rejection::OffsetOutOfRange);
        }
        let bytes_max = bytes_max.clamp(1, limits::READ_BYTES_MAX) as usize;
        let mut records = Vec::new();
        match self.store.read(log, asked, bytes_max, &mut records) {
            Ok(()) => {}
            Err(StoreError::Damaged { from, to }) => return Ok(Reply::Lost { from, to }),
            Err(error) => {
                // The turn ends with it, and answers nothing.
                self.note_fault(error);
                return Err(Rejection::DataLoss);
            }
        }
        let (runs, mut next) = to_runs(&records, partition, asked, messages_max, bytes_max);
        if records.is_empty() {
            // Nothing is left up to there.
            next = next.max(bounds.stable);
        }
        Ok(Reply::Records { runs, next, start: bounds.start, end: bounds.end })
    }

    pub(super) fn info(&mut self, id: DestinationId) -> Result<Reply, Rejection> {
        let store = &*self.store;
        let stats = match self.destinations.get_mut(&id).ok_or(Rejection::NotFound)? {
            Destination::Queue(queue) => {
                let group = self.groups.get_mut(&queue.group).expect("a queue has a group");
                queue.count_freed(group, store);
                let bounds = store.bounds(queue.log);
                Stats {
                    name: queue.name.to_string(),
                    messages: queue.messages(group, store),
                    bytes: queue.bytes,
                    kept: Vec::new(),
                    starts: vec![bounds.start],
                    ends: vec![bounds.end],
                    published: queue.published,
                    refused: queue.refused,
                    removed: queue.removed,
                    compacted: 0,
                    compaction_stops: 0,
                    groups: vec![group.stats(store)],
                }
            }
            Destination::Stream(stream) => {
                for group in stream.groups.values() {
                    let group = self.groups.get_mut(group).expect("a stream's groups exist");
                    stream.removed += group.lost.take_count();
                }
                let bounds: Vec<_> = stream.parts.iter().map(|&log| store.bounds(log)).collect();
                let groups = stream.groups.values().map(|group| self.groups[group].stats(store));
                let progress = stream.progress.iter();
                let kept: Vec<u64> =
                    progress.zip(&bounds).map(|(one, bounds)| one.kept(*bounds)).collect();
                Stats {
                    name: stream.name.clone(),
                    messages: kept.iter().sum(),
                    bytes: bounds.iter().map(|bounds| bounds.bytes).sum(),
                    kept,
                    starts: bounds.iter().map(|bounds| bounds.start).collect(),
                    ends: bounds.iter().map(|bounds| bounds.end).collect(),
                    published: stream.published,
                    refused: stream.refused,
                    removed: stream.removed,
                    compacted: stream.progress.iter().map(|one| one.released).sum(),
                    compaction_stops: stream.progress.iter().map(|one| one.stops).sum(),
                    groups: groups.collect(),
                }
            }
        };
        Ok(Reply::Stats(Box::new(stats)))
    }

    pub(super) fn purge(
        &mut self,
        now: Now,
        id: DestinationId,
    ) -> Result<(Reply, Level), Rejection> {
        let queue = self.queue_mut(id)?;
        let (group_id, log) = (queue.group, queue.log);
        let bounds = self.store.bounds(log);
        let group = self.groups.get_mut(&group_id).expect("a queue has a group");
        group.asked = true;
        let passed = group.pass_over(&*self.store, 0, bounds.start, bounds.stable);
        let removed = group.purge(now.steady_ms) + passed;
        group.asked = false;
        let level = group.level;
        self.release_settled(group_id);
        let Self { destinations, groups, store, .. } = self;
        if let Some(Destination::Queue(queue)) = destinations.get_mut(&id) {
            let group = groups.get_mut(&group_id).expect("a queue has a group");
            queue.count_purged(group, &**store, passed);
            queue.removed += removed;
        }
        self.touch(group_id);
        Ok((Reply::Count { done: removed, unknown: 0 }, level))
    }
}

/// Records as runs, within bounds, of which those of the answer's frame are some: what was
/// appended message by message comes in as many runs. At least one message comes when there
/// is one.
fn to_runs(
    records: &[Records],
    partition: u16,
    asked: u64,
    messages_max: u32,
    bytes_max: usize,
) -> (Vec<Run>, u64) {
    let (mut messages, mut bytes) = (messages_max.max(1) as usize, bytes_max);
    let (mut runs, mut next) = (Vec::new(), asked);
    let mut room = limits::RECORDS_BYTES_MAX;
    for piece in records {
        let skip = asked.saturating_sub(piece.offset) as usize;
        let mut to = skip;
        room = room.saturating_sub(limits::RUN_HEAD_BYTES);
        if runs.len() == limits::RECORDS_RUNS_MAX {
            break;
        }
        while to < piece.batch.len() && messages > 0 {
            let length = piece.batch.message(to).len();
            if length > bytes.min(room) && next > asked {
                messages = 0;
                break;
            }
            bytes = bytes.saturating_sub(length);
            room = room.saturating_sub(length);
            messages -= 1;
            to += 1;
            next = piece.offset + to as u64;
        }
        if to > skip {
            let slice = piece.batch.start(skip)..piece.batch.start(to);
            runs.push(Run {
                tag: 0,
                partition,
                offset: piece.offset + skip as u64,
                time_ms: piece.time_ms,
                attempt: 1,
                count: (to - skip) as u32,
                bytes: piece.batch.bytes.slice(slice),
            });
        }
        if messages == 0 {
            break;
        }
    }
    (runs, next)
}

#[cfg(test)]
mod tests {
    use weir_message::BatchBuilder;

    use super::*;

    /// So many appends of one message of `bytes` bytes each, from offset 0.
    fn alone(count: u64, bytes: usize) -> Vec<Records> {
        let record = |offset| {
            let mut batch = BatchBuilder::default();
            batch.push(&vec![7; bytes]);
            Records { offset, time_ms: 1, due_ms: 0, batch: batch.take() }
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn what_was_appended_one_by_one_fits_an_answer() {
        let most = limits::READ_BYTES_MAX as usize;
        for (bytes, count) in [(7, 70_000), (64, 30_000), (200, 9_000), (4_000, 300)] {
            let (runs, next) = to_runs(&alone(count, bytes), 0, 0, 65_536, most);
            let answer = runs.len() * limits::RUN_HEAD_BYTES + runs.len() * bytes;
            assert_eq!(runs.len() as u64, next, "messages of {bytes} bytes");
            assert!(answer <= limits::RECORDS_BYTES_MAX, "messages of {bytes} bytes");
            assert!(runs.len() <= limits::RECORDS_RUNS_MAX, "messages of {bytes} bytes");
            let one_more = answer + limits::RUN_HEAD_BYTES + bytes;
            let is_full = one_more > limits::RECORDS_BYTES_MAX
                || runs.len() == limits::RECORDS_RUNS_MAX
                || (runs.len() + 1) * bytes > most;
            assert!(is_full, "{} messages of {bytes} bytes", runs.len());
        }
    }

    #[test]
    fn one_message_comes_however_long_it_is() {
        let (runs, next) = to_runs(&alone(2, limits::RECORDS_BYTES_MAX), 0, 0, 10, 1);
        assert_eq!((runs.len(), next), (1, 1));
    }
}
