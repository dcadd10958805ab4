//! Who is connected: from a connection's number to its outbox.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_core::command::ConnectionId;

use crate::outbox::Outbox;

/// The outboxes of all connections. Read once per batch, written when a
/// connection comes or goes.
#[derive(Debug, Default)]
pub struct Connections {
    outboxes: RwLock<HashMap<ConnectionId, Arc<Outbox>, RandomState>>,
    last: AtomicU64,
}

impl Connections {
    /// A new connection with its outbox; `None` when `connections_max` are there.
    #[must_use]
    pub fn open(&self, connections_max: usize) -> Option<Arc<Outbox>> {
        let id = ConnectionId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(id));
        let mut outboxes = self.outboxes.write().expect("nothing panics under this lock");
        if outboxes.len() >= connections_max {
            return None;
        }
        outboxes.insert(id, outbox.clone());
        Some(outbox)
    }

    /// The outbox of a connection that is still there.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Arc<Outbox>> {
        self.outboxes.read().expect("nothing panics under this lock").get(&id).cloned()
    }

    /// Forgets a connection.
    pub fn remove(&self, id: ConnectionId) {
        self.outboxes.write().expect("nothing panics under this lock").remove(&id);
    }

    /// Number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outboxes.read().expect("nothing panics under this lock").len()
    }

    /// Nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every outbox, for shutdown.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Outbox>> {
        self.outboxes.read().expect("nothing panics under this lock").values().cloned().collect()
    }
}
