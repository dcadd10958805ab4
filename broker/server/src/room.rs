//! Room for messages, in words: how much is free, how much must be, and what to set.
//!
//! Whoever is refused for want of room is told the figures and the keys of the
//! configuration, so that nobody has to guess which disk and which mark is meant.

use weir_journal::files::{Files, OsFiles, Space};

use crate::config::{Config, StoreConfig};

/// See the file's head.
pub struct Room {
    /// `None`: everything is kept in memory.
    disk: Option<(OsFiles, StoreConfig)>,
    memory_bytes_max: u64,
}

impl Room {
    /// Of a broker with this configuration, that keeps messages on a disk or not.
    #[must_use]
    pub fn new(config: &Config, has_disk: bool) -> Self {
        let disk = || (OsFiles::read_only(&config.data), config.store.clone());
        Self { disk: has_disk.then(disk), memory_bytes_max: config.memory_bytes_max }
    }

    /// Why there is none just now, one clause. Asks the disk, without waiting for it.
    #[must_use]
    pub fn clause(&self) -> String {
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
