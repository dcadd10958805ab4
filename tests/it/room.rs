//! No room: the publisher is told, the consumers go on, and with the room that
//! they make it goes on too. What a gone connection held is given back.

use std::sync::Arc;

use weir_client::{Client, ErrorCode, Message, Receipt};
use weir_core::command::{ConnectionId, Level};
use weir_core::memory_store::{Faults, MemoryStore};
use weir_core::store::Store;
use weir_protocol::{Create, CreateStream, Request, Response, Subscribe, SubscriptionId};
use weir_server::config::StoreKind;
use weir_tests::{Raw, TestBroker, soon, until};

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 64 << 10;

async fn publish(client: &Client, count: usize) -> Receipt {
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let messages = vec![Message::new("orders").payload(&payload); count];
    client.publish_confirmed(&messages).await.unwrap()
}

fn assert_no_space(receipt: &Receipt, refused: u64) {
    assert_eq!((receipt.stored, receipt.refused()), (0, refused));
    assert!(receipt.refusals.iter().all(|refusal| refusal.code == ErrorCode::NoSpace));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_kept_to_its_bound_and_taken_again_when_it_is_free() {
    const MEMORY_BYTES: usize = 1 << 20;
    let broker = TestBroker::start_with(|config| {
        (config.shards, config.memory_bytes_max) = (1, MEMORY_BYTES as u64);
        config.store.kind = StoreKind::Memory;
    })
    .await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    let mut kept = 0;
    let refused = loop {
        let receipt = publish(&client, 1).await;
        if receipt.stored == 0 {
            break receipt;
        }
        kept += 1;
    };
    assert_no_space(&refused, 1);
    assert!((2..=MEMORY_BYTES / PAYLOAD_BYTES).contains(&kept), "{kept} messages were kept");
    let mut consumer = client.consume("orders").await.unwrap();
    for _ in 0..kept {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        delivery.ack();
    }
    until("the queue is empty", async || client.queue_info("orders").await.unwrap().messages == 0)
        .await;
    for _ in 0..kept {
        assert_eq!(publish(&client, 1).await.stored, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_space_refuses_publishers_and_serves_consumers() {
    let mut faults: Vec<Arc<Faults>> = Vec::new();
    let broker = TestBroker::start_over(
        |_| {},
        |config| {
            let stores = (0..config.shards).map(|_| MemoryStore::new(1 << 30));
            let stores = stores.inspect(|store| faults.push(store.faults()));
            stores.map(|store| Box::new(store) as Box<dyn Store>).collect()
        },
    )
    .await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    assert_eq!(publish(&client, 3).await.stored, 3);
    faults.iter().for_each(|store| store.no_space(true));
    assert_no_space(&publish(&client, 2).await, 2);
    // What was kept before is served and settled meanwhile.
    let mut consumer = client.consume("orders").await.unwrap();
    for _ in 0..3 {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        delivery.ack();
    }
    assert_no_space(&publish(&client, 1).await, 1);
    faults.iter().for_each(|store| store.no_space(false));
    assert_eq!(publish(&client, 1).await.stored, 1);
    soon("a message", consumer.next()).await.unwrap().unwrap();
    assert_eq!(client.queue_info("orders").await.unwrap().refused, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_level_is_kept_as_safely_as_the_store_can() {
    let broker = TestBroker::start_with(|config| config.store.kind = StoreKind::Memory).await;
    let client = broker.client().await;
    client.create_queue("orders").await.unwrap();
    assert_eq!(client.queue_info("orders").await.unwrap().level, weir_protocol::Level::Memory);
    let stream = |level| {
        Create::Stream(CreateStream {
            name: "flights".into(),
            partitions: 1,
            level,
            ..CreateStream::default()
        })
    };
    client.create(stream(None)).await.unwrap();
    // The same thing, spelled out.
    client.create(stream(Some(weir_protocol::Level::Memory))).await.unwrap();
    let refused = client.create(stream(Some(weir_protocol::Level::Disk))).await.unwrap_err();
    assert_eq!(refused.refusal().map(|error| error.code), Some(ErrorCode::LevelUnsupported));
    let safe = TestBroker::start_over(
        |_| {},
        |config| {
            let store =
                |_| Box::new(MemoryStore::new(1 << 20).claiming(Level::Disk)) as Box<dyn Store>;
            (0..config.shards).map(store).collect()
        },
    )
    .await;
    let client = safe.client().await;
    client.create_queue("orders").await.unwrap();
    client.create(stream(None)).await.unwrap();
    assert_eq!(client.queue_info("orders").await.unwrap().level, weir_protocol::Level::Disk);
    assert_eq!(client.stream_info("flights").await.unwrap().level, weir_protocol::Level::Disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gone_connection_did_not_read_is_given_up_in_time() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut stuck = Raw::greeted(broker.address()).await;
    let sub = SubscriptionId(1);
    let listen = Subscribe { sub, pattern: "orders".into(), share: None };
    stuck.ask(1, &Request::Subscribe(listen)).await;
    assert!(matches!(stuck.read().await, Some(Response::Ok { .. })));
    let connections = &broker.server().broker().connections;
    let outbox = connections.get(ConnectionId(stuck.connection())).unwrap();
    // More than sockets hold: its write task is stuck in the middle.
    for _ in 0..40 {
        publish(&client, 10).await;
    }
    assert!(outbox.queued_bytes() > 0);
    // It says that it will send nothing more, and still does not read.
    stuck.finish().await.unwrap();
    let is_known = || connections.get(ConnectionId(stuck.connection())).is_some();
    until("it is forgotten", async || !is_known()).await;
    assert_eq!(connections.len(), 2, "its socket is still open");
    until("its bytes and both its tasks are gone", async || {
        // A publisher remembers who listened until it looks again.
        publish(&client, 1).await;
        outbox.queued_bytes() == 0 && Arc::strong_count(&outbox) == 1
    })
    .await;
    until("its place is free", async || connections.len() == 1).await;
}
