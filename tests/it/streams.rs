//! Streams: everything is kept for every group, in partitions, and can be read again.

use std::collections::{BTreeMap, BTreeSet};

use weir_client::{
    Client, ConsumeOptions, Consumer, Create, CreateStream, Delivery, ErrorCode, Message, Read,
    RecordRange, Start,
};
use weir_tests::{TestBroker, at_hand, now_ms, soon, until};

/// Publishes so many messages over so many keys, numbered from 0.
async fn publish_numbers(client: &Client, subject: &str, count: usize, keys: usize) {
    let mut publisher = client.publisher();
    for number in 0..count {
        let (key, text) = (format!("k{}", number % keys), number.to_string());
        publisher.send(&Message::new(subject).key(&key).payload(&text)).await.unwrap();
    }
    let receipt = publisher.flush().await.unwrap();
    assert_eq!(receipt.stored, count as u64, "{:?}", receipt.refusals);
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(soon("a delivery", consumer.next()).await.unwrap().unwrap());
    }
    taken
}

fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap()
}

fn numbers(range: &RecordRange) -> Vec<usize> {
    range
        .records
        .iter()
        .map(|it| std::str::from_utf8(it.payload()).unwrap().parse().unwrap())
        .collect()
}

fn read(partition: u16, from: Start, messages_max: Option<u32>) -> Read {
    Read { stream: "flights".into(), partition, from, messages_max, bytes_max: None }
}

fn bounded(messages_max: u64, bytes_max: u64, age_ms_max: u64) -> Create {
    Create::Stream(CreateStream {
        name: "flights".into(),
        subjects: vec!["flights.>".into()],
        partitions: 1,
        messages_max,
        bytes_max,
        age_ms_max,
        ..CreateStream::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_key_are_in_one_partition_in_order() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 4, &["flights.>"]).await.unwrap();
    publish_numbers(&client, "flights.new", 2_000, 20).await;
    let mut home = BTreeMap::new();
    let mut last = BTreeMap::new();
    let mut total = 0;
    for partition in 0..4 {
        let range = client.read(read(partition, Start::Earliest, None)).await.unwrap();
        assert_eq!(
            (range.start, range.next, range.records.len() as u64),
            (0, range.end, range.end)
        );
        for (offset, record) in range.records.iter().enumerate() {
            assert_eq!(record.offset(), offset as u64);
            let key = record.view().key.to_vec();
            let number: usize = std::str::from_utf8(record.payload()).unwrap().parse().unwrap();
            assert_eq!(*home.entry(key.clone()).or_insert(partition), partition);
            assert!(last.insert(key, number).is_none_or(|before| before < number));
        }
        total += range.records.len();
    }
    assert_eq!((total, home.len()), (2_000, 20));
    let used: BTreeSet<u16> = home.into_values().collect();
    assert!(used.len() >= 3, "20 keys lie in {used:?}");
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!((info.partitions, info.messages, info.published), (4, 2_000, 2_000));
    let error = client.read(read(4, Start::Earliest, None)).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::NoPartition);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_gets_everything_once_among_its_members() {
    const COUNT: usize = 2_000;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 4, &["flights.>"]).await.unwrap();
    let (told, mut hears) = tokio::sync::mpsc::channel(64);
    let mut members = tokio::task::JoinSet::new();
    for group in ["audit", "billing"] {
        client.create_group("flights", group, Start::Earliest).await.unwrap();
        for member in 0..2 {
            let mine = broker.client().await;
            let mut consumer =
                mine.consume_group("flights", group, ConsumeOptions::credit(64)).await.unwrap();
            let told = told.clone();
            members.spawn(async move {
                while let Ok(Some(batch)) = consumer.next_batch().await {
                    let places: Vec<(u16, u64)> = batch
                        .iter()
                        .map(|it| it.to_owned())
                        .map(|it| (it.partition, it.offset))
                        .collect();
                    batch.ack();
                    if told.send((group, member, places)).await.is_err() {
                        break;
                    }
                }
                drop(mine);
            });
        }
    }
    publish_numbers(&client, "flights.new", COUNT, 50).await;
    let mut seen: BTreeMap<&str, BTreeSet<(u16, u64)>> = BTreeMap::new();
    let mut worked = BTreeSet::new();
    while seen.values().map(BTreeSet::len).sum::<usize>() < 2 * COUNT {
        let (group, member, places) = soon("a batch", hears.recv()).await.unwrap();
        worked.insert((group, member));
        for place in places {
            assert!(seen.entry(group).or_default().insert(place), "twice in {group}: {place:?}");
        }
    }
    assert_eq!((seen["audit"].len(), seen["billing"].len()), (COUNT, COUNT));
    assert_eq!(worked.len(), 4, "a member was left out: {worked:?}");
    for group in ["audit", "billing"] {
        until("the group is through", async || {
            client.group_info("flights", group).await.unwrap().delivery.lag == 0
        })
        .await;
    }
    // A stream keeps what all groups have settled.
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!((info.messages, info.groups.len()), (COUNT as u64, 2));
    for group in &info.groups {
        assert_eq!(group.cursors, info.ends);
    }
    members.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_where_it_was_told() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 1, &["flights.>"]).await.unwrap();
    publish_numbers(&client, "flights.new", 50, 1).await;
    let records = client.read(read(0, Start::Offset(49), None)).await.unwrap().records;
    let taken_at = records.iter().next().unwrap().to_owned().time_ms;
    until("the clock goes on", async || now_ms() > taken_at + 1).await;
    let second_part = now_ms();
    publish_numbers(&client, "flights.new", 50, 1).await;
    for (group, start, first, count) in [
        ("all", Start::Earliest, 0, 100),
        ("some", Start::Offset(70), 70, 30),
        ("since", Start::TimeMs(second_part), 50, 50),
    ] {
        client.create_group("flights", group, start).await.unwrap();
        let mut consumer =
            client.consume_group("flights", group, ConsumeOptions::credit(200)).await.unwrap();
        let taken = take(&mut consumer, count).await;
        assert_eq!(taken[0].offset, first, "{group}");
        assert_eq!(taken.last().unwrap().offset, 99, "{group}");
    }
    client.create_group("flights", "live", Start::Latest).await.unwrap();
    let mut live =
        client.consume_group("flights", "live", ConsumeOptions::credit(200)).await.unwrap();
    publish_numbers(&client, "flights.new", 1, 1).await;
    assert_eq!(take(&mut live, 1).await[0].offset, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_moved_reads_again() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 1, &["flights.>"]).await.unwrap();
    client.create_group("flights", "audit", Start::Earliest).await.unwrap();
    publish_numbers(&client, "flights.new", 20, 4).await;
    let mut consumer =
        client.consume_group("flights", "audit", ConsumeOptions::credit(100)).await.unwrap();
    let first = take(&mut consumer, 20).await;
    first[..15].iter().for_each(Delivery::ack);
    consumer.flush().await.unwrap();
    until("fifteen are settled", async || {
        client.group_info("flights", "audit").await.unwrap().delivery.acked == 15
    })
    .await;
    client.seek("flights", "audit", None, Start::Offset(5)).await.unwrap();
    let second = take(&mut consumer, 15).await;
    let offsets: Vec<u64> = second.iter().map(|it| it.offset).collect();
    assert_eq!(offsets, (5..20).collect::<Vec<u64>>());
    // Acks for what was in flight before the move are void.
    first[19].ack();
    let late = consumer.flush().await.unwrap();
    assert_eq!(late.done, 0, "{late:?}");
    second.iter().for_each(Delivery::ack);
    until("all are settled", async || {
        client.group_info("flights", "audit").await.unwrap().cursors == [20]
    })
    .await;
    // To the end: nothing comes until something new does.
    client.seek("flights", "audit", None, Start::Earliest).await.unwrap();
    client.seek("flights", "audit", Some(0), Start::Latest).await.unwrap();
    assert_eq!(client.group_info("flights", "audit").await.unwrap().delivery.lag, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_read_without_moving_anything() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 1, &["flights.>"]).await.unwrap();
    client.create_group("flights", "audit", Start::Earliest).await.unwrap();
    publish_numbers(&client, "flights.new", 100, 1).await;
    let mut from = 10;
    let mut all = Vec::new();
    loop {
        let range = client.read(read(0, Start::Offset(from), Some(30))).await.unwrap();
        assert_eq!((range.start, range.end), (0, 100));
        assert!(range.records.len() <= 30);
        if range.records.is_empty() {
            break;
        }
        all.extend(numbers(&range));
        from = range.next;
    }
    assert_eq!(all, (10..100).collect::<Vec<usize>>());
    assert_eq!(client.group_info("flights", "audit").await.unwrap().cursors, [0]);
    let error = client.read(read(0, Start::Offset(101), None)).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::OffsetOutOfRange);
    // At least one message, however few bytes are wanted.
    let one = Read { bytes_max: Some(1), ..read(0, Start::Earliest, None) };
    assert_eq!(numbers(&client.read(one).await.unwrap()), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removes_is_counted_and_groups_go_on_behind_it() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create(bounded(100, 0, 0)).await.unwrap();
    client.create_group("flights", "audit", Start::Earliest).await.unwrap();
    publish_numbers(&client, "flights.new", 1_000, 5).await;
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!((info.published, info.refused), (1_000, 0), "a full stream refuses nothing");
    assert_eq!((info.messages, info.removed), (100, 900));
    assert_eq!((info.starts, info.ends), (vec![900], vec![1_000]));
    let mut consumer =
        client.consume_group("flights", "audit", ConsumeOptions::credit(500)).await.unwrap();
    let taken = take(&mut consumer, 100).await;
    assert_eq!((number(&taken[0]), number(&taken[99])), (900, 999));
    taken.iter().for_each(Delivery::ack);
    until("the group is through", async || {
        client.group_info("flights", "audit").await.unwrap().delivery.lag == 0
    })
    .await;
    client.ping().await.unwrap();
    assert!(at_hand(consumer.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_go_when_their_time_has_come() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create(bounded(0, 0, 200)).await.unwrap();
    publish_numbers(&client, "flights.new", 10, 1).await;
    until("they are gone", async || client.stream_info("flights").await.unwrap().messages == 0)
        .await;
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!((info.removed, info.published), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_streams_that_are_deleted_tell_their_consumers() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 2, &["flights.>"]).await.unwrap();
    for group in ["one", "two"] {
        client.create_group("flights", group, Start::Earliest).await.unwrap();
    }
    let options = ConsumeOptions::default;
    let mut first = client.consume_group("flights", "one", options()).await.unwrap();
    let mut second = client.consume_group("flights", "two", options()).await.unwrap();
    client.delete_group("flights", "one").await.unwrap();
    let error = soon("the end", first.next()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::Deleted);
    let error = client.consume_group("flights", "one", options()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::NotFound);
    publish_numbers(&client, "flights.new", 1, 1).await;
    assert_eq!(take(&mut second, 1).await.len(), 1, "the other group goes on");
    client.delete_stream("flights").await.unwrap();
    let error = soon("the end", second.next()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::Deleted);
}
