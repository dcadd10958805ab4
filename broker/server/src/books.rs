//! The catalogue as tasks use it: whoever changes it has its turn, and a change is
//! waited for on a thread that may wait, so that a slow disk holds nobody else.
//!
//! Invariants: what a turn has put is safe when `put` returns; after a failure of
//! the store nothing returns any more, so that nobody is told what may not be true.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{error, warn};
use weir_core::store::{Catalogue, StoreError};
use weir_policy::archive::Archive;
use weir_protocol::{ErrorCode, WireError};

use crate::kept::Kept;
use crate::limits::LIST_AGAIN_MS;
use crate::room::Room;

/// Told once when the store has failed: nothing may be acknowledged from then on.
pub type OnFault = Arc<dyn Fn(&StoreError) + Send + Sync>;

type Shelf = Arc<Mutex<Box<dyn Catalogue>>>;

/// The catalogue as the policies' loader uses it, on a thread that may wait.
pub struct PolicyArchive {
    shelf: Shelf,
    on_fault: OnFault,
}

impl Archive for PolicyArchive {
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let found = open(&self.shelf).list(prefix).into_iter();
        found.map(|(key, entry)| (key, entry.value)).collect()
    }

    fn put(&self, key: &str, value: Option<Bytes>) -> bool {
        let put = put(&self.shelf, key, value);
        self.done(key, put.map(|_| ()))
    }

    fn blob(&self, digest: &str) -> Option<Bytes> {
        open(&self.shelf).blob(digest)
    }

    fn put_blob(&self, digest: &str, bytes: Bytes) -> bool {
        let put = open(&self.shelf).put_blob(digest, bytes);
        self.done(digest, put)
    }
}

impl PolicyArchive {
    fn done(&self, what: &str, put: Result<(), StoreError>) -> bool {
        match put {
            Ok(()) => return true,
            Err(failure @ StoreError::Fenced(_)) => {
                error!(%failure, "the store failed, nothing more is acknowledged");
                (self.on_fault)(&failure);
            }
            Err(failure) => {
                warn!(what, %failure, "what policies left cannot be kept over a restart");
            }
        }
        false
    }
}

fn put(shelf: &Shelf, key: &str, value: Option<Bytes>) -> Result<u64, StoreError> {
    let mut catalogue = open(shelf);
    let revision = catalogue.get(key).map_or(0, |entry| entry.revision);
    catalogue.put(key, value, revision)
}

/// See the file's head.
pub struct Books {
    turns: tokio::sync::Mutex<()>,
    shelf: Shelf,
    on_fault: OnFault,
    room: Arc<Room>,
    unlisted: Mutex<Unlisted>,
    has_unlisted: Notify,
}

/// Queues that were made without an entry.
#[derive(Default)]
struct Unlisted {
    names: BTreeSet<String>,
    /// No more will come.
    is_ending: bool,
}

/// The right to change the catalogue.
pub struct Turn<'a> {
    books: &'a Books,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

fn open(shelf: &Mutex<Box<dyn Catalogue>>) -> MutexGuard<'_, Box<dyn Catalogue>> {
    shelf.lock().expect("nothing panics under the catalogue's lock")
}

impl Books {
    /// Over this catalogue.
    #[must_use]
    pub fn new(catalogue: Box<dyn Catalogue>, on_fault: OnFault, room: Arc<Room>) -> Self {
        Self {
            turns: tokio::sync::Mutex::default(),
            shelf: Arc::new(Mutex::new(catalogue)),
            on_fault,
            room,
            unlisted: Mutex::default(),
            has_unlisted: Notify::new(),
        }
    }

    /// What the policies' loader keeps its share with.
    #[must_use]
    pub fn policy_archive(&self) -> PolicyArchive {
        PolicyArchive { shelf: self.shelf.clone(), on_fault: self.on_fault.clone() }
    }

    /// Waits for the turn to change something.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { books: self, _turn: self.turns.lock().await }
    }

    /// Notes that a queue was made that has no entry yet.
    pub fn note_unlisted(&self, name: &str) {
        self.unlisted().names.insert(name.to_owned());
        self.has_unlisted.notify_one();
    }

    /// No such queue will come any more: whoever waits for them gets the rest.
    pub fn end_unlisted(&self) {
        self.unlisted().is_ending = true;
        self.has_unlisted.notify_one();
    }

    /// Gives such queues the `entry` that they are to have, until no more come. What there
    /// is no space for is tried again.
    pub async fn list_unlisted(&self, entry: impl Fn(&str) -> Option<Kept> + Send) {
        let mut is_told = false;
        while let Some(name) = self.next_unlisted().await {
            let listed = {
                let turn = self.turn().await;
                // Removed again, or altered meanwhile and listed by that.
                let Some(kept) = entry(&name) else { continue };
                match turn.get(&kept.key()).await {
                    Some(_) => Ok(()),
                    None => turn.put(&kept.key(), Some(kept.encode())).await,
                }
            };
            let Err(error) = listed else {
                is_told = false;
                continue;
            };
            let is_again = error.code == ErrorCode::NoSpace;
            if !is_told {
                warn!(queue = name, %error, is_again, "cannot list a queue that the broker made");
            }
            is_told = is_again;
            if is_again {
                self.list_again(name).await;
            }
        }
    }

    /// Puts a queue back that could not be listed, and waits a while, unless no more will
    /// come: then the next start finds it.
    async fn list_again(&self, name: String) {
        {
            let mut unlisted = self.unlisted();
            if unlisted.is_ending {
                return;
            }
            unlisted.names.insert(name);
        }
        let over = tokio::time::sleep(Duration::from_millis(LIST_AGAIN_MS));
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = self.has_unlisted.notified() => {
                    if self.unlisted().is_ending {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the next such queue; `None` when there is none and none will come.
    async fn next_unlisted(&self) -> Option<String> {
        loop {
            {
                let mut unlisted = self.unlisted();
                let name = unlisted.names.pop_first();
                if name.is_some() || unlisted.is_ending {
                    return name;
                }
            }
            self.has_unlisted.notified().await;
        }
    }

    fn unlisted(&self) -> MutexGuard<'_, Unlisted> {
        self.unlisted.lock().expect("nothing panics under this lock")
    }
}

impl Turn<'_> {
    /// The value at `key`.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        let (shelf, key) = (self.books.shelf.clone(), key.to_owned());
        self.wait(move || open(&shelf).get(&key).map(|entry| entry.value)).await
    }

    /// Keys that start with `prefix`.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let (shelf, prefix) = (self.books.shelf.clone(), prefix.to_owned());
        let list = move || open(&shelf).list(&prefix).into_iter().map(|(key, _)| key).collect();
        self.wait(list).await
    }

    /// Puts `value` at `key`, or removes what is there. It is safe on return.
    ///
    /// # Errors
    /// What a client is told; nothing was changed.
    pub async fn put(&self, key: &str, value: Option<Bytes>) -> Result<(), WireError> {
        let (shelf, key) = (self.books.shelf.clone(), key.to_owned());
        match self.wait(move || put(&shelf, &key, value)).await {
            Ok(_) => Ok(()),
            Err(StoreError::NoSpace) => {
                let clause = self.books.room.clause();
                let text = format!("no space left, so nothing can be made or changed: {clause}");
                Err(WireError::new(ErrorCode::NoSpace, text))
            }
            Err(failure @ StoreError::Fenced(_)) => {
                error!(%failure, "the store failed, nothing more is acknowledged");
                (self.books.on_fault)(&failure);
                // Whether it was kept is not known: nobody is told anything.
                std::future::pending().await
            }
            Err(failure) => Err(WireError::new(ErrorCode::Internal, failure.to_string())),
        }
    }

    /// Runs `work`, which may wait for the disk.
    async fn wait<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            // The runtime is going down.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use weir_core::command::QueueConfig;
    use weir_core::directory::Settings;
    use weir_core::memory_store::MemoryCatalogue;
    use weir_core::store::Entry;

    use super::*;
    use crate::config::{Config, Overrides};
    use crate::system::SystemClock;

    /// What a test knows of a catalogue that may have no space.
    #[derive(Default)]
    struct Told {
        is_full: AtomicBool,
        refused: Notify,
        taken: Notify,
    }

    struct Tight {
        inner: MemoryCatalogue,
        told: Arc<Told>,
    }

    impl Catalogue for Tight {
        fn get(&self, key: &str) -> Option<Entry> {
            self.inner.get(key)
        }

        fn put(&mut self, key: &str, value: Option<Bytes>, at: u64) -> Result<u64, StoreError> {
            if self.told.is_full.load(Ordering::Relaxed) {
                self.told.refused.notify_one();
                return Err(StoreError::NoSpace);
            }
            let put = self.inner.put(key, value, at);
            self.told.taken.notify_one();
            put
        }

        fn list(&self, prefix: &str) -> Vec<(String, Entry)> {
            self.inner.list(prefix)
        }

        fn put_blob(&mut self, digest: &str, bytes: Bytes) -> Result<(), StoreError> {
            self.inner.put_blob(digest, bytes)
        }

        fn blob(&self, digest: &str) -> Option<Bytes> {
            self.inner.blob(digest)
        }
    }

    fn books() -> (Arc<Books>, Arc<Told>) {
        let told = Arc::new(Told::default());
        told.is_full.store(true, Ordering::Relaxed);
        let catalogue = Tight { inner: MemoryCatalogue::default(), told: told.clone() };
        let config = Config::load(None, Overrides::default()).unwrap();
        let room = Arc::new(Room::new(&config, false, Arc::new(SystemClock::default())));
        let books = Books::new(Box::new(catalogue), Arc::new(|_| {}), room);
        (Arc::new(books), told)
    }

    fn entry(name: &str) -> Option<Kept> {
        Some(Kept::destination(name, &[], &Settings::Queue(QueueConfig::default())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_for_which_there_was_no_space_is_listed_when_there_is() {
        let (books, told) = books();
        books.note_unlisted("guard/held");
        let lister = books.clone();
        let listing = tokio::spawn(async move { lister.list_unlisted(entry).await });
        told.refused.notified().await;
        told.refused.notified().await;
        // Others come meanwhile.
        books.note_unlisted("orders/dead");
        told.is_full.store(false, Ordering::Relaxed);
        told.taken.notified().await;
        books.end_unlisted();
        listing.await.unwrap();
        let keys = books.turn().await.keys("queue/").await;
        assert_eq!(keys, ["queue/guard/held", "queue/orders/dead"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_does_not_wait_for_space() {
        let (books, told) = books();
        books.note_unlisted("guard/held");
        let lister = books.clone();
        let listing = tokio::spawn(async move { lister.list_unlisted(entry).await });
        told.refused.notified().await;
        books.end_unlisted();
        listing.await.unwrap();
        assert_eq!(books.turn().await.keys("queue/").await.len(), 0);
    }
}
