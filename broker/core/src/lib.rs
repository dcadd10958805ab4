//! The broker as a pure machine: commands and the time go in, effects come out.
//!
//! No sockets, no clock, no threads, no async, no wasm. The world is reached
//! through two ports: [`store`], which keeps records, and [`policy`], which
//! decides. [`env`] names what edges use instead of the operating system, so that
//! the same code runs under a seeded simulator.

pub mod command;
pub mod effect;
pub mod env;
pub mod limits;
pub mod memory_store;
pub mod name;
pub mod pattern_index;
pub mod policy;
pub mod rejection;
pub mod store;
