//! Components that loop, eat memory, panic or are no policies at all, dropped into
//! the folders of a broker at work: what it says of them, and that nobody else
//! notices.

use weir_client::{BindingStatus, Client, ConsumeOptions, ErrorCode, Message};
use weir_guests::Guests;
use weir_tests::{TestBroker, soon, until};

use crate::traffic::{Traffic, make_queue};

/// The traffic of others: a router that is asked about each message, a filter, and
/// a delivery policy, all of its own.
const STEADY: [(&str, &str); 3] = [
    (
        "steady-router",
        "policy = 'headers-router'\nsubjects = ['steady.>']\npowers = ['retarget']\n\
         [config]\notherwise = 'kept.{$subject}'\n",
    ),
    (
        "steady-filter",
        "policy = 'header-filter'\nsubjects = ['steady.>']\n\
         [config]\nkeep = { not = { header = 'bad', op = 'exists' } }\n",
    ),
    ("steady-delivery", "policy = 'at-least-once'\nqueues = ['steady']\n"),
];

/// Binding and plugin, what the component does, and what is said of it. Touching
/// the default 64 MiB takes longer than a call may; with less, the eater meets its
/// own limit.
const AT_WORK: [(&str, &str, &str); 3] = [
    ("looping", "loop", "ran past its 20 ms"),
    ("eating", "eat-memory", "2 MiB"),
    ("panicking", "panic", "trapped"),
];
/// What is refused before it works.
const REFUSED: [(&str, &str); 2] =
    [("wrong-import", "secret"), ("garbage", "not a WebAssembly file")];

async fn guests() -> &'static Guests {
    tokio::task::spawn_blocking(Guests::get).await.unwrap()
}

/// Waits until `ready` holds of a binding's status, and tells it.
async fn status_when(
    broker: &TestBroker,
    client: &Client,
    binding: &str,
    ready: impl Fn(&BindingStatus) -> bool,
) -> BindingStatus {
    let mut found = BindingStatus::default();
    until(&format!("the status of {binding}"), async || {
        found = broker.status(client, binding).await.unwrap_or_default();
        ready(&found)
    })
    .await;
    found
}

fn assert_one_sentence(error: &str, part: &str) {
    assert!(error.contains(part), "{part:?} is not in: {error}");
    assert!(!error.contains('\n'), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_routers_are_named_and_nobody_else_notices() {
    let guests = guests().await;
    let broker = TestBroker::bound(&STEADY).await;
    let client = broker.client().await;
    make_queue(&client, "steady", "kept.>").await;
    let traffic = Traffic::start(&broker, "steady", "steady").await;
    traffic.more(256).await;

    let names = AT_WORK.iter().map(|(name, ..)| *name).chain(REFUSED.map(|(name, _)| name));
    for name in names {
        let toml = format!(
            "policy = '{name}'\nrole = 'router'\nsubjects = ['hostile.{name}']\n\
             [limits]\nmemory-mib = 2\n"
        );
        broker.put_binding(name, &toml);
    }
    for (name, behaviour, _) in AT_WORK {
        broker.put_plugin(name, &guests.behaving(behaviour));
    }
    broker.put_plugin("wrong-import", &guests.wrong_import);
    broker.put_plugin("garbage", b"not at all");
    for (name, reason) in REFUSED {
        let status = status_when(&broker, &client, name, |status| {
            status.error.as_ref().is_some_and(|error| error.contains(reason))
        })
        .await;
        assert_eq!((status.state.as_str(), status.generation), ("failed", 0));
        assert_one_sentence(&status.error.unwrap(), reason);
    }
    for (name, _, reason) in AT_WORK {
        broker.active_after(&client, name, 0).await;
        let subject = format!("hostile.{name}");
        let messages = [Message::new(&subject).payload("x")];
        let mut status = BindingStatus::default();
        until(&format!("{name} is told to fail"), async || {
            let receipt = client.publish_confirmed(&messages).await.unwrap();
            // The failure rule: the publisher is told.
            let refusal = &receipt.refusals[0];
            assert_eq!(refusal.code, ErrorCode::PolicyFailed, "{refusal:?}");
            status = broker.status(&client, name).await.unwrap();
            status.state == "failing"
        })
        .await;
        assert!(status.traps > 0, "{status:?}");
        assert_one_sentence(&status.error.unwrap(), reason);
        traffic.more(256).await;
    }
    traffic.finish().await;
    for (name, _) in STEADY {
        let status = broker.status(&client, name).await.unwrap();
        assert_eq!((status.state.as_str(), status.generation, status.traps), ("active", 1, 0));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_delivery_policies_and_filters_lose_nothing() {
    let guests = guests().await;
    let broker = TestBroker::bound(&STEADY).await;
    let client = broker.client().await;
    make_queue(&client, "steady", "kept.>").await;
    let traffic = Traffic::start(&broker, "steady", "steady").await;
    for (name, behaviour) in
        [("panics", "panic"), ("loops", "loop"), ("answers-nonsense", "unknown-codes")]
    {
        let queue = format!("of-{name}");
        client.create_queue(&queue).await.unwrap();
        let toml = format!("policy = '{name}'\nrole = 'delivery'\nqueues = ['{queue}']\n");
        broker.put_binding(name, &toml);
        broker.put_plugin(name, &guests.behaving(behaviour));
        status_when(&broker, &client, name, |status| status.generation > 0).await;
        let messages = vec![Message::new(&queue).payload("x"); 50];
        let receipt = client.publish_confirmed(&messages).await.unwrap();
        assert_eq!((receipt.stored, receipt.refused()), (50, 0));
        // The broker's own plan takes over.
        let mut consumer = client.consume_with(&queue, ConsumeOptions::credit(100)).await.unwrap();
        for offset in 0..50 {
            let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
            assert_eq!((delivery.offset, delivery.attempt), (offset, 1), "{name}");
            delivery.ack();
        }
        let status = status_when(&broker, &client, name, |status| status.error.is_some()).await;
        assert_eq!(status.state, "failing");
        assert_one_sentence(&status.error.unwrap(), "the built-in at-least-once plan applies");
        traffic.more(128).await;
    }
    // A filter that fails: its own failure rule, for its own subjects.
    for (rule, stored) in [("pass", 10), ("refuse", 0)] {
        let name = format!("filter-{rule}");
        let toml = format!(
            "policy = '{name}'\nrole = 'filter'\nsubjects = ['{rule}']\non-failure = '{rule}'\n"
        );
        client.create_queue(rule).await.unwrap();
        broker.put_binding(&name, &toml);
        broker.put_plugin(&name, &guests.behaving("panic"));
        broker.active_after(&client, &name, 0).await;
        let messages = vec![Message::new(rule).payload("x"); 10];
        let mut status = BindingStatus::default();
        until(&format!("{name} is told to fail"), async || {
            let receipt = client.publish_confirmed(&messages).await.unwrap();
            assert_eq!((receipt.stored, receipt.refused()), (stored, 10 - stored), "{rule}");
            status = broker.status(&client, &name).await.unwrap();
            status.error.is_some()
        })
        .await;
        assert_one_sentence(&status.error.unwrap(), "trapped");
        traffic.more(128).await;
    }
    traffic.finish().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_successor_is_taken_back_while_messages_flow() {
    let guests = guests().await;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    make_queue(&client, "out", "good.>").await;
    let toml = "policy = 'in'\nrole = 'router'\nsubjects = ['in.>']\npowers = ['retarget']\n";
    broker.put_binding("in", toml);
    broker.put_plugin("in", &guests.behaving("prefix@good"));
    broker.active_after(&client, "in", 0).await;
    let traffic = Traffic::start(&broker, "in", "out").await;
    for (at, behaviour) in [(2, "panic"), (4, "loop")] {
        traffic.more(128).await;
        broker.put_plugin("in", &guests.behaving(behaviour));
        let status = status_when(&broker, &client, "in", |status| {
            status.state == "rolled-back" && status.generation > at
        })
        .await;
        assert_eq!(status.generation, at + 1);
        assert_one_sentence(&status.error.unwrap(), &format!("generation {at} failed"));
    }
    traffic.more(128).await;
    // Each message arrived once, by the good one: nothing was lost to the bad.
    let arrivals = traffic.finish().await;
    assert!(arrivals.iter().all(|arrival| arrival.subject.starts_with("good.in.")));
    broker.stop().await;
}
