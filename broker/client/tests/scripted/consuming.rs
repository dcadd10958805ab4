//! Receiving: credit, acks, pull, what the broker says about a subscription.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use weir_client::{ConnectOptions, ConsumeOptions, Error, ErrorCode, SubscribeOptions};
use weir_protocol::{
    DeliveredCount, LostRange, Request, SettleCount, TagRange, Verb, WireError, answer,
};

use crate::peer::{Listener, Peer, soon};

async fn consumer(
    listener: &Listener,
    options: ConsumeOptions,
) -> (weir_client::Client, weir_client::Consumer, Peer, weir_protocol::SubscriptionId) {
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let (consumer, sub) = {
        let consuming = client.consume_with("orders", options);
        soon(async { tokio::join!(consuming, peer.grant()) }).await
    };
    (client, consumer.unwrap(), peer, sub)
}

fn range(first: u64, last: u64) -> TagRange {
    TagRange { first, last }
}

async fn settled(peer: &mut Peer) -> (Verb, Vec<TagRange>) {
    match peer.next().await.1 {
        Request::Settle(settle) => (settle.verb, settle.ranges),
        other => panic!("no settlement: {other:?}"),
    }
}

#[tokio::test]
async fn acks_of_single_deliveries_leave_as_one_range() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 7, &["a", "b", "c", "d"]).await;
    for expected in ["a", "b", "c", "d"] {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.payload(), expected.as_bytes());
        delivery.ack();
    }
    assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(7, 10)]));
}

#[tokio::test]
async fn every_verb_reaches_the_broker() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 1, &["a", "b", "c", "d"]).await;
    let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
    let deliveries: Vec<_> = batch.iter().collect();
    deliveries[0].nack(250);
    deliveries[1].extend(9000);
    deliveries[2].reject(3);
    deliveries[3].ack();
    let mut verbs = Vec::new();
    for _ in 0..4 {
        verbs.push(settled(&mut peer).await);
    }
    assert_eq!(
        verbs,
        [
            (Verb::Nack { delay_ms: 250 }, vec![range(1, 1)]),
            (Verb::Extend { by_ms: 9000 }, vec![range(2, 2)]),
            (Verb::Reject { code: 3 }, vec![range(3, 3)]),
            (Verb::Ack, vec![range(4, 4)]),
        ]
    );
}

#[tokio::test]
async fn a_batch_holds_every_run_that_arrived_and_is_acked_at_once() {
    let listener = Listener::bind().await;
    let (client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 1, &["a", "b"]).await;
    peer.deliver(sub, 5, &["c"]).await;
    peer.caught_up(&client).await;
    let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(batch.len(), 3);
    batch.ack();
    assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(1, 2), range(5, 5)]));
    let owned: Vec<_> = batch.into_iter().map(|delivery| delivery.offset).collect();
    assert_eq!(owned, [1, 2, 5]);
}

#[tokio::test]
async fn auto_ack_acks_what_came_before() {
    let listener = Listener::bind().await;
    let options = ConsumeOptions { auto_ack: true, ..ConsumeOptions::default() };
    let (_client, mut consumer, mut peer, sub) = consumer(&listener, options).await;
    peer.deliver(sub, 1, &["a", "b", "c", "d"]).await;
    soon(consumer.next()).await.unwrap().unwrap();
    soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(1, 1)]));
    let rest = soon(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(rest.iter().map(|one| one.offset()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(2, 2)]));
}

#[tokio::test]
async fn flush_tells_what_the_broker_still_knew() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 1, &["a", "b"]).await;
    soon(consumer.next_batch()).await.unwrap().unwrap().ack();
    let answering = async {
        assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(1, 2)]));
        let (id, request) = peer.next().await;
        let Request::Settle(asked) = request else { panic!("no question: {request:?}") };
        assert!(asked.ranges.is_empty() && id.0 != 0, "{asked:?}");
        let count = SettleCount { done: 1, unknown: 1 };
        peer.send(|out| answer::encode_ok(out, id, &count)).await;
    };
    let (count, ()) = soon(async { tokio::join!(consumer.flush(), answering) }).await;
    assert_eq!(count.unwrap(), SettleCount { done: 1, unknown: 1 });
}

#[tokio::test]
async fn credit_is_asked_for_and_added() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let consuming = client.consume_group("flights", "audit", ConsumeOptions::credit(3));
    let granting = async {
        let (id, request) = peer.next().await;
        let Request::Consume(body) = request else { panic!("no consume: {request:?}") };
        assert_eq!(
            (body.stream.as_deref(), body.group.as_deref()),
            (Some("flights"), Some("audit"))
        );
        assert_eq!(body.credit, 3);
        peer.ok(id).await;
    };
    let (consumer, ()) = soon(async { tokio::join!(consuming, granting) }).await;
    let consumer = consumer.unwrap();
    consumer.add_credit(4);
    let Request::Credit(credit) = peer.next().await.1 else { panic!("no credit") };
    assert_eq!(credit.amount, 4);
    drop(peer);
    let mut peer = listener.accept().await;
    let Request::Consume(body) = peer.next().await.1 else { panic!("no consume") };
    assert_eq!(body.credit, 7, "a new connection starts with all of it");
}

/// Expects a pull of these that waits for most of that time, delivers, and answers.
async fn pulled(
    peer: &mut Peer,
    sub: weir_protocol::SubscriptionId,
    (messages_max, wait_ms): (u32, u32),
    payloads: &[&str],
) {
    let (id, request) = peer.next().await;
    let Request::Pull(pull) = request else { panic!("no pull: {request:?}") };
    assert_eq!(pull.messages_max, messages_max);
    assert!((wait_ms / 10..=wait_ms).contains(&pull.wait_ms), "{pull:?}");
    if !payloads.is_empty() {
        peer.deliver(sub, 1, payloads).await;
    }
    let count = DeliveredCount { delivered: payloads.len() as u64 };
    peer.send(|out| answer::encode_ok(out, id, &count)).await;
}

#[tokio::test]
async fn pull_takes_what_is_there_and_else_waits_for_one() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::credit(0)).await;
    let wait = Duration::from_secs(60);
    let answering = pulled(&mut peer, sub, (2, 0), &["a", "b"]);
    let (batch, ()) = soon(async { tokio::join!(consumer.pull(2, wait), answering) }).await;
    assert_eq!(batch.unwrap().unwrap().len(), 2);
    let answering = async {
        pulled(&mut peer, sub, (2, 0), &[]).await;
        // Its time is not over when the broker says so.
        pulled(&mut peer, sub, (1, 60_000), &[]).await;
        pulled(&mut peer, sub, (1, 60_000), &["c"]).await;
    };
    let (batch, ()) = soon(async { tokio::join!(consumer.pull(2, wait), answering) }).await;
    assert_eq!(batch.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_pull_ends_when_its_time_is_over() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, _) = consumer(&listener, ConsumeOptions::credit(0)).await;
    let answering = async {
        while let Some((id, request)) = peer.try_next().await {
            assert!(matches!(request, Request::Pull(_)), "{request:?}");
            let count = DeliveredCount { delivered: 0 };
            peer.send(|out| answer::encode_ok(out, id, &count)).await;
        }
    };
    let wait = Duration::from_millis(20);
    let begun = std::time::Instant::now();
    let batch = tokio::select! {
        batch = soon(consumer.pull(2, wait)) => batch,
        () = answering => panic!("the client has left"),
    };
    assert!(batch.unwrap().is_none());
    assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pull_may_wait_longer_than_the_broker_does() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::credit(0)).await;
    let answering = async {
        pulled(&mut peer, sub, (5, 0), &[]).await;
        pulled(&mut peer, sub, (1, 60_000), &[]).await;
        pulled(&mut peer, sub, (1, 60_000), &["a"]).await;
    };
    let pulling = consumer.pull(5, Duration::MAX);
    let (batch, ()) = soon(async { tokio::join!(pulling, answering) }).await;
    assert_eq!(batch.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_dropped_pull_brings_is_the_next_ones_and_no_more_than_it_asks_for() {
    let listener = Listener::bind().await;
    let (client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::credit(0)).await;
    let wait = Duration::from_secs(9);
    assert!(consumer.pull(3, wait).now_or_never().is_none());
    pulled(&mut peer, sub, (3, 0), &["a", "b", "c"]).await;
    peer.caught_up(&client).await;
    for expected in [&[1, 2][..], &[3]] {
        let batch = soon(consumer.pull(2, wait)).await.unwrap().unwrap();
        assert_eq!(batch.iter().map(|one| one.offset()).collect::<Vec<_>>(), expected);
        batch.ack();
        let last = expected[expected.len() - 1];
        assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(expected[0], last)]));
    }
}

#[tokio::test]
async fn a_pull_that_waits_takes_what_an_earlier_one_brings() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::credit(0)).await;
    let wait = Duration::from_secs(9);
    let answering = async {
        pulled(&mut peer, sub, (2, 0), &[]).await;
        let Request::Pull(pull) = peer.next().await.1 else { panic!("no pull") };
        assert!(pull.messages_max == 1 && pull.wait_ms > 0, "{pull:?}");
        // That one is not answered.
        peer.deliver(sub, 1, &["a"]).await;
    };
    let (batch, ()) = soon(async { tokio::join!(consumer.pull(2, wait), answering) }).await;
    assert_eq!(batch.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dropped_consumer_settles_and_then_leaves() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 1, &["a"]).await;
    soon(consumer.next()).await.unwrap().unwrap().ack();
    drop(consumer);
    assert_eq!(settled(&mut peer).await, (Verb::Ack, vec![range(1, 1)]));
    let Request::Unsubscribe(body) = peer.next().await.1 else { panic!("no unsubscribe") };
    assert_eq!(body.sub, sub);
}

#[tokio::test]
async fn the_broker_may_end_a_subscription_and_says_why() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    peer.deliver(sub, 1, &["a"]).await;
    let error = WireError::new(ErrorCode::Deleted, "the queue was deleted");
    peer.send(|out| answer::encode_ended(out, sub, &error)).await;
    let stream = Pin::new(&mut consumer);
    let items: Vec<_> = soon(stream.collect()).await;
    assert_eq!(items.len(), 2, "what waited comes first, the reason once");
    assert_eq!(items[0].as_ref().unwrap().payload(), b"a");
    assert_eq!(items[1].as_ref().unwrap_err().refusal().unwrap().code, ErrorCode::Deleted);
}

#[tokio::test]
async fn a_consumer_is_told_what_is_lost_and_goes_on() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, mut peer, sub) =
        consumer(&listener, ConsumeOptions::default()).await;
    assert!(consumer.take_lost().is_empty());
    for (count, partition, from, to) in [(3, 2, 120, 124), (1, 2, 130, 131)] {
        let lost = Some(LostRange { partition, from, to });
        peer.send(|out| answer::encode_skipped(out, sub, count, lost)).await;
    }
    peer.deliver(sub, 1, &["behind"]).await;
    let delivery = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.payload(), b"behind");
    let told: Vec<_> = consumer
        .take_lost()
        .iter()
        .map(|lost| (lost.messages, lost.partition, lost.from, lost.to))
        .collect();
    assert_eq!(told, [(3, 2, 120, 124), (1, 2, 130, 131)]);
    assert!(consumer.take_lost().is_empty(), "once");
}

#[tokio::test]
async fn a_pull_of_none_asks_for_none() {
    let listener = Listener::bind().await;
    let (_client, mut consumer, _peer, _) = consumer(&listener, ConsumeOptions::credit(0)).await;
    assert!(soon(consumer.pull(0, Duration::from_secs(60))).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refused_consumer_is_an_error_with_the_brokers_code() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let refusing = async {
        let (id, _) = peer.next().await;
        let error = WireError::new(ErrorCode::NotFound, "no queue orders");
        peer.send(|out| answer::encode_error(out, id, &error)).await;
    };
    let (consumer, ()) = soon(async { tokio::join!(client.consume("orders"), refusing) }).await;
    assert_eq!(consumer.unwrap_err().refusal().unwrap().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_slow_subscription_skips_counts_and_goes_on() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let options = SubscribeOptions { share: None, inbox_bytes_max: 50 };
    let (subscription, sub) =
        soon(async { tokio::join!(client.subscribe_with("a.>", options), peer.grant()) }).await;
    let mut subscription = subscription.unwrap();
    peer.deliver(sub, 0, &["first"]).await;
    peer.deliver(sub, 0, &["x".repeat(60).as_str(), "y"]).await;
    peer.send(|out| answer::encode_skipped(out, sub, 5, None)).await;
    peer.caught_up(&client).await;
    assert_eq!(subscription.skipped(), 7, "two here, five at the broker");
    let delivery = soon(subscription.next()).await.unwrap().unwrap();
    assert_eq!(delivery.payload(), b"first");
    delivery.ack();
    peer.deliver(sub, 0, &["next"]).await;
    assert_eq!(soon(subscription.next()).await.unwrap().unwrap().payload(), b"next");
    client.publish("subject", "x").await.unwrap();
    let request = peer.next().await.1;
    assert!(matches!(request, Request::Publish(_)), "a channel's ack went out: {request:?}");
}

#[tokio::test]
async fn closing_writes_what_waits_and_ends_every_receiver() {
    let listener = Listener::bind().await;
    let (client, mut consumer, mut peer, _) = consumer(&listener, ConsumeOptions::default()).await;
    client.publish("subject", "last").await.unwrap();
    let reading = async {
        peer.published(1).await;
        assert!(peer.try_next().await.is_none(), "then the socket is closed");
        drop(peer);
    };
    soon(async { tokio::join!(client.close(), reading) }).await;
    assert!(soon(consumer.next()).await.unwrap().is_none());
    assert!(matches!(client.publish("subject", "late").await, Err(Error::Closed)));
}
