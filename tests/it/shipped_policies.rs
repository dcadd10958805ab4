//! The shipped policies, each as a component built from its source, in a broker,
//! doing what its page promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use weir_client::{Client, ConsumeOptions, Consumer, Delivery, ErrorCode, Message, Receipt};
use weir_guests::{target_folder, toolchain};
use weir_tests::{Random, TestBroker, soon, until};
use weir_toolchain::{Built, shipped};

use crate::traffic::make_queue;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The shipped policies, built from source by the first caller of this process.
/// Cargo builds only what has changed since the last run.
fn built() -> &'static [Built] {
    static BUILT: OnceLock<Vec<Built>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = target_folder();
        let toolchain = toolchain().unwrap();
        match shipped::rebuild(root(), &shipped::NAMES, toolchain, &target, &target) {
            Ok(built) => built,
            Err(error) => panic!("{error}"),
        }
    })
}

/// A broker whose policies are those built here, not the copies it embeds, with
/// these bindings in force.
async fn broker(bindings: &[(&str, &str)]) -> (TestBroker, Client) {
    let built = tokio::task::spawn_blocking(built).await.unwrap();
    let policy_of = |toml: &str| toml.split('\'').nth(1).unwrap().to_owned();
    let policies: Vec<String> = bindings.iter().map(|(_, toml)| policy_of(toml)).collect();
    let broker = TestBroker::start_with(|config| {
        // Only those that a binding names: others would bind themselves.
        for policy in built.iter().filter(|policy| policies.contains(&policy.package)) {
            let file = config.plugins.join(format!("{}.wasm", policy.package));
            std::fs::write(file, &policy.component).unwrap();
        }
        for (name, toml) in bindings {
            std::fs::write(config.bindings.join(format!("{name}.toml")), toml).unwrap();
        }
    })
    .await;
    let client = broker.client().await;
    for (name, toml) in bindings {
        let status = broker.status(&client, name).await.unwrap();
        assert_eq!((status.state.as_str(), &status.error), ("active", &None), "{name}");
        let policy = policy_of(toml);
        let list = broker.policies().list();
        let listed = list.iter().find(|listed| listed.name == policy).unwrap();
        assert!(listed.file.ends_with(".wasm"), "{policy} is the file, not the embedded copy");
        assert_eq!(status.digest, listed.digest);
    }
    (broker, client)
}

/// Publishes and expects nothing to be refused.
async fn publish(client: &Client, messages: &[Message<'_>]) -> Receipt {
    let receipt = client.publish_confirmed(messages).await.unwrap();
    assert_eq!(receipt.refusals, []);
    receipt
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon("a message", consumer.next()).await.unwrap().unwrap()
}

/// Where messages went: subjects of a subscription to everything, in the order
/// they were published.
async fn routed(client: &Client, messages: &[Message<'_>], copies: usize) -> Vec<String> {
    let mut subscription = client.subscribe(">").await.unwrap();
    publish(client, messages).await;
    let mut subjects = Vec::new();
    while subjects.len() < copies {
        let delivery = soon("a copy", subscription.next()).await.unwrap().unwrap();
        subjects.push(delivery.subject().to_owned());
    }
    subjects
}

#[test]
fn the_embedded_copies_are_what_the_sources_say() {
    if let Err(stale) = shipped::verify(root()) {
        let lines: Vec<String> = stale.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
    let embedded: Vec<&str> = weir_shipped::SHIPPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(embedded, shipped::NAMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_forgets_what_a_lost_consumer_held() {
    let (broker, client) =
        broker(&[("metrics", "policy = 'at-most-once'\nqueues = ['m']\n")]).await;
    client.create_queue("m").await.unwrap();
    let first = broker.client().await;
    let mut consumer = first.consume_with("m", ConsumeOptions::credit(10)).await.unwrap();
    publish(&client, &vec![Message::new("m"); 15]).await;
    for offset in 0..10 {
        assert_eq!(next(&mut consumer).await.offset, offset);
    }
    // It goes without a word; what it held is settled.
    drop(consumer);
    first.close().await;
    let mut consumer = client.consume("m").await.unwrap();
    for offset in 10..15 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.offset, delivery.attempt), (offset, 1));
    }
    until("all is settled", async || client.queue_info("m").await.unwrap().delivery.lag == 0).await;
    let figures = client.queue_info("m").await.unwrap().delivery;
    assert_eq!((figures.delivered, figures.redelivered), (15, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_backs_off_counts_and_buries() {
    const PAUSE: Duration = Duration::from_millis(40);
    let toml = "policy = 'at-least-once'\nqueues = ['orders']\npowers = ['dead-letter']\n\
                [config]\nattempts = 4\n\
                retry = { first_ms = 40, max_ms = 100, growth_percent = 200 }\n";
    let (broker, client) = broker(&[("orders", toml)]).await;
    client.create_queue("orders").await.unwrap();
    let mut consumer = client.consume_with("orders", ConsumeOptions::credit(10)).await.unwrap();
    let poison = Message::new("orders").key("k").header("trace", "t1").payload("poison");
    publish(&client, &[poison, Message::new("orders").payload("good")]).await;
    let first = next(&mut consumer).await;
    let good = next(&mut consumer).await;
    assert_eq!((first.payload(), good.payload()), (&b"poison"[..], &b"good"[..]));
    good.ack();
    // Pauses of 40, 80 and 100 ms: never less, however busy the machine.
    let mut given_back = Instant::now();
    first.nack(0);
    for (attempt, pause) in [(2, PAUSE), (3, PAUSE * 2), (4, Duration::from_millis(100))] {
        let again = next(&mut consumer).await;
        let waited = given_back.elapsed();
        assert_eq!((again.offset, again.attempt), (0, attempt));
        assert!(waited >= pause - Duration::from_millis(2), "attempt {attempt} after {waited:?}");
        given_back = Instant::now();
        again.nack(0);
    }
    until("it is buried", async || {
        client.queue_info("orders").await.unwrap().delivery.dead_lettered == 1
    })
    .await;
    let mut dead = client.consume("orders/dead").await.unwrap();
    let delivery = next(&mut dead).await;
    let header = |name: &str| String::from_utf8_lossy(delivery.header(name).unwrap()).into_owned();
    assert_eq!((delivery.payload(), delivery.key()), (&b"poison"[..], &b"k"[..]));
    assert_eq!(delivery.subject(), "orders");
    assert_eq!(header("trace"), "t1");
    assert_eq!(header("weir-dead-reason"), "exhausted");
    assert_eq!(header("weir-dead-source"), "orders");
    assert_eq!(header("weir-dead-offset"), "0");
    assert_eq!(header("weir-dead-attempts"), "4");
    let figures = client.queue_info("orders").await.unwrap().delivery;
    assert_eq!((figures.lag, figures.acked, figures.nacked), (0, 1, 4));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_takes_back_what_is_forgotten_or_lost() {
    let toml = "policy = 'at-least-once'\nqueues = ['q']\n\
                [config]\nlease_ms = 150\nattempts = 3\nretry = { first_ms = 0, max_ms = 0 }\n";
    let (broker, client) = broker(&[("q", toml)]).await;
    client.create_queue("q").await.unwrap();
    let mut consumer = client.consume("q").await.unwrap();
    publish(&client, &[Message::new("q").payload("x")]).await;
    // Never settled: each lease runs out; then, without the power, it waits.
    for attempt in 1..=3 {
        assert_eq!(next(&mut consumer).await.attempt, attempt);
    }
    until("it is parked", async || client.queue_info("q").await.unwrap().delivery.parked == 1)
        .await;
    let figures = client.queue_info("q").await.unwrap().delivery;
    assert_eq!((figures.expired, figures.dead_lettered, figures.lag), (3, 0, 1));
    broker.stop().await;
}

/// One group: who took which message of which key, in the order it was settled.
#[derive(Default)]
struct Taken {
    rows: Vec<(usize, u64)>,
    /// Keys that more than one member had.
    members: BTreeMap<usize, BTreeSet<usize>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn per_group_keeps_keys_in_order_while_members_join_and_leave() {
    const KEYS: usize = 13;
    const ROWS: u64 = 3_000;
    let toml = "policy = 'per-group'\ngroups = ['orders/*']\n";
    let (broker, client) = broker(&[("orders", toml)]).await;
    client.create_stream("orders", 4, &["orders.>"]).await.unwrap();
    for group in ["billing", "audit"] {
        client.create_group("orders", group, weir_client::Start::Earliest).await.unwrap();
    }
    let publishing = broker.client().await;
    let publishing = tokio::spawn(async move {
        let keys: Vec<String> = (0..KEYS).map(|key| format!("key-{key}")).collect();
        for first in (0..ROWS).step_by(100) {
            let payloads: Vec<String> = (first..first + 100).map(|row| row.to_string()).collect();
            let message = |(at, payload)| {
                let key = &keys[(first as usize + at) % KEYS];
                Message::new("orders.new").key(key).payload(payload)
            };
            let messages: Vec<Message<'_>> = payloads.iter().enumerate().map(message).collect();
            publish(&publishing, &messages).await;
        }
    });
    let (billing, audit) =
        tokio::join!(storm(&broker, "billing", KEYS, ROWS), storm(&broker, "audit", KEYS, ROWS));
    publishing.await.unwrap();
    for taken in [billing, audit] {
        assert_eq!(taken.rows.len() as u64, ROWS, "one copy of each message for each group");
        for key in 0..KEYS {
            let mut of_key = taken.rows.iter().filter(|(of, _)| *of == key).map(|(_, row)| *row);
            assert!(of_key.clone().is_sorted(), "key {key}: {:?}", of_key.collect::<Vec<_>>());
            assert_eq!(of_key.next(), Some(key as u64));
        }
        assert!(taken.members.values().any(|of| of.len() > 1), "members took over from others");
    }
    for group in ["billing", "audit"] {
        until("all is settled", async || {
            client.group_info("orders", group).await.unwrap().delivery.lag == 0
        })
        .await;
        let figures = client.group_info("orders", group).await.unwrap().delivery;
        assert_eq!((figures.acked, figures.expired), (ROWS, 0));
    }
    broker.stop().await;
}

/// Consumes a group by two members at a time, the older of which leaves after a
/// while for a new one, until all rows are settled.
async fn storm(broker: &TestBroker, group: &str, keys: usize, rows: u64) -> Taken {
    let mut random = Random::seeded(group.len() as u64);
    let mut taken = Taken::default();
    let mut members = std::collections::VecDeque::new();
    let mut number = 0;
    while (taken.rows.len() as u64) < rows {
        while members.len() < 2 {
            let client = broker.client().await;
            let options = ConsumeOptions::credit(20 + random.below(60) as u32);
            let consumer = client.consume_group("orders", group, options).await.unwrap();
            members.push_back((number, consumer, client));
            number += 1;
        }
        // A turn: each member takes some, then the oldest leaves with what it has.
        for _ in 0..random.below(8) + 2 {
            for (member, consumer, _) in &mut members {
                let wait = tokio::time::timeout(Duration::from_millis(20), consumer.next_batch());
                let Ok(batch) = wait.await else { continue };
                let batch = batch.unwrap().unwrap();
                for delivery in &batch {
                    let row: u64 =
                        std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
                    let key = row as usize % keys;
                    taken.rows.push((key, row));
                    taken.members.entry(key).or_default().insert(*member);
                }
                batch.ack();
                consumer.flush().await.unwrap();
            }
        }
        if let Some((_, consumer, client)) = members.pop_front() {
            drop(consumer);
            client.close().await;
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn subject_router_keeps_rewrites_and_fans_out() {
    let toml = "policy = 'subject-router'\nsubjects = ['orders.>']\npowers = ['retarget']\n\
                [config]\notherwise = 'orders.unknown'\n\
                [[config.rules]]\npattern = 'orders.*.created'\nto = ['billing.{1}', '{$subject}']\n\
                [[config.rules]]\npattern = 'orders.old.>'\nto = 'archive.{>}'\n";
    let (broker, client) = broker(&[("orders", toml)]).await;
    let messages: Vec<Message<'_>> =
        ["orders.7.created", "orders.old.1999.12", "orders.7.paid", "mail"]
            .map(Message::new)
            .into();
    let expected = ["billing.7", "orders.7.created", "archive.1999.12", "orders.unknown", "mail"];
    assert_eq!(routed(&client, &messages, 5).await, expected);
    // The subject alone decides: the answer is remembered.
    assert_eq!(routed(&client, &messages, 5).await, expected);
    let status = broker.status(&client, "orders").await.unwrap();
    assert_eq!(status.rows, 6, "all of its subjects, asked about or remembered");
    assert!(status.calls <= 3, "{status:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_router_keeps_weights_and_keys() {
    let toml = "policy = 'split-router'\nsubjects = ['jobs.>']\npowers = ['retarget']\n\
                [[config.rules]]\npattern = 'jobs.turn'\nby = 'turn'\n\
                split = [{ to = 'a.{$subject}', weight = 3 }, { to = 'b.{$subject}', weight = 1 }]\n\
                [[config.rules]]\npattern = 'jobs.*'\n\
                split = [{ to = 'a.{1}', weight = 3 }, { to = 'b.{1}', weight = 1 }]\n";
    let (broker, client) = broker(&[("jobs", toml)]).await;
    let turns = routed(&client, &vec![Message::new("jobs.turn"); 400], 400).await;
    let to_a = turns.iter().filter(|subject| *subject == "a.jobs.turn").count();
    // Each instance takes its own turns, so a stretch may end in the middle of one.
    assert!((297..=303).contains(&to_a), "{to_a} of {}, 300 expected", turns.len());
    let keys: Vec<String> = (0..400).map(|key| format!("key-{key}")).collect();
    let messages: Vec<Message<'_>> =
        keys.iter().map(|key| Message::new("jobs.x").key(key)).collect();
    let first = routed(&client, &messages, 400).await;
    let to_a = first.iter().filter(|subject| *subject == "a.x").count();
    assert!((260..=340).contains(&to_a), "{to_a} of 400, 300 expected");
    assert_eq!(routed(&client, &messages, 400).await, first, "a key always goes the same way");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_router_decides_by_headers() {
    let toml = "policy = 'headers-router'\nsubjects = ['events.>']\npowers = ['retarget']\n\
                [config]\notherwise = 'events.other'\n\
                [[config.rules]]\n\
                when = { all = [{ header = 'region', value = 'eu' }, { header = 'tier', op = 'in', value = ['gold', 'silver'] }] }\n\
                to = 'events.{region}.{tier}'\n\
                [[config.rules]]\n\
                when = { any = [{ header = 'debug', op = 'exists' }, { header = 'retries', op = 'gt', value = 3 }] }\n\
                to = ['inspect', '{$subject}']\n";
    let (broker, client) = broker(&[("events", toml)]).await;
    let event = || Message::new("events.x").payload("not read");
    let messages = [
        event().header("region", "eu").header("tier", "gold"),
        event().header("region", "eu").header("tier", "lead"),
        event().header("retries", "4"),
        event().header("retries", "3"),
        event().header("debug", ""),
        event(),
    ];
    let expected = [
        "events.eu.gold",
        "events.other",
        "inspect",
        "events.x",
        "events.other",
        "inspect",
        "events.x",
        "events.other",
    ];
    assert_eq!(routed(&client, &messages, 8).await, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_router_decides_by_nested_fields() {
    let toml = "policy = 'json-router'\nsubjects = ['flights']\npowers = ['retarget']\n\
                [config]\notherwise = 'flights.on-time'\n\
                [[config.rules]]\n\
                when = { all = [{ field = 'delay', op = 'gt', value = 60 }, { field = 'route.distance', op = 'ge', value = 1000 }] }\n\
                to = 'flights.late.long'\n\
                [[config.rules]]\n\
                when = { field = 'route.to.country', op = 'in', value = ['DE', 'AT'] }\n\
                to = 'flights.{route.to.country}.{stops.0}'\n";
    let (broker, client) = broker(&[("flights", toml)]).await;
    let rows = [
        (r#"{"delay": 61, "route": {"distance": 1000}}"#, "flights.late.long"),
        (r#"{"delay": 61, "route": {"distance": 999.5}}"#, "flights.on-time"),
        (r#"{"route": {"to": {"country": "DE"}}, "stops": ["M.U C", "VIE"]}"#, "flights.DE.M_U_C"),
        // No stops: the placeholder has no value, the rule does not hold.
        (r#"{"route": {"to": {"country": "AT"}}, "stops": []}"#, "flights.on-time"),
        (r#"{"delay": "61", "route": {"distance": 2000}}"#, "flights.on-time"),
        ("no json", "flights.on-time"),
        ("", "flights.on-time"),
    ];
    let messages: Vec<Message<'_>> =
        rows.iter().map(|(payload, _)| Message::new("flights").payload(*payload)).collect();
    let expected: Vec<&str> = rows.iter().map(|(_, target)| *target).collect();
    assert_eq!(routed(&client, &messages, rows.len()).await, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_filter_refuses_drops_and_diverts() {
    let filter = |subject: &str, otherwise: &str, power: &str| {
        format!(
            "policy = 'header-filter'\nsubjects = ['{subject}']\npowers = [{power}]\n[config]\n\
             keep = {{ header = 'tenant', op = 'exists' }}\notherwise = '{otherwise}'\n\
             reason = 'no tenant'\n"
        )
    };
    let (broker, client) = broker(&[
        ("refusing", &filter("refused", "refuse", "")),
        ("dropping", &filter("dropped", "drop", "'drop'")),
        ("diverting", &filter("diverted", "divert", "'dead-letter'")),
    ])
    .await;
    for subject in ["refused", "dropped", "diverted"] {
        client.create_queue(subject).await.unwrap();
        let with = Message::new(subject).header("tenant", "t").payload("with");
        let without = Message::new(subject).payload("without");
        let receipt = client.publish_confirmed(&[with, without]).await.unwrap();
        assert_eq!(client.queue_info(subject).await.unwrap().messages, 1, "{subject}");
        match subject {
            "refused" => {
                let refusal = &receipt.refusals[0];
                assert_eq!((refusal.position, refusal.code), (1, ErrorCode::PolicyRefused));
                assert!(refusal.message.contains("no tenant"), "{}", refusal.message);
            }
            _ => assert_eq!(receipt.refusals, []),
        }
    }
    let mut dead = client.consume("diverting/dead").await.unwrap();
    let delivery = next(&mut dead).await;
    assert_eq!((delivery.subject(), delivery.payload()), ("diverted", &b"without"[..]));
    assert_eq!(delivery.header("weir-dead-reason").unwrap(), b"no tenant");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_filter_judges_what_is_published_and_what_is_delivered() {
    let keep = "keep = { all = [{ field = 'id', op = 'exists' }, { field = 'total', op = 'gt', value = 0 }] }";
    let at_publish = format!("policy = 'json-filter'\nsubjects = ['orders']\n[config]\n{keep}\n");
    let at_delivery = format!(
        "policy = 'json-filter'\nstage = 'deliver'\nqueues = ['all']\ngroups = ['log/chosen']\n\
         powers = ['drop']\n[config]\n{keep}\notherwise = 'drop'\n"
    );
    let (broker, client) = broker(&[("orders", &at_publish), ("chosen", &at_delivery)]).await;
    client.create_queue("orders").await.unwrap();
    make_queue(&client, "all", "everything").await;
    client.create_stream("log", 1, &["everything"]).await.unwrap();
    for group in ["chosen", "others"] {
        client.create_group("log", group, weir_client::Start::Earliest).await.unwrap();
    }
    let payloads = [
        r#"{"id": 1, "total": 5}"#,
        r#"{"id": 2, "total": 0}"#,
        "{}",
        r#"{"id": 3, "total": 0.5}"#,
    ];
    let of = |subject| payloads.map(|payload| Message::new(subject).payload(payload));
    let receipt = client.publish_confirmed(&of("orders")).await.unwrap();
    // In one run or two: on a machine with much to do, the filter may be asked twice.
    let rows = receipt.refusals.iter().flat_map(|refusal| {
        assert_eq!(refusal.code, ErrorCode::PolicyRefused, "{}", refusal.message);
        refusal.position..refusal.position + refusal.count
    });
    let refused: Vec<u64> = rows.collect();
    assert_eq!((receipt.stored, refused), (2, vec![1, 2]));
    // What is judged when it is delivered is stored first, for whoever else reads.
    assert_eq!(publish(&client, &of("everything")).await.stored, 8);
    let mut all = client.consume("all").await.unwrap();
    let mut chosen =
        client.consume_group("log", "chosen", ConsumeOptions::default()).await.unwrap();
    let mut others =
        client.consume_group("log", "others", ConsumeOptions::default()).await.unwrap();
    for (consumer, offsets) in
        [(&mut all, &[0, 3][..]), (&mut chosen, &[0, 3]), (&mut others, &[0, 1, 2, 3])]
    {
        for offset in offsets {
            let delivery = next(consumer).await;
            assert_eq!(delivery.offset, *offset);
            assert_eq!(delivery.payload(), payloads[*offset as usize].as_bytes());
            delivery.ack();
        }
    }
    until("all is settled", async || client.queue_info("all").await.unwrap().messages == 0).await;
    assert_eq!(client.queue_info("all").await.unwrap().delivery.dropped, 2, "and counted");
    broker.stop().await;
}
