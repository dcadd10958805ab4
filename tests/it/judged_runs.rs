//! Messages that are judged one by one and handed on together: what is left alone stays
//! in its frame, in its order, with its delay, between others that are not.

use weir_client::{Consumer, Delivery, ErrorCode, Message};
use weir_tests::{TestBroker, soon, until};

const HOUR_MS: u32 = 3_600_000;

const FILTER: &str = "policy = 'json-filter'\nsubjects = ['orders']\npowers = ['drop']\n[config]\n\
    keep = { field = 'good', value = true }\n";
const ROUTER: &str = "policy = 'json-router'\nsubjects = ['orders']\npowers = ['retarget']\n[config]\n\
    [[config.rules]]\nwhen = { field = 'to', op = 'exists' }\nto = '{to}'\n";

async fn next(consumer: &mut Consumer) -> Delivery {
    soon("a message", consumer.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_policies_leave_alone_stay_where_they_are() {
    let broker = TestBroker::start_with(|config| {
        for (name, toml) in [("filter", FILTER), ("router", ROUTER)] {
            std::fs::write(config.bindings.join(format!("{name}.toml")), toml).unwrap();
        }
    })
    .await;
    let client = broker.client().await;
    for name in ["filter", "router"] {
        let status = broker.status(&client, name).await.unwrap();
        assert_eq!((status.state.as_str(), &status.error), ("active", &None), "{name}");
    }
    client.create_queue("orders").await.unwrap();
    client.create_queue("others").await.unwrap();

    // Neighbours of different delays come in frames of their own.
    let rows = [
        (r#"{"good":true,"n":0}"#, 0),
        (r#"{"good":true,"n":1}"#, 0),
        (r#"{"good":false,"n":2}"#, 0),
        (r#"{"good":true,"n":3}"#, HOUR_MS),
        (r#"{"good":true,"n":4}"#, HOUR_MS),
        (r#"{"good":false,"n":5}"#, HOUR_MS),
        (r#"{"good":true,"n":6}"#, 0),
        (r#"{"good":true,"n":7,"to":"others"}"#, 0),
        (r#"{"good":true,"n":8}"#, 0),
        (r#"{"good":false,"n":9}"#, 0),
    ];
    let messages = rows.map(|(text, ms)| Message::new("orders").payload(text).delay_ms(ms));
    let receipt = client.publish_confirmed(&messages).await.unwrap();
    let refused: Vec<u64> = receipt
        .refusals
        .iter()
        .flat_map(|refusal| {
            assert_eq!(refusal.code, ErrorCode::PolicyRefused, "{}", refusal.message);
            refusal.position..refusal.position + refusal.count
        })
        .collect();
    assert_eq!((receipt.stored, refused), (7, vec![2, 5, 9]));

    let mut orders = client.consume("orders").await.unwrap();
    for row in [0, 1, 6, 8] {
        let delivery = next(&mut orders).await;
        assert_eq!(delivery.payload(), rows[row].0.as_bytes());
        delivery.ack();
    }
    let mut others = client.consume("others").await.unwrap();
    assert_eq!(next(&mut others).await.payload(), rows[7].0.as_bytes());
    until("the rest waits for its time", async || {
        let info = client.queue_info("orders").await.unwrap();
        (info.messages, info.delivery.delayed) == (2, 2)
    })
    .await;
    broker.stop().await;
}
