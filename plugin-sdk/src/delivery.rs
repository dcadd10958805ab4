//! Delivery policies: how stored messages reach the consumers of a group.
//!
//! The broker keeps the messages, the leases, the credit and the order; a policy
//! says in a [`Plan`] what the broker does by itself, hears of the [`Event`]s it
//! asked for, and answers with wishes ([`Actions`]).

use crate::event::{Actions, Event};
use crate::plan::Plan;
use crate::policy::Policy;

/// A message's id in events and actions: partition << 48 | offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

/// A consumer's id in events and actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u32);

/// A group's id in events and actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// A group, as it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// `queue` or `stream/group`.
    pub name: String,
    /// What the group reads.
    pub subject: String,
    /// Options the client gave when it made the group: JSON text or "".
    pub options: String,
}

/// A consumer, as it asks to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// The group it wants to join.
    pub group: GroupId,
    /// Its number.
    pub id: ConsumerId,
    /// Its name.
    pub name: String,
    /// Labels from the client: JSON text or "".
    pub labels: String,
}

/// How messages of a subject are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory only (power "transient").
    Memory,
    /// Written to the log.
    Logged,
    /// Written and synced before the publisher hears of it.
    Synced,
    /// As the operator has chosen for the queue or stream.
    #[default]
    Chosen,
}

/// Decides how messages reach consumers.
pub trait Delivery: Policy {
    /// A group starts, after a reload too; replayed events follow.
    ///
    /// # Errors
    /// The group then runs on the broker's own plan.
    fn open(&mut self, group: &Group) -> Result<Plan, String>;

    /// How messages on `subject` are kept. The operator's floor wins, but for a policy
    /// with the power "transient".
    fn classify(&mut self, subject: &str) -> Storage {
        let _ = subject;
        Storage::Chosen
    }

    /// Before the consumer's `Joined` event.
    ///
    /// # Errors
    /// Turns the consumer away with this sentence.
    fn join(&mut self, consumer: &Consumer) -> Result<(), String> {
        let _ = consumer;
        Ok(())
    }

    /// A group is gone.
    fn close(&mut self, group: GroupId) {
        let _ = group;
    }

    /// One event of the kinds in the plan's interest.
    fn event(&mut self, now_ms: u64, event: &Event<'_>, actions: &mut Actions) {
        let _ = (now_ms, event, actions);
    }

    /// After the last event of a batch: for policies that decide best when they
    /// have seen all of it.
    fn settle(&mut self, now_ms: u64, actions: &mut Actions) {
        let _ = (now_ms, actions);
    }
}
