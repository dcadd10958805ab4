//! Things that are numbered in the order they come, each under its number for as long as it
//! is there.
//!
//! For what comes and goes for ever: a number is never used again, so whoever still has that
//! of something gone finds nothing, and never another thing; and what is gone takes no
//! memory. Invariant: a page without an entry is given back, but for the last.

/// Entries of a page: few, so that one that stays keeps little room for those that went.
const PAGE_ENTRIES: usize = 16;

/// See the file's head.
#[derive(Debug)]
pub struct Numbered<T> {
    pages: Vec<Option<Box<Page<T>>>>,
}

#[derive(Debug)]
struct Page<T> {
    entries: [Option<T>; PAGE_ENTRIES],
    held: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Numbered<T> {
    /// Puts an entry under its number, in place of one that is there.
    pub fn put(&mut self, number: u32, entry: T) {
        let at = number as usize / PAGE_ENTRIES;
        if at >= self.pages.len() {
            // The last one so far was kept, whatever it held.
            if let Some(last) = self.pages.last_mut() {
                last.take_if(|page| page.held == 0);
            }
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| {
            Box::new(Page { entries: std::array::from_fn(|_| None), held: 0 })
        });
        let place = &mut page.entries[number as usize % PAGE_ENTRIES];
        page.held += usize::from(place.replace(entry).is_none());
    }

    /// The entry of that number, if it is there.
    #[must_use]
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let page = self.pages.get(number as usize / PAGE_ENTRIES)?.as_ref()?;
        page.entries[number as usize % PAGE_ENTRIES].as_ref()
    }

    /// The entry of that number, if it is there.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(number as usize / PAGE_ENTRIES)?.as_mut()?;
        page.entries[number as usize % PAGE_ENTRIES].as_mut()
    }

    /// Takes the entry of that number out, if it is there.
    pub fn take(&mut self, number: u32) -> Option<T> {
        let at = number as usize / PAGE_ENTRIES;
        let is_last = at + 1 == self.pages.len();
        let place = self.pages.get_mut(at)?;
        let page = place.as_mut()?;
        let entry = page.entries[number as usize % PAGE_ENTRIES].take()?;
        page.held -= 1;
        if page.held == 0 && !is_last {
            *place = None;
        }
        Some(entry)
    }

    /// All that are there, by number.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().flat_map(|page| page.entries.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn pages(numbered: &Numbered<u32>) -> usize {
        numbered.pages.iter().flatten().count()
    }

    proptest! {
        /// Beside a map: what is there is found, in order, and no page is kept for nothing.
        #[test]
        fn what_is_there_is_found_and_nothing_else(
            steps in prop::collection::vec((0_u32..200, any::<bool>()), 0..400),
        ) {
            let (mut numbered, mut map) = (Numbered::default(), BTreeMap::new());
            for (step, (number, is_put)) in (0..).zip(steps) {
                if is_put {
                    numbered.put(number, step);
                    map.insert(number, step);
                } else {
                    prop_assert_eq!(numbered.take(number), map.remove(&number));
                }
                prop_assert_eq!(numbered.get(number), map.get(&number));
                prop_assert_eq!(numbered.get_mut(number).copied(), map.get(&number).copied());
            }
            prop_assert!(numbered.iter().eq(map.values()));
            let held: std::collections::BTreeSet<_> =
                map.keys().map(|number| *number as usize / PAGE_ENTRIES).collect();
            prop_assert!(pages(&numbered) <= held.len() + 1);
        }
    }

    #[test]
    fn what_comes_and_goes_takes_no_memory() {
        let mut numbered = Numbered::default();
        numbered.put(0, 0);
        for number in 1..1_000 {
            numbered.put(number, number);
            assert_eq!(numbered.take(number), Some(number));
            assert!(pages(&numbered) <= 2, "the one that stays, and the last");
        }
        assert_eq!(numbered.get(999), None);
        assert!(numbered.iter().eq(&[0]));
    }
}
