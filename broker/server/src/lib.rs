//! Weir's server: sockets, tasks and threads around the core.
//!
//! A read task and a write task per connection, a task per shard. The read task
//! owns its session and pushes channel messages straight into the outboxes of
//! their listeners; messages for queues and streams go to the shard that owns
//! the name, in batches. See `docs/` for the protocol and `server.rs` for start
//! and stop.

pub mod books;
pub mod broker;
pub(crate) mod change;
pub mod cli;
pub mod config;
pub mod connection;
pub mod connections;
pub mod control;
pub mod descriptors;
pub mod info;
pub mod kept;
pub mod limits;
pub mod list;
pub mod outbox;
pub mod policy_info;
pub mod pressed;
pub mod receipt;
pub mod restore;
pub mod resumed;
pub mod room;
pub mod serve;
pub mod server;
pub mod session;
pub mod shard;
pub mod shards;
mod socket;
mod step_aside;
pub mod storage;
pub mod system;
pub mod wire;
