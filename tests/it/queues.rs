//! Queues: each message is kept until one consumer has settled it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weir_client::{
    Alter, AlterQueue, Client, ConsumeOptions, Consumer, Create, CreateQueue, Delivery, Error,
    ErrorCode, Message, Order, WireError,
};
use weir_protocol::Response;
use weir_tests::{Raw, TestBroker, at_hand, publish_frame, soon, until};

/// Leases of a fifth of a second, and no pause before the next try.
const SHORT_LEASES: &str = r#"
    policy = "at-least-once"
    queues = ["*"]
    powers = ["dead-letter"]
    [config]
    lease_ms = 200
    attempts = 3
    retry = { first_ms = 1, max_ms = 1 }
"#;

/// Publishes so many messages, numbered from 0, and has them confirmed.
async fn publish_numbers(client: &Client, subject: &str, count: usize) {
    let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for chunk in numbers.chunks(1_000) {
        let messages: Vec<Message<'_>> =
            chunk.iter().map(|number| Message::new(subject).payload(number)).collect();
        let receipt = client.publish_confirmed(&messages).await.unwrap();
        assert_eq!(receipt.stored, chunk.len() as u64, "{:?}", receipt.refusals);
    }
}

/// The next delivery.
async fn next(consumer: &mut Consumer) -> Delivery {
    soon("a delivery", consumer.next()).await.unwrap().unwrap()
}

/// The next deliveries.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(next(consumer).await);
    }
    taken
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|it| std::str::from_utf8(it.payload()).unwrap()).collect()
}

fn refusal(error: &Error) -> &WireError {
    error.refusal().unwrap_or_else(|| panic!("not refused: {error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn competing_consumers_get_each_message_once() {
    const COUNT: usize = 5_000;
    let broker = TestBroker::start().await;
    let publisher = broker.client().await;
    publisher.create_queue("jobs").await.unwrap();
    let (told, mut hears) = tokio::sync::mpsc::channel(64);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let client = broker.client().await;
        let options =
            ConsumeOptions { name: Some(format!("w{worker}")), ..ConsumeOptions::credit(50) };
        let mut consumer = client.consume_with("jobs", options).await.unwrap();
        let told = told.clone();
        workers.spawn(async move {
            while let Ok(Some(batch)) = consumer.next_batch().await {
                assert!(batch.len() <= 50, "over the credit: {}", batch.len());
                let payloads: Vec<Vec<u8>> = batch.iter().map(|it| it.payload().to_vec()).collect();
                batch.ack();
                if told.send((worker, payloads)).await.is_err() {
                    break;
                }
            }
            drop(client);
        });
    }
    publish_numbers(&publisher, "jobs", COUNT).await;
    let mut seen = BTreeSet::new();
    let mut by_worker = [0; 4];
    while seen.len() < COUNT {
        let (worker, payloads) = soon("a batch", hears.recv()).await.unwrap();
        by_worker[worker] += payloads.len();
        for payload in payloads {
            assert!(seen.insert(payload), "delivered twice");
        }
    }
    assert!(by_worker.iter().all(|&count| count > 0), "a worker was left out: {by_worker:?}");
    until("everything is settled", async || {
        let info = publisher.queue_info("jobs").await.unwrap();
        info.messages == 0 && info.delivery.acked == COUNT as u64
    })
    .await;
    let info = publisher.queue_info("jobs").await.unwrap();
    assert_eq!((info.published, info.refused, info.bytes), (COUNT as u64, 0, 0));
    assert_eq!((info.delivery.delivered, info.delivery.redelivered), (COUNT as u64, 0));
    assert_eq!((info.delivery.lag, info.delivery.in_flight), (0, 0));
    assert_eq!(info.delivery.consumers_total, 4);
    workers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_acked_never_comes_again() {
    let broker = TestBroker::bound(&[("short", SHORT_LEASES)]).await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish_numbers(&client, "orders", 10).await;
    let mut consumer = client.consume_with("orders", ConsumeOptions::credit(10)).await.unwrap();
    let taken = take(&mut consumer, 10).await;
    taken[..9].iter().for_each(Delivery::ack);
    // The last one is not acked: it comes again, the others do not.
    let again = next(&mut consumer).await;
    assert_eq!((again.payload(), again.attempt), (&b"9"[..], 2));
    again.ack();
    consumer.flush().await.unwrap();
    until("nothing is left", async || client.queue_info("orders").await.unwrap().messages == 0)
        .await;
    drop(consumer);
    let mut other = client.consume_with("orders", ConsumeOptions::credit(0)).await.unwrap();
    assert!(other.pull(10, Duration::ZERO).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_given_back_comes_again_after_its_delay() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish_numbers(&client, "orders", 2).await;
    let mut consumer = client.consume("orders").await.unwrap();
    let taken = take(&mut consumer, 2).await;
    assert_eq!(texts(&taken), ["0", "1"]);
    let given_back = Instant::now();
    taken[0].nack(300);
    taken[1].ack();
    let again = next(&mut consumer).await;
    assert!(given_back.elapsed() >= Duration::from_millis(300), "{:?}", given_back.elapsed());
    assert_eq!((again.payload(), again.attempt), (&b"0"[..], 2));
    again.ack();
    until("both are settled", async || {
        let figures = client.queue_info("orders").await.unwrap().delivery;
        (figures.acked, figures.nacked, figures.lag) == (2, 1, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_gives_the_message_to_another() {
    let broker = TestBroker::bound(&[("short", SHORT_LEASES)]).await;
    let (one, two) = (broker.client().await, broker.client().await);
    one.create_queue("orders").await.unwrap();
    let mut stuck = one.consume_with("orders", ConsumeOptions::credit(1)).await.unwrap();
    publish_numbers(&one, "orders", 1).await;
    let held = next(&mut stuck).await;
    assert_eq!(held.attempt, 1);
    let mut other = two.consume_with("orders", ConsumeOptions::credit(1)).await.unwrap();
    // Who gets it next is the broker's choice; both are asked until it is `other`.
    let again = loop {
        tokio::select! {
            again = next(&mut other) => break again,
            mine = next(&mut stuck) => mine.nack(0),
        }
    };
    assert_eq!(again.payload(), b"0");
    assert!(again.attempt >= 2);
    // The first holder is too late: its word does not count.
    held.ack();
    let late = stuck.flush().await.unwrap();
    assert!(late.unknown >= 1, "a lease that ran out cannot be settled: {late:?}");
    again.ack();
    until("it is settled", async || {
        let figures = two.queue_info("orders").await.unwrap().delivery;
        figures.acked == 1 && figures.expired >= 1 && figures.lag == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_extended_stays() {
    let broker = TestBroker::bound(&[("short", SHORT_LEASES)]).await;
    let (one, two) = (broker.client().await, broker.client().await);
    one.create_queue("orders").await.unwrap();
    publish_numbers(&one, "orders", 2).await;
    let mut slow = one.consume_with("orders", ConsumeOptions::credit(2)).await.unwrap();
    let held = take(&mut slow, 2).await;
    held[0].extend(60_000);
    let flushed = slow.flush().await.unwrap();
    assert_eq!(flushed.unknown, 0);
    // The other message comes again and again until it is dead: three leases ran
    // out, and the extended one did not.
    until("the other one is dead", async || {
        one.queue_info("orders").await.unwrap().delivery.dead_lettered == 1
    })
    .await;
    let figures = one.queue_info("orders").await.unwrap().delivery;
    assert_eq!((figures.in_flight, figures.expired), (1, 3));
    held[0].ack();
    until("it is settled", async || two.queue_info("orders").await.unwrap().delivery.acked == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_goes_to_the_dead_letter_queue_with_its_story() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let message = Message::new("orders").key("k").header("trace", "t1").payload("bad");
    let messages = [Message::new("orders").payload("good"), message];
    client.publish_confirmed(&messages).await.unwrap();
    let mut consumer = client.consume("orders").await.unwrap();
    let taken = take(&mut consumer, 2).await;
    taken[0].ack();
    taken[1].reject(7);
    until("the dead-letter queue is there", async || {
        client.queue_info("orders/dead").await.is_ok()
    })
    .await;
    let mut dead = client.consume("orders/dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(
        (letter.payload(), letter.key(), letter.subject()),
        (&b"bad"[..], &b"k"[..], "orders")
    );
    let header = |name| std::str::from_utf8(letter.header(name).unwrap_or_default()).unwrap();
    assert_eq!(header("trace"), "t1", "its own headers stay");
    assert_eq!(header("weir-dead-source"), "orders");
    assert_eq!(header("weir-dead-offset"), "1");
    assert_eq!(header("weir-dead-attempts"), "1");
    assert!(!header("weir-dead-reason").is_empty());
    letter.ack();
    until("the source is empty", async || {
        let info = client.queue_info("orders").await.unwrap();
        info.messages == 0 && info.delivery.dead_lettered == 1
    })
    .await;
    let names: Vec<String> =
        client.list(None).await.unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(names, ["orders", "orders/dead"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_consumer_held_goes_to_others_at_once() {
    let broker = TestBroker::start().await;
    let (one, two) = (broker.client().await, broker.client().await);
    one.create_queue("orders").await.unwrap();
    publish_numbers(&one, "orders", 10).await;
    let mut lost = two.consume_with("orders", ConsumeOptions::credit(6)).await.unwrap();
    let held = take(&mut lost, 6).await;
    let mut stays = one.consume_with("orders", ConsumeOptions::credit(100)).await.unwrap();
    let mut seen: BTreeSet<Vec<u8>> =
        take(&mut stays, 4).await.iter().map(|it| it.payload().to_vec()).collect();
    // The lease is 30 s: what comes sooner comes because the connection broke.
    let broke = Instant::now();
    two.close().await;
    for delivery in take(&mut stays, 6).await {
        assert!(seen.insert(delivery.payload().to_vec()));
    }
    assert!(broke.elapsed() < Duration::from_secs(15), "{:?}", broke.elapsed());
    assert_eq!(seen.len(), 10);
    drop((lost, held));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_leaves_in_good_order_gives_back_what_it_holds() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish_numbers(&client, "orders", 3).await;
    let mut leaves = client.consume_with("orders", ConsumeOptions::credit(3)).await.unwrap();
    let held = take(&mut leaves, 3).await;
    drop((leaves, held));
    let mut stays = client.consume("orders").await.unwrap();
    let mut again = texts(&take(&mut stays, 3).await).join(",");
    let mut sorted: Vec<&str> = again.split(',').collect();
    sorted.sort_unstable();
    again = sorted.join(",");
    assert_eq!(again, "0,1,2");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_never_exceeded() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut consumer = client.consume_with("orders", ConsumeOptions::credit(5)).await.unwrap();
    publish_numbers(&client, "orders", 100).await;
    let taken = take(&mut consumer, 5).await;
    let in_flight = async || client.queue_info("orders").await.unwrap().delivery.in_flight;
    // The info passes through the shard: whatever it wanted to send was sent.
    assert_eq!(in_flight().await, 5);
    client.ping().await.unwrap();
    assert!(at_hand(consumer.next()).await.is_none(), "more than the credit");
    taken[0].ack();
    taken[1].nack(60_000);
    let more = take(&mut consumer, 2).await;
    assert_eq!(in_flight().await, 5);
    client.ping().await.unwrap();
    assert!(at_hand(consumer.next()).await.is_none(), "more than came back");
    consumer.add_credit(3);
    let most = take(&mut consumer, 3).await;
    assert_eq!(in_flight().await, 8);
    let info = client.queue_info("orders").await.unwrap();
    assert_eq!(info.delivery.consumers[0].in_flight, 8);
    drop((more, most));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_and_brings_what_was_asked_for() {
    let broker = TestBroker::start().await;
    let (client, publisher) = (broker.client().await, broker.client().await);
    client.create_queue("orders").await.unwrap();
    let mut consumer = client.consume_with("orders", ConsumeOptions::credit(0)).await.unwrap();
    // Nothing there: it waits as long as it said.
    let asked = Instant::now();
    assert!(consumer.pull(5, Duration::from_millis(100)).await.unwrap().is_none());
    assert!(asked.elapsed() >= Duration::from_millis(100));
    // Something comes while it waits.
    let waiting = tokio::spawn(async move {
        let batch = consumer.pull(3, Duration::from_secs(60)).await.unwrap().unwrap();
        (consumer, batch.len())
    });
    publish_numbers(&publisher, "orders", 8).await;
    let (mut consumer, count) = soon("the pull", waiting).await.unwrap();
    // The first, if they came behind its question for what is there.
    assert!(count == 1 || count == 3, "{count}");
    // No more than was asked for, and all of that where it is there.
    let some = soon("a pull", consumer.pull(2, Duration::from_secs(60))).await.unwrap().unwrap();
    assert_eq!(some.len(), 2);
    some.ack();
    // What is there comes at once, and no more than there is.
    let rest = consumer.pull(10, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(rest.len(), 8 - count - 2);
    rest.ack();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_names_the_messages() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let small = CreateQueue { name: "small".into(), messages_max: 5, ..CreateQueue::default() };
    client.create(Create::Queue(small)).await.unwrap();
    let messages: Vec<Message<'_>> =
        ["0", "1", "2", "3", "4", "5", "6", "7"].map(|it| Message::new("small").payload(it)).into();
    let receipt = client.publish_confirmed(&messages).await.unwrap();
    assert_eq!((receipt.messages, receipt.stored, receipt.refused()), (8, 5, 3));
    let positions: Vec<u64> = receipt
        .refusals
        .iter()
        .flat_map(|refused| refused.position..refused.position + refused.count)
        .collect();
    assert_eq!(positions, [5, 6, 7]);
    assert!(receipt.refusals.iter().all(|refused| refused.code == ErrorCode::QueueFull));
    let info = client.queue_info("small").await.unwrap();
    assert_eq!((info.messages, info.published, info.refused), (5, 5, 3));
    // Room comes back with what is settled.
    let mut consumer = client.consume_with("small", ConsumeOptions::credit(5)).await.unwrap();
    take(&mut consumer, 2).await.iter().for_each(Delivery::ack);
    consumer.flush().await.unwrap();
    until("two are settled", async || client.queue_info("small").await.unwrap().messages == 3)
        .await;
    let receipt = client.publish_confirmed(&messages[5..]).await.unwrap();
    assert_eq!((receipt.stored, receipt.refused()), (2, 1));
    // A larger bound makes room as well.
    let larger =
        AlterQueue { name: "small".into(), messages_max: Some(100), ..AlterQueue::default() };
    client.alter(Alter::Queue(larger)).await.unwrap();
    assert_eq!(client.publish_confirmed(&messages).await.unwrap().stored, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_that_are_refused_alike_are_told_together() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let small = CreateQueue { name: "small".into(), messages_max: 5, ..CreateQueue::default() };
    client.create(Create::Queue(small)).await.unwrap();
    let mut raw = Raw::greeted(broker.address()).await;
    raw.send(&publish_frame(9, &["small"; 8], b"x")).await.unwrap();
    let Some(Response::Published { id, outcome }) = raw.read().await else { panic!("no answer") };
    assert_eq!((id.0, outcome.stored, outcome.unrouted), (9, 5, 0));
    let [refused] = &outcome.refusals[..] else { panic!("{:?}", outcome.refusals) };
    assert_eq!((refused.row, refused.count, refused.code), (5, 3, ErrorCode::QueueFull));
    assert!(!refused.message.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_queue_that_is_full_does_not_keep_another_from_its_copy() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    for (name, messages_max) in [("narrow", 1), ("wide", 0)] {
        let queue = CreateQueue {
            name: name.into(),
            subjects: vec!["both.>".into()],
            messages_max,
            ..CreateQueue::default()
        };
        client.create(Create::Queue(queue)).await.unwrap();
    }
    let messages = ["0", "1", "2"].map(|it| Message::new("both.x").payload(it));
    let receipt = client.publish_confirmed(&messages).await.unwrap();
    assert_eq!((receipt.stored, receipt.refused()), (4, 2));
    assert!(receipt.refusals.iter().all(|refused| refused.code == ErrorCode::QueueFull));
    assert_eq!(client.queue_info("wide").await.unwrap().messages, 3);
    assert_eq!(client.queue_info("narrow").await.unwrap().messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_comes_when_it_is_due() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut consumer = client.consume("orders").await.unwrap();
    let published = Instant::now();
    let messages = [
        Message::new("orders").payload("later").delay_ms(400),
        Message::new("orders").payload("now"),
    ];
    client.publish_confirmed(&messages).await.unwrap();
    let first = next(&mut consumer).await;
    assert_eq!(first.payload(), b"now");
    let second = next(&mut consumer).await;
    assert_eq!((second.payload(), second.attempt), (&b"later"[..], 1));
    assert!(published.elapsed() >= Duration::from_millis(400), "{:?}", published.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn order_by_key_holds_with_many_consumers() {
    const KEYS: usize = 10;
    const PER_KEY: usize = 40;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let queue = CreateQueue { name: "ordered".into(), order: Order::Key, ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
    let (told, mut hears) = tokio::sync::mpsc::channel(64);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..3 {
        let mine = broker.client().await;
        let mut consumer = mine.consume_with("ordered", ConsumeOptions::credit(20)).await.unwrap();
        let told = told.clone();
        workers.spawn(async move {
            let mut given_back = BTreeSet::new();
            while let Ok(Some(delivery)) = consumer.next().await {
                let text = std::str::from_utf8(delivery.payload()).unwrap().to_owned();
                // Some are given back first: what follows of their key must wait.
                if text.ends_with('7') && delivery.attempt == 1 && given_back.insert(text.clone()) {
                    delivery.nack(1);
                    continue;
                }
                if told.send((worker, delivery.key().to_vec(), text)).await.is_err() {
                    break;
                }
                delivery.ack();
            }
            drop(mine);
        });
    }
    let mut publisher = client.publisher();
    for number in 0..PER_KEY {
        for key in 0..KEYS {
            let (key, text) = (format!("k{key}"), number.to_string());
            publisher.send(&Message::new("ordered").key(&key).payload(&text)).await.unwrap();
        }
    }
    assert_eq!(publisher.flush().await.unwrap().stored, (KEYS * PER_KEY) as u64);
    let mut last = std::collections::BTreeMap::<Vec<u8>, usize>::new();
    for _ in 0..KEYS * PER_KEY {
        let (_, key, text) = soon("a message", hears.recv()).await.unwrap();
        let number: usize = text.parse().unwrap();
        let expected = last.get(&key).map_or(0, |last| last + 1);
        assert_eq!(number, expected, "out of order for {key:?}");
        last.insert(key, number);
    }
    workers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_removes_what_waits_and_leaves_what_is_in_flight() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish_numbers(&client, "orders", 10).await;
    let mut consumer = client.consume_with("orders", ConsumeOptions::credit(2)).await.unwrap();
    let held = take(&mut consumer, 2).await;
    assert_eq!(client.purge("orders").await.unwrap(), 8);
    let info = client.queue_info("orders").await.unwrap();
    assert_eq!((info.messages, info.removed, info.delivery.in_flight), (2, 8, 2));
    held.iter().for_each(Delivery::ack);
    until("it is empty", async || client.queue_info("orders").await.unwrap().messages == 0).await;
    publish_numbers(&client, "orders", 1).await;
    assert_eq!(next(&mut consumer).await.payload(), b"0");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_told_when_their_queue_is_deleted() {
    let broker = TestBroker::start().await;
    let (one, two) = (broker.client().await, broker.client().await);
    one.create_queue("orders").await.unwrap();
    let mut consumer = one.consume("orders").await.unwrap();
    two.delete_queue("orders").await.unwrap();
    let error = soon("the end", consumer.next()).await.unwrap_err();
    assert_eq!(refusal(&error).code, ErrorCode::Deleted);
    assert!(!refusal(&error).hint.is_empty());
    let error = two.queue_info("orders").await.unwrap_err();
    assert_eq!(refusal(&error).code, ErrorCode::NotFound);
    let receipt = two.publish_confirmed(&[Message::new("orders")]).await.unwrap();
    assert_eq!((receipt.stored, receipt.unrouted), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_code_and_hint() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let queue = |messages_max| {
        Create::Queue(CreateQueue { name: "orders".into(), messages_max, ..CreateQueue::default() })
    };
    client.create(queue(5)).await.unwrap();
    client.create(queue(5)).await.unwrap();
    client.create_stream("flights", 2, &["flights.>"]).await.unwrap();
    let bad_name = CreateQueue { name: "No Name".into(), ..CreateQueue::default() };
    let errors = [
        (client.create(queue(6)).await.unwrap_err(), ErrorCode::Exists),
        (client.create_queue("flights").await.unwrap_err(), ErrorCode::WrongKind),
        (client.create(Create::Queue(bad_name)).await.unwrap_err(), ErrorCode::BadRequest),
        (client.consume("nothing").await.unwrap_err(), ErrorCode::NotFound),
        (client.consume("flights").await.unwrap_err(), ErrorCode::WrongKind),
        (client.delete_queue("nothing").await.unwrap_err(), ErrorCode::NotFound),
        (client.purge("flights").await.unwrap_err(), ErrorCode::WrongKind),
        (client.stream_info("orders").await.unwrap_err(), ErrorCode::WrongKind),
    ];
    for (error, code) in &errors {
        let refusal = refusal(error);
        assert_eq!(refusal.code, *code, "{refusal:?}");
        assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{refusal:?}");
    }
}
