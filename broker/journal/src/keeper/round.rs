//! The keeper's round: collect, file, capture, checkpoint, and only then free what
//! is not needed any more.
//!
//! Invariants: `replay_from` moves on only when every store has answered a capture
//! that it was asked for behind [`Ask::Filed`]; logs that nobody has opened are
//! looked at before the stores are, so that one that is opened meanwhile is seen
//! twice rather than not at all.

mod free;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use weir_core::env::Clock;
use weir_core::store::StoreError;

use super::checkpoint;
use super::filing::{Filing, Unfiled};
use super::gone::{Gone, What};
use super::policy::KeeperPolicy;
use super::rewrite::{Rewrite, Rewritten, Step};
use super::scrub::Scrub;
use super::space::SpaceWatch;
use super::{Ask, Collected, Fault, FiledLog, Idle, KeeperEvent, Rest, Told};
use crate::files::Files;
use crate::format::{CheckpointContent, LogState, SegmentState};
use crate::limits::FILED_AT_ONCE_MAX;

/// Longest the keeper idles, ms: space is watched.
const IDLE_MS_MAX: u64 = 1_000;

/// The same while space is short, ms.
const PRESSED_MS: u64 = 200;

/// What a keeper begins with.
pub(crate) struct KeeperStart {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rest: Arc<dyn Rest>,
    pub(crate) policy: KeeperPolicy,
    pub(crate) store_id: u128,
    /// Number of the newest checkpoint, sound or not; 0: none.
    pub(crate) checkpoint: u64,
    /// First journal file that the newest sound checkpoint needs.
    pub(crate) replay_from: u64,
    /// First journal file that is still there.
    pub(crate) previous_replay_from: u64,
    /// Journal files from `replay_from` on that will not change, in order.
    pub(crate) sealed: Vec<u64>,
}

/// All logs of one who was asked to capture.
type Captured = Vec<(LogState, Vec<SegmentState>)>;

/// What of a checkpoint is known before its logs are captured.
#[derive(Clone, Copy)]
struct Begun {
    covered: u64,
    replay_from: u64,
}

/// Where a round is.
enum Phase {
    Idle,
    /// Waits for what is to be filed.
    Collecting {
        through: u64,
        unopened: Vec<Collected>,
        answers: Vec<Option<Vec<Collected>>>,
    },
    /// Waits for what a checkpoint is to hold.
    Capturing {
        begun: Begun,
        unopened: Captured,
        answers: Vec<Option<(u64, Captured)>>,
    },
}

/// See the file's head.
pub(crate) struct Keeper {
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    rest: Arc<dyn Rest>,
    policy: KeeperPolicy,
    store_id: u128,
    round: u64,
    phase: Phase,
    /// Sealed journal files that are not filed, in order.
    waiting: VecDeque<u64>,
    /// First journal file that is not filed, as all stores know.
    replay_from: u64,
    /// The same, as the newest checkpoint knows.
    checkpoint_replay_from: u64,
    /// First journal file that is still there.
    oldest_journal: u64,
    checkpoint: u64,
    /// The newest checkpoint is of this process: older ones but one can go.
    has_checkpointed: bool,
    is_checkpoint_due: bool,
    /// Not before, after space ran out.
    retry_ms: u64,
    gone: Gone,
    space: SpaceWatch,
    scrub: Scrub,
    rewrite: Rewrite,
    is_stopped: bool,
}

impl Keeper {
    /// A keeper, before any store has opened a log.
    pub(crate) fn new(start: KeeperStart) -> Self {
        let mut scrub = Scrub::default();
        let recovered = start.rest.capture_unopened();
        let mut gone = Gone::default();
        gone.recover(&*start.files, &recovered, start.clock.now().steady_ms);
        let segments: Vec<SegmentState> =
            recovered.into_iter().flat_map(|(_, segments)| segments).collect();
        scrub.set(&segments);
        Self {
            files: start.files,
            clock: start.clock,
            rest: start.rest,
            policy: start.policy,
            store_id: start.store_id,
            round: 0,
            phase: Phase::Idle,
            waiting: start.sealed.into(),
            replay_from: start.replay_from,
            checkpoint_replay_from: start.replay_from,
            oldest_journal: start.previous_replay_from,
            checkpoint: start.checkpoint,
            has_checkpointed: false,
            is_checkpoint_due: false,
            retry_ms: 0,
            gone,
            space: SpaceWatch::default(),
            scrub,
            rewrite: Rewrite::default(),
            is_stopped: false,
        }
    }

    /// Takes what was told, and does what can be done now. Waits for nothing but
    /// the disk.
    ///
    /// # Errors
    /// Something failed that acknowledged data may depend on; the journal is fenced.
    pub(crate) fn step(&mut self) -> Result<Idle, Fault> {
        let result = self.try_step();
        if let Err(fault) = &result {
            self.rest.fence(fault.0.clone());
        }
        result
    }

    /// Wants a checkpoint even if there is nothing to file; the next steps make it.
    pub(crate) fn checkpoint_now(&mut self) {
        self.is_checkpoint_due = true;
    }

    fn try_step(&mut self) -> Result<Idle, Fault> {
        let now_ms = self.clock.now().steady_ms;
        for told in self.rest.take_told() {
            self.hear(told, now_ms);
        }
        if self.is_stopped {
            return Ok(Idle::Stopped);
        }
        self.space.set_lacking(self.rest.lacks_spare());
        let has_moved = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.begin(now_ms),
            Phase::Collecting { through, unopened, answers } => {
                match answers.iter().all(Option::is_some) {
                    true => self.file(through, unopened, answers.into_iter().flatten(), now_ms)?,
                    false => {
                        self.phase = Phase::Collecting { through, unopened, answers };
                        false
                    }
                }
            }
            Phase::Capturing { begun, unopened, answers } => {
                match answers.iter().all(Option::is_some) {
                    true => self.conclude(begun, unopened, answers, now_ms)?,
                    false => {
                        self.phase = Phase::Capturing { begun, unopened, answers };
                        false
                    }
                }
            }
        };
        self.watch_space(now_ms);
        if has_moved {
            return Ok(Idle::No);
        }
        let longest_ms = if self.space.presses() { PRESSED_MS } else { IDLE_MS_MAX };
        match self.rewrite(now_ms)? {
            Some(wait_ms) => Ok(Idle::For(self.scrub(now_ms).min(wait_ms).min(longest_ms))),
            None => Ok(Idle::No),
        }
    }

    fn hear(&mut self, told: Told, now_ms: u64) {
        match told {
            Told::Collected { store, round, logs } => {
                if let Phase::Collecting { answers, .. } = &mut self.phase
                    && round == self.round
                {
                    answers[store] = Some(logs);
                }
            }
            Told::Captured { store, round, position, logs } => {
                if let Phase::Capturing { answers, .. } = &mut self.phase
                    && round == self.round
                {
                    answers[store] = Some((position, logs));
                }
            }
            Told::Sealed { sequence } => self.waiting.push_back(sequence),
            Told::Trimmed { log, segments, position } => {
                for base in segments {
                    self.gone.add(log, What::Segment(base), position, now_ms);
                    self.rewrite.forget(&*self.files, log, Some(base));
                }
            }
            Told::Removed { log, position } => {
                self.gone.add(log, What::Log, position, now_ms);
                self.rewrite.forget(&*self.files, log, None);
            }
            Told::Short => self.space.set_short(),
            Told::Stop => self.is_stopped = true,
        }
    }

    /// Begins a round if there is a reason to. Tells whether there was.
    fn begin(&mut self, now_ms: u64) -> bool {
        if now_ms < self.retry_ms {
            return false;
        }
        let waiting = self.waiting.len();
        let presses = self.space.presses();
        // Where space is short nothing waits to be settled.
        let KeeperPolicy { kept_journal_files, filed_at_once, .. } = self.policy;
        let (kept, enough) = if presses { (0, 1) } else { (kept_journal_files, filed_at_once) };
        // Filing takes space before it frees any: where there is none, what is free
        // behind a checkpoint goes first.
        let is_stuck = self.space.is_full() && self.frees_something();
        if waiting >= kept + enough && !is_stuck {
            let through = self.waiting[(waiting - kept).min(FILED_AT_ONCE_MAX) - 1];
            self.round += 1;
            let unopened = self.rest.collect_unopened(through);
            let stores = self.rest.stores();
            self.phase = Phase::Collecting {
                through,
                unopened,
                answers: (0..stores).map(|_| None).collect(),
            };
            for store in 0..stores {
                self.rest.ask(store, Ask::Collect { round: self.round, through });
            }
            return true;
        }
        let wait_ms = if presses { PRESSED_MS } else { self.policy.gone_wait_ms };
        if self.gone.oldest_ms().is_some_and(|ms| now_ms >= ms + wait_ms) || is_stuck {
            self.checkpoint_now();
        }
        if presses && self.oldest_journal < self.checkpoint_replay_from {
            // One more and the files before it are free.
            self.checkpoint_now();
        }
        if self.is_checkpoint_due {
            self.round += 1;
            self.capture(self.replay_from);
        }
        self.is_checkpoint_due
    }

    /// Files what was collected, tells the stores, and goes on to a checkpoint.
    fn file(
        &mut self,
        through: u64,
        unopened: Vec<Collected>,
        answers: impl Iterator<Item = Vec<Collected>>,
        now_ms: u64,
    ) -> Result<bool, Fault> {
        let answers: Vec<Vec<Collected>> = answers.collect();
        let (files, rest) = (self.files.clone(), self.rest.clone());
        let mut filing = Filing::new(
            &*files,
            &*rest,
            self.store_id,
            self.policy.sizes,
            self.clock.now().wall_ms,
        );
        let mut skipped = self.gone.logs();
        let mut file_all = |logs: &[Collected], skipped: &HashSet<u64>| {
            let wanted = logs.iter().filter(|one| !skipped.contains(&one.log));
            filing.file(&wanted.collect::<Vec<_>>())?;
            filing.sync()
        };
        let by_store: Result<Vec<Vec<FiledLog>>, Unfiled> =
            answers.iter().map(|logs| file_all(logs, &skipped)).collect();
        skipped.extend(answers.iter().flatten().map(|one| one.log));
        let filed = by_store.and_then(|by_store| Ok((by_store, file_all(&unopened, &skipped)?)));
        let (by_store, unopened) = match filed {
            Ok(filed) => filed,
            Err(Unfiled::NoSpace(what)) => {
                filing.undo();
                // What it makes room for frees more. But the writer must go on: what
                // consumers settle is written there.
                self.give_up_spares();
                self.wait_for_space(what, now_ms);
                return Ok(false);
            }
            Err(Unfiled::Fault(fault)) => return Err(fault),
        };
        let (round, records, bytes) = (self.round, filing.records, filing.bytes);
        self.rest.filed_unopened(&unopened);
        let mut by_store = by_store.into_iter();
        for store in 0..self.rest.stores() {
            // Whichever store has opened one of the others meanwhile knows its own.
            let mut logs = by_store.next().unwrap_or_default();
            logs.extend_from_slice(&unopened);
            self.rest.ask(store, Ask::Filed { logs });
        }
        while self.waiting.front().is_some_and(|&sequence| sequence <= through) {
            self.waiting.pop_front();
        }
        self.is_checkpoint_due = true;
        self.rest.report(KeeperEvent::Filed { round, through, records, bytes });
        self.capture(through + 1);
        Ok(true)
    }

    /// Asks for what a checkpoint is to hold.
    fn capture(&mut self, replay_from: u64) {
        self.gone.begin_capture();
        // Before any log is looked at: all that was synced by now is in what they answer.
        let begun = Begun { covered: self.rest.covered_block(), replay_from };
        let unopened = self.rest.capture_unopened();
        let stores = self.rest.stores();
        let answers = (0..stores).map(|_| None).collect();
        self.phase = Phase::Capturing { begun, unopened, answers };
        for store in 0..stores {
            self.rest.ask(store, Ask::Capture { round: self.round });
        }
    }

    /// All have answered: makes the checkpoint, and frees what it does not need.
    fn conclude(
        &mut self,
        Begun { covered, replay_from }: Begun,
        unopened: Captured,
        answers: Vec<Option<(u64, Captured)>>,
        now_ms: u64,
    ) -> Result<bool, Fault> {
        let answers: Vec<(u64, Captured)> = answers.into_iter().flatten().collect();
        let position = answers.iter().map(|(position, _)| *position).max().unwrap_or(0);
        self.replay_from = replay_from;
        match self.rest.sync_through(position) {
            Ok(()) => {}
            Err(StoreError::NoSpace) => {
                let what = "there is no room for a journal file to go on in";
                self.wait_for_space(what.to_owned(), now_ms);
                return Ok(false);
            }
            Err(error) => return Err(Fault(error.to_string())),
        }
        let mut content = self.rest.capture_rest(replay_from);
        // Of a journal that has stopped since, it may lack what somebody has put.
        self.rest.sync_through(position).map_err(|error| Fault(error.to_string()))?;
        (content.covered, content.replay_from) = (covered, replay_from);
        merge(&mut content, answers.into_iter().flat_map(|(_, logs)| logs).chain(unopened));
        let number = self.checkpoint + 1;
        let bytes = content.encode(self.store_id, number, self.clock.now().wall_ms);
        let write = || checkpoint::write(&*self.files, number, &bytes).map_err(Unfiled::from);
        let written = match write() {
            // A prepared file is worth it where more is given back.
            Err(Unfiled::NoSpace(_)) if self.frees_something() && self.rest.give_up_spare(0) => {
                write()
            }
            written => written,
        };
        match written {
            Ok(()) => {}
            Err(Unfiled::NoSpace(what)) => {
                self.wait_for_space(what, now_ms);
                return Ok(false);
            }
            Err(Unfiled::Fault(fault)) => return Err(fault),
        }
        self.space.set_full(false);
        self.space.look_soon();
        self.is_checkpoint_due = false;
        self.rest.report(KeeperEvent::Checkpoint { number, replay_from });
        self.free(number, replay_from);
        self.scrub.set(&content.segments);
        self.delete_gone(&content, position, now_ms);
        if self.policy.rewrite_bytes_per_second > 0 {
            let (files, sizes) = (&*self.files, self.policy.sizes);
            self.rewrite.choose(files, self.store_id, sizes, &content, &self.gone);
        }
        Ok(true)
    }

    /// Writes sparse segments again while no round is under way. Returns in how many
    /// ms to come again; `None`: at once.
    fn rewrite(&mut self, now_ms: u64) -> Result<Option<u64>, Fault> {
        if !matches!(self.phase, Phase::Idle) || now_ms < self.retry_ms {
            return Ok(Some(IDLE_MS_MAX));
        }
        let (rest, files) = (self.rest.clone(), &*self.files);
        let report = |event| rest.report(event);
        let times = (now_ms, self.clock.now().wall_ms);
        match self.rewrite.step(files, self.store_id, &self.policy, times, &report) {
            Ok(Step::Wait(wait_ms)) => Ok(Some(wait_ms)),
            Ok(Step::Done(done)) => {
                self.replace(done, now_ms);
                Ok(None)
            }
            Err(Unfiled::NoSpace(_)) => {
                // Nobody waits for it.
                self.rewrite.rest(files);
                Ok(Some(IDLE_MS_MAX))
            }
            Err(Unfiled::Fault(fault)) => Err(fault),
        }
    }

    /// Tells the stores of a segment that was written again, as of what was filed.
    fn replace(&mut self, Rewritten { old, new }: Rewritten, now_ms: u64) {
        let (log, base) = (old.log, old.base);
        let (bytes_before, bytes_after) = (old.len, new.len);
        self.gone.note_revision(log, base, new.revision);
        self.gone.add(log, What::Replaced(base, old.revision), 0, now_ms);
        let logs = vec![FiledLog { log, segments: vec![new], through: 0 }];
        self.rest.filed_unopened(&logs);
        for store in 0..self.rest.stores() {
            self.rest.ask(store, Ask::Filed { logs: logs.clone() });
        }
        self.rest.report(KeeperEvent::Rewritten { log, base, bytes_before, bytes_after });
    }

    /// Scrubs while no round is under way. Returns in how many ms to come again.
    fn scrub(&mut self, now_ms: u64) -> u64 {
        if !matches!(self.phase, Phase::Idle) {
            return IDLE_MS_MAX;
        }
        let rest = &self.rest;
        let report = |event| rest.report(event);
        self.scrub.step(&*self.files, self.store_id, &self.policy, now_ms, &report)
    }
}

/// Adds logs to what a checkpoint holds; of one that comes twice the first counts.
fn merge(
    content: &mut CheckpointContent,
    logs: impl Iterator<Item = (LogState, Vec<SegmentState>)>,
) {
    let mut known: HashSet<u64> = content.logs.iter().map(|log| log.log).collect();
    for (log, segments) in logs {
        if known.insert(log.log) {
            content.logs.push(log);
            content.segments.extend(segments);
        }
    }
}
