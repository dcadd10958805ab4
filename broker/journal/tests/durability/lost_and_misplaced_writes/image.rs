//! What the next start finds on the disk, against what was written.

use super::*;

/// What the next start finds on the disk, against what was written.
pub(super) struct Image {
    /// Every block that was written, by number.
    pub(super) blocks: BTreeMap<u64, Written>,
    /// The files of the journal that are needed, by number.
    pub(super) journal: BTreeMap<u64, Vec<u8>>,
    /// Number of the last block that the newest sound checkpoint or the mark says is synced.
    pub(super) durable: u64,
    /// Checkpoints there are, and how many are sound.
    pub(super) checkpoints: usize,
    pub(super) sound: usize,
    pub(super) is_newest_bad: bool,
    /// Of needed files of the journal, and the mark.
    pub(super) bad_heads: Vec<String>,
    /// Number of the first block that is needed.
    pub(super) first: u64,
    /// Needed blocks that are not there as written, as far as something says they were synced.
    pub(super) broken: BTreeSet<u64>,
    /// Those of them of which no header and table are there, in whatever place.
    pub(super) missing: Vec<u64>,
    /// The first block that is not there as written and for which nothing speaks: from here on
    /// a start may take all for a torn end.
    pub(super) torn_from: u64,
    /// Whether anything is left in its place or behind it, so that the start can see that
    /// something was there.
    pub(super) is_end_left: bool,
}

impl Image {
    pub(super) fn of(files: &SimFiles, blocks: BTreeMap<u64, Written>) -> Self {
        let mut image = Self {
            blocks,
            journal: BTreeMap::new(),
            durable: 0,
            checkpoints: 0,
            sound: 0,
            is_newest_bad: false,
            bad_heads: Vec::new(),
            first: 1,
            broken: BTreeSet::new(),
            missing: Vec::new(),
            torn_from: u64::MAX,
            is_end_left: false,
        };
        let replay_from = image.read_checkpoints(files);
        match FileHead::decode(&files.bytes("synced").unwrap(), Kind::Mark) {
            Ok(mark) => image.durable = image.durable.max(mark.sequence),
            Err(_) => image.bad_heads.push("synced".to_owned()),
        }
        for path in files.paths() {
            let sequence = number_in(&path, "journal/j-", ".wj");
            let Some(sequence) = sequence.filter(|&it| it >= replay_from) else { continue };
            let bytes = files.bytes(&path).unwrap();
            let head = FileHead::decode(&bytes, Kind::Journal);
            if !head.is_ok_and(|head| head.sequence == sequence) {
                image.bad_heads.push(path);
            }
            image.journal.insert(sequence, bytes);
        }
        image.compare();
        image
    }

    /// Returns the first file of the journal that is needed.
    pub(super) fn read_checkpoints(&mut self, files: &SimFiles) -> u64 {
        let mut replay_from = 1;
        for path in files.paths() {
            let Some(number) = number_in(&path, "checkpoint-", ".wc") else { continue };
            let read = CheckpointContent::decode(&files.bytes(&path).unwrap());
            let read = read.ok().filter(|(head, _)| head.sequence == number);
            self.checkpoints += 1;
            self.is_newest_bad = read.is_none();
            if let Some((_, content)) = read {
                self.sound += 1;
                (self.durable, self.first) = (content.durable, content.next_block);
                replay_from = content.replay_from;
            }
        }
        replay_from
    }

    pub(super) fn compare(&mut self) {
        for (&number, block) in self.blocks.range(self.first..) {
            let file = self.journal.get(&block.sequence);
            let there = file.and_then(|bytes| bytes.get(block.at..block.at + block.bytes.len()));
            if there == Some(&block.bytes[..]) {
                continue;
            }
            let its = identity(block.sequence);
            let found = file.map(|bytes| read_block(bytes, block.at, its));
            let has_table = matches!(found, Some(Found::Block(it)) if it.head.number == number);
            if number > self.witness(block, has_table) {
                self.torn_from = number;
                let rest = file.and_then(|bytes| bytes.get(block.at..)).unwrap_or_default();
                self.is_end_left = rest.iter().any(|&byte| byte != 0);
                return;
            }
            self.broken.insert(number);
            // One that has come to a place before its own may be read there.
            let elsewhere =
                file.and_then(|bytes| next_block(bytes, FILE_HEAD_BYTES, its, number - 1));
            if !has_table && elsewhere.is_none_or(|(_, it)| it.head.number != number) {
                self.missing.push(number);
            }
        }
    }

    /// Number of the last block that anything behind this one says is synced.
    pub(super) fn witness(&self, block: &Written, has_table: bool) -> u64 {
        let behind = if has_table { block.at + block.bytes.len() } else { block.at };
        let said = self.journal.range(block.sequence..).filter_map(|(&sequence, bytes)| {
            let from = if sequence == block.sequence { behind } else { FILE_HEAD_BYTES };
            scan_witness(bytes, from, identity(sequence))
        });
        said.max().unwrap_or(0).max(self.durable)
    }

    /// Whether the record may be cut off with a torn end.
    pub(super) fn may_cut(&self, log: u64, offset: u64) -> bool {
        self.blocks.range(self.torn_from..).any(|(_, block)| block.holds(log, offset))
    }

    /// The same of a settlement.
    pub(super) fn may_cut_settled(&self, log: u64, offset: u64) -> bool {
        self.blocks.range(self.torn_from..).any(|(_, block)| block.settles(log, offset))
    }

    pub(super) fn may_cut_put(&self, key: &str) -> bool {
        self.blocks.range(self.torn_from..).any(|(_, block)| block.puts(key))
    }

    /// Whether a needed block that is there as written, in its place, holds the record.
    pub(super) fn has_whole(&self, log: u64, offset: u64) -> bool {
        let mut needed = self.blocks.range(self.first..).filter(|(at, _)| **at < self.torn_from);
        needed.any(|(at, block)| !self.broken.contains(at) && block.holds(log, offset))
    }
}

pub(super) fn number_in(path: &str, before: &str, behind: &str) -> Option<u64> {
    let hex = path.strip_prefix(before)?.strip_suffix(behind)?;
    u64::from_str_radix(hex, 16).ok()
}
