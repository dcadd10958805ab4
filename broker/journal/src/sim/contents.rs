//! Bytes of a simulated file: pages that are shared between the cache and the
//! disk until one of them changes; zeros that were never anything else take no
//! memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::limits::SECTOR_BYTES;

/// Bytes of a page: eight sectors, one bit each in a mask.
pub(super) const PAGE_BYTES: usize = 8 * SECTOR_BYTES;

pub(super) type Page = [u8; PAGE_BYTES];

/// Sectors, a mask by page. Ordered, so that what is drawn for them does not
/// depend on a hash.
pub(super) type Sectors = BTreeMap<u64, u8>;

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    len: u64,
    pages: HashMap<u64, Arc<Page>>,
}

/// The parts of `position..position + len` by page: page, where in it, where in
/// the whole.
fn parts(position: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = position + done as u64;
        let (page, within) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
        let take = (PAGE_BYTES - within).min(len - done);
        let part = (page, within, done..done + take);
        done += take;
        Some(part)
    })
}

/// The sectors that `position..position + len` touches.
pub(super) fn touched(position: u64, len: usize) -> impl Iterator<Item = (u64, u8)> {
    parts(position, len).map(|(page, within, part)| {
        let (first, last) = (within / SECTOR_BYTES, (within + part.len() - 1) / SECTOR_BYTES);
        (page, (0xff_u8 << first) & (0xff_u8 >> (7 - last)))
    })
}

/// The single sectors in a mask, by number in the file.
pub(super) fn sectors_of(page: u64, mask: u8) -> impl Iterator<Item = u64> {
    (0..8).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| page * 8 + bit)
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes read, fewer only at the end.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let there = self.len.saturating_sub(position).min(buffer.len() as u64) as usize;
        for (page, within, part) in parts(position, there) {
            match self.pages.get(&page) {
                Some(page) => buffer[part.clone()].copy_from_slice(&page[within..][..part.len()]),
                None => buffer[part].fill(0),
            }
        }
        there
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        self.len = self.len.max(position + bytes.len() as u64);
        for (page, within, part) in parts(position, bytes.len()) {
            let bytes = &bytes[part];
            if !self.pages.contains_key(&page) && bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Cuts off, or adds zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = (len / PAGE_BYTES as u64, (len % PAGE_BYTES as u64) as usize);
            self.pages.retain(|&page, _| page < last || page == last && within > 0);
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Zeroes what whole sectors put behind the end.
    pub(super) fn clear_tail(&mut self) {
        let len = self.len;
        self.len = len.next_multiple_of(PAGE_BYTES as u64) + 1;
        self.set_len(len);
    }

    /// The page, `None` when it is all zeros.
    pub(super) fn page(&self, page: u64) -> Option<&Arc<Page>> {
        self.pages.get(&page)
    }

    /// Puts the sectors of `mask` from `new` (`None`: zeros) in the page's place.
    /// The length stays; bytes beyond it are the caller's to avoid.
    pub(super) fn set_sectors(&mut self, page: u64, mask: u8, new: Option<&Arc<Page>>) {
        match (mask, new) {
            (0xff, Some(new)) => {
                self.pages.insert(page, new.clone());
            }
            (0xff, None) => {
                self.pages.remove(&page);
            }
            _ if new.is_none() && !self.pages.contains_key(&page) => {}
            _ => {
                let old = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
                let old = Arc::make_mut(old);
                for sector in 0..8 {
                    let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    match new {
                        _ if mask >> sector & 1 == 0 => {}
                        Some(new) => old[bytes.clone()].copy_from_slice(&new[bytes]),
                        None => old[bytes].fill(0),
                    }
                }
            }
        }
    }

    /// Sectors of the page in which two contents are the same.
    pub(super) fn same_sectors(&self, page: u64, other: Option<&Arc<Page>>) -> u8 {
        const ZEROS: Page = [0; PAGE_BYTES];
        let (mine, other) = match (self.pages.get(&page), other) {
            (None, None) => return 0xff,
            (Some(mine), Some(other)) if Arc::ptr_eq(mine, other) => return 0xff,
            (mine, other) => (mine.map_or(&ZEROS, |page| page), other.map_or(&ZEROS, |page| page)),
        };
        (0..8).fold(0, |mask, sector| {
            let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            mask | u8::from(mine[bytes.clone()] == other[bytes]) << sector
        })
    }

    /// Numbers of the pages that are not all zeros, in order.
    pub(super) fn page_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}
