//! What a payload carries: who published it, its number, and when it was meant to
//! leave. Written by the workloads, read by [`crate::tally::Tally`].
//!
//! A batch is one buffer that is stamped anew each time, so that making messages
//! costs the client next to nothing, whichever driver it feeds.

use std::sync::OnceLock;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

/// How the stamp is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// 18 bytes, little endian.
    #[default]
    Binary,
    /// A JSON object with hexadecimal strings at fixed places, for policies that
    /// look into payloads.
    Json,
}

/// The stamp of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the publisher.
    pub(crate) publisher: u16,
    /// Number of the message among those of its publisher, from 0.
    pub(crate) number: u64,
    /// When it was meant to leave, nanoseconds on the clock of this process.
    pub(crate) intended: u64,
}

/// Nanoseconds since the first call, on a clock that only goes forward.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

const JSON: &[u8] = br#"{"p":"0000","s":"0000000000000000","t":"0000000000000000","pad":""#;
const JSON_PUBLISHER: usize = 6;
const JSON_NUMBER: usize = 17;
const JSON_INTENDED: usize = 40;

fn write_hex(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_hex(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0, |value, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

impl Layout {
    fn blank(self, bytes: usize) -> Vec<u8> {
        let mut payload = vec![b'x'; bytes];
        if self == Self::Json {
            payload[..JSON.len()].copy_from_slice(JSON);
            payload[bytes - 2..].copy_from_slice(b"\"}");
        }
        payload
    }

    fn write(self, out: &mut [u8], stamp: Stamp) {
        match self {
            Self::Binary => {
                out[..2].copy_from_slice(&stamp.publisher.to_le_bytes());
                out[2..10].copy_from_slice(&stamp.number.to_le_bytes());
                out[10..18].copy_from_slice(&stamp.intended.to_le_bytes());
            }
            Self::Json => {
                write_hex(&mut out[JSON_PUBLISHER..JSON_PUBLISHER + 4], stamp.publisher.into());
                write_hex(&mut out[JSON_NUMBER..JSON_NUMBER + 16], stamp.number);
                write_hex(&mut out[JSON_INTENDED..JSON_INTENDED + 16], stamp.intended);
            }
        }
    }

    /// Reads a stamp back; `None` where the payload was damaged.
    pub(crate) fn read(self, payload: &[u8]) -> Option<Stamp> {
        match self {
            Self::Binary => {
                let (publisher, rest) = payload.split_first_chunk::<2>()?;
                let (number, rest) = rest.split_first_chunk::<8>()?;
                let intended = rest.first_chunk::<8>()?;
                Some(Stamp {
                    publisher: u16::from_le_bytes(*publisher),
                    number: u64::from_le_bytes(*number),
                    intended: u64::from_le_bytes(*intended),
                })
            }
            Self::Json => {
                let part = |at: usize, length| read_hex(payload.get(at..at + length)?);
                Some(Stamp {
                    publisher: part(JSON_PUBLISHER, 4)? as u16,
                    number: part(JSON_NUMBER, 16)?,
                    intended: part(JSON_INTENDED, 16)?,
                })
            }
        }
    }
}

/// Messages of one size, in one buffer.
#[derive(Debug)]
pub(crate) struct Batch {
    layout: Layout,
    bytes: Bytes,
    size: usize,
    publisher: u16,
    next: u64,
}

impl Batch {
    /// A batch of `count` messages of `size` bytes of this publisher.
    pub(crate) fn new(layout: Layout, publisher: u16, count: usize, size: usize) -> Self {
        let bytes = Bytes::from(layout.blank(size).repeat(count));
        Self { layout, bytes, size, publisher, next: 0 }
    }

    /// Stamps all messages with the next numbers.
    pub(crate) fn renew(&mut self, intended: u64) {
        // A driver may still hold slices of the last round: then it is copied.
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        for payload in bytes.chunks_exact_mut(self.size) {
            let stamp = Stamp { publisher: self.publisher, number: self.next, intended };
            self.layout.write(payload, stamp);
            self.next += 1;
        }
        self.bytes = bytes.freeze();
    }

    /// Number of messages.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    /// Messages stamped so far, all rounds.
    pub(crate) fn stamped(&self) -> u64 {
        self.next
    }

    /// All payloads behind each other.
    pub(crate) fn whole(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of a payload, bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The payloads.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size)
    }

    /// The payloads, as references into the batch's buffer.
    pub(crate) fn shared(&self) -> impl Iterator<Item = Bytes> {
        (0..self.bytes.len()).step_by(self.size).map(|at| self.bytes.slice(at..at + self.size))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stamps_come_back_in_both_layouts() {
        for layout in [Layout::Binary, Layout::Json] {
            let mut batch = Batch::new(layout, 513, 4, 128);
            batch.renew(1);
            batch.renew(77);
            let stamps: Vec<_> = batch.payloads().map(|it| layout.read(it).unwrap()).collect();
            let numbers: Vec<_> = stamps.iter().map(|stamp| stamp.number).collect();
            assert_eq!(numbers, [4, 5, 6, 7]);
            assert!(stamps.iter().all(|stamp| (stamp.publisher, stamp.intended) == (513, 77)));
        }
        let json = Batch::new(Layout::Json, 0, 1, 128);
        assert!(serde_json::from_slice::<serde_json::Value>(json.whole()).is_ok());
    }

    #[test]
    fn slices_that_are_held_keep_their_stamp() {
        let mut batch = Batch::new(Layout::Binary, 0, 2, 64);
        batch.renew(5);
        let held: Vec<Bytes> = batch.shared().collect();
        batch.renew(6);
        assert_eq!(Layout::Binary.read(&held[1]).unwrap().number, 1);
    }
}
