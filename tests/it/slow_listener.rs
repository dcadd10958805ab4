//! Slow listeners: they are told what they miss, and nobody else notices them.

use weir_client::Message;
use weir_core::command::ConnectionId;
use weir_protocol::{Consume, Pull, Request, Response, Subscribe, SubscriptionId, limits};
use weir_server::limits::OUTBOX_BYTES_MAX;
use weir_tests::{Raw, TestBroker, encoded, soon};

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
            Some(Response::Skipped { sub, count, lost: None }) => {
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
async fn a_consumer_that_does_not_read_fills_its_outbox_to_the_limit_and_no_further() {
    const CONSUMERS: u32 = 64;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut stuck = Raw::greeted(broker.address()).await;
    for sub in (1..=CONSUMERS).map(SubscriptionId) {
        let consume = Consume {
            sub,
            queue: Some("orders".into()),
            stream: None,
            group: None,
            credit: 1_000,
            name: String::new(),
            labels: serde_json::Map::new(),
        };
        stuck.ask(1, &Request::Consume(consume)).await;
        assert!(matches!(stuck.read().await, Some(Response::Ok { .. })));
    }
    let connections = &broker.server().broker().connections;
    let outbox = connections.get(ConnectionId(stuck.connection())).unwrap();
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let messages = vec![Message::new("orders").payload(&payload); 10];
    for _ in 0..COUNT / messages.len() {
        assert_eq!(client.publish_confirmed(&messages).await.unwrap().stored, 10);
        assert!(outbox.queued_bytes() <= OUTBOX_BYTES_MAX, "{}", outbox.queued_bytes());
    }
    let info = client.queue_info("orders").await.unwrap();
    let kept_back = info.messages - info.delivery.in_flight;
    assert!(kept_back > COUNT as u64 / 4, "only {kept_back} were kept back");
    assert!(outbox.queued_bytes() <= OUTBOX_BYTES_MAX, "{}", outbox.queued_bytes());
    // It gets the rest as it reads, whatever it says.
    let mut got = 0;
    while got < COUNT {
        match stuck.read().await {
            Some(Response::Deliver { runs, .. }) => {
                got += runs.iter().map(|run| run.batch.len()).sum::<usize>();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_wait_for_answers_to_the_first() {
    // Together a little more than one connection may have without an answer.
    const CONSUMERS: u32 = 66;
    const PULLS: u32 = 63;
    let over = CONSUMERS * PULLS - limits::REQUESTS_IN_FLIGHT_MAX;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut raw = Raw::greeted(broker.address()).await;
    let mut bytes = Vec::new();
    let mut id = 0;
    for sub in (1..=CONSUMERS).map(SubscriptionId) {
        let consume = Consume {
            sub,
            queue: Some("orders".into()),
            stream: None,
            group: None,
            credit: 0,
            name: String::new(),
            labels: serde_json::Map::new(),
        };
        raw.ask(1, &Request::Consume(consume)).await;
        assert!(matches!(raw.read().await, Some(Response::Ok { .. })));
        for _ in 0..PULLS {
            id += 1;
            let pull = Pull { sub, messages_max: 1, wait_ms: limits::PULL_WAIT_MS_MAX };
            bytes.extend(encoded(id, &Request::Pull(pull)));
        }
    }
    let ping = id + 1;
    bytes.extend(encoded(ping, &Request::Ping));
    raw.send(&bytes).await.unwrap();
    client.publish_confirmed(&vec![Message::new("orders"); 2 * over as usize]).await.unwrap();
    // The ping is the last of them: it is read when enough pulls are answered.
    let mut answered = 0;
    loop {
        match raw.read().await {
            Some(Response::Ok { id, .. }) if id.0 == ping => break,
            Some(Response::Ok { .. }) => answered += 1,
            Some(Response::Deliver { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(answered >= over, "the ping was answered behind {answered} pulls");
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
