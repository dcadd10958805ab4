//! The publish path of one session: judge, resolve, hand over.
//!
//! Works on everything one read brought, so each step is paid once per batch or
//! run, not per message. Called by the session only; awaits nothing but full
//! inboxes and listeners that keep up but lag.
//!
//! Invariants: messages leave in the order they were published, for each
//! subscription, queue and stream; every row is judged by one snapshot of the
//! policies; every row ends as kept, reached, unrouted or refused, and whoever
//! asked is told.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use weir_core::command::{ConnectionId, RequestId};
use weir_core::dead_letter::{Why, with_reason};
use weir_core::env::Now;
use weir_core::name;
use weir_message::{Parts, same_bytes};
use weir_policy::chain::{PublishChain, SubjectVerdict};
use weir_policy::judge::{JudgeInput, Judged, Place, RowVerdict};
use weir_protocol::ErrorCode;

use crate::broker::Broker;
use crate::limits::SHARED_RUN_BYTES_MIN;
use crate::outbox::Outbox;
use crate::receipt::{Receipt, Request};
use crate::session::flood::Flood;
use crate::session::gathering::Gathering;
use crate::session::route::{Listener, Planned, Route, Routes, SubjectPlan};
use crate::session::run::Run;
use crate::shards::Stopping;
use crate::wire::{self, Refusal};

/// A publish request of the read at hand.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) first_row: u32,
    pub(super) rows: u32,
    pub(super) delay_ms: u32,
    /// Position in the receipt, when an answer is wanted.
    pub(super) request: Option<usize>,
}

/// Neighbouring rows of equal subject.
#[derive(Debug)]
struct SubjectRun {
    first: u32,
    rows: u32,
    planned: Arc<Planned>,
}

/// The publish side of a session.
#[derive(Debug, Default)]
pub struct Publisher {
    pub(super) routes: Routes,
    pub(super) frames: Vec<Frame>,
    /// Where each row's message lies in `chunk`.
    pub(super) parts: Vec<Parts>,
    pub(super) judged: Judged,
    pub(super) receipt: Receipt,
    pub(super) gathering: Gathering,
    pub(super) flood: Flood,
    pub(super) run: Run,
    pub(super) touched: Vec<Arc<Outbox>>,
    pub(super) full: Vec<Arc<Outbox>>,
    pub(super) cut_off: Vec<Listener>,
    /// Where the last look-up of a row's frame ended.
    pub(super) frame_at: usize,
}

impl Publisher {
    /// Rows waiting to be handed over.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.parts.len()
    }

    /// Where the parts of the next request's messages are to be appended.
    pub fn parts(&mut self) -> &mut Vec<Parts> {
        &mut self.parts
    }

    /// Notes the request whose parts were appended since `first_row`.
    pub fn add(&mut self, id: RequestId, delay_ms: u32, first_row: usize) {
        let first_row = first_row as u32;
        let rows = self.parts.len() as u32 - first_row;
        let request = (id.0 != 0).then(|| {
            self.receipt.requests.push(Request::new(id, first_row, rows));
            self.receipt.requests.len() - 1
        });
        self.frames.push(Frame { first_row, rows, delay_ms, request });
    }

    /// Judges, resolves and hands over all rows; their bytes lie in `chunk`. `makes_room`
    /// are the shards in which the connection settles or removes messages itself.
    ///
    /// # Errors
    /// [`Stopping`]: nothing of these rows was acknowledged.
    pub async fn hand_over(
        &mut self,
        broker: &Broker,
        outbox: &Arc<Outbox>,
        makes_room: &HashSet<u32, RandomState>,
        chunk: &Bytes,
        now: Now,
    ) -> Result<(), Stopping> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let chain = broker.policies.chain();
        self.routes.refresh(broker.directory_version(), chain.generation());
        let runs = self.subject_runs(broker, &chain, chunk).await;
        self.distribute(broker, &chain, runs, outbox.connection, chunk, now);
        self.flood.note_published(self.gathering.rows() as usize);
        let sends = self.prepare(broker, outbox, makes_room);
        self.touched.drain(..).for_each(|outbox| outbox.ring());
        for (shard, commands, load) in sends {
            broker.shards.send_load(shard, commands, load).await?;
        }
        self.wait_for_listeners().await;
        self.frames.clear();
        self.frame_at = 0;
        self.parts.clear();
        Ok(())
    }

    /// Everything up to the point where something must be awaited.
    fn distribute(
        &mut self,
        broker: &Broker,
        chain: &PublishChain,
        runs: Vec<SubjectRun>,
        connection: ConnectionId,
        chunk: &Bytes,
        now: Now,
    ) {
        let parts = std::mem::take(&mut self.parts);
        let mut judged = std::mem::take(&mut self.judged);
        self.judge(chain, &runs, &parts, chunk, connection, now, &mut judged);
        let rewritten = Bytes::from(judged.take_rewritten());
        let targets: Vec<Arc<Route>> =
            judged.targets().iter().map(|target| self.routes.route(broker, target)).collect();
        let mut verdicts = judged.iter().peekable();
        let source = self.gathering.add_sources(std::slice::from_ref(chunk));
        for SubjectRun { first, rows, planned } in runs {
            let remembered = !matches!(planned.plan, SubjectPlan::PerMessage);
            if let Some(judged_by) = planned.judged_by.as_ref().filter(|_| remembered) {
                judged_by.count(u64::from(rows));
            }
            match &planned.plan {
                // Nobody shares what was read: it is gathered from where it lies.
                SubjectPlan::Only(target) => {
                    self.end_run(now);
                    self.gather_rows(target, (source, &parts), first..first + rows);
                }
                SubjectPlan::Same(route) => {
                    self.switch(route, 0, now);
                    self.extend_run(chunk, &parts, first, rows);
                }
                SubjectPlan::To(targets) => {
                    if targets.is_empty() {
                        self.unrouted_rows(first, rows);
                    }
                    for (subject, route) in targets {
                        self.switch(route, 0, now);
                        self.extend_retargeted(subject, chunk, &parts, first, rows);
                    }
                }
                SubjectPlan::Refused(why) => {
                    for row in first..first + rows {
                        let frame = self.frame_of(row);
                        self.refuse(frame, row, ErrorCode::BadRequest, why);
                    }
                }
                SubjectPlan::PerMessage => {
                    let mut row = first;
                    while row < first + rows {
                        let mut same = 0;
                        while row + same < first + rows
                            && verdicts.next_if(|it| matches!(it, RowVerdict::Same)).is_some()
                        {
                            same += 1;
                        }
                        if same > 0 {
                            // Nothing was changed: handed on as they came.
                            let subject = parts[row as usize].view(chunk).subject;
                            let route = self.routes.route(broker, subject);
                            self.switch(&route, 0, now);
                            self.extend_run(chunk, &parts, row, same);
                            row += same;
                            continue;
                        }
                        let Some(verdict) = verdicts.next() else { break };
                        let part = &parts[row as usize];
                        let bytes = |place| match place {
                            Place::Input => {
                                let mut part = chunk.slice(part.start as usize..part.end as usize);
                                loosen(std::slice::from_mut(&mut part), chunk.len());
                                part
                            }
                            Place::Rewritten { start, end } => {
                                rewritten.slice(start as usize..end as usize)
                            }
                        };
                        self.judged_row(broker, &verdict, bytes, &targets, row, now);
                        row += 1;
                    }
                }
            }
        }
        drop(verdicts);
        self.end_run(now);
        self.judged = judged;
        self.parts = parts;
    }

    /// Asks the policies about every row that they want to see.
    #[allow(clippy::too_many_arguments, reason = "one call, spelled out for the reader above")]
    fn judge(
        &self,
        chain: &PublishChain,
        runs: &[SubjectRun],
        parts: &[Parts],
        chunk: &Bytes,
        connection: ConnectionId,
        now: Now,
        judged: &mut Judged,
    ) {
        let asked: Vec<Parts> = runs
            .iter()
            .filter(|run| matches!(run.planned.plan, SubjectPlan::PerMessage))
            .flat_map(|run| &parts[run.first as usize..(run.first + run.rows) as usize])
            .copied()
            .collect();
        let publisher = connection.0 as u32;
        chain.judge(JudgeInput { buffer: chunk, parts: &asked, publisher, now }, judged);
    }

    /// Neighbouring rows of equal subject with what is known of it: one look-up
    /// per run. Where patterns make those long, others have their turn in between.
    async fn subject_runs(
        &mut self,
        broker: &Broker,
        chain: &PublishChain,
        chunk: &Bytes,
    ) -> Vec<SubjectRun> {
        let parts = std::mem::take(&mut self.parts);
        let mut runs: Vec<SubjectRun> = Vec::new();
        let mut previous: &[u8] = b"";
        for (row, part) in parts.iter().enumerate() {
            let subject =
                &chunk[part.subject.0 as usize..(part.subject.0 + part.subject.1) as usize];
            if let Some(run) = runs.last_mut().filter(|_| same_bytes(subject, previous)) {
                run.rows += 1;
                continue;
            }
            previous = subject;
            let planned = self.plan(broker, chain, part.view(chunk).subject);
            runs.push(SubjectRun { first: row as u32, rows: 1, planned });
            if self.routes.took_long() {
                tokio::task::yield_now().await;
            }
        }
        self.parts = parts;
        runs
    }

    fn plan(&mut self, broker: &Broker, chain: &PublishChain, subject: &str) -> Arc<Planned> {
        if let Some(planned) = self.routes.plan(subject) {
            return planned;
        }
        if let Some(why) = wrong_subject(subject) {
            let planned = Planned { plan: SubjectPlan::Refused(why), judged_by: None };
            return self.routes.learn(broker, subject, planned);
        }
        let judged_by = chain.verdict_for_subject(subject);
        let plan = match &judged_by.verdict {
            SubjectVerdict::Identity => {
                let route = self.routes.found(broker, subject);
                match route.only_destination() {
                    Some(target) => SubjectPlan::Only(target),
                    None => SubjectPlan::Same(route),
                }
            }
            SubjectVerdict::Targets(targets) => {
                let resolve =
                    |target: &Arc<str>| (target.clone(), self.routes.route(broker, target));
                SubjectPlan::To(targets.iter().map(resolve).collect())
            }
            SubjectVerdict::PerMessage => SubjectPlan::PerMessage,
        };
        self.routes.learn(broker, subject, Planned { plan, judged_by: Some(judged_by) })
    }

    /// Adds rows of one subject to the run at hand, one slice per frame.
    fn extend_run(&mut self, chunk: &Bytes, parts: &[Parts], first: u32, rows: u32) {
        let before = self.run.segments.len();
        let mut row = first;
        while row < first + rows {
            let frame = self.frame_of(row);
            let end = self.frame_end(frame).min(first + rows);
            let start = parts[row as usize].start as usize;
            let stop = parts[end as usize - 1].end as usize;
            let ends = parts[row as usize..end as usize].iter().map(|p| p.end - start as u32);
            self.run.push(chunk.slice(start..stop), ends, (row, end - row), frame);
            row = end;
        }
        loosen(&mut self.run.segments[before..], chunk.len());
    }

    /// Adds rows that a router always sends to another subject.
    fn extend_retargeted(
        &mut self,
        subject: &str,
        chunk: &Bytes,
        parts: &[Parts],
        first: u32,
        rows: u32,
    ) {
        let mut row = first;
        while row < first + rows {
            let frame = self.frame_of(row);
            let end = self.frame_end(frame).min(first + rows);
            let (mut out, mut ends) = (Vec::new(), Vec::new());
            for part in &parts[row as usize..end as usize] {
                let view = part.view(chunk);
                weir_message::encode(&mut out, subject, view.key, view.headers, view.payload);
                ends.push(out.len() as u32);
            }
            self.run.push(Bytes::from(out), ends, (row, end - row), frame);
            row = end;
        }
    }

    /// Adds one row that its policies have changed, sent elsewhere or stopped.
    fn judged_row(
        &mut self,
        broker: &Broker,
        verdict: &RowVerdict<'_>,
        bytes: impl Fn(Place) -> Bytes,
        targets: &[Arc<Route>],
        row: u32,
        now: Now,
    ) {
        let frame = self.frame_of(row);
        match verdict {
            RowVerdict::Same => unreachable!("handed on together with its neighbours"),
            RowVerdict::Picks([]) => self.unrouted(frame, 1),
            RowVerdict::Picks(picks) => {
                for pick in *picks {
                    self.switch(&targets[pick.target as usize], pick.delay_ms, now);
                    self.run.single(bytes(pick.place), row, frame);
                }
            }
            RowVerdict::Refused(refusal) => {
                self.refuse(frame, row, wire::code(refusal.code), &refusal.reason);
            }
            // Dropping is a power the operator granted; the binding counts it.
            RowVerdict::Dropped => {}
            RowVerdict::Diverted { queue, reason, place } => {
                self.end_run(now);
                match broker.dead_letter_queue(queue) {
                    Some(target) => {
                        let why =
                            Why { reason, source: queue, partition: None, offset: 0, attempts: 0 };
                        let message = Bytes::from(with_reason(&bytes(*place), &why));
                        let route = Route { destinations: vec![target], ..Route::default() };
                        self.switch(&Arc::new(route), 0, now);
                        self.run.single(message, row, frame);
                    }
                    None => {
                        let text = format!("no room to make the queue {queue} now, try again");
                        self.refuse(frame, row, ErrorCode::PolicyFailed, &text);
                    }
                }
            }
        }
    }

    fn refuse(&mut self, frame: usize, row: u32, code: ErrorCode, reason: &str) {
        if let Some(request) = self.frames[frame].request {
            let request = &mut self.receipt.requests[request];
            let row = row - request.first_row;
            let refusal = Refusal { row, count: 1, code, message: reason.to_owned().into() };
            request.refusals.push(refusal);
        }
    }

    /// Makes `route` the one that rows are added for, after handing over what was
    /// added for another.
    fn switch(&mut self, route: &Arc<Route>, delay_ms: u32, now: Now) {
        let same = self.run.route.as_ref().is_some_and(|held| Arc::ptr_eq(held, route));
        if !same || self.run.delay_ms != delay_ms {
            self.end_run(now);
            self.run.route = Some(route.clone());
            self.run.delay_ms = delay_ms;
        }
    }

    /// Hands the run at hand to everybody on its route.
    fn end_run(&mut self, now: Now) {
        if self.run.route.is_none() {
            return;
        }
        let mut run = std::mem::take(&mut self.run);
        if let Some(route) = run.route.take().filter(|_| run.rows > 0) {
            for listener in &route.listeners {
                self.listen(listener, &run, now);
            }
            for (share, members) in &route.shares {
                // A member whose connection has just gone is out of the
                // directory with the next look-up.
                if let Some(member) = &members[share.next_index()] {
                    self.listen(member, &run, now);
                }
            }
            self.gather(&route.destinations, &run);
            if route.is_empty() {
                run.spans.iter().for_each(|span| self.unrouted(span.frame, u64::from(span.rows)));
            }
        }
        run.clear();
        self.run = run;
    }

    pub(super) fn unrouted(&mut self, frame: usize, rows: u64) {
        if let Some(request) = self.frames[frame].request {
            self.receipt.requests[request].unrouted += rows;
        }
    }

    fn unrouted_rows(&mut self, first: u32, rows: u32) {
        for row in first..first + rows {
            let frame = self.frame_of(row);
            self.unrouted(frame, 1);
        }
    }

    pub(super) fn frame_of(&mut self, row: u32) -> usize {
        while row >= self.frame_end(self.frame_at) {
            self.frame_at += 1;
        }
        while row < self.frames[self.frame_at].first_row {
            self.frame_at -= 1;
        }
        self.frame_at
    }

    pub(super) fn frame_end(&self, frame: usize) -> u32 {
        let frame = &self.frames[frame];
        frame.first_row + frame.rows
    }
}

/// Copies the long segments of a run that would keep a much longer read, `read_bytes`, alive
/// in a listener's outbox; short ones are copied there.
fn loosen(segments: &mut [Bytes], read_bytes: usize) {
    let is_long = |segment: &Bytes| segment.len() >= SHARED_RUN_BYTES_MIN;
    let bytes: usize = segments.iter().filter(|it| is_long(it)).map(Bytes::len).sum();
    if 4 * bytes < read_bytes {
        for segment in segments.iter_mut().filter(|it| is_long(it)) {
            *segment = Bytes::copy_from_slice(segment);
        }
    }
}

/// Why clients may not publish to `subject`, when they may not.
fn wrong_subject(subject: &str) -> Option<Arc<str>> {
    if let Err(error) = name::check_subject(subject) {
        return Some(format!("subject `{subject}`: {error}").into());
    }
    name::is_reserved(subject)
        .then(|| format!("subject `{subject}`: names that start with `_` are the broker's").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these segments of a read still share its bytes.
    fn shared(read_bytes: usize, segments: &[(usize, usize)]) -> Vec<bool> {
        let read = Bytes::from(vec![7; read_bytes]);
        let mut parts: Vec<Bytes> =
            segments.iter().map(|&(from, to)| read.slice(from..to)).collect();
        loosen(&mut parts, read.len());
        for (part, &(from, to)) in parts.iter().zip(segments) {
            assert_eq!(part, &read[from..to]);
        }
        parts.iter().map(|part| read.as_ptr_range().contains(&part.as_ptr())).collect()
    }

    #[test]
    fn a_run_does_not_keep_a_much_longer_read_alive() {
        const LEN: usize = SHARED_RUN_BYTES_MIN;
        const READ: usize = 8 * LEN;
        assert_eq!(shared(READ, &[(100, 100 + LEN)]), [false], "an eighth pins the rest");
        assert_eq!(shared(READ, &[(0, 2 * LEN)]), [true], "a quarter is worth it");
        assert_eq!(shared(READ, &[(0, LEN), (3 * LEN, 4 * LEN)]), [true, true], "together, too");
        // Short ones are copied into the outbox in any case, and do not count.
        assert_eq!(shared(READ, &[(5, 4 + LEN)]), [true]);
        let short = (LEN, 2 * LEN - 1);
        assert_eq!(shared(READ, &[(0, LEN), short, (7 * LEN, 7 * LEN + 9)]), [false, true, true]);
    }
}
