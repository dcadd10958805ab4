//! Hostile bytes: whatever arrives at the port, the broker answers or hangs up,
//! and whoever behaves notices nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_client::{ConsumeOptions, ErrorCode, Message};
use weir_protocol::{
    Consume, Create, CreateQueue, Pull, Request, Response, Subscribe, SubscriptionId, WireError,
};
use weir_tests::{Random, Raw, TestBroker, encoded, publish_frame, soon, until};

/// Sequences of bytes of one run.
const SEQUENCES: u64 = 10_000;
/// Connections that send at the same time.
const AT_ONCE: u64 = 8;

/// A frame around bytes, whatever they are.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Proper requests of many kinds, to be spoiled.
fn proper(random: &mut Random) -> Vec<u8> {
    let sub = SubscriptionId(random.below(4) as u32);
    let id = 1 + random.below(9) as u32;
    match random.below(7) {
        0 => publish_frame(id, &["noise.a", "noise.b", "noise"], &random.bytes(40)),
        1 => {
            let pattern = ["noise.>", "*", "a.*.b"][random.below(3)].into();
            encoded(id, &Request::Subscribe(Subscribe { sub, pattern, share: None }))
        }
        2 => {
            let queue =
                CreateQueue { name: "noise".into(), if_absent: true, ..CreateQueue::default() };
            encoded(id, &Request::Create(Create::Queue(queue)))
        }
        3 => encoded(id, &Request::Consume(consume(sub, "noise"))),
        4 => encoded(id, &Request::Pull(Pull { sub, messages_max: 5, wait_ms: 60_000 })),
        5 => encoded(id, &Request::PolicyList),
        _ => encoded(id, &Request::Ping),
    }
}

fn consume(sub: SubscriptionId, queue: &str) -> Consume {
    Consume {
        sub,
        queue: Some(queue.into()),
        stream: None,
        group: None,
        credit: 3,
        name: String::new(),
        labels: serde_json::Map::new(),
    }
}

/// The bytes of a seed.
fn hostile(seed: u64) -> Vec<u8> {
    let mut random = Random::seeded(seed);
    let mut bytes = encoded(1, &Raw::hello());
    match seed % 12 {
        // Nothing that was ever meant as a frame.
        0 => {
            let len = random.below(300);
            random.bytes(len)
        }
        // Half a hello.
        1 => {
            bytes.truncate(random.below(bytes.len()));
            bytes
        }
        // Lengths that promise what does not come, before the hello and after.
        2 => {
            if random.below(2) == 0 {
                bytes.clear();
            }
            let length = [u32::MAX, 1 << 31, 64 << 20, (1 << 20) + 1, 1 << 20][random.below(5)];
            bytes.extend_from_slice(&length.to_be_bytes());
            let len = random.below(5_000);
            bytes.extend(random.bytes(len));
            bytes
        }
        // A hello, then garbage.
        3 => {
            let len = random.below(2_000);
            bytes.extend(random.bytes(len));
            bytes
        }
        // Garbage in proper frames.
        4 => {
            for _ in 0..random.below(20) {
                let len = random.below(60);
                bytes.extend(framed(&random.bytes(len)));
            }
            bytes
        }
        // Depth: arrays in arrays, maps in maps.
        5 => {
            let one = [0x91, 0x81, 0xDC, 0xDD][random.below(4)];
            let mut body = vec![0x93, 1 + random.below(34) as u8, 1];
            body.resize(1 + random.below(100_000), one);
            bytes.extend(framed(&body));
            bytes
        }
        // Counts that promise four thousand million items.
        6 => {
            let count = [0xDD, 0xDF, 0xC6, 0xDB][random.below(4)];
            let mut body = vec![0x94, 2, 1, 0xC0, count, 0xFF, 0xFF, 0xFF, 0xFF];
            if random.below(2) == 0 {
                body = vec![0x93, 16, 1, count, 0xFF, 0xFF, 0xFF, 0xFF];
            }
            body.extend(random.bytes(30));
            bytes.extend(framed(&body));
            bytes
        }
        // Operations that do not exist, and those of servers.
        7 => {
            for _ in 0..random.below(10) {
                bytes.extend(framed(&[0x93, 0xCC, random.number() as u8, 5, 0x80]));
            }
            bytes
        }
        // Wrong types in every place.
        8 => {
            let wrong: &[&[u8]] =
                &[b"\xC0", b"\xC3", b"\xA1x", b"\xCB\0\0\0\0\0\0\0\0", b"\xFF", b"\x90"];
            for op in [2_u8, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 21, 22, 23, 33, 34] {
                let mut body = vec![0x93, op, 1 + random.below(100) as u8];
                body.extend_from_slice(wrong[random.below(wrong.len())]);
                bytes.extend(framed(&body));
            }
            bytes
        }
        // Proper requests with single bytes changed.
        9 | 10 => {
            for _ in 0..1 + random.below(10) {
                let mut request = proper(&mut random);
                for _ in 0..random.below(4) {
                    let at = random.below(request.len());
                    request[at] = random.number() as u8;
                }
                bytes.extend(request);
            }
            bytes
        }
        // Proper requests, the last one cut off.
        _ => {
            for _ in 0..1 + random.below(10) {
                bytes.extend(proper(&mut random));
            }
            bytes.truncate(bytes.len() - random.below(20));
            bytes
        }
    }
}

/// Sends the bytes of a seed and reads to the end. Every answer must be readable,
/// and every refusal must tell what to do.
async fn attack(address: SocketAddr, seed: u64) {
    let mut raw = Raw::connect(address).await;
    if raw.send(&hostile(seed)).await.is_err() || raw.finish().await.is_err() {
        // The broker has hung up already.
        return;
    }
    while let Some(answer) = raw.read().await {
        if let Response::Error { error, .. } = answer {
            assert!(!error.message.is_empty() && !error.hint.is_empty(), "seed {seed}: {error:?}");
            assert_ne!(error.code, ErrorCode::Internal, "seed {seed}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hostile_sequences_disturb_nobody() {
    let broker = TestBroker::start().await;
    let address = broker.address();
    let good = broker.client().await;
    good.create_queue("good").await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let working = tokio::spawn({
        let (good, over) = (good.clone(), over.clone());
        async move {
            let mut consumer = good.consume_with("good", ConsumeOptions::credit(16)).await.unwrap();
            let mut number = 0_u64;
            while !over.load(Ordering::Relaxed) {
                let text = number.to_string();
                let message = [Message::new("good").payload(&text)];
                let receipt = good.publish_confirmed(&message).await.unwrap();
                assert_eq!((receipt.stored, receipt.refused()), (1, 0));
                let delivery = soon("its own message", consumer.next()).await.unwrap().unwrap();
                assert_eq!((delivery.payload(), delivery.attempt), (text.as_bytes(), 1));
                delivery.ack();
                number += 1;
            }
            number
        }
    });
    let mut attackers = tokio::task::JoinSet::new();
    for attacker in 0..AT_ONCE {
        attackers.spawn(async move {
            for seed in (attacker..SEQUENCES).step_by(AT_ONCE as usize) {
                attack(address, seed).await;
            }
        });
    }
    while let Some(done) = attackers.join_next().await {
        done.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let worked = soon("the good client ends", working).await.unwrap();
    assert!(worked > 100, "the good client got {worked} messages through meanwhile");
    until("only the good client is left", async || broker.server().broker().connections.len() == 1)
        .await;
    broker.stop().await;
}

/// What comes back for bytes: all answers to the end.
async fn answers(address: SocketAddr, bytes: &[u8]) -> Vec<Response> {
    let mut raw = Raw::connect(address).await;
    raw.send(bytes).await.unwrap();
    raw.finish().await.unwrap();
    let mut all = Vec::new();
    while let Some(answer) = raw.read().await {
        all.push(answer);
    }
    all
}

fn error_of(answer: Option<&Response>) -> (u32, &WireError) {
    match answer {
        Some(Response::Error { id, error }) => (id.0, error),
        other => panic!("no error: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_can_be_read_as_far_as_its_id_is_refused_by_name() {
    let broker = TestBroker::start().await;
    let hello = encoded(1, &Raw::hello());
    let deep = {
        let mut body = vec![0x93, 16, 9];
        body.resize(1_000, 0x91);
        body
    };
    let cases: [(&str, Vec<u8>, ErrorCode); 6] = [
        ("an operation that does not exist", vec![0x93, 0xCC, 200, 9, 0x80], ErrorCode::BadRequest),
        ("a body of the wrong type", vec![0x93, 16, 9, 0xC3], ErrorCode::BadRequest),
        (
            "a key that does not exist",
            b"\x93\x06\x09\x82\xA3sub\x01\xA1x\x01".to_vec(),
            ErrorCode::BadRequest,
        ),
        ("a publish without messages", vec![0x94, 2, 9, 0xC0, 0x90], ErrorCode::BadRequest),
        ("arrays in arrays", deep, ErrorCode::BadFrame),
        ("a cut off map", b"\x93\x06\x09\x82\xA3sub\x01".to_vec(), ErrorCode::BadFrame),
    ];
    for (what, body, code) in cases {
        // The ping behind it shows that the connection goes on.
        let ping = encoded(10, &Request::Ping);
        let all = answers(broker.address(), &[&hello[..], &framed(&body), &ping].concat()).await;
        let (id, error) = error_of(all.get(1));
        assert_eq!(id, 9, "{what}");
        assert!(!error.message.is_empty() && !error.hint.is_empty(), "{what}");
        assert_eq!(error.code, code, "{what}: {error:?}");
        assert!(
            matches!(all.get(2), Some(Response::Ok { id, .. }) if id.0 == 10),
            "{what}: {all:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_on_ends_the_connection_with_a_word() {
    let broker = TestBroker::start().await;
    let hello = encoded(1, &Raw::hello());
    let too_long = ((1_u32 << 20) + 1).to_be_bytes();
    let cases: [(&str, Vec<u8>, ErrorCode); 5] = [
        ("a length over the limit", [&hello[..], &too_long].concat(), ErrorCode::TooLarge),
        ("a long frame before the hello", 4_097_u32.to_be_bytes().to_vec(), ErrorCode::TooLarge),
        ("no array", [&hello[..], &framed(&[0xC0])].concat(), ErrorCode::BadFrame),
        ("an empty frame", [&hello[..], &[0; 4]].concat(), ErrorCode::BadFrame),
        ("no hello", encoded(5, &Request::Ping), ErrorCode::HelloFirst),
    ];
    for (what, bytes, code) in cases {
        let all = answers(broker.address(), &bytes).await;
        let (id, error) = error_of(all.last());
        assert_eq!((id, error.code), (0, code), "{what}: {error:?}");
        assert!(!error.message.is_empty() && !error.hint.is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_frame_that_ends_the_connection_is_kept() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let (hello, publish) = (encoded(1, &Raw::hello()), publish_frame(0, &["orders"], b"a"));
    // Nobody waits for any of the three.
    let (no_array, no_messages) = (framed(&[0xC0]), framed(&[0x94, 2, 0, 0xC0, 0x90]));
    for (kept, wrong) in [(1, no_array), (2, no_messages)] {
        let all = answers(broker.address(), &[&hello[..], &publish, &wrong].concat()).await;
        let (id, _) = error_of(all.last());
        assert_eq!(id, 0);
        until("it is kept", async || client.queue_info("orders").await.unwrap().messages == kept)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_is_asked_to_leave() {
    let broker = TestBroker::start().await;
    let mut silent = Raw::connect(broker.address()).await;
    let answer = silent.read().await;
    let (id, error) = error_of(answer.as_ref());
    assert_eq!((id, error.code), (0, ErrorCode::HelloFirst));
    assert!(silent.read().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so() {
    let broker = TestBroker::start_with(|config| config.connections_max = 2).await;
    let (first, _second) = (broker.client().await, broker.client().await);
    let mut third = Raw::connect(broker.address()).await;
    let answer = third.read().await;
    let (id, error) = error_of(answer.as_ref());
    assert_eq!((id, error.code), (0, ErrorCode::LimitReached));
    assert!(third.read().await.is_none());
    // Room comes back with whoever leaves.
    first.close().await;
    until("there is room", async || broker.server().broker().connections.len() == 1).await;
    let mut fourth = Raw::greeted(broker.address()).await;
    fourth.ask(2, &Request::Ping).await;
    assert!(matches!(fourth.read().await, Some(Response::Ok { .. })));
}
