//! A group over a store in memory, and what it does there. For tests only.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_message::{BatchBuilder, encode, key_hash};

use super::consumer::Consumer;
use super::line::Line;
use super::part::Part;
use super::{Group, Identity, Io};
use crate::command::{ConnectionId, Level, SubscriptionId};
use crate::effect::Effect;
use crate::env::Now;
use crate::memory_store::MemoryStore;
use crate::policy::Plan;
use crate::reader::Reader;
use crate::shard::filters::Filters;
use crate::store::{Stamp, Store};

/// A group with this plan, over the log `orders` with a message for each of `keys`.
pub(super) fn group(
    store: &mut MemoryStore,
    plan: Plan,
    keys: impl IntoIterator<Item = usize>,
) -> Group {
    group_with_bodies(store, plan, keys, 1)
}

/// The same, with bodies of so many bytes.
pub(super) fn group_with_bodies(
    store: &mut MemoryStore,
    plan: Plan,
    keys: impl IntoIterator<Item = usize>,
    body_bytes: usize,
) -> Group {
    let part = part_with_bodies(store, "orders", keys, body_bytes);
    let identity = Identity::of_queue("orders".into());
    let mut group = Group::new(1, identity, 0, Level::Memory, vec![part]);
    group.plan = plan;
    group
}

/// A log with a message for each of `keys`, as a group reads it.
pub(super) fn part(
    store: &mut MemoryStore,
    log: &str,
    keys: impl IntoIterator<Item = usize>,
) -> Part {
    part_with_bodies(store, log, keys, 1)
}

fn part_with_bodies(
    store: &mut MemoryStore,
    log: &str,
    keys: impl IntoIterator<Item = usize>,
    body_bytes: usize,
) -> Part {
    let log = store.open(log).expect("opened");
    let body = vec![b'x'; body_bytes];
    let mut builder = BatchBuilder::default();
    for key in keys {
        let mut message = Vec::new();
        encode(&mut message, "orders", key_text(key).as_bytes(), &[], &body);
        builder.push(&message);
    }
    let stamp = Stamp { time_ms: 1, due_ms: 0 };
    store.append(log, 0, stamp, builder.take(), Level::Memory).expect("appended");
    Part::resume(store, log, log)
}

/// So many keys of which no two share a hash, and with it a lane.
pub(super) fn distinct_keys(count: usize) -> Vec<usize> {
    let mut hashes = BTreeSet::new();
    let is_new = |key: &usize| hashes.insert(key_hash(key_text(*key).as_bytes()));
    (0..).filter(is_new).take(count).collect()
}

fn key_text(key: usize) -> String {
    format!("key {key}")
}

/// Consumer `id`, alone on a connection of that number.
pub(super) fn attach(group: &mut Group, id: u32, credit: u32) {
    let line = Arc::new(Line::new(ConnectionId(id.into()), 1 << 20));
    group.attach(0, Consumer::new(id, line, SubscriptionId(7), credit));
}

/// What comes of one dispatch.
pub(super) fn dispatch(group: &mut Group, store: &mut MemoryStore) -> Vec<Effect> {
    let mut effects = Vec::new();
    let (mut reader, mut filters) = (Reader::default(), Filters::default());
    let mut io = Io {
        now: Now::default(),
        store,
        reader: &mut reader,
        filters: &mut filters,
        effects: &mut effects,
    };
    group.dispatch(&mut io);
    group.check_books();
    effects
}
