//! How a shard learns that connections which it has paused have room again.
//!
//! Told by the connections' write tasks, which never wait for the shard. Bounded
//! by the connections: one is named again only after the shard has taken its name
//! and paused it once more.

use std::sync::Mutex;

use tokio::sync::Notify;
use weir_core::command::ConnectionId;

/// Connections of one shard that have room again.
#[derive(Debug, Default)]
pub struct Resumed {
    connections: Mutex<Vec<ConnectionId>>,
    told: Notify,
}

impl Resumed {
    /// A connection has room again.
    pub fn tell(&self, connection: ConnectionId) {
        self.connections.lock().expect("nothing panics under this lock").push(connection);
        self.told.notify_one();
    }

    /// Waits until a connection has room again.
    pub async fn wait(&self) {
        self.told.notified().await;
    }

    /// Takes the connections that have room again.
    #[must_use]
    pub fn take(&self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.connections.lock().expect("nothing panics under this lock"))
    }
}
