//! A data folder as lines of JSON: written by [`Folder::export`], read by [`import`].
//!
//! Invariants: the last line says how much came before it, so that a part is never
//! taken for the whole; a line that is not understood ends the import, none is passed
//! over.

use std::io::{BufRead, ErrorKind, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use weir_core::command::Level;
use weir_core::env::Clock;
use weir_core::name::Name;
use weir_core::store::{Catalogue, LogId, Stamp, Store};
use weir_message::Batch;

use super::{Folder, ToolError, left_key, unlisted};
use crate::catalogue::JournalCatalogue;
use crate::files::Files;
use crate::journal::{Journal, JournalConfig};
use crate::limits::{BLOCK_HEADER_BYTES, BODY_BYTES_MAX, NAME_BYTES_MAX, TABLE_ENTRY_BYTES};
use crate::segment::OFFSETS_END;
use crate::shared::Shared;
use crate::store::JournalStore;

/// What keys of the catalogue begin with.
const KEY_KINDS: [&str; 6] = ["queue/", "stream/", "group/", "policy/", "kv/", "left/"];

/// What names of logs begin with whose own are lost.
const LOST_AND_FOUND: &str = "lost+found/";

/// What has been written or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    keys: u64,
    logs: u64,
    records: u64,
}

impl Folder {
    /// Writes everything as lines of JSON that [`import`] reads: catalogue, logs
    /// with their start, records, what is settled ahead; last, how much it was. A stretch
    /// that cannot be read is written as lost. Returns how many those are. Where something is
    /// lost, logs without an entry are left alone: over the new folder nothing would tell a
    /// start that their entries may be what is lost, and it would remove them.
    ///
    /// # Errors
    /// Of `into`.
    pub fn export(&self, into: &mut dyn Write) -> Result<u64, ToolError> {
        let (mut counts, mut lost) = (Counts::default(), 0);
        let (mut entries, names) = (self.catalogue(), self.names());
        if !self.report.damage.is_empty() {
            let left = unlisted(&Shared::lock(&self.shared.catalogue), &names);
            entries.extend(left.into_iter().map(|name| (left_key(name), Vec::new())));
        }
        for (key, value) in entries {
            let line = serde_json::json!({ "key": key, "value": hex(&value) });
            writeln!(into, "{line}")?;
            counts.keys += 1;
        }
        for name in names {
            let log = Shared::lock(&self.shared.recovered).get(name.as_str()).cloned();
            let Some(log) = log else { continue };
            let settled: Vec<_> = log.released.iter().map(|(from, to)| [from, to]).collect();
            let line = serde_json::json!({
                "log": name, "start": log.start, "end": log.end, "settled": settled,
            });
            writeln!(into, "{line}")?;
            counts.logs += 1;
            let mut failure = None;
            self.records(&name, &mut |records| {
                let line = match records {
                    Err((from, to)) => {
                        lost += 1;
                        serde_json::json!({ "lost": [from, to] })
                    }
                    Ok(records) => {
                        counts.records += records.batch.len() as u64;
                        serde_json::json!({
                            "at": records.offset,
                            "time_ms": records.time_ms,
                            "due_ms": records.due_ms,
                            "messages": records.batch.iter().map(hex).collect::<Vec<_>>(),
                        })
                    }
                };
                if failure.is_none() {
                    failure = writeln!(into, "{line}").err();
                }
            });
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
        let Counts { keys, logs, records } = counts;
        let end = serde_json::json!({
            "end": { "keys": keys, "logs": logs, "records": records },
        });
        writeln!(into, "{end}")?;
        Ok(lost)
    }
}

/// Reads what [`Folder::export`] wrote into a folder that holds no logs yet.
/// Returns how many records came.
///
/// # Errors
/// [`ToolError`]; what was read before stays in the folder, so whoever calls this
/// gives it a folder of its own and throws that away.
pub fn import(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    from: &mut dyn BufRead,
) -> Result<u64, ToolError> {
    let journal = Journal::open(files, clock, config, 1)?;
    let done = read_in(&journal, from);
    // Also after a failure: its threads would go on in a folder that is thrown away.
    let closed = journal.close();
    let count = done?;
    closed?;
    Ok(count)
}

fn read_in(journal: &Journal, from: &mut dyn BufRead) -> Result<u64, ToolError> {
    let (mut store, mut catalogue) = (journal.store(Box::new(|| {})), journal.catalogue());
    if !journal.unopened().is_empty() || !catalogue.list("").is_empty() {
        return Err(ToolError::NotEmpty);
    }
    let mut importing = Importing::default();
    for (number, line) in from.lines().enumerate() {
        let at = |what: &str| ToolError::Input { line: number + 1, what: what.to_owned() };
        let line = line.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => at("is not text"),
            _ => error.into(),
        })?;
        let done = importing.line(&line, &mut store, &mut catalogue);
        done.map_err(|error| match error {
            ToolError::Input { what, .. } => at(&what),
            other => other,
        })?;
        while store.is_congested() {
            journal.sync()?;
            store.commit()?;
        }
    }
    if !importing.has_ended {
        let what = "it has no last line {\"end\": ...}: it was cut off on its way here";
        return Err(ToolError::NotWhole(what.to_owned()));
    }
    journal.sync()?;
    Ok(importing.counts.records)
}

/// The log whose records come now.
struct OpenLog {
    log: LogId,
    /// Where it ended when it was written out.
    end: u64,
    /// Settled, or lost.
    settled: Vec<(u64, u64)>,
    /// A group's: it has no messages.
    is_cursor: bool,
}

#[derive(Default)]
struct Importing {
    open: Option<OpenLog>,
    counts: Counts,
    has_ended: bool,
}

impl Importing {
    fn line(
        &mut self,
        line: &str,
        store: &mut JournalStore,
        catalogue: &mut JournalCatalogue,
    ) -> Result<(), ToolError> {
        if self.has_ended {
            return Err(input("something follows the line that says it is the last"));
        }
        let value: Value = serde_json::from_str(line).map_err(|error| input(&error.to_string()))?;
        if value.get("end").is_some_and(Value::is_object) {
            self.end_log(store)?;
            return self.end(&value["end"]);
        }
        if let Some(key) = value["key"].as_str() {
            self.key(key, &value, catalogue)
        } else if let Some(name) = value["log"].as_str() {
            self.end_log(store)?;
            self.start_log(name, &value, store, catalogue)
        } else if let Some(messages) = value["messages"].as_array() {
            self.records(messages, &value, store)
        } else if let Some(lost) = value.get("lost") {
            self.lost(lost)
        } else {
            Err(input("is no line that `weir store export` writes"))
        }
    }

    fn key(
        &mut self,
        key: &str,
        value: &Value,
        catalogue: &mut JournalCatalogue,
    ) -> Result<(), ToolError> {
        if !KEY_KINDS.iter().any(|kind| key.starts_with(kind)) {
            return Err(input(&format!("a broker keeps nothing under the key {key:?}")));
        }
        let bytes = value["value"].as_str().and_then(unhex);
        let bytes = bytes.ok_or_else(|| input("`value` is not hexadecimal digits"))?;
        let len = BLOCK_HEADER_BYTES + TABLE_ENTRY_BYTES + 4 + key.len() + bytes.len();
        if key.len() > NAME_BYTES_MAX || len > BODY_BYTES_MAX {
            return Err(input("the key or its value is longer than a broker keeps"));
        }
        if catalogue.get(key).is_some() {
            return Err(input(&format!("the key {key:?} comes twice")));
        }
        catalogue.put(key, Some(bytes.into()), 0)?;
        self.counts.keys += 1;
        Ok(())
    }

    fn start_log(
        &mut self,
        name: &str,
        value: &Value,
        store: &mut JournalStore,
        catalogue: &mut JournalCatalogue,
    ) -> Result<(), ToolError> {
        check_log(name)?;
        let (start, end) = (number(value, "start")?, number(value, "end")?);
        if start > end || end >= OFFSETS_END {
            return Err(input("`start` and `end` are not those of a log"));
        }
        let settled = pairs(&value["settled"])
            .ok_or_else(|| input("`settled` is not a list of [from, to] of offsets"))?;
        let log = store.open(name)?;
        if store.bounds(log).end > 0 {
            return Err(input(&format!("the log {name:?} comes twice")));
        }
        store.reset(log, start);
        let is_cursor = name.starts_with("group/");
        self.open = Some(OpenLog { log, end, settled, is_cursor });
        self.counts.logs += 1;
        let left = left_key(name);
        if name.starts_with(LOST_AND_FOUND) && catalogue.get(&left).is_none() {
            // Nothing is lost in the new folder, so a start would remove it.
            catalogue.put(&left, Some(Bytes::new()), 0)?;
        }
        Ok(())
    }

    /// Nothing came of these offsets, and nobody waits for them: they count as settled.
    fn lost(&mut self, lost: &Value) -> Result<(), ToolError> {
        let lost = pair(lost).ok_or_else(|| input("`lost` is not [from, to] of offsets"))?;
        let open = self.open.as_mut().ok_or_else(|| input("something lost before a log"))?;
        open.settled.push(lost);
        Ok(())
    }

    fn records(
        &mut self,
        messages: &[Value],
        value: &Value,
        store: &mut JournalStore,
    ) -> Result<(), ToolError> {
        let open = self.open.as_ref().ok_or_else(|| input("messages before a log"))?;
        let (log, log_end) = (open.log, open.end);
        let mut bytes = Vec::new();
        for message in messages {
            let message = message.as_str().and_then(unhex);
            bytes.extend(message.ok_or_else(|| input("a message is not hexadecimal digits"))?);
        }
        let batch = Batch::from_bytes(bytes.into()).map_err(|e| input(&e.to_string()))?;
        let stamp = Stamp { time_ms: number(value, "time_ms")?, due_ms: number(value, "due_ms")? };
        let (at, end) = (number(value, "at")?, store.bounds(log).end);
        if at < end {
            return Err(input(&format!("offset {at} comes again, or too late")));
        }
        if at.checked_add(batch.len() as u64).is_none_or(|next| next > log_end) {
            return Err(input(&format!("offset {at} and its messages go beyond their log's end")));
        }
        store.leave_gap(log, at);
        store.append(log, at, stamp, batch.clone(), Level::Os)?;
        store.commit()?;
        self.counts.records += batch.len() as u64;
        Ok(())
    }

    fn end_log(&mut self, store: &mut JournalStore) -> Result<(), ToolError> {
        let Some(OpenLog { log, end, settled, is_cursor }) = self.open.take() else {
            return Ok(());
        };
        let came = store.bounds(log).end;
        if !is_cursor && came < end {
            // Nothing came for its last offsets: they were settled, or lost. A message
            // that is settled at once keeps them from being given again.
            store.leave_gap(log, end - 1);
            let stamp = Stamp { time_ms: 0, due_ms: 0 };
            store.append(log, end - 1, stamp, filler(), Level::Os)?;
            store.release(log, came, end, Level::Os);
        }
        for (from, to) in settled {
            store.release(log, from, to, Level::Os);
        }
        store.commit()?;
        Ok(())
    }

    fn end(&mut self, told: &Value) -> Result<(), ToolError> {
        let Counts { keys, logs, records } = self.counts;
        for (name, came) in [("keys", keys), ("logs", logs), ("records", records)] {
            let told = number(told, name)?;
            if told != came {
                let what = format!("its last line tells of {told} {name}, and {came} came");
                return Err(ToolError::NotWhole(what));
            }
        }
        self.has_ended = true;
        Ok(())
    }
}

fn filler() -> Batch {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "weir", b"", &[], b"");
    Batch::from_bytes(message.into()).expect("a message that was encoded here")
}

/// Whether a broker makes logs of that name.
fn check_log(name: &str) -> Result<(), ToolError> {
    let wrong = |why: &str| input(&format!("a broker has no log {name:?}: {why}"));
    let named = |text: &str| {
        Name::parse(text).map(drop).map_err(|error| wrong(&format!("{text:?} {error}")))
    };
    let numbered = |text: &str| match text.parse::<u16>() {
        Ok(number) if number.to_string() == text => Ok(()),
        _ => Err(wrong("it does not end in the number of a partition")),
    };
    match name.split_once('/') {
        Some(("queue", queue)) => named(queue),
        Some(("stream", rest)) => {
            let (stream, partition) = rest.rsplit_once('/').unwrap_or((rest, ""));
            named(stream).and_then(|()| numbered(partition))
        }
        Some(("group", rest)) => {
            let mut parts = rest.rsplitn(3, '/');
            let (partition, group) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            named(parts.next().unwrap_or(""))?;
            Name::parse_group(group).map_err(|error| wrong(&format!("{group:?} {error}")))?;
            numbered(partition)
        }
        Some((_, number)) if name.starts_with(LOST_AND_FOUND) => match number.parse::<u64>() {
            Ok(parsed) if parsed.to_string() == number => Ok(()),
            _ => Err(wrong("it does not end in the number of a log")),
        },
        _ => Err(wrong("names begin with queue/, stream/ or group/")),
    }
}

fn input(what: &str) -> ToolError {
    ToolError::Input { line: 0, what: what.to_owned() }
}

fn number(value: &Value, name: &str) -> Result<u64, ToolError> {
    value[name].as_u64().ok_or_else(|| input(&format!("`{name}` is not a number")))
}

/// First offset, and one past the last, of a stretch that a log may have.
fn pair(value: &Value) -> Option<(u64, u64)> {
    let [from, to] = value.as_array()?.as_slice() else { return None };
    let (from, to) = (from.as_u64()?, to.as_u64()?);
    (from <= to && to < OFFSETS_END).then_some((from, to))
}

fn pairs(value: &Value) -> Option<Vec<(u64, u64)>> {
    value.as_array()?.iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}
