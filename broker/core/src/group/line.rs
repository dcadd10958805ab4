//! The line to one connection, as all its consumers in a shard share it.
//!
//! Owned by `Shard`, one per connection that has had a consumer there; each of
//! its consumers holds on to it. Invariants: what one turn hands over to one
//! connection stays below the shard's bound, but for the message that reaches it;
//! nothing is handed over while the edge says that the connection's line is long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::command::ConnectionId;

/// See the file's head. Shared within one shard only, so every order will do.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) connection: ConnectionId,
    /// Most bytes of one turn.
    turn_bytes_max: u64,
    /// Bytes picked in this turn.
    turn_bytes: AtomicU64,
    paused: AtomicBool,
}

impl Line {
    pub(crate) fn new(connection: ConnectionId, turn_bytes_max: u64) -> Self {
        let (turn_bytes, paused) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { connection, turn_bytes_max, turn_bytes, paused }
    }

    /// Whether more may be handed over now.
    pub(crate) fn is_open(&self) -> bool {
        self.bytes_left() > 0
    }

    /// Bytes that may be handed over now; one message passes whatever its size.
    pub(crate) fn bytes_left(&self) -> u64 {
        if self.paused.load(Relaxed) {
            return 0;
        }
        self.turn_bytes_max.saturating_sub(self.turn_bytes.load(Relaxed))
    }

    /// Counts what is about to be handed over. True when it is the turn's first.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        // At least one, so that the turn's first is told from the second.
        let before = self.turn_bytes.load(Relaxed);
        self.turn_bytes.store(before.saturating_add(bytes.max(1)), Relaxed);
        before == 0
    }

    /// The turn is over. True when the line opens again by that.
    pub(crate) fn end_turn(&self) -> bool {
        let was_open = self.is_open();
        self.turn_bytes.store(0, Relaxed);
        !was_open && self.is_open()
    }

    /// Hands over nothing until it is resumed.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Relaxed);
    }

    /// Goes on. True when the line opens by that.
    pub(crate) fn resume(&self) -> bool {
        self.paused.swap(false, Relaxed) && self.is_open()
    }
}
