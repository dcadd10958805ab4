//! Runs: consecutive messages with one route. Scratch of one session's publisher.

use std::sync::Arc;

use bytes::Bytes;

use crate::session::route::Route;

/// Rows of one frame in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The first.
    pub(super) row: u32,
    /// How many.
    pub(super) rows: u32,
    /// The publish frame they came in.
    pub(super) frame: usize,
}

/// Consecutive messages of one route, as slices of what was read.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Who gets them.
    pub(super) route: Option<Arc<Route>>,
    /// The messages; those of a segment lie end to end.
    pub(super) segments: Vec<Bytes>,
    /// Where each message ends in its segment.
    pub(super) ends: Vec<u32>,
    /// The rows of each segment.
    pub(super) spans: Vec<Span>,
    /// Messages in all.
    pub(super) rows: u32,
    /// Milliseconds before a queue's consumers see them.
    pub(super) delay_ms: u32,
}

impl Run {
    /// Appends a segment that holds the messages of rows `row..row + rows`.
    pub(super) fn push(
        &mut self,
        segment: Bytes,
        ends: impl IntoIterator<Item = u32>,
        (row, rows): (u32, u32),
        frame: usize,
    ) {
        self.segments.push(segment);
        self.ends.extend(ends);
        self.spans.push(Span { row, rows, frame });
        self.rows += rows;
    }

    /// Appends one message.
    pub(super) fn single(&mut self, message: Bytes, row: u32, frame: usize) {
        let end = message.len() as u32;
        self.push(message, [end], (row, 1), frame);
    }

    /// Forgets everything, keeps the room.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.ends.clear();
        self.spans.clear();
        self.rows = 0;
        self.delay_ms = 0;
    }
}
