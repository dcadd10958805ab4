//! Figures of queues, streams and groups, as clients see them.
//!
//! Invariant: no answer is longer than a frame may be, whatever there is: what would be is
//! left out where another request has it.

use serde_json::{Map, Value};
use weir_core::command::{GroupConfig, QueueConfig, StreamConfig};
use weir_core::directory::Settings;
use weir_core::effect::{GroupStats, Stats};
use weir_protocol::{
    ConsumerInfo, ErrorCode, GroupFigures, GroupInfo, QueueInfo, StreamInfo, WireError,
};

use crate::limits::{CONSUMERS_LISTED_MAX, STREAM_INFO_BYTES_MAX};
use crate::wire::{self, Asked};

/// What a group's info takes beside its texts, options, cursors and consumers, bytes at most.
const GROUP_BYTES: usize = 384;
/// What a consumer takes beside its name, bytes at most.
const CONSUMER_BYTES: usize = 64;
/// What a number takes, bytes at most.
const NUMBER_BYTES: usize = 9;

/// Writes the answer to an info request.
pub fn answer(out: &mut Vec<u8>, id: u32, asked: &Asked, stats: Stats) {
    if let Some(name) = &asked.group {
        let found = stats.groups.into_iter().find(|group| &group.name == name);
        match (asked.groups.get(name), found) {
            (Some(config), Some(group)) => {
                wire::ok(out, id, &group_info(&asked.name, config, group));
            }
            _ => {
                let text = format!("stream `{}` has no group `{name}`", asked.name);
                wire::error(out, id, &WireError::new(ErrorCode::NotFound, text));
            }
        }
        return;
    }
    match &asked.settings {
        Settings::Queue(config) => wire::ok(out, id, &queue_info(asked, config, stats)),
        Settings::Stream(config) => wire::ok(out, id, &stream_info(asked, config, stats)),
    }
}

fn queue_info(asked: &Asked, config: &QueueConfig, mut stats: Stats) -> QueueInfo {
    QueueInfo {
        name: asked.name.clone(),
        subjects: asked.subjects.clone(),
        messages_max: config.messages_max,
        bytes_max: config.bytes_max,
        level: wire::level(config.level),
        order: wire::order(config.order),
        messages: stats.messages,
        bytes: stats.bytes,
        published: stats.published,
        refused: stats.refused,
        removed: stats.removed,
        delivery: figures(stats.groups.pop().unwrap_or_default()),
    }
}

fn stream_info(asked: &Asked, config: &StreamConfig, stats: Stats) -> StreamInfo {
    StreamInfo {
        name: asked.name.clone(),
        subjects: asked.subjects.clone(),
        partitions: config.partitions,
        messages_max: config.messages_max,
        bytes_max: config.bytes_max,
        age_ms_max: config.age_ms_max,
        level: wire::level(config.level),
        compact: config.compact,
        tombstone_ms: config.tombstone_ms,
        messages: stats.messages,
        bytes: stats.bytes,
        kept: stats.kept,
        starts: stats.starts,
        ends: stats.ends,
        published: stats.published,
        refused: stats.refused,
        removed: stats.removed,
        compacted: stats.compacted,
        compaction_stops: stats.compaction_stops,
        groups: group_infos(asked, stats.groups),
    }
}

/// A stream's groups: all of them, and of as many as there is room for also what grows.
fn group_infos(asked: &Asked, groups: Vec<GroupStats>) -> Vec<GroupInfo> {
    let unknown = GroupConfig::default();
    let texts = |group: &GroupStats| asked.name.len() + group.name.len() + group.binding.len();
    let bare: usize = groups.iter().map(|group| GROUP_BYTES + texts(group)).sum();
    let mut left = STREAM_INFO_BYTES_MAX.saturating_sub(bare);
    let info = |group: GroupStats| {
        let config = asked.groups.get(&group.name).unwrap_or(&unknown);
        let Some(rest) = left.checked_sub(growing_bytes(config, &group)) else {
            return bare_info(&asked.name, config, group);
        };
        left = rest;
        group_info(&asked.name, config, group)
    };
    groups.into_iter().map(info).collect()
}

/// What a group's options, cursors and consumers take at most.
fn growing_bytes(config: &GroupConfig, group: &GroupStats) -> usize {
    // Of what JSON has `0.5,` grows most: four characters to the nine bytes of a number.
    let options = config.options.len() * NUMBER_BYTES / 4;
    let cursors = group.cursors.len() * NUMBER_BYTES;
    let listed = group.consumers.iter().take(CONSUMERS_LISTED_MAX);
    let consumers: usize = listed.map(|it| CONSUMER_BYTES + it.name.len()).sum();
    options + cursors + consumers
}

/// A group's info without its options, cursors and consumers.
fn bare_info(stream: &str, config: &GroupConfig, mut group: GroupStats) -> GroupInfo {
    let consumers_total = group.consumers.len() as u64;
    group.cursors.clear();
    group.consumers.clear();
    let config = GroupConfig { order: config.order, ..GroupConfig::default() };
    let mut info = group_info(stream, &config, group);
    info.delivery.consumers_total = consumers_total;
    info
}

fn group_info(stream: &str, config: &GroupConfig, group: GroupStats) -> GroupInfo {
    let options: Map<String, Value> = serde_json::from_str(&config.options).unwrap_or_default();
    GroupInfo {
        stream: stream.to_owned(),
        name: group.name.clone(),
        order: wire::order(config.order),
        options,
        cursors: group.cursors.clone(),
        delivery: figures(group),
    }
}

fn figures(group: GroupStats) -> GroupFigures {
    GroupFigures {
        binding: group.binding,
        generation: group.generation.number,
        lag: group.lag,
        ready: group.ready,
        in_flight: group.in_flight,
        delayed: group.delayed,
        parked: group.parked,
        delivered: group.delivered,
        redelivered: group.redelivered,
        acked: group.acked,
        nacked: group.nacked,
        expired: group.expired,
        dead_lettered: group.dead_lettered,
        dropped: group.dropped,
        refused_actions: group.refused_actions,
        consumers_total: group.consumers.len() as u64,
        consumers: group
            .consumers
            .into_iter()
            .take(CONSUMERS_LISTED_MAX)
            .map(|consumer| ConsumerInfo {
                connection: consumer.connection.0,
                sub: consumer.subscription.0,
                name: consumer.name,
                credit: consumer.credit,
                in_flight: consumer.in_flight,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_core::command::{ConnectionId, SubscriptionId};
    use weir_protocol::{Response, decode_response, limits};

    use super::*;

    /// A stream of `groups` groups, each with everything that makes its info long.
    fn stream(groups: usize, partitions: usize, consumers: u32, options: &str) -> (Asked, Stats) {
        let consumer = |sub: u32| weir_core::effect::ConsumerInfo {
            connection: ConnectionId(u64::MAX),
            subscription: SubscriptionId(sub),
            name: "n".repeat(128),
            credit: 65_536,
            in_flight: 65_536,
        };
        let most = u64::MAX;
        let group = |number: usize| GroupStats {
            name: format!("{number:0>128}"),
            binding: "b".repeat(128),
            lag: most,
            ready: most,
            in_flight: most,
            delayed: most,
            parked: most,
            cursors: vec![most; partitions],
            delivered: most,
            redelivered: most,
            acked: most,
            nacked: most,
            expired: most,
            dead_lettered: most,
            dropped: most,
            refused_actions: most,
            consumers: (0..consumers).map(|sub| consumer(u32::MAX - sub)).collect(),
            ..GroupStats::default()
        };
        let stats = Stats { groups: (0..groups).map(group).collect(), ..Stats::default() };
        let config = GroupConfig { options: options.to_owned(), ..GroupConfig::default() };
        let config_of = |group: &GroupStats| (group.name.clone(), config.clone());
        let asked = Asked {
            group: None,
            name: "s".repeat(128),
            subjects: Vec::new(),
            settings: Settings::Stream(StreamConfig::default()),
            groups: stats.groups.iter().map(config_of).collect(),
        };
        (asked, stats)
    }

    /// Length and content of the answer, which must be none that says `too_large`.
    fn told((asked, stats): (Asked, Stats)) -> (usize, StreamInfo) {
        let mut out = Vec::new();
        answer(&mut out, 1, &asked, stats);
        let frame = Bytes::copy_from_slice(&out[limits::PREFIX_BYTES..]);
        match decode_response(&frame) {
            Ok(Response::Ok { body, .. }) => (frame.len(), body.decode().expect("an info")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_streams_info_has_everything_while_that_is_short() {
        let options = r#"{"a":[1,2]}"#;
        let (_, info) = told(stream(3, 4, 101, options));
        assert_eq!(info.groups.len(), 3);
        for group in &info.groups {
            assert_eq!((group.options.len(), group.cursors.len()), (1, 4));
            let delivery = &group.delivery;
            assert_eq!((delivery.consumers.len(), delivery.consumers_total), (100, 101));
        }
    }

    #[test]
    fn a_streams_info_names_every_group_however_many_there_are() {
        let halves = format!(r#"{{"a":[{}0.5]}}"#, "0.5,".repeat(4_000));
        let noughts = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(8_000));
        for (groups, partitions, consumers, options) in [
            (120, 1, 100, "{}"),
            (70, 1, 0, halves.as_str()),
            (70, 1, 0, noughts.as_str()),
            (200, 1_024, 0, "{}"),
        ] {
            let (bytes, info) = told(stream(groups, partitions, consumers, options));
            assert!(bytes <= STREAM_INFO_BYTES_MAX + 512, "{groups} groups: {bytes} bytes");
            assert_eq!(info.groups.len(), groups);
            assert_eq!(info.groups[0].cursors.len(), partitions, "the first is whole");
            assert_eq!(info.groups[0].delivery.consumers.len(), consumers as usize);
            let last = &info.groups[groups - 1];
            assert!(last.cursors.is_empty() && last.options.is_empty());
            assert!(last.delivery.consumers.is_empty());
            assert_eq!(last.delivery.consumers_total, u64::from(consumers));
            assert_eq!(last.delivery.lag, u64::MAX);
        }
    }

    #[test]
    fn the_longest_info_of_a_stream_fits_an_answer() {
        let (mut asked, mut stats) = stream(1_000, 1_024, 1, "{}");
        asked.subjects = (0..64).map(|at| format!("{at:x>255}")).collect();
        (stats.kept, stats.starts, stats.ends) =
            (vec![u64::MAX; 1_024], vec![u64::MAX; 1_024], vec![u64::MAX; 1_024]);
        let (_, info) = told((asked, stats));
        assert_eq!((info.groups.len(), info.ends.len()), (1_000, 1_024));
    }
}
