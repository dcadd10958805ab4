//! Compaction of streams by key: which partition's turn it is, and what its pass lets go.
//!
//! One pass at a time, so that its table of keys is there once; partitions that want one
//! stand in line. A pass is driven by deadlines, a step per tick, and works between steps
//! like any owner of the log: what a step found is released before anything else happens.
//! Nothing of it is kept: a new process begins anew.

use std::collections::VecDeque;

use super::{Destination, Owner, Shard};
use crate::command::DestinationId;
use crate::env::Now;
use crate::limits;
use crate::stream::compaction::{Budget, Pass, Span, Task, World};

/// The pass at work, and who waits for theirs.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// Boxed: most shards have none.
    pass: Option<Box<Pass>>,
    /// When its next step is due, steady ms.
    step_ms: u64,
    waiting: VecDeque<(DestinationId, u16)>,
    pub(super) budget: Budget,
}

impl Shard {
    /// Sees to it that each partition of a stream gets its next pass in time.
    pub(super) fn arm_passes(&mut self, now: Now, id: DestinationId) {
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else { return };
        if !stream.config.compact {
            return;
        }
        for (partition, progress) in stream.progress.iter_mut().enumerate() {
            if progress.waits {
                continue;
            }
            let owner = Owner::Keys(id, partition as u16);
            let due_ms = progress.due_ms(self.store.bounds(stream.parts[partition]));
            // Not in this turn: what it was woken for comes first.
            let due_ms = due_ms.map_or(u64::MAX, |due_ms| due_ms.max(now.steady_ms + 1));
            if due_ms < progress.armed_ms {
                self.deadlines.remove(&(progress.armed_ms, owner));
                progress.armed_ms = due_ms;
                self.deadlines.insert((due_ms, owner));
            }
        }
    }

    /// A partition's time has come: it gets its pass, or a place in the line.
    pub(super) fn ask_for_pass(&mut self, now: Now, id: DestinationId, partition: u16) {
        let Ok(stream) = self.stream_mut(id) else { return };
        let progress = &mut stream.progress[usize::from(partition)];
        progress.armed_ms = u64::MAX;
        progress.waits = true;
        self.passes.waiting.push_back((id, partition));
        self.begin_pass(now);
    }

    /// Begins the pass of the first in line that still needs one, if none is at work.
    fn begin_pass(&mut self, now: Now) {
        while self.passes.pass.is_none()
            && let Some((id, partition)) = self.passes.waiting.pop_front()
        {
            let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else {
                continue;
            };
            let log = stream.parts[usize::from(partition)];
            let progress = &mut stream.progress[usize::from(partition)];
            let bounds = self.store.bounds(log);
            if progress.due_ms(bounds).is_none_or(|due_ms| due_ms > now.steady_ms) {
                progress.waits = false;
                self.arm_passes(now, id);
                continue;
            }
            let task = Task {
                stream: id,
                partition,
                log,
                from: progress.done_until.max(bounds.start),
                end: bounds.stable,
                tombstone_ms: stream.config.tombstone_ms,
                tombstones: progress.wants_tombstones(now.steady_ms),
            };
            progress.begin(now.steady_ms, &self.passes.budget);
            self.passes.pass = Some(Box::new(Pass::new(task, self.passes.budget)));
            self.arm_step(now, 1);
        }
    }

    fn arm_step(&mut self, now: Now, pause_ms: u64) {
        self.passes.step_ms = now.steady_ms + pause_ms;
        self.deadlines.insert((self.passes.step_ms, Owner::Pass));
    }

    /// One step of the pass at work.
    pub(super) fn step_pass(&mut self, now: Now) {
        let Some(mut pass) = self.passes.pass.take() else { return };
        let Task { stream: id, partition, .. } = pass.task;
        let Some(Destination::Stream(stream)) = self.destinations.get(&id) else { return };
        if self.store.is_congested() {
            self.passes.pass = Some(pass);
            return self.arm_step(now, limits::COMPACTION_PAUSE_MS);
        }
        let progress = &stream.progress[usize::from(partition)];
        let world =
            World { store: &*self.store, volatile: &progress.volatile, wall_ms: now.wall_ms };
        let step = pass.step(&world);
        let full = step.spans.iter().any(|span| !self.release(now, id, partition, *span));
        if !step.over && !full {
            self.passes.pass = Some(pass);
            return self.arm_step(now, limits::COMPACTION_PAUSE_MS);
        }
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else { return };
        let progress = &mut stream.progress[usize::from(partition)];
        progress.waits = false;
        if full {
            progress.stop(now.steady_ms);
        } else {
            progress.end(now, &self.passes.budget, &pass);
        }
        drop(pass);
        self.arm_passes(now, id);
        self.begin_pass(now);
    }

    /// Releases messages of a partition, and tells the groups. False when there would be
    /// too many gaps.
    fn release(&mut self, now: Now, id: DestinationId, partition: u16, span: Span) -> bool {
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else {
            return false;
        };
        let log = stream.parts[usize::from(partition)];
        let progress = &mut stream.progress[usize::from(partition)];
        let store = &mut *self.store;
        let (Span { from, to, level }, gaps_max) = (span, self.passes.budget.gaps_max);
        let Ok(fresh) = progress.holes.release(store, log, (from, to), level, gaps_max) else {
            return false;
        };
        progress.released += fresh.iter().map(|fresh| fresh.end - fresh.start).sum::<u64>();
        let start = self.store.bounds(log).start;
        progress.volatile.trim(start);
        for group in stream.groups.values() {
            let group = self.groups.get_mut(group).expect("a stream's groups exist");
            group.superseded(now.steady_ms, &*self.store, partition, &fresh, start);
            if !group.dirty {
                group.dirty = true;
                self.dirty.push(group.id);
            }
        }
        true
    }

    /// Ends what compaction does with a stream, and forgets how far it was.
    pub(super) fn end_passes(&mut self, now: Now, id: DestinationId) {
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else { return };
        for (partition, progress) in stream.progress.iter_mut().enumerate() {
            let armed_ms = std::mem::replace(&mut progress.armed_ms, u64::MAX);
            self.deadlines.remove(&(armed_ms, Owner::Keys(id, partition as u16)));
            progress.waits = false;
            progress.forget();
        }
        self.passes.waiting.retain(|waiting| waiting.0 != id);
        if self.passes.pass.as_ref().is_some_and(|pass| pass.task.stream == id) {
            self.passes.pass = None;
            self.deadlines.remove(&(self.passes.step_ms, Owner::Pass));
            self.begin_pass(now);
        }
    }
}

#[cfg(test)]
impl Passes {
    /// Whether a step is to come.
    pub(super) fn is_at_work(&self) -> bool {
        self.pass.is_some()
    }
}
