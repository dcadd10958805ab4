//! The copies that come of routing. A copy under another subject is a message of
//! its own; all of a batch are written into one buffer, target by target, so that
//! what goes to one place lies in one run.

use std::sync::Arc;

use weir_core::rejection::Rejection;
use weir_message::Parts;

use crate::judge::{Judged, Pick, Place, Refusal, Row};
use crate::limits::REWRITTEN_BYTES_MAX;
use crate::messages::Messages;
use crate::names::{NameId, Names};
use crate::router::Route;
use crate::scratch::RowRoute;

/// Rows with their routes.
pub(crate) struct Routed<'a, F> {
    pub(crate) messages: Messages<'a>,
    /// Per row where it goes.
    pub(crate) rows: &'a [RowRoute],
    /// What `rows` points into.
    pub(crate) routes: &'a [Route],
    /// The subject a row was published with.
    pub(crate) own: F,
}

/// Buffers of one batch, used again.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Bytes to be written, per target; then where each target's copies start.
    target_bytes: Vec<u32>,
    /// Copies to be written: which pick, of which row.
    pending: Vec<(u32, u32)>,
    /// Bytes of all pending copies.
    bytes: usize,
}

impl Copies {
    /// Turns routes into picks and writes the copies that need it.
    pub(crate) fn write<F: Fn(usize) -> NameId>(
        &mut self,
        routed: Routed<'_, F>,
        names: &mut Names,
        stamp: u64,
        judged: &mut Judged,
    ) {
        self.target_bytes.clear();
        self.pending.clear();
        self.bytes = 0;
        for row in 0..routed.rows.len() {
            if judged.rows[row] != Row::Same {
                continue;
            }
            let edited = routed.messages.edited.entry(row as u32).is_some();
            if routed.rows[row] == RowRoute::Own && !edited {
                continue;
            }
            let own = (routed.own)(row);
            let single;
            let routes = match routed.rows[row] {
                RowRoute::Own => {
                    single = [Route { name: own, delay_ms: 0 }];
                    &single[..]
                }
                RowRoute::Routes { start, end } => &routed.routes[start as usize..end as usize],
            };
            let first = judged.picks.len() as u32;
            for route in routes {
                let as_published = route.name == own && !edited;
                self.pick(&routed.messages, row as u32, *route, as_published, names, stamp, judged);
            }
            judged.rows[row] = Row::Picks { start: first, end: judged.picks.len() as u32 };
            if self.bytes > REWRITTEN_BYTES_MAX {
                self.refuse(row, first, judged);
            }
        }
        self.place(&routed.messages, judged);
        self.place_diversions(&routed.messages, judged);
    }

    #[allow(clippy::too_many_arguments, reason = "one step of the loop above")]
    fn pick(
        &mut self,
        messages: &Messages<'_>,
        row: u32,
        route: Route,
        as_published: bool,
        names: &mut Names,
        stamp: u64,
        judged: &mut Judged,
    ) {
        let target = names.target(route.name, stamp, &mut judged.targets);
        let delay_ms = route.delay_ms;
        if as_published {
            return judged.picks.push(Pick { target, place: Place::Input, delay_ms });
        }
        let parts = messages.row(row).parts;
        let len = copy_len(parts, names.text(route.name).len());
        self.target_bytes.resize(judged.targets.len().max(self.target_bytes.len()), 0);
        let start = self.target_bytes[target as usize];
        self.target_bytes[target as usize] = start + len as u32;
        self.bytes += len;
        self.pending.push((judged.picks.len() as u32, row));
        // Relative to the target's first copy until `place`.
        let place = Place::Rewritten { start, end: start + len as u32 };
        judged.picks.push(Pick { target, place, delay_ms });
    }

    /// The copies of this batch are too much: the row goes back to its publisher.
    fn refuse(&mut self, row: usize, first: u32, judged: &mut Judged) {
        while let Some(&(pick, _)) = self.pending.last().filter(|(pick, _)| *pick >= first) {
            let Pick { target, place, .. } = judged.picks[pick as usize];
            if let Place::Rewritten { start, end } = place {
                self.target_bytes[target as usize] -= end - start;
                self.bytes -= (end - start) as usize;
            }
            self.pending.pop();
        }
        judged.picks.truncate(first as usize);
        judged.rows[row] = Row::Refused(judged.refusals.len() as u32);
        judged.refusals.push(Refusal {
            code: Rejection::LimitReached,
            reason: Arc::from(
                "its copies are more than one batch may come to: publish fewer at once",
            ),
            binding: Arc::from(""),
            generation: 0,
        });
    }

    /// Gives every target its run of the buffer and writes the copies.
    fn place(&mut self, messages: &Messages<'_>, judged: &mut Judged) {
        if self.pending.is_empty() {
            return;
        }
        let mut at = 0;
        for bytes in &mut self.target_bytes {
            let len = *bytes;
            *bytes = at;
            at += len;
        }
        judged.rewritten.resize(self.bytes, 0);
        for &(pick, row) in &self.pending {
            let pick = &mut judged.picks[pick as usize];
            let Place::Rewritten { start, end } = &mut pick.place else { continue };
            let base = self.target_bytes[pick.target as usize];
            *start += base;
            *end += base;
            let out = &mut judged.rewritten[*start as usize..*end as usize];
            let row = messages.row(row);
            let subject = judged.targets[pick.target as usize].as_bytes();
            copy(row.buffer, row.parts, subject, out);
        }
    }

    /// Diverted rows that a filter had changed keep the change.
    fn place_diversions(&mut self, messages: &Messages<'_>, judged: &mut Judged) {
        if judged.diversions.is_empty() {
            return;
        }
        for row in 0..judged.rows.len() {
            let Row::Diverted(at) = judged.rows[row] else { continue };
            if let Some(parts) = messages.edited.entry(row as u32) {
                let start = judged.rewritten.len() as u32;
                let message = &messages.edited.bytes[parts.start as usize..parts.end as usize];
                judged.rewritten.extend_from_slice(message);
                let end = judged.rewritten.len() as u32;
                judged.diversions[at as usize].place = Place::Rewritten { start, end };
            }
        }
    }
}

/// Bytes of a message under a subject of `subject` bytes.
fn copy_len(parts: &Parts, subject: usize) -> usize {
    let rest = parts.end - (parts.subject.0 + parts.subject.1);
    1 + subject_header(subject) + subject + rest as usize
}

/// Bytes before the subject's text: its MessagePack header.
const fn subject_header(subject: usize) -> usize {
    if subject < 32 { 1 } else { 2 }
}

/// Writes the message at `parts` with another subject; all that follows the
/// subject stays as the publisher wrote it.
fn copy(buffer: &[u8], parts: &Parts, subject: &[u8], out: &mut [u8]) {
    out[0] = 0x94;
    let header = subject_header(subject.len());
    if header == 1 {
        out[1] = 0xa0 | subject.len() as u8;
    } else {
        // Subjects are at most 255 bytes.
        out[1] = 0xd9;
        out[2] = subject.len() as u8;
    }
    let (head, rest) = out[1 + header..].split_at_mut(subject.len());
    head.copy_from_slice(subject);
    let tail = (parts.subject.0 + parts.subject.1) as usize..parts.end as usize;
    rest.copy_from_slice(&buffer[tail]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_encoding_anew_would_give() {
        for old in ["a", "a.much.longer.subject.that.needs.a.header.of.two.bytes"] {
            let mut message = Vec::new();
            weir_message::encode(&mut message, old, b"key", &[], b"payload");
            let parts = weir_message::parse(&message, 0).expect("a message");
            for len in [1, 31, 32, 200, 255] {
                let subject = "s".repeat(len);
                let mut expected = Vec::new();
                weir_message::encode(&mut expected, &subject, b"key", &[], b"payload");
                let mut out = vec![0; copy_len(&parts, len)];
                copy(&message, &parts, subject.as_bytes(), &mut out);
                assert_eq!(out, expected);
            }
        }
    }
}
