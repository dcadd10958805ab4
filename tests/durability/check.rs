//! What must hold of what was acknowledged and what was found. Sets and one pass:
//! the checkers know nothing of how the broker works.

use std::collections::{HashMap, HashSet};

use crate::load::{Fate, Line};
use crate::message::Id;

/// How many faults are told one by one.
const TOLD_MAX: usize = 10;

/// Faults, gathered so that all of them are told.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) count: usize,
    told: Vec<String>,
}

impl Faults {
    /// Notes one.
    pub(crate) fn add(&mut self, fault: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(fault());
        }
    }

    /// Adds those that somebody else found.
    pub(crate) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }

    /// Ends the test when there are any.
    #[track_caller]
    pub(crate) fn none(&self, where_found: &str) {
        let told = self.told.join("\n  ");
        assert!(self.count == 0, "{where_found}: {} violations\n  {told}", self.count);
    }
}

/// What a stream's partition was seen to hold, by offset. It only grows: what was
/// seen once must be seen again.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// By offset, from 0.
    pub(crate) records: Vec<Id>,
}

impl History {
    /// Notes what was read at an offset: the same as before, or the next one.
    pub(crate) fn observe(&mut self, offset: u64, id: Id, faults: &mut Faults) {
        match self.records.get(offset as usize) {
            Some(known) if *known == id => {}
            Some(known) => faults.add(|| format!("offset {offset} was {known:?} and is {id:?}")),
            None if offset == self.records.len() as u64 => self.records.push(id),
            None => {
                let end = self.records.len();
                faults.add(|| format!("offset {offset} comes behind {end}: records are skipped"));
                self.records.resize(offset as usize, id);
                self.records.push(id);
            }
        }
    }
}

/// What a stream must hold: everything acknowledged, nothing that was not sent,
/// nothing twice, and each producer's messages of one partition in its order.
pub(crate) fn stream(lines: &[&Line], partitions: &[History], faults: &mut Faults) {
    let fates: HashMap<u32, &Line> =
        lines.iter().map(|line| (line.producing.producer, *line)).collect();
    let mut found = HashSet::new();
    for (partition, history) in partitions.iter().enumerate() {
        let mut last: HashMap<u32, u64> = HashMap::new();
        for (offset, id) in history.records.iter().enumerate() {
            let at = || format!("{partition}/{offset}");
            match fates.get(&id.producer).and_then(|line| line.fates.get(id.number as usize)) {
                None => faults.add(|| format!("{} holds {id:?}, which nobody sent", at())),
                Some(Fate::Refused) => {
                    faults.add(|| format!("{} holds {id:?}, which was refused", at()));
                }
                Some(_) => {}
            }
            if !found.insert(*id) {
                faults.add(|| format!("{} holds {id:?} a second time", at()));
            } else if last.get(&id.producer).is_some_and(|last| *last >= id.number) {
                faults.add(|| format!("{} holds {id:?} behind a later one", at()));
            }
            last.insert(id.producer, id.number);
        }
    }
    for id in lines.iter().flat_map(|line| line.of(Fate::Acknowledged)) {
        if !found.contains(&id) {
            faults.add(|| format!("{id:?} was acknowledged and is lost"));
        }
    }
}

/// What a stream must hold whose level may lose a suffix: of each producer a prefix
/// of what it sent, and the rest as [`stream`] says.
pub(crate) fn stream_prefix(lines: &[&Line], partitions: &[History], faults: &mut Faults) -> u64 {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    let mut last: HashMap<u32, u64> = HashMap::new();
    for id in partitions.iter().flat_map(|history| &history.records) {
        *counts.entry(id.producer).or_default() += 1;
        let last = last.entry(id.producer).or_default();
        *last = id.number.max(*last);
    }
    // Without what is lost, the stream must be as good as any.
    let mut lost = 0;
    let kept: Vec<Line> = lines
        .iter()
        .map(|line| {
            let mut line = (*line).clone();
            let count = counts.get(&line.producing.producer).copied().unwrap_or(0);
            for fate in line.fates.iter_mut().skip(count as usize) {
                lost += u64::from(*fate == Fate::Acknowledged);
                *fate = Fate::Unknown;
            }
            line
        })
        .collect();
    for (producer, count) in counts {
        let last = last[&producer];
        if last + 1 != count {
            faults.add(|| format!("of {producer}, {count} are left, and number {last} is one"));
        }
    }
    stream(&kept.iter().collect::<Vec<_>>(), partitions, faults);
    lost
}

/// What became of a queue's messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// An ack for them was sent.
    pub(crate) acked: HashSet<Id>,
    /// An ack for them was confirmed.
    pub(crate) confirmed: HashSet<Id>,
    /// They were rejected: they belong to the dead-letter queue.
    pub(crate) rejected: HashSet<Id>,
    /// They were rejected at some time, whatever came behind that.
    pub(crate) rejected_once: HashSet<Id>,
    /// Messages handed out.
    pub(crate) delivered: u64,
}

/// What a queue must hold at the end: each acknowledged message was consumed, or
/// waits, or is dead; nothing waits that nobody sent, or whose ack was confirmed.
pub(crate) fn queue(
    lines: &[&Line],
    settled: &Settled,
    waiting: &[Id],
    dead: &[Id],
    faults: &mut Faults,
) {
    let fates: HashMap<u32, &Line> =
        lines.iter().map(|line| (line.producing.producer, *line)).collect();
    let mut left = HashSet::new();
    for id in waiting {
        if !left.insert(*id) {
            faults.add(|| format!("{id:?} waits a second time"));
        }
        if settled.confirmed.contains(id) {
            faults.add(|| format!("{id:?} waits, and its ack was confirmed"));
        }
    }
    // The dead-letter queue may hold one twice: it is filled before the source is
    // emptied.
    let dead: HashSet<Id> = dead.iter().copied().collect();
    for id in left.iter().chain(&dead) {
        match fates.get(&id.producer).and_then(|line| line.fates.get(id.number as usize)) {
            None => faults.add(|| format!("{id:?} is there, and nobody sent it")),
            Some(Fate::Refused) => faults.add(|| format!("{id:?} is there, and was refused")),
            Some(_) => {}
        }
    }
    for id in &dead {
        if !settled.rejected_once.contains(id) {
            faults.add(|| format!("{id:?} is dead, and nobody rejected it"));
        }
    }
    for id in lines.iter().flat_map(|line| line.of(Fate::Acknowledged)) {
        if !settled.acked.contains(&id) && !left.contains(&id) && !dead.contains(&id) {
            faults.add(|| format!("{id:?} was acknowledged, and nobody can account for it"));
        }
    }
    // Somebody held them, so the queue had them: gone is wrong, acknowledged or not.
    for id in &settled.rejected {
        if !left.contains(id) && !dead.contains(id) && !settled.acked.contains(id) {
            faults.add(|| format!("{id:?} was rejected, and is neither dead nor waiting"));
        }
    }
}

/// What was taken out of a queue that nobody has consumed from before: each producer's
/// messages in its order.
pub(crate) fn in_order(taken: &[Id], faults: &mut Faults) {
    let mut last: HashMap<u32, u64> = HashMap::new();
    for id in taken {
        if let Some(last) = last.insert(id.producer, id.number)
            && last > id.number
        {
            faults.add(|| format!("{id:?} comes behind {last}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_client::Level;

    use super::*;
    use crate::load::Producing;

    fn id(producer: u32, number: u64) -> Id {
        Id { producer, number }
    }

    fn line(producer: u32, fates: &[Fate]) -> Line {
        let producing = Producing::to(producer, "s", Level::Disk);
        Line { producing, fates: fates.to_vec(), fastest: None, complaints: Vec::new() }
    }

    fn faults_of(line: &Line, records: &[Id]) -> usize {
        let mut faults = Faults::default();
        let histories = [History { records: records.to_vec() }];
        stream(&[line], &histories, &mut faults);
        faults.count
    }

    #[test]
    fn a_stream_is_judged() {
        use Fate::{Acknowledged, Refused, Unknown};
        let line = line(1, &[Acknowledged, Acknowledged, Unknown, Refused]);
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1)]), 0);
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1), id(1, 2)]), 0);
        assert_eq!(faults_of(&line, &[id(1, 0)]), 1, "lost");
        assert_eq!(faults_of(&line, &[id(1, 1), id(1, 0)]), 1, "out of order");
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1), id(1, 1)]), 1, "twice");
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1), id(1, 3)]), 1, "refused");
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1), id(1, 4)]), 1, "never sent");
        assert_eq!(faults_of(&line, &[id(1, 0), id(1, 1), id(2, 0)]), 1, "of nobody");
    }

    #[test]
    fn a_suffix_may_be_lost_and_nothing_else() {
        use Fate::Acknowledged;
        let line = line(1, &[Acknowledged, Acknowledged, Acknowledged]);
        let judge = |records: &[Id]| {
            let mut faults = Faults::default();
            let histories = [History { records: records.to_vec() }];
            let lost = stream_prefix(&[&line], &histories, &mut faults);
            (faults.count > 0, lost)
        };
        assert_eq!(judge(&[id(1, 0), id(1, 1), id(1, 2)]), (false, 0));
        assert_eq!(judge(&[id(1, 0)]), (false, 2));
        assert_eq!(judge(&[]), (false, 3));
        assert!(judge(&[id(1, 0), id(1, 2)]).0, "a hole");
        assert!(judge(&[id(1, 1)]).0, "the first is missing");
    }

    #[test]
    fn what_a_queue_hands_out_is_in_order() {
        let judge = |taken: &[Id]| {
            let mut faults = Faults::default();
            in_order(taken, &mut faults);
            faults.count
        };
        assert_eq!(judge(&[id(1, 0), id(2, 0), id(1, 1), id(2, 5)]), 0);
        assert_eq!(judge(&[id(1, 1), id(2, 0), id(1, 0), id(1, 2)]), 1);
    }

    #[test]
    fn a_history_only_grows() {
        let mut faults = Faults::default();
        let mut history = History::default();
        history.observe(0, id(1, 0), &mut faults);
        history.observe(1, id(1, 1), &mut faults);
        history.observe(0, id(1, 0), &mut faults);
        assert_eq!(faults.count, 0);
        history.observe(1, id(1, 2), &mut faults);
        assert_eq!(faults.count, 1, "another record at a known offset");
        history.observe(5, id(1, 5), &mut faults);
        assert_eq!(faults.count, 2, "a gap");
    }

    #[test]
    fn a_queue_is_judged() {
        use Fate::{Acknowledged, Unknown};
        let line = line(1, &[Acknowledged, Acknowledged, Acknowledged, Unknown]);
        let judge =
            |acked: &[u64], confirmed: &[u64], rejected: &[u64], waiting: &[u64], dead: &[u64]| {
                let set = |numbers: &[u64]| numbers.iter().map(|number| id(1, *number)).collect();
                let settled = Settled {
                    acked: set(acked),
                    confirmed: set(confirmed),
                    rejected: set(rejected),
                    rejected_once: set(rejected),
                    delivered: 0,
                };
                let list =
                    |numbers: &[u64]| -> Vec<Id> { numbers.iter().map(|n| id(1, *n)).collect() };
                let mut faults = Faults::default();
                queue(&[&line], &settled, &list(waiting), &list(dead), &mut faults);
                faults.count
            };
        assert_eq!(judge(&[0], &[0], &[2], &[1], &[2]), 0);
        assert_eq!(judge(&[0], &[], &[2], &[0, 1, 3], &[2, 2]), 0);
        assert_eq!(judge(&[0], &[0], &[], &[1], &[]), 1, "2 is lost");
        assert_eq!(judge(&[0], &[0], &[], &[0, 1, 2], &[]), 1, "0 comes again");
        assert_eq!(judge(&[], &[], &[], &[0, 1, 2, 2], &[]), 1, "2 is doubled");
        assert_eq!(judge(&[], &[], &[], &[0, 1], &[2]), 1, "2 is dead for no reason");
        assert_eq!(judge(&[0, 1, 2], &[], &[3], &[], &[]), 1, "3 is gone");
        assert_eq!(judge(&[0, 1, 2], &[], &[], &[7], &[]), 1, "7 is of nobody");
    }
}
