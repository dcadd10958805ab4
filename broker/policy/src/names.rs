//! Subjects that routers answer with, each kept once: an answer becomes numbers,
//! and a batch lists each of its targets once.

use std::sync::Arc;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_core::name::check_subject;

/// A subject in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameId(u32);

/// The subjects one scratch has met. The hash is seeded at random, so that nobody
/// can choose subjects that collide; nothing hangs on the order.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hasher: RandomState,
    ids: HashTable<NameId>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    /// The batch `target` belongs to.
    stamp: u64,
    /// Index in the list of targets of that batch.
    target: u32,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of `text`, when it was met before.
    pub(crate) fn find(&self, text: &[u8]) -> Option<NameId> {
        let same = |id: &NameId| self.entries[id.0 as usize].text.as_bytes() == text;
        self.ids.find(self.hasher.hash_one(text), same).copied()
    }

    /// The number of `text`, which need not be a valid subject.
    pub(crate) fn intern(&mut self, text: &str) -> NameId {
        if let Some(id) = self.find(text.as_bytes()) {
            return id;
        }
        let id = NameId(self.entries.len() as u32);
        self.entries.push(Entry { text: text.into(), stamp: 0, target: 0 });
        let Self { hasher, ids, entries } = self;
        let rehash = |id: &NameId| hasher.hash_one(entries[id.0 as usize].text.as_bytes());
        ids.insert_unique(hasher.hash_one(text.as_bytes()), id, rehash);
        id
    }

    /// The number as an index into tables beside this one.
    pub(crate) fn index(id: NameId) -> usize {
        id.0 as usize
    }

    pub(crate) fn text(&self, id: NameId) -> &Arc<str> {
        &self.entries[id.0 as usize].text
    }

    /// Index of `id` among the targets of the batch `stamp`, added when missing.
    pub(crate) fn target(&mut self, id: NameId, stamp: u64, targets: &mut Vec<Arc<str>>) -> u32 {
        let entry = &mut self.entries[id.0 as usize];
        if entry.stamp != stamp {
            entry.stamp = stamp;
            entry.target = targets.len() as u32;
            targets.push(entry.text.clone());
        }
        entry.target
    }
}

/// `text` as a subject to send to; what is wrong with it comes back as half a
/// sentence.
pub(crate) fn check_target(text: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(text).map_err(|_| "a target that is not UTF-8".to_owned())?;
    match check_subject(text) {
        Ok(()) => Ok(text),
        Err(error) => Err(format!("the target {:?}, which {error}", crate::text::shown(text))),
    }
}
