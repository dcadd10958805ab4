//! What one call of a delivery policy carries over the border: events as columns
//! on the way in, actions as columns on the way back. Records one by one would cost
//! more than all that a policy does with them.

use weir_core::policy::{Action, Event};

use crate::bindings::exports::weir::policy::dispatching::{Actions, Events};

/// Columns of the last fill.
#[derive(Debug, Default)]
pub(crate) struct EventBuffers {
    kinds: Vec<u8>,
    codes: Vec<u8>,
    attempts: Vec<u16>,
    groups: Vec<u32>,
    consumers: Vec<u32>,
    values: Vec<u32>,
    messages: Vec<u64>,
}

impl EventBuffers {
    pub(crate) fn fill(&mut self, events: &[Event]) {
        put(&mut self.kinds, events, |event| event.kind);
        put(&mut self.codes, events, |event| event.code);
        put(&mut self.attempts, events, |event| event.attempt);
        put(&mut self.groups, events, |event| event.group);
        put(&mut self.consumers, events, |event| event.consumer);
        put(&mut self.values, events, |event| event.value);
        put(&mut self.messages, events, |event| event.message);
    }

    pub(crate) fn columns(&self) -> Events<'_> {
        Events {
            kinds: &self.kinds,
            codes: &self.codes,
            attempts: &self.attempts,
            groups: &self.groups,
            consumers: &self.consumers,
            values: &self.values,
            messages: &self.messages,
        }
    }
}

fn put<T>(column: &mut Vec<T>, events: &[Event], field: impl Fn(&Event) -> T) {
    column.clear();
    column.extend(events.iter().map(field));
}

/// Appends what the policy answered to `into`.
///
/// # Errors
/// Columns of different lengths, with a sentence; then nothing is appended.
pub(crate) fn read_actions(answer: &Actions, into: &mut Vec<Action>) -> Result<(), String> {
    let Actions { kinds, codes, groups, consumers, values, messages } = answer;
    let count = kinds.len();
    let others = [
        ("codes", codes.len()),
        ("groups", groups.len()),
        ("consumers", consumers.len()),
        ("values", values.len()),
        ("messages", messages.len()),
    ];
    if let Some((name, len)) = others.into_iter().find(|&(_, len)| len != count) {
        return Err(format!("actions of {count} kinds and {len} {name}"));
    }
    into.extend((0..count).map(|at| Action {
        kind: kinds[at],
        code: codes[at],
        group: groups[at],
        consumer: consumers[at],
        value: values[at],
        message: messages[at],
    }));
    Ok(())
}
