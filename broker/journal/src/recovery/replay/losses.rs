//! What the report says is lost, in the end.

use std::collections::HashMap;
use std::ops::Range;

use super::Replay;
use crate::keeper::checkpoint;
use crate::log::Log;
use crate::ranges::Ranges;
use crate::recovery::report::LostRange;
use crate::recovery::{Damage, RecoveryReport};

impl Replay {
    /// What holes have cost: to be called before anything counts as settled.
    pub(super) fn tell_holes(&self, report: &mut RecoveryReport) {
        for (&(number, from), &(damage, to)) in &self.holes {
            let Some(log) = self.logs.get(&number) else { continue };
            for (from, to) in log.damage.within(from, to) {
                report.lose(damage, LostRange { log: log.name.to_string(), from, to });
            }
        }
    }

    /// Leaves of what was found what is a loss in the end, and adds what only the checkpoint
    /// knows of.
    pub(super) fn tell(&self, report: &mut RecoveryReport) {
        let told = match report.damage.is_empty() {
            true => HashMap::new(),
            false => self.tell_found(report),
        };
        self.tell_rest(&told, report);
    }

    /// Returns what is told, by the log's name.
    fn tell_found(&self, report: &mut RecoveryReport) -> HashMap<&str, Ranges> {
        let by_name: HashMap<&str, &Log> =
            self.logs.values().map(|log| (&*log.name, log)).collect();
        let mut told: HashMap<&str, Ranges> = HashMap::new();
        let mut stays = Vec::with_capacity(report.damage.len());
        // What may be lost in several places is told of the last: it tells most exactly.
        for (number, damage) in report.damage.iter_mut().enumerate().rev() {
            let mut is_settled = false;
            for LostRange { log, from, to } in std::mem::take(&mut damage.lost) {
                let Some((&name, log)) = by_name.get_key_value(&*log) else {
                    // One that is not there any more; it may have been removed.
                    is_settled |= self.removed.contains(&log);
                    continue;
                };
                let lost = log.damage.within(from, to);
                is_settled |= lost.iter().map(|(from, to)| to - from).sum::<u64>() < to - from;
                for (from, to) in lost {
                    for Range { start: from, end: to } in
                        told.entry(name).or_default().insert(from, to)
                    {
                        damage.lost.push(LostRange { log: name.to_owned(), from, to });
                    }
                }
            }
            damage.lost.sort_by(|one, two| (&one.log, one.from).cmp(&(&two.log, two.from)));
            let blocks = [damage.first_block, damage.next_block];
            let is_accepted = |&(first, last): &(u64, u64)| {
                blocks.iter().all(|block| (first..=last).contains(block))
            };
            // Of missing blocks records may be all that is known: they must be accepted.
            let is_settled = is_settled && !self.missing.contains(&number);
            let is_over = is_settled || self.accepted.iter().any(is_accepted);
            stays.push(!damage.lost.is_empty() || !is_over);
        }
        let mut stays = stays.into_iter().rev();
        report.damage.retain(|_| stays.next() == Some(true));
        told
    }

    fn tell_rest(&self, told: &HashMap<&str, Ranges>, report: &mut RecoveryReport) {
        let mut lost = Vec::new();
        for log in self.logs.values() {
            let left = match told.get(&*log.name) {
                Some(told) => log.damage.minus(told, 0),
                None => log.damage.clone(),
            };
            let name = || log.name.to_string();
            lost.extend(left.iter().map(|(from, to)| LostRange { log: name(), from, to }));
        }
        if lost.is_empty() {
            return;
        }
        lost.sort_by(|one, two| (&one.log, one.from).cmp(&(&two.log, two.from)));
        report.damage.push(Damage {
            file: checkpoint::path(report.checkpoint),
            from: 0,
            to: 0,
            first_block: 0,
            next_block: 0,
            what: "found before, in files that are gone by now".to_owned(),
            lost,
        });
    }
}
