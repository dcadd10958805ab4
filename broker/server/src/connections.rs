//! Who is connected: from a connection's number to its outbox.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
    /// Slots that are taken.
    taken: Arc<AtomicUsize>,
}

/// A connection's part of the open files, given back when this is dropped: not when it is
/// forgotten, for its socket stays open while its last bytes are written.
#[derive(Debug)]
pub struct Slot {
    taken: Arc<AtomicUsize>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// A new connection with its outbox, and a slot for whoever holds its socket; `None`
    /// when `connections_max` are there.
    #[must_use]
    pub fn open(&self, connections_max: usize) -> Option<(Arc<Outbox>, Slot)> {
        let id = ConnectionId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(id));
        // Slots are taken under this lock only, so that nobody takes one too many.
        let mut outboxes = self.outboxes.write().expect("nothing panics under this lock");
        if self.taken.load(Ordering::Relaxed) >= connections_max {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { taken: self.taken.clone() };
        outboxes.insert(id, outbox.clone());
        Some((outbox, slot))
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

    /// Number of connections, with those that are forgotten and still open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_until_its_socket_is_closed() {
        let connections = Connections::default();
        let (outbox, slot) = connections.open(1).expect("there is room for one");
        assert!(connections.open(1).is_none());
        connections.remove(outbox.connection);
        assert!(connections.get(outbox.connection).is_none());
        assert_eq!(connections.len(), 1);
        assert!(connections.open(1).is_none(), "its socket is still open");
        drop(slot);
        assert!(connections.is_empty());
        assert!(connections.open(1).is_some());
    }
}
