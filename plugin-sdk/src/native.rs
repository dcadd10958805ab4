//! Stand-ins for the broker's functions, for native builds: per thread, so that
//! tests do not see each other. What they hold, [`test`](crate::test) shows.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Longest key, bytes.
const KEY_BYTES_MAX: usize = 256;
/// Longest value, bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Keys and values together, bytes.
const STORE_BYTES_MAX: usize = 1024 * 1024;
/// Keys that one look for them gives.
const LISTED_KEYS_MAX: usize = 1_024;
/// Longest name of a metric, bytes.
const METRIC_NAME_BYTES_MAX: usize = 64;
/// Kinds of metrics (`wit/host.wit`).
const COUNTER: u8 = 1;
const HISTOGRAM: u8 = 3;

/// Everything the stand-ins remember.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) lines: Vec<(u8, String)>,
    pub(crate) metrics: Vec<Metric>,
    /// Value, and when it ends in ms (0 never).
    pub(crate) store: BTreeMap<String, (Vec<u8>, u64)>,
    /// A policy runs whose answers are remembered: no store and no clock for it.
    is_pure: bool,
}

/// A metric that a policy has defined.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: String,
    kind: u8,
    pub(crate) value: f64,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

pub(crate) fn with_world<T>(call: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(call)
}

/// Runs a call of a policy. Where its answers are remembered (`is_pure`) the store and
/// the clock panic, as they trap in the broker: a test is to see that first.
pub(crate) fn call_policy<T>(is_pure: bool, call: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            with_world(|world| world.is_pure = self.0);
        }
    }
    let _restore = Restore(with_world(|world| std::mem::replace(&mut world.is_pure, is_pure)));
    call()
}

impl World {
    fn refuse_if_pure(&self, import: &str) {
        assert!(
            !self.is_pure,
            "called {import}, which a policy with `memo_by` must not do: its answers are remembered"
        );
    }
}

pub(crate) mod log {
    use super::with_world;

    pub(crate) fn write(level: u8, message: &str) {
        with_world(|world| world.lines.push((level, message.to_owned())));
    }

    pub(crate) fn enabled(_level: u8) -> bool {
        true
    }
}

pub(crate) mod metrics {
    use super::{COUNTER, HISTOGRAM, METRIC_NAME_BYTES_MAX, Metric, with_world};

    /// As in the broker: a name that it refuses has the number 0, and counts nothing.
    pub(crate) fn define(kind: u8, name: &str, _help: &str) -> u32 {
        if !is_name(name) {
            return 0;
        }
        with_world(|world| {
            world.metrics.push(Metric { name: name.to_owned(), kind, value: 0.0 });
            world.metrics.len() as u32
        })
    }

    pub(crate) fn add(id: u32, by: u64) {
        change(id, |metric| {
            if metric.kind == COUNTER {
                metric.value += by as f64;
            }
        });
    }

    pub(crate) fn put(id: u32, value: f64) {
        change(id, |metric| match metric.kind {
            COUNTER => {}
            HISTOGRAM => metric.value += value,
            _ => metric.value = value,
        });
    }

    fn change(id: u32, change: impl FnOnce(&mut Metric)) {
        with_world(|world| {
            if let Some(metric) = world.metrics.get_mut((id as usize).wrapping_sub(1)) {
                change(metric);
            }
        });
    }

    fn is_name(name: &str) -> bool {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        name.len() <= METRIC_NAME_BYTES_MAX
            && name.starts_with(first)
            && name.chars().all(|c| first(c) || c.is_ascii_digit())
    }
}

pub(crate) mod clock {
    use super::with_world;

    pub(crate) fn wall_ms() -> u64 {
        steady_us() / 1000
    }

    pub(crate) fn steady_us() -> u64 {
        with_world(|world| {
            world.refuse_if_pure("clock");
            world.now_us
        })
    }
}

pub(crate) mod store {
    use super::{
        KEY_BYTES_MAX, LISTED_KEYS_MAX, STORE_BYTES_MAX, VALUE_BYTES_MAX, World, with_world,
    };

    fn live(world: &mut World) -> &mut std::collections::BTreeMap<String, (Vec<u8>, u64)> {
        world.refuse_if_pure("kv");
        let now_ms = world.now_us / 1000;
        world.store.retain(|_, (_, end_ms)| *end_ms == 0 || *end_ms > now_ms);
        &mut world.store
    }

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        with_world(|world| live(world).get(key).map(|(value, _)| value.clone()))
    }

    pub(crate) fn put(key: &str, value: &[u8], ttl_ms: u64) -> bool {
        with_world(|world| {
            let end_ms = match ttl_ms {
                0 => 0,
                ttl_ms => (world.now_us / 1000).saturating_add(ttl_ms),
            };
            let store = live(world);
            let others: usize = store
                .iter()
                .filter(|(other, _)| *other != key)
                .map(|(other, (value, _))| other.len() + value.len())
                .sum();
            let fits = key.len() <= KEY_BYTES_MAX
                && value.len() <= VALUE_BYTES_MAX
                && others + key.len() + value.len() <= STORE_BYTES_MAX;
            if fits {
                store.insert(key.to_owned(), (value.to_vec(), end_ms));
            }
            fits
        })
    }

    pub(crate) fn remove(key: &str) -> bool {
        with_world(|world| live(world).remove(key).is_some())
    }

    pub(crate) fn add(key: &str, by: i64, ttl_ms: u64) -> i64 {
        let before = get(key).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes);
        let sum = before.wrapping_add(by);
        // As in the broker: a quota that is passed leaves the old value.
        if put(key, &sum.to_le_bytes(), ttl_ms) { sum } else { before }
    }

    pub(crate) fn keys(prefix: &str, limit: u32) -> Vec<String> {
        with_world(|world| {
            live(world)
                .keys()
                .filter(|key| key.starts_with(prefix))
                .take(LISTED_KEYS_MAX.min(limit as usize))
                .cloned()
                .collect()
        })
    }
}
