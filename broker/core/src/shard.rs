//! A shard: the queues and streams of one share of the names, with their groups,
//! consumers and policies. Commands and the time go in, effects come out.
//!
//! Owned and driven by one task of the edge, turn by turn: any number of `apply`
//! (and a `tick` when `next_deadline` has passed), then one `commit`. Invariants:
//! nothing here waits, reads a clock or knows another shard; a message reaches a
//! consumer only behind the store's stable position; same commands, same times,
//! same effects.

mod answers;
mod binding;
mod compaction;
mod destinations;
pub(crate) mod filters;
mod members;
mod pledges;
pub(crate) mod policies;
mod publish;
mod reading;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::command::{Command, ConnectionId, DestinationId, Level, RequestId, SubscriptionId};
use crate::effect::{Effect, Reply};
use crate::env::Now;
use crate::group::consumer::ConsumerId;
use crate::group::line::Line;
use crate::group::{Group, GroupId, Io};
use crate::limits;
use crate::numbered::Numbered;
use crate::queue::Queue;
use crate::reader::Reader;
use crate::rejection::Rejection;
use crate::store::{LogId, Store, StoreError};
use crate::stream::Stream;
use answers::Answers;
use compaction::Passes;
use filters::Filters;
use pledges::Pledges;
use policies::Policies;
use publish::Pressed;

/// A queue or a stream.
#[derive(Debug)]
enum Destination {
    Queue(Queue),
    /// Boxed: there may be many queues, which take much less.
    Stream(Box<Stream>),
}

/// Who a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Group(GroupId),
    /// A group that has not looked as far as its consumers have room for.
    Intake(GroupId),
    /// Retention by age.
    Stream(DestinationId),
    /// A pass of compaction over a partition.
    Keys(DestinationId, u16),
    /// The next step of the pass at work.
    Pass,
}

/// See the file's head.
pub struct Shard {
    store: Box<dyn Store>,
    /// Numbers for dead-letter queues that the shard makes itself.
    ids: Range<u32>,
    destinations: HashMap<DestinationId, Destination, FixedState>,
    /// Whose log it is, by its number; nobody's for a group's.
    owners: Numbered<DestinationId>,
    names: HashMap<Arc<str>, DestinationId, FixedState>,
    /// Boxed: a table is never full, and grows by copying.
    groups: HashMap<GroupId, Box<Group>, FixedState>,
    groups_made: GroupId,
    consumers: BTreeMap<(ConnectionId, SubscriptionId), (GroupId, ConsumerId)>,
    consumers_made: ConsumerId,
    /// Of connections that have had a consumer here.
    lines: HashMap<ConnectionId, Arc<Line>, FixedState>,
    /// Those that got something in this turn.
    lines_used: Vec<Arc<Line>>,
    turn_bytes_max: u64,
    policies: Policies,
    filters: Filters,
    reader: Reader,
    answers: Answers,
    pledges: Pledges,
    passes: Passes,
    /// Groups that have something to do in this turn.
    dirty: Vec<GroupId>,
    /// Queues that have refused messages, some of them if there are very many.
    pressed: Vec<Pressed>,
    /// Scratch: logs whose stable end has moved.
    moved: Vec<LogId>,
    deadlines: BTreeSet<(u64, Owner)>,
    /// The last turn left work behind: when the next is due, steady ms.
    unfinished_ms: Option<u64>,
    /// What the store could not do; the turn's `commit` returns it.
    fault: Option<StoreError>,
    /// Groups that need a decider and a plan.
    to_open: BTreeSet<GroupId>,
    /// Why a policy did not want a group, while a generation is put in place.
    refusal: Option<String>,
}

impl Shard {
    /// An empty shard over `store`. What the store holds of an earlier process is
    /// taken up by the commands that make queues, streams and groups. `ids` are
    /// numbers for the dead-letter queues it makes itself; no other shard or directory
    /// may use them.
    #[must_use]
    pub fn new(store: Box<dyn Store>, ids: Range<u32>) -> Self {
        Self {
            store,
            ids,
            destinations: HashMap::default(),
            owners: Numbered::default(),
            names: HashMap::default(),
            groups: HashMap::default(),
            groups_made: 0,
            consumers: BTreeMap::new(),
            consumers_made: 0,
            lines: HashMap::default(),
            lines_used: Vec::new(),
            turn_bytes_max: limits::TURN_BYTES_PER_CONNECTION,
            policies: Policies::default(),
            filters: Filters::default(),
            reader: Reader::default(),
            answers: Answers::default(),
            pledges: Pledges::default(),
            passes: Passes::default(),
            dirty: Vec::new(),
            pressed: Vec::new(),
            moved: Vec::new(),
            deadlines: BTreeSet::new(),
            unfinished_ms: None,
            fault: None,
            to_open: BTreeSet::new(),
            refusal: None,
        }
    }

    /// Ends the shard and hands back its store, for another one.
    #[must_use]
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }

    /// Whether the store wants no more work for now; turns must go on.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.store.is_congested()
    }

    /// Bounds what one turn hands over to one connection, bytes; one message may go
    /// beyond it. For connections that attach their first consumer from now on.
    pub fn bound_turns(&mut self, bytes: u64) {
        self.turn_bytes_max = bytes;
    }

    /// Does what is asked. Effects that need the turn's end (deliveries, outcomes
    /// of publishes) leave with [`Shard::commit`].
    pub fn apply(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) {
        let first = effects.len();
        match command {
            Command::Publish(publish) => self.publish(now, publish, effects),
            Command::Spread(spread) => {
                spread.publishes().for_each(|publish| self.publish(now, publish, effects));
            }
            Command::Settle { connection, subscription, request, settlements } => {
                self.settle(now, (connection, subscription), request, &settlements, effects);
            }
            Command::Credit { connection, subscription, amount } => {
                self.credit(now, (connection, subscription), amount);
            }
            Command::Pull { connection, subscription, request, max, wait_ms } => {
                self.pull(now, (connection, subscription), request, (max, wait_ms), effects);
            }
            Command::Attach { connection, subscription, request, source, credit, name, labels } => {
                let consumer = members::NewConsumer { source, credit, name, labels };
                let answer = self.attach(now, (connection, subscription), consumer, effects);
                self.answers.line_up(effects, first);
                answer_done(connection, request, answer, effects);
            }
            Command::Detach { connection, subscription, request } => {
                let answer = self.detach(now, (connection, subscription), effects);
                self.answers.line_up(effects, first);
                let reply = answer.map_or_else(Reply::Rejected, |()| Reply::Done);
                self.answers.answer_in_turn((connection, request), reply, effects);
            }
            Command::Disconnect { connection } => self.disconnect(now, connection, effects),
            Command::Pause { connection } => self.pause(connection),
            Command::Resume { connection } => self.resume(now, connection),
            other => self.apply_control(now, other, effects),
        }
    }

    /// The commands that are not on the path of messages.
    fn apply_control(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) {
        let first = effects.len();
        match command {
            Command::CountRefused { id, messages } => self.count_refused(id, messages),
            Command::CreateQueue { id, name, config } => self.create_queue(now, id, name, config),
            Command::CreateStream { id, name, config } => self.create_stream(now, id, name, config),
            Command::AlterQueue { id, config } => self.alter_queue(now, id, config, effects),
            Command::AlterStream { id, config } => self.alter_stream(now, id, config),
            Command::PutGroup { stream, group, config } => {
                self.put_group(now, stream, &group, config, effects);
            }
            Command::DeleteGroup { stream, group } => {
                self.delete_group(now, stream, &group, effects);
                self.answers.line_up(effects, first);
            }
            Command::Delete { id } => {
                self.delete(now, id, effects);
                self.answers.line_up(effects, first);
            }
            Command::Seek { connection, request, stream, group, partition, to } => {
                let answer = self.seek(now, stream, &group, partition, to);
                self.answer_safely((connection, request), answer, effects);
            }
            Command::Read {
                connection,
                request,
                stream,
                partition,
                from,
                messages_max,
                bytes_max,
            } => {
                let answer = self.read(stream, partition, from, (messages_max, bytes_max));
                answer_with(connection, request, answer, effects);
            }
            Command::Info { connection, request, id } => {
                let answer = self.info(id);
                answer_with(connection, request, answer, effects);
            }
            Command::Purge { connection, request, id } => {
                let answer = self.purge(now, id);
                self.answer_safely((connection, request), answer, effects);
            }
            Command::BindDelivery { binding, scope, policy } => {
                self.bind_delivery(now, binding, scope, policy, effects);
                self.answers.line_up(effects, first);
            }
            Command::BindFilter { binding, scope, filter } => {
                self.filters.bind(binding, scope, filter);
                self.assign_filters();
            }
            Command::Publish(_)
            | Command::Spread(_)
            | Command::Settle { .. }
            | Command::Credit { .. }
            | Command::Pull { .. }
            | Command::Attach { .. }
            | Command::Detach { .. }
            | Command::Disconnect { .. }
            | Command::Pause { .. }
            | Command::Resume { .. } => unreachable!("`apply` has done these"),
        }
    }

    /// When the shard wants a [`Shard::tick`] at the latest, steady ms.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        first.into_iter().chain(self.unfinished_ms).min()
    }

    /// Does what is due at `now`. Harmless at any time; a `commit` must follow.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let before = effects.len();
        while let Some(&(at, owner)) = self.deadlines.first() {
            if at > now.steady_ms {
                break;
            }
            self.deadlines.pop_first();
            match owner {
                Owner::Group(id) => {
                    let Some(group) = self.groups.get_mut(&id) else { continue };
                    group.armed_ms = u64::MAX;
                    group.tick(now.steady_ms, effects);
                    self.touch(id);
                }
                Owner::Intake(id) => self.touch(id),
                Owner::Stream(id) => {
                    if let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) {
                        stream.armed_ms = u64::MAX;
                    }
                    self.retain(now, id);
                }
                Owner::Keys(id, partition) => self.ask_for_pass(now, id, partition),
                Owner::Pass => self.step_pass(now),
            }
        }
        self.answers.line_up(effects, before);
    }

    /// The group has something to do at the end of this turn.
    fn touch(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if !group.dirty {
            group.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Runs `work` on a group with what it needs of the shard.
    fn with_group<T>(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect>,
        work: impl FnOnce(&mut Group, &mut Io<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(&id)?;
        let mut io = Io {
            now,
            store: &mut *self.store,
            reader: &mut self.reader,
            filters: &mut self.filters,
            effects,
        };
        let result = work(group, &mut io);
        self.lines_used.append(&mut group.lines);
        self.reader.clear();
        self.touch(id);
        Some(result)
    }

    /// Answers when it is as safe as the level it comes with.
    fn answer_safely(
        &mut self,
        to: (ConnectionId, RequestId),
        answer: Result<(Reply, Level), Rejection>,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Ok((reply, level)) => self.answers.answer(to, reply, level, false),
            Err(rejection) => {
                self.answers.answer_in_turn(to, Reply::Rejected(rejection), effects);
            }
        }
    }

    /// As `with_group`, for work that delivers. What settles by being delivered
    /// leaves when that is safe, and what comes after it to the same consumer, behind it.
    fn deliver_with(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect>,
        work: impl FnOnce(&mut Group, &mut Io<'_>),
    ) -> Option<()> {
        let group = self.groups.get_mut(&id)?;
        let (settles, level) = (group.plan.ack == 0, group.level);
        if settles && level > Level::Memory {
            group.asked = true;
            let mut delivered = Vec::new();
            self.with_group(now, id, &mut delivered, work);
            self.groups.get_mut(&id)?.asked = false;
            self.answers.deliver(delivered, level);
        } else if self.answers.holds_deliveries() {
            let mut delivered = Vec::new();
            self.with_group(now, id, &mut delivered, work);
            self.answers.deliver_behind(delivered, effects);
        } else {
            self.with_group(now, id, effects, work);
        }
        if self.groups.get(&id)?.is_behind() {
            self.deadlines.insert((now.steady_ms, Owner::Intake(id)));
        }
        Some(())
    }

    fn queue_mut(&mut self, id: DestinationId) -> Result<&mut Queue, Rejection> {
        match self.destinations.get_mut(&id) {
            Some(Destination::Queue(queue)) => Ok(queue),
            Some(Destination::Stream(_)) => Err(Rejection::WrongKind),
            None => Err(Rejection::NotFound),
        }
    }

    fn stream_mut(&mut self, id: DestinationId) -> Result<&mut Stream, Rejection> {
        match self.destinations.get_mut(&id) {
            Some(Destination::Stream(stream)) => Ok(stream),
            Some(Destination::Queue(_)) => Err(Rejection::WrongKind),
            None => Err(Rejection::NotFound),
        }
    }

    /// Keeps what the store could not do for the end of the turn. Being full or
    /// damaged is no fault: that is answered where it happens.
    fn note_fault(&mut self, error: StoreError) {
        if !matches!(error, StoreError::NoSpace | StoreError::Damaged { .. }) {
            self.fault.get_or_insert(error);
        }
    }
}

fn answer_done(
    connection: ConnectionId,
    request: RequestId,
    answer: Result<(), Rejection>,
    effects: &mut Vec<Effect>,
) {
    answer_with(connection, request, answer.map(|()| Reply::Done), effects);
}

fn answer_with(
    connection: ConnectionId,
    request: RequestId,
    answer: Result<Reply, Rejection>,
    effects: &mut Vec<Effect>,
) {
    let reply = answer.unwrap_or_else(Reply::Rejected);
    effects.push(Effect::Reply { connection, request, reply });
}
