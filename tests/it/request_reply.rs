//! Request and reply: every question gets its own answer, or a reason why not.

use std::time::{Duration, Instant};

use weir_client::{Client, Error, Message, SubscribeOptions};
use weir_tests::{TestBroker, soon};

/// Answers every question with itself, turned round, until the client is closed.
async fn echo_backwards(client: Client, share: Option<&str>) -> tokio::task::JoinHandle<usize> {
    let options =
        SubscribeOptions { share: share.map(str::to_owned), ..SubscribeOptions::default() };
    let mut questions = client.subscribe_with("echo.*", options).await.unwrap();
    tokio::spawn(async move {
        let mut answered = 0;
        while let Ok(Some(question)) = questions.next().await {
            let mut answer = question.payload().to_vec();
            answer.reverse();
            if client.respond(&question, &answer).await.is_ok() {
                answered += 1;
            }
        }
        answered
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_gets_its_own_answer() {
    const QUESTIONS: usize = 200;
    let broker = TestBroker::start().await;
    let responders = [broker.client().await, broker.client().await];
    let mut working = Vec::new();
    for responder in &responders {
        working.push(echo_backwards(responder.clone(), Some("echoes")).await);
    }
    let client = broker.client().await;
    let mut questions = tokio::task::JoinSet::new();
    for number in 0..QUESTIONS {
        let client = client.clone();
        questions.spawn(async move {
            let text = format!("question {number}");
            let message = Message::new("echo.x").payload(&text);
            let answer = client.request(&message, Duration::from_secs(20)).await.unwrap();
            let expected: Vec<u8> = text.bytes().rev().collect();
            assert_eq!(answer.payload(), expected);
        });
    }
    while let Some(done) = soon("an answer", questions.join_next()).await {
        done.unwrap();
    }
    let mut answered = Vec::new();
    for (client, work) in responders.iter().zip(working) {
        client.close().await;
        answered.push(soon("the responder ends", work).await.unwrap());
    }
    assert_eq!(answered.iter().sum::<usize>(), QUESTIONS, "each question to one responder");
    assert!(answered.iter().all(|&count| count > 0), "a responder was left out: {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_responder_the_answer_is_no_and_comes_at_once() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let asked = Instant::now();
    let message = Message::new("echo.x").payload("anybody?");
    let error = client.request(&message, Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(&error, Error::NoResponders { subject } if subject == "echo.x"), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for the answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_that_stays_silent_is_waited_for_no_longer_than_asked() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut silent = client.subscribe("echo.x").await.unwrap();
    let message = Message::new("echo.x").payload("hello?");
    let error = client.request(&message, Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    // The question has arrived, and an answer that comes too late harms nobody.
    let question = soon("the question", silent.next()).await.unwrap().unwrap();
    client.respond(&question, "too late").await.unwrap();
    drop(echo_backwards(broker.client().await, None).await);
    client.ping().await.unwrap();
}
