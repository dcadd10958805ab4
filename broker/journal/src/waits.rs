//! Appends that are not yet as safe as they are to be, of all logs of a store.
//!
//! Owned by the store, one line per level, so that a turn looks only at what has
//! become safe, however many logs wait. Invariants: positions rise along a line; a
//! log's stable end never passes an append that waits: one behind an append of a
//! safer level waits in that level's line, for those that are in it; nothing waits for
//! a sync that nobody asks for.

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

/// A wait in the line of a level.
#[derive(Clone, Copy, Debug)]
struct Queued {
    wait: Wait,
    /// As safe as the line's level must be: of the append itself, or of a safer one
    /// before it.
    position: u64,
    /// Level of the append itself.
    level: Level,
}

/// What a log knows of its own waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    count: u32,
    /// Level of the line that the last one is in.
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
    by_level: [VecDeque<Queued>; 3],
}

impl Waits {
    /// Lets an append wait until its position is as safe as `level`, and what lies before
    /// it in its log as safe as that is to be.
    pub(crate) fn add(&mut self, of_log: &mut Waiting, wait: Wait, level: Level) {
        let line_level = if of_log.count > 0 { level.max(of_log.level) } else { level };
        let line = &mut self.by_level[line_level as usize];
        // Behind a safer one of its log it waits for the line's last, which that is or is
        // before: its own position may never be as safe.
        let position = match line.back() {
            _ if level == line_level => wait.position,
            Some(last) => last.position,
            // None is left: what its own line holds is over first.
            None => 0,
        };
        let queued = Queued { wait, position, level };
        if let Some(last) = line.back_mut()
            && (last.wait.log, last.wait.position) == (wait.log, wait.position)
            && (last.position, last.level) == (position, level)
        {
            last.wait.end = wait.end;
            return;
        }
        of_log.count += 1;
        of_log.level = line_level;
        line.push_back(queued);
    }

    /// Those that are over, given how far the store is safe at each level.
    pub(crate) fn take_over(&mut self, safe: [u64; 3]) -> impl Iterator<Item = Wait> {
        let is_over = move |queued: &mut Queued, of_line: u64| {
            queued.position <= of_line && queued.wait.position <= safe[queued.level as usize]
        };
        self.by_level.iter_mut().zip(safe).flat_map(move |(line, of_line)| {
            std::iter::from_fn(move || {
                line.pop_front_if(|queued| is_over(queued, of_line)).map(|queued| queued.wait)
            })
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
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 1]), [1, 2, 3]);
        waits.add(&mut of_log, Wait { log: LOG, end: 4, position: 4 }, Level::Memory);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 1]), [4], "nothing is before it");
    }

    #[test]
    fn nothing_waits_for_a_sync_that_nobody_asks_for() {
        let (mut waits, mut of_log) = (Waits::default(), Waiting::default());
        waits.add(&mut of_log, Wait { log: LOG, end: 1, position: 1 }, Level::Disk);
        for end in 2..100 {
            // The one before is not told of yet: the line never is empty.
            waits.add(&mut of_log, Wait { log: LOG, end, position: end }, Level::Os);
            let safe = [u64::MAX, end - 1, 1];
            assert_eq!(ends(&mut waits, &mut of_log, safe), [end - 1]);
        }
    }

    #[test]
    fn what_is_synced_before_it_is_written_is_not_what_waits() {
        let (mut waits, mut of_log) = (Waits::default(), Waiting::default());
        let (mut other, other_log) = (Waiting::default(), LogId(4));
        waits.add(&mut of_log, Wait { log: LOG, end: 1, position: 1 }, Level::Disk);
        waits.add(&mut other, Wait { log: other_log, end: 7, position: 2 }, Level::Disk);
        waits.add(&mut of_log, Wait { log: LOG, end: 2, position: 3 }, Level::Os);
        let over: Vec<u64> = waits.take_over([u64::MAX, 2, 2]).map(|wait| wait.end).collect();
        assert_eq!(over, [1, 7], "the last one is not written yet");
        of_log.over();
        other.over();
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 3, 2]), [2]);
    }

    #[test]
    fn nothing_safer_left_is_nothing_to_wait_for() {
        let (mut waits, mut of_log) = (Waits::default(), Waiting::default());
        waits.add(&mut of_log, Wait { log: LOG, end: 1, position: 1 }, Level::Os);
        waits.add(&mut of_log, Wait { log: LOG, end: 2, position: 2 }, Level::Disk);
        // As seen by who looks at the two numbers while they rise.
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 0, 0]), [] as [u64; 0]);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 2, 2]), [1, 2]);
        waits.add(&mut of_log, Wait { log: LOG, end: 3, position: 3 }, Level::Os);
        waits.add(&mut of_log, Wait { log: LOG, end: 4, position: 4 }, Level::Disk);
        waits.by_level[Level::Disk as usize].clear();
        of_log.over();
        waits.add(&mut of_log, Wait { log: LOG, end: 5, position: 5 }, Level::Os);
        assert_eq!(ends(&mut waits, &mut of_log, [u64::MAX, 5, 2]), [3, 5]);
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
