//! The catalogue in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::store::{Catalogue, Entry, StoreError};

/// Small values by key, and blobs by digest.
#[derive(Debug, Default)]
pub struct MemoryCatalogue {
    entries: BTreeMap<String, Entry>,
    blobs: HashMap<String, Bytes>,
    /// Of the last write.
    revision: u64,
}

impl Catalogue for MemoryCatalogue {
    fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    fn put(&mut self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, StoreError> {
        let actual = self.entries.get(key).map_or(0, |entry| entry.revision);
        if actual != expected {
            return Err(StoreError::Conflict { expected, actual });
        }
        if actual == 0 && value.is_none() {
            return Ok(0);
        }
        self.revision += 1;
        let revision = self.revision;
        match value {
            Some(value) => self.entries.insert(key.to_owned(), Entry { value, revision }),
            None => self.entries.remove(key),
        };
        Ok(revision)
    }

    fn list(&self, prefix: &str) -> Vec<(String, Entry)> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.clone(), entry.clone()))
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
