//! Figures of queues, streams and groups, as clients see them.

use serde_json::{Map, Value};
use weir_core::command::{GroupConfig, QueueConfig, StreamConfig};
use weir_core::directory::{Directory, Settings};
use weir_core::effect::{GroupStats, Stats};
use weir_protocol::{
    ConsumerInfo, ErrorCode, GroupFigures, GroupInfo, Kind, ListItem, QueueInfo, StreamInfo,
    WireError,
};

use crate::wire::{self, Asked};

/// Consumers listed of one group; the total is told beside them.
const CONSUMERS_LISTED_MAX: usize = 100;

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
    let unknown = GroupConfig::default();
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
        groups: stats
            .groups
            .into_iter()
            .map(|group| {
                let config = asked.groups.get(&group.name).unwrap_or(&unknown);
                group_info(&asked.name, config, group)
            })
            .collect(),
    }
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

/// Everything there is, each with the key that lists are ordered and continued
/// by.
#[must_use]
pub fn list_items(directory: &Directory) -> Vec<(String, ListItem)> {
    let mut items = Vec::new();
    for found in directory.list() {
        let name = found.name.to_string();
        for group in found.groups.keys() {
            let item = ListItem {
                kind: Kind::Group,
                name: group.clone(),
                stream: Some(name.clone()),
                subjects: Vec::new(),
                partitions: None,
                messages: None,
                bytes: None,
            };
            items.push((wire::catalogue_key(Kind::Group, Some(&name), group), item));
        }
        let (kind, partitions) = match &found.settings {
            Settings::Queue(_) => (Kind::Queue, None),
            Settings::Stream(config) => (Kind::Stream, Some(config.partitions)),
        };
        let item = ListItem {
            kind,
            stream: None,
            subjects: found.subjects.iter().map(ToString::to_string).collect(),
            partitions,
            messages: None,
            bytes: None,
            name: name.clone(),
        };
        items.push((wire::catalogue_key(kind, None, &name), item));
    }
    items
}
