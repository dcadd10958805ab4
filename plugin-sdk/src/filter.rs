//! Filters: whether a message passes, and in what form.

use crate::bindings::exports::weir::policy::filtering::{Edits, Verdicts};
use crate::bindings::weir::policy::types::{Batch, Blobs};
use crate::message::{Columns, Message};
use crate::policy::Policy;

/// Judges messages, one at a time.
pub trait Filter: Policy {
    /// Says what becomes of `message`.
    fn filter(&mut self, message: &Message<'_>) -> Verdict;
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It passes.
    Keep,
    /// It is taken and silently gone (power "drop").
    Drop,
    /// The publisher gets an error with this reason. Where messages are being
    /// delivered this is a drop.
    Refuse(String),
    /// It goes to the dead-letter queue with this reason (power "dead-letter").
    Divert(String),
    /// It passes in another form (power "rewrite").
    Rewrite(Rewrite),
}

/// New values for parts of a message; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// New payload.
    pub payload: Option<Vec<u8>>,
    /// New key; empty removes it.
    pub key: Option<Vec<u8>>,
    /// New headers, all of them: names and values.
    pub headers: Option<Vec<(String, Vec<u8>)>>,
}

impl Rewrite {
    /// Replaces the payload.
    #[must_use]
    pub fn payload(bytes: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(bytes.into()), ..Self::default() }
    }
}

impl From<Rewrite> for Verdict {
    fn from(rewrite: Rewrite) -> Self {
        Self::Rewrite(rewrite)
    }
}

const KEEP: u8 = 0;
const DROP: u8 = 1;
const REFUSE: u8 = 2;
const DIVERT: u8 = 3;
const REWRITE: u8 = 4;

const REASON: u16 = 0;
const PAYLOAD: u16 = 2;
const KEY: u16 = 3;
const HEADERS: u16 = 4;

/// Longest reason that the broker passes on, bytes. The rest is cut here already: a batch of
/// long ones would be longer than an answer may be.
const REASON_BYTES_MAX: usize = 512;

/// The answer for one batch, as it grows.
#[derive(Default)]
struct Sheet {
    codes: Vec<u8>,
    rows: Vec<u32>,
    columns: Vec<u16>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Sheet {
    fn edit(&mut self, column: u16, value: &[u8]) {
        self.rows.push(self.codes.len() as u32);
        self.columns.push(column);
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len() as u32);
    }

    fn push(&mut self, verdict: &Verdict) {
        let code = match verdict {
            Verdict::Keep => KEEP,
            Verdict::Drop => DROP,
            Verdict::Refuse(reason) => {
                self.edit(REASON, cut(reason).as_bytes());
                REFUSE
            }
            Verdict::Divert(reason) => {
                self.edit(REASON, cut(reason).as_bytes());
                DIVERT
            }
            Verdict::Rewrite(rewrite) => {
                if let Some(payload) = &rewrite.payload {
                    self.edit(PAYLOAD, payload);
                }
                if let Some(key) = &rewrite.key {
                    self.edit(KEY, key);
                }
                if let Some(headers) = &rewrite.headers {
                    self.edit(HEADERS, &encode_headers(headers));
                }
                REWRITE
            }
        };
        self.codes.push(code);
    }

    fn finish(self) -> Verdicts {
        let edits = (!self.rows.is_empty()).then_some(Edits {
            rows: self.rows,
            columns: self.columns,
            values: Blobs { bytes: self.bytes, ends: self.ends },
        });
        Verdicts { codes: self.codes, edits }
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// A MessagePack map; values that are UTF-8 become text, others bytes.
pub(crate) fn encode_headers(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    match headers.len() {
        len @ 0..=15 => out.push(0x80 | len as u8),
        len => {
            out.push(0xde);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    for (name, value) in headers {
        encode_sized(&mut out, [0xd9, 0xda, 0xdb], name.as_bytes());
        let markers = match std::str::from_utf8(value) {
            Ok(_) => [0xd9, 0xda, 0xdb],
            Err(_) => [0xc4, 0xc5, 0xc6],
        };
        encode_sized(&mut out, markers, value);
    }
    out
}

fn encode_sized(out: &mut Vec<u8>, [one, two, four]: [u8; 3], value: &[u8]) {
    match value.len() {
        len @ 0..=31 if one == 0xd9 => out.push(0xa0 | len as u8),
        len @ 0..=0xff => out.extend_from_slice(&[one, len as u8]),
        len @ 0..=0xffff => {
            out.push(two);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(four);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// Runs a filter over a batch as the broker sends it.
pub(crate) fn filter_batch<F: Filter>(
    filter: &mut F,
    header_names: &[String],
    input: &Batch,
) -> Verdicts {
    let columns = Columns::of(&input.columns, header_names);
    let mut sheet = Sheet { codes: Vec::with_capacity(input.rows as usize), ..Sheet::default() };
    for row in 0..input.rows as usize {
        sheet.push(&filter.filter(&Message::new(&columns, row)));
    }
    sheet.finish()
}
