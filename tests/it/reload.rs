//! Policies exchanged while messages flow: what an operator does to files, and
//! what becomes of the messages meanwhile. Real folders, the real watch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use weir_client::{BindingStatus, Client, ConsumeOptions, Delivery, ErrorCode, Message};
use weir_guests::Guests;
use weir_tests::{TestBroker, now_ms, soon, until};

use crate::traffic::{Arrival, Traffic, make_queue};

/// A changed file is in force so soon after it is whole, ms.
const ACTIVE_MS_MAX: u64 = 1_000;
const BINDING: &str =
    "policy = 'in'\nrole = 'router'\nsubjects = ['in.>']\npowers = ['retarget']\n";

/// A router that sends `in.1` to `<letter>.in.1`: each letter is a component of
/// its own.
fn component(letter: &str) -> Vec<u8> {
    Guests::get().behaving(&format!("prefix@{letter}"))
}

/// A broker with the router of letter `a`, and a queue for whatever routers send.
async fn routed_by_a() -> (TestBroker, Client) {
    tokio::task::spawn_blocking(Guests::get).await.unwrap();
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    broker.put_binding("in", BINDING);
    broker.put_plugin("in", &component("a"));
    broker.active_after(&client, "in", 0).await;
    make_queue(&client, "out", "*.in.>").await;
    (broker, client)
}

/// Waits until a binding stands so, and tells its status.
async fn in_state(
    broker: &TestBroker,
    client: &Client,
    binding: &str,
    state: &str,
) -> BindingStatus {
    let mut found = BindingStatus::default();
    until(&format!("{binding} is {state}"), async || {
        found = broker.status(client, binding).await.unwrap_or_default();
        found.state == state
    })
    .await;
    found
}

/// Which letter each generation was, and how soon it was in force.
struct Log<'a> {
    broker: &'a TestBroker,
    client: &'a Client,
    traffic: &'a Traffic,
    letters: BTreeMap<(&'static str, u64), &'static str>,
    delays_ms: Vec<u64>,
}

impl Log<'_> {
    /// Does something to the files that brings the router of `letter` into force,
    /// as the next generation of `binding`.
    async fn change(&mut self, binding: &'static str, letter: &'static str, act: impl FnOnce()) {
        let after = self.broker.status(self.client, binding).await.map_or(0, |s| s.generation);
        let written_ms = now_ms();
        act();
        let status = self.broker.active_after(self.client, binding, after).await;
        assert_eq!(status.generation, after + 1);
        assert_eq!(status.error, None);
        self.delays_ms.push(status.since_ms.saturating_sub(written_ms));
        self.letters.insert((binding, status.generation), letter);
        self.traffic.more(128).await;
    }

    /// Does something to the files that cannot be used: the running generation
    /// stays, and the reason is told in one sentence.
    async fn refused(&self, binding: &str, reason: &str, act: impl FnOnce()) {
        let before = self.broker.status(self.client, binding).await.unwrap();
        act();
        let kept = in_state(self.broker, self.client, binding, "kept").await;
        assert_eq!(kept.generation, before.generation, "it runs on");
        assert_eq!(kept.digest, before.digest);
        let error = kept.error.unwrap();
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        self.traffic.more(128).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_judged_by_one_generation_whatever_happens_to_the_files() {
    let (broker, client) = routed_by_a().await;
    let traffic = Traffic::start(&broker, "in", "out").await;
    traffic.more(128).await;
    let (plugins, bindings) = (broker.plugins().to_owned(), broker.bindings().to_owned());
    let component_file = plugins.join("in.wasm");
    let compilations = broker.policies().counters().compilations;
    let letters = BTreeMap::from([(("in", 1), "a")]);
    let mut log =
        Log { broker: &broker, client: &client, traffic: &traffic, letters, delays_ms: Vec::new() };

    // Replaced, as a whole.
    log.change("in", "b", || broker.put_plugin("in", &component("b"))).await;
    // Broken, then good again.
    log.refused("in", "not a WebAssembly file", || broker.put_plugin("in", b"hello")).await;
    log.change("in", "c", || broker.put_plugin("in", &component("c"))).await;
    // Written in two halves: nothing happens until the second is there.
    let whole = component("d");
    let (first, second) = whole.split_at(whole.len() / 2);
    fs::write(&component_file, first).unwrap();
    let passes = broker.policies().counters().passes;
    until("the half was looked at", async || broker.policies().counters().passes > passes + 1)
        .await;
    let status = broker.status(&client, "in").await.unwrap();
    assert_eq!((status.generation, status.state.as_str()), (3, "active"), "half a file is none");
    log.change("in", "d", || {
        let mut file = fs::OpenOptions::new().append(true).open(&component_file).unwrap();
        std::io::Write::write_all(&mut file, second).unwrap();
    })
    .await;
    // The binding broken, put back, changed.
    log.refused("in", "bindings/in.toml", || broker.put_binding("in", "policy = 'in'\nsub")).await;
    broker.put_binding("in", BINDING);
    let status = in_state(&broker, &client, "in", "active").await;
    assert_eq!((status.generation, status.error), (4, None), "what runs was put back");
    let ordered = format!("{BINDING}order = 50\n");
    log.change("in", "d", || broker.put_binding("in", &ordered)).await;
    // Renamed: the new name is in force before the old one ends.
    log.change("renamed", "d", || {
        fs::rename(bindings.join("in.toml"), bindings.join("renamed.toml")).unwrap();
    })
    .await;
    in_state(&broker, &client, "in", "removed").await;
    // Links exchanged, as deployments do.
    let versions = plugins.join(".versions");
    fs::create_dir(&versions).unwrap();
    fs::write(versions.join("e.wasm"), component("e")).unwrap();
    symlink(versions.join("e.wasm"), plugins.join(".link")).unwrap();
    log.change("renamed", "e", || fs::rename(plugins.join(".link"), &component_file).unwrap())
        .await;
    let versions = bindings.join(".versions");
    fs::create_dir(&versions).unwrap();
    fs::write(versions.join("one"), BINDING).unwrap();
    symlink(versions.join("one"), bindings.join(".link")).unwrap();
    let renamed = bindings.join("renamed.toml");
    log.change("renamed", "e", || fs::rename(bindings.join(".link"), renamed).unwrap()).await;
    // Removed: it runs on, and says so.
    log.refused("renamed", "is gone", || fs::remove_file(&component_file).unwrap()).await;
    log.change("renamed", "f", || broker.put_plugin("in", &component("f"))).await;

    let now = broker.policies().counters().compilations;
    assert_eq!(now, compilations + 5, "once per component: b, c, d, e, f");
    traffic.more(2_000).await;
    assert_eq!(broker.policies().counters().compilations, now, "messages compile nothing");
    let Log { letters, delays_ms, .. } = log;
    // The fastest, since a busy machine may hold up any of them.
    let fastest = delays_ms.iter().min().unwrap();
    assert!(*fastest <= ACTIVE_MS_MAX, "in force after {delays_ms:?} ms");

    let arrivals = traffic.finish().await;
    let judged = rows_by_letter(&broker, &client, &letters).await;
    let mut arrived: BTreeMap<&str, u64> = BTreeMap::new();
    for Arrival { subject, .. } in &arrivals {
        *arrived.entry(subject.split('.').next().unwrap()).or_default() += 1;
    }
    assert_eq!(judged, arrived, "each generation judged what it sent, and nothing else");
    assert_eq!(arrived.len(), 6, "{arrived:?}");
    broker.stop().await;
}

/// What the generations judged by their own count, by letter.
async fn rows_by_letter(
    broker: &TestBroker,
    client: &Client,
    letters: &BTreeMap<(&'static str, u64), &'static str>,
) -> BTreeMap<&'static str, u64> {
    let mut judged = BTreeMap::new();
    for binding in ["in", "renamed"] {
        let status = broker.status(client, binding).await.unwrap();
        let now = (status.generation, status.rows);
        let before = status.previous.iter().map(|one| (one.generation, one.rows));
        for (generation, rows) in before.chain([now]).filter(|(generation, _)| *generation > 0) {
            *judged.entry(letters[&(binding, generation)]).or_default() += rows;
        }
    }
    judged
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_rolls_back_over_the_wire() {
    let (broker, client) = routed_by_a().await;
    let first = broker.status(&client, "in").await.unwrap();
    let mut consumer = client.consume("out").await.unwrap();
    let mut letter = async || {
        client.publish_confirmed(&[Message::new("in.1")]).await.unwrap();
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        delivery.ack();
        delivery.subject().split('.').next().unwrap().to_owned()
    };
    assert_eq!(letter().await, "a");
    let refusal = client.policy_rollback("in").await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::BadRequest, "nothing is before it");
    broker.put_plugin("in", &component("b"));
    broker.active_after(&client, "in", 1).await;
    assert_eq!(letter().await, "b");
    let status = client.policy_rollback("in").await.unwrap();
    assert_eq!((status.generation, &status.digest), (3, &first.digest));
    assert_eq!(status.state, "rolled-back");
    assert!(status.error.unwrap().contains("generation 2"));
    assert_eq!(letter().await, "a");
    broker.policies().rescan();
    assert_eq!(broker.status(&client, "in").await.unwrap().generation, 3, "the file stays out");
    assert_eq!(letter().await, "a");
    broker.put_plugin("in", &component("c"));
    assert_eq!(broker.active_after(&client, "in", 3).await.generation, 4);
    assert_eq!(letter().await, "c");
    let refusal = client.policy_rollback("nobody").await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::NotFound);
    broker.stop().await;
}

fn delivery(policy: &str, lease_ms: u32) -> String {
    format!("policy = '{policy}'\nqueues = ['jobs', 'out']\n[config]\nlease_ms = {lease_ms}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_survive_the_exchange_of_a_delivery_policy() {
    let broker = TestBroker::bound(&[("jobs", &delivery("at-least-once", 60_000))]).await;
    let client = broker.client().await;
    client.create_queue("jobs").await.unwrap();
    let keys: Vec<String> = (0..300).map(|row| row.to_string()).collect();
    let messages: Vec<Message<'_>> = keys.iter().map(|key| Message::new("jobs").key(key)).collect();
    client.publish_confirmed(&messages).await.unwrap();
    let mut consumer = client.consume_with("jobs", ConsumeOptions::credit(100)).await.unwrap();
    let mut take = async |count: usize| {
        let mut taken: Vec<Delivery> = Vec::new();
        while taken.len() < count {
            let next = soon("a message", consumer.next()).await.unwrap().unwrap();
            taken.push(next);
        }
        taken
    };
    let held = take(100).await;
    for (generation, policy) in [(2, "per-group"), (3, "at-least-once")] {
        broker.put_binding("jobs", &delivery(policy, 50_000));
        until("the queue has the next generation", async || {
            client.queue_info("jobs").await.unwrap().delivery.generation == generation
        })
        .await;
        let figures = client.queue_info("jobs").await.unwrap().delivery;
        assert_eq!((figures.in_flight, figures.lag), (100, 300), "{policy}: leases are kept");
        assert_eq!(figures.binding, "jobs");
    }
    held.iter().for_each(Delivery::ack);
    let mut rest = take(100).await;
    rest.iter().for_each(Delivery::ack);
    rest.extend(take(100).await);
    rest[100..].iter().for_each(Delivery::ack);
    until("all is settled", async || client.queue_info("jobs").await.unwrap().delivery.lag == 0)
        .await;
    let figures = client.queue_info("jobs").await.unwrap().delivery;
    assert_eq!((figures.acked, figures.delivered), (300, 300), "acks count as before");
    assert_eq!((figures.redelivered, figures.expired), (0, 0));
    let mut offsets: Vec<u64> = held.iter().chain(&rest).map(|one| one.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..300).collect::<Vec<u64>>());
    assert!(held.iter().chain(&rest).all(|one| one.attempt == 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_policy_is_exchanged_under_load() {
    let broker = TestBroker::bound(&[("jobs", &delivery("at-least-once", 60_000))]).await;
    let client = broker.client().await;
    make_queue(&client, "out", "in.>").await;
    let traffic = Traffic::start(&broker, "in", "out").await;
    for round in 1..=6 {
        traffic.more(256).await;
        let policy = if round % 2 == 1 { "per-group" } else { "at-least-once" };
        broker.put_binding("jobs", &delivery(policy, 60_000 + round));
        until("the queue has the next generation", async || {
            client.queue_info("out").await.unwrap().delivery.generation == u64::from(round) + 1
        })
        .await;
    }
    traffic.more(256).await;
    let published = traffic.finish().await.len() as u64;
    until("all is settled", async || client.queue_info("out").await.unwrap().delivery.lag == 0)
        .await;
    let figures = client.queue_info("out").await.unwrap().delivery;
    assert_eq!((figures.acked, figures.redelivered, figures.expired), (published, 0, 0));
    broker.stop().await;
}
