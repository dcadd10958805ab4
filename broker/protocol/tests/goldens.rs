//! The golden frames in `tests/wire`: what this crate writes and reads is pinned
//! byte for byte, for every operation and in both directions.
//!
//! `WEIR_BLESS=1 cargo test -p weir-protocol --test goldens` writes the files of
//! new cases. A changed file is a changed protocol.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod cases;
#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use common::{Golden, folder, goldens, to_hex};
use weir_protocol::{
    DeliverBuilder, Op, RequestId, Response, answer, decode_request, decode_response,
    encode_request,
};

#[test]
fn every_case_has_its_bytes() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    for case in cases::cases() {
        let path = folder().join(format!("{}.hex", case.name));
        let text = format!("# {}\n# {}\n{}", case.title, case.shows, to_hex(&case.bytes));
        if bless {
            std::fs::write(&path, text).unwrap();
        } else {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, text, "{}", path.display());
        }
    }
}

#[test]
fn every_file_has_a_case() {
    let names: Vec<_> = cases::cases().into_iter().map(|case| case.name).collect();
    for golden in goldens() {
        assert!(names.contains(&golden.name.as_str()), "{}.hex has no case", golden.name);
    }
}

#[test]
fn every_operation_has_a_golden() {
    let goldens = goldens();
    for op in Op::ALL {
        let found = goldens.iter().any(|golden| golden.op() == op as u8);
        assert!(found, "no golden frame for {}", op.name());
    }
}

#[test]
fn names_begin_with_the_operation() {
    for golden in goldens() {
        let op = Op::of(u64::from(golden.op())).unwrap();
        let start = format!("{}-", op.name());
        assert!(golden.name.starts_with(&start), "{} should begin with {start}", golden.name);
    }
}

/// The second comment line of a file is the frame as text; a reader of the files
/// relies on it.
#[test]
fn comments_tell_the_truth() {
    for golden in goldens() {
        let shown = golden.comment.lines().last().unwrap().trim_start_matches("# ");
        let (text, len) = common::notation::render(&golden.frame());
        assert_eq!(len, golden.frame().len(), "{}", golden.name);
        if !shown.contains("...") {
            assert_eq!(shown, text, "{}", golden.name);
        }
    }
}

#[test]
fn every_golden_is_read_and_written_again() {
    for golden in goldens() {
        let again = write_again(&golden);
        if golden.comment.contains("Read only:") {
            assert_ne!(again, golden.bytes, "{} is no read-only case", golden.name);
        } else {
            assert_eq!(to_hex(&again), to_hex(&golden.bytes), "{}", golden.name);
        }
    }
}

fn write_again(golden: &Golden) -> Vec<u8> {
    let mut out = Vec::new();
    if golden.is_request() {
        let (id, request) = decode_request(&golden.frame())
            .unwrap_or_else(|error| panic!("{}: {error}", golden.name));
        encode_request(&mut out, id, &request);
        return out;
    }
    let response =
        decode_response(&golden.frame()).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
    match response {
        Response::Ok { id, body } => write_ok_again(&mut out, golden, id, &body),
        Response::Error { id, error } => answer::encode_error(&mut out, id, &error),
        Response::Published { id, outcome } => answer::encode_published(
            &mut out,
            id,
            outcome.level,
            outcome.stored,
            outcome.reached,
            outcome.unrouted,
            &outcome.refusals,
        ),
        Response::Deliver { sub, runs } => {
            let mut builder = DeliverBuilder::start(&mut out, sub);
            for run in &runs {
                assert_eq!(run.header.count as usize, run.batch.len());
                builder.run(&mut out, &run.header, &run.batch.bytes);
            }
            builder.finish(&mut out);
        }
        Response::Records { id, records } => answer::encode_records(
            &mut out,
            id,
            (records.start, records.end, records.next),
            records.runs.iter().map(|run| (run.header, &run.batch.bytes[..])),
        ),
        Response::Skipped { sub, count, lost } => {
            answer::encode_skipped(&mut out, sub, count, lost);
        }
        Response::Ended { sub, error } => answer::encode_ended(&mut out, sub, &error),
        Response::Goodbye { error } => answer::encode_goodbye(&mut out, &error),
    }
    out
}

fn write_ok_again(out: &mut Vec<u8>, golden: &Golden, id: RequestId, body: &weir_protocol::Body) {
    macro_rules! again {
        ($kind:ty) => {
            answer::encode_ok(out, id, &body.decode::<$kind>().unwrap())
        };
    }
    match golden.name.as_str() {
        "ok-empty" => again!(weir_protocol::Empty),
        "ok-hello" | "ok-newer-broker" => again!(weir_protocol::HelloAnswer),
        "ok-settle" => again!(weir_protocol::SettleCount),
        "ok-pull" => again!(weir_protocol::DeliveredCount),
        "ok-purge" => again!(weir_protocol::DoneCount),
        "ok-list" => again!(weir_protocol::ListAnswer),
        "ok-info-queue" => again!(weir_protocol::QueueInfo),
        "ok-info-stream" => again!(weir_protocol::StreamInfo),
        "ok-info-group" => again!(weir_protocol::GroupInfo),
        "ok-policy_list" => again!(weir_protocol::PolicyListAnswer),
        "ok-policy_status" => again!(weir_protocol::PolicyStatusAnswer),
        "ok-policy_rollback" => again!(weir_protocol::BindingStatus),
        other => panic!("say here which body {other} has"),
    }
}

/// Whoever copies messages and whoever sends them uncopied must agree.
#[test]
fn a_deliver_head_and_its_messages_are_a_frame() {
    let golden = goldens().into_iter().find(|golden| golden.name == "deliver-queue").unwrap();
    let Ok(Response::Deliver { sub, runs }) = decode_response(&golden.frame()) else {
        panic!("a deliver frame");
    };
    let run = &runs[0];
    let mut out = Vec::new();
    answer::deliver_head(&mut out, sub, &run.header, run.batch.bytes.len());
    out.extend_from_slice(&run.batch.bytes);
    let mut buffer = bytes::BytesMut::from(&out[..]);
    let frame = weir_protocol::next_frame(&mut buffer, 1 << 20).unwrap().unwrap();
    assert!(buffer.is_empty());
    assert_eq!(
        decode_response(&frame).unwrap(),
        Response::Deliver { sub, runs: vec![run.clone()] }
    );
}
