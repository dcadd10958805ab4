//! What must hold for any bytes from the network. Run by the fuzz targets beside
//! this file, and over the corpus by a plain test of `broker/protocol`.

use bytes::{Bytes, BytesMut};
use weir_protocol::frame::whole_frames;
use weir_protocol::{
    DeliverBuilder, Response, answer, decode_request, decode_response, encode_request, limits,
    next_frame,
};

/// Frames come out the same, in whatever pieces the stream arrives. The first
/// byte chooses the size of the pieces.
pub fn frames(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let whole = split(stream, stream.len().max(1));
    assert_eq!(whole, split(stream, usize::from(*piece).max(1)));
    let mut places = Vec::new();
    let scanned = whole_frames(stream, limits::FRAME_BYTES_MAX, usize::MAX, &mut places);
    let slices: Vec<_> = places.iter().map(|&(start, end)| &stream[start..end]).collect();
    assert_eq!(
        (slices, scanned.is_err()),
        (whole.0.iter().map(|frame| &frame[..]).collect(), whole.1)
    );
}

/// The frames of `stream`, and whether it ended in an error.
fn split(stream: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for chunk in stream.chunks(piece) {
        buffer.extend_from_slice(chunk);
        loop {
            match next_frame(&mut buffer, limits::FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// A request that is understood is understood again when written anew. What is
/// refused has a sentence of bounded length.
pub fn requests(bytes: &[u8]) {
    let once = match decode_request(&Bytes::copy_from_slice(bytes)) {
        Ok((id, request)) => {
            let mut out = Vec::new();
            encode_request(&mut out, id, &request);
            out
        }
        Err(error) => {
            assert!(error.wire().message.len() <= limits::ERROR_TEXT_BYTES_MAX);
            return;
        }
    };
    let frame = Bytes::copy_from_slice(&once[limits::PREFIX_BYTES..]);
    let (id, request) = decode_request(&frame).expect("our own frames are readable");
    let mut twice = Vec::new();
    encode_request(&mut twice, id, &request);
    assert_eq!(once, twice);
}

/// The same for what a server says.
pub fn responses(bytes: &[u8]) {
    let Ok(response) = decode_response(&Bytes::copy_from_slice(bytes)) else { return };
    let Some(once) = write(&response) else { return };
    let frame = Bytes::copy_from_slice(&once[limits::PREFIX_BYTES..]);
    let again = decode_response(&frame).expect("our own frames are readable");
    assert_eq!(write(&again), Some(once));
}

fn write(response: &Response) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match response {
        Response::Ok { .. } => return None,
        Response::Error { id, error } => answer::encode_error(&mut out, *id, error),
        Response::Published { id, outcome } => answer::encode_published(
            &mut out,
            *id,
            outcome.level,
            outcome.stored,
            outcome.reached,
            outcome.unrouted,
            &outcome.refusals,
        ),
        Response::Deliver { sub, runs } => {
            let mut builder = DeliverBuilder::start(&mut out, *sub);
            for run in runs {
                assert!(run.batch.iter().all(|message| weir_message::parse(message, 0).is_ok()));
                builder.run(&mut out, &run.header, &run.batch.bytes);
            }
            builder.finish(&mut out);
        }
        Response::Records { id, records } => answer::encode_records(
            &mut out,
            *id,
            (records.start, records.end, records.next),
            records.runs.iter().map(|run| (run.header, &run.batch.bytes[..])),
        ),
        Response::Skipped { sub, count, lost } => {
            answer::encode_skipped(&mut out, *sub, *count, *lost);
        }
        Response::Ended { sub, error } => answer::encode_ended(&mut out, *sub, error),
        Response::Goodbye { error } => answer::encode_goodbye(&mut out, error),
    }
    Some(out)
}
