//! The catalogue in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::store::{Catalogue, Entry, StoreError};

/// Small values by key, and blobs by digest. A removed key stays known by its
/// last revision, so that whoever watches hears of the removal.
#[derive(Debug, Default)]
pub struct MemoryCatalogue {
    /// Every key ever written: last revision, and its value unless removed.
    entries: BTreeMap<String, (u64, Option<Bytes>)>,
    /// The key whose last change has this revision.
    by_revision: BTreeMap<u64, String>,
    blobs: HashMap<String, Bytes>,
    revision: u64,
}

impl Catalogue for MemoryCatalogue {
    fn get(&self, key: &str) -> Option<Entry> {
        let (revision, value) = self.entries.get(key)?;
        Some(Entry { value: value.clone()?, revision: *revision })
    }

    fn put(&mut self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, StoreError> {
        let actual = self.get(key).map_or(0, |entry| entry.revision);
        if actual != expected {
            return Err(StoreError::Conflict { expected, actual });
        }
        if actual == 0 && value.is_none() {
            return Ok(0);
        }
        self.revision += 1;
        if let Some((old, _)) = self.entries.insert(key.to_owned(), (self.revision, value)) {
            self.by_revision.remove(&old);
        }
        self.by_revision.insert(self.revision, key.to_owned());
        Ok(self.revision)
    }

    fn list(&self, prefix: &str) -> Vec<(String, Entry)> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, (revision, value))| {
                Some((key.clone(), Entry { value: value.clone()?, revision: *revision }))
            })
            .collect()
    }

    fn changes(&self, revision: u64) -> Vec<(String, Option<Entry>)> {
        self.by_revision
            .range(revision.saturating_add(1)..)
            .map(|(_, key)| (key.clone(), self.get(key)))
            .collect()
    }

    fn put_blob(&mut self, digest: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.blobs.insert(digest.to_owned(), bytes);
        Ok(())
    }

    fn blob(&self, digest: &str) -> Option<Bytes> {
        self.blobs.get(digest).cloned()
    }
}
