//! What a consumer asks for while its connection breaks, at the points in between
//! that no socket can be held at: after the question, before the writer looks.

use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use weir_protocol::{
    DeliveredCount, ErrorCode, HelloAnswer, Published, Purge, Response, RunHeader, TagRange,
    WireError, decode_request, decode_response, limits, next_frame,
};

use super::*;
use crate::shared::Shared;
use crate::{Client, ConnectOptions, Message};

const MINUTE: Duration = Duration::from_secs(60);

/// A consumer whose broker has said yes, over a connection without a socket.
fn consumer() -> (Consumer, Arc<Shared>) {
    let shared = Arc::new(Shared::new(ConnectOptions::default()));
    shared.connection_made(&HelloAnswer::default());
    let queue = Some("orders".to_owned());
    let body = Consume { credit: 3, sub: SubscriptionId(1), queue, ..Consume::default() };
    let inbox = Arc::new(Inbox::new(SubscriptionId(1), Source::Consumer(body), 0, &shared));
    inbox.established();
    shared.lock().inboxes.insert(1, inbox.clone());
    let handle = Arc::new(Handle::without_driver(shared.clone()));
    let receiver = Receiver { handle, inbox, current: None, auto_ack: None };
    (Consumer { receiver, pulls: Pulls::default() }, shared)
}

/// What the writer takes now.
fn written(shared: &Shared) -> Vec<(RequestId, Request)> {
    let mut buffer = Vec::new();
    shared.take_outgoing(&mut buffer);
    let mut bytes = BytesMut::from(&buffer[..]);
    let mut requests = Vec::new();
    while let Some(frame) =
        next_frame(&mut bytes, limits::FRAME_BYTES_MAX).expect("written by the codec")
    {
        requests.push(decode_request(&frame).expect("written by the codec"));
    }
    requests
}

/// The last request that the writer takes now.
fn question(shared: &Shared) -> RequestId {
    written(shared).last().expect("a question").0
}

/// The pull that the writer takes now, and nothing else: its id, for how many it is, and
/// whether it waits.
fn pull(shared: &Shared) -> (RequestId, u32, bool) {
    let requests = written(shared);
    let [(id, Request::Pull(pull))] = &requests[..] else { panic!("{requests:?}") };
    (*id, pull.messages_max, pull.wait_ms > 0)
}

fn note(consumer: &Consumer, verb: Verb, tag: u64) {
    let epoch = consumer.interruptions();
    consumer.receiver.inbox.settle(epoch, verb, [TagRun { first: tag, count: 1 }]);
}

/// What the reader makes of a frame.
fn read(frame: &[u8]) -> Response {
    let frame = next_frame(&mut BytesMut::from(frame), limits::FRAME_BYTES_MAX);
    decode_response(&frame.expect("whole").expect("one")).expect("written by the codec")
}

fn answer(shared: &Shared, id: RequestId, body: impl serde::Serialize) {
    let mut frame = Vec::new();
    weir_protocol::answer::encode_ok(&mut frame, id, &body);
    let answer = read(&frame);
    let Response::Ok { id, body } = answer else { panic!("no answer: {answer:?}") };
    shared.answered(id.0, Ok(Reply::Ok(body)));
}

/// One message for the consumer.
fn deliver(shared: &Shared, tag: u64) {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "orders", b"", b"", b"");
    let header = RunHeader { tag, partition: 0, offset: tag, time_ms: 1, attempt: 1, count: 1 };
    let mut frame = Vec::new();
    weir_protocol::answer::deliver_head(&mut frame, SubscriptionId(1), &header, message.len());
    frame.extend_from_slice(&message);
    let delivery = read(&frame);
    let Response::Deliver { sub, runs } = delivery else { panic!("no delivery: {delivery:?}") };
    shared.inbox(sub).expect("the consumer's").deliver(runs);
}

/// The broker ends a subscription.
fn end(shared: &Shared, sub: u32, code: ErrorCode) {
    let inbox = shared.lock().inboxes.remove(&sub).expect("it was there");
    inbox.end(Error::Refused(WireError::new(code, "no")));
}

fn reconnect(shared: &Shared) {
    shared.connection_lost();
    shared.connection_made(&HelloAnswer::default());
}

fn assert_resumes_only(requests: &[(RequestId, Request)], credit: u32) {
    let [(_, Request::Consume(body))] = requests else {
        panic!("not the resumed consumer alone: {requests:?}")
    };
    assert_eq!(body.credit, credit);
}

#[tokio::test]
async fn a_settlement_the_writer_never_took_is_not_for_the_next_connection() {
    let (mut consumer, shared) = consumer();
    note(&consumer, Verb::Ack, 1);
    {
        let mut context = Context::from_waker(Waker::noop());
        let mut flush = pin!(consumer.flush());
        assert!(flush.as_mut().poll(&mut context).is_pending());
        reconnect(&shared);
        assert_resumes_only(&written(&shared), 3);
        let told = flush.as_mut().poll(&mut context);
        assert!(matches!(told, Poll::Ready(Err(Error::ConnectionLost { .. }))), "{told:?}");
    }
    // The new connection's own are asked for as ever.
    note(&consumer, Verb::Ack, 7);
    let mut context = Context::from_waker(Waker::noop());
    let mut flush = pin!(consumer.flush());
    assert!(flush.as_mut().poll(&mut context).is_pending());
    let requests = written(&shared);
    let [(RequestId(0), Request::Settle(settle)), (id, Request::Settle(asked))] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!(settle.ranges, [TagRange { first: 7, last: 7 }]);
    assert!(id.0 != 0 && asked.ranges.is_empty());
    shared.connection_lost();
    assert!(flush.as_mut().poll(&mut context).is_ready(), "told of the loss");
}

#[tokio::test]
async fn a_flush_asks_for_what_the_writer_took_before() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    note(&consumer, Verb::Ack, 1);
    assert_eq!(written(&shared).len(), 1, "it leaves by itself");
    {
        // A caller that gives up has been told nothing: the next one asks again.
        let mut flush = pin!(consumer.flush());
        assert!(flush.as_mut().poll(&mut context).is_pending());
    }
    let mut flush = Box::pin(consumer.flush());
    assert!(flush.as_mut().poll(&mut context).is_pending());
    let requests = written(&shared);
    let [_, (id, Request::Settle(asked))] = &requests[..] else { panic!("{requests:?}") };
    assert!(asked.ranges.is_empty());
    let count = SettleCount { done: 1, unknown: 0 };
    answer(&shared, *id, count);
    assert!(matches!(flush.as_mut().poll(&mut context), Poll::Ready(Ok(told)) if told == count));
    drop(flush);
    let told = pin!(consumer.flush()).poll(&mut context);
    assert!(matches!(told, Poll::Ready(Ok(count)) if count == SettleCount::default()));
    assert!(written(&shared).is_empty(), "all is told");
}

#[tokio::test]
async fn a_flush_writes_what_another_task_is_about_to_tell_the_writer() {
    let (mut consumer, shared) = consumer();
    note(&consumer, Verb::Ack, 1);
    // As if the other had not come to it yet.
    shared.lock().settling.clear();
    let mut flush = pin!(consumer.flush());
    assert!(flush.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let requests = written(&shared);
    let [(_, Request::Settle(settle)), (_, Request::Settle(asked))] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!((settle.ranges.len(), asked.ranges.len()), (1, 0));
}

#[tokio::test]
async fn what_was_settled_while_a_flush_waited_is_not_forgotten() {
    let (mut consumer, shared) = consumer();
    let inbox = consumer.receiver.inbox.clone();
    let mut context = Context::from_waker(Waker::noop());
    note(&consumer, Verb::Ack, 1);
    {
        let mut flush = pin!(consumer.flush());
        assert!(flush.as_mut().poll(&mut context).is_pending());
        inbox.settle(0, Verb::Ack, [TagRun { first: 2, count: 1 }]);
        let requests = written(&shared);
        answer(&shared, requests[1].0, SettleCount { done: 1, unknown: 0 });
        reconnect(&shared);
        assert!(matches!(flush.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
    let told = pin!(consumer.flush()).poll(&mut context);
    assert!(matches!(told, Poll::Ready(Err(Error::ConnectionLost { .. }))), "{told:?}");
}

#[tokio::test]
async fn the_first_flush_behind_a_loss_says_so() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    note(&consumer, Verb::Ack, 1);
    assert_eq!(written(&shared).len(), 1, "it leaves by itself");
    reconnect(&shared);
    assert_resumes_only(&written(&shared), 3);
    note(&consumer, Verb::Ack, 7);
    let told = pin!(consumer.flush()).poll(&mut context);
    assert!(matches!(told, Poll::Ready(Err(Error::ConnectionLost { .. }))), "{told:?}");
    assert!(pin!(consumer.flush()).poll(&mut context).is_pending(), "of the new one's");
}

#[tokio::test]
async fn a_flush_between_two_connections_asks_for_nothing() {
    let (mut consumer, shared) = consumer();
    note(&consumer, Verb::Ack, 1);
    // Lost for the client, and not yet for its inboxes.
    shared.lock().connected = false;
    let mut context = Context::from_waker(Waker::noop());
    let told = pin!(consumer.flush()).poll(&mut context);
    assert!(matches!(told, Poll::Ready(Err(Error::ConnectionLost { .. }))), "{told:?}");
    reconnect(&shared);
    assert_resumes_only(&written(&shared), 3);
}

#[tokio::test]
async fn credit_the_writer_never_took_is_given_once() {
    let (consumer, shared) = consumer();
    consumer.add_credit(4);
    reconnect(&shared);
    assert_resumes_only(&written(&shared), 7);
    consumer.add_credit(2);
    let requests = written(&shared);
    let [(_, Request::Credit(credit))] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(credit.amount, 2);
}

#[tokio::test]
async fn other_requests_the_writer_never_took_wait_for_the_next_connection() {
    let (consumer, shared) = consumer();
    let ask = |request: &Request| {
        shared.lock().ask(Pending::Nobody, |out, id| encode_request(out, RequestId(id), request));
    };
    ask(&Request::Ping);
    consumer.add_credit(1);
    let unsubscribe = Request::Unsubscribe(Unsubscribe { sub: SubscriptionId(9) });
    ask(&unsubscribe);
    consumer.add_credit(1);
    reconnect(&shared);
    let requests = written(&shared);
    let kept: Vec<_> = requests.iter().map(|(_, request)| request).collect();
    let [Request::Consume(body), Request::Ping, Request::Unsubscribe(left)] = kept[..] else {
        panic!("{requests:?}")
    };
    assert_eq!((body.credit, left.sub), (5, SubscriptionId(9)));
}

#[tokio::test]
async fn credit_stays_within_the_protocols_limit() {
    let (consumer, shared) = consumer();
    for _ in 0..2 {
        consumer.add_credit(u32::MAX);
        let requests = written(&shared);
        let [(_, Request::Credit(credit))] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(credit.amount, limits::CREDIT_MAX);
    }
    reconnect(&shared);
    assert_resumes_only(&written(&shared), limits::CREDIT_MAX);
}

#[tokio::test]
async fn a_connection_that_never_wrote_leaves_nothing_to_the_next() {
    let (_consumer, shared) = consumer();
    reconnect(&shared);
    reconnect(&shared);
    assert_resumes_only(&written(&shared), 3);
}

#[tokio::test]
async fn subscriptions_are_asked_for_again_before_what_waits_is_published() {
    let (_consumer, shared) = consumer();
    shared.connection_lost();
    shared.push_some(&[Message::new("orders")], None).expect("a valid message");
    shared.connection_made(&HelloAnswer::default());
    let requests = written(&shared);
    let [(_, Request::Consume(_)), (_, Request::Publish(_))] = &requests[..] else {
        panic!("{requests:?}")
    };
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_asked_on_the_next_connection() {
    let (consumer, shared) = consumer();
    let handle = &consumer.receiver.handle;
    let mut context = Context::from_waker(Waker::noop());
    let purge = |queue: &str| Request::Purge(Purge { queue: queue.to_owned() });
    let (early, kept) = (purge("early"), purge("kept"));
    // One gives up before the loss, unwritten, one behind it, and one goes on waiting.
    let mut asking = Box::pin(handle.request_for("purge", &early, None));
    assert!(asking.as_mut().poll(&mut context).is_pending());
    drop(asking);
    shared.connection_lost();
    let mut waiting = Box::pin(handle.request_for("purge", &kept, None));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    // The consumer that there is has the first number.
    assert_eq!(shared.lock().next_subscription(), 1);
    let source = |sub| Source::Consumer(Consume { sub, ..Consume::default() });
    let mut opening = Box::pin(open_inbox(handle, "consume", 0, source));
    assert!(opening.as_mut().poll(&mut context).is_pending());
    assert_eq!(shared.lock().outgoing.control_ids.len(), 3);
    drop(opening);
    assert_eq!(shared.lock().outgoing.control_ids.len(), 1, "an outage piles nothing up");

    shared.connection_made(&HelloAnswer::default());
    let requests = written(&shared);
    let [(_, Request::Consume(resumed)), (_, Request::Purge(purged))] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!((resumed.sub, purged.queue.as_str()), (SubscriptionId(1), "kept"));
}

#[tokio::test]
async fn a_question_given_up_before_the_loss_is_not_asked_behind_it() {
    let (consumer, shared) = consumer();
    let handle = &consumer.receiver.handle;
    {
        let asking = pin!(handle.request_for("ping", &Request::Ping, None));
        assert!(asking.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    reconnect(&shared);
    assert_resumes_only(&written(&shared), 3);
}

#[tokio::test]
async fn what_was_counted_for_a_flush_that_was_given_up_is_told_by_the_next() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    let one = SettleCount { done: 1, unknown: 0 };
    // The first is given up before its answer comes, the second when it has come.
    for is_early in [true, false] {
        note(&consumer, Verb::Ack, 1);
        let mut flush = Box::pin(consumer.flush());
        assert!(flush.as_mut().poll(&mut context).is_pending());
        let id = question(&shared);
        if is_early {
            drop(flush);
            answer(&shared, id, one);
        } else {
            answer(&shared, id, one);
            drop(flush);
        }
    }
    note(&consumer, Verb::Ack, 1);
    let mut flush = pin!(consumer.flush());
    assert!(flush.as_mut().poll(&mut context).is_pending());
    answer(&shared, question(&shared), SettleCount { done: 2, unknown: 1 });
    let told = flush.as_mut().poll(&mut context);
    assert!(matches!(told, Poll::Ready(Ok(SettleCount { done: 4, unknown: 1 }))), "{told:?}");
}

#[tokio::test]
async fn what_was_counted_is_known_whatever_became_of_the_connection() {
    let one = SettleCount { done: 1, unknown: 0 };
    // Before the loss nothing else is settled, or something of which nobody knows.
    for is_all_counted in [true, false] {
        let (mut consumer, shared) = consumer();
        let mut context = Context::from_waker(Waker::noop());
        note(&consumer, Verb::Ack, 1);
        assert!(pin!(consumer.flush()).poll(&mut context).is_pending());
        answer(&shared, question(&shared), one);
        if !is_all_counted {
            note(&consumer, Verb::Ack, 2);
        }
        reconnect(&shared);
        let told = pin!(consumer.flush()).poll(&mut context);
        if is_all_counted {
            assert!(matches!(told, Poll::Ready(Ok(count)) if count == one), "{told:?}");
            continue;
        }
        assert!(matches!(told, Poll::Ready(Err(Error::ConnectionLost { .. }))), "{told:?}");
        note(&consumer, Verb::Ack, 1);
        let mut flush = pin!(consumer.flush());
        assert!(flush.as_mut().poll(&mut context).is_pending());
        answer(&shared, question(&shared), one);
        let told = flush.as_mut().poll(&mut context);
        assert!(matches!(told, Poll::Ready(Ok(SettleCount { done: 2, unknown: 0 }))), "{told:?}");
    }
}

#[tokio::test]
async fn pulls_that_are_given_up_leave_one_question_behind() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    let mut left = None;
    for _ in 0..3 {
        let mut pulling = pin!(consumer.pull(10, MINUTE));
        assert!(pulling.as_mut().poll(&mut context).is_pending());
        let (id, messages_max, waits) = pull(&shared);
        assert_eq!((messages_max, waits), (10, false));
        answer(&shared, id, DeliveredCount { delivered: 0 });
        assert!(pulling.as_mut().poll(&mut context).is_pending());
        match left {
            None => left = Some(pull(&shared)),
            Some(_) => assert!(written(&shared).is_empty(), "one is left"),
        }
    }
    // Whoever comes next waits on it; when it is over, it asks for itself.
    let (id, messages_max, waits) = left.expect("a question");
    assert_eq!((messages_max, waits), (1, true));
    let mut pulling = pin!(consumer.pull(1, MINUTE));
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    assert!(written(&shared).is_empty());
    answer(&shared, id, DeliveredCount { delivered: 0 });
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    let (id, messages_max, waits) = pull(&shared);
    assert_eq!((messages_max, waits), (1, true));
    deliver(&shared, 1);
    answer(&shared, id, DeliveredCount { delivered: 1 });
    let pulled = pulling.as_mut().poll(&mut context);
    assert!(matches!(&pulled, Poll::Ready(Ok(Some(batch))) if batch.len() == 1), "{pulled:?}");
}

#[tokio::test]
async fn what_is_there_is_asked_for_anew_when_an_earlier_answer_has_come() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(consumer.pull(10, Duration::ZERO)).poll(&mut context).is_pending());
    let (id, ..) = pull(&shared);
    let mut pulling = pin!(consumer.pull(10, Duration::ZERO));
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    assert!(written(&shared).is_empty(), "one is left");
    answer(&shared, id, DeliveredCount { delivered: 0 });
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    let (id, ..) = pull(&shared);
    answer(&shared, id, DeliveredCount { delivered: 0 });
    let pulled = pulling.as_mut().poll(&mut context);
    assert!(matches!(pulled, Poll::Ready(Ok(None))), "{pulled:?}");
}

#[tokio::test]
async fn a_pull_that_was_given_up_goes_with_its_connection() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    // One that the writer took, one that it did not, and one during the outage.
    for is_taken in [true, false] {
        assert!(pin!(consumer.pull(1, MINUTE)).poll(&mut context).is_pending());
        if is_taken {
            pull(&shared);
        }
        reconnect(&shared);
        assert_resumes_only(&written(&shared), 3);
    }
    shared.connection_lost();
    assert!(pin!(consumer.pull(1, MINUTE)).poll(&mut context).is_pending());
    shared.connection_made(&HelloAnswer::default());
    assert_resumes_only(&written(&shared), 3);
    // The next one asks the connection that stands.
    assert!(pin!(consumer.pull(1, MINUTE)).poll(&mut context).is_pending());
    pull(&shared);
}

#[tokio::test]
async fn a_pull_whose_delivery_is_lost_with_its_connection_goes_on() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    let mut pulling = pin!(consumer.pull(1, MINUTE));
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    deliver(&shared, 1);
    answer(&shared, pull(&shared).0, DeliveredCount { delivered: 1 });
    // All of that before the caller comes to look.
    reconnect(&shared);
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    let requests = written(&shared);
    let [(_, Request::Consume(_)), (_, Request::Pull(_))] = &requests[..] else {
        panic!("{requests:?}")
    };
    deliver(&shared, 1);
    let pulled = pulling.as_mut().poll(&mut context);
    assert!(matches!(&pulled, Poll::Ready(Ok(Some(batch))) if batch.len() == 1), "{pulled:?}");
}

#[tokio::test]
async fn a_pull_tells_why_the_broker_has_ended_its_consumer() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    let is_reason = |pulled: &Poll<Result<Option<DeliveryBatch>, Error>>| {
        let Poll::Ready(Err(error)) = pulled else { return false };
        error.refusal().is_some_and(|error| error.code == ErrorCode::TurnedAway)
    };
    {
        let mut pulling = pin!(consumer.pull(1, MINUTE));
        assert!(pulling.as_mut().poll(&mut context).is_pending());
        // Whoever is turned away is told first that nothing was delivered.
        answer(&shared, pull(&shared).0, DeliveredCount { delivered: 0 });
        assert!(pulling.as_mut().poll(&mut context).is_pending());
        end(&shared, 1, ErrorCode::TurnedAway);
        let pulled = pulling.as_mut().poll(&mut context);
        assert!(is_reason(&pulled), "{pulled:?}");
        pull(&shared);
    }
    for (messages_max, wait) in [(10, MINUTE), (10, Duration::ZERO), (0, MINUTE)] {
        let pulled = pin!(consumer.pull(messages_max, wait)).poll(&mut context);
        assert!(is_reason(&pulled), "{pulled:?}");
    }
    assert!(written(&shared).is_empty(), "the broker knows no more than that");
}

#[tokio::test]
async fn a_pull_of_none_asks_for_nothing_and_lets_others_run() {
    let (mut consumer, shared) = consumer();
    let mut context = Context::from_waker(Waker::noop());
    let mut pulling = pin!(consumer.pull(0, MINUTE));
    assert!(pulling.as_mut().poll(&mut context).is_pending());
    let pulled = pulling.as_mut().poll(&mut context);
    assert!(matches!(pulled, Poll::Ready(Ok(None))), "{pulled:?}");
    assert!(written(&shared).is_empty());
}

#[tokio::test]
async fn a_request_whose_subscription_for_answers_has_ended_is_told_why() {
    let (consumer, shared) = consumer();
    // The consumer that there is has the first number.
    assert_eq!(shared.lock().next_subscription(), 1);
    let client = Client { handle: consumer.receiver.handle.clone() };
    let mut context = Context::from_waker(Waker::noop());
    let message = Message::new("time.now");
    // It ends before anything is published, and while the answer is waited for.
    for (sub, is_early) in [(2, true), (3, false)] {
        let mut asking = pin!(client.request(&message, MINUTE));
        assert!(asking.as_mut().poll(&mut context).is_pending());
        answer(&shared, question(&shared), SettleCount::default());
        if !is_early {
            assert!(asking.as_mut().poll(&mut context).is_pending());
            let id = question(&shared);
            let outcome = Published { reached: 1, ..Published::default() };
            shared.published(id.0, outcome);
            assert!(asking.as_mut().poll(&mut context).is_pending());
        }
        end(&shared, sub, ErrorCode::Unauthorized);
        let told = asking.as_mut().poll(&mut context);
        let Poll::Ready(Err(error)) = &told else { panic!("{told:?}") };
        assert_eq!(error.refusal().map(|error| error.code), Some(ErrorCode::Unauthorized));
        assert!(written(&shared).is_empty());
    }
}
