//! A publisher whose messages go to many queues, one to each: every request gets its own
//! outcome, and every queue its messages in order.

use std::collections::HashMap;

use weir_client::{ConsumeOptions, Create, CreateQueue, ErrorCode};
use weir_protocol::Response;
use weir_tests::{Raw, TestBroker, publish_frame, soon};

const QUEUES: usize = 300;
/// Requests of one write.
const REQUESTS: usize = 1_000;
const ROUNDS: usize = 3;
/// The queue that takes two messages.
const NARROW: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_gets_its_own_outcome_and_every_queue_its_messages() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let messages_max = if number == NARROW { 2 } else { 0 };
        let queue = CreateQueue { name: name.clone(), messages_max, ..CreateQueue::default() };
        client.create(Create::Queue(queue)).await.unwrap();
    }
    let mut raw = Raw::greeted(broker.address()).await;
    let mut expected: HashMap<usize, Vec<u32>> = HashMap::new();
    let mut id = 100;
    for _ in 0..ROUNDS {
        let mut bytes = Vec::new();
        let mut asked = HashMap::new();
        for request in 0..REQUESTS {
            id += 1;
            let one = request * 17 % QUEUES;
            // Some go to two queues, some twice to one.
            let other = match request % 10 {
                0 => Some((one + 1) % QUEUES),
                1 => Some(one),
                _ => None,
            };
            let queues: Vec<usize> = std::iter::once(one).chain(other).collect();
            let subjects: Vec<&str> = queues.iter().map(|&number| names[number].as_str()).collect();
            bytes.extend(publish_frame(id, &subjects, &id.to_le_bytes()));
            asked.insert(id, queues);
        }
        raw.send(&bytes).await.unwrap();
        while !asked.is_empty() {
            let answer = soon("an answer", raw.read()).await;
            let Some(Response::Published { id, outcome }) = answer else {
                panic!("not an outcome: {answer:?}");
            };
            let queues = asked.remove(&id.0).expect("asked, and not answered yet");
            let mut is_stored = vec![true; queues.len()];
            for refusal in &outcome.refusals {
                assert_eq!(refusal.code, ErrorCode::QueueFull);
                for row in refusal.row..refusal.row + refusal.count {
                    assert_eq!(queues[row as usize], NARROW, "{outcome:?}");
                    is_stored[row as usize] = false;
                }
            }
            let stored = is_stored.iter().filter(|is_stored| **is_stored).count();
            assert_eq!(outcome.stored, stored as u64, "{outcome:?}");
            for (queue, _) in queues.iter().zip(is_stored).filter(|(_, is_stored)| *is_stored) {
                expected.entry(*queue).or_default().push(id.0);
            }
        }
    }
    assert_eq!(expected[&NARROW].len(), 2);
    for (queue, mut ids) in expected {
        // Answers of one read may come in any order.
        ids.sort_unstable();
        let mut consumer =
            client.consume_with(&names[queue], ConsumeOptions::credit(100)).await.unwrap();
        let mut found = Vec::new();
        while found.len() < ids.len() {
            let delivery = soon("a delivery", consumer.next()).await.unwrap().unwrap();
            found.push(u32::from_le_bytes(delivery.payload().try_into().unwrap()));
        }
        assert_eq!(found, ids, "{}", names[queue]);
    }
}
