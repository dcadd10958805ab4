//! Room for messages, in words: how much is free, how much must be, and what to set.
//!
//! Whoever is refused for want of room is told the figures and the keys of the
//! configuration, so that nobody has to guess which disk and which mark is meant.
//! Invariant: the disk is asked a few times a second at most, however many are refused.

use std::sync::{Arc, Mutex};

use weir_core::env::Clock;
use weir_journal::files::{Files, OsFiles, Space};

use crate::config::{Config, StoreConfig};
use crate::limits::ROOM_LOOK_MS;

/// See the file's head.
pub struct Room {
    /// `None`: everything is kept in memory.
    disk: Option<(OsFiles, StoreConfig)>,
    memory_bytes_max: u64,
    clock: Arc<dyn Clock>,
    /// What was last told, and when, steady ms.
    told: Mutex<Option<(u64, Arc<str>)>>,
}

impl Room {
    /// Of a broker with this configuration, that keeps messages on a disk or not.
    #[must_use]
    pub fn new(config: &Config, has_disk: bool, clock: Arc<dyn Clock>) -> Self {
        let disk = has_disk.then(|| (OsFiles::read_only(&config.data), config.store.clone()));
        Self { disk, memory_bytes_max: config.memory_bytes_max, clock, told: Mutex::default() }
    }

    /// Why there is none just now, one clause.
    #[must_use]
    pub fn clause(&self) -> Arc<str> {
        let now_ms = self.clock.now().steady_ms;
        let mut told = self.told.lock().expect("nothing panics while this is locked");
        match &*told {
            Some((at_ms, clause)) if now_ms < at_ms + ROOM_LOOK_MS => clause.clone(),
            _ => {
                let clause: Arc<str> = self.look().into();
                *told = Some((now_ms, clause.clone()));
                clause
            }
        }
    }

    /// Asks the disk, without waiting for it.
    fn look(&self) -> String {
        let Some((files, config)) = &self.disk else {
            let most = self.memory_bytes_max >> 20;
            return format!("the {most} MiB for messages in memory (`limits.memory-mib`) are full");
        };
        let Ok(space) = files.free() else {
            return format!("the broker's disk does not tell how much is free; {KEYS}");
        };
        low(space, config).unwrap_or_else(|| {
            let most = config.resident_bytes_max >> 20;
            format!(
                "the {most} MiB for messages of level `memory` (`store.memory-mib`) are full, or a \
                 write found no space, though {} MiB are free on the broker's disk",
                space.free_bytes >> 20
            )
        })
    }
}

const KEYS: &str = "`store.free-mib-min` and `store.free-percent-min` set how much must be";

/// That too little is free, one clause; `None` when it is enough.
#[must_use]
pub fn low(space: Space, config: &StoreConfig) -> Option<String> {
    let mark = space.mark_bytes(config.free_bytes_min, config.free_percent_min);
    // Once refused, messages are taken only with some more than the mark.
    let again = mark.saturating_add(mark / 10);
    (space.free_bytes < again).then(|| {
        format!(
            "{} MiB are free on the broker's disk, and messages are refused below {} MiB, until \
             {} MiB are free again; {KEYS}",
            space.free_bytes >> 20,
            mark >> 20,
            again >> 20,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clause_names_what_is_free_the_mark_and_the_keys() {
        let config =
            StoreConfig { free_bytes_min: 1 << 30, free_percent_min: 5, ..StoreConfig::default() };
        let of = |free_mib: u64, total_mib: u64| {
            low(Space { free_bytes: free_mib << 20, total_bytes: total_mib << 20 }, &config)
        };
        assert_eq!(
            of(900, 10_000).expect("too little"),
            "900 MiB are free on the broker's disk, and messages are refused below 1024 MiB, \
             until 1126 MiB are free again; `store.free-mib-min` and `store.free-percent-min` set \
             how much must be"
        );
        assert!(of(4_900, 100_000).expect("a share of a large disk").contains("below 5000 MiB"));
        assert_eq!(of(6_000, 100_000), None);
    }
}
