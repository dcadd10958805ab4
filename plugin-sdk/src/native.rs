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

/// Everything the stand-ins remember.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) lines: Vec<(u8, String)>,
    pub(crate) metrics: Vec<(String, f64)>,
    /// Value, and when it ends in ms (0 never).
    pub(crate) store: BTreeMap<String, (Vec<u8>, u64)>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

pub(crate) fn with_world<T>(call: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(call)
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
    use super::with_world;

    pub(crate) fn define(_kind: u8, name: &str, _help: &str) -> u32 {
        with_world(|world| {
            world.metrics.push((name.to_owned(), 0.0));
            world.metrics.len() as u32
        })
    }

    pub(crate) fn add(id: u32, by: u64) {
        with_world(|world| world.metrics[id as usize - 1].1 += by as f64);
    }

    pub(crate) fn put(id: u32, value: f64) {
        with_world(|world| world.metrics[id as usize - 1].1 = value);
    }
}

pub(crate) mod clock {
    use super::with_world;

    pub(crate) fn wall_ms() -> u64 {
        steady_us() / 1000
    }

    pub(crate) fn steady_us() -> u64 {
        with_world(|world| world.now_us)
    }
}

pub(crate) mod store {
    use super::{KEY_BYTES_MAX, STORE_BYTES_MAX, VALUE_BYTES_MAX, World, with_world};

    fn live(world: &mut World) -> &mut std::collections::BTreeMap<String, (Vec<u8>, u64)> {
        let now_ms = world.now_us / 1000;
        world.store.retain(|_, (_, end_ms)| *end_ms == 0 || *end_ms > now_ms);
        &mut world.store
    }

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        with_world(|world| live(world).get(key).map(|(value, _)| value.clone()))
    }

    pub(crate) fn put(key: &str, value: &[u8], ttl_ms: u64) -> bool {
        with_world(|world| {
            let end_ms = if ttl_ms == 0 { 0 } else { world.now_us / 1000 + ttl_ms };
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
                .take(limit as usize)
                .cloned()
                .collect()
        })
    }
}
