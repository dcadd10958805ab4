//! Appends that are not yet as safe as they are to be, of all logs of a store.
//!
//! Owned by the store, one line per level, so that a turn looks only at what has
//! become safe, however many logs wait. Invariants: positions rise along a line; a
//! log's stable end never passes an append that waits: one behind an append of a
//! safer level waits for that level too.

use std::collections::VecDeque;

use weir_core::command::Level;
use weir_core::store::LogId;

/// Appends of one log that became stable with one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) log: LogId,
    /// One past the last record.
    pub(crate) end: u64,
    /// What must be as safe.
    pub(crate) position: u64,
}

/// What a log knows of its own waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    count: u32,
    /// Level of the last one.
    level: Level,
}

impl Waiting {
    /// One of them is over.
    pub(crate) fn over(&mut self) {
        self.count -= 1;
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    by_level: [VecDeque<Wait>; 3],
}

impl Waits {
    /// Lets an append wait until its position is as safe as `level`.
    pub(crate) fn add(&mut self, of_log: &mut Waiting, wait: Wait, level: Level) {
        let level = if of_log.count > 0 { level.max(of_log.level) } else { level };
        let line = &mut self.by_level[level as usize];
        if let Some(last) = line.back_mut()
            && (last.log, last.position) == (wait.log, wait.position)
        {
            last.end = wait.end;
            return;
        }
        of_log.count += 1;
        of_log.level = level;
        line.push_back(wait);
    }

    /// Those that are over, given how far the store is safe at each level.
    pub(crate) fn take_over(&mut self, safe: [u64; 3]) -> impl Iterator<Item = Wait> {
        self.by_level.iter_mut().zip(safe).flat_map(|(line, safe)| {
            std::iter::from_fn(move || line.pop_front_if(|wait| wait.position <= safe))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId(3);

    fn ends(waits: &mut Waits, of_log: &mut Waiting, safe: [u64; 3]) -> Vec<u64> {
        let over: Vec<u64> = waits.take_over(safe).map(|wait| wait.end).collect();
        over.iter().for_each(|_| of_log.over());
        over
    }

    #[test]
    fn what_lies_behind_a_safer_append_waits_for_it() {
        let (mut waits, mut of_log) = (Waits::default(), Waiting::default());
        waits.add(&mut of_log, Wait { log: LOG, end: 1, position: 1 }, Level::Disk);
        waits.add(&mut of_log, Wait { log: LOG, end: 2, position: 2 }, Level::Os);
        waits.add(&mut of_log, Wait { log: LOG, end: 3, position: 3 }, Level::Memory);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 0]), [] as [u64; 0]);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 2]), [1, 2]);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 3]), [3]);
        waits.add(&mut of_log, Wait { log: LOG, end: 4, position: 4 }, Level::Memory);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 3]), [4], "nothing is before it");
    }

    #[test]
    fn what_lies_before_a_safer_append_does_not_wait_for_it() {
        let (mut waits, mut of_log) = (Waits::default(), Waiting::default());
        waits.add(&mut of_log, Wait { log: LOG, end: 1, position: 1 }, Level::Os);
        waits.add(&mut of_log, Wait { log: LOG, end: 2, position: 1 }, Level::Disk);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 1, 0]), [1]);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 1, 1]), [2]);
    }
}
