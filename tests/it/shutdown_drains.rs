//! Shutdown: what was taken is answered, clients are told, nothing hangs.

use std::sync::Arc;

use weir_client::{Client, ConnectOptions, ErrorCode, Message};
use weir_core::command::{Command, ConnectionId, Level};
use weir_core::memory_store::{Faults, MemoryStore};
use weir_core::store::Store;
use weir_protocol::{Purge, Request, Response};
use weir_tests::{Raw, TestBroker, at_hand, publish_frame, soon};

/// A broker with one shard, on a disk whose syncs the test holds up.
async fn on_held_disk() -> (TestBroker, Arc<Faults>) {
    let mut faults = None;
    let broker = TestBroker::start_over(
        |config| config.shards = 1,
        |_| {
            let store = MemoryStore::new(1 << 30).claiming(Level::Disk);
            faults = Some(store.faults());
            vec![Box::new(store) as Box<dyn Store>]
        },
    )
    .await;
    (broker, faults.expect("the store was made"))
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_that_were_taken_are_answered_then_comes_goodbye() {
    const FRAMES: u32 = 400;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut raw = Raw::greeted(broker.address()).await;
    let mut bytes = Vec::new();
    for id in 1..=FRAMES {
        bytes.extend_from_slice(&publish_frame(id, &["orders"; 50], b"payload"));
    }
    raw.send(&bytes).await.unwrap();
    let mut answered = Vec::new();
    let mut goodbye = None;
    let mut stop = None;
    let mut broker = Some(broker);
    while let Some(frame) = raw.read().await {
        match frame {
            Response::Published { id, outcome } => {
                assert_eq!((outcome.stored, outcome.refusals.len()), (50, 0));
                assert!(goodbye.is_none(), "an answer behind the goodbye");
                answered.push(id.0);
            }
            Response::Goodbye { error } => goodbye = Some(error),
            other => panic!("{other:?}"),
        }
        // The first answer has come; many frames are on their way.
        if let Some(broker) = broker.take() {
            stop = Some(tokio::spawn(broker.stop()));
        }
    }
    soon("the broker stops", stop.unwrap()).await.unwrap();
    answered.sort_unstable();
    let taken = answered.len() as u32;
    assert_eq!(answered, (1..=taken).collect::<Vec<u32>>(), "answers without a gap");
    let goodbye = goodbye.expect("a goodbye");
    assert_eq!(goodbye.code, ErrorCode::ShuttingDown);
    assert!(!goodbye.message.is_empty() && !goodbye.hint.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_are_told_and_new_ones_are_not_taken() {
    let broker = TestBroker::start().await;
    let address = broker.address();
    let mut idle = Raw::greeted(address).await;
    let client = broker.client().await;
    let mut subscription = client.subscribe("news").await.unwrap();
    broker.stop().await;
    assert!(matches!(idle.read().await, Some(Response::Goodbye { .. })));
    assert!(idle.read().await.is_none(), "the connection ends behind the goodbye");
    let ended = soon("the subscription ends", subscription.next()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    let options = ConnectOptions::default().without_reconnect();
    let error = Client::connect_with(&address.to_string(), options).await.unwrap_err();
    assert!(error.is_connection(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_does_not_hold_the_broker() {
    let broker = TestBroker::start().await;
    let publisher = broker.client().await;
    let mut stuck = Raw::greeted(broker.address()).await;
    let sub = weir_protocol::SubscriptionId(1);
    let listen = weir_protocol::Subscribe { sub, pattern: "ticks".into(), share: None };
    stuck.ask(2, &Request::Subscribe(listen)).await;
    assert!(matches!(stuck.read().await, Some(Response::Ok { .. })));
    let payload = vec![0; 512 << 10];
    for _ in 0..20 {
        publisher.publish_confirmed(&[Message::new("ticks").payload(&payload)]).await.unwrap();
    }
    // Ends within its deadline, or this test does not.
    broker.stop().await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_disk_is_answered_before_the_goodbye() {
    let (broker, disk) = on_held_disk().await;
    let client = broker.client().await;
    for queue in ["orders", "old"] {
        client.create_queue(queue).await.unwrap();
        let message = [Message::new(queue).payload("kept")];
        assert_eq!(client.publish_confirmed(&message).await.unwrap().stored, 1);
    }
    let mut consumer = client.consume("orders").await.unwrap();
    let delivery = soon("a delivery", consumer.next()).await.unwrap().unwrap();
    let mut raw = Raw::greeted(broker.address()).await;
    let mut idle = Raw::greeted(broker.address()).await;
    disk.hold_stable(true);
    delivery.ack();
    let mut flush = Box::pin(consumer.flush());
    assert!(at_hand(flush.as_mut()).await.is_none());
    client.ping().await.unwrap();
    raw.ask(2, &Request::Purge(Purge { queue: "old".into() })).await;
    raw.ask(3, &Request::Ping).await;
    assert!(matches!(raw.read().await, Some(Response::Ok { id, .. }) if id.0 == 3));
    // Both were taken, and none is answered.
    let shared = broker.server().broker().clone();
    let stopping = tokio::spawn(broker.stop());
    assert!(matches!(idle.read().await, Some(Response::Goodbye { .. })));
    disk.hold_stable(false);
    // A turn of the shard, as a disk's bell would ring for.
    let turn = Command::Disconnect { connection: ConnectionId(u64::MAX) };
    shared.shards.send(0, vec![turn]).await.unwrap();
    assert!(matches!(raw.read().await, Some(Response::Ok { id, .. }) if id.0 == 2));
    assert!(matches!(raw.read().await, Some(Response::Goodbye { .. })));
    assert_eq!(soon("the settlement's answer", flush).await.unwrap().done, 1);
    soon("the broker stops", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_said_the_last_word_still_gets_the_answers() {
    let (broker, disk) = on_held_disk().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    client.create_queue("old").await.unwrap();
    let message = [Message::new("old").payload("kept")];
    assert_eq!(client.publish_confirmed(&message).await.unwrap().stored, 1);
    let mut raw = Raw::greeted(broker.address()).await;
    disk.hold_stable(true);
    raw.send(&publish_frame(2, &["orders"], b"payload")).await.unwrap();
    raw.ask(3, &Request::Purge(Purge { queue: "old".into() })).await;
    raw.finish().await.unwrap();
    // Time enough for the broker to find that it has closed its side.
    for _ in 0..50 {
        client.ping().await.unwrap();
    }
    disk.hold_stable(false);
    client.queue_info("orders").await.unwrap();
    let mut answered = Vec::new();
    while let Some(answer) = raw.read().await {
        match answer {
            Response::Published { id, outcome } => {
                assert_eq!((outcome.stored, outcome.refusals.len()), (1, 0));
                answered.push(id.0);
            }
            Response::Ok { id, .. } => answered.push(id.0),
            other => panic!("{other:?}"),
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [2, 3]);
    broker.stop().await;
}
