//! Frames that are built in place, beside others in one buffer, and answers that
//! must not outgrow what a client takes.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use bytes::{Bytes, BytesMut};
use weir_protocol::{
    DELIVER_HEAD_BYTES_MAX, DeliverBuilder, ErrorCode, Level, PublishBuilder, RUN_HEADER_BYTES_MAX,
    Refusal, Request, RequestId, Response, RunHeader, SubscriptionId, answer, decode_request,
    decode_response, limits, next_frame,
};

fn message(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    weir_message::encode(&mut out, "a.b", b"k", &[], payload);
    out
}

fn frames(bytes: &[u8]) -> Vec<Bytes> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = next_frame(&mut buffer, limits::ANSWER_BYTES_MAX).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

#[test]
fn publish_frames_lie_end_to_end_in_one_buffer() {
    let mut out = Vec::new();
    for (id, count) in [(1, 1), (2, 300)] {
        let mut builder = PublishBuilder::start(&mut out, 0);
        for row in 0..count {
            builder.push_parts(&mut out, "a.b", b"k", &[], &[row as u8]);
        }
        assert_eq!(builder.count(), count);
        builder.finish(&mut out, RequestId(id));
    }
    let before = out.len();
    let mut builder = PublishBuilder::start(&mut out, 7);
    builder.push(&mut out, &message(b"never"));
    builder.abandon(&mut out);
    assert_eq!(out.len(), before);

    let frames = frames(&out);
    assert_eq!(frames.len(), 2);
    let (id, Request::Publish(publish)) = decode_request(&frames[1]).unwrap() else {
        panic!("a publish frame");
    };
    assert_eq!((id, publish.messages.len()), (RequestId(2), 300));
    for (row, parts) in publish.messages.iter().enumerate() {
        assert_eq!(parts.view(&publish.frame).payload, [row as u8]);
    }
    for pair in publish.messages.windows(2) {
        assert_eq!(pair[0].end, pair[1].start, "neighbours are one slice");
    }
}

#[test]
fn a_publish_frame_filled_to_its_limits_is_accepted() {
    let mut out = Vec::new();
    let mut builder = PublishBuilder::start(&mut out, limits::DELAY_MS_MAX);
    let message = message(&[7; 1000]);
    let (bytes_max, messages_max) = (limits::FRAME_BYTES_MAX, 16_384);
    while builder.fits(&out, message.len(), bytes_max, messages_max) {
        builder.push(&mut out, &message);
    }
    assert!(builder.frame_bytes(&out) + message.len() > bytes_max as usize);
    builder.finish(&mut out, RequestId(1));
    let mut buffer = BytesMut::from(&out[..]);
    let frame = next_frame(&mut buffer, bytes_max).unwrap().unwrap();
    assert!(decode_request(&frame).is_ok());

    let mut out = Vec::new();
    let mut builder = PublishBuilder::start(&mut out, 0);
    while builder.fits(&out, 6, bytes_max, u32::MAX) {
        builder.push_parts(&mut out, "", b"", &[], b"");
    }
    assert_eq!(builder.count(), limits::PUBLISH_MESSAGES_MAX);
    builder.finish(&mut out, RequestId(1));
    assert!(decode_request(&frames(&out)[0]).is_ok());
}

#[test]
fn deliver_frames_keep_to_their_limit() {
    let run = RunHeader {
        tag: u64::MAX - 9,
        partition: u16::MAX,
        offset: u64::MAX - 9,
        time_ms: u64::MAX,
        attempt: u16::MAX,
        count: 1,
    };
    let message = message(&[7; 1000]);
    let mut out = vec![0xaa; 3];
    let mut builder = DeliverBuilder::start(&mut out, SubscriptionId(u32::MAX));
    assert!(out.len() - 3 <= DELIVER_HEAD_BYTES_MAX);
    assert!(builder.fits(&out, usize::MAX / 2, 10), "an empty frame takes any run");
    let mut runs = 0;
    while builder.fits(&out, message.len(), 100_000) {
        let before = out.len();
        builder.run(&mut out, &run, &message);
        assert!(out.len() - before - message.len() <= RUN_HEADER_BYTES_MAX);
        runs += 1;
    }
    builder.finish(&mut out);
    assert!(out.len() - 3 - limits::PREFIX_BYTES <= 100_000);
    let frames = frames(&out[3..]);
    let Response::Deliver { sub, runs: found } = decode_response(&frames[0]).unwrap() else {
        panic!("a deliver frame");
    };
    assert_eq!((sub, found.len()), (SubscriptionId(u32::MAX), runs));
    assert!(found.iter().all(|found| found.header == run && found.batch.message(0) == message));
}

#[test]
fn an_answer_too_long_for_the_client_becomes_an_error() {
    let mut out = Vec::new();
    let items = vec!["x".repeat(100); 20_000];
    answer::encode_ok(&mut out, RequestId(3), &serde_json::json!({ "items": items }));
    let Response::Error { id, error } = decode_response(&frames(&out)[0]).unwrap() else {
        panic!("an error");
    };
    assert_eq!((id, error.code), (RequestId(3), ErrorCode::TooLarge));
}

/// As deep as a request may be, in an answer that holds it deeper; and too many values.
#[test]
fn an_answer_that_a_client_would_not_walk_becomes_an_error() {
    let deep =
        (0..limits::DEPTH_MAX).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let many = serde_json::json!(vec![1; limits::ITEMS_MAX as usize]);
    let wide = serde_json::json!(vec![many; 9]);
    for body in [deep, wide] {
        let mut out = vec![0xaa; 3];
        answer::encode_ok(&mut out, RequestId(3), &serde_json::json!({ "options": body }));
        let Response::Error { id, error } = decode_response(&frames(&out[3..])[0]).unwrap() else {
            panic!("an error");
        };
        assert_eq!((id, error.code), (RequestId(3), ErrorCode::TooLarge));
    }
}

#[test]
fn what_a_newer_broker_says_more_is_left_out() {
    let frame = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let hello = b"\x93\x40\x01\x82\xa7version\x01\xa6levels\x93\xa6memory\xa4disk\xa5paper";
    let Response::Ok { body, .. } = decode_response(&frame(hello)).unwrap() else {
        panic!("an ok answer");
    };
    let hello: weir_protocol::HelloAnswer = body.decode().unwrap();
    assert_eq!(hello.levels, [weir_protocol::Level::Memory, weir_protocol::Level::Disk]);
    let error = b"\x93\x41\x01\x82\xa4code\xa9data_loss\xa4lost\x93\x01\x05\x07";
    let Response::Error { error, .. } = decode_response(&frame(error)).unwrap() else {
        panic!("an error");
    };
    assert_eq!((error.code, error.lost), (ErrorCode::DataLoss, Some((1, 5))));
    let safer = b"\x97\x42\x01\x03\x01\x00\x00\x90";
    let Response::Published { outcome, .. } = decode_response(&frame(safer)).unwrap() else {
        panic!("an outcome");
    };
    assert_eq!(outcome.level, weir_protocol::Level::Disk);
}

#[test]
fn refusals_of_every_message_still_fit() {
    let refusals: Vec<_> = (0..limits::PUBLISH_MESSAGES_MAX as u32)
        .map(|row| Refusal {
            row,
            count: 1,
            code: ErrorCode::SubscriptionTaken,
            message: "a sentence that is rather long, said for each message again and again".into(),
        })
        .collect();
    let mut out = Vec::new();
    answer::encode_published(&mut out, RequestId(1), Level::Disk, 0, 0, 0, &refusals);
    let Response::Published { outcome, .. } = decode_response(&frames(&out)[0]).unwrap() else {
        panic!("an outcome");
    };
    assert_eq!(outcome.refusals.len(), refusals.len());
    assert!(outcome.refusals.iter().all(|refusal| refusal.message.is_empty()));
}
