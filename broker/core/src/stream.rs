//! A stream: partitions that keep their messages until retention or compaction
//! removes them, and any number of groups that read them.
//!
//! Owned by the shard. Invariant: a key's messages always go to the same
//! partition, because the number of partitions never changes.

pub(crate) mod compaction;
pub(crate) mod holes;
pub(crate) mod progress;
pub(crate) mod volatile;

use std::collections::BTreeMap;

use weir_message::{Batch, BatchBuilder};

use crate::command::{Level, Rows, Start, StreamConfig};
use crate::group::GroupId;
use crate::reader::Reader;
use crate::store::{LogId, Store};
use progress::Progress;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) config: StreamConfig,
    pub(crate) parts: Vec<LogId>,
    /// Of each partition.
    pub(crate) progress: Vec<Progress>,
    /// How safely the messages are kept: the safest of them.
    pub(crate) level: Level,
    /// By name.
    pub(crate) groups: BTreeMap<String, GroupId>,
    /// When retention by age looks next, steady ms; `u64::MAX` for never.
    pub(crate) armed_ms: u64,
    pub(crate) published: u64,
    pub(crate) refused: u64,
    pub(crate) removed: u64,
    /// Partition of the next batch's messages without a key.
    keyless_turn: usize,
}

/// The messages of a batch that go to one partition.
pub(crate) struct Share {
    pub(crate) partition: usize,
    pub(crate) batch: Batch,
    /// Their rows in the publisher's request; empty means `0..len`.
    pub(crate) rows: Rows,
}

impl Stream {
    pub(crate) fn new(
        name: String,
        config: StreamConfig,
        parts: Vec<LogId>,
        level: Level,
        store: &dyn Store,
    ) -> Self {
        let progress = parts.iter().map(|&log| Progress::of(store, log)).collect();
        Self {
            name,
            config,
            parts,
            progress,
            level,
            groups: BTreeMap::new(),
            armed_ms: u64::MAX,
            published: 0,
            refused: 0,
            removed: 0,
            keyless_turn: 0,
        }
    }

    /// Divides a batch among the partitions, in order within each.
    pub(crate) fn divide(&mut self, batch: Batch, rows: Rows) -> Vec<Share> {
        if self.parts.len() == 1 {
            return vec![Share { partition: 0, batch, rows }];
        }
        let partitions = self.parts.len();
        let keyless = self.keyless_turn % partitions;
        let partition_of = |row: usize| match batch.view(row).key {
            [] => keyless,
            key => weir_message::key_hash(key) as usize % partitions,
        };
        let of_rows: Vec<usize> = (0..batch.len()).map(partition_of).collect();
        if of_rows.contains(&keyless) {
            self.keyless_turn += 1;
        }
        if of_rows.iter().all(|&partition| partition == of_rows[0]) {
            return vec![Share { partition: of_rows[0], batch, rows }];
        }
        let mut shares: BTreeMap<usize, (BatchBuilder, Rows)> = BTreeMap::new();
        for (row, &partition) in of_rows.iter().enumerate() {
            let share = shares.entry(partition).or_default();
            share.0.push(batch.message(row));
            share.1.push(rows.get(row).copied().unwrap_or(row as u32));
        }
        let shares = shares.into_iter();
        shares
            .map(|(partition, (mut batch, rows))| Share { partition, batch: batch.take(), rows })
            .collect()
    }

    /// Offset of `start` in one partition.
    pub(crate) fn offset_of(&self, store: &dyn Store, partition: usize, start: Start) -> u64 {
        let log = self.parts[partition];
        let bounds = store.bounds(log);
        match start {
            Start::Earliest => bounds.start,
            Start::Latest => bounds.end,
            Start::Offset(offset) => offset.max(bounds.start),
            Start::Time(time_ms) => store.offset_at(log, time_ms).max(bounds.start),
        }
    }

    /// Where one partition is to begin, given the stream's bounds: at a message that it
    /// keeps. `None` when it begins there.
    pub(crate) fn keeps_from(
        &self,
        store: &dyn Store,
        reader: &mut Reader,
        partition: usize,
        wall_ms: u64,
    ) -> Option<u64> {
        let (log, progress) = (self.parts[partition], &self.progress[partition]);
        let bounds = store.bounds(log);
        let mut to = bounds.start;
        let excess = progress.kept(bounds).saturating_sub(self.config.messages_max);
        if self.config.messages_max > 0 && excess > 0 {
            let all = (bounds.start, bounds.end);
            to = to.max(progress.holes.behind(store, log, all, excess));
        }
        if self.config.age_ms_max > 0 {
            let oldest_ms = wall_ms.saturating_sub(self.config.age_ms_max);
            to = to.max(store.offset_at(log, oldest_ms));
        }
        if self.config.bytes_max > 0 && bounds.bytes > self.config.bytes_max {
            let excess = bounds.bytes - self.config.bytes_max;
            to = to.max(behind_bytes(store, reader, log, bounds.start, excess));
        }
        let to = to.min(bounds.stable);
        (to > bounds.start).then(|| progress.holes.end_at(store, log, to))
    }

    /// Lets one partition begin at `to`, a message that it keeps.
    pub(crate) fn trim(&mut self, store: &mut dyn Store, partition: usize, to: u64) {
        let (log, progress) = (self.parts[partition], &mut self.progress[partition]);
        let start = store.bounds(log).start;
        self.removed += progress.holes.trim(store, log, (start, to));
        progress.volatile.trim(to);
        store.trim(log, to);
    }

    /// When the oldest message will be too old, wall ms.
    pub(crate) fn oldest_expires_ms(&self, store: &dyn Store, reader: &mut Reader) -> Option<u64> {
        if self.config.age_ms_max == 0 {
            return None;
        }
        let first = |&log: &LogId| {
            let start = store.bounds(log).start;
            let found = reader.seek_behind_damage(store, log, start)?;
            Some(reader.piece(found).time_ms)
        };
        let oldest_ms = self.parts.iter().filter_map(first).min()?;
        // `offset_at` keeps what is exactly as old as allowed.
        Some(oldest_ms.saturating_add(self.config.age_ms_max).saturating_add(1))
    }
}

/// First offset such that at least `bytes` lie before it.
fn behind_bytes(store: &dyn Store, reader: &mut Reader, log: LogId, from: u64, bytes: u64) -> u64 {
    let (mut at, mut seen) = (from, 0);
    while seen < bytes {
        let Some(found) = reader.seek_behind_damage(store, log, at) else { break };
        let batch = &reader.piece(found).batch;
        at = reader.offset(found);
        for row in found.row..batch.len() {
            if seen >= bytes {
                break;
            }
            seen += batch.message(row).len() as u64;
            at += 1;
        }
    }
    at
}
