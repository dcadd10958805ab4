//! Records that were lost with the end of a log and are back, for the files that held them
//! were put back: given up, mostly, and the log has gone on.
//!
//! Invariant: none of them is in the way of what came after that, or has what is said of that
//! said of itself.

use super::{Replay, Suspect};
use crate::log::Log;
use crate::ranges::Ranges;
use crate::recovery::report::LostRange;
use crate::recovery::{Damage, RecoveryReport};

impl Replay {
    /// Somebody has given up what was lost with a log's end, which was `end` then. What was
    /// met behind that was not there: it is set aside, and told.
    pub(super) fn set_aside_behind(&mut self, number: u64, end: u64, report: &mut RecoveryReport) {
        self.given_twice.remove(&number);
        let met = self.met.get(&number).copied().unwrap_or(0);
        let Some(log) = self.logs.get_mut(&number).filter(|log| end >= log.filed_end()) else {
            return;
        };
        if met >= end {
            // What more of it is missing still was given up as well.
            self.suspects.remove(&number);
        }
        if met > end {
            let gone = cut_off(log, end);
            let name = log.name.to_string();
            report.set_aside.extend(gone.iter().map(|(from, to)| LostRange {
                log: name.clone(),
                from,
                to,
            }));
            self.met.insert(number, end);
        }
    }

    /// A record at `base` is next in the log, whatever was met there. Where nobody is known
    /// to have given that up, the block that said so is lost, and with it perhaps others.
    pub(super) fn replace_returned(&mut self, number: u64, base: u64) {
        let met = self.met.get(&number).copied().unwrap_or(0);
        let Some(log) = self.logs.get_mut(&number) else { return };
        if base < met && base >= log.filed_end() {
            drop(cut_off(log, base));
            self.given_twice.insert(number, (base, met));
        }
    }

    /// Closes the logs of which that is so: at their ends, for the records are there.
    pub(super) fn close_given_twice(&mut self, report: &mut RecoveryReport) {
        for (number, (from, to)) in std::mem::take(&mut self.given_twice) {
            let name = self.name_of(number);
            let expected = self.met.get(&number).copied().unwrap_or(0);
            let damage = report.damage.len();
            self.suspects.insert(number, Suspect { expected, damage });
            report.damage.push(Damage {
                file: format!("the journal's files of {name}"),
                from: 0,
                to: 0,
                first_block: 0,
                next_block: 0,
                what: format!(
                    "offsets {from}..{to} were given twice, and nothing is there any more that says \
                     why; the former records are not read"
                ),
                lost: Vec::new(),
            });
        }
    }
}

/// Takes away all records from `from` on, and what is known of them: that they were settled
/// is said of others than those that come now. Returns those that were not settled.
fn cut_off(log: &mut Log, from: u64) -> Ranges {
    let chunks = log.chunks.iter().filter(|chunk| chunk.end() > from && chunk.live > 0);
    let there: Ranges = chunks.map(|chunk| (chunk.base.max(from), chunk.end())).collect();
    let gone = there.minus(&log.released, log.start);
    let behind = Ranges::from_iter([(from, u64::MAX)]);
    log.released = log.released.minus(&behind, 0);
    log.damage = log.damage.minus(&behind, 0);
    log.start = log.start.min(from);
    while let Some(chunk) = log.chunks.back_mut().filter(|chunk| chunk.end() > from) {
        let kept = from.saturating_sub(chunk.base);
        let end = chunk.base + kept;
        let start = log.start.clamp(chunk.base, end);
        let released = log.released.within(start, end).into_iter().map(|(from, to)| to - from);
        let live = (end - start).saturating_sub(released.sum());
        let bytes = chunk.bytes * live / u64::from(chunk.live.max(1));
        log.bytes -= (chunk.bytes - bytes).min(log.bytes);
        (chunk.count, chunk.live, chunk.bytes) = (kept as u32, live as u32, bytes);
        if live > 0 {
            break;
        }
        log.chunks.pop_back();
    }
    (log.end, log.stable) = (from, from);
    gone
}

#[cfg(test)]
mod tests {
    use weir_core::command::Level;
    use weir_core::store::Stamp;

    use super::cut_off;
    use crate::log::{Body, Log, Place};

    #[test]
    fn what_lies_before_stays() {
        let mut log = Log::new(1, "queue/flights".into());
        for sequence in 0..2 {
            let body = Body::Journal(Place { sequence, at: 4096 });
            log.append(Stamp::default(), Level::Disk, 4, 400, body);
        }
        drop(log.release(1, 2));
        drop(log.release(3, 5));
        let gone = cut_off(&mut log, 3);
        assert_eq!(gone.iter().collect::<Vec<_>>(), [(5, 8)]);
        let [chunk] = log.chunks.make_contiguous() else { panic!("{:?}", log.chunks) };
        assert_eq!((chunk.base, chunk.count, chunk.live, chunk.bytes), (0, 3, 2, 200));
        assert_eq!((log.start, log.end, log.stable, log.bytes), (0, 3, 3, 200));
        assert_eq!(log.released.iter().collect::<Vec<_>>(), [(1, 2)]);
    }
}
