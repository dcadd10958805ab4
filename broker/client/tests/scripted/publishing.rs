//! Publishing: batches, confirmations, refusals, request and reply.

use std::pin::pin;
use std::time::Duration;

use weir_client::{ConnectOptions, Error, ErrorCode, Level, Message, PublisherOptions};
use weir_protocol::{Published, Refusal, Request, WireError, answer};

use crate::peer::{Listener, soon};

fn stored(count: u64) -> Published {
    Published { level: Level::Disk, stored: count, ..Published::default() }
}

#[tokio::test]
async fn messages_sent_in_one_go_travel_in_one_frame() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    for number in 0..1000 {
        client.publish("subject", number.to_string()).await.unwrap();
    }
    let frames = peer.published(1000).await;
    assert_eq!(frames.len(), 1, "the writer took what was there");
    assert_eq!(frames[0].0.0, 0, "nobody asked for a confirmation");
    let expected: Vec<_> = (0..1000).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!(frames[0].1, expected);
}

#[tokio::test]
async fn a_receipt_adds_up_frames_that_are_answered_in_any_order() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let mut publisher = client.publisher();
    let payload = "x".repeat(100);
    for _ in 0..5000 {
        publisher.send(&Message::new("subject").payload(&payload)).await.unwrap();
    }
    let confirmation = publisher.take();
    let mut frames = peer.published(5000).await;
    assert!(frames.len() > 1, "large batches are cut");
    frames.reverse();
    for (index, (id, payloads)) in frames.iter().enumerate() {
        let mut outcome = stored(payloads.len() as u64);
        if index == 0 {
            // The last frame: its second message is refused, its level is lower.
            outcome.level = Level::Os;
            outcome.stored -= 1;
            let (code, message) = (ErrorCode::QueueFull, "full".into());
            outcome.refusals = vec![Refusal { row: 1, count: 1, code, message }];
        }
        peer.confirm(*id, outcome).await;
    }
    let receipt = soon(confirmation).await.unwrap();
    assert_eq!((receipt.messages, receipt.stored, receipt.level), (5000, 4999, Level::Os));
    let last_frame = frames[0].1.len() as u64;
    assert_eq!(receipt.refused(), 1);
    assert_eq!(receipt.refusals[0].position, 5000 - last_frame + 1);
    assert_eq!(receipt.refusals[0].code, ErrorCode::QueueFull);
}

#[tokio::test]
async fn receipts_on_their_way_do_not_mix() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let mut publisher = client.publisher();
    publisher.send(&Message::new("subject").payload("a")).await.unwrap();
    let first = publisher.take();
    publisher.send(&Message::new("subject").payload("b")).await.unwrap();
    publisher.send(&Message::new("subject").payload("c")).await.unwrap();
    let second = publisher.take();
    let frames = peer.published(3).await;
    assert_eq!(frames.len(), 2);
    peer.confirm(frames[1].0, stored(2)).await;
    assert_eq!(soon(second).await.unwrap().stored, 2);
    peer.confirm(frames[0].0, stored(1)).await;
    assert_eq!(soon(first).await.unwrap().stored, 1);
    assert_eq!(soon(publisher.flush()).await.unwrap().messages, 0, "an empty receipt is ready");
}

#[tokio::test]
async fn a_full_window_waits_for_confirmations() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let mut publisher = client.publisher_with(PublisherOptions { window_bytes_max: 100 });
    let payload = "x".repeat(200);
    let message = Message::new("subject").payload(&payload);
    publisher.send(&message).await.unwrap();
    let frames = peer.published(1).await;
    let mut second = pin!(publisher.send(&message));
    let at_once = tokio::time::timeout(Duration::ZERO, &mut second).await;
    assert!(at_once.is_err(), "the window is full");
    peer.confirm(frames[0].0, stored(1)).await;
    soon(second).await.unwrap();
    peer.published(1).await;
}

#[tokio::test]
async fn a_refused_frame_refuses_each_of_its_messages() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let messages = [Message::new("a"), Message::new("b")];
    let publishing = client.publish_confirmed(&messages);
    let refusing = async {
        let frames = peer.published(2).await;
        let error = weir_protocol::WireError::new(ErrorCode::PolicyRefused, "not today");
        peer.send(|out| weir_protocol::answer::encode_error(out, frames[0].0, &error)).await;
    };
    let (receipt, ()) = soon(async { tokio::join!(publishing, refusing) }).await;
    let receipt = receipt.unwrap();
    assert_eq!((receipt.refused(), receipt.messages), (2, 2));
    assert_eq!(receipt.refusals[0].message, "not today");
}

#[tokio::test]
async fn a_message_that_no_frame_holds_is_refused_and_harms_nobody() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    client.publish("subject", "before").await.unwrap();
    let error = client.publish("subject", vec![0; 2 << 20]).await.unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { .. }), "{error}");
    client.publish("subject", "after").await.unwrap();
    let payloads: Vec<_> = peer.published(2).await.into_iter().flat_map(|frame| frame.1).collect();
    assert_eq!(payloads, [b"before".to_vec(), b"after".to_vec()]);
}

#[tokio::test]
async fn delayed_messages_have_frames_of_their_own() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    client.publish("subject", "now").await.unwrap();
    client.publish_message(&Message::new("subject").delay_ms(700)).await.unwrap();
    let mut delays = Vec::new();
    for _ in 0..2 {
        let Request::Publish(publish) = peer.next().await.1 else { panic!("no publish") };
        delays.push(publish.delay_ms);
    }
    assert_eq!(delays, [0, 700]);
}

#[tokio::test]
async fn a_request_finds_its_answer_and_learns_when_nobody_listens() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let wait = Duration::from_secs(5);
    let responding = async {
        let inbox = peer.grant().await;
        let (id, request) = peer.next().await;
        let Request::Publish(publish) = request else { panic!("no publish: {request:?}") };
        let view = publish.messages[0].view(&publish.frame);
        let reply_to = String::from_utf8(view.header("reply-to").unwrap().to_vec()).unwrap();
        assert!(reply_to.starts_with("_inbox."), "{reply_to}");
        // The answer may overtake the confirmation.
        peer.deliver_to(inbox, 0, &reply_to, &["noon"]).await;
        peer.confirm(id, Published { reached: 1, ..Published::default() }).await;
    };
    let question = Message::new("time.now");
    let (answer, ()) =
        soon(async { tokio::join!(client.request(&question, wait), responding) }).await;
    assert_eq!(answer.unwrap().payload(), b"noon");

    let nobody = async {
        let frames = peer.published(1).await;
        peer.confirm(frames[0].0, Published { unrouted: 1, ..Published::default() }).await;
    };
    let (answer, ()) = soon(async { tokio::join!(client.request(&question, wait), nobody) }).await;
    assert!(matches!(answer, Err(Error::NoResponders { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_request_asks_for_answers_again_when_the_broker_has_ended_them() {
    let listener = Listener::bind().await;
    let (client, mut peer) = listener.client(ConnectOptions::default()).await;
    let question = Message::new("time.now");
    let mut inboxes = Vec::new();
    for _ in 0..2 {
        let responding = async {
            let inbox = peer.grant().await;
            let frames = peer.published(1).await;
            peer.confirm(frames[0].0, Published { unrouted: 1, ..Published::default() }).await;
            inbox
        };
        let asking = client.request(&question, Duration::from_secs(5));
        let (reply, inbox) = soon(async { tokio::join!(asking, responding) }).await;
        assert!(matches!(reply, Err(Error::NoResponders { .. })), "{reply:?}");
        inboxes.push(inbox);
        let error = WireError::new(ErrorCode::Unauthorized, "no answers any more");
        peer.send(|out| answer::encode_ended(out, inbox, &error)).await;
        // The answer to a ping comes behind it.
        let answering = async {
            let (id, _) = peer.next().await;
            peer.ok(id).await;
        };
        let (ping, ()) = soon(async { tokio::join!(client.ping(), answering) }).await;
        ping.unwrap();
    }
    assert_ne!(inboxes[0], inboxes[1]);
}
