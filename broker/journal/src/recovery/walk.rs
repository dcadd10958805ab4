//! Going through the journal's files block by block: where they end, and whether
//! that is an end, a torn one or damage.

use std::ops::Range;

use bytes::Bytes;

use super::OpenError;
use super::replay::Replay;
use super::report::{Damage, RecoveryReport, Torn};
use super::source::{Source, Sources};
use crate::format::{
    self, BadBlock, BadPart, Block, CheckpointContent, FILE_HEAD_BYTES, Found, Identity,
};
use crate::sabotage::{Guard, is_out};
use crate::writer;

/// Numbers left out behind a loss: more than any file that is put back can hold.
const GAP_BLOCKS: u64 = 1 << 32;

/// Where the journal ends.
pub(super) struct End {
    /// Number of the next block, and the CRC that it must name.
    pub(super) next_block: u64,
    pub(super) chain_crc: u32,
    /// Number of the last block that anything says was synced.
    pub(super) synced: u64,
    /// Whether what lies before the next block is lost.
    pub(super) is_broken: bool,
}

/// Where the walk is.
struct Walk<'a> {
    sources: &'a mut Sources,
    tag: u32,
    /// Largest block number that checkpoint or mark say is synced.
    durable: u64,
    /// The same, with what the blocks met so far say.
    synced: u64,
    file: usize,
    at: usize,
    /// Number of the block that must come next, and the CRC it must name.
    number: u64,
    chain_crc: u32,
    /// Whether what lies just before is lost.
    is_broken: bool,
}

/// What the next file says of the end of the one before.
enum NextFile {
    /// It begins with the block that must come next.
    Follows,
    /// It may, if nothing lies behind in the one before.
    MayFollow,
    DoesNot,
}

/// What to do where no block follows.
enum Break {
    /// Go on with the next file.
    NextFile,
    /// Go on here: something is lost before it.
    Resume(usize, usize, Block),
    /// What follows was synced and cannot be read. Numbers go on behind a gap, so
    /// that it is found again until it is accepted, and can be put back.
    Lost,
    /// That was all.
    End,
}

/// Replays the files.
///
/// # Errors
/// `OpenError::Io`.
pub(super) fn replay(
    sources: &mut Sources,
    content: &CheckpointContent,
    store_id: u128,
    replay: &mut Replay,
    report: &mut RecoveryReport,
) -> Result<End, OpenError> {
    let mut walk = Walk {
        sources,
        tag: writer::tag(store_id),
        durable: content.durable,
        synced: content.durable,
        file: 0,
        at: FILE_HEAD_BYTES,
        number: content.next_block,
        chain_crc: content.chain_crc,
        is_broken: false,
    };
    match walk.sources.files.first_mut() {
        Some(first) => (first.first_block, first.chain_crc) = (walk.number, walk.chain_crc),
        None => walk.miss_all(content.replay_from, replay, report),
    }
    while walk.file < walk.sources.files.len() {
        let found = walk.block_at(walk.file, walk.at)?;
        let found = match found {
            Found::Block(block) if walk.is_next(&block) => {
                if !walk.take(&block, replay, report)? {
                    break;
                }
                continue;
            }
            found => found,
        };
        match walk.on_break(&found, replay, report)? {
            Break::NextFile => {
                (walk.file, walk.at) = (walk.file + 1, FILE_HEAD_BYTES);
                if let Some(next) = walk.sources.files.get_mut(walk.file) {
                    (next.first_block, next.chain_crc) = (walk.number, walk.chain_crc);
                }
            }
            Break::Resume(file, at, block) => {
                (walk.number, walk.chain_crc) = (block.head.number, block.head.previous_crc);
                for between in &mut walk.sources.files[walk.file + 1..=file] {
                    (between.first_block, between.chain_crc) = (walk.number, walk.chain_crc);
                }
                (walk.file, walk.at) = (file, at);
            }
            Break::Lost => {
                walk.leave_gap();
                break;
            }
            Break::End => break,
        }
    }
    let (next_block, chain_crc, synced) = (walk.number, walk.chain_crc, walk.synced);
    Ok(End { next_block, chain_crc, synced, is_broken: walk.is_broken })
}

/// Which bytes of a file hold blocks that nothing says were synced: those that the
/// operating system may show and the disk not have.
pub(super) fn unsure(
    file: &Source,
    bytes: &[u8],
    store_id: u128,
    synced: u64,
) -> Option<Range<usize>> {
    let identity = Identity { store_tag: writer::tag(store_id), file_sequence: file.sequence };
    let (from, _) = format::next_block(bytes, FILE_HEAD_BYTES, identity, synced)?;
    let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    (from < end).then_some(from..end)
}

impl Walk<'_> {
    fn identity(&self, file: usize) -> Identity {
        Identity { store_tag: self.tag, file_sequence: self.sources.files[file].sequence }
    }

    fn bytes(&mut self, file: usize) -> Result<Bytes, OpenError> {
        self.sources.bytes(file)
    }

    fn block_at(&mut self, file: usize, at: usize) -> Result<Found, OpenError> {
        Ok(format::read_block(&self.bytes(file)?, at, self.identity(file)))
    }

    /// What headers from byte `from` of the file on say is synced; `None` when there
    /// are none.
    fn witness_of(&mut self, file: usize, from: usize) -> Result<Option<u64>, OpenError> {
        Ok(format::scan_witness(&self.bytes(file)?, from, self.identity(file)))
    }

    fn is_next(&self, block: &Block) -> bool {
        let head = &block.head;
        // The first one behind a loss names none before it. It follows where all that
        // was known to be lost then is there again.
        let is_restored = head.previous_crc == 0
            && head.number > self.number
            && head.durable > 0
            && self.number > head.durable;
        self.follows(block) || is_restored
    }

    /// Whether it is the very next of the chain.
    fn follows(&self, block: &Block) -> bool {
        block.head.number == self.number && block.head.previous_crc == self.chain_crc
    }

    /// There is no file, and something says that there was one.
    fn miss_all(&mut self, sequence: u64, replay: &mut Replay, report: &mut RecoveryReport) {
        if self.number > self.durable || is_out(Guard::DurableMark) {
            return;
        }
        replay.suspect(u64::MAX, report.damage.len());
        report.damage.push(Damage {
            file: writer::path(sequence),
            from: 0,
            to: 0,
            first_block: self.number,
            next_block: self.behind_gap(),
            what: "the file is missing".to_owned(),
            lost: Vec::new(),
        });
        self.leave_gap();
    }

    fn behind_gap(&self) -> u64 {
        self.number.max(self.synced) + GAP_BLOCKS
    }

    /// The next block begins another chain, behind all that may be put back.
    fn leave_gap(&mut self) {
        (self.number, self.chain_crc) = (self.behind_gap(), 0);
        self.is_broken = true;
        let behind = (self.file + 1).min(self.sources.files.len());
        for file in &mut self.sources.files[behind..] {
            (file.first_block, file.chain_crc) = (self.number, 0);
        }
    }

    /// Replays the block at hand. False when it is the torn end.
    fn take(
        &mut self,
        block: &Block,
        replay: &mut Replay,
        report: &mut RecoveryReport,
    ) -> Result<bool, OpenError> {
        let bytes = self.bytes(self.file)?;
        let bytes = bytes.slice(self.at..(self.at + block.len).min(bytes.len()));
        let is_sound = block.entries.iter().all(|entry| entry.body_is_sound(&bytes));
        if !is_sound && self.number > self.witness(self.at + block.len)? {
            self.note_torn(true, report)?;
            return Ok(false);
        }
        replay.block(block, &bytes, (&self.sources.files[self.file], self.at), report);
        self.at += block.len;
        self.number = block.head.number + 1;
        self.is_broken = false;
        self.chain_crc = block.header_crc;
        self.synced = self.synced.max(block.head.durable);
        report.blocks += 1;
        Ok(true)
    }

    /// No block of the chain is here: an end, a torn one, or damage.
    fn on_break(
        &mut self,
        found: &Found,
        replay: &mut Replay,
        report: &mut RecoveryReport,
    ) -> Result<Break, OpenError> {
        let nothing_behind = self.witness_of(self.file, self.at)?.is_none();
        // A recycled file goes on with what it held before, wherever that was cut:
        // only the next file can say that this one ends here. What a disk has written to
        // a wrong place behind the end does not say that it goes on.
        match self.next_file()? {
            NextFile::Follows => return Ok(Break::NextFile),
            NextFile::MayFollow if nothing_behind => return Ok(Break::NextFile),
            NextFile::MayFollow | NextFile::DoesNot => {}
        }
        let witness = self.witness(self.at)?;
        if self.number > witness {
            let partly = matches!(
                found,
                Found::Block(_)
                    | Found::Bad(BadBlock { what: BadPart::Table | BadPart::Truncated, .. })
            );
            self.note_torn(partly || !nothing_behind, report)?;
            return Ok(Break::End);
        }
        self.synced = self.synced.max(witness);
        let len = self.bytes(self.file)?.len() as u64;
        let mut damage = Damage {
            file: self.sources.files[self.file].path.clone(),
            from: self.at as u64,
            to: len.max(self.at as u64),
            first_block: self.number,
            next_block: self.behind_gap(),
            what: words(found),
            lost: Vec::new(),
        };
        let next = self.next_sound()?;
        if let Some((file, at, block)) = &next {
            if *file == self.file {
                damage.to = *at as u64;
            }
            damage.next_block = block.head.number;
        }
        // Where nothing is sound behind it nothing tells how many blocks are missing: more
        // may have been synced than the witness knows of.
        let last_block = next.as_ref().map_or(u64::MAX, |(.., block)| block.head.number - 1);
        replay.suspect(last_block, report.damage.len());
        report.damage.push(damage);
        Ok(match next {
            Some((file, at, block)) => Break::Resume(file, at, block),
            // It was synced, and nothing behind it can be read.
            None => Break::Lost,
        })
    }

    /// What the next file with anything in it says of the end of this one.
    fn next_file(&mut self) -> Result<NextFile, OpenError> {
        let files = self.sources.files.len();
        for next in self.file + 1..files {
            if let Found::Block(block) = self.block_at(next, FILE_HEAD_BYTES)? {
                return Ok(match self.is_next(&block) {
                    true if self.follows(&block) => NextFile::Follows,
                    true => NextFile::MayFollow,
                    false => NextFile::DoesNot,
                });
            }
            if self.witness_of(next, FILE_HEAD_BYTES)?.is_some() {
                return Ok(NextFile::DoesNot);
            }
            // Nothing was written to it.
        }
        let is_beyond = self.number > self.durable || is_out(Guard::DurableMark);
        let may_follow = self.file + 1 < files && is_beyond;
        Ok(if may_follow { NextFile::MayFollow } else { NextFile::DoesNot })
    }

    /// The largest block number that anything from `at` of this file on, or before, says
    /// is synced.
    fn witness(&mut self, at: usize) -> Result<u64, OpenError> {
        if is_out(Guard::DurableMark) {
            return Ok(0);
        }
        // What was met counts wherever it lay: the walk may have gone on before it.
        let mut witness = self.durable.max(self.synced);
        for file in self.file..self.sources.files.len() {
            let from = if file == self.file { at } else { FILE_HEAD_BYTES };
            witness = witness.max(self.witness_of(file, from)?.unwrap_or(0));
        }
        Ok(witness)
    }

    /// The block behind this place, in the first file that has one, that can be read and
    /// has the least of the later numbers: one with a greater number that lies before it
    /// was written to a wrong place.
    fn next_sound(&mut self) -> Result<Option<(usize, usize, Block)>, OpenError> {
        for file in self.file..self.sources.files.len() {
            let mut from = if file == self.file { self.at } else { FILE_HEAD_BYTES };
            let identity = self.identity(file);
            let bytes = self.bytes(file)?;
            let mut least: Option<(usize, Block)> = None;
            while let Some((at, block)) = format::next_block(&bytes, from, identity, self.number) {
                from = at + block.len;
                let number = block.head.number;
                if least.as_ref().is_none_or(|(_, least)| number < least.head.number) {
                    least = Some((at, block));
                }
                if number == self.number + 1 {
                    break;
                }
            }
            if let Some((at, block)) = least {
                return Ok(Some((file, at, block)));
            }
        }
        Ok(None)
    }

    /// Nothing from here on counts. It is a torn end when something of a block is
    /// there; else it may be what a recycled file held before.
    fn note_torn(
        &mut self,
        is_certain: bool,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let file = self.bytes(self.file)?;
        let rest = &file[self.at.min(file.len())..];
        let bytes = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1) as u64;
        let files = &self.sources.files;
        if bytes > 0 || self.file + 1 < files.len() {
            report.torn = Some(Torn {
                file: files[self.file].path.clone(),
                sequence: files[self.file].sequence,
                at: self.at as u64,
                bytes,
                block: self.number,
                is_certain,
            });
        }
        Ok(())
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
