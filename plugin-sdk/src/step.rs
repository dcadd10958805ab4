//! One call of a delivery policy as it crosses the border: events come as columns,
//! wishes go as columns. In between they are rows.

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

/// Runs a policy over a batch of events as the broker sends it.
pub(crate) fn step_batch<D: Delivery>(
    policy: &mut D,
    header_names: &[String],
    now_ms: u64,
    events: &wire::Events,
    ready: &[Column],
) -> wire::Actions {
    let columns = Columns::of(ready, header_names);
    let mut actions = Actions { wishes: Vec::with_capacity(events.kinds.len()) };
    let mut ready_row = 0;
    for row in event_rows(events) {
        // Kinds that this version does not know are skipped, as the contract says.
        if let Some(event) = event_of(row, &columns, &mut ready_row) {
            policy.event(now_ms, &event, &mut actions);
        }
    }
    policy.settle(now_ms, &mut actions);
    wish_columns(&actions.wishes)
}

fn event_rows(events: &wire::Events) -> impl Iterator<Item = EventRow> {
    let wire::Events { kinds, codes, attempts, groups, consumers, values, messages } = events;
    let what = kinds.iter().zip(codes).zip(attempts);
    let who = groups.iter().zip(consumers).zip(values).zip(messages);
    what.zip(who).map(|(((&kind, &code), &attempt), (((&group, &consumer), &value), &message))| {
        EventRow { kind, code, attempt, group, consumer, value, message }
    })
}

// Each list is made in its exact size, so that none is moved on its way out.
fn wish_columns(wishes: &[Wish]) -> wire::Actions {
    wire::Actions {
        kinds: wishes.iter().map(|wish| wish.kind).collect(),
        codes: wishes.iter().map(|wish| wish.code).collect(),
        groups: wishes.iter().map(|wish| wish.group).collect(),
        consumers: wishes.iter().map(|wish| wish.consumer).collect(),
        values: wishes.iter().map(|wish| wish.value).collect(),
        messages: wishes.iter().map(|wish| wish.message).collect(),
    }
}

/// The broker's side of the border, for policies that run natively in a test.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native {
    use super::{EventRow, Wish, wire};

    pub(crate) fn event_columns(events: &[EventRow]) -> wire::Events {
        wire::Events {
            kinds: events.iter().map(|event| event.kind).collect(),
            codes: events.iter().map(|event| event.code).collect(),
            attempts: events.iter().map(|event| event.attempt).collect(),
            groups: events.iter().map(|event| event.group).collect(),
            consumers: events.iter().map(|event| event.consumer).collect(),
            values: events.iter().map(|event| event.value).collect(),
            messages: events.iter().map(|event| event.message).collect(),
        }
    }

    pub(crate) fn wish_rows(actions: &wire::Actions) -> Vec<Wish> {
        let wire::Actions { kinds, codes, groups, consumers, values, messages } = actions;
        let row = |at: usize| Wish {
            kind: kinds[at],
            code: codes[at],
            group: groups[at],
            consumer: consumers[at],
            value: values[at],
            message: messages[at],
        };
        (0..kinds.len()).map(row).collect()
    }
}
