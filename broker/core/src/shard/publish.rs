//! Taking messages in: what fits, how safely it is kept, and the outcome once
//! the store has made good on it.

use weir_message::Batch;

use super::{Destination, Owner, Shard};
use crate::command::{ConnectionId, DestinationId, Level, Publish, ReceiptId};
use crate::effect::Effect;
use crate::env::Now;
use crate::queue::{Receipt, Tail};
use crate::rejection::Rejection;
use crate::store::{Stamp, StoreError};
use crate::stream::Share;

/// Whom to tell of an outcome.
type Teller = (ConnectionId, Option<ReceiptId>);

impl Shard {
    pub(super) fn publish(&mut self, now: Now, publish: Publish, effects: &mut Vec<Effect>) {
        let floor = match self.destinations.get(&publish.destination) {
            Some(Destination::Queue(queue)) => Ok(queue.config.level),
            Some(Destination::Stream(stream)) => Ok(stream.config.level),
            None => Err(Rejection::NotFound),
        };
        // What was asked to be safer than the store can make it takes nothing.
        let floor = floor.and_then(|floor| match floor > self.store.level_max() {
            true => Err(Rejection::LevelUnsupported),
            false => Ok(floor),
        });
        match floor {
            Ok(_) if publish.batch.is_empty() => {}
            Ok(floor) if self.is_queue(publish.destination) => {
                self.publish_to_queue(now, publish, floor, effects);
            }
            Ok(floor) => self.publish_to_stream(now, publish, floor, effects),
            Err(rejection) => {
                let Publish { connection, receipt, batch, rows, .. } = publish;
                refuse((connection, receipt), batch.len(), rows, rejection, effects);
            }
        }
    }

    fn is_queue(&self, id: DestinationId) -> bool {
        matches!(self.destinations.get(&id), Some(Destination::Queue(_)))
    }

    fn publish_to_queue(
        &mut self,
        now: Now,
        publish: Publish,
        floor: Level,
        effects: &mut Vec<Effect>,
    ) {
        let Publish { destination, connection, receipt, mut batch, mut rows, delay_ms } = publish;
        let teller = (connection, receipt);
        let Some(Destination::Queue(queue)) = self.destinations.get_mut(&destination) else {
            return;
        };
        let group = self.groups.get_mut(&queue.group).expect("a queue has a group");
        queue.count_freed(group);
        let config = &queue.config;
        let fitting = if config.messages_max == 0 && config.bytes_max == 0 {
            batch.len()
        } else {
            let kept = queue.messages(group, &*self.store);
            queue.fitting(kept, batch.iter().map(<[u8]>::len))
        };
        if fitting < batch.len() {
            let refused = batch.len() - fitting;
            queue.refused += refused as u64;
            let of_rows: Vec<u32> = (fitting..batch.len())
                .map(|row| rows.get(row).copied().unwrap_or(row as u32))
                .collect();
            refuse(teller, refused, of_rows, Rejection::QueueFull, effects);
            rows.truncate(fitting);
            batch.ends.truncate(fitting);
            let end = batch.start(fitting);
            batch.bytes.truncate(end);
        }
        if batch.is_empty() {
            return;
        }
        let (group, log) = (queue.group, queue.tail.log);
        let level = self.level_of(now, &[group], floor, &batch, effects);
        let from = self.store.bounds(log).end;
        let bytes = batch.bytes.len() as u64;
        let count = batch.len() as u64;
        let due_ms = match u64::from(delay_ms).min(crate::limits::TIMER_MS_MAX) {
            0 => 0,
            delay_ms => now.wall_ms + delay_ms,
        };
        let stamp = Stamp { time_ms: now.wall_ms, due_ms };
        let appended = self.store.append(log, from, stamp, &batch, level);
        let Some(Destination::Queue(queue)) = self.destinations.get_mut(&destination) else {
            return;
        };
        if let Err(error) = appended {
            queue.refused += count;
            return self.not_appended(teller, batch.len(), rows, error, effects);
        }
        queue.published += count;
        queue.bytes += bytes;
        promise(&mut queue.tail, teller, from + count, count as u32, rows, level);
        let group = self.groups.get_mut(&group).expect("a queue has a group");
        group.level = group.level.max(level);
        self.unstable.insert(destination);
    }

    fn publish_to_stream(
        &mut self,
        now: Now,
        publish: Publish,
        floor: Level,
        effects: &mut Vec<Effect>,
    ) {
        let Publish { destination, connection, receipt, batch, rows, .. } = publish;
        let teller = (connection, receipt);
        let Ok(stream) = self.stream_mut(destination) else { return };
        let groups: Vec<_> = stream.groups.values().copied().collect();
        let shares = stream.divide(batch, rows);
        for Share { partition, batch, rows } in shares {
            let level = self.level_of(now, &groups, floor, &batch, effects);
            let Some(Destination::Stream(stream)) = self.destinations.get_mut(&destination) else {
                return;
            };
            let tail = &mut stream.parts[partition];
            let from = self.store.bounds(tail.log).end;
            let count = batch.len();
            let stamp = Stamp { time_ms: now.wall_ms, due_ms: 0 };
            if let Err(error) = self.store.append(tail.log, from, stamp, &batch, level) {
                stream.refused += count as u64;
                self.not_appended(teller, count, rows, error, effects);
                continue;
            }
            stream.published += count as u64;
            stream.level = stream.level.max(level);
            if level == Level::Memory && self.store.level_max() > Level::Memory {
                stream.progress[partition].volatile.add(from..from + count as u64);
            }
            promise(tail, teller, from + count as u64, count as u32, rows, level);
            for group in &groups {
                let group = self.groups.get_mut(group).expect("a stream's groups exist");
                group.level = group.level.max(level);
            }
        }
        self.unstable.insert(destination);
    }

    fn not_appended(
        &mut self,
        teller: Teller,
        count: usize,
        rows: Vec<u32>,
        error: StoreError,
        effects: &mut Vec<Effect>,
    ) {
        let rejection = match error {
            StoreError::Damaged { .. } => Rejection::DataLoss,
            _ => Rejection::NoSpace,
        };
        self.note_fault(error);
        refuse(teller, count, rows, rejection, effects);
    }

    /// Tells publishers what has become stable, and wakes the groups behind it.
    pub(super) fn settle_publishes(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut moved = Vec::new();
        for id in std::mem::take(&mut self.unstable) {
            let Some(destination) = self.destinations.get_mut(&id) else { continue };
            let tails = match destination {
                Destination::Queue(queue) => std::slice::from_mut(&mut queue.tail),
                Destination::Stream(stream) => &mut stream.parts[..],
            };
            let mut waits = false;
            let mut moves = false;
            for tail in tails {
                let bounds = self.store.bounds(tail.log);
                moves |= bounds.stable > tail.stable;
                tail.stable = bounds.stable;
                waits |= bounds.stable < bounds.end;
                keep_promises(tail, effects);
            }
            if waits {
                self.unstable.insert(id);
            }
            if moves {
                moved.push(id);
            }
        }
        for id in moved {
            match &self.destinations[&id] {
                Destination::Queue(queue) => {
                    let group = queue.group;
                    if !self.groups[&group].rests() {
                        self.touch(group);
                    }
                }
                Destination::Stream(stream) => {
                    let groups: Vec<_> = stream.groups.values().copied().collect();
                    groups.into_iter().for_each(|group| self.touch(group));
                    self.retain(now, id);
                    self.arm_passes(now, id);
                }
            }
        }
    }

    /// Removes what a stream's bounds do not keep any more.
    pub(super) fn retain(&mut self, now: Now, id: DestinationId) {
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else { return };
        for partition in 0..stream.parts.len() {
            let store = &mut *self.store;
            let to = stream.keeps_from(store, &mut self.reader, partition, now.wall_ms);
            self.reader.clear();
            let Some(to) = to else { continue };
            // The groups first: they count what was released before.
            for group in stream.groups.values() {
                let group = self.groups.get_mut(group).expect("a stream's groups exist");
                group.trimmed(now.steady_ms, &*self.store, partition as u16, to);
                if !group.dirty {
                    group.dirty = true;
                    self.dirty.push(group.id);
                }
            }
            stream.trim(&mut *self.store, partition, to);
        }
        if stream.config.age_ms_max == 0 || stream.armed_ms != u64::MAX {
            return;
        }
        if let Some(expires_ms) = stream.oldest_expires_ms(&*self.store, &mut self.reader) {
            stream.armed_ms = now.steady_ms + expires_ms.saturating_sub(now.wall_ms).max(1);
            self.deadlines.insert((stream.armed_ms, Owner::Stream(id)));
        }
        self.reader.clear();
    }

    /// How safely a batch is kept: what its policies say, and never less than the
    /// operator's level without the power for it.
    fn level_of(
        &mut self,
        now: Now,
        groups: &[crate::group::GroupId],
        floor: Level,
        batch: &Batch,
        effects: &mut Vec<Effect>,
    ) -> Level {
        let best = self.store.level_max();
        if best == Level::Memory {
            return Level::Memory;
        }
        let mut level = None;
        for group in groups {
            let Some(group) = self.groups.get(group) else { continue };
            let Some(binding) = group.decider.binding else { continue };
            let (class, outcome) = self.policies.classify(binding, now.wall_ms, floor, batch);
            if let Some(failure) = outcome {
                self.policy_failed(now, binding, failure, effects);
            }
            let class = class.map(|class| {
                let transient = self.policies.powers(binding).transient;
                if transient { class } else { class.max(floor) }
            });
            level = level.max(class);
        }
        level.unwrap_or(floor).min(best)
    }
}

/// Notes an outcome for when the store's stable position passes `end`.
fn promise(tail: &mut Tail, teller: Teller, end: u64, count: u32, rows: Vec<u32>, level: Level) {
    if let (connection, Some(receipt)) = teller {
        tail.receipts.push_back(Receipt { end, connection, receipt, count, rows, level });
    }
}

fn keep_promises(tail: &mut Tail, effects: &mut Vec<Effect>) {
    while tail.receipts.front().is_some_and(|receipt| receipt.end <= tail.stable) {
        let Some(kept) = tail.receipts.pop_front() else { break };
        effects.push(Effect::Published {
            connection: kept.connection,
            receipt: kept.receipt,
            count: kept.count,
            rows: kept.rows,
            outcome: Ok(kept.level),
        });
    }
}

/// Tells a publisher that messages are not kept.
pub(super) fn refuse(
    teller: Teller,
    count: usize,
    rows: Vec<u32>,
    rejection: Rejection,
    effects: &mut Vec<Effect>,
) {
    if let (connection, Some(receipt)) = teller {
        let (count, outcome) = (count as u32, Err(rejection));
        effects.push(Effect::Published { connection, receipt, count, rows, outcome });
    }
}
