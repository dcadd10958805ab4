//! Watching free space: publishes are refused before the disk is full.

use super::policy::KeeperPolicy;
use crate::files::Space;

/// How often it is looked at, ms.
const INTERVAL_MS: u64 = 1_000;
/// The same while publishes are refused, ms.
const PRESSED_INTERVAL_MS: u64 = 200;

/// Why publishes are refused, if they are.
#[derive(Debug, Default)]
pub(super) struct SpaceWatch {
    next_ms: u64,
    /// Little is left.
    is_low: bool,
    /// A write found none.
    is_full: bool,
    /// What was left was used up, so that a publish was refused.
    is_short: bool,
    /// There is no room for a file that the writer could go on in.
    is_lacking: bool,
    /// What was told last.
    is_told: bool,
}

impl SpaceWatch {
    /// Whether it is time to look.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = now_ms >= self.next_ms;
        if is_due {
            self.next_ms = now_ms + if self.presses() { PRESSED_INTERVAL_MS } else { INTERVAL_MS };
        }
        is_due
    }

    /// Takes note of what is left. Once little is left, it takes a tenth more than
    /// the mark to end it, so that it does not flutter.
    /// Returns how many bytes may still be taken.
    pub(super) fn look(&mut self, space: Space, policy: &KeeperPolicy) -> u64 {
        let mark = space.mark_bytes(policy.free_bytes_min, policy.free_percent_min);
        let mark = if self.is_low { mark.saturating_add(mark / 10) } else { mark };
        self.is_low = space.free_bytes < mark;
        let room = space.free_bytes.saturating_sub(mark);
        // Where a little is left it is soon used up again.
        self.is_short = room == 0 || self.is_short && room <= mark / 10;
        room
    }

    /// Whether every byte that can be given back is wanted now.
    pub(super) fn presses(&self) -> bool {
        self.is_low || self.is_full || self.is_short || self.is_lacking
    }

    /// Whether the last write found no space.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Takes note of a publish that was refused.
    pub(super) fn set_short(&mut self) {
        self.is_short = true;
    }

    /// Takes note of whether the writer lacks a file to go on in.
    pub(super) fn set_lacking(&mut self, is_lacking: bool) {
        self.is_lacking = is_lacking;
    }

    /// Something was given back: looks again at once.
    pub(super) fn look_soon(&mut self) {
        self.next_ms = 0;
    }

    /// Takes note of whether the last write found space.
    pub(super) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// What to tell the others, if it has changed.
    pub(super) fn news(&mut self) -> Option<bool> {
        let now = self.is_low || self.is_full;
        (std::mem::replace(&mut self.is_told, now) != now).then_some(now)
    }
}
