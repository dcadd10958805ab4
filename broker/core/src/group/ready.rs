//! Messages that the broker picks for a consumer, in the order they go.
//!
//! Owned by `Group`. What was taken before goes first, oldest first; behind it what
//! is new, in stretches of neighbours, so that a long line costs little. An entry of
//! what is new counts only while its message is ready.

use std::collections::{BTreeSet, VecDeque};

use super::slot::MessageId;

/// Neighbouring messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: MessageId,
    pub(super) count: u64,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    again: BTreeSet<MessageId>,
    fresh: VecDeque<Stretch>,
}

impl ReadyList {
    pub(super) fn clear(&mut self) {
        self.again.clear();
        self.fresh.clear();
    }

    /// Whether nothing is in line, not even what has ceased to be ready.
    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_empty()
    }

    /// A message that was taken before.
    pub(super) fn push_again(&mut self, message: MessageId) {
        self.again.insert(message);
    }

    /// Messages that were taken before.
    pub(super) fn append_again(&mut self, messages: &mut BTreeSet<MessageId>) {
        self.again.append(messages);
    }

    /// Keeps of those that were taken before what `is_kept` says yes to.
    pub(super) fn retain_again(&mut self, is_kept: impl FnMut(&MessageId) -> bool) {
        self.again.retain(is_kept);
    }

    /// The message is ready no more. Among the new ones its entry just stops to count.
    pub(super) fn remove_again(&mut self, message: MessageId) {
        self.again.remove(&message);
    }

    /// `count` new messages from `first` on.
    pub(super) fn push_fresh(&mut self, first: MessageId, count: u64) {
        match self.fresh.back_mut() {
            Some(last) if last.first + last.count == first => last.count += count,
            _ => self.fresh.push_back(Stretch { first, count }),
        }
    }

    /// Takes the first stretch out whose first message `is_ready`.
    pub(super) fn pop(&mut self, is_ready: impl Fn(MessageId) -> bool) -> Option<Stretch> {
        while let Some(first) = self.again.pop_first() {
            if is_ready(first) {
                return Some(Stretch { first, count: 1 });
            }
        }
        while let Some(Stretch { first, count }) = self.fresh.pop_front() {
            if let Some(gone) = (0..count).find(|&k| is_ready(first + k)) {
                return Some(Stretch { first: first + gone, count: count - gone });
            }
        }
        None
    }

    /// What was not used of a stretch that was taken out, without its first `used`.
    pub(super) fn put_back(&mut self, stretch: Stretch, used: u64) {
        if used < stretch.count {
            let (first, count) = (stretch.first + used, stretch.count - used);
            self.fresh.push_front(Stretch { first, count });
        }
    }
}

#[cfg(test)]
impl ReadyList {
    pub(super) fn contains(&self, message: MessageId) -> bool {
        let holds = |one: &Stretch| (one.first..one.first + one.count).contains(&message);
        self.again.contains(&message) || self.fresh.iter().any(holds)
    }
}
