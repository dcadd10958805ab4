//! Losing the connection: what is told, what is kept, what is asked for again.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use weir_client::{
    Client, ConnectOptions, ConnectionState, ConsumeOptions, Error, ErrorCode, Message,
};
use weir_protocol::{Published, Request, TagRange, Verb, WireError, answer};

use crate::peer::{Listener, soon};

#[tokio::test]
async fn a_subscription_is_asked_for_again_and_goes_on() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let (subscription, sub) =
        soon(async { tokio::join!(client.subscribe("a.>"), peer.grant()) }).await;
    let mut subscription = subscription.unwrap();
    for round in 1..3 {
        drop(peer);
        peer = listener.accept().await;
        let (id, request) = peer.next().await;
        let Request::Subscribe(body) = request else { panic!("no subscribe: {request:?}") };
        assert_eq!((body.sub, body.pattern.as_str()), (sub, "a.>"));
        peer.ok(id).await;
        peer.deliver(sub, 0, &["again"]).await;
        let delivery = soon(subscription.next()).await.unwrap().unwrap();
        assert_eq!(delivery.payload(), b"again");
        assert_eq!(subscription.interruptions(), round);
    }
}

#[tokio::test]
async fn acks_of_the_old_connection_are_void() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let (consumer, sub) =
        soon(async { tokio::join!(client.consume("orders"), peer.grant()) }).await;
    let mut consumer = consumer.unwrap();
    peer.deliver(sub, 1, &["taken", "waiting"]).await;
    let old = soon(consumer.next()).await.unwrap().unwrap();
    drop(peer);

    let mut peer = listener.accept().await;
    assert_eq!(peer.grant().await, sub);
    old.ack();
    peer.deliver(sub, 1, &["taken", "waiting"]).await;
    // What was buffered before the loss is not handed out: it comes again.
    let first = soon(consumer.next()).await.unwrap().unwrap();
    assert_eq!(first.payload(), b"taken");
    let second = soon(consumer.next()).await.unwrap().unwrap();
    second.ack();
    let Request::Settle(settle) = peer.next().await.1 else { panic!("no settlement") };
    assert_eq!((settle.verb, settle.ranges), (Verb::Ack, vec![TagRange { first: 2, last: 2 }]));
}

#[tokio::test]
async fn what_was_not_confirmed_is_reported() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let mut publisher = client.publisher();
    for _ in 0..3 {
        publisher.send(&Message::new("subject")).await.unwrap();
    }
    let confirmation = publisher.take();
    peer.published(3).await;
    drop(peer);
    let lost = soon(confirmation).await;
    assert!(matches!(lost, Err(Error::ConnectionLost { unconfirmed: 3 })), "{lost:?}");
    // The client is back, and sends nothing of it again.
    let mut peer = listener.accept().await;
    publisher.send(&Message::new("subject").payload("new")).await.unwrap();
    let frames = peer.published(1).await;
    assert_eq!(frames[0].1, [b"new".to_vec()]);
}

#[tokio::test]
async fn what_was_not_confirmed_is_sent_again_if_asked_for() {
    let listener = Listener::bind().await;
    let options = ConnectOptions { resend_unconfirmed: true, ..ConnectOptions::default() };
    let (client, mut peer) = listener.client(options).await;
    let mut publisher = client.publisher();
    let payload = "x".repeat(100_000);
    for digit in ["1", "2", "3"] {
        publisher.send(&Message::new("subject").key(digit).payload(&payload)).await.unwrap();
    }
    let confirmation = publisher.take();
    let before = peer.published(3).await;
    assert_eq!(before.len(), 3);
    peer.confirm(before[0].0, Published { stored: 1, ..Published::default() }).await;
    // The confirmation has arrived before the connection breaks.
    peer.caught_up(&client).await;
    drop(peer);
    let mut peer = listener.accept().await;
    let again = peer.published(2).await;
    assert_eq!(again, before[1..], "in their order, with their ids");
    for (id, _) in again {
        peer.confirm(id, Published { stored: 1, ..Published::default() }).await;
    }
    assert_eq!(soon(confirmation).await.unwrap().stored, 3);
}

#[tokio::test]
async fn what_is_published_meanwhile_goes_to_the_next_connection() {
    let listener = Listener::bind().await;
    let (client, peer) = listener.client(ConnectOptions::default()).await;
    peer.lose(&client).await;
    let mut publisher = client.publisher();
    publisher.send(&Message::new("subject").payload("kept")).await.unwrap();
    let confirmation = publisher.take();
    let mut peer = listener.accept().await;
    let frames = peer.published(1).await;
    peer.confirm(frames[0].0, Published { stored: 1, ..Published::default() }).await;
    assert_eq!(soon(confirmation).await.unwrap().stored, 1);
    assert_eq!(client.lost(), 0);
}

#[tokio::test]
async fn a_request_without_answer_is_told_of_the_loss() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let losing = async {
        peer.next().await;
        drop(peer);
    };
    let (info, ()) = soon(async { tokio::join!(client.queue_info("orders"), losing) }).await;
    assert!(matches!(info, Err(Error::ConnectionLost { .. })), "{info:?}");
}

#[tokio::test]
async fn what_was_given_up_during_an_outage_is_not_asked_behind_it() {
    let listener = Listener::bind().await;
    let (client, peer) = listener.client(ConnectOptions::default()).await;
    peer.lose(&client).await;
    assert!(client.purge("orders").now_or_never().is_none());
    assert!(client.consume("orders").now_or_never().is_none());
    let mut peer = listener.accept().await;
    let answering = async {
        let (id, request) = peer.next().await;
        assert!(matches!(request, Request::Ping), "{request:?}");
        peer.ok(id).await;
    };
    let (ping, ()) = soon(async { tokio::join!(client.ping(), answering) }).await;
    ping.unwrap();
}

#[tokio::test]
async fn a_first_request_waits_no_longer_than_it_says_for_the_connection() {
    let listener = Listener::bind().await;
    let (client, peer) = listener.client(ConnectOptions::default()).await;
    peer.lose(&client).await;
    let question = Message::new("time.now");
    let answer = soon(client.request(&question, Duration::ZERO)).await;
    assert!(matches!(answer, Err(Error::Timeout { what: "request", .. })), "{answer:?}");
}

#[tokio::test]
async fn silence_is_asked_about_and_then_counts_as_loss() {
    let listener = Listener::bind().await;
    let options =
        ConnectOptions { keepalive: Duration::from_millis(20), ..ConnectOptions::default() };
    let (_client, mut peer) = listener.client(options).await;
    assert!(matches!(peer.next().await.1, Request::Ping));
    let _quiet = peer;
    listener.accept().await;
}

#[tokio::test]
async fn a_broker_that_hangs_up_at_once_is_asked_ever_less_often() {
    let listener = Listener::bind().await;
    let (_client, peer) = listener.client(ConnectOptions::default()).await;
    let begun = std::time::Instant::now();
    drop(peer);
    for _ in 0..4 {
        drop(listener.accept().await);
    }
    // None, then at least half of 50, 100 and 200 ms.
    assert!(begun.elapsed() >= Duration::from_millis(175), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_reconnect_the_first_loss_ends_everything() {
    let listener = Listener::bind().await;
    let options = ConnectOptions::default().without_reconnect();
    let (client, mut peer) = listener.client(options).await;
    let consuming = client.consume_with("orders", ConsumeOptions::default());
    let (consumer, _) = soon(async { tokio::join!(consuming, peer.grant()) }).await;
    let mut consumer = consumer.unwrap();
    drop(peer);
    assert!(soon(consumer.next()).await.is_err(), "the reason is told");
    assert!(soon(consumer.next()).await.unwrap().is_none(), "once");
    assert!(matches!(client.ping().await, Err(Error::Closed)));
}

#[tokio::test]
async fn no_broker_is_a_typed_error() {
    let address = Listener::bind().await.address;
    let error = soon(Client::connect(&address)).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_connection(), "{error}");
}

#[tokio::test]
async fn an_error_without_id_ends_the_connection_and_a_lasting_one_the_client() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let error = WireError::new(ErrorCode::Unauthorized, "the token was revoked");
    peer.send(|out| answer::encode_error(out, weir_protocol::RequestId(0), &error)).await;
    let mut state = client.state();
    soon(state.wait_for(|state| matches!(state, ConnectionState::Closed))).await.unwrap();
    assert!(matches!(client.publish("subject", "x").await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_flush_asks_for_nothing_on_the_next_connection() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let (consumer, sub) =
        soon(async { tokio::join!(client.consume("orders"), peer.grant()) }).await;
    let mut consumer = consumer.unwrap();
    peer.deliver(sub, 1, &["done", "not done"]).await;
    let batch = soon(consumer.next_batch()).await.unwrap().unwrap();
    let deliveries: Vec<_> = batch.iter().collect();
    deliveries[0].ack();
    deliveries[1].nack(0);

    // The connection breaks before the answer, and only when the next one stands does
    // the caller come to see it.
    let mut flush = pin!(consumer.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    for asks in [false, false, true] {
        let (id, request) = peer.next().await;
        assert!(matches!(request, Request::Settle(_)) && asks == (id.0 != 0), "{request:?}");
    }
    drop(peer);
    let mut peer = listener.accept().await;
    assert_eq!(peer.grant().await, sub);
    // Messages of the new series, with the numbers of the old one.
    peer.deliver(sub, 1, &["other", "one more"]).await;
    let flushed = tokio::select! {
        flushed = soon(flush) => flushed,
        (_, request) = peer.next() => panic!("on the wrong connection: {request:?}"),
    };
    assert!(matches!(flushed, Err(Error::ConnectionLost { .. })), "{flushed:?}");
    client.publish("subject", "behind it").await.unwrap();
    peer.published(1).await;
}
