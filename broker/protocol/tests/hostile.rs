//! Bytes that nobody should send: every cut, huge lengths, deep nesting, types
//! that the protocol does not use, and seeded random damage. Nothing may panic,
//! and what decoding allocates is bounded by the frame's length.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use bytes::{Bytes, BytesMut};
use common::{Random, goldens};
use weir_message::MessageError;
use weir_protocol::{
    DecodeError, ErrorCode, RequestId, WalkError, decode_request, decode_response, limits,
    next_frame, walk,
};

const NODES: u32 = limits::REQUEST_NODES_MAX;

/// Decodes both ways and uses what comes out.
fn poke(frame: &Bytes) {
    match decode_request(frame) {
        Ok((id, request)) => {
            let mut out = Vec::new();
            weir_protocol::encode_request(&mut out, id, &request);
        }
        Err(error) => assert!(error.wire().message.len() <= limits::ERROR_TEXT_BYTES_MAX),
    }
    match decode_response(frame) {
        Ok(weir_protocol::Response::Deliver { runs, .. }) => {
            for run in runs {
                run.batch.iter().for_each(drop);
            }
        }
        Ok(weir_protocol::Response::Ok { body, .. }) => {
            let _ = body.decode::<weir_protocol::QueueInfo>();
            let _ = body.decode::<weir_protocol::PolicyStatusAnswer>();
        }
        _ => {}
    }
}

#[test]
fn every_cut_of_every_golden_is_refused() {
    for golden in goldens() {
        let frame = golden.frame();
        for cut in 0..frame.len() {
            let short = frame.slice(..cut);
            assert!(decode_request(&short).is_err(), "{} cut at {cut}", golden.name);
            assert!(decode_response(&short).is_err(), "{} cut at {cut}", golden.name);
        }
    }
}

#[test]
fn bytes_behind_a_frame_are_refused() {
    for golden in goldens() {
        let long = Bytes::from([&golden.frame()[..], &[0xc0]].concat());
        assert!(decode_request(&long).is_err(), "{}", golden.name);
        assert!(decode_response(&long).is_err(), "{}", golden.name);
    }
}

#[test]
fn frames_come_whole_however_the_bytes_arrive() {
    let stream: Vec<u8> = goldens().iter().flat_map(|golden| golden.bytes.clone()).collect();
    let mut random = Random(7);
    for _ in 0..50 {
        let (mut buffer, mut at, mut frames) = (BytesMut::new(), 0, Vec::new());
        while at < stream.len() {
            let end = (at + 1 + random.below(200)).min(stream.len());
            buffer.extend_from_slice(&stream[at..end]);
            at = end;
            while let Some(frame) = next_frame(&mut buffer, limits::ANSWER_BYTES_MAX).unwrap() {
                frames.push(frame);
            }
        }
        let expected: Vec<_> = goldens().iter().map(common::Golden::frame).collect();
        assert_eq!(frames, expected);
    }
}

#[test]
fn a_huge_length_is_refused_before_its_bytes_arrive() {
    for length in [limits::FRAME_BYTES_MAX + 1, u32::MAX] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        let error = next_frame(&mut buffer, limits::FRAME_BYTES_MAX).unwrap_err();
        let limit = limits::FRAME_BYTES_MAX;
        assert_eq!(error, DecodeError::FrameTooLarge { length, limit });
        assert_eq!((error.answers(), error.wire().code), (None, ErrorCode::TooLarge));
    }
    let mut buffer = BytesMut::from(&[0, 0, 0, 0, 0x91][..]);
    assert_eq!(next_frame(&mut buffer, 10), Err(DecodeError::NoHead));
    let mut buffer = BytesMut::from(&[0, 0, 0, 5, 1, 2, 3][..]);
    assert_eq!(next_frame(&mut buffer, 5), Ok(None));
}

#[test]
fn a_million_levels_are_refused_at_the_seventeenth() {
    for marker in [0x91, 0x81, 0xdc, 0xdd, 0xdf] {
        let unit: &[u8] = match marker {
            0xdc => &[0xdc, 0, 1],
            0xdd => &[0xdd, 0, 0, 0, 1],
            0xdf => &[0xdf, 0, 0, 0, 1],
            ref short => std::slice::from_ref(short),
        };
        let bomb = unit.repeat(1_000_000);
        assert!(matches!(walk(&bomb, u32::MAX), Err(WalkError::Depth { .. })), "{marker:#x}");
    }
    let deepest = [vec![0x91; limits::DEPTH_MAX], vec![0xc0]].concat();
    assert_eq!(walk(&deepest, NODES), Ok(()));
    let deeper = [vec![0x91; limits::DEPTH_MAX + 1], vec![0xc0]].concat();
    assert_eq!(walk(&deeper, NODES), Err(WalkError::Depth { at: limits::DEPTH_MAX }));
}

#[test]
fn the_walk_counts_items_and_values() {
    assert_eq!(
        walk(&[0xdd, 0xff, 0xff, 0xff, 0xff], NODES),
        Err(WalkError::Items { items: u32::MAX })
    );
    assert_eq!(walk(&[0xdf, 0x80, 0, 0, 1], NODES), Err(WalkError::Items { items: 0x8000_0001 }));
    let many = [vec![0xdc, 0x20, 0], vec![0xc0; 0x2000]].concat();
    assert_eq!(walk(&many, 0x2000), Err(WalkError::Nodes { limit: 0x2000 }));
    assert_eq!(walk(&many, 0x2001), Ok(()));
    assert_eq!(walk(&[0x92, 0x90, 0x80], NODES), Ok(()));
    assert_eq!(walk(&[], NODES), Err(WalkError::Truncated { at: 0 }));
    assert_eq!(walk(&[0xc0, 0xc0], NODES), Err(WalkError::Trailing { left: 1 }));
    assert_eq!(walk(&[0xdb, 0xff, 0xff, 0xff, 0xff], NODES), Err(WalkError::Truncated { at: 0 }));
    for marker in [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
        let frame = [0x91, marker, 0, 0, 0, 0];
        assert_eq!(walk(&frame, NODES), Err(WalkError::Type { at: 1, marker }));
    }
}

#[test]
fn counts_beyond_the_frame_allocate_nothing() {
    for frame in [
        // publish, settle, deliver, records, published with 4 billion items each
        &[0x94, 2, 1, 0xc0, 0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0x96, 3, 1, 1, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xfe],
        &[0x93, 67, 1, 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x93, 67, 1, 0x91, 0x96, 0, 0, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x97, 66, 1, 0, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff],
    ] {
        let frame = Bytes::from_static(frame);
        assert!(decode_request(&frame).is_err());
        assert!(decode_response(&frame).is_err());
    }
}

#[test]
fn ten_thousand_damaged_goldens_do_no_harm() {
    let goldens = goldens();
    let mut random = Random(0x5eed);
    for _ in 0..10_000 {
        let mut bytes = goldens[random.below(goldens.len())].frame().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes.insert(at, [0xc1, 0xdd, 0xdf, 0xc6, 0xdb, 0xff][random.below(6)]),
                _ => drop(bytes.splice(at.., goldens[random.below(goldens.len())].frame())),
            }
            if bytes.is_empty() {
                bytes.push(0x93);
            }
        }
        poke(&Bytes::from(bytes));
    }
}

#[test]
fn ten_thousand_random_frames_do_no_harm() {
    let mut random = Random(0xbad);
    for _ in 0..10_000 {
        let len = 1 + random.below(256);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if random.below(2) == 0 {
            bytes[0] = 0x90 | (bytes[0] & 7);
            bytes[len.min(2) - 1] &= 0x7f;
        }
        poke(&Bytes::from(bytes));
    }
}

/// What the session branches on.
#[test]
fn errors_tell_whether_the_connection_survives() {
    let cases: &[(&[u8], Option<u32>, ErrorCode)] = &[
        (&[0xc0], None, ErrorCode::BadFrame),
        (&[0x92, 0xa1, b'a', 1], None, ErrorCode::BadFrame),
        (&[0x92, 9, 0xc0], None, ErrorCode::BadFrame),
        (&[0x92, 99, 5], Some(5), ErrorCode::BadRequest),
        (&[0x92, 64, 5], Some(5), ErrorCode::BadRequest),
        (&[0x92, 9, 0], None, ErrorCode::BadRequest),
        (&[0x93, 5, 5, 0xd4, 0, 0], Some(5), ErrorCode::BadFrame),
        (&[0x93, 5, 5, 0x90], Some(5), ErrorCode::BadRequest),
        (&[0x94, 2, 5, 0xc0, 0x91, 0xc0], Some(5), ErrorCode::BadRequest),
        (&[0x94, 2, 0, 0xc0, 0x91, 0xc0], None, ErrorCode::BadRequest),
        (&[0x94, 4, 0, 5, 0xce, 0, 2, 0, 0], None, ErrorCode::TooLarge),
        (&[0x94, 4, 7, 5, 64], Some(7), ErrorCode::BadRequest),
        (&[0x93, 4, 0, 5], None, ErrorCode::BadRequest),
    ];
    for (bytes, answers, code) in cases {
        let error = decode_request(&Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(error.answers(), answers.map(RequestId), "{bytes:x?}: {error}");
        assert_eq!(error.wire().code, *code, "{bytes:x?}: {error}");
    }
}

#[test]
fn a_bad_message_is_named_and_takes_the_whole_frame() {
    let mut bytes = vec![0x94, 2, 5, 0xc0, 0x92];
    weir_message::encode(&mut bytes, "a", b"", &[], b"x");
    bytes.extend_from_slice(&[0x94, 0xa1, 0xff, 0xc0, 0xc0, 0xc4, 0]);
    let mut messages = vec![weir_message::Parts::default()];
    let frame = 0..bytes.len();
    let error = weir_protocol::decode_publish_into(&bytes, frame, &mut messages).unwrap_err();
    let expected = DecodeError::Message { id: RequestId(5), row: 1, error: MessageError::Utf8 };
    assert_eq!(error, expected);
    assert_eq!(messages.len(), 1, "what was appended is taken back");
}

/// The first mistakes of whoever writes a client.
#[test]
fn a_bad_message_says_what_is_wanted() {
    let long = [&[0x94, 0xda, 1, 0][..], &[b'a'; 256], &[0xc0, 0xc0, 0xc4, 0]].concat();
    for (message, code, expected) in [
        (&b"\x94\xa1a\xc0\xc0\xa1x"[..], ErrorCode::BadRequest, "the payload must be bin"),
        (b"\x94\xa1a\xa1k\xc0\xc4\x00", ErrorCode::BadRequest, "the key must be bin or nil"),
        (b"\x94\xc4\x01a\xc0\xc0\xc4\x00", ErrorCode::BadRequest, "the subject must be str"),
        (b"\x94\xa1a\xc0\x90\xc4\x00", ErrorCode::BadRequest, "must be a map or nil"),
        (b"\x93\xa1a\xc0\xc0", ErrorCode::BadRequest, "it must be an array of four"),
        (&long, ErrorCode::TooLarge, "message 0: subject, bytes: over the limit of 255"),
    ] {
        let bytes = [&[0x94, 2, 5, 0xc0, 0x91][..], message].concat();
        let error = decode_request(&Bytes::from(bytes)).unwrap_err().wire();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

/// Every sentence names the field, so that its reader need not guess.
#[test]
fn refusals_name_the_key() {
    fn pairs(id: u8, op: u8, body: &serde_json::Value) -> Bytes {
        let mut bytes = vec![0x93, op, id];
        bytes.extend(rmp_serde::to_vec_named(body).unwrap());
        Bytes::from(bytes)
    }
    use serde_json::{Value, json};
    /// A map in which arrays lie in one another, so many.
    fn nested(arrays: u32) -> Value {
        json!({"a": (0..arrays).fold(json!({}), |inner, _| json!([inner]))})
    }
    let long = "x".repeat(200);
    for (op, body, expected) in [
        (5, json!({"sub": 1, "patern": "a"}), "unknown field `patern`"),
        (5, json!({"sub": 1}), "missing field `pattern`"),
        (5, json!({"sub": "1", "pattern": "a"}), "`sub`: invalid type: text"),
        (5, json!({"sub": 70_000_000_000_u64, "pattern": "a"}), "`sub`: invalid value"),
        (5, json!({"pattern": 7, "sub": 1}), "`pattern`: invalid type"),
        (7, json!({"sub": 1, "credit": 1}), "either `queue`, or `stream` and `group`"),
        (7, json!({"sub": 1, "queue": "a", "group": "b"}), "either `queue`"),
        (7, json!({"sub": 1, "queue": long}), "`queue`, bytes: 200 is over the limit of 128"),
        (7, json!({"sub": 1, "queue": "a", "labels": 3}), "`labels`: invalid type"),
        (16, json!({"name": "a"}), "missing field `kind`"),
        (16, json!({"name": "a", "kind": "topic"}), "`kind` must be queue, stream or group"),
        (16, json!({"name": "a", "kind": "queue", "partitions": 2}), "unknown field `partitions`"),
        (16, json!({"name": "a", "kind": "stream", "partitions": 0}), "`partitions` must be 1"),
        (16, json!({"name": "a", "kind": "queue", "level": "paper"}), "unknown variant `paper`"),
        (18, json!({"name": "a", "kind": "group"}), "`stream` goes with kind group"),
        (21, json!({"stream": "a", "from": {"page": 1}}), "unknown variant `page`"),
        (21, json!({"stream": "a", "from": {"offset": "1"}}), "`from`: invalid type"),
        (
            21,
            json!({"stream": "a", "from": 1}),
            "`from`: invalid type: integer `1`, expected `earl",
        ),
        (21, json!({"stream": "a", "from": {}}), "`from`: invalid length 0"),
        (21, json!({"stream": "a", "from": {"offset": 1, "time_ms": 2}}), "`from`: invalid length"),
        (22, json!({"stream": "a", "group": "b", "to": 0}), "`to`: invalid type: integer `0`"),
        (16, json!({"name": "a", "kind": "queue", "level": 0}), "`level`: invalid type"),
        (16, json!({"name": "a", "kind": "queue", "order": 1}), "`order`: invalid type"),
        (18, json!({"name": "a", "kind": 0}), "`kind`: invalid type"),
        (7, json!({"sub": 1, "queue": "a", "labels": nested(7)}), "depth of labels or options: 9"),
        (32, json!({"x": 1}), "unknown field `x`"),
    ] {
        let error = decode_request(&pairs(9, op, &body)).unwrap_err();
        let text = error.wire().message;
        assert!(text.contains(expected), "{body}: {text}");
        assert_eq!(error.answers(), Some(RequestId(9)), "{text}");
    }
}

/// Some libraries write every number in a signed format.
#[test]
fn signed_formats_are_read_when_not_negative() {
    let frame = |amount: &[u8]| Bytes::from([&[0x94, 4, 0xd0, 0, 0xd1, 0, 5][..], amount].concat());
    let expected = weir_protocol::Request::Credit(weir_protocol::Credit {
        sub: weir_protocol::SubscriptionId(5),
        amount: 64,
    });
    for amount in [&[0xd0, 64][..], &[0xd2, 0, 0, 0, 64], &[0xd3, 0, 0, 0, 0, 0, 0, 0, 64]] {
        assert_eq!(decode_request(&frame(amount)).unwrap().1, expected);
    }
    for amount in [&[0xd0, 0xff][..], &[0xff], &[0xd3, 0xff, 0, 0, 0, 0, 0, 0, 64]] {
        assert!(decode_request(&frame(amount)).is_err());
    }
}

/// A body given as an array would be read by position, and change its meaning
/// with the next field that is added.
#[test]
fn bodies_are_maps() {
    let frame = Bytes::from_static(&[0x93, 5, 5, 0x92, 1, 0xa1, b'a']);
    assert!(matches!(decode_request(&frame), Err(DecodeError::Field { .. })));
}

/// A number would be taken for a key's place in the code, as an array's is.
#[test]
fn keys_are_text() {
    for frame in [
        &[0x93, 6, 1, 0x81, 0, 5][..],
        &[0x93, 22, 1, 0x83, 0, 0xa1, b'a', 1, 0xa1, b'b', 3, 0xa6],
        // A seek to {1: 5}.
        b"\x93\x16\x01\x83\xa6stream\xa1a\xa5group\xa1b\xa2to\x81\x01\x05",
    ] {
        let error = decode_request(&Bytes::from_static(frame)).unwrap_err();
        assert!(!matches!(error.wire().code, ErrorCode::Unknown), "{error}");
        assert!(matches!(error, DecodeError::Field { .. } | DecodeError::Malformed { .. }));
    }
}

#[test]
fn a_control_frame_is_shorter_than_a_publish() {
    let mut bytes = vec![0x93, 5, 5, 0x82, 0xa3, b's', b'u', b'b', 1, 0xa7];
    bytes.extend_from_slice(b"pattern\xdb\x00\x02\x00\x00");
    bytes.extend_from_slice(&[b'a'; 0x2_0000]);
    let error = decode_request(&Bytes::from(bytes)).unwrap_err();
    assert_eq!(error.wire().code, ErrorCode::TooLarge);
}
