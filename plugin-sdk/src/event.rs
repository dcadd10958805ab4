//! What a delivery policy hears, and what it can wish for.

use crate::delivery::{ConsumerId, GroupId, MessageId};
use crate::message::{Columns, Message};
use crate::step::{EventRow, Wish};

/// Something that happened in a group. More kinds may come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the ids repeat in every variant")]
pub enum Event<'a> {
    /// A message waits for a consumer. `attempt` counts the tries so far;
    /// `parts` has the columns of the manifest.
    Ready { group: GroupId, message: MessageId, attempt: u16, key_hash: u32, parts: Message<'a> },
    /// The consumer settled it.
    Acked { group: GroupId, consumer: ConsumerId, message: MessageId },
    /// The consumer gave it back, asking for `delay_ms`.
    Nacked {
        group: GroupId,
        consumer: ConsumerId,
        message: MessageId,
        attempt: u16,
        reason: u8,
        delay_ms: u32,
    },
    /// The consumer's lease ran out.
    Expired { group: GroupId, consumer: ConsumerId, message: MessageId, attempt: u16 },
    /// A consumer is there.
    Joined { group: GroupId, consumer: ConsumerId, credit: u32 },
    /// A consumer is gone; `lost` when it did not say goodbye.
    Left { group: GroupId, consumer: ConsumerId, lost: bool },
    /// A consumer can take `amount` more messages.
    Credit { group: GroupId, consumer: ConsumerId, amount: u32 },
    /// Replay: the message is with the consumer for `left_ms` more.
    Leased { group: GroupId, consumer: ConsumerId, message: MessageId, attempt: u16, left_ms: u32 },
    /// A timer set by [`Actions::wake`] ran out.
    Woke { group: GroupId, token: u64 },
    /// The plan's tick.
    Tick { group: GroupId },
    /// A wish was refused.
    Refused { group: GroupId, consumer: ConsumerId, message: MessageId, why: Refusal },
    /// The consumer asked for and got a longer lease.
    Extended { group: GroupId, consumer: ConsumerId, message: MessageId, left_ms: u32 },
    /// The message left by retention or by an operator.
    Gone { group: GroupId, message: MessageId },
    /// End of the replay that follows `open`.
    Replayed { group: GroupId },
}

/// Why a wish was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The broker does not know this kind of action.
    UnknownAction,
    /// No such message.
    NoMessage,
    /// No such consumer.
    NoConsumer,
    /// The consumer has no credit left.
    NoCredit,
    /// It would break the order.
    BreaksOrder,
    /// The operator did not grant the power.
    NotGranted,
    /// The message is not in a state for it.
    WrongState,
    /// Too many at once.
    TooMany,
    /// A code this version does not know.
    Other(u8),
}

/// Kinds of events, for [`Plan::interest`](crate::Plan::interest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named like the variants of `Event`")]
#[repr(u8)]
pub enum EventKind {
    Ready = 1,
    Acked = 2,
    Nacked = 3,
    Expired = 4,
    Joined = 5,
    Left = 6,
    Credit = 7,
    Leased = 8,
    Woke = 9,
    Tick = 10,
    Refused = 11,
    Extended = 12,
    Gone = 13,
    Replayed = 14,
}

impl Refusal {
    fn of(code: u8) -> Self {
        match code {
            1 => Self::UnknownAction,
            2 => Self::NoMessage,
            3 => Self::NoConsumer,
            4 => Self::NoCredit,
            5 => Self::BreaksOrder,
            6 => Self::NotGranted,
            7 => Self::WrongState,
            8 => Self::TooMany,
            other => Self::Other(other),
        }
    }
}

/// The typed form of an event; `None` for a kind this version does not know.
/// `ready_row` counts the ready messages seen.
pub(crate) fn event_of<'a>(
    row: EventRow,
    columns: &'a Columns<'a>,
    ready_row: &mut usize,
) -> Option<Event<'a>> {
    let (group, consumer) = (GroupId(row.group), ConsumerId(row.consumer));
    let (message, attempt, value) = (MessageId(row.message), row.attempt, row.value);
    Some(match row.kind {
        1 => {
            let parts = Message::new(columns, *ready_row);
            *ready_row += 1;
            Event::Ready { group, message, attempt, key_hash: value, parts }
        }
        2 => Event::Acked { group, consumer, message },
        3 => {
            let (reason, delay_ms) = (row.code, value);
            Event::Nacked { group, consumer, message, attempt, reason, delay_ms }
        }
        4 => Event::Expired { group, consumer, message, attempt },
        5 => Event::Joined { group, consumer, credit: value },
        6 => Event::Left { group, consumer, lost: row.code != 0 },
        7 => Event::Credit { group, consumer, amount: value },
        8 => Event::Leased { group, consumer, message, attempt, left_ms: value },
        9 => Event::Woke { group, token: row.message },
        10 => Event::Tick { group },
        11 => Event::Refused { group, consumer, message, why: Refusal::of(row.code) },
        12 => Event::Extended { group, consumer, message, left_ms: value },
        13 => Event::Gone { group, message },
        14 => Event::Replayed { group },
        _ => return None,
    })
}

/// Wishes of a delivery policy. The broker refuses those that would break one of
/// its rules and says so in a [`Event::Refused`].
#[derive(Debug, Default)]
pub struct Actions {
    pub(crate) wishes: Vec<Wish>,
}

impl Actions {
    fn push(&mut self, kind: u8, code: u8, ids: (GroupId, ConsumerId, u64), value: u32) {
        let (group, consumer, message) = (ids.0.0, ids.1.0, ids.2);
        self.wishes.push(Wish { kind, code, group, consumer, value, message });
    }

    /// Hands the message to the consumer; `lease_ms` 0 is the plan's. Spends its credit at
    /// once; a consumer without room gets it when it has some, within a lease.
    pub fn dispatch(
        &mut self,
        group: GroupId,
        message: MessageId,
        consumer: ConsumerId,
        lease_ms: u32,
    ) {
        self.push(1, 0, (group, consumer, message.0), lease_ms);
    }

    /// Makes the message ready again after `delay_ms`.
    pub fn retry(&mut self, group: GroupId, message: MessageId, delay_ms: u32) {
        self.push(2, 0, (group, ConsumerId(0), message.0), delay_ms);
    }

    /// Moves the message to the dead-letter queue (power "dead-letter").
    pub fn dead_letter(&mut self, group: GroupId, message: MessageId, reason: u8) {
        self.push(3, reason, (group, ConsumerId(0), message.0), 0);
    }

    /// Settles the message undelivered (power "drop").
    pub fn discard(&mut self, group: GroupId, message: MessageId, reason: u8) {
        self.push(4, reason, (group, ConsumerId(0), message.0), 0);
    }

    /// Holds the message until an operator acts or `retry` is sent.
    pub fn park(&mut self, group: GroupId, message: MessageId) {
        self.push(5, 0, (group, ConsumerId(0), message.0), 0);
    }

    /// Lengthens the consumer's lease on the message by `by_ms`.
    pub fn extend(&mut self, group: GroupId, message: MessageId, consumer: ConsumerId, by_ms: u32) {
        self.push(6, 0, (group, consumer, message.0), by_ms);
    }

    /// Asks for an [`Event::Woke`] with this token after `after_ms`.
    pub fn wake(&mut self, group: GroupId, token: u64, after_ms: u32) {
        self.push(7, 0, (group, ConsumerId(0), token), after_ms);
    }

    /// How many wishes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wishes.len()
    }

    /// Whether there is no wish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }
}
