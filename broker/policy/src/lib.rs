//! WebAssembly policies: compiling, running and reloading them.
//!
//! The runtime half ([`engine`], [`component`], [`chain`], [`delivery`]) runs
//! components within limits; the lifecycle half finds, checks and swaps them.
//! The only crate that names wasmtime.

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
pub mod filter;
mod host;
mod instance;
pub mod judge;
pub mod kv;
pub mod limits;
pub mod log;
pub mod manifest;
mod memo;
mod messages;
pub mod metrics;
mod names;
pub mod router;
mod scratch;
pub mod setup;
mod text;
mod verdicts;
mod binding;
mod fields;
mod folder;
mod generation;
mod loader;
mod plugin;
pub mod policy_host;
mod schema;
mod settle;
pub mod status;
mod watcher;
mod wholeness;
mod workshop;
#[cfg(test)]
mod testing;

pub use policy_host::{
    HostConfig, HostEnv, HostError, PolicyHost, RollbackError, ShippedComponent,
};
