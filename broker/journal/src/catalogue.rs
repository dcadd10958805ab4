//! The catalogue: small values by key, kept in the journal, whole in memory; blobs
//! as files by digest. A put returns when it is synced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::store::{Catalogue, Entry, StoreError};

use crate::files;
use crate::format::{EntryKind, named_body};
use crate::limits;
use crate::order::Order;
use crate::shared::Shared;

/// What the catalogue knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogueState {
    /// Every key ever written in the life of the process or kept: last revision, and
    /// its value unless removed.
    pub(crate) entries: BTreeMap<String, (u64, Option<Bytes>)>,
    pub(crate) revision: u64,
}

impl CatalogueState {
    /// Notes what the journal says, in its order.
    pub(crate) fn apply(&mut self, key: &str, value: Option<Bytes>, revision: u64) {
        self.revision = self.revision.max(revision);
        self.entries.insert(key.to_owned(), (revision, value));
    }

    fn get(&self, key: &str) -> Option<Entry> {
        let (revision, value) = self.entries.get(key)?;
        Some(Entry { value: value.clone()?, revision: *revision })
    }
}

/// See the file's head.
pub struct JournalCatalogue {
    shared: Arc<Shared>,
    /// Blobs read lately.
    blobs: HashMap<String, Bytes>,
}

impl JournalCatalogue {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, blobs: HashMap::new() }
    }

    fn blob_path(digest: &str) -> Option<String> {
        let hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| format!("blobs/{digest}"))
    }
}

impl Catalogue for JournalCatalogue {
    fn get(&self, key: &str) -> Option<Entry> {
        Shared::lock(&self.shared.catalogue).get(key)
    }

    fn put(&mut self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, StoreError> {
        let mut state = Shared::lock(&self.shared.catalogue);
        let actual = state.get(key).map_or(0, |entry| entry.revision);
        if actual != expected {
            return Err(StoreError::Conflict { expected, actual });
        }
        if actual == 0 && value.is_none() {
            return Ok(0);
        }
        if value.is_some() && self.shared.has_no_space() || self.shared.is_held() {
            return Err(StoreError::NoSpace);
        }
        let revision = state.revision + 1;
        let (kind, body) = match &value {
            Some(value) => (EntryKind::Put, named_body(key, value)),
            None => (EntryKind::Unput, key.as_bytes().to_vec()),
        };
        let (level, numbers) = (Level::Disk, [revision, 0, 0, 0]);
        let order = Order::Plain { kind, level, log: 0, numbers, body };
        let position = self.shared.hand_over(None, [order], false)?.position;
        self.shared.ring_writer();
        // Nobody sees it before it is safe; whoever captures the state waits.
        self.shared.sync_through_held(position)?;
        state.apply(key, value, revision);
        Ok(revision)
    }

    fn list(&self, prefix: &str) -> Vec<(String, Entry)> {
        let state = Shared::lock(&self.shared.catalogue);
        let from = state.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, (revision, value))| {
                Some((key.clone(), Entry { value: value.clone()?, revision: *revision }))
            })
            .collect()
    }

    fn changes(&self, revision: u64) -> Vec<(String, Option<Entry>)> {
        let state = Shared::lock(&self.shared.catalogue);
        let mut changed: Vec<_> =
            state.entries.iter().filter(|(_, (changed, _))| *changed > revision).collect();
        changed.sort_by_key(|(_, (changed, _))| *changed);
        changed.into_iter().map(|(key, _)| (key.clone(), state.get(key))).collect()
    }

    fn put_blob(&mut self, digest: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.shared.check()?;
        let Some(path) = Self::blob_path(digest) else {
            return Err(StoreError::Fenced("a blob's digest is not 64 hex digits".into()));
        };
        let shared = &self.shared;
        let write = || -> std::io::Result<()> {
            shared.files.make_folder("blobs")?;
            if shared.files.open(&path).is_ok() {
                return Ok(());
            }
            files::put_whole(&*shared.files, "blobs", &path, &bytes)
        };
        match write() {
            Ok(()) => {
                if self.blobs.len() >= limits::BLOBS_CACHED_MAX {
                    self.blobs.clear();
                }
                self.blobs.insert(digest.to_owned(), bytes);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Err(StoreError::NoSpace)
            }
            Err(error) => {
                self.shared.fence(format!("writing {path} failed: {error}"));
                self.shared.check()
            }
        }
    }

    fn blob(&self, digest: &str) -> Option<Bytes> {
        if let Some(bytes) = self.blobs.get(digest) {
            return Some(bytes.clone());
        }
        let file = self.shared.files.open(&Self::blob_path(digest)?).ok()?;
        let len = usize::try_from(file.len().ok()?).ok()?;
        Some(file.read(len.min(limits::BLOB_BYTES_MAX), 0).ok()?.into())
    }
}
