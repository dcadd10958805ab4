//! Outcomes of publish requests that were read together.
//!
//! Kept in the publisher's outbox; the session opens it before anything is sent,
//! shards note outcomes, and the last one turns it into one frame per request.

use weir_core::command::{Level, RequestId};

use crate::wire::{self, Refusal};

/// One publish request.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Its first row in the receipt.
    pub first_row: u32,
    /// Its number of messages.
    pub rows: u32,
    /// Copies kept in queues and streams.
    pub stored: u64,
    /// Channel deliveries handed over.
    pub reached: u64,
    /// Messages that reached nobody.
    pub unrouted: u64,
    /// The lowest level among the copies.
    pub level: Option<Level>,
    /// What was refused.
    pub refusals: Vec<Refusal>,
}

impl Request {
    /// A request nothing has happened to yet.
    #[must_use]
    pub fn new(id: RequestId, first_row: u32, rows: u32) -> Self {
        Self {
            id,
            first_row,
            rows,
            stored: 0,
            reached: 0,
            unrouted: 0,
            level: None,
            refusals: Vec::new(),
        }
    }

    fn holds(&self, row: u32) -> bool {
        (self.first_row..self.first_row + self.rows).contains(&row)
    }
}

/// Publish requests whose outcomes are collected together. Rows count over all
/// messages of the read that they came in.
#[derive(Debug, Default)]
pub struct Receipt {
    /// The requests, by rising `first_row`.
    pub requests: Vec<Request>,
    /// Copies, in messages, whose outcome is still to come from shards.
    pub outstanding: u32,
}

impl Receipt {
    /// Whether all outcomes are in.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outstanding == 0
    }

    /// Notes that a shard kept these rows (empty: `0..count`).
    pub fn kept(&mut self, count: u32, rows: &[u32], level: Level) {
        self.each(count, rows, |request, _| {
            request.stored += 1;
            request.level = Some(request.level.map_or(level, |lowest| lowest.min(level)));
        });
    }

    /// Notes that these rows were refused (empty: `0..count`).
    pub fn refused(&mut self, count: u32, rows: &[u32], why: &Refusal) {
        self.each(count, rows, |request, row| {
            let row = row - request.first_row;
            match request.refusals.last_mut() {
                Some(last) if last.goes_on_with(why, row) => last.count += 1,
                _ => request.refusals.push(Refusal { row, ..why.clone() }),
            }
        });
    }

    fn each(&mut self, count: u32, rows: &[u32], mut note: impl FnMut(&mut Request, u32)) {
        let mut at = self.requests.len();
        let mut visit = |row: u32| {
            // Rows rise nearly always, so that the next is near; else it is searched.
            let is_here = |at: usize| self.requests.get(at).is_some_and(|it| it.holds(row));
            at = match at {
                at if is_here(at) => at,
                at if is_here(at + 1) => at + 1,
                _ => self.requests.partition_point(|it| it.first_row + it.rows <= row),
            };
            if let Some(request) = self.requests.get_mut(at).filter(|it| it.holds(row)) {
                note(request, row);
            }
        };
        if rows.is_empty() {
            (0..count).for_each(&mut visit);
        } else {
            rows.iter().copied().for_each(&mut visit);
        }
    }

    /// Writes one answer per request.
    pub fn encode(mut self, out: &mut Vec<u8>) {
        for request in &mut self.requests {
            request.refusals.sort_by_key(|refusal| refusal.row);
            wire::published(out, request);
        }
    }
}
