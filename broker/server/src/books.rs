//! The catalogue as tasks use it: whoever changes it has its turn, and a change is
//! waited for on a thread that may wait, so that a slow disk holds nobody else.
//!
//! Invariants: what a turn has put is safe when `put` returns; after a failure of
//! the store nothing returns any more, so that nobody is told what may not be true.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{error, warn};
use weir_core::store::{Catalogue, StoreError};
use weir_policy::archive::Archive;
use weir_protocol::{ErrorCode, WireError};

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

    fn put(&self, key: &str, value: Option<Bytes>) {
        let put = put(&self.shelf, key, value);
        self.done(key, put.map(|_| ()));
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

    /// Waits for the next such queue; `None` when there is none and none will come.
    pub async fn next_unlisted(&self) -> Option<String> {
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
