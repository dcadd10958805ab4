//! Generations of delivery policies come, fail and go; groups are opened anew.

use super::destinations::ended;
use super::policies::Joined;
use super::{Shard, policies::BindingId};
use crate::effect::Effect;
use crate::env::Now;
use crate::group::{Decider, GroupId, checked_plan};
use crate::policy::{DeliveryPolicy, Failure, Plan, Scope};
use crate::rejection::Rejection;

impl Shard {
    pub(super) fn bind_delivery(
        &mut self,
        now: Now,
        name: String,
        scope: Scope,
        policy: Option<Box<dyn DeliveryPolicy>>,
        effects: &mut Vec<Effect>,
    ) {
        self.refusal = None;
        let renewed = match policy {
            Some(policy) => Some(self.policies.bind(now.wall_ms, name, scope, policy)),
            None => {
                if let Some(id) = self.policies.named(&name) {
                    self.policies.unbind(id);
                }
                None
            }
        };
        let touched = self.groups.values().filter(|group| {
            let chosen = self.policies.choose(&group.identity);
            chosen != group.decider.binding || chosen.is_some() && chosen == renewed
        });
        // In the order in which they were made: same commands, same effects.
        let mut touched: Vec<GroupId> = touched.map(|group| group.id).collect();
        touched.sort_unstable();
        touched.into_iter().for_each(|id| self.reopen(now, id));
        self.open_groups(now, effects);
        if let (Some(id), Some(reason)) = (renewed, self.refusal.take()) {
            // The new generation cannot serve what the one before served: the
            // edge is told, and goes back.
            self.give_up_policy(now, id, reason, effects);
        }
    }

    /// Notes that a group needs a decider and a plan; see `open_groups`.
    pub(super) fn reopen(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        let chosen = self.policies.choose(&group.identity);
        if let Some(before) = group.decider.binding.filter(|before| Some(*before) != chosen) {
            self.policies.close(before, now.wall_ms, id);
        }
        self.to_open.insert(id);
    }

    /// Opens the groups that were noted. A policy that restarts while it opens
    /// one has forgotten the others: they are noted again.
    pub(super) fn open_groups(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(id) = self.to_open.pop_last() {
            self.open_group(now, id, effects);
        }
    }

    fn open_group(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(&id) else { return };
        let floor = group.order_floor;
        let built_in = || Plan { order: floor, ..Plan::AT_LEAST_ONCE };
        let chosen = self.policies.choose(&group.identity);
        let opened = chosen.and_then(|binding| self.policies.open(binding, now.wall_ms, group));
        let (decider, plan) = match (chosen, opened) {
            (None, _) => (Decider::default(), built_in()),
            (Some(binding), None) => (self.policies.decider(binding), built_in()),
            (Some(binding), Some(Ok(plan))) => match checked_plan(plan, floor) {
                Ok(plan) => (self.policies.decider(binding), plan),
                Err(reason) => {
                    self.refusal = Some(format!("{}: {reason}", group.identity.full_name));
                    (Decider { binding: Some(binding), ..Decider::default() }, built_in())
                }
            },
            (Some(binding), Some(Err(Failure::Refused(reason)))) => {
                self.refusal = Some(format!("{}: {reason}", group.identity.full_name));
                (Decider { binding: Some(binding), ..Decider::default() }, built_in())
            }
            (Some(binding), Some(Err(failure))) => {
                self.to_open.insert(id);
                return self.policy_fails(now, binding, failure, effects);
            }
        };
        let replays = decider.generation.number > 0;
        self.with_group(now, id, effects, |group, io| group.set_plan(io, decider, plan));
        if replays && self.join_again(now, id, effects) {
            let group = self.groups.get_mut(&id).expect("it was just opened");
            group.replay(now.steady_ms);
        }
    }

    /// Tells a new instance of the consumers that are there. Those it turns away
    /// are ended. False when the instance failed: then the group is noted again.
    fn join_again(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect>) -> bool {
        let ids: Vec<_> = self.groups[&id].consumers.keys().copied().collect();
        for consumer_id in ids {
            let group = self.groups.get_mut(&id).expect("it was just opened");
            let joined = self.policies.join(now.wall_ms, group, &group.consumers[&consumer_id]);
            match joined {
                Joined::In => {}
                Joined::TurnedAway => {
                    let left = group.leave(now.steady_ms, consumer_id, false, effects);
                    let left = left.expect("the consumer was listed");
                    self.consumers.remove(&(left.connection, left.subscription));
                    let reason = Rejection::TurnedAway;
                    effects.push(ended(left.connection, left.subscription, reason));
                    // It is told from scratch, and of nobody it turned away.
                    let group = self.groups.get_mut(&id).expect("it was just opened");
                    group.events.clear();
                }
                Joined::Failed(binding, failure) => {
                    self.policy_fails(now, binding, failure, effects);
                    return false;
                }
            }
        }
        true
    }

    /// A call failed: see to it, and open what has to be opened again.
    pub(super) fn policy_failed(
        &mut self,
        now: Now,
        binding: BindingId,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) {
        self.policy_fails(now, binding, failure, effects);
        self.open_groups(now, effects);
    }

    fn policy_fails(
        &mut self,
        now: Now,
        binding: BindingId,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) {
        match failure {
            Failure::Refused(_) => {}
            Failure::Restarted(reason) => {
                if self.policies.count_restart(binding) {
                    self.reopen_all(now, binding);
                } else {
                    self.note_broken(now, binding, reason, effects);
                }
            }
            Failure::Broken(reason) => self.note_broken(now, binding, reason, effects),
        }
    }

    /// Gives a policy up: its groups go on with the built-in plan.
    pub(super) fn give_up_policy(
        &mut self,
        now: Now,
        binding: BindingId,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        self.note_broken(now, binding, reason, effects);
        self.open_groups(now, effects);
    }

    fn note_broken(&mut self, now: Now, id: BindingId, reason: String, effects: &mut Vec<Effect>) {
        if !self.policies.give_up(id) {
            return;
        }
        let (binding, generation) = self.policies.who(id);
        effects.push(Effect::PolicyFailed { binding, generation, reason });
        self.reopen_all(now, id);
    }

    fn reopen_all(&mut self, now: Now, binding: BindingId) {
        let of_it = self.groups.values().filter(|group| group.decider.binding == Some(binding));
        let mut ids: Vec<GroupId> = of_it.map(|group| group.id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.reopen(now, id));
    }
}
