//! Lists of queues, streams and groups.
//!
//! Invariant: no answer is longer than a frame may be, whatever there is: what would be goes
//! into the next answer.

use weir_core::directory::{Destination, Directory, Settings};
use weir_protocol::limits::LIST_ITEMS_MAX;
use weir_protocol::{Kind, List, ListAnswer, ListItem};

use crate::limits::LIST_BYTES_MAX;
use crate::wire;

/// What an item takes beside its texts, bytes at most.
const ITEM_BYTES: usize = 64;
/// What the head of a text takes, bytes: names and patterns are short.
const TEXT_HEAD_BYTES: usize = 2;

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
    use weir_core::command::QueueConfig;
    use weir_core::name::{Name, Pattern};

    use super::*;

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
