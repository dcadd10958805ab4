//! Routers: where a message goes.

use crate::bindings::exports::weir::policy::routing::Routes;
use crate::bindings::weir::policy::types::{Batch, Blobs, Cells, Column};
use crate::hash::{same_bytes, short_word, word_at};
use crate::message::{Columns, Message};
use crate::policy::Policy;

/// Decides where messages go, one at a time.
pub trait Router: Policy {
    /// Names the subjects that `message` goes to, by [`Targets::send`]. Naming
    /// none sends it nowhere: the publisher is told that it reached nobody.
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>);
}

/// The number that stands for "nowhere".
pub(crate) const NOWHERE: u32 = u32::MAX;
/// The number that stands for the subject a message has.
pub(crate) const OWN: u32 = u32::MAX - 1;
/// Column id of the delays among the extras of an answer.
const DELAY_COLUMN: u16 = 64;
/// Targets that the broker takes for one message.
const PICKS_PER_ROW_MAX: usize = 256;
/// Where a message goes that has more of them. It is no subject, so that the broker fails this
/// message alone and says why; too many picks would fail its whole batch and end the instance.
const TOO_MANY: &str = "more than 256 targets for one message";

/// Collects the targets of one message.
#[derive(Debug)]
pub struct Targets<'a> {
    sheet: &'a mut Sheet,
    message: Message<'a>,
}

impl Targets<'_> {
    /// Sends the message to `subject`; call it again to send copies. One with more
    /// than 256 of them fails, alone. What [`Message::subject`] gave is the cheapest
    /// to send to: neither side has to look it up.
    #[inline]
    pub fn send(&mut self, subject: &str) {
        if self.message.is_own_subject(subject) {
            return self.sheet.pick_number(OWN, 0);
        }
        self.sheet.pick(subject.as_bytes(), 0);
    }

    /// Sends the message to `subject` after `delay_ms`.
    pub fn send_after(&mut self, subject: &str, delay_ms: u32) {
        self.sheet.pick(subject.as_bytes(), delay_ms);
    }

    /// Gives up on the whole batch: nothing of it is routed and the binding's
    /// failure rule decides. For messages that cannot be judged, not for those
    /// that go nowhere.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.sheet.failure.get_or_insert(reason.into());
    }
}

/// The answer for one batch, as it grows. Different targets are few, so each is
/// found again by a look at the previous one, then in a small table.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    picks: Vec<u32>,
    row_ends: Vec<u32>,
    delays: Vec<u32>,
    /// Open addressing, a power of two long; entries are target number + 1.
    table: Vec<u32>,
    row_start: usize,
    /// Targets that the rows before have.
    row_targets: usize,
    failure: Option<String>,
}

impl Sheet {
    fn with_rows(rows: usize) -> Self {
        Self { picks: Vec::with_capacity(rows), table: vec![0; 64], ..Self::default() }
    }

    #[inline]
    fn pick(&mut self, target: &[u8], delay_ms: u32) {
        let last = self.picks.last().copied().unwrap_or(NOWHERE);
        let number = if last < OWN && same_bytes(self.target(last), target) {
            last
        } else {
            self.number(target)
        };
        self.pick_number(number, delay_ms);
    }

    #[inline]
    fn pick_number(&mut self, number: u32, delay_ms: u32) {
        if delay_ms != 0 || !self.delays.is_empty() {
            self.delay(delay_ms);
        }
        self.picks.push(number);
    }

    #[inline(never)]
    fn delay(&mut self, delay_ms: u32) {
        self.delays.resize(self.picks.len(), 0);
        self.delays.push(delay_ms);
    }

    #[inline]
    fn target(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.bytes[start..self.ends[number] as usize]
    }

    #[inline(never)]
    fn number(&mut self, target: &[u8]) -> u32 {
        let mask = self.table.len() - 1;
        let mut slot = hash(target) as usize & mask;
        loop {
            match self.table[slot] {
                0 => break,
                entry if same_bytes(self.target(entry - 1), target) => return entry - 1,
                _ => slot = (slot + 1) & mask,
            }
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(target);
        self.ends.push(self.bytes.len() as u32);
        self.table[slot] = number + 1;
        if self.ends.len() * 2 > self.table.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let mut table = vec![0; self.table.len() * 2];
        let mask = table.len() - 1;
        for number in 0..self.ends.len() as u32 {
            let mut slot = hash(self.target(number)) as usize & mask;
            while table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            table[slot] = number + 1;
        }
        self.table = table;
    }

    /// Closes row `row`. Ends are written down only from the first row on that
    /// has more than one pick.
    #[inline]
    fn end_row(&mut self, row: usize) {
        let picked = self.picks.len() - self.row_start;
        if picked != 1 || !self.row_ends.is_empty() {
            self.end_other_row(row, picked);
        }
        self.row_start = self.picks.len();
        self.row_targets = self.ends.len();
    }

    #[inline(never)]
    fn end_other_row(&mut self, row: usize, mut picked: usize) {
        if picked > PICKS_PER_ROW_MAX {
            self.fail_row();
            picked = 1;
        }
        if picked == 0 {
            if !self.delays.is_empty() {
                self.delays.push(0);
            }
            self.picks.push(NOWHERE);
        }
        if picked > 1 && self.row_ends.is_empty() {
            self.row_ends.extend(1..=row as u32);
            self.row_ends.push(self.picks.len() as u32);
        } else if !self.row_ends.is_empty() {
            self.row_ends.push(self.picks.len() as u32);
        }
    }

    /// Puts [`TOO_MANY`] in place of what this row has picked, and forgets the targets that
    /// are its alone: the broker takes none that nobody picks.
    #[cold]
    fn fail_row(&mut self) {
        self.picks.truncate(self.row_start);
        self.delays.truncate(self.row_start);
        // The last that came goes first, so that no probe meets a gap.
        let mask = self.table.len() - 1;
        for number in (self.row_targets as u32..self.ends.len() as u32).rev() {
            let mut slot = hash(self.target(number)) as usize & mask;
            while self.table[slot] != number + 1 {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = 0;
        }
        self.ends.truncate(self.row_targets);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
        self.pick(TOO_MANY.as_bytes(), 0);
    }

    fn finish(mut self) -> Result<Routes, String> {
        if let Some(reason) = self.failure {
            return Err(reason);
        }
        let mut extras = Vec::new();
        if !self.delays.is_empty() {
            self.delays.resize(self.picks.len(), 0);
            extras.push(Column { id: DELAY_COLUMN, cells: Cells::Words(self.delays) });
        }
        let targets = Blobs { bytes: self.bytes, ends: self.ends };
        Ok(Routes { targets, picks: self.picks, ends: self.row_ends, extras })
    }
}

/// Eight bytes at a time; only has to spread a few hundred subjects.
#[inline]
fn hash(bytes: &[u8]) -> u32 {
    let mut state = bytes.len() as u64;
    let mix = |state: u64, word: u64| {
        let mixed = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    };
    if bytes.len() < 8 {
        return mix(state, short_word(bytes)) as u32;
    }
    let last = bytes.len() - 8;
    let mut at = 0;
    while at < last {
        state = mix(state, word_at(bytes, at));
        at += 8;
    }
    mix(state, word_at(bytes, last)) as u32
}

/// Runs a router over a batch as the broker sends it.
pub(crate) fn route_batch<R: Router>(
    router: &mut R,
    header_names: &[String],
    input: &Batch,
) -> Result<Routes, String> {
    let columns = Columns::of(&input.columns, header_names);
    let mut sheet = Sheet::with_rows(input.rows as usize);
    for row in 0..input.rows as usize {
        let message = Message::new(&columns, row);
        router.route(&message, &mut Targets { sheet: &mut sheet, message });
        sheet.end_row(row);
    }
    sheet.finish()
}
