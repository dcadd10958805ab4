//! Channels: whatever is published reaches whoever listens now, once, in order.

use std::collections::BTreeSet;

use weir_client::{Message, SubscribeOptions, Subscription};
use weir_tests::{TestBroker, at_hand, soon};

/// The next `count` payloads of a subscription.
async fn payloads(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = soon("a message", subscription.next_batch()).await.unwrap().unwrap();
        for delivery in &batch {
            taken.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_choose_what_is_heard() {
    let broker = TestBroker::start().await;
    let (listener, publisher) = (broker.client().await, broker.client().await);
    let mut exact = listener.subscribe("air.berlin").await.unwrap();
    let mut one = listener.subscribe("air.*").await.unwrap();
    let mut part = listener.subscribe("air.b*").await.unwrap();
    let mut rest = listener.subscribe("air.>").await.unwrap();
    let messages: Vec<Message<'_>> =
        ["air.berlin", "air.paris", "air.berlin.mitte", "water.berlin", "air.berlin"]
            .into_iter()
            .map(|subject| Message::new(subject).payload(subject))
            .collect();
    let receipt = publisher.publish_confirmed(&messages).await.unwrap();
    assert_eq!((receipt.messages, receipt.unrouted), (5, 1), "nobody hears of water");
    assert_eq!((receipt.stored, receipt.reached), (0, 2 + 3 + 2 + 4));
    assert!(receipt.refusals.is_empty());
    assert_eq!(payloads(&mut exact, 2).await, ["air.berlin", "air.berlin"]);
    assert_eq!(payloads(&mut one, 3).await, ["air.berlin", "air.paris", "air.berlin"]);
    assert_eq!(payloads(&mut part, 2).await, ["air.berlin", "air.berlin"]);
    assert_eq!(
        payloads(&mut rest, 4).await,
        ["air.berlin", "air.paris", "air.berlin.mitte", "air.berlin"]
    );
    // Nothing more is on its way: what comes next is what is published next.
    publisher.publish("air.berlin", "last").await.unwrap();
    for subscription in [&mut exact, &mut one, &mut part, &mut rest] {
        assert_eq!(payloads(subscription, 1).await, ["last"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_message_arrives_as_it_was_sent() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut subscription = client.subscribe("parts").await.unwrap();
    let payload: Vec<u8> = (0..=255).collect();
    let message = Message::new("parts")
        .key(&[0, 255, 7])
        .header("trace", "a b")
        .header_bytes("raw", &[0, 1, 254])
        .payload(&payload);
    client.publish_message(&message).await.unwrap();
    let delivery = soon("the message", subscription.next()).await.unwrap().unwrap();
    assert_eq!(delivery.subject(), "parts");
    assert_eq!(delivery.key(), [0, 255, 7]);
    assert_eq!(delivery.header("trace").unwrap(), b"a b");
    assert_eq!(delivery.header("raw").unwrap(), [0, 1, 254]);
    assert_eq!(delivery.payload(), payload);
    assert_eq!(delivery.attempt, 1);
    assert!(delivery.time_ms.abs_diff(weir_tests::now_ms()) < 60_000, "the broker's time");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_publisher_keep_their_order_for_everyone() {
    const COUNT: usize = 20_000;
    let broker = TestBroker::start().await;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let client = broker.client().await;
        listeners.push((client.subscribe("steps.>").await.unwrap(), client));
    }
    let publisher = broker.client().await;
    let publish = tokio::spawn(async move {
        for number in 0..COUNT {
            let subject = format!("steps.{}", number % 7);
            publisher.publish(&subject, number.to_string()).await.unwrap();
        }
        publisher.ping().await.unwrap();
    });
    for (listener, _client) in &mut listeners {
        let numbers = payloads(listener, COUNT).await;
        assert!(numbers.iter().enumerate().all(|(at, number)| *number == at.to_string()));
        assert_eq!(listener.skipped(), 0);
    }
    soon("the publisher ends", publish).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_group_gets_each_message_once_and_all_members_work() {
    const COUNT: usize = 3_000;
    let broker = TestBroker::start().await;
    let publisher = broker.client().await;
    let share =
        |name: &str| SubscribeOptions { share: Some(name.into()), ..SubscribeOptions::default() };
    let mut members = Vec::new();
    for _ in 0..3 {
        let client = broker.client().await;
        members.push((client.subscribe_with("jobs.*", share("workers")).await.unwrap(), client));
    }
    let other_client = broker.client().await;
    let mut other = other_client.subscribe_with("jobs.*", share("audit")).await.unwrap();
    let mut alone = other_client.subscribe("jobs.>").await.unwrap();
    let mut reached = 0;
    for start in (0..COUNT).step_by(10) {
        let texts: Vec<String> = (start..start + 10).map(|number| number.to_string()).collect();
        let messages: Vec<Message<'_>> =
            texts.iter().map(|text| Message::new("jobs.new").payload(text)).collect();
        let receipt = publisher.publish_confirmed(&messages).await.unwrap();
        assert_eq!(receipt.unrouted, 0);
        reached += receipt.reached;
    }
    assert_eq!(reached, 3 * COUNT as u64, "workers, audit and the one alone");
    assert_eq!(payloads(&mut other, COUNT).await.len(), COUNT);
    assert_eq!(payloads(&mut alone, COUNT).await.len(), COUNT);
    let mut seen = BTreeSet::new();
    for (member, client) in &mut members {
        // The answer comes behind all that was published before.
        client.ping().await.unwrap();
        let before = seen.len();
        while let Some(batch) = at_hand(member.next_batch()).await {
            for delivery in &batch.unwrap().unwrap() {
                assert!(seen.insert(delivery.payload().to_vec()), "one member only");
            }
        }
        let mine = seen.len() - before;
        assert!(mine > COUNT / 10, "a member was left out: {mine} of {COUNT}");
    }
    assert_eq!(seen.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_hears_no_more() {
    let broker = TestBroker::start().await;
    let (one, two) = (broker.client().await, broker.client().await);
    let subscription = one.subscribe("news").await.unwrap();
    let message = [Message::new("news").payload("1")];
    assert_eq!(two.publish_confirmed(&message).await.unwrap().reached, 1);
    drop(subscription);
    weir_tests::until("the subscription is gone", async || {
        two.publish_confirmed(&message).await.unwrap().unrouted == 1
    })
    .await;
    let again = one.subscribe("news").await.unwrap();
    assert_eq!(two.publish_confirmed(&message).await.unwrap().reached, 1);
    one.close().await;
    weir_tests::until("the connection's subscriptions are gone", async || {
        two.publish_confirmed(&message).await.unwrap().unrouted == 1
    })
    .await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_with_code_and_hint() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    for pattern in ["", "a..b", "a.>.b", "a b", &"x".repeat(300)] {
        let error = client.subscribe(pattern).await.unwrap_err();
        let refusal = error.refusal().unwrap_or_else(|| panic!("{pattern:?}: {error:?}"));
        assert!(!refusal.message.is_empty(), "{pattern:?}");
        assert!(!refusal.hint.is_empty(), "{pattern:?}");
    }
    // The connection goes on.
    client.ping().await.unwrap();
}
