//! What the broker says is lost of the messages kept for a consumer, until its owner asks.

use crate::limits::LOST_STRETCHES_MAX;

/// Messages of a queue or group that are damaged where the broker keeps them: it went on
/// behind them, and cannot deliver them.
///
/// Tell whoever runs the broker. With the broker stopped, `weir store check` names the
/// damage. Files that are put back as they were bring the messages back, or
/// `weir store accept-loss` gives them up; until then every start of the broker comes upon
/// them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Partition of the stream, 0 for a queue.
    pub partition: u16,
    /// Offset of the first.
    pub from: u64,
    /// One past the last: where the broker went on.
    pub to: u64,
    /// How many of those in between nobody had settled.
    pub messages: u64,
}

/// Stretches that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct LostStretches(Vec<Lost>);

impl LostStretches {
    /// Keeps it apart, or joins it to the last of its partition where there are too many.
    pub(crate) fn note(&mut self, new: Lost) {
        let is_full = self.0.len() >= LOST_STRETCHES_MAX;
        match self.0.iter_mut().rfind(|last| is_full && last.partition == new.partition) {
            Some(last) => {
                (last.from, last.to) = (last.from.min(new.from), last.to.max(new.to));
                last.messages = last.messages.saturating_add(new.messages);
            }
            None => self.0.push(new),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(partition: u16, from: u64) -> Lost {
        Lost { partition, from, to: from + 1, messages: 1 }
    }

    #[test]
    fn what_is_too_much_to_keep_apart_joins_the_last_of_its_partition() {
        let mut stretches = LostStretches::default();
        let most = LOST_STRETCHES_MAX as u64;
        (0..most).for_each(|number| stretches.note(lost(3, 2 * number)));
        stretches.note(lost(4, 7));
        stretches.note(lost(3, 2 * most));
        stretches.note(lost(4, 5));
        let taken = stretches.take();
        assert_eq!(taken.len() as u64, most + 1);
        let (from, to) = (2 * most - 2, 2 * most + 1);
        assert_eq!(
            taken[taken.len() - 2..],
            [
                Lost { partition: 3, from, to, messages: 2 },
                Lost { partition: 4, from: 5, to: 8, messages: 2 },
            ]
        );
        assert!(stretches.take().is_empty());
    }
}
