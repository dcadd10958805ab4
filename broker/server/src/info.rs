//! Lists of queues, streams and groups, and their figures, as clients see them.
//!
//! Invariant: no answer is longer than a frame may be, whatever there is. What would be goes
//! into the next answer, or is left out where another request has it.

use serde_json::{Map, Value};
use weir_core::command::{GroupConfig, QueueConfig, StreamConfig};
use weir_core::directory::{Destination, Directory, Settings};
use weir_core::effect::{GroupStats, Stats};
use weir_protocol::limits::LIST_ITEMS_MAX;
use weir_protocol::{
    ConsumerInfo, ErrorCode, GroupFigures, GroupInfo, Kind, List, ListAnswer, ListItem, QueueInfo,
    StreamInfo, WireError,
};

use crate::limits::{CONSUMERS_LISTED_MAX, LIST_BYTES_MAX, STREAM_INFO_BYTES_MAX};
use crate::wire::{self, Asked};

/// What an item of a list takes beside its texts, bytes at most.
const ITEM_BYTES: usize = 64;
/// What a group's info takes beside its texts, options, cursors and consumers, bytes at most.
const GROUP_BYTES: usize = 384;
/// What a consumer takes beside its name, bytes at most.
const CONSUMER_BYTES: usize = 64;
/// What a number takes, bytes at most.
const NUMBER_BYTES: usize = 9;
/// What the head of a text takes, bytes: names and patterns are short.
const TEXT_HEAD_BYTES: usize = 2;

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

/// A queue, stream or group, and the key that lists are ordered and continued by.
type Found<'a> = (String, &'a Destination, Option<&'a str>);

/// What a list asks for, in the order of the keys, as much of it as one answer holds; at
/// least one item comes when there is one.
#[must_use]
pub fn list(directory: &Directory, asked: &List) -> ListAnswer {
    let items_max = asked.items_max.unwrap_or(LIST_ITEMS_MAX).clamp(1, LIST_ITEMS_MAX) as usize;
    let mut found = find(directory, asked);
    // One more than may come says that there is more.
    if found.len() > items_max + 1 {
        found.select_nth_unstable_by(items_max, |a, b| a.0.cmp(&b.0));
        found.truncate(items_max + 1);
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut answer = ListAnswer::default();
    let (mut bytes, mut last) = (0, None);
    for (key, destination, group) in found {
        let item = list_item(destination, group);
        bytes += item_bytes(&item);
        let is_full = answer.items.len() == items_max || bytes > LIST_BYTES_MAX;
        if is_full && last.is_some() {
            answer.next = last;
            break;
        }
        answer.items.push(item);
        last = Some(key);
    }
    answer
}

/// Everything that a list asks for, in no order.
fn find<'a>(directory: &'a Directory, asked: &List) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = Vec::new();
    let mut add = |kind: Kind, destination: &'a Destination, group: Option<&'a str>| {
        if asked.kind.is_some_and(|wanted| wanted != kind) {
            return;
        }
        let name: &str = &destination.name;
        let key = match group {
            Some(group) => wire::catalogue_key(kind, Some(name), group),
            None => wire::catalogue_key(kind, None, name),
        };
        if asked.after.as_ref().is_none_or(|after| &key > after) {
            found.push((key, destination, group));
        }
    };
    for destination in directory.list() {
        add(kind_of(destination), destination, None);
        for group in destination.groups.keys() {
            add(Kind::Group, destination, Some(group.as_str()));
        }
    }
    found
}

fn kind_of(destination: &Destination) -> Kind {
    match &destination.settings {
        Settings::Queue(_) => Kind::Queue,
        Settings::Stream(_) => Kind::Stream,
    }
}

fn list_item(destination: &Destination, group: Option<&str>) -> ListItem {
    let name = destination.name.to_string();
    let bare = ListItem {
        kind: Kind::Group,
        name: String::new(),
        stream: None,
        subjects: Vec::new(),
        partitions: None,
        messages: None,
        bytes: None,
    };
    if let Some(group) = group {
        return ListItem { name: group.to_owned(), stream: Some(name), ..bare };
    }
    let partitions = match &destination.settings {
        Settings::Queue(_) => None,
        Settings::Stream(config) => Some(config.partitions),
    };
    let subjects = destination.subjects.iter().map(ToString::to_string).collect();
    ListItem { kind: kind_of(destination), name, subjects, partitions, ..bare }
}

/// What an item takes in an answer at most.
fn item_bytes(item: &ListItem) -> usize {
    let stream = item.stream.as_ref().map_or(0, String::len);
    let subjects: usize = item.subjects.iter().map(|it| TEXT_HEAD_BYTES + it.len()).sum();
    ITEM_BYTES + item.name.len() + stream + subjects
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_core::command::{ConnectionId, SubscriptionId};
    use weir_core::name::{Name, Pattern};
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

    fn directory(queues: usize, patterns: usize) -> Directory {
        let mut directory = Directory::new(1);
        for number in 0..queues {
            let name = Name::parse(&format!("q{number:03}")).expect("a name");
            let subject = |at: usize| format!("q{number}.s{at}.{}", "x".repeat(200));
            let subjects = (0..patterns).map(|at| Pattern::parse(&subject(at)).expect("a pattern"));
            let settings = Settings::Queue(QueueConfig::default());
            directory.create(&name, subjects.collect(), settings).expect("there is room");
        }
        directory
    }

    #[test]
    fn a_list_comes_in_answers_of_bounded_length() {
        let directory = directory(100, 64);
        let (mut names, mut answers, mut after) = (Vec::new(), 0, None);
        loop {
            let answer = list(&directory, &List { kind: None, after, items_max: None });
            let mut out = Vec::new();
            wire::ok(&mut out, 1, &answer);
            assert!(out.len() <= LIST_BYTES_MAX + 512, "{} bytes", out.len());
            answers += 1;
            names.extend(answer.items.into_iter().map(|item| item.name));
            match answer.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let all: Vec<String> = (0..100).map(|number| format!("q{number:03}")).collect();
        assert_eq!(names, all);
        assert!(answers > 1, "all came at once");
    }

    #[test]
    fn a_list_has_as_many_items_as_were_asked_for() {
        let directory = directory(20, 1);
        let ask = |after: Option<&str>, items_max| {
            let after = after.map(str::to_owned);
            list(&directory, &List { kind: Some(Kind::Queue), after, items_max: Some(items_max) })
        };
        let first = ask(None, 15);
        assert_eq!((first.items.len(), first.next.as_deref()), (15, Some("queue/q014")));
        let rest = ask(first.next.as_deref(), 5);
        assert_eq!((rest.items.len(), rest.next.as_deref()), (5, None));
        assert_eq!(rest.items[0].name, "q015");
    }
}
