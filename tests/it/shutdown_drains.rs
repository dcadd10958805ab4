//! Shutdown: what was taken is answered, clients are told, nothing hangs.

use weir_client::{Client, ConnectOptions, ErrorCode, Message};
use weir_protocol::{Request, Response};
use weir_tests::{Raw, TestBroker, publish_frame, soon};

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
