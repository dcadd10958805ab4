//! Going through the journal's files block by block: where they end, and whether
//! that is an end, a torn one or damage.

use std::ops::Range;

use bytes::Bytes;

use super::replay::Replay;
use super::report::{Damage, RecoveryReport, Torn};
use crate::format::{
    self, BadBlock, BadPart, Block, CheckpointContent, FILE_HEAD_BYTES, Found, Identity,
};
use crate::sabotage::{Guard, is_out};
use crate::writer;

/// A journal file in memory.
pub(super) struct Loaded {
    pub(super) sequence: u64,
    pub(super) path: String,
    pub(super) bytes: Bytes,
    /// Number of its first block and the chain's CRC before it.
    pub(super) first_block: u64,
    pub(super) chain_crc: u32,
}

/// Where the walk is.
struct Walk<'a> {
    files: &'a mut [Loaded],
    tag: u32,
    /// Largest block number that the checkpoint says is synced.
    durable: u64,
    file: usize,
    at: usize,
    /// Number of the block that must come next, and the CRC it must name.
    number: u64,
    chain_crc: u32,
}

/// What to do where no block follows.
enum Break {
    /// Go on with the next file.
    NextFile,
    /// Go on here: something is lost before it.
    Resume(usize, usize, Block),
    /// That was all.
    End,
}

/// Replays the files. Returns the next block's number and the CRC it must name.
pub(super) fn replay(
    files: &mut [Loaded],
    content: &CheckpointContent,
    store_id: u128,
    replay: &mut Replay,
    report: &mut RecoveryReport,
) -> (u64, u32) {
    let mut walk = Walk {
        files,
        tag: writer::tag(store_id),
        durable: content.durable,
        file: 0,
        at: FILE_HEAD_BYTES,
        number: content.next_block,
        chain_crc: content.chain_crc,
    };
    if let Some(first) = walk.files.first_mut() {
        (first.first_block, first.chain_crc) = (walk.number, walk.chain_crc);
    }
    while walk.file < walk.files.len() {
        let found = walk.block_at(walk.file, walk.at);
        let found = match found {
            Found::Block(block) if walk.is_next(&block) => {
                if !walk.take(&block, replay, report) {
                    break;
                }
                continue;
            }
            found => found,
        };
        match walk.on_break(&found, replay, report) {
            Break::NextFile => {
                (walk.file, walk.at) = (walk.file + 1, FILE_HEAD_BYTES);
                if let Some(next) = walk.files.get_mut(walk.file) {
                    (next.first_block, next.chain_crc) = (walk.number, walk.chain_crc);
                }
            }
            Break::Resume(file, at, block) => {
                (walk.number, walk.chain_crc) = (block.head.number, block.head.previous_crc);
                for between in &mut walk.files[walk.file + 1..=file] {
                    (between.first_block, between.chain_crc) = (walk.number, walk.chain_crc);
                }
                (walk.file, walk.at) = (file, at);
            }
            Break::End => break,
        }
    }
    (walk.number, walk.chain_crc)
}

/// Which bytes of a file hold blocks that nothing says were synced: those that the
/// operating system may show and the disk not have.
pub(super) fn unsure(file: &Loaded, store_id: u128, synced: u64) -> Option<Range<usize>> {
    let identity = Identity { store_tag: writer::tag(store_id), file_sequence: file.sequence };
    let (from, _) = format::next_block(&file.bytes, FILE_HEAD_BYTES, identity, synced)?;
    let end = file.bytes.iter().rposition(|&byte| byte != 0)? + 1;
    (from < end).then_some(from..end)
}

/// Number of the last block that anything says was synced.
pub(super) fn synced(files: &[Loaded], content: &CheckpointContent, store_id: u128) -> u64 {
    let tag = writer::tag(store_id);
    let of_file = |file: &Loaded| {
        let identity = Identity { store_tag: tag, file_sequence: file.sequence };
        format::scan_witness(&file.bytes, FILE_HEAD_BYTES, identity)
    };
    files.iter().filter_map(of_file).fold(content.durable, u64::max)
}

impl Walk<'_> {
    fn identity(&self, file: usize) -> Identity {
        Identity { store_tag: self.tag, file_sequence: self.files[file].sequence }
    }

    fn block_at(&self, file: usize, at: usize) -> Found {
        format::read_block(&self.files[file].bytes, at, self.identity(file))
    }

    fn is_next(&self, block: &Block) -> bool {
        block.head.number == self.number && block.head.previous_crc == self.chain_crc
    }

    /// Replays the block at hand. False when it is the torn end.
    fn take(&mut self, block: &Block, replay: &mut Replay, report: &mut RecoveryReport) -> bool {
        let file = &self.files[self.file];
        let bytes = file.bytes.slice(self.at..(self.at + block.len).min(file.bytes.len()));
        let is_sound = block.entries.iter().all(|entry| entry.body_is_sound(&bytes));
        if !is_sound && self.number > self.witness(self.at + block.len) {
            self.note_torn(true, report);
            return false;
        }
        replay.block(block, &bytes, (file, self.at), report);
        self.at += block.len;
        self.number += 1;
        self.chain_crc = block.header_crc;
        report.blocks += 1;
        true
    }

    /// No block of the chain is here: an end, a torn one, or damage.
    fn on_break(&self, found: &Found, replay: &mut Replay, report: &mut RecoveryReport) -> Break {
        let file = &self.files[self.file];
        let nothing_behind =
            format::scan_witness(&file.bytes, self.at, self.identity(self.file)).is_none();
        // A recycled file goes on with what it held before, wherever that was cut:
        // only the next file can say that this one ends here.
        if nothing_behind && self.next_file_follows() {
            return Break::NextFile;
        }
        let witness = self.witness(self.at);
        if self.number > witness {
            let partly = matches!(
                found,
                Found::Block(_)
                    | Found::Bad(BadBlock { what: BadPart::Table | BadPart::Truncated, .. })
            );
            self.note_torn(partly || !nothing_behind, report);
            return Break::End;
        }
        let mut damage = Damage {
            file: file.path.clone(),
            from: self.at as u64,
            to: file.bytes.len() as u64,
            first_block: self.number,
            next_block: witness + 1,
            what: words(found),
            lost: Vec::new(),
        };
        let Some((next, at, block)) = self.next_sound() else {
            // It was synced, and nothing behind it can be read.
            report.damage.push(damage);
            replay.suspect();
            return Break::End;
        };
        if next == self.file {
            damage.to = at as u64;
        }
        damage.next_block = block.head.number;
        report.damage.push(damage);
        replay.suspect();
        Break::Resume(next, at, block)
    }

    /// Whether the next file goes on exactly with the block that must come next.
    fn next_file_follows(&self) -> bool {
        let next = self.file + 1;
        if next >= self.files.len() {
            return false;
        }
        match self.block_at(next, FILE_HEAD_BYTES) {
            Found::Block(block) => self.is_next(&block),
            _ => {
                let bytes = &self.files[next].bytes;
                // Nothing was written to it yet.
                format::scan_witness(bytes, FILE_HEAD_BYTES, self.identity(next)).is_none()
            }
        }
    }

    /// The largest block number that anything from `at` of this file on says is
    /// synced.
    fn witness(&self, at: usize) -> u64 {
        if is_out(Guard::DurableMark) {
            return 0;
        }
        let of_file = |(index, file): (usize, &Loaded)| {
            let from = if index == self.file { at } else { FILE_HEAD_BYTES };
            format::scan_witness(&file.bytes, from, self.identity(index))
        };
        let later = self.files.iter().enumerate().skip(self.file).filter_map(of_file);
        later.fold(self.durable, u64::max)
    }

    /// The first block behind this place that can be read and has a later number.
    fn next_sound(&self) -> Option<(usize, usize, Block)> {
        self.files.iter().enumerate().skip(self.file).find_map(|(index, file)| {
            let from = if index == self.file { self.at } else { FILE_HEAD_BYTES };
            let identity = self.identity(index);
            let (at, block) = format::next_block(&file.bytes, from, identity, self.number)?;
            Some((index, at, block))
        })
    }

    /// Nothing from here on counts. It is a torn end when something of a block is
    /// there; else it may be what a recycled file held before.
    fn note_torn(&self, is_certain: bool, report: &mut RecoveryReport) {
        let file = &self.files[self.file];
        let rest = &file.bytes[self.at.min(file.bytes.len())..];
        let bytes = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1) as u64;
        if bytes > 0 || self.file + 1 < self.files.len() {
            report.torn = Some(Torn {
                file: file.path.clone(),
                sequence: file.sequence,
                at: self.at as u64,
                bytes,
                block: self.number,
                is_certain,
            });
        }
    }
}

fn words(found: &Found) -> String {
    let words = match found {
        Found::End => "no block where one was synced",
        Found::Bad(bad) => match bad.what {
            BadPart::Header => "a block's header is not as it was written",
            BadPart::Stale => "a block of another file where one of this was synced",
            BadPart::Table => "a block's table does not fit its CRC",
            BadPart::Truncated => "the file ends within a block",
        },
        Found::Block(block) => return format!("block {} out of its place", block.head.number),
    };
    words.to_owned()
}
