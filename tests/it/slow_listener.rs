//! Slow listeners: they are told what they miss, and nobody else notices them.

use weir_client::Message;
use weir_protocol::{Request, Response, Subscribe, SubscriptionId};
use weir_tests::{Raw, TestBroker, soon};

/// Bytes of a payload: few messages fill the bounds.
const PAYLOAD_BYTES: usize = 64 << 10;
/// Messages published: several times what outbox and sockets hold.
const COUNT: usize = 640;

async fn listen(raw: &mut Raw, pattern: &str) {
    let sub = SubscriptionId(7);
    raw.ask(2, &Request::Subscribe(Subscribe { sub, pattern: pattern.into(), share: None })).await;
    assert!(matches!(raw.read().await, Some(Response::Ok { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_read_is_told_how_much_it_missed() {
    let broker = TestBroker::start().await;
    let (publisher, other) = (broker.client().await, broker.client().await);
    let mut stuck = Raw::greeted(broker.address()).await;
    listen(&mut stuck, "ticks").await;
    let mut good = other.subscribe("ticks").await.unwrap();
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let mut reached = 0;
    for start in (0..COUNT).step_by(10) {
        let keys: Vec<String> = (start..start + 10).map(|number| number.to_string()).collect();
        let messages: Vec<Message<'_>> =
            keys.iter().map(|key| Message::new("ticks").key(key).payload(&payload)).collect();
        let receipt = publisher.publish_confirmed(&messages).await.unwrap();
        assert_eq!((receipt.unrouted, receipt.refused()), (0, 0));
        reached += receipt.reached;
        // The other listener has each before the next are published.
        for key in &keys {
            let delivery = soon("a message", good.next()).await.unwrap().unwrap();
            assert_eq!(delivery.key(), key.as_bytes());
        }
    }
    assert_eq!(good.skipped(), 0);
    // Now it reads: what it got and what it missed is all there was.
    let (mut got, mut missed) = (0, 0);
    while got + missed < COUNT {
        match stuck.read().await {
            Some(Response::Deliver { runs, .. }) => {
                got += runs.iter().map(|run| run.batch.len()).sum::<usize>();
            }
            Some(Response::Skipped { sub, count }) => {
                assert_eq!(sub, SubscriptionId(7));
                missed += count as usize;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got + missed, COUNT);
    assert!(missed > 0, "{COUNT} messages of 64 KiB fit into its bounds");
    assert_eq!(reached as usize, COUNT + got, "the publisher is told what was handed over");
    // It has caught up and hears again.
    publisher.publish("ticks", "again").await.unwrap();
    match stuck.read().await {
        Some(Response::Deliver { runs, .. }) => {
            assert_eq!(runs[0].batch.view(0).payload, b"again");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_library_counts_what_its_reader_missed() {
    let broker = TestBroker::start().await;
    let (publisher, listener) = (broker.client().await, broker.client().await);
    let options = weir_client::SubscribeOptions {
        inbox_bytes_max: 4 * PAYLOAD_BYTES,
        ..weir_client::SubscribeOptions::default()
    };
    let mut subscription = listener.subscribe_with("ticks", options).await.unwrap();
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for _ in 0..20 {
        let message = [Message::new("ticks").payload(&payload)];
        publisher.publish_confirmed(&message).await.unwrap();
    }
    listener.ping().await.unwrap();
    let skipped = subscription.skipped();
    assert!(skipped > 0);
    let mut got = 0;
    while got + skipped < 20 {
        soon("a message", subscription.next()).await.unwrap().unwrap();
        got += 1;
    }
    assert_eq!((got + skipped, subscription.skipped()), (20, skipped));
}
