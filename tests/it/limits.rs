//! Values beyond a limit: the answer says which, and what the limit is.

use weir_protocol::{
    Consume, Create, CreateQueue, CreateStream, ErrorCode, Pull, Request, Response, SubscriptionId,
    limits,
};
use weir_tests::{Raw, TestBroker};

const SUB: SubscriptionId = SubscriptionId(1);

fn consume(sub: SubscriptionId, credit: u32) -> Request {
    let queue = Some("orders".into());
    Request::Consume(Consume { sub, queue, credit, ..Consume::default() })
}

fn stream(partitions: u16) -> Request {
    Request::Create(Create::Stream(CreateStream {
        name: "wide".into(),
        partitions,
        ..CreateStream::default()
    }))
}

/// The answer to the request that was sent last.
async fn refusal(raw: &mut Raw) -> (ErrorCode, String) {
    match raw.read().await {
        Some(Response::Error { error, .. }) => (error.code, error.message.into_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_beyond_a_limit_is_named_with_the_limit() {
    let broker = TestBroker::start().await;
    broker.client().await.create_queue("orders").await.unwrap();
    let mut raw = Raw::greeted(broker.address()).await;
    raw.ask(1, &consume(SUB, 0)).await;
    assert!(matches!(raw.read().await, Some(Response::Ok { .. })));
    let subjects = (0..65).map(|number| format!("s{number}")).collect();
    let many = CreateQueue { name: "many".into(), subjects, ..CreateQueue::default() };
    let pull = |messages_max, wait_ms| Request::Pull(Pull { sub: SUB, messages_max, wait_ms });
    for (request, code, told) in [
        (
            consume(SubscriptionId(2), 65_537),
            ErrorCode::TooLarge,
            "`credit`: 65537 is over the limit of 65536",
        ),
        (pull(65_537, 0), ErrorCode::TooLarge, "`messages_max`: 65537 is over the limit of 65536"),
        (pull(1, 60_001), ErrorCode::TooLarge, "`wait_ms`: 60001 is over the limit of 60000"),
        (stream(1_025), ErrorCode::LimitReached, "partitions: 1025 is not 1 to 1024"),
        (
            Request::Create(Create::Queue(many)),
            ErrorCode::LimitReached,
            "many: patterns of one queue or stream: at most 64 (the limit patterns_per_destination)",
        ),
    ] {
        raw.ask(9, &request).await;
        assert_eq!(refusal(&mut raw).await, (code, told.to_owned()));
    }
    for id in 10..10 + 64 {
        raw.ask(id, &pull(1, limits::PULL_WAIT_MS_MAX)).await;
    }
    raw.ask(99, &pull(1, limits::PULL_WAIT_MS_MAX)).await;
    let told = "waiting pulls of one consumer: at most 64 (the limit pulls_per_consumer)";
    assert_eq!(refusal(&mut raw).await, (ErrorCode::LimitReached, told.to_owned()));
}
