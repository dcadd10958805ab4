//! Taking messages in: what fits, how safely it is kept, and the outcome once
//! the store has made good on it.

use weir_message::Batch;

use super::policies::{BindingId, Policies};
use super::{Destination, Owner, Shard};
use crate::command::{ConnectionId, DestinationId, Level, Publish, ReceiptId, Rows};
use crate::effect::{Effect, Free};
use crate::env::Now;
use crate::group::Group;
use crate::limits;
use crate::policy::Failure;
use crate::rejection::Rejection;
use crate::store::{Stamp, StoreError};
use crate::stream::Share;

/// A queue that has refused messages, of which the edge is told.
pub(super) struct Pressed {
    queue: DestinationId,
    /// What was said last of what fits.
    told: Option<Free>,
    /// Turns since something was published to it.
    quiet_turns: u32,
}

/// Whom to tell of an outcome.
type Teller = (ConnectionId, Option<ReceiptId>);
/// A policy that failed over a batch.
type Failed = (BindingId, Failure);

impl Shard {
    pub(super) fn publish(&mut self, now: Now, publish: Publish, effects: &mut Vec<Effect>) {
        let Self { destinations, groups, store, policies, pressed, .. } = self;
        let best = store.level_max();
        let found = destinations.get_mut(&publish.destination);
        let refused = match &found {
            None => Some(Rejection::NotFound),
            // What was asked to be safer than the store can make it takes nothing.
            Some(destination) if destination.level() > best => Some(Rejection::LevelUnsupported),
            Some(_) if publish.batch.is_empty() => return,
            Some(_) => None,
        };
        if let Some(refused) = refused {
            let Publish { connection, receipt, batch, rows, .. } = publish;
            return refuse((connection, receipt), batch.len(), &rows, refused, effects);
        }
        // One look-up for a queue: there may be as many as messages.
        let Some(Destination::Queue(queue)) = found else {
            return self.publish_to_stream(now, publish, effects);
        };
        let Publish { destination, connection, receipt, mut batch, mut rows, delay_ms } = publish;
        let teller = (connection, receipt);
        let group = groups.get_mut(&queue.group).expect("a queue has a group");
        queue.count_freed(group, &**store);
        queue.is_touched = queue.is_pressed;
        if queue.config.messages_max != 0 || queue.config.bytes_max != 0 {
            let kept = queue.messages(group, &**store);
            let fitting = queue.fitting(kept, batch.iter().map(<[u8]>::len));
            if fitting < batch.len() {
                queue.refused += (batch.len() - fitting) as u64;
                if !queue.is_pressed && pressed.len() < limits::PRESSED_QUEUES_MAX {
                    queue.is_pressed = true;
                    pressed.push(Pressed { queue: destination, told: None, quiet_turns: 0 });
                }
                cut((&mut batch, &mut rows), fitting, teller, effects);
            }
            if batch.is_empty() {
                return;
            }
        }
        let floor = queue.config.level;
        let mut safety = Safety::new(policies, now, floor, best);
        safety.ask(group, &batch);
        let (level, failed) = safety.found();
        let from = store.bounds(queue.log).end;
        let (count, bytes) = (batch.len(), batch.bytes.len() as u64);
        let due_ms = match u64::from(delay_ms).min(limits::TIMER_MS_MAX) {
            0 => 0,
            delay_ms => now.wall_ms + delay_ms,
        };
        let stamp = Stamp { time_ms: now.wall_ms, due_ms };
        match store.append(queue.log, from, stamp, batch, level) {
            Ok(()) => {
                queue.published += count as u64;
                queue.bytes += bytes;
                group.level = group.level.max(level);
                self.promise(level, teller, destination, count as u32, &rows);
            }
            Err(error) => {
                queue.refused += count as u64;
                self.not_appended(teller, count, &rows, error, effects);
            }
        }
        self.note_failed(now, failed, effects);
    }

    fn publish_to_stream(&mut self, now: Now, publish: Publish, effects: &mut Vec<Effect>) {
        let Publish { destination, connection, receipt, batch, rows, .. } = publish;
        let teller = (connection, receipt);
        let Ok(stream) = self.stream_mut(destination) else { return };
        for share in stream.divide(batch, rows) {
            self.publish_share(now, destination, teller, share, effects);
        }
    }

    /// Keeps what of a batch goes to one partition.
    fn publish_share(
        &mut self,
        now: Now,
        destination: DestinationId,
        teller: Teller,
        share: Share,
        effects: &mut Vec<Effect>,
    ) {
        let Share { partition, batch, rows } = share;
        let count = batch.len();
        let Self { destinations, groups, store, policies, .. } = self;
        let Some(Destination::Stream(stream)) = destinations.get_mut(&destination) else { return };
        let (floor, best) = (stream.config.level, store.level_max());
        let mut safety = Safety::new(policies, now, floor, best);
        for id in stream.groups.values() {
            safety.ask(groups.get_mut(id).expect("a stream's groups exist"), &batch);
        }
        let (level, failed) = safety.found();
        let log = stream.parts[partition];
        let from = store.bounds(log).end;
        let stamp = Stamp { time_ms: now.wall_ms, due_ms: 0 };
        match store.append(log, from, stamp, batch, level) {
            Ok(()) => {
                stream.published += count as u64;
                stream.level = stream.level.max(level);
                if level == Level::Memory && best > Level::Memory {
                    stream.progress[partition].volatile.add(from..from + count as u64);
                }
                for group in stream.groups.values() {
                    let group = groups.get_mut(group).expect("a stream's groups exist");
                    group.level = group.level.max(level);
                }
                self.promise(level, teller, destination, count as u32, &rows);
            }
            Err(error) => {
                stream.refused += count as u64;
                self.not_appended(teller, count, &rows, error, effects);
            }
        }
        self.note_failed(now, failed, effects);
    }

    fn promise(
        &mut self,
        level: Level,
        teller: Teller,
        destination: DestinationId,
        count: u32,
        rows: &[u32],
    ) {
        if let (connection, Some(receipt)) = teller {
            self.pledges.make(level, (connection, receipt), destination, count, rows);
        }
    }

    fn note_failed(&mut self, now: Now, failed: Option<Failed>, effects: &mut Vec<Effect>) {
        if let Some((binding, failure)) = failed {
            self.policy_failed(now, binding, failure, effects);
        }
    }

    fn not_appended(
        &mut self,
        teller: Teller,
        count: usize,
        rows: &[u32],
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

    /// Tells publishers what has become safe, and wakes the groups behind what has
    /// become stable.
    pub(super) fn settle_publishes(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.pledges.keep(&*self.store, effects);
        let mut moved = std::mem::take(&mut self.moved);
        self.store.take_moved(&mut moved);
        let mut streams = Vec::new();
        for log in moved.drain(..) {
            let Some(&id) = self.owners.get(log.0) else { continue };
            match self.destinations.get(&id) {
                Some(Destination::Queue(queue)) => {
                    let group = self.groups.get_mut(&queue.group).expect("a queue has a group");
                    if !group.rests() && !group.dirty {
                        group.dirty = true;
                        self.dirty.push(group.id);
                    }
                }
                Some(Destination::Stream(_)) if streams.contains(&id) => {}
                Some(Destination::Stream(_)) => streams.push(id),
                None => {}
            }
        }
        self.moved = moved;
        for id in streams {
            let Ok(stream) = self.stream_mut(id) else { continue };
            let groups: Vec<_> = stream.groups.values().copied().collect();
            groups.into_iter().for_each(|group| self.touch(group));
            self.retain(now, id);
            self.arm_passes(now, id);
        }
    }

    /// Tells the edge what fits into the queues that have refused messages, so that it
    /// need not send what will not.
    pub(super) fn tell_pressed(&mut self, effects: &mut Vec<Effect>) {
        let Self { destinations, groups, store, pressed, .. } = self;
        pressed.retain_mut(|one| {
            let mut free = None;
            if let Some(Destination::Queue(queue)) = destinations.get_mut(&one.queue) {
                let group = groups.get_mut(&queue.group).expect("a queue has a group");
                queue.count_freed(group, &**store);
                let fits = queue.free(queue.messages(group, &**store));
                let is_touched = std::mem::take(&mut queue.is_touched);
                one.quiet_turns = if is_touched { 0 } else { one.quiet_turns + 1 };
                queue.is_pressed =
                    !queue.is_eased(fits) && one.quiet_turns < limits::PRESSED_QUIET_TURNS;
                free = queue.is_pressed.then_some(fits);
                if free.is_some() && free == one.told && !is_touched {
                    return true;
                }
            }
            one.told = free;
            effects.push(Effect::Pressed { queue: one.queue, free });
            free.is_some()
        });
    }

    /// Counts what the edge has refused in the name of a queue.
    pub(super) fn count_refused(&mut self, id: DestinationId, messages: u64) {
        if let Ok(queue) = self.queue_mut(id) {
            queue.refused += messages;
            queue.is_touched = queue.is_pressed;
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
            // Due, and kept: a clock that was set back has one behind it that is not.
            let left_ms = expires_ms.checked_sub(now.wall_ms).filter(|left_ms| *left_ms > 0);
            stream.armed_ms = now.steady_ms + left_ms.unwrap_or(limits::RETAIN_AGAIN_MS);
            self.deadlines.insert((stream.armed_ms, Owner::Stream(id)));
        }
        self.reader.clear();
    }
}

impl Destination {
    /// How safely its operator wants messages to be kept.
    fn level(&self) -> Level {
        match self {
            Self::Queue(queue) => queue.config.level,
            Self::Stream(stream) => stream.config.level,
        }
    }
}

/// How safely a batch is kept: as the group that wants most of it does, and never less than
/// the operator's level `floor` without the power for it. And the policy that failed
/// over it.
struct Safety<'a> {
    policies: &'a mut Policies,
    now: Now,
    floor: Level,
    best: Level,
    /// `None`: no group was asked.
    level: Option<Level>,
    failed: Option<Failed>,
}

impl<'a> Safety<'a> {
    fn new(policies: &'a mut Policies, now: Now, floor: Level, best: Level) -> Self {
        Self { policies, now, floor, best, level: None, failed: None }
    }

    /// Every group counts: one without a policy, or whose policy says nothing, wants what
    /// the operator wants, whatever others make do with.
    fn ask(&mut self, group: &mut Group, batch: &Batch) {
        if self.best == Level::Memory {
            return;
        }
        let floor = self.floor;
        let mut level = floor;
        if let Some(binding) = group.decider.binding {
            let Self { policies, now, .. } = self;
            let decider = &mut group.decider;
            let (class, outcome) = policies.classify(decider, now.wall_ms, floor, batch);
            level = class.unwrap_or(floor);
            if !policies.powers(binding).transient {
                level = level.max(floor);
            }
            if let Some(failure) = outcome
                && self.failed.is_none()
            {
                self.failed = Some((binding, failure));
            }
        }
        self.level = self.level.max(Some(level));
    }

    fn found(self) -> (Level, Option<Failed>) {
        (self.level.unwrap_or(self.floor).min(self.best), self.failed)
    }
}

/// Leaves the first `fitting` messages, and tells the publisher that the queue is
/// full for the others.
fn cut(
    (batch, rows): (&mut Batch, &mut Rows),
    fitting: usize,
    teller: Teller,
    effects: &mut Vec<Effect>,
) {
    let of_rows: Vec<u32> =
        (fitting..batch.len()).map(|row| rows.get(row).copied().unwrap_or(row as u32)).collect();
    refuse(teller, of_rows.len(), &of_rows, Rejection::QueueFull, effects);
    rows.truncate(fitting);
    batch.ends.truncate(fitting);
    let end = batch.start(fitting);
    batch.bytes.truncate(end);
}

/// Tells a publisher that messages are not kept.
fn refuse(
    teller: Teller,
    count: usize,
    rows: &[u32],
    rejection: Rejection,
    effects: &mut Vec<Effect>,
) {
    if let (connection, Some(receipt)) = teller {
        let (count, rows, outcome) = (count as u32, rows.to_vec(), Err(rejection));
        effects.push(Effect::Published { connection, receipt, count, rows, outcome });
    }
}
