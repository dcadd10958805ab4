//! One call of a delivery policy: events in, wishes out, as rows. They cross the border
//! as columns.

use crate::bindings::exports::weir::policy::dispatching as wire;
use crate::bindings::weir::policy::types::Column;
use crate::delivery::Delivery;
use crate::event::{Actions, event_of};
use crate::message::Columns;

/// One event, before it is typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventRow {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) attempt: u16,
    pub(crate) group: u32,
    pub(crate) consumer: u32,
    pub(crate) value: u32,
    pub(crate) message: u64,
}

/// One action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) group: u32,
    pub(crate) consumer: u32,
    pub(crate) value: u32,
    pub(crate) message: u64,
}

/// Runs a policy over a batch of events, in the broker's order, and the columns of those
/// that tell of ready messages.
pub(crate) fn step_batch<D: Delivery>(
    policy: &mut D,
    header_names: &[String],
    now_ms: u64,
    events: impl ExactSizeIterator<Item = EventRow>,
    ready: &[Column],
) -> Vec<Wish> {
    let columns = Columns::of(ready, header_names);
    let mut actions = Actions { wishes: Vec::with_capacity(events.len()) };
    let mut ready_row = 0;
    for row in events {
        // Kinds that this version does not know are skipped, as the contract says.
        if let Some(event) = event_of(row, &columns, &mut ready_row) {
            policy.event(now_ms, &event, &mut actions);
        }
    }
    policy.settle(now_ms, &mut actions);
    actions.wishes
}

/// Events as the broker sends them.
pub(crate) fn event_rows(events: &wire::Events) -> impl ExactSizeIterator<Item = EventRow> {
    let wire::Events { kinds, codes, attempts, groups, consumers, values, messages } = events;
    let what = kinds.iter().zip(codes).zip(attempts);
    let who = groups.iter().zip(consumers).zip(values).zip(messages);
    what.zip(who).map(|(((&kind, &code), &attempt), (((&group, &consumer), &value), &message))| {
        EventRow { kind, code, attempt, group, consumer, value, message }
    })
}

/// Wishes as the broker takes them. Each list is made in its exact size, so that none is
/// moved on its way out.
pub(crate) fn wish_columns(wishes: &[Wish]) -> wire::Actions {
    wire::Actions {
        kinds: wishes.iter().map(|wish| wish.kind).collect(),
        codes: wishes.iter().map(|wish| wish.code).collect(),
        groups: wishes.iter().map(|wish| wish.group).collect(),
        consumers: wishes.iter().map(|wish| wish.consumer).collect(),
        values: wishes.iter().map(|wish| wish.value).collect(),
        messages: wishes.iter().map(|wish| wish.message).collect(),
    }
}
