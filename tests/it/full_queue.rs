//! A bounded queue whose publishers want more than it takes: who is refused is told, and
//! nobody else is.

use std::collections::BTreeSet;

use weir_client::{
    Alter, AlterQueue, Client, ConsumeOptions, Create, CreateQueue, ErrorCode, Level, Message,
};
use weir_tests::{TestBroker, soon, until};

const PUBLISHERS: usize = 3;
const MESSAGES: usize = 20_000;
const BATCH: usize = 64;
/// Batches of a publisher without an answer: far more than the queue takes.
const OPEN_MAX: usize = 100;

async fn make_queue(client: &Client, messages_max: u64) {
    let level = Some(Level::Memory);
    let queue =
        CreateQueue { name: "narrow".into(), messages_max, level, ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
}

/// Publishes numbers from `first` on as fast as it can; those that were stored.
async fn publish(client: Client, first: usize) -> BTreeSet<usize> {
    let mut publisher = client.publisher();
    let (mut stored, mut open) = (BTreeSet::new(), std::collections::VecDeque::new());
    let numbers: Vec<usize> = (first..first + MESSAGES).collect();
    let mut batches = numbers.chunks(BATCH);
    loop {
        let batch = batches.next();
        if let Some(batch) = batch {
            let texts: Vec<String> = batch.iter().map(ToString::to_string).collect();
            let messages: Vec<Message<'_>> =
                texts.iter().map(|text| Message::new("narrow").payload(text)).collect();
            publisher.send_all(&messages).await.unwrap();
            open.push_back((batch, publisher.take()));
        }
        if open.len() < OPEN_MAX && batch.is_some() {
            continue;
        }
        let Some((batch, confirmation)) = open.pop_front() else { return stored };
        let receipt = confirmation.await.unwrap();
        let mut taken: BTreeSet<usize> = batch.iter().copied().collect();
        for refused in &receipt.refusals {
            assert_eq!(refused.code, ErrorCode::QueueFull);
            for position in refused.position..refused.position + refused.count {
                assert!(taken.remove(&batch[position as usize]), "refused twice: {receipt:?}");
            }
        }
        assert_eq!(receipt.stored, taken.len() as u64, "{receipt:?}");
        stored.append(&mut taken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_comes_once_and_what_was_refused_never() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    make_queue(&client, 500).await;
    let mut publishers = Vec::new();
    for number in 0..PUBLISHERS {
        publishers.push(tokio::spawn(publish(broker.client().await, number * MESSAGES)));
    }
    let mut consumer = client.consume_with("narrow", ConsumeOptions::credit(200)).await.unwrap();
    let consuming = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while let Some(batch) = consumer.next_batch().await.unwrap() {
            for delivery in &batch {
                let text = std::str::from_utf8(delivery.payload()).unwrap();
                if text == "end" {
                    batch.ack();
                    return seen;
                }
                assert!(seen.insert(text.parse::<usize>().unwrap()), "{text} came twice");
            }
            batch.ack();
        }
        panic!("the consumer was ended")
    });
    let mut stored = BTreeSet::new();
    for publisher in publishers {
        stored.append(&mut soon("all publishers", publisher).await.unwrap());
    }
    let kept = stored.len() as u64;
    let refused = (PUBLISHERS * MESSAGES) as u64 - kept;
    assert!(refused > 0, "the queue was never full");
    until("all is consumed", async || client.queue_info("narrow").await.unwrap().messages == 0)
        .await;
    let info = client.queue_info("narrow").await.unwrap();
    assert_eq!((info.published, info.refused), (kept, refused));
    let end = client.publish_confirmed(&[Message::new("narrow").payload("end")]).await.unwrap();
    assert_eq!(end.stored, 1);
    assert!(soon("the end", consuming).await.unwrap() == stored, "not what was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_room_finds_it() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    make_queue(&client, 1).await;
    let mut consumer = client.consume_with("narrow", ConsumeOptions::credit(1)).await.unwrap();
    let message = [Message::new("narrow").payload("x")];
    assert_eq!(client.publish_confirmed(&message).await.unwrap().stored, 1);
    for round in 0..200 {
        // From now on the queue is known as one that refuses.
        let receipt = client.publish_confirmed(&message).await.unwrap();
        assert_eq!(receipt.refused(), 1, "round {round}");
        soon("the message", consumer.next()).await.unwrap().unwrap().ack();
        consumer.flush().await.unwrap();
        // Behind the ack on the same connection, and nothing waits in between.
        let receipt = client.publish_confirmed(&message).await.unwrap();
        assert_eq!(receipt.stored, 1, "round {round}: {:?}", receipt.refusals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_was_told_of_is_there_for_everybody() {
    let broker = TestBroker::start().await;
    let (client, other) = (broker.client().await, broker.client().await);
    make_queue(&client, 1).await;
    let message = [Message::new("narrow").payload("x")];
    for round in 0..50 {
        while client.publish_confirmed(&message).await.unwrap().refused() == 0 {}
        // From now on publishers' own tasks refuse.
        assert_eq!(other.publish_confirmed(&message).await.unwrap().refused(), 1, "{round}");
        let taken = client.queue_info("narrow").await.unwrap().messages;
        assert_eq!(client.purge("narrow").await.unwrap(), taken, "{round}");
        assert_eq!(other.publish_confirmed(&message).await.unwrap().stored, 1, "purged, {round}");
        let larger = Some(2 + round);
        let larger =
            AlterQueue { name: "narrow".into(), messages_max: larger, ..AlterQueue::default() };
        other.publish_confirmed(&message).await.unwrap();
        client.alter(Alter::Queue(larger)).await.unwrap();
        assert_eq!(other.publish_confirmed(&message).await.unwrap().stored, 1, "altered, {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_a_start_could_only_guess_are_exact_once_all_is_taken() {
    const PAIRS: usize = 100;
    const LONG: usize = 8 << 10;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("mixed").await.unwrap();
    let long = vec![b'x'; LONG];
    let pair = [Message::new("mixed").payload(&long), Message::new("mixed").payload("x")];
    for _ in 0..PAIRS {
        assert_eq!(client.publish_confirmed(&pair).await.unwrap().stored, 2);
    }
    let mut consumer =
        client.consume_with("mixed", ConsumeOptions::credit(2 * PAIRS as u32)).await.unwrap();
    for _ in 0..2 * PAIRS {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        if delivery.payload().len() == LONG {
            delivery.ack();
        }
    }
    consumer.flush().await.unwrap();
    drop((consumer, client));
    // Nobody knows the length of a message that is not in memory: those that are left count
    // as an average of what was written with them.
    let broker = broker.restart().await;
    let client = broker.client().await;
    let left = client.queue_info("mixed").await.unwrap();
    assert_eq!(left.messages, PAIRS as u64);
    assert!(
        left.bytes > 100 * left.messages,
        "{left:?}: known after all, so that this tests nothing"
    );
    let mut consumer = client.consume("mixed").await.unwrap();
    for _ in 0..PAIRS {
        soon("a message", consumer.next()).await.unwrap().unwrap().ack();
    }
    consumer.flush().await.unwrap();
    until("all are settled", async || client.queue_info("mixed").await.unwrap().messages == 0)
        .await;
    assert_eq!(client.queue_info("mixed").await.unwrap().bytes, 0);
    let narrow = AlterQueue {
        name: "mixed".into(),
        bytes_max: Some(2 * LONG as u64),
        ..AlterQueue::default()
    };
    client.alter(Alter::Queue(narrow)).await.unwrap();
    assert_eq!(client.publish_confirmed(&pair).await.unwrap().stored, 2);
}
