//! Runs: neighbouring messages that share their facts, in deliver and records
//! frames. The messages' own bytes are copied through untouched.

use bytes::Bytes;
use weir_message::Batch;

use crate::wire::{self, Cursor};
use crate::{Op, SubscriptionId, limits};

/// What the messages of a run share. Message `k` has delivery tag `tag + k` and
/// offset `offset + k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunHeader {
    /// Delivery tag of the first; 0 where nothing is to be settled.
    pub tag: u64,
    /// Partition; 0 for queues and channels.
    pub partition: u16,
    /// Offset of the first; 0 for channels.
    pub offset: u64,
    /// When the broker took them, ms since the epoch.
    pub time_ms: u64,
    /// Which delivery of them this is, from 1.
    pub attempt: u16,
    /// Number of messages.
    pub count: u32,
}

/// A received run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What its messages share.
    pub header: RunHeader,
    /// The messages, slices of the frame.
    pub batch: Batch,
}

/// Most bytes that [`RunHeader`] takes in a frame.
pub const RUN_HEADER_BYTES_MAX: usize = 1 + 9 + 3 + 9 + 9 + 3 + 5;
/// Most bytes of a deliver frame before its first run, prefix included.
pub const DELIVER_HEAD_BYTES_MAX: usize = limits::PREFIX_BYTES + 1 + 1 + 5 + 3;

/// Writes one deliver frame into a buffer that holds others too: start, any
/// number of runs, finish. The frame is not valid before [`DeliverBuilder::finish`].
#[derive(Debug)]
#[must_use = "a started frame must be finished"]
pub struct DeliverBuilder {
    start: usize,
    runs_at: usize,
    runs: u16,
}

impl DeliverBuilder {
    /// Starts a frame at the end of `out`.
    pub fn start(out: &mut Vec<u8>, sub: SubscriptionId) -> Self {
        let start = wire::begin_frame(out);
        wire::put_array(out, 3);
        wire::put_uint(out, Op::Deliver as u64);
        wire::put_uint(out, u64::from(sub.0));
        let runs_at = out.len();
        wire::put_array_wide(out, 0);
        Self { start, runs_at, runs: 0 }
    }

    /// Whether another run of `bytes_len` bytes keeps the frame within `limit`
    /// bytes and the run count. An empty frame takes any run.
    #[must_use]
    pub fn fits(&self, out: &[u8], bytes_len: usize, limit: u32) -> bool {
        let length = out.len() - self.start - limits::PREFIX_BYTES;
        let with_run = length + RUN_HEADER_BYTES_MAX + bytes_len;
        self.runs == 0 || (with_run <= limit as usize && usize::from(self.runs) < limits::RUNS_MAX)
    }

    /// Appends a run whose `header.count` messages lie end to end in `messages`.
    pub fn run(&mut self, out: &mut Vec<u8>, header: &RunHeader, messages: &[u8]) {
        put_run(out, header, messages);
        self.runs += 1;
    }

    /// Completes the frame.
    pub fn finish(self, out: &mut [u8]) {
        out[self.runs_at + 1..self.runs_at + 3].copy_from_slice(&self.runs.to_be_bytes());
        wire::end_frame(out, self.start);
    }
}

/// Appends one run.
pub(crate) fn put_run(out: &mut Vec<u8>, header: &RunHeader, messages: &[u8]) {
    put_run_header(out, header);
    out.extend_from_slice(messages);
}

pub(crate) fn put_run_header(out: &mut Vec<u8>, header: &RunHeader) {
    wire::put_array(out, 6);
    wire::put_uint(out, header.tag);
    wire::put_uint(out, u64::from(header.partition));
    wire::put_uint(out, header.offset);
    wire::put_uint(out, header.time_ms);
    wire::put_uint(out, u64::from(header.attempt));
    wire::put_array(out, header.count as usize);
}

/// Reads an array of runs; `None` when it is malformed.
pub(crate) fn take_runs(frame: &Bytes, cursor: &mut Cursor<'_>) -> Option<Vec<Run>> {
    let len = cursor.array_len()? as usize;
    if len > limits::RUNS_MAX {
        return None;
    }
    let mut runs = Vec::with_capacity(len.min(cursor.left() / 8));
    for _ in 0..len {
        runs.push(take_run(frame, cursor)?);
    }
    Some(runs)
}

fn take_run(frame: &Bytes, cursor: &mut Cursor<'_>) -> Option<Run> {
    let items = cursor.array_len()?;
    if items < 6 {
        return None;
    }
    let mut header = RunHeader {
        tag: cursor.uint()?,
        partition: cursor.u16()?,
        offset: cursor.uint()?,
        time_ms: cursor.uint()?,
        attempt: cursor.u16()?,
        count: 0,
    };
    header.count = cursor.array_len()?;
    let start = cursor.at;
    // A message takes six bytes at least: a count beyond the frame allocates nothing.
    let mut ends = Vec::with_capacity((header.count as usize).min(cursor.left() / 6));
    let mut previous = None;
    for _ in 0..header.count {
        let parsed = match &previous {
            Some(previous) => weir_message::parse_after(cursor.bytes, cursor.at, previous),
            None => weir_message::parse(cursor.bytes, cursor.at),
        };
        let parts = parsed.ok()?;
        previous = Some(parts);
        cursor.at = parts.end as usize;
        ends.push((cursor.at - start) as u32);
    }
    let batch = Batch { bytes: frame.slice(start..cursor.at), ends: ends.into() };
    for _ in 6..items {
        cursor.skip()?;
    }
    Some(Run { header, batch })
}
