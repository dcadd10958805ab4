//! Numbers of subscriptions: what is late for one use of a number never touches
//! the next.

use weir_core::command::ConnectionId;
use weir_protocol::{
    Consume, ErrorCode, Kind, Pull, Request, Response, Subscribe, SubscriptionId, Target,
    Unsubscribe,
};
use weir_server::outbox::ListenerId;
use weir_tests::{Raw, TestBroker, encoded};

const SUB: SubscriptionId = SubscriptionId(7);

fn consume(queue: &str) -> Request {
    Request::Consume(Consume {
        sub: SUB,
        queue: Some(queue.into()),
        stream: None,
        group: None,
        credit: 0,
        name: String::new(),
        labels: serde_json::Map::new(),
    })
}

/// What the next frame says: the id of the request it answers, and how.
async fn answer(raw: &mut Raw) -> (u32, Result<(), ErrorCode>) {
    match raw.read().await {
        Some(Response::Ok { id, .. }) => (id.0, Ok(())),
        Some(Response::Error { id, error }) => (id.0, Err(error.code)),
        Some(Response::Ended { sub: SUB, .. }) => (0, Ok(())),
        other => panic!("{other:?}"),
    }
}

async fn subscribe(raw: &mut Raw, id: u32, pattern: &str) {
    let body = Subscribe { sub: SUB, pattern: pattern.into(), share: None };
    raw.ask(id, &Request::Subscribe(body)).await;
    assert_eq!(answer(raw).await, (id, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_use_again_is_not_ended_with_its_last_use() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    for round in 0..20 {
        let (first, second) = (format!("first-{round}"), format!("second-{round}"));
        client.create_queue(&first).await.unwrap();
        client.create_queue(&second).await.unwrap();
        let mut raw = Raw::greeted(broker.address()).await;
        raw.ask(1, &consume(&first)).await;
        assert_eq!(answer(&mut raw).await, (1, Ok(())));
        // The first queue's end is on its way while the number is taken anew.
        let gone = Target { kind: Kind::Queue, name: first, stream: None };
        let mut bytes = encoded(2, &Request::Delete(gone));
        bytes.extend(encoded(3, &Request::Unsubscribe(Unsubscribe { sub: SUB })));
        bytes.extend(encoded(4, &consume(&second)));
        raw.send(&bytes).await.unwrap();
        let (mut left, mut taken) = (None, None);
        while left.is_none() || taken.is_none() {
            match answer(&mut raw).await {
                (0, _) => assert_eq!(left, None, "nothing comes behind the answer"),
                (2, deleted) => assert_eq!(deleted, Ok(())),
                (3, answer) => left = Some(answer),
                (4, answer) => taken = Some(answer),
                other => panic!("{other:?}"),
            }
        }
        if taken != Some(Ok(())) {
            assert_eq!(taken, Some(Err(ErrorCode::SubscriptionTaken)));
            raw.ask(5, &consume(&second)).await;
            assert_eq!(answer(&mut raw).await, (5, Ok(())), "the number is free again");
        }
        // It is the new consumer's for good.
        raw.ask(6, &Request::Ping).await;
        assert_eq!(answer(&mut raw).await, (6, Ok(())));
        raw.ask(7, &Request::Pull(Pull { sub: SUB, messages_max: 1, wait_ms: 0 })).await;
        assert_eq!(answer(&mut raw).await, (7, Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_off_a_listener_that_has_gone_leaves_the_next_alone() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut raw = Raw::greeted(broker.address()).await;
    let shared = broker.server().broker();
    let outbox = shared.connections.get(ConnectionId(raw.connection())).unwrap();
    subscribe(&mut raw, 2, "old").await;
    raw.ask(3, &Request::Unsubscribe(Unsubscribe { sub: SUB })).await;
    assert_eq!(answer(&mut raw).await, (3, Ok(())));
    subscribe(&mut raw, 4, "new").await;
    // A publisher that had looked up the first use.
    let mut late = Vec::new();
    weir_message::encode(&mut late, "old", &[], &[], b"late");
    outbox.push_run(ListenerId(0), 0, 1, &[late.into()]);
    shared.cut_off(&outbox, ListenerId(0));
    client.publish("new", "heard").await.unwrap();
    match raw.read().await {
        Some(Response::Deliver { sub, runs }) => {
            assert_eq!(sub, SUB);
            assert_eq!(runs[0].batch.view(0).payload, b"heard");
        }
        other => panic!("{other:?}"),
    }
    // The present use is cut off as it should be, once, and its number is free.
    shared.cut_off(&outbox, ListenerId(1));
    shared.cut_off(&outbox, ListenerId(1));
    assert_eq!(answer(&mut raw).await, (0, Ok(())));
    subscribe(&mut raw, 5, "newer").await;
}
