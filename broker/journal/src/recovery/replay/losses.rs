//! What the report says is lost, in the end.

use std::collections::HashMap;

use super::Replay;
use crate::log::Log;
use crate::ranges::Ranges;
use crate::recovery::report::LostRange;
use crate::recovery::{Damage, RecoveryReport};

/// A stretch of a log in missing blocks.
pub(super) struct Hole {
    /// Which damage of the report they are.
    pub(super) damage: usize,
    pub(super) log: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Replay {
    /// What the holes have cost: to be called before anything counts as settled.
    pub(super) fn tell_holes(&self, report: &mut RecoveryReport) {
        // Where a later hole begins for a log.
        let mut later: HashMap<u64, u64> = HashMap::new();
        for hole in self.holes.iter().rev() {
            let to = later.insert(hole.log, hole.from).map_or(hole.to, |from| from.min(hole.to));
            let Some(log) = self.logs.get(&hole.log) else { continue };
            let Some(damage) = report.damage.get_mut(hole.damage) else { continue };
            for (from, to) in log.damage.within(hole.from, to.max(hole.from)) {
                damage.lost.push(LostRange { log: log.name.to_string(), from, to });
            }
        }
        for damage in &mut report.damage {
            damage.lost.sort_by(|one, two| (&one.log, one.from).cmp(&(&two.log, two.from)));
        }
    }

    /// Leaves of what was found what is a loss in the end.
    pub(super) fn tell(&self, report: &mut RecoveryReport) {
        let by_name: HashMap<&str, &Log> =
            self.logs.values().map(|log| (&*log.name, log)).collect();
        let mut told: HashMap<&str, Ranges> = HashMap::new();
        report.damage.retain_mut(|damage| {
            let lost = std::mem::take(&mut damage.lost);
            let mut is_of_records = false;
            for LostRange { log, from, to } in lost {
                let Some((&name, log)) = by_name.get_key_value(&*log) else {
                    // One that is not there any more; it may have been removed.
                    is_of_records |= self.removed.contains(&log);
                    continue;
                };
                is_of_records = true;
                for (from, to) in log.damage.within(from, to) {
                    told.entry(name).or_default().insert(from, to);
                    damage.lost.push(LostRange { log: name.to_owned(), from, to });
                }
            }
            let blocks = [damage.first_block, damage.next_block];
            let is_accepted = |&(first, last): &(u64, u64)| {
                blocks.iter().all(|block| (first..=last).contains(block))
            };
            // All that it has cost is accepted, settled or removed.
            let is_over = is_of_records || self.accepted.iter().any(is_accepted);
            !(damage.lost.is_empty() && is_over)
        });
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
            file: format!("checkpoint-{:016x}.wc", report.checkpoint),
            from: 0,
            to: 0,
            first_block: 0,
            next_block: 0,
            what: "found before, in files that are gone by now".to_owned(),
            lost,
        });
    }
}
