//! WebAssembly policies: compiling, running and reloading them.
//!
//! The runtime half ([`engine`], [`component`], [`chain`], [`delivery`]) runs
//! components within limits; the lifecycle half finds, checks and swaps them.
//! The only crate that names wasmtime.

pub mod archive;
mod asking;
mod binding;
mod bindings;
mod breaker;
mod caller;
pub mod chain;
mod columns;
pub mod component;
mod copies;
pub mod counters;
mod deadline;
pub mod deliver_filter;
pub mod delivery;
pub mod engine;
pub mod error;
mod fields;
pub mod filter;
mod folder;
mod generation;
mod host;
mod instance;
pub mod judge;
pub mod kv;
pub mod limits;
mod loader;
pub mod log;
pub mod manifest;
mod messages;
pub mod metrics;
mod names;
mod plugin;
pub mod policy_host;
pub mod router;
mod schema;
mod scratch;
mod settle;
pub mod setup;
pub mod status;
mod step;
#[cfg(test)]
mod testing;
mod text;
mod ticker;
mod verdicts;
mod watcher;
mod wholeness;
mod words;
mod workshop;

pub use policy_host::{
    HostConfig, HostEnv, HostError, PolicyHost, RollbackError, ShippedComponent,
};
