//! The SDK through its own test kit: what authors rely on.

use super::{Bench, Fate, TestMessage, filter, metric, route, route_with_delays, start, take_log};
use crate::prelude::*;
use crate::{Counter, Random, kv};
use std::collections::VecDeque;

type Rule = fn(&Message<'_>, &mut Targets<'_>);

/// A router with its rule in a field, asking for many columns.
struct Ruled(Rule);

impl Policy for Ruled {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        use Column::{Headers, Key, KeyHash, Payload, PayloadHead, Publisher, Size, Subject};
        manifest!("for tests")
            .columns(&[Subject, Payload, Key, Headers, Publisher, Size, KeyHash, PayloadHead])
            .payload_head(3)
            .header("one")
            .header("two")
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self(|_, _| {}))
    }
}

impl Router for Ruled {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        (self.0)(message, to);
    }
}

fn routed(rule: Rule, messages: &[TestMessage]) -> Vec<Vec<String>> {
    route(&mut Ruled(rule), messages).expect("routes")
}

fn numbered(count: usize) -> Vec<TestMessage> {
    (0..count).map(|number| TestMessage::new(&format!("s.{number}"))).collect()
}

#[test]
fn one_target_each() {
    let rows = routed(|message, to| to.send(message.subject()), &numbered(300));
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row, &[format!("s.{number}")]);
    }
}

#[test]
fn only_the_very_slice_is_the_own_subject() {
    let rule: Rule = |message, to| {
        let subject = message.subject();
        let copy = String::from(subject);
        to.send(&copy);
        to.send(&subject[..3]);
        to.send(subject);
    };
    let rows = routed(rule, &numbered(12));
    for (number, row) in rows.iter().enumerate() {
        let own = format!("s.{number}");
        assert_eq!(row, &[own.clone(), own[..3].to_owned(), own]);
    }
}

#[test]
fn few_targets_many_messages_none_and_several() {
    let rule: Rule = |message, to| {
        let number: u32 = message.subject()[2..].parse().expect("number");
        for copy in 0..number % 4 {
            to.send(["a", "b", "c"][((number + copy) % 3) as usize]);
        }
    };
    for (number, row) in routed(rule, &numbered(100)).iter().enumerate() {
        let expected: Vec<_> =
            (0..number % 4).map(|copy| ["a", "b", "c"][(number + copy) % 3]).collect();
        assert_eq!(row, &expected, "row {number}");
    }
}

#[test]
fn delays_stay_with_their_copies() {
    let rule: Rule = |message, to| match message.subject() {
        "s.0" => to.send("now"),
        "s.1" => {
            to.send("now");
            to.send_after("later", 50);
        }
        "s.2" => {}
        _ => to.send_after("later", 7),
    };
    let rows = route_with_delays(&mut Ruled(rule), &numbered(4)).expect("routes");
    let copy = |subject: &str, delay_ms: u32| (subject.to_owned(), delay_ms);
    let expected = [
        vec![copy("now", 0)],
        vec![copy("now", 0), copy("later", 50)],
        vec![],
        vec![copy("later", 7)],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn giving_up_fails_the_batch() {
    let rule: Rule = |_, to| to.fail("cannot");
    assert_eq!(route(&mut Ruled(rule), &numbered(2)), Err("cannot".to_owned()));
}

#[test]
fn every_part_of_a_message_is_seen() {
    let message = TestMessage { publisher: 9, ..TestMessage::new("a.b") }
        .key("k")
        .payload("payload")
        .header("two", "2")
        .header("three", [0xff, 0]);
    let rule: Rule = |message, to| {
        assert_eq!(message.tokens().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((message.key(), message.payload()), (&b"k"[..], &b"payload"[..]));
        assert_eq!((message.payload_head(), message.size()), (&b"pay"[..], 7));
        assert_eq!((message.publisher(), message.key_hash()), (9, super::key_hash(b"k")));
        assert_eq!((message.header("one"), message.header_at(1)), (None, Some(&b"2"[..])));
        assert_eq!(message.header("three"), Some(&[0xff, 0][..]));
        assert_eq!((message.header_text("two"), message.header_text("three")), (Some("2"), None));
        assert_eq!(message.headers().count(), 2);
        to.send("ok");
    };
    assert_eq!(routed(rule, &[message]), [["ok"]]);
}

#[test]
#[should_panic(expected = "the manifest does not ask for the sequence")]
fn a_part_not_asked_for_is_a_mistake_that_shows() {
    routed(|message, to| to.send(&message.sequence().to_string()), &numbered(1));
}

/// Judges by the first byte of the payload.
struct Judge;

impl Policy for Judge {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests").columns(&[Column::Payload]).wants(Power::Rewrite)
    }

    fn new(_: NoConfig, context: &Context) -> Result<Self, String> {
        context.require(Power::Rewrite).map(|()| Self)
    }
}

impl Filter for Judge {
    fn filter(&mut self, message: &Message<'_>) -> Verdict {
        match message.payload() {
            b"drop" => Verdict::Drop,
            b"refuse" => Verdict::Refuse("no".to_owned()),
            b"divert" => Verdict::Divert("there".to_owned()),
            b"rewrite" => Rewrite {
                payload: Some(b"new".to_vec()),
                key: None,
                headers: Some(vec![("h".to_owned(), vec![b'v'; 40])]),
            }
            .into(),
            _ => Verdict::Keep,
        }
    }
}

#[test]
fn verdicts_and_edits_find_their_rows() {
    let mut judge = start::<Judge>("").expect("starts");
    let payloads = ["keep", "rewrite", "drop", "refuse", "keep", "divert"];
    let messages = payloads.map(|payload| TestMessage::new("a").payload(payload));
    let verdicts = filter(&mut judge, &messages).expect("judges");
    let rewrite = Rewrite {
        payload: Some(b"new".to_vec()),
        key: None,
        headers: Some(vec![("h".to_owned(), vec![b'v'; 40])]),
    };
    let expected = [
        Verdict::Keep,
        Verdict::Rewrite(rewrite),
        Verdict::Drop,
        Verdict::Refuse("no".to_owned()),
        Verdict::Keep,
        Verdict::Divert("there".to_owned()),
    ];
    assert_eq!(verdicts, expected);
}

#[test]
fn configurations_are_read_and_described() {
    assert!(start::<Judge>(r#"{"unknown": 1}"#).is_err());
    let schema: serde_json::Value =
        serde_json::from_str(&crate::config_schema::<NoConfig>()).expect("JSON");
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["additionalProperties"], false);
}

/// Hands messages out itself: to whoever has had fewest, and gives up on those
/// that failed three times.
#[derive(Default)]
struct Fair {
    ready: VecDeque<(MessageId, u16)>,
    consumers: Vec<(ConsumerId, u32, u32)>,
}

impl Policy for Fair {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests").columns(&[Column::KeyHash]).wants(Power::DeadLetter)
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl Delivery for Fair {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(Plan::dispatched_by_policy())
    }

    fn event(&mut self, _now_ms: u64, event: &Event<'_>, actions: &mut Actions) {
        match *event {
            Event::Ready { group, message, attempt, parts, key_hash } => {
                assert_eq!(parts.key_hash(), key_hash);
                match attempt {
                    3.. => actions.dead_letter(group, message, 1),
                    _ => self.ready.push_back((message, attempt)),
                }
            }
            Event::Joined { consumer, credit, .. } => self.consumers.push((consumer, credit, 0)),
            Event::Credit { consumer, amount, .. } => {
                if let Some(known) = self.consumers.iter_mut().find(|one| one.0 == consumer) {
                    known.1 += amount;
                }
            }
            Event::Left { consumer, .. } => self.consumers.retain(|one| one.0 != consumer),
            Event::Refused { message, .. } => self.ready.push_back((message, 0)),
            _ => {}
        }
    }

    fn settle(&mut self, _now_ms: u64, actions: &mut Actions) {
        while let Some(best) =
            self.consumers.iter_mut().filter(|one| one.1 > 0).min_by_key(|one| one.2)
        {
            let Some((message, _)) = self.ready.pop_front() else { return };
            actions.dispatch(GroupId(1), message, best.0, 0);
            best.1 -= 1;
            best.2 += 1;
        }
    }
}

#[test]
fn a_policy_that_hands_out_itself() {
    let mut policy = start::<Fair>("").expect("starts");
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 5).expect("joins");
    bench.join("bob", 5).expect("joins");
    bench.publish(20, |_| None);
    assert_eq!(bench.deliveries().len(), 10, "no more than the credit");
    bench.drain();
    assert_eq!(bench.settled().len(), 20);
    assert_eq!(bench.refusals(), [] as [u8; 0]);
}

#[test]
fn no_storm_makes_it_lose_a_message() {
    for seed in 0..20 {
        let mut policy = start::<Fair>("").expect("starts");
        let mut bench = Bench::open(&mut policy).expect("opens");
        bench.publish(100, |_| None);
        bench.storm(seed, 300);
        bench.drain();
        let ended = |fate| matches!(fate, Fate::Settled | Fate::DeadLettered);
        assert!(bench.fates().all(ended), "seed {seed}");
        let dead = bench.fates().filter(|&fate| fate == Fate::DeadLettered).count();
        assert_eq!(bench.settled().len() + dead, 100, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_storm() {
    let run = |seed| {
        let mut policy = start::<Fair>("").expect("starts");
        let mut bench = Bench::open(&mut policy).expect("opens");
        bench.publish(50, |_| None);
        bench.storm(seed, 200);
        bench.deliveries().to_vec()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn the_store_keeps_its_quota_and_its_time() {
    super::set_clock_ms(1_000);
    assert!(kv::put("a", b"1", 50));
    assert_eq!(kv::add("count", 3, 0), 3);
    assert_eq!(kv::add("count", -1, 0), 2);
    assert_eq!(kv::keys("", 10), ["a", "count"]);
    super::set_clock_ms(1_050);
    assert_eq!(kv::get("a"), None);
    assert!(!kv::put("big", &vec![0; 64 * 1024 + 1], 0));
    assert!(!kv::put(&"k".repeat(257), b"", 0));
    assert!(kv::remove("count"));
}

#[test]
fn logs_and_metrics_can_be_looked_at() {
    let counter = Counter::new("seen", "messages seen");
    counter.add(2);
    assert_eq!(metric("seen"), Some(2.0));
    log_warn!("number {}", 7);
    assert!(take_log().contains(&(crate::Level::Warn, "number 7".to_owned())));
}

#[test]
fn random_numbers_stay_below_their_bound() {
    let mut random = Random::new(1);
    let mut seen = [0; 5];
    for _ in 0..1_000 {
        seen[random.below(5) as usize] += 1;
    }
    assert!(seen.iter().all(|&count| count > 150), "{seen:?}");
}
