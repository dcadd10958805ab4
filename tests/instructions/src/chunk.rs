//! What a publisher sends: messages of 128 bytes, as a read brings them and as a
//! shard gets them.

use bytes::{Bytes, BytesMut};
use weir_message::{Batch, BatchBuilder, Parts};
use weir_protocol::frame::whole_frames;
use weir_protocol::{PublishBuilder, RequestId, decode_publish_into, limits};

/// Messages of one publish frame, and of one turn.
pub(crate) const MESSAGES: usize = 256;
const PAYLOAD: [u8; 128] = [b'x'; 128];
const SUBJECT: &str = "flights.short.late";

/// Publish frames as they come from the socket.
pub(crate) fn frames(count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for id in 1..=count {
        let mut builder = PublishBuilder::start(&mut out, 0);
        for _ in 0..MESSAGES {
            builder.push_parts(&mut out, SUBJECT, b"LAX", &[], &PAYLOAD);
        }
        builder.finish(&mut out, RequestId(id));
    }
    out
}

/// So many messages in one batch.
pub(crate) fn batch(messages: usize) -> Batch {
    let mut message = Vec::new();
    weir_message::encode(&mut message, SUBJECT, b"LAX", &[], &PAYLOAD);
    let mut builder = BatchBuilder::default();
    (0..messages).for_each(|_| builder.push(&message));
    builder.take()
}

/// The reading side of a connection: its buffers, used again for every read.
#[derive(Default)]
pub(crate) struct Reader {
    buffer: BytesMut,
    frames: Vec<(usize, usize)>,
    /// Where the messages of the last read lie in its chunk.
    pub(crate) parts: Vec<Parts>,
    /// The requests of the last read.
    pub(crate) requests: Vec<RequestId>,
}

impl Reader {
    /// Takes what a read brought, as a session does: all whole frames are cut off
    /// together, and their messages stay where they are.
    pub(crate) fn read(&mut self, received: &[u8]) -> Bytes {
        self.buffer.extend_from_slice(received);
        self.frames.clear();
        let limit = limits::FRAME_BYTES_MAX;
        whole_frames(&self.buffer, limit, usize::MAX, &mut self.frames).expect("our own frames");
        let end = self.frames.last().map_or(0, |(_, end)| *end);
        let chunk = self.buffer.split_to(end).freeze();
        self.parts.clear();
        self.requests.clear();
        for (start, end) in &self.frames {
            let head = decode_publish_into(&chunk, *start..*end, &mut self.parts);
            let head = head.expect("our own frame");
            self.requests.push(head.id);
        }
        chunk
    }
}
