//! One pass of compaction over one partition: which messages may go because a later one
//! has their key.
//!
//! A pass has two phases. It notes the last offset of every key, from where the last
//! pass ended to the stable end; then it reads the log from its start to the same end and
//! names what a noted offset supersedes. It is cut into steps, and changes nothing: the
//! shard releases what a step names, in order, before the next.
//!
//! Invariants: what is named has a later message of the same key in the log, or is a
//! tombstone that is old enough and the last of its key, with nothing older of that key
//! left; what takes the place of a message is as safe against a crash as that message.

use std::hash::{DefaultHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use weir_message::Batch;

use super::volatile::{Kept, Volatile};
use crate::command::{DestinationId, Level};
use crate::limits;
use crate::store::{LogId, Records, Store, StoreError};

/// Bytes asked of the store at once.
const READ_BYTES: usize = 64 << 10;

/// What a pass may take; the limits' but for tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) step_bytes: usize,
    pub(crate) keys_max: usize,
    pub(crate) gaps_max: usize,
    pub(crate) every_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            step_bytes: limits::COMPACTION_STEP_BYTES,
            keys_max: limits::COMPACTION_KEYS_MAX,
            gaps_max: limits::GAPS_PER_LOG_MAX,
            every_ms: limits::COMPACTION_EVERY_MS,
        }
    }
}

/// Which partition a pass is over, and how far it is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) stream: DestinationId,
    pub(crate) partition: u16,
    pub(crate) log: LogId,
    /// Below it, no message supersedes another any more.
    pub(crate) from: u64,
    /// The stable end.
    pub(crate) end: u64,
    pub(crate) tombstone_ms: u64,
    /// Whether tombstones may be old enough by now.
    pub(crate) tombstones: bool,
}

/// Messages that may be released, neighbours but for holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Memory: a crash takes them anyway, and then others may get their offsets.
    pub(crate) level: Level,
}

/// What a step has come to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// To be released, in order.
    pub(crate) spans: Vec<Span>,
    /// There is no next step.
    pub(crate) over: bool,
}

/// What the store and the clock say.
pub(crate) struct World<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) volatile: &'a Volatile,
    pub(crate) wall_ms: u64,
}

/// The last message known of a key.
#[derive(Clone, Copy, Debug)]
struct Last(u64);

impl Last {
    fn new(offset: u64, safe: bool) -> Self {
        Self(offset << 1 | u64::from(safe))
    }

    fn offset(self) -> u64 {
        self.0 >> 1
    }

    fn is_safe(self) -> bool {
        self.0 & 1 == 1
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) task: Task,
    budget: Budget,
    last: HashMap<KeyHash, Last, FixedState>,
    sweeps: bool,
    /// There were more keys than it may look at: it ends before the stable end.
    cut: bool,
    at: u64,
    /// Something could not be read: an older message of any key may be left.
    damaged: bool,
    /// When the first tombstone that was left may go, wall ms; `u64::MAX` for none.
    pub(crate) tombstone_due_ms: u64,
    /// The run of messages to go that the last one read belongs to.
    run: Option<Span>,
    read: Vec<Records>,
}

impl Pass {
    pub(crate) fn new(task: Task, budget: Budget) -> Self {
        // Room for every key at once: to make more later would take many steps' time.
        let keys = task.end.saturating_sub(task.from).min(budget.keys_max as u64) as usize;
        Self {
            at: task.from,
            task,
            budget,
            last: HashMap::with_capacity_and_hasher(keys, FixedState::default()),
            sweeps: false,
            cut: false,
            damaged: false,
            tombstone_due_ms: u64::MAX,
            run: None,
            read: Vec::new(),
        }
    }

    /// Whether the second phase has begun: what it says of tombstones is new.
    pub(crate) fn sweeps(&self) -> bool {
        self.sweeps
    }

    /// Whether it ends before the stable end: the rest is another's.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Reads on, within the budget.
    pub(crate) fn step(&mut self, world: &World<'_>) -> Step {
        let mut step = Step::default();
        let (mut bytes, mut pieces) = (0, 0);
        while bytes < self.budget.step_bytes && pieces < limits::COMPACTION_STEP_PIECES {
            if self.at >= self.task.end {
                if self.sweeps || self.last.is_empty() && !self.task.tombstones {
                    step.over = true;
                    break;
                }
                self.sweeps = true;
                self.at = world.store.bounds(self.task.log).start;
                continue;
            }
            let mut read = std::mem::take(&mut self.read);
            pieces += 1;
            let most = READ_BYTES.min(self.budget.step_bytes);
            match world.store.read(self.task.log, self.at, most, &mut read) {
                Ok(()) if read.is_empty() => self.at = self.task.end,
                Ok(()) => {
                    for records in &read {
                        bytes += records.batch.bytes.len();
                        if self.sweeps {
                            self.sweep(world, records, &mut step.spans);
                        } else {
                            self.note(world, records);
                        }
                    }
                    pieces += read.len();
                }
                Err(StoreError::Damaged { to, .. }) => {
                    self.damaged = true;
                    self.end_run(&mut step.spans);
                    self.at = to.max(self.at + 1);
                }
                // The turn's commit will say the same, and end the process.
                Err(_) => step.over = true,
            }
            read.clear();
            self.read = read;
            if step.over {
                break;
            }
        }
        self.end_run(&mut step.spans);
        step
    }

    /// First phase: the last offset of each key.
    fn note(&mut self, world: &World<'_>, records: &Records) {
        for (offset, row) in rows(records, self.at..self.task.end) {
            self.at = offset + 1;
            let key = records.batch.view(row).key;
            if key.is_empty() {
                continue;
            }
            let safe = world.volatile.kept(offset) == Kept::Safely;
            let is_full = self.last.len() >= self.budget.keys_max;
            match self.last.entry(hash(key)) {
                // One that a crash may take does not hide one that it leaves.
                Entry::Occupied(known) if known.get().is_safe() && !safe => {}
                Entry::Occupied(mut known) => *known.get_mut() = Last::new(offset, safe),
                Entry::Vacant(_) if is_full => {
                    (self.task.end, self.at, self.cut) = (offset, offset, true);
                    return;
                }
                Entry::Vacant(free) => drop(free.insert(Last::new(offset, safe))),
            }
        }
    }

    /// Second phase: what may go.
    fn sweep(&mut self, world: &World<'_>, records: &Records, spans: &mut Vec<Span>) {
        for (offset, row) in rows(records, self.at..self.task.end) {
            self.at = offset + 1;
            match self.verdict(world, &records.batch, row, (offset, records.time_ms)) {
                Some(level) => self.extend_run(world, offset, level, spans),
                None => self.end_run(spans),
            }
        }
    }

    /// Whether a message may go, and how safely that is to be known.
    fn verdict(
        &mut self,
        world: &World<'_>,
        batch: &Batch,
        row: usize,
        (offset, time_ms): (u64, u64),
    ) -> Option<Level> {
        let message = batch.view(row);
        if message.key.is_empty() {
            return None;
        }
        let kept = world.volatile.kept(offset);
        if let Some(last) = self.last.get(&hash(message.key)).filter(|last| offset < last.offset())
        {
            return match (last.is_safe(), kept) {
                (true, _) => Some(Level::Os),
                (false, Kept::InMemory) => Some(Level::Memory),
                (false, _) => None,
            };
        }
        if !message.payload.is_empty() {
            return None;
        }
        let due_ms = time_ms.saturating_add(self.task.tombstone_ms);
        if due_ms > world.wall_ms {
            self.tombstone_due_ms = self.tombstone_due_ms.min(due_ms);
            return None;
        }
        // What it hides was released before it: in this pass, which reads from the
        // start, or in an earlier one. That is not so where something could not be read,
        // nor for one in memory with older messages that are not.
        match kept {
            _ if self.damaged => None,
            Kept::Safely => Some(Level::Os),
            Kept::InMemory => {
                let start = world.store.bounds(self.task.log).start;
                world.volatile.covers(&(start..offset + 1)).then_some(Level::Memory)
            }
            Kept::Unknown => None,
        }
    }

    fn extend_run(&mut self, world: &World<'_>, offset: u64, level: Level, spans: &mut Vec<Span>) {
        if let Some(run) = &mut self.run
            && run.level == level
            && (run.to == offset || is_hole(world.store, self.task.log, run.to, offset))
        {
            run.to = offset + 1;
            return;
        }
        self.end_run(spans);
        self.run = Some(Span { from: offset, to: offset + 1, level });
    }

    fn end_run(&mut self, spans: &mut Vec<Span>) {
        spans.extend(self.run.take());
    }
}

/// Whether all of `from..to` is released already.
fn is_hole(store: &dyn Store, log: LogId, from: u64, to: u64) -> bool {
    store.settled(log, from).is_some_and(|hole| hole.start <= from && hole.end >= to)
}

/// Offsets and rows of the records that lie in `wanted`.
fn rows(
    records: &Records,
    wanted: std::ops::Range<u64>,
) -> impl Iterator<Item = (u64, usize)> + use<> {
    let first = wanted.start.saturating_sub(records.offset) as usize;
    let last = wanted.end.saturating_sub(records.offset).min(records.batch.len() as u64) as usize;
    let offset = records.offset;
    (first..last).map(move |row| (offset + row as u64, row))
}

/// Stands for a key. Two keys of one pass are taken for one, and the earlier message
/// lost, with a probability below `n * n / 2^129`: for as many keys as a pass looks at,
/// less than one in 10^26.
type KeyHash = [u64; 2];

fn hash(key: &[u8]) -> KeyHash {
    // SipHash with keys that never change: two functions by their first byte.
    [0, 1].map(|which| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(which);
        hasher.write(key);
        hasher.finish()
    })
}
