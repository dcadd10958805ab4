//! Delivery policies of the shard: which one decides for which group, and what
//! they said about subjects.
//!
//! Owned by the shard. Invariant: a binding keeps its number over all its
//! generations; a broken one stays, without an instance, until it is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_message::Batch;

use super::filters::applies;
use crate::command::Level;
use crate::group::consumer::Consumer;
use crate::group::{Classified, Decider, Group, GroupId, Identity};
use crate::limits::{POLICY_BATCH_EVENTS, POLICY_BATCH_ROWS};
use crate::memo::Memo;
use crate::policy::{
    Action, DeliveryPolicy, Event, Failure, Generation, GroupInfo, Joining, Plan, Powers,
    ReadyMessage, Scope,
};

/// Number of a binding in the shard.
pub(crate) type BindingId = u32;

/// Subjects whose class is remembered per binding; a group knows by itself the last that
/// was asked for it.
const CLASSES_MAX: usize = 10_000;
/// Fresh instances put in place within one turn before the policy is given up.
const RESTARTS_MAX: u32 = 3;

/// A binding and its instance.
pub(super) struct Binding {
    pub(super) name: Arc<str>,
    pub(super) scope: Scope,
    /// `None`: it failed for good.
    policy: Option<Box<dyn DeliveryPolicy>>,
    generation: Generation,
    powers: Powers,
    classes: Memo<Option<Level>>,
    /// Fresh instances in this turn.
    restarts: u32,
    /// Events of one call, where it looks at no messages.
    events_max: usize,
    /// The group whose events were the last to find room in a call that was full.
    served: GroupId,
}

/// What became of a consumer that wants in.
pub(super) enum Joined {
    In,
    TurnedAway,
    Failed(BindingId, Failure),
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Policies {
    bindings: BTreeMap<BindingId, Binding>,
    made: BindingId,
}

impl Policies {
    /// The binding called `name`.
    pub(super) fn named(&self, name: &str) -> Option<BindingId> {
        self.bindings.iter().find(|(_, binding)| *binding.name == *name).map(|(&id, _)| id)
    }

    /// Puts a generation in place. The one before hands over its state.
    pub(super) fn bind(
        &mut self,
        now_ms: u64,
        name: String,
        scope: Scope,
        mut policy: Box<dyn DeliveryPolicy>,
    ) -> BindingId {
        let id = self.named(&name).unwrap_or_else(|| {
            self.made += 1;
            self.made
        });
        let before = self.bindings.remove(&id).and_then(|before| before.policy);
        if let Some((version, state)) = before.and_then(|mut before| before.save(now_ms)) {
            // Not fatal: what the state held is replayed as far as it matters. The
            // policy's side tells of it.
            let _ = policy.load(now_ms, version, &state);
        }
        let (generation, powers) = (policy.generation(), policy.powers());
        let binding = Binding {
            name: name.into(),
            scope,
            policy: Some(policy),
            generation,
            powers,
            classes: Memo::new(CLASSES_MAX),
            restarts: 0,
            events_max: POLICY_BATCH_EVENTS,
            served: 0,
        };
        self.bindings.insert(id, binding);
        id
    }

    /// Removes a binding.
    pub(super) fn unbind(&mut self, id: BindingId) {
        self.bindings.remove(&id);
    }

    /// Who decides for a group: the lowest rank of all that apply.
    pub(super) fn choose(&self, identity: &Identity) -> Option<BindingId> {
        let some = self.bindings.iter().filter(|(_, binding)| applies(&binding.scope, identity));
        some.min_by_key(|(_, binding)| (binding.scope.order, &binding.name)).map(|(&id, _)| id)
    }

    /// The decider a group gets under `binding`; the built-in one when that
    /// failed for good.
    pub(super) fn decider(&self, id: BindingId) -> Decider {
        let decider = Decider { binding: Some(id), ..Decider::default() };
        match self.bindings.get(&id) {
            Some(binding) if binding.policy.is_some() => Decider {
                name: Some(binding.name.clone()),
                generation: binding.generation.clone(),
                powers: binding.powers,
                ..decider
            },
            _ => decider,
        }
    }

    pub(super) fn powers(&self, id: BindingId) -> Powers {
        self.bindings.get(&id).map_or_else(Powers::default, |binding| binding.powers)
    }

    /// Whether it wants to see the messages it hears of.
    pub(super) fn reads_messages(&self, id: BindingId) -> bool {
        let policy = self.bindings.get(&id).and_then(|binding| binding.policy.as_deref());
        policy.is_some_and(DeliveryPolicy::reads_messages)
    }

    /// Name and generation, for effects.
    pub(super) fn who(&self, id: BindingId) -> (String, Generation) {
        let binding = self.bindings.get(&id);
        binding.map_or_else(Default::default, |one| (one.name.to_string(), one.generation.clone()))
    }

    /// Gives a binding's instance up for good. False when it was before.
    pub(super) fn give_up(&mut self, id: BindingId) -> bool {
        self.bindings.get_mut(&id).is_some_and(|binding| binding.policy.take().is_some())
    }

    /// Counts a fresh instance. False when there were too many in this turn.
    pub(super) fn count_restart(&mut self, id: BindingId) -> bool {
        let Some(binding) = self.bindings.get_mut(&id) else { return false };
        binding.restarts += 1;
        binding.restarts <= RESTARTS_MAX
    }

    /// A turn begins.
    pub(super) fn forget_restarts(&mut self) {
        self.bindings.values_mut().for_each(|binding| binding.restarts = 0);
    }

    fn instance(&mut self, id: BindingId) -> Option<&mut (dyn DeliveryPolicy + 'static)> {
        self.bindings.get_mut(&id)?.policy.as_deref_mut()
    }

    /// Opens a group; `None` when the binding has no instance.
    pub(super) fn open(
        &mut self,
        id: BindingId,
        now_ms: u64,
        group: &Group,
    ) -> Option<Result<Plan, Failure>> {
        let info = GroupInfo {
            id: group.id,
            name: &group.identity.full_name,
            subject: group.identity.subject(),
            options: &group.identity.options,
        };
        Some(self.instance(id)?.open(now_ms, &info))
    }

    /// Tells a policy that a group is gone.
    pub(super) fn close(&mut self, id: BindingId, now_ms: u64, group: GroupId) {
        if let Some(policy) = self.instance(id) {
            policy.close(now_ms, group);
        }
    }

    /// Asks a group's policy about a consumer.
    pub(super) fn join(&mut self, now_ms: u64, group: &Group, consumer: &Consumer) -> Joined {
        // A group on the built-in plan has nobody to ask.
        let binding = group.decider.binding.filter(|_| group.decider.generation.number > 0);
        let Some(binding) = binding else { return Joined::In };
        let Some(policy) = self.instance(binding) else { return Joined::In };
        let Consumer { id, name, labels, .. } = consumer;
        let joining = Joining { group: group.id, id: *id, name, labels };
        match policy.join(now_ms, &joining) {
            Ok(()) => Joined::In,
            Err(Failure::Refused(_)) => Joined::TurnedAway,
            Err(failure) => Joined::Failed(binding, failure),
        }
    }

    /// How many events a call may hold at most, where it shows no messages.
    pub(super) fn events_max(&self, id: BindingId) -> usize {
        self.bindings.get(&id).map_or(POLICY_BATCH_EVENTS, |binding| binding.events_max)
    }

    /// Puts groups of the binding, sorted, in the order in which they are told: one that
    /// fills call after call must not keep the others waiting for ever.
    pub(super) fn take_turns(&self, id: BindingId, groups: &mut [GroupId]) {
        let served = self.bindings.get(&id).map_or(0, |binding| binding.served);
        groups.rotate_left(groups.partition_point(|&group| group <= served));
    }

    /// A call was full, and events of this group were the last in it.
    pub(super) fn note_served(&mut self, id: BindingId, group: GroupId) {
        if let Some(binding) = self.bindings.get_mut(&id) {
            binding.served = group;
        }
    }

    /// Hands events over; `actions` is appended to.
    pub(super) fn step(
        &mut self,
        id: BindingId,
        now_ms: u64,
        events: &[Event],
        ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let Some(binding) = self.bindings.get_mut(&id) else { return Ok(()) };
        let Some(policy) = &mut binding.policy else { return Ok(()) };
        let answer = policy.step(now_ms, events, ready, actions);
        if matches!(answer, Err(Failure::Restarted(_))) {
            // Its time may be that of a call with messages: it is asked for no more.
            binding.events_max = POLICY_BATCH_ROWS;
        }
        answer
    }

    /// The safest class of a batch's subjects by `decider`, and the failure if there
    /// was one. Answers are remembered as long as the generation lives.
    pub(super) fn classify(
        &mut self,
        decider: &mut Decider,
        now_ms: u64,
        floor: Level,
        batch: &Batch,
    ) -> (Option<Level>, Option<Failure>) {
        let binding = decider.binding.and_then(|id| self.bindings.get_mut(&id));
        let Some(binding) = binding.filter(|binding| binding.policy.is_some()) else {
            return (None, None);
        };
        let mut safest = None;
        // What the message before begins with, up to the end of its subject.
        let mut last: &[u8] = b"";
        for message in batch.iter() {
            if !last.is_empty() && message.starts_with(last) {
                continue;
            }
            // Nearly always the group's only subject: its bytes say so without a look at them.
            let known = decider.classified.as_ref().filter(|it| message.starts_with(&it.head));
            let level = if let Some(known) = known {
                last = &message[..known.head.len()];
                known.level
            } else {
                let parts = weir_message::parse(message, 0).expect("a batch holds messages");
                last = &message[..(parts.subject.0 + parts.subject.1) as usize];
                match binding.class(now_ms, parts.view(message).subject) {
                    Ok((level, was_known)) => {
                        if !was_known {
                            let head = last.into();
                            decider.classified = Some(Box::new(Classified { head, level }));
                        }
                        level
                    }
                    Err(failure) => return (safest.max(Some(Level::Disk)), Some(failure)),
                }
            };
            safest = safest.max(Some(level.unwrap_or(floor)));
        }
        (safest, None)
    }
}

impl Binding {
    /// The class of a subject, and whether it was known without asking the policy.
    fn class(&mut self, now_ms: u64, subject: &str) -> Result<(Option<Level>, bool), Failure> {
        if let Some(level) = self.classes.get(subject.as_bytes()) {
            return Ok((level, true));
        }
        let Some(policy) = self.policy.as_deref_mut() else { return Ok((None, true)) };
        let classes = policy.classify(now_ms, &[subject])?;
        let level = level_of_class(classes.first().copied());
        self.classes.insert(subject.as_bytes().into(), level);
        Ok((level, false))
    }
}

/// Level of a class, `None` for the operator's; what is not known is kept as safely
/// as can be.
fn level_of_class(class: Option<u8>) -> Option<Level> {
    match class {
        Some(0) => Some(Level::Memory),
        Some(1) => Some(Level::Os),
        Some(3) => None,
        _ => Some(Level::Disk),
    }
}
