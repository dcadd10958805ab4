//! Streams that keep the last message of each key, over sockets and through restarts.

use weir_client::{
    Alter, AlterStream, Client, ConsumeOptions, Create, CreateStream, Message, Read, Start,
};
use weir_tests::{TestBroker, soon, until};

const KEYS: usize = 5;
const COUNT: usize = 1_000;

async fn publish(client: &Client, numbers: std::ops::Range<usize>) {
    let mut publisher = client.publisher();
    for number in numbers {
        let (key, text) = (format!("k{}", number % KEYS), number.to_string());
        publisher.send(&Message::new("prices").key(&key).payload(&text)).await.unwrap();
    }
    publisher.flush().await.unwrap();
}

/// Offsets and payloads of everything that is kept.
async fn read(client: &Client) -> Vec<(u64, String)> {
    let (mut all, mut start) = (Vec::new(), Start::Earliest);
    loop {
        let (stream, partition) = ("prices".to_owned(), 0);
        let request = Read { stream, partition, from: start, messages_max: None, bytes_max: None };
        let range = client.read(request).await.unwrap();
        let text = |it: &[u8]| std::str::from_utf8(it).unwrap().to_owned();
        all.extend(range.records.iter().map(|it| (it.offset(), text(it.payload()))));
        if range.next >= range.end {
            return all;
        }
        start = Start::Offset(range.next);
    }
}

async fn alter(client: &Client, compact: bool) {
    let change =
        AlterStream { name: "prices".into(), compact: Some(compact), ..AlterStream::default() };
    client.alter(Alter::Stream(change)).await.unwrap();
}

fn last(from: usize) -> Vec<(u64, String)> {
    (from..from + KEYS).map(|number| (number as u64, number.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_streams_keep_the_last_of_each_key_through_restarts() {
    let mut broker = TestBroker::start().await;
    let client = broker.client().await;
    let stream = CreateStream { name: "prices".into(), ..CreateStream::default() };
    client.create(Create::Stream(stream)).await.unwrap();
    client.create_group("prices", "board", Start::Earliest).await.unwrap();
    publish(&client, 0..COUNT).await;
    alter(&client, true).await;
    until("it is compacted", async || {
        client.stream_info("prices").await.unwrap().messages == KEYS as u64
    })
    .await;
    assert_eq!(read(&client).await, last(COUNT - KEYS));
    let info = client.stream_info("prices").await.unwrap();
    assert_eq!((info.published, info.removed), (COUNT as u64, 0));
    assert_eq!((info.compacted, info.kept), ((COUNT - KEYS) as u64, vec![KEYS as u64]));
    assert_eq!(info.groups[0].delivery.lag, KEYS as u64);
    drop(client);

    // A start knows the setting, and begins with a pass.
    broker = broker.restart().await;
    let client = broker.client().await;
    let info = client.stream_info("prices").await.unwrap();
    assert!(info.compact && info.tombstone_ms == 86_400_000);
    assert_eq!(read(&client).await, last(COUNT - KEYS));
    alter(&client, false).await;
    publish(&client, COUNT..2 * COUNT).await;
    assert_eq!(read(&client).await.len(), COUNT + KEYS, "switched off");
    alter(&client, true).await;
    until("it is compacted again", async || {
        client.stream_info("prices").await.unwrap().messages == KEYS as u64
    })
    .await;
    let mut consumer =
        client.consume_group("prices", "board", ConsumeOptions::credit(9)).await.unwrap();
    for (offset, text) in last(2 * COUNT - KEYS) {
        let delivery = soon("a delivery", consumer.next()).await.unwrap().unwrap();
        assert_eq!((delivery.offset, delivery.payload()), (offset, text.as_bytes()));
        delivery.ack();
    }
    consumer.flush().await.unwrap();
    let info = client.group_info("prices", "board").await.unwrap();
    assert_eq!(info.delivery.lag, 0);
}
