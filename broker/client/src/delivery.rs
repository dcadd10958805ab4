//! What a subscription or a consumer receives. Messages stay in the buffer they
//! were read into; a delivery is a view of it.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use weir_message::{Headers, Parts, View};
use weir_protocol::{Run, Verb};

use crate::inbox::{Inbox, TagRun};

/// Deliveries that were there when they were asked for, oldest first.
///
/// Iterating over a reference gives borrowed [`DeliveryRef`]s and costs nothing
/// but reading; iterating over the batch itself gives [`Delivery`]s that can be
/// kept and handed to other tasks.
#[derive(Debug)]
pub struct DeliveryBatch {
    /// Where settlements go; none for records that were read.
    pub(crate) inbox: Option<Arc<Inbox>>,
    pub(crate) epoch: u32,
    pub(crate) runs: Vec<Run>,
}

impl DeliveryBatch {
    /// Number of deliveries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.batch.len()).sum()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The deliveries, borrowed.
    #[must_use]
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter { batch: self, place: Place::default() }
    }

    /// Acks all of them.
    pub fn ack(&self) {
        self.settle(Verb::Ack);
    }

    /// Gives all of them back; ready again after `delay_ms`, or when the policy
    /// says so for 0. More than 7 days count as 7 days.
    pub fn nack(&self, delay_ms: u32) {
        self.settle(Verb::Nack { delay_ms });
    }

    /// Keeps the first `count` of them. What is behind them; `None` when that is nothing.
    pub(crate) fn split_off(&mut self, count: usize) -> Option<Self> {
        let mut rows = count;
        let at = self.runs.iter().position(|run| {
            let is_behind = run.batch.len() > rows;
            rows -= if is_behind { 0 } else { run.batch.len() };
            is_behind
        })?;
        let mut runs = self.runs.split_off(at);
        if rows > 0 {
            let mut head = runs[0].clone();
            keep_rows(&mut head, rows);
            self.runs.push(head);
            skip_rows(&mut runs[0], rows);
        }
        Some(Self { inbox: self.inbox.clone(), epoch: self.epoch, runs })
    }

    /// Delivery tags of all of them.
    pub(crate) fn tag_runs(&self) -> impl Iterator<Item = TagRun> {
        self.runs.iter().map(|run| TagRun { first: run.header.tag, count: run.header.count })
    }

    fn settle(&self, verb: Verb) {
        let runs = self.tag_runs();
        if let Some(inbox) = &self.inbox {
            inbox.settle(self.epoch, verb, runs);
        }
    }
}

impl<'a> IntoIterator for &'a DeliveryBatch {
    type Item = DeliveryRef<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl IntoIterator for DeliveryBatch {
    type Item = Delivery;
    type IntoIter = BatchIntoIter;

    fn into_iter(self) -> BatchIntoIter {
        BatchIntoIter { batch: self, place: Place::default() }
    }
}

/// Borrowed deliveries of a batch.
#[derive(Debug)]
pub struct BatchIter<'a> {
    batch: &'a DeliveryBatch,
    place: Place,
}

/// How far a batch was read.
#[derive(Debug, Default)]
struct Place {
    run: usize,
    row: usize,
    /// The message before, of the same run.
    previous: Option<Parts>,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = DeliveryRef<'a>;

    fn next(&mut self) -> Option<DeliveryRef<'a>> {
        let (run, row, parts) = step(&self.batch.runs, &mut self.place)?;
        Some(DeliveryRef { batch: self.batch, run, row, parts })
    }
}

/// Owned deliveries of a batch.
#[derive(Debug)]
pub struct BatchIntoIter {
    batch: DeliveryBatch,
    place: Place,
}

impl BatchIntoIter {
    pub(crate) fn epoch(&self) -> u32 {
        self.batch.epoch
    }

    /// What was not looked at yet; `None` when that is nothing.
    pub(crate) fn into_rest(mut self) -> Option<DeliveryBatch> {
        let mut runs = self.batch.runs.split_off(self.place.run.min(self.batch.runs.len()));
        if let Some(run) = runs.first_mut() {
            if self.place.row == run.batch.len() {
                runs.remove(0);
            } else if self.place.row > 0 {
                skip_rows(run, self.place.row);
            }
        }
        self.batch.runs = runs;
        (!self.batch.runs.is_empty()).then_some(self.batch)
    }
}

/// Takes all but the first `rows` messages off a run.
fn keep_rows(run: &mut Run, rows: usize) {
    let end = run.batch.start(rows);
    run.batch.bytes.truncate(end);
    run.batch.ends.truncate(rows);
    run.header.count = rows as u32;
}

/// Takes the first `rows` messages off a run.
fn skip_rows(run: &mut Run, rows: usize) {
    let start = run.batch.start(rows);
    run.batch.bytes.advance(start);
    run.batch.ends.drain(..rows);
    run.batch.ends.iter_mut().for_each(|end| *end -= start as u32);
    let header = &mut run.header;
    header.tag += if header.tag == 0 { 0 } else { rows as u64 };
    header.offset += rows as u64;
    header.count -= rows as u32;
}

impl Iterator for BatchIntoIter {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        let (run, row, parts) = step(&self.batch.runs, &mut self.place)?;
        Some(Delivery::of(&self.batch.inbox, self.batch.epoch, run, row, parts))
    }
}

/// Advances over runs and their messages.
fn step<'a>(runs: &'a [Run], place: &mut Place) -> Option<(&'a Run, usize, Parts)> {
    let mut current = runs.get(place.run)?;
    while place.row == current.batch.len() {
        *place = Place { run: place.run + 1, ..Place::default() };
        current = runs.get(place.run)?;
    }
    let (bytes, at) = (&current.batch.bytes, current.batch.start(place.row));
    let parsed = match &place.previous {
        Some(previous) => weir_message::parse_after(bytes, at, previous),
        None => weir_message::parse(bytes, at),
    };
    let parts = parsed.expect("checked when it was read");
    place.previous = Some(parts);
    place.row += 1;
    Some((current, place.row - 1, parts))
}

/// A delivery, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryRef<'a> {
    batch: &'a DeliveryBatch,
    run: &'a Run,
    row: usize,
    parts: Parts,
}

impl<'a> DeliveryRef<'a> {
    /// Subject, key, headers and payload.
    #[must_use]
    pub fn view(&self) -> View<'a> {
        self.parts.view(&self.run.batch.bytes)
    }

    /// Payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let (start, length) = self.parts.payload;
        &self.run.batch.bytes[start as usize..(start + length) as usize]
    }

    /// How often the message was handed out, this time included; 1 for channels.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.run.header.attempt
    }

    /// Offset in its partition; without meaning for channels.
    #[must_use]
    pub fn offset(&self) -> u64 {
        offset(self.run, self.row)
    }

    /// A copy that can be kept; the message's bytes are shared.
    #[must_use]
    pub fn to_owned(&self) -> Delivery {
        Delivery::of(&self.batch.inbox, self.batch.epoch, self.run, self.row, self.parts)
    }

    /// Done: the message is settled.
    pub fn ack(&self) {
        self.settle(Verb::Ack);
    }

    /// Gives it back; ready again after `delay_ms`, or when the policy says so
    /// for 0. More than 7 days count as 7 days.
    pub fn nack(&self, delay_ms: u32) {
        self.settle(Verb::Nack { delay_ms });
    }

    /// Never again: to the dead-letter queue, with this code as reason.
    pub fn reject(&self, code: u8) {
        self.settle(Verb::Reject { code });
    }

    /// Keeps it longer: the lease runs for `by_ms` from now, 0 for the plan's length.
    /// More than 7 days count as 7 days.
    pub fn extend(&self, by_ms: u32) {
        self.settle(Verb::Extend { by_ms });
    }

    fn settle(&self, verb: Verb) {
        let first = tag(self.run, self.row);
        if let Some(inbox) = &self.batch.inbox {
            inbox.settle(self.batch.epoch, verb, [TagRun { first, count: 1 }]);
        }
    }
}

/// A message that was delivered. Settling one that came from a channel, or over a
/// connection that is gone, does nothing: the broker has forgotten the delivery,
/// and hands the message out again where it owes it.
#[derive(Clone, Debug)]
pub struct Delivery {
    inbox: Option<Arc<Inbox>>,
    epoch: u32,
    tag: u64,
    /// Partition; 0 for queues and channels.
    pub partition: u16,
    /// Offset in its partition; without meaning for channels.
    pub offset: u64,
    /// When the broker took it, ms since the epoch; 0 for channels.
    pub time_ms: u64,
    /// How often it was handed out, this time included; 1 for channels.
    pub attempt: u16,
    bytes: Bytes,
    parts: Parts,
}

impl Delivery {
    fn of(inbox: &Option<Arc<Inbox>>, epoch: u32, run: &Run, row: usize, mut parts: Parts) -> Self {
        let bytes = run.batch.bytes.slice(parts.start as usize..parts.end as usize);
        let start = parts.start;
        for part in [&mut parts.subject, &mut parts.key, &mut parts.headers, &mut parts.payload] {
            part.0 -= start;
        }
        (parts.start, parts.end) = (0, parts.end - start);
        Self {
            inbox: inbox.clone(),
            epoch,
            tag: tag(run, row),
            partition: run.header.partition,
            offset: offset(run, row),
            time_ms: run.header.time_ms,
            attempt: run.header.attempt,
            bytes,
            parts,
        }
    }

    /// Subject, key, headers and payload.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.parts.view(&self.bytes)
    }

    /// Subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.view().subject
    }

    /// Key, empty when there is none.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.part(self.parts.key)
    }

    /// Payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.part(self.parts.payload)
    }

    /// Payload, sharing the buffer it was read into.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        let (start, length) = self.parts.payload;
        self.bytes.slice(start as usize..(start + length) as usize)
    }

    /// Value of the header `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Headers in order: name and value.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers::of(self.part(self.parts.headers))
    }

    /// The message as it is encoded on the wire.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.bytes
    }

    /// Done: the message is settled. Written with other acks when the writer next
    /// looks; nothing is awaited.
    pub fn ack(&self) {
        self.settle(Verb::Ack);
    }

    /// Gives it back; ready again after `delay_ms`, or when the policy says so
    /// for 0. More than 7 days count as 7 days.
    pub fn nack(&self, delay_ms: u32) {
        self.settle(Verb::Nack { delay_ms });
    }

    /// Never again: to the dead-letter queue, with this code as reason.
    pub fn reject(&self, code: u8) {
        self.settle(Verb::Reject { code });
    }

    /// Keeps it longer: the lease runs for `by_ms` from now, 0 for the plan's length.
    /// More than 7 days count as 7 days.
    pub fn extend(&self, by_ms: u32) {
        self.settle(Verb::Extend { by_ms });
    }

    fn settle(&self, verb: Verb) {
        if let Some(inbox) = &self.inbox {
            inbox.settle(self.epoch, verb, [self.tag_run()]);
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn tag_run(&self) -> TagRun {
        TagRun { first: self.tag, count: 1 }
    }

    fn part(&self, (start, length): (u32, u32)) -> &[u8] {
        &self.bytes[start as usize..(start + length) as usize]
    }
}

fn tag(run: &Run, row: usize) -> u64 {
    match run.header.tag {
        0 => 0,
        tag => tag + row as u64,
    }
}

/// Records have offsets without tags; a channel's deliveries have neither.
fn offset(run: &Run, row: usize) -> u64 {
    run.header.offset + row as u64
}
