//! The SDK through its own test kit: what authors rely on.

use super::{Bench, Fate, TestMessage, filter, metric, route, route_with_delays, start, take_log};
use crate::prelude::*;
use crate::router::route_batch;
use crate::{Counter, Gauge, Histogram, Random, kv};
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
fn a_message_for_too_many_fails_alone() {
    // Enough of them that the table of targets grows meanwhile.
    let rule: Rule = |message, to| match message.subject() {
        "s.1" => {
            to.send("a");
            to.send(message.subject());
        }
        "s.3" => to.send("t.7"),
        _ => (0..300).for_each(|number| to.send_after(&format!("t.{number}"), 5)),
    };
    let (manifest, messages) = (Ruled::manifest(), numbered(5));
    let input = super::batch(&manifest, &messages);
    let routes = route_batch(&mut Ruled(rule), &manifest.header_columns, &input).expect("routes");
    let rows = messages.iter().enumerate();
    let rows: Vec<_> = rows.map(|(row, message)| super::picks_of(&routes, row, message)).collect();
    let copy = |subject: &str| (subject.to_owned(), 0_u32);
    let failed = vec![copy("more than 256 targets for one message")];
    let expected =
        [failed.clone(), vec![copy("a"), copy("s.1")], failed.clone(), vec![copy("t.7")], failed];
    assert_eq!(rows, expected);
    assert_eq!(routes.targets.ends.len(), 3, "the broker takes none that nobody picks");
    let most: Rule = |_, to| (0..256).for_each(|number| to.send(&format!("t.{number}")));
    assert_eq!(routed(most, &numbered(1))[0].len(), 256);
}

#[test]
fn a_message_that_the_broker_takes_for_failed_shows() {
    fn fails(rule: Rule) -> String {
        route(&mut Ruled(rule), &numbered(1)).expect_err("the broker fails it")
    }
    let no_subject = "which is no subject";
    assert!(fails(|_, to| to.send("a b")).contains(no_subject));
    assert!(fails(|_, to| to.send("a..b")).contains(no_subject));
    assert!(fails(|_, to| to.send("a.>")).contains(no_subject));
    assert!(fails(|_, to| to.send(&"x".repeat(256))).contains(no_subject));
    assert!(fails(|_, to| to.send(&["x"; 33].join("."))).contains(no_subject));
    assert!(fails(|_, to| to.send_after("a", 604_800_001)).contains("604800000 at most"));
    let most: Rule = |_, to| {
        to.send(&"x".repeat(255));
        to.send(&["x"; 32].join("."));
        to.send_after("a", 604_800_000);
    };
    assert_eq!(routed(most, &numbered(1))[0].len(), 3);
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
        manifest!("for tests")
            .columns(&[Column::Payload])
            .wants(Power::Rewrite)
            .wants(Power::Drop)
            .wants(Power::DeadLetter)
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
            long if long.len() > 100 => Verdict::Refuse(String::from_utf8_lossy(long).into()),
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

/// A batch of them would be longer than an answer may be.
#[test]
fn a_long_reason_is_cut_at_a_character() {
    let mut judge = start::<Judge>("").expect("starts");
    let reason = format!("x{}", "\u{e4}".repeat(2_000));
    let messages = [TestMessage::new("a").payload(reason.as_str())];
    let verdicts = filter(&mut judge, &messages).expect("judges");
    assert_eq!(verdicts, [Verdict::Refuse(reason[..511].to_owned())]);
}

/// Drops everything, and has not asked for the power to.
struct Unasked;

impl Policy for Unasked {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests")
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Filter for Unasked {
    fn filter(&mut self, _: &Message<'_>) -> Verdict {
        Verdict::Drop
    }
}

/// The broker grants no power that the manifest does not ask for.
#[test]
fn a_verdict_without_its_power_shows() {
    let error = filter(&mut Unasked, &numbered(1)).expect_err("no power");
    assert!(error.contains("\"drop\"") && error.contains("`Manifest::wants`"), "{error}");
}

/// A router whose answers are remembered, although it counts.
struct Remembered;

impl Policy for Remembered {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests").memo_by(&[Column::Subject])
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Router for Remembered {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        match message.subject() {
            "s.0" => to.send(&kv::add("remembered", 1, 0).to_string()),
            _ => to.send(&crate::wall_ms().to_string()),
        }
    }
}

#[test]
fn remembered_answers_are_made_without_store_and_clock() {
    for message in numbered(2) {
        let routed = std::panic::catch_unwind(|| route(&mut Remembered, &[message]));
        assert!(routed.is_err());
    }
    assert_eq!(kv::add("remembered", 1, 0), 1, "the test itself may");
    assert!(kv::remove("remembered"));
}

#[test]
fn of_a_setting_the_last_value_counts() {
    let manifest = manifest!("for tests").payload_head(3).memory_bytes(9).payload_head(5);
    let settings = manifest.into_wire(String::new()).settings;
    assert!(settings.iter().map(|one| (one.id, one.value)).eq([(2, 9), (1, 5)]));
    let plan = Plan::at_least_once().bytes_per_consumer(1).bytes_per_consumer(2);
    let settings = plan.into_wire().settings;
    assert!(settings.iter().map(|one| (one.id, one.value)).eq([(2, 2)]));
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

type Heard = fn(&Event<'_>, &mut Actions);

/// A delivery policy with its plan and what it does in fields.
struct Scripted(Plan, Heard);

impl Policy for Scripted {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests")
            .columns(&[Column::Sequence, Column::PublishedAt])
            .wants(Power::DeadLetter)
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self(Plan::at_least_once(), |_, _| {}))
    }
}

impl Delivery for Scripted {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(self.0.clone())
    }

    fn event(&mut self, _now_ms: u64, event: &Event<'_>, actions: &mut Actions) {
        (self.1)(event, actions);
    }
}

/// Logs what it hears of ready messages and credit.
fn log_it(event: &Event<'_>, _actions: &mut Actions) {
    match event {
        Event::Ready { message, attempt, .. } => log_info!("ready {} {attempt}", message.0),
        Event::Credit { amount, .. } => log_info!("credit {amount}"),
        _ => {}
    }
}

/// Counts no credit: what is too much is refused.
fn hand_to_the_first(event: &Event<'_>, actions: &mut Actions) {
    if let Event::Ready { group, message, .. } = *event {
        actions.dispatch(group, message, ConsumerId(1), 0);
    }
}

fn lines() -> Vec<String> {
    take_log().into_iter().map(|(_, line)| line).collect()
}

#[test]
fn credit_comes_back_where_messages_are_settled_at_hand_over() {
    let plan = Plan::at_most_once().interest(&[EventKind::Credit]);
    let mut policy = Scripted(plan.clone(), log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 5).expect("joins");
    bench.publish(3, |_| None);
    assert_eq!(lines(), ["credit 1"; 3]);

    let plan = plan.chooser(Chooser::Policy).interest(&[EventKind::Ready, EventKind::Refused]);
    let mut policy = Scripted(plan, hand_to_the_first);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 5).expect("joins");
    bench.publish(20, |_| None);
    assert_eq!(bench.settled().len(), 20);
    assert_eq!(bench.refusals(), [] as [u8; 0]);
}

#[test]
fn what_stands_behind_another_is_shown_when_it_is_first() {
    let plan = Plan::dispatched_by_policy().order(Order::PerKey);
    let mut policy = Scripted(plan, hand_to_the_first);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 9).expect("joins");
    bench.publish(4, |number| (number != 3).then(|| "key".to_owned()));
    assert!(bench.held().eq([MessageId(0), MessageId(3)]), "one of the key, and the one without");
    assert!(bench.ack(MessageId(0)));
    assert!(bench.held().eq([MessageId(1), MessageId(3)]));
    bench.drain();
    assert_eq!(bench.refusals(), [] as [u8; 0]);
}

#[test]
fn an_empty_key_is_no_key() {
    let mut policy = Scripted(Plan::ordered_by_key(), log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 9).expect("joins");
    bench.publish(3, |_| Some(String::new()));
    assert_eq!(bench.held().count(), 3);
}

#[test]
fn a_policy_hears_of_ready_messages_also_where_the_broker_picks() {
    let plan = Plan::at_least_once().interest(&[EventKind::Ready]);
    let mut policy = Scripted(plan, log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(5, |_| None);
    assert_eq!(lines(), [""; 0], "nothing is taken from the log for nobody");
    bench.join("ann", 2).expect("joins");
    assert_eq!(lines(), ["ready 0 0", "ready 1 0"]);
    assert!(bench.nack(MessageId(0), 0));
    bench.run_for_ms(1_000);
    assert_eq!(lines(), ["ready 2 0", "ready 0 1"]);
}

#[test]
fn a_ready_message_has_its_offset_and_its_time() {
    let logs_parts: Heard = |event, _| {
        if let Event::Ready { parts, .. } = event {
            log_info!("{} {}", parts.sequence(), parts.published_at_ms());
        }
    };
    let mut policy = Scripted(Plan::dispatched_by_policy(), logs_parts);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.run_for_ms(10);
    bench.publish(2, |_| None);
    assert_eq!(lines(), ["0 10", "1 10"]);
}

#[test]
fn a_plan_is_filled_in_and_cut_as_by_the_broker() {
    // No lease, a shorter longest delay than the first, and no power to drop.
    let plan = Plan::at_least_once().lease_ms(0).retry(500, 0, 0).attempts(3, Exhausted::Drop);
    let mut policy = Scripted(plan, log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(1, |_| None);
    bench.run_for_ms(29_999);
    assert!(bench.nack(MessageId(0), 0), "the lease is of 30 s");
    bench.run_for_ms(500);
    assert!(bench.nack(MessageId(0), 0));
    bench.run_for_ms(500);
    let moments: Vec<u64> = bench.deliveries().iter().map(|one| one.at_ms).collect();
    assert_eq!(moments, [0, 30_499, 30_999]);
    assert!(bench.nack(MessageId(0), 0));
    assert!(bench.fates().eq([Fate::Parked]));
}

#[test]
fn a_back_off_of_one_ms_grows_as_the_brokers_does() {
    let mut policy = Scripted(Plan::at_least_once().retry(1, 4, 150), log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(1, |_| None);
    for pause_ms in [1, 1, 2, 3, 4] {
        assert!(bench.nack(MessageId(0), 0));
        bench.run_for_ms(pause_ms);
    }
    let moments: Vec<u64> = bench.deliveries().iter().map(|one| one.at_ms).collect();
    assert_eq!(moments, [0, 1, 2, 4, 7, 11]);
}

#[test]
fn a_lease_without_end_is_cut() {
    let mut policy = Scripted(Plan::at_least_once().lease_ms(u32::MAX), log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(10, |_| None);
    bench.storm(1, 100);
    bench.drain();
    assert_eq!(bench.settled().len(), 10);
}

/// A delivery policy that wants what none can have.
struct Reader;

impl Policy for Reader {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("for tests").columns(&[Column::Subject, Column::Payload])
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Delivery for Reader {
    fn open(&mut self, _group: &Group) -> Result<Plan, String> {
        Ok(Plan::at_least_once())
    }
}

#[test]
fn a_manifest_that_the_broker_refuses_is_refused() {
    let refused = Bench::open(&mut Reader).err().expect("payloads are not to be had");
    assert!(refused.contains("Payload") && refused.contains("`Manifest::header`"), "{refused}");
}

#[test]
fn time_begins_at_nought_and_a_timer_of_no_length_is_due_at_once() {
    super::set_clock_ms(5_000);
    let wakes: Heard = |event, actions| match *event {
        Event::Ready { group, message, .. } => actions.wake(group, message.0, 0),
        Event::Woke { group, token } => {
            actions.dispatch(group, MessageId(token), ConsumerId(1), 0);
        }
        _ => {}
    };
    let plan = Plan::dispatched_by_policy().interest(&[EventKind::Woke]);
    let mut policy = Scripted(plan, wakes);
    let mut bench = Bench::open(&mut policy).expect("opens");
    assert_eq!(crate::wall_ms(), 0);
    bench.join("ann", 1).expect("joins");
    bench.publish(1, |_| None);
    bench.run_for_ms(1_000);
    assert_eq!(bench.deliveries().iter().map(|one| one.at_ms).collect::<Vec<_>>(), [0]);
    assert_eq!(crate::wall_ms(), 1_000);
    // Also where it is made while time passes.
    assert!(bench.nack(MessageId(0), 100));
    bench.run_for_ms(1_000);
    assert_eq!(bench.deliveries().iter().map(|one| one.at_ms).collect::<Vec<_>>(), [0, 1_100]);
}

#[test]
fn what_comes_back_is_shown_whatever_the_window() {
    let hands_out_the_first: Heard = |event, actions| {
        if let Event::Ready { group, message: MessageId(0), .. } = *event {
            actions.dispatch(group, MessageId(0), ConsumerId(1), 0);
        }
    };
    let mut policy = Scripted(Plan::dispatched_by_policy().window(1), hands_out_the_first);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(2, |_| None);
    // The other one fills the window, undecided.
    assert!(bench.nack(MessageId(0), 10));
    bench.run_for_ms(10);
    assert!(bench.held().eq([MessageId(0)]));
}

#[test]
fn what_is_given_back_with_a_goodbye_is_told_at_once() {
    let plan = Plan::at_least_once().interest(&[EventKind::Ready]);
    let mut policy = Scripted(plan, log_it);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(1, |_| None);
    let ann = bench.join("ann", 1).expect("joins");
    bench.leave(ann);
    assert_eq!(lines(), ["ready 0 0", "ready 0 0"]);
}

#[test]
fn what_was_parked_waits_for_the_one_that_is_first_meanwhile() {
    let decides: Heard = |event, actions| match *event {
        Event::Ready { group, message: MessageId(0), .. } => actions.park(group, MessageId(0)),
        Event::Joined { group, consumer, .. } => {
            actions.retry(group, MessageId(0), 0);
            actions.dispatch(group, MessageId(1), consumer, 0);
        }
        _ => {}
    };
    let mut policy = Scripted(Plan::dispatched_by_policy().order(Order::PerKey), decides);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(2, |_| Some("key".to_owned()));
    let ann = bench.join("ann", 1).expect("joins");
    assert!(bench.fates().eq([Fate::Waiting(0), Fate::InFlight(ann, 30_000)]));
    assert!(bench.ack(MessageId(1)));
    assert!(bench.fates().eq([Fate::Parked, Fate::Settled]), "it was shown, and parked again");
    assert_eq!(bench.refusals(), [] as [u8; 0]);
}

#[test]
fn what_was_parked_enters_its_line_as_it_comes_back() {
    // Parked while there is nobody: then the one wish is refused, later the other.
    let decides: Heard = |event, actions| match *event {
        Event::Ready { group, message, .. } => {
            actions.dispatch(group, message, ConsumerId(1), 0);
            actions.park(group, message);
        }
        Event::Joined { group, .. } => {
            actions.retry(group, MessageId(1), 0);
            actions.retry(group, MessageId(0), 0);
            // It stands behind the other: it does not wait for a time as well.
            actions.retry(group, MessageId(0), 500);
        }
        _ => {}
    };
    let mut policy = Scripted(Plan::dispatched_by_policy().order(Order::PerKey), decides);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(2, |_| Some("key".to_owned()));
    assert!(bench.fates().eq([Fate::Parked; 2]));
    bench.join("ann", 2).expect("joins");
    assert!(bench.held().eq([MessageId(1)]));
    assert!(bench.ack(MessageId(1)));
    assert!(bench.held().eq([MessageId(0)]));
    assert_eq!(bench.refusals(), [3, 3, 7, 7]);
}

#[test]
fn what_lies_beyond_the_window_is_no_message_yet() {
    let decides: Heard = |event, actions| {
        if let Event::Ready { group, .. } = *event {
            actions.dispatch(group, MessageId(1), ConsumerId(1), 0);
        }
    };
    let mut policy = Scripted(Plan::dispatched_by_policy().window(1), decides);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(2, |_| None);
    assert_eq!(bench.refusals(), [2]);
    assert_eq!(bench.held().count(), 0);
}

#[test]
fn a_consumer_that_is_not_there_and_too_many_timers_are_refused() {
    let wishes: Heard = |event, actions| {
        if let Event::Ready { group, message, .. } = *event {
            actions.dispatch(group, message, ConsumerId(1), 0);
            actions.extend(group, message, ConsumerId(9), 500);
            (0..=10_000).for_each(|token| actions.wake(group, token, 1));
        }
    };
    let mut policy = Scripted(Plan::dispatched_by_policy(), wishes);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(1, |_| None);
    assert_eq!(bench.refusals(), [3, 8]);
}

#[test]
fn what_is_parked_can_be_decided_on_and_what_has_ended_is_no_message() {
    let decides: Heard = |event, actions| {
        if let Event::Ready { group, message, .. } = *event {
            actions.park(group, message);
            actions.dead_letter(group, message, 1);
            actions.retry(group, message, 0);
            actions.discard(group, message, 1);
        }
    };
    let mut policy = Scripted(Plan::dispatched_by_policy(), decides);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.publish(1, |_| None);
    assert!(bench.fates().eq([Fate::DeadLettered]));
    assert_eq!(bench.refusals(), [2, 6], "it is gone; and there is no power to drop");
}

#[test]
fn a_policy_hears_how_long_a_lease_has_become() {
    let extends: Heard = |event, actions| match *event {
        Event::Ready { group, message, .. } => {
            actions.dispatch(group, message, ConsumerId(1), 1_000);
            actions.extend(group, message, ConsumerId(1), 500);
        }
        Event::Extended { left_ms, .. } => log_info!("{left_ms}"),
        _ => {}
    };
    let plan = Plan::dispatched_by_policy().interest(&[EventKind::Extended]);
    let mut policy = Scripted(plan, extends);
    let mut bench = Bench::open(&mut policy).expect("opens");
    bench.join("ann", 1).expect("joins");
    bench.publish(1, |_| None);
    assert_eq!(lines(), ["1500"]);
    assert!(bench.fates().eq([Fate::InFlight(ConsumerId(1), 1_500)]));
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
    assert!(kv::put("longest", b"", u64::MAX));
    assert_eq!(kv::get("longest"), Some(Vec::new()));
    assert!(kv::remove("longest"));
}

#[test]
fn one_look_for_keys_gives_as_many_as_in_the_broker() {
    for number in 0..1_030 {
        assert!(kv::put(&format!("key-{number}"), b"", 0));
    }
    assert_eq!(kv::keys("key-", 5).len(), 5);
    assert_eq!(kv::keys("key-", u32::MAX).len(), 1_024);
    for number in 0..1_030 {
        assert!(kv::remove(&format!("key-{number}")));
    }
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
fn metrics_are_what_the_broker_makes_of_them() {
    let (sizes, level) = (Histogram::new("sizes", "bytes"), Gauge::new("level", "now"));
    for value in [3.0, 4.0] {
        sizes.record(value);
        level.set(value);
    }
    assert_eq!((metric("sizes"), metric("level")), (Some(7.0), Some(4.0)));
    for name in ["rows-seen", "Rows", "", "7"] {
        Counter::new(name, "not a name of a metric").add(1);
        assert_eq!(metric(name), None, "{name}");
    }
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
