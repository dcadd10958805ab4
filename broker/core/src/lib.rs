//! The broker as a pure machine: commands and the time go in, effects come out.
//!
//! No sockets, no clock, no threads, no async, no wasm. The world is reached
//! through two ports: [`store`], which keeps records, and [`policy`], which
//! decides. [`mod@env`] names what edges use instead of the operating system, so that
//! the same code runs under a seeded simulator.

pub mod command;
pub mod dead_letter;
pub mod directory;
pub mod effect;
pub mod env;
mod group;
pub mod limits;
pub mod memo;
pub mod memory_store;
pub mod name;
pub mod numbered;
mod paged_slab;
pub mod pattern_index;
pub mod policy;
mod queue;
mod reader;
pub mod rejection;
pub mod shard;
pub mod store;
mod stream;
