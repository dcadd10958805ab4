//! Runs policies natively, under `cargo test`: on messages made in the test, with
//! exactly the columns that the manifest asks for, through the same code that the
//! component runs.
//!
//! ```
//! use weir_plugin_sdk::prelude::*;
//! use weir_plugin_sdk::test::{self, TestMessage};
//! # struct Upper;
//! # impl Policy for Upper {
//! #     type Config = NoConfig;
//! #     fn manifest() -> Manifest { manifest!("x").columns(&[Column::Subject]) }
//! #     fn new(_: NoConfig, _: &Context) -> Result<Self, String> { Ok(Self) }
//! # }
//! # impl Router for Upper {
//! #     fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
//! #         to.send(&message.subject().to_uppercase());
//! #     }
//! # }
//! let mut router = test::start::<Upper>("{}").expect("starts");
//! let routed = test::route(&mut router, &[TestMessage::new("a.b")]).expect("routes");
//! assert_eq!(routed, [["A.B"]]);
//! ```

mod bench;
#[cfg(test)]
mod tests;

pub use bench::{Bench, Delivered, Fate};

use crate::bindings::exports::weir::policy::routing::Routes;
use crate::bindings::weir::policy::types::{Batch, Blobs, Cells, Column as WireColumn};
use crate::filter::{encode_headers, filter_batch};
use crate::host::Level;
use crate::manifest::{Manifest, Power};
use crate::native::{call_policy, with_world};
use crate::router::{NOWHERE, OWN, route_batch};
use crate::{Context, Filter, Policy, Rewrite, Router, Verdict, read_config};

/// Longest subject, bytes.
const SUBJECT_BYTES_MAX: usize = 255;
/// Deepest subject, tokens.
const SUBJECT_TOKENS_MAX: usize = 32;
/// Longest delay of a copy, ms (7 days).
const DELAY_MS_MAX: u32 = 7 * 24 * 3_600 * 1_000;

/// Starts a policy with a configuration (JSON, "" for none) and every power it
/// wants.
///
/// # Errors
/// What the policy says, or why the text is no such configuration.
pub fn start<P: Policy>(config: &str) -> Result<P, String> {
    let powers = P::manifest().wants;
    start_in(
        config,
        &Context { binding: "test".to_owned(), shards: 1, powers, ..Context::default() },
    )
}

/// Starts a policy in a context made by the test.
///
/// # Errors
/// As [`start`].
pub fn start_in<P: Policy>(config: &str, context: &Context) -> Result<P, String> {
    let config = read_config(config)?;
    call_policy(remembers(&P::manifest()), || P::new(config, context))
}

/// Whether the broker remembers the answers.
fn remembers(manifest: &Manifest) -> bool {
    !manifest.memo_by.is_empty()
}

/// A message for a policy under test.
#[derive(Clone, Debug, Default)]
pub struct TestMessage {
    /// Subject.
    pub subject: String,
    /// Key; empty for none.
    pub key: Vec<u8>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Payload.
    pub payload: Vec<u8>,
    /// Connection it came in on.
    pub publisher: u32,
    /// When it was taken, ms since the epoch.
    pub published_at_ms: u64,
    /// Position in its stream.
    pub sequence: u64,
}

impl TestMessage {
    /// A message without key, headers and payload.
    #[must_use]
    pub fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..Self::default() }
    }

    /// With this payload.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..self }
    }

    /// With this key.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Routes messages as one batch; the subjects that each goes to, in order.
///
/// # Errors
/// When the router gives the batch up, or a message is one that the broker takes for failed:
/// it goes to what is no subject, to too many of them, or too late.
pub fn route<R: Router>(
    router: &mut R,
    messages: &[TestMessage],
) -> Result<Vec<Vec<String>>, String> {
    let rows = route_with_delays(router, messages)?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(|(subject, _)| subject).collect()).collect())
}

/// Like [`route`], with the delay of each copy, ms.
///
/// # Errors
/// As [`route`].
pub fn route_with_delays<R: Router>(
    router: &mut R,
    messages: &[TestMessage],
) -> Result<Vec<Vec<(String, u32)>>, String> {
    let manifest = R::manifest();
    let input = batch(&manifest, messages);
    let routes = call_policy(remembers(&manifest), || {
        route_batch(router, &manifest.header_columns, &input)
    })?;
    let of_row = |(row, message)| {
        let picks = picks_of(&routes, row, message);
        check_picks(&picks, message).map(|()| picks)
    };
    messages.iter().enumerate().map(of_row).collect()
}

fn check_picks(picks: &[(String, u32)], message: &TestMessage) -> Result<(), String> {
    let subject = &message.subject;
    for (target, delay_ms) in picks {
        if target != subject && !is_subject(target) {
            return Err(format!("sends {subject:?} to {target:?}, which is no subject"));
        }
        if *delay_ms > DELAY_MS_MAX {
            return Err(format!("delays {subject:?} by {delay_ms} ms: {DELAY_MS_MAX} at most"));
        }
    }
    Ok(())
}

fn is_subject(text: &str) -> bool {
    let foreign =
        |char: char| matches!(char, '*' | '>') || char.is_whitespace() || char.is_control();
    text.len() <= SUBJECT_BYTES_MAX
        && !text.contains(foreign)
        && !text.split('.').any(str::is_empty)
        && text.split('.').count() <= SUBJECT_TOKENS_MAX
}

fn picks_of(routes: &Routes, row: usize, message: &TestMessage) -> Vec<(String, u32)> {
    let range = match routes.ends.as_slice() {
        [] => row..row + 1,
        ends => row.checked_sub(1).map_or(0, |last| ends[last] as usize)..ends[row] as usize,
    };
    let delay_ms = |pick: usize| match routes.extras.first() {
        Some(WireColumn { cells: Cells::Words(words), .. }) => words[pick],
        _ => 0,
    };
    range
        .filter_map(|pick| {
            let target = match routes.picks[pick] {
                NOWHERE => return None,
                OWN => message.subject.clone(),
                number => text_at(&routes.targets, number as usize),
            };
            Some((target, delay_ms(pick)))
        })
        .collect()
}

/// Filters messages as one batch; the verdict on each.
///
/// # Errors
/// When a verdict needs a power that the manifest does not ask for: no operator can grant it.
pub fn filter<F: Filter>(filter: &mut F, messages: &[TestMessage]) -> Result<Vec<Verdict>, String> {
    let manifest = F::manifest();
    let input = batch(&manifest, messages);
    let verdicts = call_policy(remembers(&manifest), || {
        filter_batch(filter, &manifest.header_columns, &input)
    });
    for &code in &verdicts.codes {
        let power = match code {
            1 => Power::Drop,
            3 => Power::DeadLetter,
            4 => Power::Rewrite,
            _ => continue,
        };
        if !wants(&manifest, power) {
            let name = power.name();
            return Err(format!("a verdict needs the power {name:?}: add it by `Manifest::wants`"));
        }
    }
    let edits = |row: usize, column: u16| {
        let edits = verdicts.edits.as_ref()?;
        let found = edits
            .rows
            .iter()
            .zip(&edits.columns)
            .position(|(&edited, &of)| edited as usize == row && of == column)?;
        Some(blob_at(&edits.values, found).to_vec())
    };
    let reason = |row| String::from_utf8(edits(row, 0).unwrap_or_default()).unwrap_or_default();
    let verdict = |(row, code): (usize, &u8)| match code {
        0 => Verdict::Keep,
        1 => Verdict::Drop,
        2 => Verdict::Refuse(reason(row)),
        3 => Verdict::Divert(reason(row)),
        _ => Verdict::Rewrite(Rewrite {
            payload: edits(row, 2),
            key: edits(row, 3),
            headers: edits(row, 4).map(|encoded| decode_headers(&encoded)),
        }),
    };
    Ok(verdicts.codes.iter().enumerate().map(verdict).collect())
}

/// Whether the manifest asks for `power`.
fn wants(manifest: &Manifest, power: Power) -> bool {
    manifest.wants.iter().any(|want| want == power.name())
}

fn decode_headers(encoded: &[u8]) -> Vec<(String, Vec<u8>)> {
    let headers = crate::Headers::of(encoded);
    headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Sets the clock that policies on this thread read, ms since the epoch.
pub fn set_clock_ms(now_ms: u64) {
    with_world(|world| world.now_us = now_ms * 1000);
}

/// Takes the lines that policies on this thread have logged.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    let level = |number: u8| match number {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        _ => Level::Trace,
    };
    let lines = with_world(|world| std::mem::take(&mut world.lines));
    lines.into_iter().map(|(number, line)| (level(number), line)).collect()
}

/// The value of a metric that a policy on this thread has defined; of a histogram the sum
/// of what it has taken in. A name that the broker refuses is none: `[a-z_][a-z0-9_]*`, at
/// most 64 bytes.
#[must_use]
pub fn metric(name: &str) -> Option<f64> {
    with_world(|world| {
        world.metrics.iter().rev().find(|metric| metric.name == name).map(|metric| metric.value)
    })
}

/// The batch that the broker would send: the columns asked for, and no other.
pub(crate) fn batch(manifest: &Manifest, messages: &[TestMessage]) -> Batch {
    let columns = columns(manifest, messages);
    Batch { rows: messages.len() as u32, now_ms: crate::wall_ms(), columns }
}

fn columns(manifest: &Manifest, messages: &[TestMessage]) -> Vec<WireColumn> {
    let sent = if remembers(manifest) { &manifest.memo_by } else { &manifest.columns };
    sent.iter().map(|&id| WireColumn { id, cells: cells(id, manifest, messages) }).collect()
}

fn cells(id: u16, manifest: &Manifest, messages: &[TestMessage]) -> Cells {
    let blobs = |value: &dyn Fn(&TestMessage) -> Vec<u8>| {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            bytes.extend(value(message));
            ends.push(bytes.len() as u32);
        }
        Cells::Blobs(Blobs { bytes, ends })
    };
    let words =
        |value: &dyn Fn(&TestMessage) -> u32| Cells::Words(messages.iter().map(value).collect());
    let longs =
        |value: &dyn Fn(&TestMessage) -> u64| Cells::Longs(messages.iter().map(value).collect());
    match id {
        1 => blobs(&|message| message.subject.clone().into_bytes()),
        2 => blobs(&|message| message.payload.clone()),
        3 => blobs(&|message| message.key.clone()),
        4 => blobs(&|message| encode_headers(&message.headers)),
        5 => words(&|message| message.publisher),
        6 => longs(&|message| message.published_at_ms),
        7 => words(&|message| message.payload.len() as u32),
        8 => longs(&|message| message.sequence),
        9 => words(&|message| key_hash(&message.key)),
        10 => {
            let bytes = manifest.settings.iter().find(|(id, _)| *id == 1).map_or(64, |&(_, n)| n);
            blobs(&|message| message.payload[..message.payload.len().min(bytes as usize)].to_vec())
        }
        named => {
            let name = &manifest.header_columns[usize::from(named) - 256];
            blobs(&|message| {
                let header = message.headers.iter().find(|(known, _)| known == name);
                header.map_or_else(Vec::new, |(_, value)| value.clone())
            })
        }
    }
}

/// The broker's stable hash of a key.
#[must_use]
pub fn key_hash(key: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for &byte in key {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn blob_at(blobs: &Blobs, number: usize) -> &[u8] {
    let start = number.checked_sub(1).map_or(0, |last| blobs.ends[last] as usize);
    &blobs.bytes[start..blobs.ends[number] as usize]
}

fn text_at(blobs: &Blobs, number: usize) -> String {
    String::from_utf8_lossy(blob_at(blobs, number)).into_owned()
}
