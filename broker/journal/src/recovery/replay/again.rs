//! Offsets that were given again. The end of a log was lost, somebody gave it up, the log
//! went on there, and then the files that held its former end were put back.
//!
//! Invariant: of two records with one offset the later one counts. Its publisher was told
//! last, and the former one was given up by name.

use super::Replay;
use crate::log::Log;
use crate::ranges::Ranges;

impl Replay {
    /// A record at `base` is next in the log: what was met from there on is none of its any
    /// more. What segments hold was filed once that was known.
    pub(super) fn give_again(&mut self, number: u64, base: u64) {
        let met = self.met.get(&number).copied().unwrap_or(0);
        let Some(log) = self.logs.get_mut(&number) else { return };
        if base < met && base >= log.filed_end() {
            cut_off(log, base);
        }
    }
}

/// Takes away all records from `from` on, and what is known of them: that they were settled
/// is said of others than those that come now.
fn cut_off(log: &mut Log, from: u64) {
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
        cut_off(&mut log, 3);
        let [chunk] = log.chunks.make_contiguous() else { panic!("{:?}", log.chunks) };
        assert_eq!((chunk.base, chunk.count, chunk.live, chunk.bytes), (0, 3, 2, 200));
        assert_eq!((log.start, log.end, log.stable, log.bytes), (0, 3, 3, 200));
        assert_eq!(log.released.iter().collect::<Vec<_>>(), [(1, 2)]);
    }
}
