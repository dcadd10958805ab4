//! Answers that wait until the store is as safe as they say.
//!
//! Owned by the shard. What is settled, moved or purged in a turn is handed to
//! the store with one of the turn's commits; the answer leaves when the store is
//! as safe as the messages are kept, in this turn or a later one. Invariants: an
//! answer does not overtake an earlier one of its connection that waits; there is
//! one for each request in flight at the most.

use std::collections::{BTreeMap, VecDeque};

use crate::command::{ConnectionId, Level, RequestId};
use crate::effect::{Effect, Reply};
use crate::store::Store;

/// Commits of a turn after which what was asked for in it has been handed over,
/// at the latest.
const COMMITS_MAX: u64 = 2;

#[derive(Debug)]
struct Answer {
    request: RequestId,
    reply: Reply,
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
        let commit = self.commits + 1 + u64::from(is_late);
        self.stamped = self.stamped.max(commit);
        let answer = Answer { request, reply, level, commit, position: None };
        self.waiting.entry(connection).or_default().push_back(answer);
    }

    /// Answers at once, or behind what waits.
    pub(super) fn answer_in_turn(
        &mut self,
        (connection, request): (ConnectionId, RequestId),
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        match self.waiting.get_mut(&connection) {
            Some(line) => {
                let (level, commit, position) = (Level::Memory, 0, Some(0));
                line.push_back(Answer { request, reply, level, commit, position });
            }
            None => effects.push(Effect::Reply { connection, request, reply }),
        }
    }

    /// Nobody is there to hear.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.waiting.remove(&connection);
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
        let (commits, marks) = (self.commits, self.marks);
        self.waiting.retain(|&connection, line| {
            let young = |answer: &&mut Answer| answer.commit + COMMITS_MAX >= commits;
            for answer in line.iter_mut().rev().take_while(young) {
                if answer.position.is_none() && answer.commit <= commits {
                    answer.position = Some(marks[answer.level as usize]);
                }
            }
            let is_safe = |answer: &mut Answer| {
                answer.position.is_some_and(|position| position <= safe[answer.level as usize])
            };
            while let Some(Answer { request, reply, .. }) = line.pop_front_if(is_safe) {
                effects.push(Effect::Reply { connection, request, reply });
            }
            !line.is_empty()
        });
    }
}
