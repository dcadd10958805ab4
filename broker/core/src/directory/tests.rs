//! Who is found where, and what is refused.

use std::collections::BTreeSet;

use super::*;
use crate::command::{GroupConfig, Level, QueueConfig, Start, StreamConfig};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn queue() -> Settings {
    Settings::Queue(QueueConfig { messages_max: 0, bytes_max: 0, level: Level::Disk, order: 0 })
}

fn stream(partitions: u16) -> Settings {
    Settings::Stream(StreamConfig { partitions, level: Level::Os, ..StreamConfig::default() })
}

fn create(directory: &mut Directory, text: &str, subjects: &[&str], settings: Settings) -> Created {
    let subjects = subjects.iter().map(|text| pattern(text)).collect();
    directory.create(&name(text), subjects, settings).expect("created")
}

fn subscribe(directory: &mut Directory, connection: u64, number: u32, text: &str, share: &str) {
    let share = (!share.is_empty()).then(|| name(share));
    directory
        .subscribe(ConnectionId(connection), SubscriptionId(number), &pattern(text), share.as_ref())
        .expect("subscribed");
}

/// Who gets a message: subscribers, share groups in brackets, destinations.
fn resolve(directory: &Directory, subject: &str) -> String {
    let mut resolved = Resolved::default();
    directory.resolve(subject, &mut resolved);
    let show = |s: &Subscriber| format!("{}.{}", s.connection.0, s.subscription.0);
    let mut parts: Vec<_> = resolved.subscribers.iter().map(show).collect();
    parts.sort();
    for share in &resolved.shares {
        let mut members: Vec<_> = resolved.members(share).iter().map(show).collect();
        members.sort();
        parts.push(format!("[{}]", members.join(" ")));
    }
    for target in &resolved.destinations {
        let destination = directory.by_id(target.id).expect("it is there");
        assert_eq!(destination.shard, target.shard);
        parts.push(destination.name.to_string());
    }
    assert_eq!(resolved.is_empty(), parts.is_empty());
    parts.join(" ")
}

#[test]
fn finds_subscribers_share_groups_and_destinations() {
    let mut directory = Directory::new(4);
    subscribe(&mut directory, 1, 1, "orders.>", "");
    subscribe(&mut directory, 1, 2, "orders.>", "");
    subscribe(&mut directory, 2, 1, "orders.eu", "");
    subscribe(&mut directory, 3, 1, "orders.*", "workers");
    subscribe(&mut directory, 4, 1, "orders.*", "workers");
    subscribe(&mut directory, 4, 2, "orders.eu", "other");
    create(&mut directory, "orders", &["orders.eu", "orders.*", "orders.>"], queue());
    create(&mut directory, "log", &[">"], stream(2));
    assert_eq!(resolve(&directory, "orders.eu"), "1.1 1.2 2.1 [4.2] [3.1 4.1] orders log");
    assert_eq!(resolve(&directory, "orders.us"), "1.1 1.2 [3.1 4.1] orders log");
    assert_eq!(resolve(&directory, "orders.us.x"), "1.1 1.2 orders log");
    assert_eq!(resolve(&directory, "mail"), "log");
    assert_eq!(resolve(&directory, "_inbox.x"), "");
}

#[test]
fn whoever_leaves_is_found_no_more() {
    let mut directory = Directory::new(1);
    for connection in 1..=3 {
        subscribe(&mut directory, connection, 1, "a", "");
        subscribe(&mut directory, connection, 2, "*", "workers");
        subscribe(&mut directory, connection, 3, "a", "");
    }
    assert_eq!(resolve(&directory, "a"), "1.1 1.3 2.1 2.3 3.1 3.3 [1.2 2.2 3.2]");
    directory.unsubscribe(ConnectionId(2), SubscriptionId(1)).expect("subscribed");
    assert_eq!(directory.disconnect(ConnectionId(1)), 3);
    assert_eq!(directory.disconnect(ConnectionId(1)), 0);
    assert_eq!(resolve(&directory, "a"), "2.3 3.1 3.3 [2.2 3.2]");
    assert_eq!(
        directory.unsubscribe(ConnectionId(2), SubscriptionId(1)),
        Err(Rejection::NoSubscription)
    );
    assert_eq!(directory.disconnect(ConnectionId(3)) + directory.disconnect(ConnectionId(2)), 5);
    assert_eq!(resolve(&directory, "a"), "");
    assert_eq!((directory.subscriptions(), directory.index.nodes()), (0, 0));
}

#[test]
fn a_subscription_number_is_taken_until_it_is_given_back() {
    let mut directory = Directory::new(1);
    let (connection, number) = (ConnectionId(1), SubscriptionId(1));
    subscribe(&mut directory, 1, 1, "a.*", "");
    let again = directory.subscribe(connection, number, &pattern("b"), None);
    assert_eq!(again, Err(Rejection::SubscriptionTaken));
    assert_eq!(directory.pattern_of(connection, number).as_deref(), Some("a.*"));
    directory.unsubscribe(connection, number).expect("subscribed");
    subscribe(&mut directory, 1, 1, "b", "");
    assert_eq!(resolve(&directory, "b"), "1.1");
}

#[test]
fn members_of_a_share_group_take_turns_across_publishers() {
    let mut directory = Directory::new(1);
    for connection in 1..=3 {
        subscribe(&mut directory, connection, 1, "a", "workers");
    }
    let (mut one, mut other) = (Resolved::default(), Resolved::default());
    directory.resolve("a", &mut one);
    directory.resolve("a", &mut other);
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.push(one.next_member(&one.shares[0]).connection.0);
        turns.push(other.next_member(&other.shares[0]).connection.0);
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn overlapping_patterns_of_a_share_group_do_not_give_it_a_message_twice() {
    let mut directory = Directory::new(1);
    subscribe(&mut directory, 1, 1, "a.*", "workers");
    subscribe(&mut directory, 2, 1, "a.>", "workers");
    subscribe(&mut directory, 3, 1, "a.>", "auditors");
    let found = resolve(&directory, "a.b");
    assert!(found.contains("[1.1 2.1]") && found.contains("[3.1]"), "{found}");
    assert_eq!(found.matches('[').count(), 2);
    assert_eq!(resolve(&directory, "a.b.c").matches(['[', ' ']).count(), 3);
}

/// Where each is compared with every other this takes minutes.
#[test]
fn very_many_share_groups_of_one_pattern_are_told_apart() {
    let mut directory = Directory::new(1);
    let mut expected = Vec::new();
    for number in 0..50_000_u64 {
        let share = format!("g{number}");
        subscribe(&mut directory, number, 1, ">", &share);
        let mut members = vec![(number, 1_u32)];
        if number.is_multiple_of(10) {
            subscribe(&mut directory, number, 2, "a.*", &share);
            members.push((number, 2));
        }
        expected.push(members);
    }
    let mut resolved = Resolved::default();
    directory.resolve("a.b", &mut resolved);
    let mut found: Vec<Vec<_>> = Vec::new();
    for share in &resolved.shares {
        let members = resolved.members(share).iter();
        let mut members: Vec<_> = members.map(|s| (s.connection.0, s.subscription.0)).collect();
        members.sort_unstable();
        found.push(members);
    }
    found.sort_unstable();
    assert!(found == expected, "{} groups", found.len());
}

#[test]
fn the_version_rises_with_every_change_and_only_then() {
    let mut directory = Directory::new(1);
    let mut versions = BTreeSet::from([directory.version()]);
    let mut changed = |directory: &Directory| assert!(versions.insert(directory.version()));
    subscribe(&mut directory, 1, 1, "a", "");
    changed(&directory);
    create(&mut directory, "q", &["a"], queue());
    changed(&directory);
    create(&mut directory, "s", &[], stream(1));
    changed(&directory);
    directory.create_group("s", &name("g"), GroupConfig::default()).expect("created");
    changed(&directory);
    directory.alter("q", Some(vec![pattern("b")]), queue()).expect("altered");
    changed(&directory);
    directory.delete("q", Kind::Queue).expect("deleted");
    changed(&directory);
    directory.disconnect(ConnectionId(1));
    changed(&directory);
    let before = directory.version();
    create(&mut directory, "s", &[], stream(1));
    directory.create_group("s", &name("g"), GroupConfig::default()).expect("there");
    directory.disconnect(ConnectionId(1));
    assert_eq!(directory.version(), before);
}

#[test]
fn a_name_belongs_to_one_destination() {
    let mut directory = Directory::new(8);
    let first = create(&mut directory, "orders", &["a", "b"], queue());
    assert!(first.is_new);
    let again = create(&mut directory, "orders", &["b", "a", "a"], queue());
    assert_eq!(again, Created { is_new: false, ..first });
    let other = Settings::Queue(QueueConfig {
        messages_max: 5,
        bytes_max: 0,
        level: Level::Disk,
        order: 0,
    });
    assert_eq!(directory.create(&name("orders"), vec![], queue()), Err(Rejection::Exists));
    assert_eq!(
        directory.create(&name("orders"), vec![pattern("a"), pattern("b")], other.clone()),
        Err(Rejection::Exists)
    );
    assert_eq!(directory.create(&name("orders"), vec![], stream(1)), Err(Rejection::WrongKind));
    assert_eq!(directory.delete("orders", Kind::Stream).err(), Some(Rejection::WrongKind));
    directory.alter("orders", Some(vec![pattern("c")]), other).expect("altered");
    assert_eq!(resolve(&directory, "a"), "");
    assert_eq!(resolve(&directory, "c"), "orders");
    let removed = directory.delete("orders", Kind::Queue).expect("deleted");
    assert_eq!(removed.id, first.id);
    assert_eq!(resolve(&directory, "c"), "");
    assert_eq!(directory.delete("orders", Kind::Queue).err(), Some(Rejection::NotFound));
    assert_ne!(create(&mut directory, "orders", &[], queue()).id, first.id);
}

#[test]
fn limits_are_refused() {
    let mut directory = Directory::new(1);
    for partitions in [0, crate::limits::PARTITIONS_MAX + 1] {
        let refused = directory.create(&name("s"), vec![], stream(partitions));
        assert!(matches!(refused, Err(Rejection::OverLimit(limit)) if limit.name == "partitions"));
    }
    let many = (0..65).map(|number| pattern(&format!("s{number}"))).collect();
    let refused = directory.create(&name("q"), many, queue()).expect_err("there are too many");
    let text = "patterns of one queue or stream: at most 64 (the limit patterns_per_destination)";
    assert_eq!(refused.to_string(), text);
    assert_eq!(directory.list().count(), 0);
}

/// Partitions and groups multiply: what they come to together is bounded, what was there
/// before a restart is there after it, and what goes gives its room back.
#[test]
fn logs_of_streams_are_bounded_together() {
    use crate::limits::{PARTITIONS_MAX, STREAM_LOGS_MAX};
    let config = || GroupConfig { order: 0, options: String::new(), start: Start::Earliest };
    let mut directory = Directory::new(2);
    create(&mut directory, "wide", &[], stream(PARTITIONS_MAX));
    let fit = STREAM_LOGS_MAX / u64::from(PARTITIONS_MAX) - 1;
    for number in 0..fit {
        let group = name(&format!("g{number}"));
        directory.create_group("wide", &group, config()).expect("there is room");
    }
    let is_refused = |refused: Result<Created, Rejection>| matches!(refused, Err(Rejection::OverLimit(limit)) if limit.name == "stream_logs");
    let one_more = name("one-more");
    assert!(is_refused(directory.create_group("wide", &one_more, config())));
    assert!(is_refused(directory.create(&name("other"), vec![], stream(PARTITIONS_MAX))));
    create(&mut directory, "narrow", &[], stream(1));
    create(&mut directory, "work", &[], queue());
    directory.restore_group("wide", &one_more, config()).expect("restored");
    directory.restore(&name("other"), vec![], stream(PARTITIONS_MAX)).expect("restored");
    assert!(is_refused(directory.create_group("narrow", &one_more, config())));
    directory.delete("other", Kind::Stream).expect("deleted");
    directory.delete_group("wide", "one-more").expect("deleted");
    directory.create_group("narrow", &one_more, config()).expect("there is room again");
    directory.delete("wide", Kind::Stream).expect("deleted");
    let again = stream(PARTITIONS_MAX);
    create(&mut directory, "wide", &[], again);
}

#[test]
fn patterns_that_would_cost_every_match_too_much_are_refused() {
    use crate::limits::{GLOB_WEIGHT_MAX, WIDE_GLOB_WEIGHT};
    let mut directory = Directory::new(1);
    let patterns = |first: u32| -> Vec<Pattern> {
        (1..=60).map(|length| pattern(&format!("t{first}.{}*b*", "a".repeat(length)))).collect()
    };
    let queues = (0..).take_while(|&first| {
        directory.create(&name(&format!("q{first}")), patterns(first), queue()).is_ok()
    });
    let made = queues.count() as u32;
    let is_refused = |refused: Result<(), Rejection>| matches!(refused, Err(Rejection::OverLimit(limit)) if limit.name == "glob_weight");
    let create = directory.create(&name("other"), patterns(made), queue());
    assert!(is_refused(create.map(|_| ())));
    let alter = directory.alter("q0", Some(patterns(made)), queue());
    assert!(is_refused(alter.map(|_| ())));
    // Sixty shapes go together; of those of subscriptions, as many as there is room for.
    let mut subscribe = |number: usize, pattern: &Pattern| {
        directory.subscribe(ConnectionId(1), SubscriptionId(number as u32), pattern, None)
    };
    let more = patterns(made);
    let taken = more.iter().enumerate().take_while(|(number, it)| subscribe(*number, it).is_ok());
    let room = (GLOB_WEIGHT_MAX - u64::from(made) * 60 * WIDE_GLOB_WEIGHT) / WIDE_GLOB_WEIGHT;
    assert_eq!(taken.count() as u64, room);
    assert!(is_refused(subscribe(100, &more[59])));
    subscribe(101, &patterns(0)[0]).expect("a shape that is there costs nothing more");
    directory.delete("q1", Kind::Queue).expect("deleted");
    directory.create(&name("other"), patterns(made), queue()).expect("there is room again");
}

#[test]
fn a_stream_keeps_its_partitions_and_groups_when_it_is_altered() {
    let mut directory = Directory::new(1);
    create(&mut directory, "flights", &["flights.>"], stream(3));
    let config = |start, order| GroupConfig { start, order, options: String::new() };
    let group = name("audit");
    directory.create_group("flights", &group, config(Start::Latest, 1)).expect("created");
    let again = directory.create_group("flights", &group, config(Start::Earliest, 1));
    assert!(!again.expect("the same but for its start").is_new);
    let other = directory.create_group("flights", &group, config(Start::Latest, 2));
    assert_eq!(other, Err(Rejection::Exists));
    directory.alter("flights", None, stream(9)).expect("altered");
    directory.alter_group("flights", "audit", config(Start::Earliest, 2)).expect("altered");
    let flights = directory.find("flights").expect("there");
    assert_eq!(flights.settings, stream(3));
    assert_eq!(flights.groups["audit"], config(Start::Latest, 2));
    directory.delete_group("flights", "audit").expect("deleted");
    let gone = directory.delete_group("flights", "audit");
    assert_eq!(gone, Err(Rejection::NotFound));
    create(&mut directory, "q", &[], queue());
    let wrong = directory.create_group("q", &group, GroupConfig::default());
    assert_eq!(wrong, Err(Rejection::WrongKind));
}

#[test]
fn dead_letters_live_with_what_they_came_from() {
    let mut directory = Directory::new(16);
    create(&mut directory, "flights", &["f"], stream(1));
    let shard = directory.shard_of("flights");
    assert_eq!(directory.shard_of("flights/audit/dead"), shard);
    let id = DestinationId(directory.shard_ids(shard).start);
    directory.adopt_queue("flights/audit/dead", id).expect("adopted");
    let dead = directory.find("flights/audit/dead").expect("there");
    assert_eq!((dead.id, dead.shard, dead.kind()), (id, shard, Kind::Queue));
    assert_eq!(dead.settings.level(), Level::Os);
    assert_eq!(resolve(&directory, "f"), "flights");
    assert_eq!(directory.adopt_queue("flights", id), Err(Rejection::WrongKind));
}

#[test]
fn the_shards_number_holds_when_a_client_made_the_same_queue() {
    let mut directory = Directory::new(2);
    create(&mut directory, "q/dead", &["x"], queue());
    let id = DestinationId(directory.shard_ids(1).start);
    directory.adopt_queue("q/dead", id).expect("adopted");
    assert_eq!(directory.find("q/dead").expect("there").id, id);
    assert_eq!(resolve(&directory, "x"), "q/dead");
    assert_eq!(directory.list().count(), 1);
}

#[test]
fn ranges_of_shards_do_not_meet() {
    let directory = Directory::new(7);
    let mut last = SHARD_IDS_START;
    for shard in 0..7 {
        let ids = directory.shard_ids(shard);
        assert!(ids.start >= last && ids.len() > 1_000_000);
        last = ids.end;
    }
}
