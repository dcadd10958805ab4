//! What lies where in a data folder, so that a test can damage a certain thing and
//! knows what that may cost.

use std::collections::{BTreeMap, BTreeSet};

use weir_journal::format::{
    CheckpointContent, Entry, EntryKind, FILE_HEAD_BYTES, Found, Identity, Kind, SegmentState,
    read_block, store_tag,
};
use weir_journal::sim::SimFiles;

use crate::world::STORE;

/// A head or a block of a file.
#[derive(Clone, Debug)]
pub struct Part {
    pub path: String,
    pub kind: Kind,
    pub from: usize,
    pub to: usize,
    /// 0 for a head.
    pub number: u64,
    /// What it holds, unless it is a head.
    pub entries: Vec<Entry>,
}

impl Part {
    fn is_footer(&self) -> bool {
        self.kind == Kind::Segment
            && self.entries.first().is_some_and(|entry| entry.kind == EntryKind::SegmentState)
    }

    /// Log, first offset and one past the last, of each append in it.
    pub fn appends(&self) -> Vec<(u64, u64, u64)> {
        if self.kind == Kind::Checkpoint {
            return Vec::new();
        }
        let appends = self.entries.iter().filter(|entry| entry.kind == EntryKind::Append);
        appends.map(|entry| (entry.log, entry.a, entry.a + entry.b)).collect()
    }

    /// Whether it settles, opens or removes something, or writes to the catalogue.
    pub fn has_changes(&self) -> bool {
        self.kind == Kind::Journal && self.entries.iter().any(|e| e.kind != EntryKind::Append)
    }

    pub fn opens(&self, log: u64) -> bool {
        self.entries.iter().any(|entry| entry.kind == EntryKind::OpenLog && entry.log == log)
    }
}

/// The number that the blocks of the segment with that name carry.
fn segment_sequence(name: &str) -> Option<u64> {
    let name = name.strip_prefix("s-")?.strip_suffix(".ws")?;
    let (base, revision) = name.split_once('-').unwrap_or((name, "0"));
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    Some(hex(base) | hex(revision) << 56)
}

/// Where a segment lies.
pub fn segment_path(state: &SegmentState) -> String {
    let SegmentState { log, base, revision, .. } = *state;
    let revision = if revision == 0 { String::new() } else { format!("-{revision:02x}") };
    format!("logs/{log:016x}/s-{base:016x}{revision}.ws")
}

#[derive(Default)]
pub struct Anatomy {
    pub parts: Vec<Part>,
    /// Names of logs, as far as checkpoints and the journal tell.
    pub names: BTreeMap<u64, String>,
    /// The newest block that something behind it, or a checkpoint, says is synced.
    pub durable: u64,
    /// The sound checkpoints, oldest first.
    pub checkpoints: Vec<(String, CheckpointContent)>,
}

impl Anatomy {
    pub fn of(files: &SimFiles) -> Self {
        let mut anatomy = Self::default();
        let paths = files.paths();
        for path in paths.iter().filter(|path| path.starts_with("checkpoint-")) {
            let bytes = files.bytes(path).unwrap();
            let Ok((_, content)) = CheckpointContent::decode(&bytes) else { continue };
            for log in &content.logs {
                anatomy.names.insert(log.log, log.name.clone());
            }
            anatomy.durable = anatomy.durable.max(content.durable);
            anatomy.checkpoints.push((path.clone(), content));
        }
        for path in &paths {
            let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let name = path.rsplit('/').next().unwrap();
            let number = |prefix: &str, suffix: &str| {
                name.strip_prefix(prefix).and_then(|name| name.strip_suffix(suffix)).map(hex)
            };
            if let Some(sequence) = number("j-", ".wj") {
                anatomy.add(files, path, Kind::Journal, sequence);
            } else if let Some(sequence) = number("checkpoint-", ".wc") {
                anatomy.add(files, path, Kind::Checkpoint, sequence);
            } else if let Some(sequence) = segment_sequence(name) {
                anatomy.add(files, path, Kind::Segment, sequence);
            }
        }
        anatomy
    }

    fn add(&mut self, files: &SimFiles, path: &str, kind: Kind, sequence: u64) {
        let bytes = files.bytes(path).unwrap();
        let identity = Identity { store_tag: store_tag(STORE, kind), file_sequence: sequence };
        let part = |from, to, number, entries| Part {
            path: path.to_owned(),
            kind,
            from,
            to,
            number,
            entries,
        };
        self.parts.push(part(0, FILE_HEAD_BYTES, 0, Vec::new()));
        let end = match kind {
            // What lies behind the length that is vouched for does not count.
            Kind::Segment => self.trusted_len(path).min(bytes.len()),
            _ => bytes.len(),
        };
        let mut at = FILE_HEAD_BYTES;
        while at < end
            && let Found::Block(block) = read_block(&bytes, at, identity)
        {
            if kind == Kind::Journal {
                self.durable = self.durable.max(block.head.durable);
                for entry in block.entries.iter().filter(|e| e.kind == EntryKind::OpenLog) {
                    let name = &bytes[at + entry.body.start..at + entry.body.end];
                    let name = String::from_utf8_lossy(name).into_owned();
                    self.names.insert(entry.log, name);
                }
            }
            self.parts.push(part(at, at + block.len, block.head.number, block.entries));
            at += block.len;
        }
    }

    fn trusted_len(&self, path: &str) -> usize {
        let (_, newest) = self.checkpoints.last().unwrap();
        let state = newest.segments.iter().find(|state| segment_path(state) == path);
        state.map_or(0, |state| state.len as usize)
    }

    pub fn journal_blocks(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.parts.iter().filter(|part| part.kind == Kind::Journal && part.number > 0)
    }

    /// Heads and blocks that were synced, and are known to have been.
    pub fn below_mark(&self) -> Vec<Part> {
        let is_below = |part: &&Part| part.kind != Kind::Journal || part.number <= self.durable;
        self.parts.iter().filter(is_below).cloned().collect()
    }

    /// Footers of sealed segments.
    pub fn footers(&self) -> Vec<Part> {
        self.parts.iter().filter(|part| part.is_footer()).cloned().collect()
    }

    /// First journal file that the older of the two newest checkpoints needs.
    pub fn first_needed(&self) -> u64 {
        let two = self.checkpoints.iter().rev().take(2);
        two.map(|(_, content)| content.replay_from).min().unwrap_or(1)
    }

    pub fn paths(&self) -> BTreeSet<String> {
        self.parts.iter().map(|part| part.path.clone()).collect()
    }
}
