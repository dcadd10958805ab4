//! Bytes that wait for the writer: publish frames and control frames.
//!
//! Publishers append messages to the open frame at the end of one buffer; whoever
//! comes next (the writer, another publisher, a full frame) closes it. So batches
//! form from what is there, and nobody waits for one to fill.
//!
//! Control frames outlive a lost connection if the writer had not taken them, and if
//! somebody still waits for their answer, but for those that mean something to this
//! connection alone: settlements, whose tags would be other deliveries' on the next one,
//! and credit, which the next one begins with. What resumes subscriptions is of one
//! connection too, and leaves first.
//!
//! Invariant: an open frame is the last thing in `publish`, holds one message at
//! least between calls, and becomes valid when it is closed.

use std::ops::Range;
use std::sync::Arc;

use weir_protocol::limits::PREFIX_BYTES;
use weir_protocol::{PublishBuilder, RequestId};

use crate::limits::{FRAME_BYTES_TARGET, FRAME_MESSAGES_MAX};
use crate::publisher::ReceiptState;
use crate::{Error, Message};

/// A publish frame on its way, or on the wire and unconfirmed.
#[derive(Debug)]
pub(crate) struct FrameInFlight {
    /// Who waits for it.
    pub(crate) receipt: Arc<ReceiptState>,
    /// Position, among the messages of its receipt, of the frame's first one.
    pub(crate) first: u64,
    /// Messages in it.
    pub(crate) count: u32,
    /// Bytes of its messages, for the window.
    pub(crate) message_bytes: usize,
    /// Its bytes, kept where it may have to be sent again.
    pub(crate) copy: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    frame: PublishBuilder,
    start: usize,
    message_bytes: usize,
    id: u32,
    delay_ms: u32,
    receipt: Option<Arc<ReceiptState>>,
    first: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Publish frames, the last of them perhaps open.
    publish: Vec<u8>,
    open: Option<Open>,
    /// Ids of the confirmed frames in `publish`, open one not counted.
    pub(crate) publish_ids: Vec<u32>,
    /// Messages in `publish` that nobody waits for.
    pub(crate) unconfirmed: u64,
    /// Asks for subscriptions again: of this connection alone, before all else.
    pub(crate) resumes: Vec<u8>,
    /// Control frames.
    pub(crate) control: Vec<u8>,
    /// Ids of the requests in `control` that outlive the connection, one for each of
    /// its frames that is not bound.
    pub(crate) control_ids: Vec<u32>,
    /// Where in `control` there are frames for this connection alone, in order.
    bound: Vec<Range<usize>>,
}

impl Outgoing {
    /// Bytes of messages that wait.
    pub(crate) fn publish_len(&self) -> usize {
        self.publish.len()
    }

    /// Whether a message for `receipt` may join the open frame.
    pub(crate) fn joins(
        &self,
        message: &Message<'_>,
        receipt: Option<&Arc<ReceiptState>>,
        frame_bytes_max: u32,
    ) -> bool {
        let Some(open) = &self.open else { return false };
        let same = match (&open.receipt, receipt) {
            (None, None) => true,
            (Some(open), Some(receipt)) => Arc::ptr_eq(open, receipt),
            _ => false,
        };
        let bytes_max = frame_bytes_max.min(FRAME_BYTES_TARGET);
        same && open.delay_ms == message.delay_ms
            && open.frame.fits(
                &self.publish,
                message.encoded_len_max(),
                bytes_max,
                FRAME_MESSAGES_MAX,
            )
    }

    /// Begins a frame; the one that is open must have been closed. `id` is 0 when
    /// nobody waits for it; `first` is the position of its first message.
    pub(crate) fn begin(
        &mut self,
        id: u32,
        delay_ms: u32,
        receipt: Option<Arc<ReceiptState>>,
        first: u64,
    ) {
        assert!(self.open.is_none(), "the open frame is closed before the next begins");
        let start = self.publish.len();
        let frame = PublishBuilder::start(&mut self.publish, delay_ms);
        self.open = Some(Open { frame, start, message_bytes: 0, id, delay_ms, receipt, first });
    }

    /// Appends a message to the open frame. Returns its encoded length, bytes.
    ///
    /// # Errors
    /// When a frame with nothing but it is longer than `frame_bytes_max`; that
    /// frame is then taken back.
    pub(crate) fn append(
        &mut self,
        message: &Message<'_>,
        frame_bytes_max: u32,
    ) -> Result<usize, Error> {
        let open = self.open.as_mut().expect("a frame was begun");
        let before = self.publish.len();
        message.encode_into(&mut open.frame, &mut self.publish);
        let bytes = self.publish.len() - before;
        if open.frame.frame_bytes(&self.publish) > frame_bytes_max as usize {
            let open = self.open.take().expect("it was there");
            assert!(open.frame.count() == 1, "a message joins only where it fits");
            open.frame.abandon(&mut self.publish);
            return Err(Error::MessageTooLarge { bytes, limit: frame_bytes_max });
        }
        open.message_bytes += bytes;
        self.unconfirmed += u64::from(open.id == 0);
        Ok(bytes)
    }

    /// Closes the open frame, if there is one. For a confirmed one its id and what
    /// is known of it; `keep` asks for its bytes too.
    pub(crate) fn close(&mut self, keep: bool) -> Option<(u32, FrameInFlight)> {
        let open = self.open.take()?;
        let count = open.frame.count() as u32;
        open.frame.finish(&mut self.publish, RequestId(open.id));
        let receipt = open.receipt?;
        self.publish_ids.push(open.id);
        let copy = if keep { self.publish[open.start..].to_vec() } else { Vec::new() };
        let (first, message_bytes) = (open.first, open.message_bytes);
        Some((open.id, FrameInFlight { receipt, first, count, message_bytes, copy }))
    }

    /// Moves every publish frame into `out`, which is empty, behind what resumes
    /// subscriptions, and leaves its allocation for the next ones. The open frame must
    /// have been closed.
    pub(crate) fn take_publish(&mut self, out: &mut Vec<u8>) {
        assert!(self.open.is_none(), "only closed frames are written");
        std::mem::swap(&mut self.publish, out);
        self.publish.clear();
        self.publish_ids.clear();
        if !self.resumes.is_empty() {
            out.splice(0..0, std::mem::take(&mut self.resumes));
        }
    }

    /// Writes control frames that are for this connection alone.
    pub(crate) fn bind(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.control.len();
        encode(&mut self.control);
        self.bound.push(start..self.control.len());
    }

    /// Moves every control frame behind what is in `out`.
    pub(crate) fn take_control(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        self.control_ids.clear();
        self.bound.clear();
    }

    /// The connection is gone: drops the control frames that were for it alone.
    pub(crate) fn drop_bound(&mut self) {
        self.resumes.clear();
        let mut kept = Vec::new();
        let mut end = 0;
        for frames in self.bound.drain(..) {
            kept.extend_from_slice(&self.control[end..frames.start]);
            end = frames.end;
        }
        kept.extend_from_slice(&self.control[end..]);
        self.control = kept;
    }

    /// Drops the control frames whose ids `keep` does not want. Nothing is bound: the
    /// next connection has not begun.
    pub(crate) fn retain_questions(&mut self, keep: impl Fn(u32) -> bool) {
        assert!(self.bound.is_empty(), "what is bound has no id");
        let mut kept = Vec::new();
        let mut rest = &self.control[..];
        self.control_ids.retain(|&id| {
            let (frame, behind) = rest.split_at(frame_len(rest));
            rest = behind;
            let is_kept = keep(id);
            if is_kept {
                kept.extend_from_slice(frame);
            }
            is_kept
        });
        self.control = kept;
    }

    /// Puts closed confirmed frames, with their ids, in front of everything that waits.
    pub(crate) fn put_first<'a>(&mut self, frames: impl Iterator<Item = (u32, &'a [u8])>) {
        assert!(self.open.is_none(), "an open frame knows where it starts");
        let (mut publish, mut ids) = (Vec::new(), Vec::new());
        for (id, frame) in frames {
            publish.extend_from_slice(frame);
            ids.push(id);
        }
        publish.append(&mut self.publish);
        ids.append(&mut self.publish_ids);
        (self.publish, self.publish_ids) = (publish, ids);
    }
}

/// Length of the frame that `bytes` begin with, its prefix included.
fn frame_len(bytes: &[u8]) -> usize {
    let prefix = bytes.first_chunk::<PREFIX_BYTES>().expect("one frame for each id");
    PREFIX_BYTES + u32::from_be_bytes(*prefix) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_comes_first_and_in_order() {
        let (publish, publish_ids) = (vec![9], vec![8]);
        let mut outgoing = Outgoing { publish, publish_ids, ..Outgoing::default() };
        outgoing.put_first([(3, &[1, 2][..]), (5, &[4][..])].into_iter());
        assert_eq!(outgoing.publish, [1, 2, 4, 9]);
        assert_eq!(outgoing.publish_ids, [3, 5, 8]);
    }
}
