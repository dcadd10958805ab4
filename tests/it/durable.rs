//! What was acknowledged is there when the broker starts again over its folder: what
//! is settled stays settled, what is not comes again, and everything that was made,
//! changed or removed is as it was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use weir_client::{
    Alter, AlterGroup, AlterQueue, AlterStream, Client, ConsumeOptions, Consumer, Create,
    CreateQueue, CreateStream, Delivery, Kind, Level, Message, Order, Read, Start,
};
use weir_core::store::{Catalogue, Stamp, Store};
use weir_guests::Guests;
use weir_journal::files::OsFiles;
use weir_journal::{Journal, JournalConfig};
use weir_message::BatchBuilder;
use weir_server::system::SystemClock;
use weir_tests::{TestBroker, at_hand, now_ms, soon, until};

/// Publishes these numbers and has them confirmed as safe as can be.
async fn publish(client: &Client, subject: &str, numbers: std::ops::Range<usize>) {
    let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let messages: Vec<Message<'_>> =
        texts.iter().map(|text| Message::new(subject).key(text).payload(text)).collect();
    let receipt = client.publish_confirmed(&messages).await.unwrap();
    assert_eq!(receipt.stored, texts.len() as u64, "{:?}", receipt.refusals);
    assert_eq!(receipt.level, Level::Disk);
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

fn numbers(deliveries: &[Delivery]) -> BTreeSet<usize> {
    deliveries.iter().map(number).collect()
}

async fn nothing_more(client: &Client, consumer: &mut Consumer) {
    client.ping().await.unwrap();
    assert!(at_hand(consumer.next()).await.is_none(), "something more came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_keeps_what_is_not_settled_and_nothing_else() {
    const COUNT: usize = 500;
    let mut broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish(&client, "orders", 0..COUNT).await;
    let mut left: BTreeSet<usize> = (0..COUNT).collect();
    // Three starts, each settling another part, with gaps.
    for part in [3, 4, 5] {
        let client = broker.client().await;
        let options = ConsumeOptions::credit(COUNT as u32);
        let mut consumer = client.consume_with("orders", options).await.unwrap();
        let taken = take(&mut consumer, left.len()).await;
        assert_eq!(numbers(&taken), left, "before every {part}rd is settled");
        nothing_more(&client, &mut consumer).await;
        for delivery in taken.iter().filter(|it| number(it).is_multiple_of(part)) {
            delivery.ack();
            left.remove(&number(delivery));
        }
        consumer.flush().await.unwrap();
        drop(consumer);
        drop(client);
        broker = broker.restart().await;
        let client = broker.client().await;
        let info = client.queue_info("orders").await.unwrap();
        assert_eq!(info.messages, left.len() as u64);
        assert!(info.bytes > 0);
    }
    let client = broker.client().await;
    publish(&client, "orders", COUNT..COUNT + 10).await;
    left.extend(COUNT..COUNT + 10);
    let options = ConsumeOptions::credit(2 * COUNT as u32);
    let mut consumer = client.consume_with("orders", options).await.unwrap();
    let taken = take(&mut consumer, left.len()).await;
    assert_eq!(numbers(&taken), left);
    taken.iter().for_each(Delivery::ack);
    consumer.flush().await.unwrap();
    drop((consumer, client));
    let broker = broker.restart().await;
    assert_eq!(broker.client().await.queue_info("orders").await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_on_where_they_were_and_streams_keep_everything() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 2, &["flights.>"]).await.unwrap();
    for (group, start) in [("gaps", Start::Earliest), ("done", Start::Earliest)] {
        client.create_group("flights", group, start).await.unwrap();
    }
    publish(&client, "flights.new", 0..100).await;
    client.create_group("flights", "live", Start::Latest).await.unwrap();
    client.create_group("flights", "moved", Start::Earliest).await.unwrap();
    let all = || ConsumeOptions::credit(1_000);
    let mut gaps = client.consume_group("flights", "gaps", all()).await.unwrap();
    let taken = take(&mut gaps, 100).await;
    let settled = |number: usize| number.is_multiple_of(2) || number < 20;
    taken.iter().filter(|it| settled(number(it))).for_each(Delivery::ack);
    gaps.flush().await.unwrap();
    let mut done = client.consume_group("flights", "done", all()).await.unwrap();
    take(&mut done, 100).await.iter().for_each(Delivery::ack);
    done.flush().await.unwrap();
    client.seek("flights", "moved", Some(0), Start::Latest).await.unwrap();
    let ends = client.stream_info("flights").await.unwrap().ends;
    drop((gaps, done, client));
    let broker = broker.restart().await;
    let client = broker.client().await;
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!((info.messages, &info.ends, info.partitions), (100, &ends, 2));
    assert_eq!(client.group_info("flights", "done").await.unwrap().cursors, ends);
    assert_eq!(client.group_info("flights", "live").await.unwrap().cursors, ends);
    assert_eq!(client.group_info("flights", "moved").await.unwrap().cursors, [ends[0], 0]);
    let mut gaps = client.consume_group("flights", "gaps", all()).await.unwrap();
    let expected: BTreeSet<usize> = (0..100).filter(|&number| !settled(number)).collect();
    assert_eq!(numbers(&take(&mut gaps, expected.len()).await), expected);
    nothing_more(&client, &mut gaps).await;
    publish(&client, "flights.new", 100..110).await;
    let mut live = client.consume_group("flights", "live", all()).await.unwrap();
    assert_eq!(numbers(&take(&mut live, 10).await), (100..110).collect());
    let mut read = BTreeSet::new();
    for partition in 0..2 {
        let (stream, from) = ("flights".to_owned(), Start::Earliest);
        let asked = Read { stream, partition, from, messages_max: None, bytes_max: None };
        for record in client.read(asked).await.unwrap().records.iter() {
            read.insert(number(&record.to_owned()));
        }
    }
    assert_eq!(read, (0..110).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn delays_outlive_a_restart() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let sent_ms = now_ms();
    const DELAY_MS: u32 = 1_500;
    let messages = [
        Message::new("orders").payload("0"),
        Message::new("orders").payload("1").delay_ms(DELAY_MS),
        Message::new("orders").payload("2").delay_ms(3_600_000),
    ];
    assert_eq!(client.publish_confirmed(&messages).await.unwrap().stored, 3);
    drop(client);
    let broker = broker.restart().await;
    let client = broker.client().await;
    let mut consumer = client.consume("orders").await.unwrap();
    assert_eq!(number(&take(&mut consumer, 1).await[0]), 0);
    assert_eq!(number(&take(&mut consumer, 1).await[0]), 1);
    assert!(now_ms() >= sent_ms + u64::from(DELAY_MS), "it came before its time");
    let info = client.queue_info("orders").await.unwrap();
    assert_eq!((info.messages, info.delivery.delayed), (3, 1));
    nothing_more(&client, &mut consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_changed_and_removed_is_so_after_a_restart() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let queue = CreateQueue {
        name: "orders".into(),
        subjects: vec!["orders.>".into(), "sales.*".into()],
        if_absent: false,
        messages_max: 1_000,
        bytes_max: 0,
        level: Some(Level::Os),
        order: Order::Key,
    };
    client.create(Create::Queue(queue)).await.unwrap();
    for name in ["gone", "again"] {
        client.create_queue(name).await.unwrap();
        publish(&client, name, 0..5).await;
        client.create_stream(&format!("{name}-stream"), 2, &[]).await.unwrap();
        client.create_group(&format!("{name}-stream"), "audit", Start::Earliest).await.unwrap();
        client.create_group(&format!("{name}-stream"), "left", Start::Earliest).await.unwrap();
        client.delete_queue(name).await.unwrap();
        client.delete_group(&format!("{name}-stream"), "left").await.unwrap();
        client.delete_stream(&format!("{name}-stream")).await.unwrap();
    }
    client.create_queue("again").await.unwrap();
    client.create_stream("again-stream", 1, &[]).await.unwrap();
    client.create_group("again-stream", "live", Start::Latest).await.unwrap();
    let altered =
        AlterQueue { name: "orders".into(), messages_max: Some(7), ..AlterQueue::default() };
    client.alter(Alter::Queue(altered)).await.unwrap();
    let altered = AlterStream {
        name: "again-stream".into(),
        age_ms_max: Some(3_600_000),
        subjects: Some(vec!["again.*".into()]),
        ..AlterStream::default()
    };
    client.alter(Alter::Stream(altered)).await.unwrap();
    let options = serde_json::Map::from_iter([("lanes".to_owned(), 3.into())]);
    let altered = AlterGroup {
        stream: "again-stream".into(),
        name: "live".into(),
        order: Some(Order::All),
        options: Some(options.clone()),
    };
    client.alter(Alter::Group(altered)).await.unwrap();
    let before = client.list(None).await.unwrap();
    assert_eq!(before.len(), 4, "{before:?}");
    drop(client);
    // A second start shows that the first has changed nothing.
    let broker = broker.restart().await.restart().await;
    let client = broker.client().await;
    assert_eq!(client.list(None).await.unwrap(), before);
    let info = client.queue_info("orders").await.unwrap();
    assert_eq!((info.messages_max, info.level, info.order), (7, Level::Os, Order::Key));
    assert_eq!(info.subjects, ["orders.>", "sales.*"]);
    let info = client.stream_info("again-stream").await.unwrap();
    assert_eq!((info.age_ms_max, info.messages), (3_600_000, 0));
    assert_eq!(info.subjects, ["again.*"]);
    let info = client.group_info("again-stream", "live").await.unwrap();
    assert_eq!((info.order, info.options), (Order::All, options));
    assert_eq!(client.queue_info("again").await.unwrap().messages, 0, "it was made anew");
    let receipt = client.publish_confirmed(&[Message::new("sales.eu").payload("1")]).await.unwrap();
    assert_eq!((receipt.stored, receipt.level), (1, Level::Os));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_kept_with_their_queue() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish(&client, "orders", 0..2).await;
    let mut consumer = client.consume("orders").await.unwrap();
    take(&mut consumer, 2).await.iter().for_each(|it| it.reject(7));
    consumer.flush().await.unwrap();
    until("both are dead", async || {
        client.queue_info("orders/dead").await.is_ok_and(|info| info.messages == 2)
    })
    .await;
    until("both are out of their queue", async || {
        client.queue_info("orders").await.unwrap().messages == 0
    })
    .await;
    drop((consumer, client));
    let broker = broker.restart().await;
    let client = broker.client().await;
    let info = client.queue_info("orders/dead").await.unwrap();
    assert_eq!((info.messages, info.level, info.subjects.len()), (2, Level::Disk, 0));
    assert_eq!(client.queue_info("orders").await.unwrap().messages, 0);
    let mut dead = client.consume("orders/dead").await.unwrap();
    let letters = take(&mut dead, 2).await;
    assert_eq!(letters[0].header("weir-dead-source"), Some(&b"orders"[..]));
    assert_eq!(letters[1].header("weir-dead-offset"), Some(&b"1"[..]));
    // The one is dead for good; its queue can be removed, and stays so.
    letters.iter().for_each(Delivery::ack);
    dead.flush().await.unwrap();
    client.delete_queue("orders/dead").await.unwrap();
    drop((dead, client));
    let broker = broker.restart().await;
    let left = broker.client().await.list(None).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Opens the folder of a broker that does not run.
fn opened(data: &Path) -> Journal {
    let files = Arc::new(OsFiles::new(data).unwrap());
    let config = JournalConfig { journal_file_bytes: 4 << 20, ..JournalConfig::new(7) };
    Journal::open(files, Arc::new(SystemClock::default()), config, 1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_an_entry_are_taken_up_when_they_hold_dead_letters_and_else_removed() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    publish(&client, "orders", 0..1).await;
    let mut consumer = client.consume("orders").await.unwrap();
    take(&mut consumer, 1).await[0].reject(7);
    consumer.flush().await.unwrap();
    until("it is dead", async || {
        client.queue_info("orders/dead").await.is_ok_and(|info| info.messages == 1)
    })
    .await;
    drop((consumer, client));
    // As if the process had ended before the entry was written.
    let broker = broker
        .restart_with(|config| {
            let journal = opened(&config.data);
            let mut catalogue = journal.catalogue();
            let key = "queue/orders/dead";
            let entry = catalogue.get(key).expect("a dead-letter queue has an entry");
            catalogue.put(key, None, entry.revision).unwrap();
            let mut store = journal.store(Box::new(|| {}));
            let log = store.open("queue/nobodys").unwrap();
            let mut batch = BatchBuilder::default();
            batch.push(b"never listed");
            let stamp = Stamp { time_ms: 1, due_ms: 0 };
            let batch = batch.take();
            store.append(log, 0, stamp, batch, weir_core::command::Level::Disk).unwrap();
            store.commit().unwrap();
            journal.close().unwrap();
        })
        .await;
    let client = broker.client().await;
    let names: Vec<String> =
        client.list(Some(Kind::Queue)).await.unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["orders", "orders/dead"]);
    assert_eq!(client.queue_info("orders/dead").await.unwrap().messages, 1);
    drop(client);
    let broker = broker
        .restart_with(|config| {
            let journal = opened(&config.data);
            let logs = journal.unopened();
            assert_eq!(logs, ["queue/orders", "queue/orders/dead"]);
            assert!(journal.catalogue().get("queue/orders/dead").is_some());
            journal.close().unwrap();
        })
        .await;
    assert_eq!(broker.client().await.list(None).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failing_filter_has_held_is_kept_also_without_an_entry() {
    let guests = tokio::task::spawn_blocking(Guests::get).await.unwrap();
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let toml = "policy = 'guard'\nrole = 'filter'\nsubjects = ['in']\non-failure = 'hold'\n";
    broker.put_binding("guard", toml);
    broker.put_plugin("guard", &guests.behaving("panic"));
    broker.active_after(&client, "guard", 0).await;
    publish(&client, "in", 0..3).await;
    drop(client);
    // As if there had been no space for the entry, or the process had ended before it.
    let broker = broker
        .restart_with(|config| {
            let journal = opened(&config.data);
            let mut catalogue = journal.catalogue();
            let key = "queue/guard/held";
            let entry = catalogue.get(key).expect("a stop lists what the broker has made");
            catalogue.put(key, None, entry.revision).unwrap();
            journal.close().unwrap();
        })
        .await;
    let client = broker.client().await;
    let info = client.queue_info("guard/held").await.unwrap();
    assert_eq!((info.messages, info.level, info.subjects.len()), (3, Level::Disk, 0));
    let mut held = client.consume("guard/held").await.unwrap();
    assert_eq!(numbers(&take(&mut held, 3).await), (0..3).collect());
    // Removed, it stays so.
    client.delete_queue("guard/held").await.unwrap();
    drop((held, client));
    let broker = broker.restart().await;
    let left = broker.client().await.list(None).await.unwrap();
    assert_eq!(left.len(), 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_go_on_and_what_was_rolled_back_stays_out() {
    let broker = TestBroker::bound(&[("mine", &to("a"))]).await;
    let client = broker.client().await;
    client.create_queue("a").await.unwrap();
    client.create_queue("b").await.unwrap();
    broker.put_binding("mine", &to("b"));
    broker.active_after(&client, "mine", 1).await;
    client.policy_rollback("mine").await.unwrap();
    drop(client);
    let broker = broker.restart().await;
    let client = broker.client().await;
    let status = broker.status(&client, "mine").await.unwrap();
    assert_eq!((status.state.as_str(), status.generation), ("rolled-back", 3));
    publish(&client, "in", 0..1).await;
    assert_eq!(client.queue_info("a").await.unwrap().messages, 1);
    assert_eq!(client.queue_info("b").await.unwrap().messages, 0);
    broker.put_binding("mine", &format!("{}# meant\n", to("b")));
    let status = broker.active_after(&client, "mine", 3).await;
    assert_eq!(status.generation, 4);
}

/// A binding that sends what comes on `in` there.
fn to(queue: &str) -> String {
    format!(
        "policy = 'subject-router'\nsubjects = ['in']\npowers = ['retarget']\n\
         config.rules = [{{ pattern = 'in', to = '{queue}' }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_memory_only_comes_back_empty() {
    let broker = TestBroker::start_with(|config| {
        config.store.default_level = Some(weir_core::command::Level::Memory);
    })
    .await;
    let client = broker.client().await;
    client.create_queue("fleeting").await.unwrap();
    let stream = CreateStream {
        name: "flights".into(),
        partitions: 1,
        level: Some(Level::Disk),
        ..CreateStream::default()
    };
    client.create(Create::Stream(stream)).await.unwrap();
    let both = [Message::new("fleeting").payload("1"), Message::new("flights").payload("1")];
    let receipt = client.publish_confirmed(&both[..1]).await.unwrap();
    assert_eq!((receipt.stored, receipt.level), (1, Level::Memory));
    let receipt = client.publish_confirmed(&both).await.unwrap();
    assert_eq!((receipt.stored, receipt.level), (2, Level::Memory), "the lowest of them");
    drop(client);
    let broker = broker.restart().await;
    let client = broker.client().await;
    let info = client.queue_info("fleeting").await.unwrap();
    assert_eq!((info.messages, info.level), (0, Level::Memory));
    assert_eq!(client.stream_info("flights").await.unwrap().messages, 1);
    let receipt = client.publish_confirmed(&both[..1]).await.unwrap();
    assert_eq!(receipt.stored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_of_memory_only_says_nothing_of_what_comes_after_a_restart() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let queue =
        CreateQueue { name: "orders".into(), level: Some(Level::Memory), ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
    let message = Message::new("orders").payload("gone");
    let receipt = client.publish_confirmed(&vec![message; 4]).await.unwrap();
    assert_eq!((receipt.stored, receipt.level), (4, Level::Memory));
    // From now on what is settled is written down.
    let safer =
        AlterQueue { name: "orders".into(), level: Some(Level::Disk), ..AlterQueue::default() };
    client.alter(Alter::Queue(safer)).await.unwrap();
    let mut consumer = client.consume("orders").await.unwrap();
    take(&mut consumer, 4).await[3].ack();
    consumer.flush().await.unwrap();
    drop((consumer, client));
    let broker = broker.restart().await;
    let client = broker.client().await;
    assert_eq!(client.queue_info("orders").await.unwrap().messages, 0);
    publish(&client, "orders", 0..4).await;
    drop(client);
    for _ in 0..2 {
        let client = broker.client().await;
        assert_eq!(client.queue_info("orders").await.unwrap().messages, 4);
        let mut consumer = client.consume("orders").await.unwrap();
        assert_eq!(numbers(&take(&mut consumer, 4).await), (0..4).collect());
        nothing_more(&client, &mut consumer).await;
    }
    let broker = broker.restart().await;
    let client = broker.client().await;
    let mut consumer = client.consume("orders").await.unwrap();
    assert_eq!(numbers(&take(&mut consumer, 4).await), (0..4).collect());
}
