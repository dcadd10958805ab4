//! What the broker does by itself for a group. It costs no call of the policy.

use crate::bindings::exports::weir::policy::dispatching as wire;
use crate::bindings::weir::policy::types::Setting;
use crate::event::EventKind;
use crate::manifest::set;

/// Who picks a consumer for a ready message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Chooser {
    /// The policy, by [`Actions::dispatch`](crate::Actions::dispatch).
    Policy = 0,
    /// Each consumer in turn.
    #[default]
    InTurn = 1,
    /// The consumer with fewest messages in flight.
    FewestInFlight = 2,
    /// By the key's hash; keys move only when their consumer goes or comes.
    KeyHash = 3,
}

/// The order a group keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// None.
    #[default]
    None = 0,
    /// Per key: one message of a key in flight at a time.
    PerKey = 1,
    /// The whole group is one line.
    Group = 2,
}

/// What becomes of a message after its last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Exhausted {
    /// It waits for an operator.
    #[default]
    Park = 0,
    /// It moves to the dead-letter queue (power "dead-letter").
    DeadLetter = 1,
    /// It is settled undelivered (power "drop").
    Drop = 2,
}

/// What the broker does by itself for a group. Start from a preset and change
/// fields by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    interest: u32,
    chooser: Chooser,
    every_consumer: bool,
    ack: bool,
    order: Order,
    exhausted: Exhausted,
    lease_ms: u32,
    attempts: u32,
    retry: (u32, u32, u32),
    window: u32,
    per_consumer: u32,
    tick_ms: u32,
    settings: Vec<(u16, u64)>,
}

impl Plan {
    /// Settled by the consumer's ack; tried again until then.
    #[must_use]
    pub fn at_least_once() -> Self {
        Self {
            interest: 0,
            chooser: Chooser::InTurn,
            every_consumer: false,
            ack: true,
            order: Order::None,
            exhausted: Exhausted::Park,
            lease_ms: 30_000,
            attempts: 0,
            retry: (1_000, 60_000, 200),
            window: 10_000,
            per_consumer: 0,
            tick_ms: 0,
            settings: Vec::new(),
        }
    }

    /// Settled when handed over: never tried again.
    #[must_use]
    pub fn at_most_once() -> Self {
        Self { ack: false, attempts: 1, ..Self::at_least_once() }
    }

    /// At least once, messages of one key in order and with one consumer.
    #[must_use]
    pub fn ordered_by_key() -> Self {
        Self { chooser: Chooser::KeyHash, order: Order::PerKey, ..Self::at_least_once() }
    }

    /// The policy picks consumers itself. Hears of everything it needs for that.
    #[must_use]
    pub fn dispatched_by_policy() -> Self {
        use EventKind::{
            Acked, Credit, Expired, Gone, Joined, Leased, Left, Nacked, Ready, Refused, Replayed,
        };
        let kinds =
            [Ready, Acked, Nacked, Expired, Joined, Left, Credit, Leased, Refused, Gone, Replayed];
        Self { chooser: Chooser::Policy, ..Self::at_least_once() }.interest(&kinds)
    }

    /// Also send events of these kinds.
    #[must_use]
    pub fn interest(mut self, kinds: &[EventKind]) -> Self {
        for &kind in kinds {
            self.interest |= 1 << kind as u8;
        }
        self
    }

    /// Who picks a consumer.
    #[must_use]
    pub fn chooser(self, chooser: Chooser) -> Self {
        Self { chooser, ..self }
    }

    /// Every consumer of the group gets each message.
    #[must_use]
    pub fn to_every_consumer(self) -> Self {
        Self { every_consumer: true, ..self }
    }

    /// The order to keep.
    #[must_use]
    pub fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// Gives up after `attempts` tries; 0 never does.
    #[must_use]
    pub fn attempts(self, attempts: u32, then: Exhausted) -> Self {
        Self { attempts, exhausted: then, ..self }
    }

    /// Length of a lease.
    #[must_use]
    pub fn lease_ms(self, lease_ms: u32) -> Self {
        Self { lease_ms, ..self }
    }

    /// Delay before the second try, longest delay, growth in percent (200 doubles).
    #[must_use]
    pub fn retry(self, first_ms: u32, max_ms: u32, growth_percent: u32) -> Self {
        Self { retry: (first_ms, max_ms, growth_percent), ..self }
    }

    /// Ready messages shown at once; the rest wait in the log.
    #[must_use]
    pub fn window(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// Most messages in flight per consumer, whatever its credit; 0 for no limit.
    #[must_use]
    pub fn per_consumer(self, per_consumer: u32) -> Self {
        Self { per_consumer, ..self }
    }

    /// Most bytes in flight per consumer.
    #[must_use]
    pub fn bytes_per_consumer(mut self, bytes: u32) -> Self {
        set(&mut self.settings, 2, u64::from(bytes));
        self
    }

    /// Period of [`Event::Tick`](crate::Event::Tick), which it also asks for.
    #[must_use]
    pub fn tick_ms(self, tick_ms: u32) -> Self {
        Self { tick_ms, ..self }.interest(&[EventKind::Tick])
    }

    /// Longest time a ready message may stay undecided by the policy.
    #[must_use]
    pub fn undecided_ms_max(mut self, ms: u32) -> Self {
        set(&mut self.settings, 1, u64::from(ms));
        self
    }

    pub(crate) fn into_wire(self) -> wire::Plan {
        wire::Plan {
            interest: self.interest,
            chooser: self.chooser as u8,
            spread: u8::from(self.every_consumer),
            ack: u8::from(self.ack),
            order: self.order as u8,
            exhausted: self.exhausted as u8,
            lease_ms: self.lease_ms,
            attempts: self.attempts,
            retry_first_ms: self.retry.0,
            retry_max_ms: self.retry.1,
            retry_growth: self.retry.2,
            window: self.window,
            per_consumer: self.per_consumer,
            tick_ms: self.tick_ms,
            settings: self.settings.into_iter().map(|(id, value)| Setting { id, value }).collect(),
        }
    }
}
