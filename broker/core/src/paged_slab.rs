//! A slab that grows by a page: what is in a full page never moves.
//!
//! For what there may be a million of. A slab in one piece doubles, which copies all of
//! it while everybody waits, and leaves a hole in memory as large as it was. Keys are
//! dense, and used again like those of a slab. Invariant: `with_room` names each page that
//! has a vacant place once, and the page that is filled next last.

use std::ops::{Index, IndexMut};

use slab::Slab;

/// Entries of a page. The first grows up to them, so that a few take little.
const PAGE_ENTRIES: usize = 1_024;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct PagedSlab<T> {
    pages: Vec<Slab<T>>,
    with_room: Vec<u32>,
    len: usize,
}

impl<T> Default for PagedSlab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), with_room: Vec::new(), len: 0 }
    }
}

impl<T> PagedSlab<T> {
    /// Entries in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn contains(&self, key: usize) -> bool {
        let page = self.pages.get(key / PAGE_ENTRIES);
        page.is_some_and(|page| page.contains(key % PAGE_ENTRIES))
    }

    /// The key that the next entry gets.
    pub(crate) fn vacant_key(&self) -> usize {
        match self.with_room.last() {
            Some(&page) => {
                let page = page as usize;
                page * PAGE_ENTRIES + self.pages[page].vacant_key()
            }
            None => self.pages.len() * PAGE_ENTRIES,
        }
    }

    /// Adds an entry. Returns its key.
    pub(crate) fn insert(&mut self, entry: T) -> usize {
        let at = match self.with_room.last() {
            Some(&page) => page as usize,
            None => self.add_page(),
        };
        let page = &mut self.pages[at];
        let key = at * PAGE_ENTRIES + page.insert(entry);
        if page.len() == PAGE_ENTRIES {
            self.with_room.pop();
        }
        self.len += 1;
        key
    }

    /// Takes an entry out.
    ///
    /// # Panics
    /// When there is none of that key.
    pub(crate) fn remove(&mut self, key: usize) -> T {
        let at = key / PAGE_ENTRIES;
        let page = &mut self.pages[at];
        let entry = page.remove(key % PAGE_ENTRIES);
        if page.len() + 1 == PAGE_ENTRIES {
            self.with_room.push(at as u32);
        }
        if page.is_empty() {
            *page = Slab::new();
        }
        self.len -= 1;
        entry
    }

    fn add_page(&mut self) -> usize {
        let entries = if self.pages.is_empty() { 0 } else { PAGE_ENTRIES };
        self.pages.push(Slab::with_capacity(entries));
        let page = self.pages.len() - 1;
        self.with_room.push(u32::try_from(page).expect("fewer than 2^32 pages"));
        page
    }
}

impl<T> Index<usize> for PagedSlab<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        &self.pages[key / PAGE_ENTRIES][key % PAGE_ENTRIES]
    }
}

impl<T> IndexMut<usize> for PagedSlab<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        &mut self.pages[key / PAGE_ENTRIES][key % PAGE_ENTRIES]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Adds and takes out, mostly one or the other for a while, so that pages fill and
        /// empty: always what a map by key says.
        #[test]
        fn it_is_a_map_whose_keys_it_chooses(
            phases in prop::collection::vec((any::<u64>(), 1_usize..3_000, 1_u64..8), 1..5),
        ) {
            let (mut slab, mut model) = (PagedSlab::default(), HashMap::new());
            let (mut made, mut most) = (0_u64, 0);
            let mut keys: Vec<usize> = Vec::new();
            for (mut random, steps, adds) in phases {
                for _ in 0..steps {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let draw = random >> 33;
                    if draw % 8 < adds || keys.is_empty() {
                        let vacant = slab.vacant_key();
                        prop_assert!(!slab.contains(vacant));
                        prop_assert_eq!(slab.insert(made), vacant);
                        prop_assert_eq!(model.insert(vacant, made), None, "a key is given once");
                        keys.push(vacant);
                        made += 1;
                    } else {
                        let key = keys.swap_remove(draw as usize % keys.len());
                        prop_assert_eq!(Some(slab.remove(key)), model.remove(&key));
                        prop_assert!(!slab.contains(key));
                    }
                    prop_assert_eq!((slab.len(), slab.is_empty()), (model.len(), model.is_empty()));
                    most = most.max(model.len());
                }
                for (key, value) in &mut model {
                    prop_assert_eq!(slab[*key], *value);
                    slab[*key] += 1_000_000;
                    *value += 1_000_000;
                }
            }
            prop_assert_eq!(slab.pages.len(), most.div_ceil(PAGE_ENTRIES), "no place is lost");
        }
    }

    #[test]
    fn what_is_in_it_never_moves_once_its_page_is_full() {
        let mut slab = PagedSlab::default();
        (0..PAGE_ENTRIES).for_each(|entry| assert_eq!(slab.insert(entry), entry));
        let first = &raw const slab[0];
        (0..100 * PAGE_ENTRIES).map(|entry| slab.insert(entry)).for_each(|key| assert!(key > 0));
        assert_eq!(first, &raw const slab[0]);
    }
}
