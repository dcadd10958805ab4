//! Answers that wait until the store is as safe as they say, and deliveries that
//! wait because they settle what they deliver.
//!
//! Owned by the shard. What is settled, moved or purged in a turn is handed to
//! the store with one of the turn's commits; the answer leaves when the store is
//! as safe as the messages are kept, in this turn or a later one. A message that
//! is delivered once or never leaves only when it is safe that no later process
//! delivers it. Invariants: an answer does not overtake an earlier one of its
//! connection that waits, and a delivery none of its consumer; there is one answer
//! for each request in flight at the most, no more deliveries than there is credit,
//! and of what is lost no more than a group keeps apart each time it tells.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use super::members::Key;
use crate::command::{ConnectionId, Level, RequestId, SubscriptionId};
use crate::effect::{Effect, Reply};
use crate::store::Store;

/// Commits of a turn after which what was asked for in it has been handed over,
/// at the latest.
const COMMITS_MAX: u64 = 2;

#[derive(Debug)]
struct Answer {
    effect: Effect,
    level: Level,
    /// Number of the commit with which everything it speaks of is handed over.
    commit: u64,
    /// What the store must have made safe; `None` before that commit.
    position: Option<u64>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: BTreeMap<ConnectionId, VecDeque<Answer>>,
    /// Commits so far.
    commits: u64,
    /// Safest level at which something was handed over since the last commit.
    handed: Option<Level>,
    /// Position of the last commit with something of each level or safer: what
    /// was handed over less safely need not ever become so safe.
    marks: [u64; 3],
    /// How far the store was safe when the answers were last looked at.
    safe: [u64; 3],
    /// The commit after which none of them lacks its position.
    stamped: u64,
    /// Deliveries that wait, and what is told of lost ones, by consumer.
    deliveries: BTreeMap<Key, usize>,
}

impl Answers {
    /// Something is to be kept at `level` with the next commit.
    pub(super) fn hand_over(&mut self, level: Level) {
        self.handed = self.handed.max(Some(level));
    }

    /// Answers when what it speaks of is as safe as `level`. `is_late`: part of it
    /// is handed over only when the turn's first round is over.
    pub(super) fn answer(
        &mut self,
        (connection, request): (ConnectionId, RequestId),
        reply: Reply,
        level: Level,
        is_late: bool,
    ) {
        let effect = Effect::Reply { connection, request, reply };
        self.wait(connection, effect, level, is_late);
    }

    fn wait(&mut self, connection: ConnectionId, effect: Effect, level: Level, is_late: bool) {
        let commit = self.commits + 1 + u64::from(is_late);
        self.stamped = self.stamped.max(commit);
        let answer = Answer { effect, level, commit, position: None };
        self.waiting.entry(connection).or_default().push_back(answer);
    }

    /// What a group has delivered and settled by that: leaves when the settlement
    /// is as safe as `level`.
    pub(super) fn deliver(&mut self, delivered: Vec<Effect>, level: Level) {
        for effect in delivered {
            if let Some(connection) = listener(&effect) {
                if let Some(consumer) = consumer_of(&effect) {
                    *self.deliveries.entry(consumer).or_default() += 1;
                }
                self.wait(connection, effect, level, false);
            }
        }
    }

    /// Whether deliveries wait.
    pub(super) fn holds_deliveries(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// What a group has delivered that waits for nothing itself: behind the deliveries of
    /// the same consumer that wait, from before its plan changed, else at once.
    pub(super) fn deliver_behind(&mut self, delivered: Vec<Effect>, effects: &mut Vec<Effect>) {
        for effect in delivered {
            let Some(consumer) = consumer_of(&effect) else {
                self.put_behind(effect, effects);
                continue;
            };
            match self.deliveries.get_mut(&consumer) {
                Some(waiting) => {
                    *waiting += 1;
                    self.push_safe(consumer.0, effect);
                }
                None => effects.push(effect),
            }
        }
    }

    /// Puts the answers and ends among `effects` from `first` on behind the
    /// deliveries that wait for the same connection: the end of a pull or of a
    /// consumer comes after what it was given.
    pub(super) fn line_up(&mut self, effects: &mut Vec<Effect>, first: usize) {
        if self.deliveries.is_empty() {
            return;
        }
        for effect in effects.split_off(first) {
            if consumer_of(&effect).is_some() {
                effects.push(effect);
            } else {
                self.put_behind(effect, effects);
            }
        }
    }

    /// An answer or an end, behind the deliveries that wait for the same connection.
    fn put_behind(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        let waits = |one: &ConnectionId| self.deliveries.range(consumers_of(*one)).next().is_some();
        match listener(&effect).filter(waits) {
            Some(connection) => self.push_safe(connection, effect),
            None => effects.push(effect),
        }
    }

    /// Something that is safe, behind what may not be.
    fn push_safe(&mut self, connection: ConnectionId, effect: Effect) {
        let (level, commit, position) = (Level::Memory, 0, Some(0));
        let answer = Answer { effect, level, commit, position };
        self.waiting.entry(connection).or_default().push_back(answer);
    }

    /// Answers at once, or behind what waits.
    pub(super) fn answer_in_turn(
        &mut self,
        (connection, request): (ConnectionId, RequestId),
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        let effect = Effect::Reply { connection, request, reply };
        match self.waiting.contains_key(&connection) {
            true => self.push_safe(connection, effect),
            false => effects.push(effect),
        }
    }

    /// Nobody is there to hear.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.waiting.remove(&connection);
        self.deliveries.extract_if(consumers_of(connection), |_, _| true).for_each(drop);
    }

    /// The store has committed: lets go what is safe.
    pub(super) fn committed(&mut self, store: &dyn Store, effects: &mut Vec<Effect>) {
        self.commits += 1;
        if let Some(level) = self.handed.take() {
            self.marks[..=level as usize].fill(store.position());
        }
        if self.waiting.is_empty() {
            return;
        }
        let safe = [Level::Memory, Level::Os, Level::Disk].map(|level| store.safe(level));
        if self.commits > self.stamped && safe == self.safe {
            return;
        }
        self.safe = safe;
        let (commits, marks, deliveries) = (self.commits, self.marks, &mut self.deliveries);
        self.waiting.retain(|_, line| {
            // Those behind that wait for nothing themselves are passed by.
            let young =
                |answer: &&mut Answer| answer.commit == 0 || answer.commit + COMMITS_MAX >= commits;
            for answer in line.iter_mut().rev().take_while(young) {
                if answer.position.is_none() && answer.commit <= commits {
                    answer.position = Some(marks[answer.level as usize]);
                }
            }
            let is_safe = |answer: &mut Answer| {
                answer.position.is_some_and(|position| position <= safe[answer.level as usize])
            };
            while let Some(Answer { effect, .. }) = line.pop_front_if(is_safe) {
                if let Some(consumer) = consumer_of(&effect)
                    && let Some(left) = deliveries.get_mut(&consumer)
                {
                    *left -= 1;
                    if *left == 0 {
                        deliveries.remove(&consumer);
                    }
                }
                effects.push(effect);
            }
            !line.is_empty()
        });
    }
}

/// The consumer that gets it, which may end: its end comes behind that.
fn consumer_of(effect: &Effect) -> Option<Key> {
    match effect {
        Effect::Deliver { connection, subscription, .. }
        | Effect::Lost { connection, subscription, .. } => Some((*connection, *subscription)),
        _ => None,
    }
}

/// Every consumer of a connection.
fn consumers_of(connection: ConnectionId) -> RangeInclusive<Key> {
    (connection, SubscriptionId(0))..=(connection, SubscriptionId(u32::MAX))
}

/// Whom an effect speaks to; publishers wait for no consumer.
fn listener(effect: &Effect) -> Option<ConnectionId> {
    match effect {
        Effect::Deliver { connection, .. }
        | Effect::Reply { connection, .. }
        | Effect::Lost { connection, .. }
        | Effect::Ended { connection, .. } => Some(*connection),
        Effect::Published { .. }
        | Effect::Pressed { .. }
        | Effect::QueueMade { .. }
        | Effect::PolicyFailed { .. } => None,
    }
}
