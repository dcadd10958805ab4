//! One simulated file without its name: what programs see, what is on disk, and
//! which sectors are on the way.

use std::sync::Arc;

use super::Seeded;
use super::contents::{Contents, PAGE_BYTES, Page, Sectors, touched};

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// What programs see.
    pub(super) current: Contents,
    /// What is on disk for certain.
    pub(super) durable: Contents,
    /// Sectors that were written and not synced.
    pub(super) dirty: Sectors,
    /// Write-backs that failed.
    pub(super) errors: u64,
    /// Open handles.
    pub(super) handles: usize,
    /// It was allocated up to there, and not written since up to its end and beyond.
    pub(super) allocated: Option<u64>,
}

/// What a sync that has begun will bring to disk.
pub(super) struct SyncPart {
    pages: Vec<(u64, u8, Option<Arc<Page>>)>,
    len: u64,
    /// A whole sync brings the length with it also when the file became shorter.
    is_whole: bool,
}

impl Node {
    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        self.current.write(bytes, position);
        for (page, mask) in touched(position, bytes.len()) {
            *self.dirty.entry(page).or_default() |= mask;
        }
    }

    /// The cache has the bytes, the disk never gets them.
    pub(super) fn write_lost(&mut self, bytes: &[u8], position: u64) {
        self.current.write(bytes, position);
        self.clean(touched(position, bytes.len()));
        let end = position + bytes.len() as u64;
        self.durable.set_len(self.durable.len().max(end));
    }

    /// The cache has the bytes where they belong, the disk elsewhere.
    pub(super) fn write_misplaced(&mut self, bytes: &[u8], position: u64, by: i64) {
        self.write_lost(bytes, position);
        let (elsewhere, len) = (position.saturating_add_signed(by), self.durable.len());
        let there = len.saturating_sub(elsewhere).min(bytes.len() as u64) as usize;
        self.durable.write(&bytes[..there], elsewhere);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let old = self.current.len();
        self.current.set_len(len);
        if len < old {
            // What is cut off still lies on disk until the next sync.
            for (page, mask) in touched(len, (old - len) as usize) {
                *self.dirty.entry(page).or_default() |= mask;
            }
        }
    }

    /// Bytes change under everybody's hands.
    pub(super) fn damage(&mut self, bytes: &[u8], position: u64) {
        self.current.write(bytes, position);
        self.durable.write(bytes, position);
    }

    /// Starts a sync: of all, or of a part just written.
    pub(super) fn begin_sync(&self, part: Option<(u64, usize)>) -> SyncPart {
        let page = |(page, mask)| (page, mask, self.current.page(page).cloned());
        match part {
            None => SyncPart {
                pages: self.dirty.iter().map(|(&number, &mask)| page((number, mask))).collect(),
                len: self.current.len(),
                is_whole: true,
            },
            Some((position, len)) => SyncPart {
                // What was lost on the way is no longer dirty.
                pages: touched(position, len)
                    .map(|(number, mask)| (number, mask & self.dirty.get(&number).unwrap_or(&0)))
                    .map(page)
                    .collect(),
                len: position + len as u64,
                is_whole: false,
            },
        }
    }

    /// The disk is done. What was written meanwhile stays unsynced.
    pub(super) fn end_sync(&mut self, part: &SyncPart) {
        let len = if part.is_whole { part.len } else { part.len.max(self.durable.len()) };
        self.durable.set_len(len);
        self.allocated = self.allocated.filter(|&allocated| len <= allocated);
        for (page, mask, bytes) in &part.pages {
            self.durable.set_sectors(*page, *mask, bytes.as_ref());
            let same = self.current.same_sectors(*page, bytes.as_ref());
            self.clean([(*page, mask & same)]);
        }
    }

    /// The disk failed. Whatever was on the way counts as clean, and nobody knows
    /// which of it arrived.
    pub(super) fn fail_sync(&mut self, random: &mut Seeded) {
        for (page, mask) in std::mem::take(&mut self.dirty) {
            let arrived = mask & random.number() as u8;
            if page * (PAGE_BYTES as u64) < self.durable.len() {
                self.durable.set_sectors(page, arrived, self.current.page(page));
            }
        }
        self.durable.clear_tail();
        self.errors += 1;
    }

    pub(super) fn forget_cache(&mut self) {
        let mut seen = self.durable.clone();
        seen.set_len(self.current.len());
        for (&page, &mask) in &self.dirty {
            seen.set_sectors(page, mask, self.current.page(page));
        }
        seen.clear_tail();
        self.current = seen;
    }

    fn clean(&mut self, sectors: impl IntoIterator<Item = (u64, u8)>) {
        for (page, mask) in sectors {
            if let Some(dirty) = self.dirty.get_mut(&page) {
                *dirty &= !mask;
                if *dirty == 0 {
                    self.dirty.remove(&page);
                }
            }
        }
    }
}
