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
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) revision: u64,
    /// Position of a put that is handed over and not in here yet; 0: there is none.
    pub(crate) on_its_way: u64,
}

impl CatalogueState {
    /// Notes what the journal says, in its order.
    pub(crate) fn apply(&mut self, key: &str, value: Option<Bytes>, revision: u64) {
        self.revision = self.revision.max(revision);
        match value {
            Some(value) => self.entries.insert(key.to_owned(), Entry { value, revision }),
            None => self.entries.remove(key),
        };
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
        Shared::lock(&self.shared.catalogue).entries.get(key).cloned()
    }

    fn put(&mut self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, StoreError> {
        let mut state = Shared::lock(&self.shared.catalogue);
        assert!(state.on_its_way == 0, "there is one catalogue, which puts one by one");
        let actual = state.entries.get(key).map_or(0, |entry| entry.revision);
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
        state.on_its_way = position;
        drop(state);
        self.shared.ring_writer();
        // Nobody sees it before it is safe. Not under the lock: it may wait for room, which
        // the keeper makes, and that wants to know the state.
        let synced = self.shared.sync_through_held(position);
        let mut state = Shared::lock(&self.shared.catalogue);
        state.on_its_way = 0;
        synced?;
        state.apply(key, value, revision);
        Ok(revision)
    }

    fn list(&self, prefix: &str) -> Vec<(String, Entry)> {
        let state = Shared::lock(&self.shared.catalogue);
        let from = state.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }

    fn put_blob(&mut self, digest: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.shared.check()?;
        let Some(path) = Self::blob_path(digest) else {
            return Err(StoreError::Fenced("a blob's digest is not 64 hex digits".into()));
        };
        let shared = &self.shared;
        let write = || -> std::io::Result<()> {
            shared.files.make_folder("blobs")?;
            // One that is not as it was is replaced: it would be of no use at the next start.
            let is_it = |file: Arc<dyn files::File>| {
                file.read(bytes.len() + 1, 0).is_ok_and(|there| there[..] == bytes[..])
            };
            if shared.files.open(&path).is_ok_and(is_it) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;
    use crate::keeper::Rest;
    use crate::rest::{KeeperNews, Link};
    use crate::sim::SimFiles;
    use crate::{Journal, JournalConfig};

    /// Longest wait for a thread.
    const LONGEST: Duration = Duration::from_secs(60);
    /// A block of little, bytes, with the sector that is kept free behind it.
    const BLOCK_BYTES: u64 = 1_024;

    struct Still;

    impl weir_core::env::Clock for Still {
        fn now(&self) -> weir_core::env::Now {
            weir_core::env::Now::default()
        }
    }

    #[test]
    fn a_blob_that_is_damaged_is_put_anew() {
        let files = SimFiles::new(1);
        let disk = Arc::new(files.clone());
        let config = JournalConfig { journal_file_bytes: 16 << 10, ..JournalConfig::new(7) };
        let journal = Journal::open_stepped(disk, Arc::new(Still), config, 1).unwrap();
        let (digest, bytes) = ("0123456789abcdef".repeat(4), Bytes::from_static(b"component"));
        let path = format!("blobs/{digest}");
        for damage in ["", "compOnent"] {
            if !damage.is_empty() {
                files.damage(&path, damage.as_bytes(), 0);
            }
            journal.catalogue().put_blob(&digest, bytes.clone()).unwrap();
            assert_eq!(journal.catalogue().blob(&digest), Some(bytes.clone()), "{damage:?}");
        }
    }

    /// The keeper makes the room that the put waits for, and would wait for the put.
    #[test]
    fn a_checkpoint_does_not_wait_for_a_put_that_waits_for_room() {
        let mut config = JournalConfig::new(7);
        (config.free_bytes_min, config.free_percent_min) = (0, 0);
        config.journal_file_bytes = 16 << 10;
        let file_bytes = config.journal_file_bytes;
        let files = SimFiles::new(1);
        let disk = Arc::new(files.clone());
        let journal = Journal::open_stepped(disk, Arc::new(Still), config, 1).unwrap();
        let mut catalogue = journal.catalogue();
        let revision = catalogue.put("key", Some(Bytes::from_static(b"value")), 0).unwrap();
        // No room for another file, and none in this one for another block.
        files.set_room(files.used_bytes());
        let at = || limits::FILE_HEAD_BYTES as u64 + journal.figures().bytes;
        while at() + BLOCK_BYTES <= file_bytes {
            let (kind, level, numbers) = (EntryKind::Snapshot, Level::Os, [0; 4]);
            let order = Order::Plain { kind, level, log: 0, numbers, body: named_body("s", b"") };
            journal.hand_over([order]).unwrap();
        }
        assert!(!journal.shared.is_held());
        // As with a thread: a put then waits. The thread is this one.
        journal.shared.has_thread_now();
        let write = || {
            let _more = journal.step_writer();
        };
        let link = Link::new(journal.shared.clone(), Arc::new(KeeperNews::default()));
        let (tell, told) = sync_channel(1);
        std::thread::scope(|scope| {
            let put = scope.spawn(|| catalogue.put("key", None, revision));
            while !journal.shared.is_held() {
                write();
            }
            scope.spawn(move || drop(tell.send(link.capture_rest(1).catalogue)));
            let captured = told.recv_timeout(LONGEST);
            files.set_room(1 << 30);
            while !put.is_finished() {
                write();
            }
            let value = Bytes::from_static(b"value");
            assert_eq!(captured, Ok(vec![("key".to_owned(), revision, value)]));
            assert_eq!(put.join().unwrap(), Ok(revision + 1));
        });
        assert_eq!(catalogue.get("key"), None);
    }
}
