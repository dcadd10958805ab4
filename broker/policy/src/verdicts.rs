//! What filters answer, checked: shared by the publish stage ([`crate::filter`])
//! and the deliver stage ([`crate::deliver_filter`]).

use std::sync::Arc;

use weir_message::Parts;

use crate::bindings::exports::weir::policy::filtering::Verdicts;
use crate::columns::RowRef;
use crate::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use crate::manifest::column;
use crate::router::check_ends;

/// Verdict codes (`wit/roles.wit`); 0 keeps a row.
pub(crate) mod code {
    pub(crate) const DROP: u8 = 1;
    pub(crate) const REFUSE: u8 = 2;
    pub(crate) const DIVERT: u8 = 3;
    pub(crate) const EDIT: u8 = 4;
}

/// "Column" of an edit that holds the reason.
const REASON: u16 = 0;

/// An answer whose counts, indices and codes are sound.
pub(crate) struct SoundVerdicts {
    pub(crate) codes: Vec<u8>,
    edits: Vec<Edit>,
    bytes: Vec<u8>,
}

/// A new value for one part of one row: `bytes[start..end]`.
struct Edit {
    row: u32,
    column: u16,
    start: u32,
    end: u32,
}

impl SoundVerdicts {
    /// Checks an answer about `rows` rows; what is wrong comes back as half a
    /// sentence.
    pub(crate) fn check(answer: Verdicts, rows: usize) -> Result<Self, String> {
        let Verdicts { codes, edits } = answer;
        if codes.len() != rows {
            return Err(format!("{} verdicts for {rows} rows", codes.len()));
        }
        if let Some(code) = codes.iter().find(|&&code| code > code::EDIT) {
            return Err(format!("the verdict {code}, which this broker does not know"));
        }
        let Some(edits) = edits else {
            return Ok(Self { codes, edits: Vec::new(), bytes: Vec::new() });
        };
        let count = edits.rows.len();
        if edits.columns.len() != count {
            return Err("edits whose rows and columns differ in number".into());
        }
        check_ends(&edits.values.ends, count, edits.values.bytes.len(), "edits")?;
        let mut sound = Vec::with_capacity(count);
        let mut start = 0;
        for (at, &end) in edits.values.ends.iter().enumerate() {
            let (row, column) = (edits.rows[at], edits.columns[at]);
            let known = [REASON, column::PAYLOAD, column::KEY, column::HEADERS].contains(&column);
            if row as usize >= rows || !known {
                return Err(format!("an edit of row {row}, column {column}"));
            }
            if column != REASON && codes[row as usize] != code::EDIT {
                return Err(format!("an edit of row {row}, whose verdict is not to edit it"));
            }
            sound.push(Edit { row, column, start, end });
            start = end;
        }
        // Stable: of two values for one part the later wins.
        sound.sort_by_key(|edit| edit.row);
        Ok(Self { codes, edits: sound, bytes: edits.values.bytes })
    }

    fn of_row(&self, row: usize) -> &[Edit] {
        let start = self.edits.partition_point(|edit| (edit.row as usize) < row);
        let len = self.edits[start..].partition_point(|edit| edit.row as usize == row);
        &self.edits[start..start + len]
    }

    fn value(&self, row: usize, column: u16) -> Option<&[u8]> {
        let edit = self.of_row(row).iter().rev().find(|edit| edit.column == column)?;
        Some(&self.bytes[edit.start as usize..edit.end as usize])
    }

    /// The reason given for `row`.
    pub(crate) fn reason(&self, row: usize) -> Option<Arc<str>> {
        let reason = self.value(row, REASON)?;
        let reason = String::from_utf8_lossy(&reason[..reason.len().min(REASON_BYTES_MAX)]);
        Some(crate::text::sentence(&reason).into())
    }

    /// Appends the message of `row` with its edits to `out`. What is wrong with
    /// it comes back as half a sentence, and `out` as it was.
    pub(crate) fn encode(
        &self,
        row: usize,
        before: RowRef<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Parts, String> {
        let view = before.parts.view(before.buffer);
        let start = out.len();
        let key = self.value(row, column::KEY).unwrap_or(view.key);
        let headers = match self.value(row, column::HEADERS) {
            // An empty map is written as "none", as publishers do.
            Some([] | [0x80]) => &[],
            Some(headers) => headers,
            None => view.headers,
        };
        let payload = self.value(row, column::PAYLOAD).unwrap_or(view.payload);
        weir_message::encode(out, view.subject, key, headers, payload);
        // One that was longer before, as a dead letter may be, is not refused for that.
        let bytes_max = MESSAGE_BYTES_MAX.max((before.parts.end - before.parts.start) as usize);
        if out.len() - start > bytes_max {
            out.truncate(start);
            return Err(format!("an edit that makes the message longer than {bytes_max} bytes"));
        }
        match weir_message::parse(out, start) {
            Ok(parts) if parts.end as usize == out.len() => Ok(parts),
            other => {
                let what = other.err().map_or("headers that are no map".into(), |e| e.to_string());
                out.truncate(start);
                Err(format!("an edit that gives no message: {what}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::exports::weir::policy::filtering::{Blobs, Edits};

    fn edits(rows: &[u32], columns: &[u16], values: &[&[u8]]) -> Option<Edits> {
        let mut ends = Vec::new();
        for value in values {
            ends.push(ends.last().copied().unwrap_or(0) + value.len() as u32);
        }
        let values = Blobs { bytes: values.concat(), ends };
        Some(Edits { rows: rows.to_vec(), columns: columns.to_vec(), values })
    }

    fn check(codes: &[u8], edits: Option<Edits>) -> Result<SoundVerdicts, String> {
        SoundVerdicts::check(Verdicts { codes: codes.to_vec(), edits }, 2)
    }

    #[test]
    fn malformed_answers_are_named() {
        assert!(check(&[0], None).is_err_and(|e| e == "1 verdicts for 2 rows"));
        assert!(check(&[0, 9], None).is_err_and(|e| e.contains("verdict 9")));
        assert!(check(&[4, 0], edits(&[2], &[2], &[b"x"])).is_err());
        assert!(check(&[4, 0], edits(&[1], &[2], &[b"x"])).is_err(), "row 1 is kept");
        assert!(check(&[4, 0], edits(&[0], &[5], &[b"x"])).is_err(), "no such part");
        assert!(check(&[4, 0], edits(&[0, 0], &[2], &[b"x"])).is_err());
        let mut falling = edits(&[0, 0], &[2, 3], &[b"x", b"y"]).unwrap_or_else(|| unreachable!());
        falling.values.ends = vec![2, 1];
        assert!(check(&[4, 0], Some(falling)).is_err());
    }

    #[test]
    fn edits_make_a_new_message_or_none() {
        let mut message = Vec::new();
        weir_message::encode(&mut message, "a.b", b"key", &[], b"old");
        let parts = weir_message::parse(&message, 0).expect("a message");
        let before =
            RowRef { buffer: &message, parts: &parts, publisher: 0, time_ms: 0, sequence: 0 };
        let good = check(&[0, 4], edits(&[1, 1, 1], &[2, 2, 0], &[b"new", b"newer", b"why"]));
        let good = good.expect("sound");
        let mut out = vec![7];
        let parts = good.encode(1, before, &mut out).expect("a message");
        let view = parts.view(&out);
        assert_eq!((view.subject, view.key, view.payload), ("a.b", &b"key"[..], &b"newer"[..]));
        assert_eq!(good.reason(1).as_deref(), Some("why"));
        assert_eq!(good.reason(0), None);
        let bad = check(&[4, 0], edits(&[0], &[4], &[b"\xc1"])).expect("sound");
        let mut out = vec![7];
        assert!(bad.encode(0, before, &mut out).is_err());
        assert_eq!(out, [7]);
    }

    #[test]
    fn an_edit_makes_no_message_that_a_client_could_not_take() {
        let message = |payload: usize| {
            let mut message = Vec::new();
            weir_message::encode(&mut message, "a.b", b"key", &[], &vec![0; payload]);
            message
        };
        let edit = |message: &[u8], column: u16, value: &[u8]| {
            let parts = weir_message::parse(message, 0).expect("a message");
            let before =
                RowRef { buffer: message, parts: &parts, publisher: 0, time_ms: 0, sequence: 0 };
            let answer = check(&[4, 0], edits(&[0], &[column], &[value])).expect("sound");
            let mut out = vec![7];
            let edited = answer.encode(0, before, &mut out).map(|_| ());
            (edited, out.len() - 1)
        };
        let head = message(MESSAGE_BYTES_MAX).len() - MESSAGE_BYTES_MAX;
        let longest = vec![1; MESSAGE_BYTES_MAX - head];
        let (edited, len) = edit(&message(10), column::PAYLOAD, &longest);
        assert_eq!((edited, len), (Ok(()), MESSAGE_BYTES_MAX));
        let (edited, len) = edit(&message(10), column::PAYLOAD, &vec![1; longest.len() + 1]);
        assert!(edited.is_err_and(|what| what.contains("longer than 1048512 bytes")));
        assert_eq!(len, 0, "nothing of it is left");
        // What is kept counts as what is new does.
        assert!(edit(&message(longest.len()), column::KEY, b"keys").0.is_err());
        // What was longer before may stay so, not grow.
        assert_eq!(edit(&message(2 << 20), column::KEY, b"kex").0, Ok(()));
        assert!(edit(&message(2 << 20), column::KEY, b"keys").0.is_err());
    }
}
