//! Delivery policy: hands out every message itself, each to the next consumer that
//! has credit. The broker could do that by a plan; here it must not, so that the
//! benchmark sees what a policy costs that is asked about every message.

use std::collections::VecDeque;

use weir_plugin_sdk::prelude::*;

/// The policy.
#[derive(Debug, Default)]
pub struct Dispatcher {
    lanes: Vec<Lane>,
}

/// One group.
#[derive(Debug)]
struct Lane {
    group: GroupId,
    ready: VecDeque<MessageId>,
    /// Consumers with what they may still take.
    consumers: Vec<(ConsumerId, u32)>,
    next: usize,
}

impl Policy for Dispatcher {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("hands out every message itself, in turn")
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl Dispatcher {
    fn lane(&mut self, group: GroupId) -> &mut Lane {
        let found = self.lanes.iter().position(|lane| lane.group == group);
        let index = found.unwrap_or_else(|| {
            let (ready, consumers) = (VecDeque::new(), Vec::new());
            self.lanes.push(Lane { group, ready, consumers, next: 0 });
            self.lanes.len() - 1
        });
        &mut self.lanes[index]
    }
}

impl Lane {
    fn credit(&mut self, consumer: ConsumerId, amount: u32) {
        match self.consumers.iter_mut().find(|(known, _)| *known == consumer) {
            Some((_, credit)) => *credit += amount,
            None => self.consumers.push((consumer, amount)),
        }
    }

    fn hand_out(&mut self, actions: &mut Actions) {
        let mut without_credit = 0;
        while !self.ready.is_empty() && without_credit < self.consumers.len() {
            self.next = (self.next + 1) % self.consumers.len();
            let (consumer, credit) = &mut self.consumers[self.next];
            if *credit == 0 {
                without_credit += 1;
                continue;
            }
            without_credit = 0;
            *credit -= 1;
            let consumer = *consumer;
            if let Some(message) = self.ready.pop_front() {
                actions.dispatch(self.group, message, consumer, 0);
            }
        }
    }
}

impl Delivery for Dispatcher {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(Plan::dispatched_by_policy())
    }

    fn close(&mut self, group: GroupId) {
        self.lanes.retain(|lane| lane.group != group);
    }

    fn event(&mut self, _now_ms: u64, event: &Event<'_>, _actions: &mut Actions) {
        match *event {
            Event::Ready { group, message, .. } | Event::Refused { group, message, .. } => {
                self.lane(group).ready.push_back(message);
            }
            Event::Joined { group, consumer, credit } => self.lane(group).credit(consumer, credit),
            Event::Credit { group, consumer, amount } => self.lane(group).credit(consumer, amount),
            Event::Left { group, consumer, .. } => {
                self.lane(group).consumers.retain(|(known, _)| *known != consumer);
            }
            _ => {}
        }
    }

    fn settle(&mut self, _now_ms: u64, actions: &mut Actions) {
        for lane in &mut self.lanes {
            lane.hand_out(actions);
        }
    }
}

weir_plugin_sdk::delivery!(Dispatcher);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugin_sdk::test::{Bench, start};

    #[test]
    fn no_storm_makes_it_lose_a_message() {
        for seed in 0..20 {
            let mut policy = start::<Dispatcher>("").expect("starts");
            let mut bench = Bench::open(&mut policy).expect("opens");
            bench.publish(100, |_| None);
            bench.storm(seed, 300);
            bench.drain();
        }
    }
}
