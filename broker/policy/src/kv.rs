//! Small state of a policy, kept by the broker: per binding and shard, in memory,
//! carried over generations.
//!
//! A call writes into a [`Transaction`]; only a call that returns has it applied,
//! so a trap leaves nothing behind and a second try counts nothing twice.
//! Counters are kept as differences until then: calls of one binding that run at
//! the same time lose no addition.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use weir_core::env::Now;

use crate::limits::{KV_BYTES_MAX, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX};

/// State of one binding in one shard.
#[derive(Debug)]
pub struct Kv {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// Keys and values together, bytes.
    bytes: usize,
    /// Rises with every call that wrote something.
    changes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    /// Moment it ends, ms of the steady clock; 0 for never.
    ends_ms: u64,
}

/// The writes of one call, not applied yet.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    writes: BTreeMap<String, Write>,
    /// At least what the writes take, bytes: overwritten ones count as well.
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Write {
    Put(Entry),
    Remove,
    /// Difference to whatever is there when the call ends, and the new end.
    Add(i64, u64),
}

impl Default for Kv {
    fn default() -> Self {
        Self { bytes_max: KV_BYTES_MAX, state: Mutex::default() }
    }
}

impl Kv {
    /// Bytes of keys and values now, ended ones included until they are cleared.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn current(&self, now_ms: u64, key: &str) -> Option<Vec<u8>> {
        self.lock().entries.get(key).filter(|entry| entry.is_live(now_ms)).map(|e| e.value.clone())
    }

    pub(crate) fn get(&self, pending: &Transaction, now_ms: u64, key: &str) -> Option<Vec<u8>> {
        match pending.writes.get(key) {
            Some(Write::Put(entry)) => Some(entry.value.clone()),
            Some(Write::Remove) => None,
            Some(Write::Add(by, _)) => {
                let sum = number(self.current(now_ms, key).as_deref()).wrapping_add(*by);
                Some(sum.to_le_bytes().to_vec())
            }
            None => self.current(now_ms, key),
        }
    }

    pub(crate) fn put(
        &self,
        pending: &mut Transaction,
        now_ms: u64,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> bool {
        if key.len() > KV_KEY_BYTES_MAX || value.len() > KV_VALUE_BYTES_MAX {
            return false;
        }
        if !self.fits(pending, now_ms, &key, key.len() + value.len()) {
            return false;
        }
        let entry = Entry { value, ends_ms: ends(now_ms, ttl_ms) };
        pending.insert(key, Write::Put(entry));
        true
    }

    pub(crate) fn remove(&self, pending: &mut Transaction, now_ms: u64, key: String) -> bool {
        let was = self.get(pending, now_ms, &key).is_some();
        if was {
            pending.insert(key, Write::Remove);
        }
        was
    }

    /// Adds to a counter; `None` when the quota has no room for a new one.
    pub(crate) fn add(
        &self,
        pending: &mut Transaction,
        now_ms: u64,
        key: String,
        by: i64,
        ttl_ms: u64,
    ) -> Option<i64> {
        let sum = number(self.get(pending, now_ms, &key).as_deref()).wrapping_add(by);
        if key.len() > KV_KEY_BYTES_MAX || !self.fits(pending, now_ms, &key, key.len() + 8) {
            return None;
        }
        let ends_ms = ends(now_ms, ttl_ms);
        let write = match pending.writes.get(&key) {
            Some(Write::Add(before, _)) => Write::Add(before.wrapping_add(by), ends_ms),
            Some(Write::Put(_) | Write::Remove) => {
                Write::Put(Entry { value: sum.to_le_bytes().to_vec(), ends_ms })
            }
            None => Write::Add(by, ends_ms),
        };
        pending.insert(key, write);
        Some(sum)
    }

    pub(crate) fn keys(
        &self,
        pending: &Transaction,
        now_ms: u64,
        prefix: &str,
        limit: usize,
    ) -> Vec<String> {
        let state = self.lock();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let kept =
            state.entries.range::<str, _>(from).take_while(|(key, _)| key.starts_with(prefix));
        let kept = kept.filter(|(_, entry)| entry.is_live(now_ms)).map(|(key, _)| key);
        let kept = kept.filter(|key| !matches!(pending.writes.get(*key), Some(Write::Remove)));
        let written = pending.writes.range::<str, _>(from);
        let written = written.take_while(|(key, _)| key.starts_with(prefix));
        let written = written.filter(|(_, write)| !matches!(write, Write::Remove)).map(|(k, _)| k);
        let mut keys: Vec<String> = kept.take(limit).chain(written.take(limit)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(limit);
        keys
    }

    /// Whether an entry of `bytes` under `key` stays within the quota. What has
    /// ended is cleared first when it does not.
    fn fits(&self, pending: &Transaction, now_ms: u64, key: &str, bytes: usize) -> bool {
        let mut state = self.lock();
        if state.bytes + pending.bytes + bytes <= self.bytes_max {
            return true;
        }
        let waiting: usize = pending
            .writes
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(other, write)| {
                let before =
                    state.entries.get(other).map_or(0, |entry| other.len() + entry.value.len());
                write.bytes(other).saturating_sub(before)
            })
            .sum();
        let before =
            |state: &State| state.entries.get(key).map_or(0, |e| key.len() + e.value.len());
        if state.bytes + waiting + bytes - before(&state).min(bytes) <= self.bytes_max {
            return true;
        }
        state.clear_ended(now_ms);
        state.bytes + waiting + bytes - before(&state).min(bytes) <= self.bytes_max
    }

    /// Applies the writes of a call that returned. Returns how many were refused
    /// because other calls took the room in the meantime.
    pub(crate) fn commit(&self, pending: &mut Transaction, now_ms: u64) -> u64 {
        if pending.writes.is_empty() {
            return 0;
        }
        let mut state = self.lock();
        state.changes += 1;
        let mut refused = 0;
        pending.bytes = 0;
        for (key, write) in std::mem::take(&mut pending.writes) {
            let entry = match write {
                Write::Put(entry) => entry,
                Write::Remove => {
                    state.remove(&key);
                    continue;
                }
                Write::Add(by, ends_ms) => {
                    let live = state.entries.get(&key).filter(|entry| entry.is_live(now_ms));
                    let sum = number(live.map(|entry| &*entry.value)).wrapping_add(by);
                    Entry { value: sum.to_le_bytes().to_vec(), ends_ms }
                }
            };
            let before = state.entries.get(&key).map_or(0, |entry| key.len() + entry.value.len());
            if state.bytes - before + key.len() + entry.value.len() > self.bytes_max {
                refused += 1;
                continue;
            }
            state.remove(&key);
            state.bytes += key.len() + entry.value.len();
            state.entries.insert(key, entry);
        }
        refused
    }
}

/// How state is kept over a restart: name of the policy, then key, value, and when it
/// ends in ms since the epoch (0: never), all with their lengths in front.
impl Kv {
    /// Rises whenever something was written.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// All that is there, for [`Kv::import`].
    pub(crate) fn export(&self, policy: &str, now: Now) -> Vec<u8> {
        let state = self.lock();
        let mut out = Vec::with_capacity(state.bytes + 20 * state.entries.len() + policy.len());
        put(&mut out, policy.as_bytes());
        for (key, entry) in state.entries.iter().filter(|(_, it)| it.is_live(now.steady_ms)) {
            put(&mut out, key.as_bytes());
            put(&mut out, &entry.value);
            let left_ms = entry.ends_ms.saturating_sub(now.steady_ms);
            let ends_ms = if entry.ends_ms == 0 { 0 } else { now.wall_ms + left_ms };
            out.extend(ends_ms.to_le_bytes());
        }
        out
    }

    /// Takes up what was exported, but for what has ended since. Returns the policy
    /// it is of; `None` when it cannot be read, then nothing was taken up.
    pub(crate) fn import(&self, mut bytes: &[u8], now: Now) -> Option<String> {
        let policy = take_text(&mut bytes)?;
        let mut entries = BTreeMap::new();
        let mut sum = 0;
        while !bytes.is_empty() {
            let key = take_text(&mut bytes)?;
            let value = take(&mut bytes)?.to_vec();
            let (moment, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            let ends_ms = match u64::from_le_bytes(*moment) {
                0 => 0,
                ends_ms if ends_ms <= now.wall_ms => continue,
                ends_ms => ends(now.steady_ms, ends_ms - now.wall_ms),
            };
            sum += key.len() + value.len();
            entries.insert(key, Entry { value, ends_ms });
        }
        let mut state = self.lock();
        (state.entries, state.bytes) = (entries, sum);
        Some(policy)
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u32).to_le_bytes());
    out.extend(part);
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *bytes = rest;
    Some(part)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    std::str::from_utf8(take(bytes)?).ok().map(str::to_owned)
}

impl Transaction {
    pub(crate) fn clear(&mut self) {
        self.writes.clear();
        self.bytes = 0;
    }

    fn insert(&mut self, key: String, write: Write) {
        self.bytes += write.bytes(&key);
        self.writes.insert(key, write);
    }
}

impl State {
    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }

    fn clear_ended(&mut self, now_ms: u64) {
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let live = entry.is_live(now_ms);
            freed += if live { 0 } else { key.len() + entry.value.len() };
            live
        });
        self.bytes -= freed;
    }
}

impl Write {
    fn bytes(&self, key: &str) -> usize {
        match self {
            Self::Put(entry) => key.len() + entry.value.len(),
            Self::Add(..) => key.len() + 8,
            Self::Remove => 0,
        }
    }
}

impl Entry {
    fn is_live(&self, now_ms: u64) -> bool {
        self.ends_ms == 0 || now_ms < self.ends_ms
    }
}

/// A counter's value; what is no counter counts as 0.
fn number(value: Option<&[u8]>) -> i64 {
    value.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes)
}

fn ends(now_ms: u64, ttl_ms: u64) -> u64 {
    if ttl_ms == 0 { 0 } else { now_ms.saturating_add(ttl_ms).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn writes_count_only_when_the_call_returns() {
        let kv = Kv::default();
        let mut call = Transaction::default();
        assert!(kv.put(&mut call, 0, key("a"), vec![1], 0));
        assert_eq!(kv.get(&call, 0, "a"), Some(vec![1]));
        call.clear();
        assert_eq!(kv.get(&call, 0, "a"), None);
        assert!(kv.put(&mut call, 0, key("a"), vec![2], 0));
        assert_eq!(kv.commit(&mut call, 0), 0);
        assert_eq!(kv.get(&call, 0, "a"), Some(vec![2]));
        assert_eq!(kv.bytes(), 2);
    }

    #[test]
    fn what_is_exported_comes_back_but_for_what_has_ended() {
        let now = |steady_ms, wall_ms| Now { steady_ms, wall_ms };
        let kv = Kv::default();
        let mut call = Transaction::default();
        assert!(kv.put(&mut call, 10, key("a"), vec![1, 2], 0));
        assert!(kv.put(&mut call, 10, key("soon"), vec![3], 100));
        assert!(kv.put(&mut call, 10, key("later"), vec![], 1_000));
        let before = kv.changes();
        assert_eq!(kv.commit(&mut call, 10), 0);
        assert!(kv.changes() > before);
        let kept = kv.export("counter", now(50, 10_000));
        // Another process: its steady time has nothing to do with the one before.
        let again = Kv::default();
        assert_eq!(again.import(&kept, now(7, 10_500)).as_deref(), Some("counter"));
        let get = |at_ms, key| again.get(&Transaction::default(), at_ms, key);
        assert_eq!(get(7, "a"), Some(vec![1, 2]));
        assert_eq!(get(7, "soon"), None);
        assert_eq!((get(7, "later"), get(467, "later")), (Some(vec![]), None));
        assert_eq!(again.bytes(), 3 + 5);
        for cut in 0..kept.len() {
            let unread = Kv::default();
            if unread.import(&kept[..cut], now(7, 10_500)).is_none() {
                assert_eq!(unread.bytes(), 0);
            }
        }
    }

    #[test]
    fn calls_at_the_same_time_lose_no_addition() {
        let kv = Kv::default();
        let (mut one, mut two) = (Transaction::default(), Transaction::default());
        assert_eq!(kv.add(&mut one, 0, key("n"), 5, 0), Some(5));
        assert_eq!(kv.add(&mut two, 0, key("n"), 7, 0), Some(7));
        assert_eq!(kv.add(&mut one, 0, key("n"), 1, 0), Some(6));
        kv.commit(&mut one, 0);
        kv.commit(&mut two, 0);
        assert_eq!(kv.get(&one, 0, "n"), Some(13i64.to_le_bytes().to_vec()));
    }

    #[test]
    fn entries_end_and_make_room() {
        let kv = Kv { bytes_max: 10, ..Kv::default() };
        let mut call = Transaction::default();
        assert!(kv.put(&mut call, 0, key("a"), vec![0; 9], 100));
        kv.commit(&mut call, 0);
        assert_eq!(kv.get(&call, 99, "a").map(|value| value.len()), Some(9));
        assert!(!kv.put(&mut call, 99, key("b"), vec![1], 0), "the quota is full");
        assert_eq!(kv.get(&call, 100, "a"), None);
        assert!(kv.put(&mut call, 100, key("b"), vec![1], 0), "what ended makes room");
        kv.commit(&mut call, 100);
        assert_eq!(kv.bytes(), 2);
    }

    #[test]
    fn too_long_keys_and_values_are_refused() {
        let kv = Kv::default();
        let mut call = Transaction::default();
        assert!(!kv.put(&mut call, 0, "k".repeat(257), vec![], 0));
        assert!(!kv.put(&mut call, 0, key("k"), vec![0; 65_537], 0));
        assert_eq!(kv.add(&mut call, 0, "k".repeat(257), 1, 0), None);
    }

    #[test]
    fn keys_show_what_the_call_sees() {
        let kv = Kv::default();
        let mut call = Transaction::default();
        for name in ["a/1", "a/2", "b/1"] {
            kv.put(&mut call, 0, key(name), vec![], 0);
        }
        kv.commit(&mut call, 0);
        assert!(kv.remove(&mut call, 0, key("a/1")));
        kv.put(&mut call, 0, key("a/3"), vec![], 0);
        assert_eq!(kv.keys(&call, 0, "a/", 10), ["a/2", "a/3"]);
        assert_eq!(kv.keys(&call, 0, "a/", 1), ["a/2"]);
    }
}
