//! The scrub: reads what is sealed again and again, slowly, so that damage is found
//! while there may be another copy.

use crate::files::{File, Files};
use crate::format::{Found, SegmentState, load, read_block};
use crate::segment::{self, BlockIndex, Indexed, SegmentDamage};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::KeeperEvent;
use super::gone::What;
use super::policy::KeeperPolicy;

/// What may be saved up, in ms of reading at full rate.
const SAVED_MS_MAX: u64 = 1_000;

/// See the file's head.
#[derive(Default)]
pub(super) struct Scrub {
    /// Sealed segments by log and base.
    sealed: BTreeMap<(u64, u64), SegmentState>,
    /// The segment that is read.
    now: Option<Reading>,
    /// The last one that was read in this pass.
    after: Option<(u64, u64)>,
    /// When this pass began; `None` between passes.
    began_ms: Option<u64>,
    /// When the next pass may begin.
    next_ms: u64,
    /// Bytes that may be read now; below 0 after a long block.
    allowance: i64,
    counted_ms: Option<u64>,
    segments: u64,
    bytes: u64,
}

/// One segment that is being read.
struct Reading {
    state: SegmentState,
    file: Arc<dyn File>,
    blocks: Vec<BlockIndex>,
    /// Next block.
    at: usize,
    /// Of the bytes so far, while all of them were read.
    crc: u32,
    footer_crc: Option<u32>,
    is_damaged: bool,
}

impl Scrub {
    /// These are the segments there are.
    pub(super) fn set(&mut self, segments: &[SegmentState]) {
        let sealed = segments.iter().filter(|state| state.is_sealed);
        self.sealed = sealed.map(|state| ((state.log, state.base), *state)).collect();
    }

    /// Forgets what is about to be deleted.
    pub(super) fn forget(&mut self, log: u64, what: What) {
        let is_it =
            |state: &SegmentState| state.log == log && what.covers(state.base, state.revision);
        self.sealed.retain(|_, state| !is_it(state));
        self.now.take_if(|now| is_it(&now.state));
    }

    /// Reads what may be read by now. Returns in how many ms to come again.
    pub(super) fn step(
        &mut self,
        files: &dyn Files,
        store_id: u128,
        policy: &KeeperPolicy,
        now_ms: u64,
        report: &dyn Fn(KeeperEvent),
    ) -> u64 {
        let rate = policy.scrub_bytes_per_second;
        if policy.scrub_period_ms == 0 || rate == 0 || now_ms < self.next_ms {
            return SAVED_MS_MAX;
        }
        let passed_ms = now_ms - self.counted_ms.replace(now_ms).unwrap_or(now_ms).min(now_ms);
        let saved = rate * passed_ms.min(SAVED_MS_MAX) / 1_000;
        let most = (rate * SAVED_MS_MAX / 1_000) as i64;
        self.allowance = self.allowance.saturating_add(saved as i64).min(most);
        while self.allowance > 0 {
            if self.now.is_none() && !self.begin(files, store_id, report) {
                self.end_pass(policy, now_ms, report);
                return SAVED_MS_MAX;
            }
            self.began_ms.get_or_insert(now_ms);
            self.read_block(store_id, report);
        }
        ((-self.allowance) as u64 * 1_000 / rate).clamp(50, SAVED_MS_MAX)
    }

    /// Opens the next segment of this pass. `false`: there is none.
    fn begin(&mut self, files: &dyn Files, store_id: u128, report: &dyn Fn(KeeperEvent)) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        loop {
            let from = self.after.map_or(Unbounded, Excluded);
            let Some((&key, &state)) = self.sealed.range((from, Unbounded)).next() else {
                return false;
            };
            self.after = Some(key);
            match open(files, store_id, state) {
                Ok((reading, damage)) => {
                    damage.into_iter().for_each(|damage| report(KeeperEvent::Damage(damage)));
                    self.now = reading;
                }
                Err(damage) => report(KeeperEvent::Damage(damage)),
            }
            if let Some(now) = &self.now {
                // Head and footer.
                let blocks: u64 = now.blocks.iter().map(|block| u64::from(block.len)).sum();
                self.count(state.len.saturating_sub(blocks));
                return true;
            }
        }
    }

    fn count(&mut self, bytes: u64) {
        self.allowance -= bytes as i64;
        self.bytes += bytes;
    }

    fn read_block(&mut self, store_id: u128, report: &dyn Fn(KeeperEvent)) {
        let Some(now) = self.now.as_mut() else { return };
        if let Some(block) = now.blocks.get(now.at) {
            let len = u64::from(block.len);
            if let Err(damage) = now.check(store_id) {
                now.is_damaged = true;
                report(KeeperEvent::Damage(damage));
            }
            now.at += 1;
            self.count(len);
            return;
        }
        let (state, crc) = (now.state, now.crc);
        if !now.is_damaged && now.footer_crc.is_some_and(|expected| expected != crc) {
            let what = "the sum over the whole file differs";
            report(KeeperEvent::Damage(damage_of(
                &state,
                state.end..state.end,
                0..state.len,
                what,
            )));
        }
        self.segments += 1;
        self.now = None;
    }

    fn end_pass(&mut self, policy: &KeeperPolicy, now_ms: u64, report: &dyn Fn(KeeperEvent)) {
        let began_ms = self.began_ms.take().unwrap_or(now_ms);
        if self.segments > 0 {
            report(KeeperEvent::Scrubbed { segments: self.segments, bytes: self.bytes });
        } else if self.sealed.is_empty() {
            // Nothing yet: the pass has not begun.
            return;
        }
        (self.segments, self.bytes, self.after) = (0, 0, None);
        self.next_ms = began_ms.saturating_add(policy.scrub_period_ms).max(now_ms + 1);
        self.counted_ms = None;
    }
}

impl Reading {
    /// Reads and checks the next block.
    fn check(&mut self, store_id: u128) -> Result<(), SegmentDamage> {
        let (block, state) = (&self.blocks[self.at], &self.state);
        let at = u64::from(block.at);
        let place = at..at + u64::from(block.len);
        let offsets = block.base..block.end;
        let bytes = load(&*self.file, at, block.len as usize)
            .map_err(|error| damage_of(state, offsets.clone(), place.clone(), error.to_string()))?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        match read_block(&bytes, 0, segment::identity(store_id, state.base, state.revision)) {
            Found::Block(found) if found.len == block.len as usize => {
                for entry in &found.entries {
                    entry.sound_body(&bytes).map_err(|unsound| {
                        let offsets = entry.a..entry.a + entry.b;
                        damage_of(state, offsets, place.clone(), unsound.to_string())
                    })?;
                }
                Ok(())
            }
            _ => Err(damage_of(state, offsets, place, "the block is not as written")),
        }
    }
}

type Opened = (Option<Reading>, Vec<SegmentDamage>);

/// Opens a segment to read it; what is found damaged at once is told beside it.
fn open(files: &dyn Files, store_id: u128, state: SegmentState) -> Result<Opened, SegmentDamage> {
    let failed = |error: std::io::Error| {
        damage_of(&state, state.base..state.end, 0..state.len, error.to_string())
    };
    let Indexed { segment, damage } =
        segment::open_index(files, store_id, &state, true).map_err(failed)?;
    if segment.blocks.is_empty() {
        return Ok((None, damage));
    }
    let file = files.open(&segment::path(state.log, state.base, state.revision)).map_err(failed)?;
    let footer = segment::footer_of(&*file, store_id, &state);
    let head = load(&*file, 0, segment.blocks[0].at as usize).map_err(failed)?;
    let reading = Reading {
        state,
        file,
        blocks: segment.blocks,
        at: 0,
        crc: crc32c::crc32c(&head),
        footer_crc: footer.map(|footer| footer.crc),
        is_damaged: !damage.is_empty(),
    };
    Ok((Some(reading), damage))
}

fn damage_of(
    state: &SegmentState,
    offsets: std::ops::Range<u64>,
    bytes: std::ops::Range<u64>,
    what: impl Into<String>,
) -> SegmentDamage {
    SegmentDamage {
        log: state.log,
        from: offsets.start,
        to: offsets.end,
        path: segment::path(state.log, state.base, state.revision),
        bytes,
        what: what.into(),
        costs_nothing: false,
    }
}
