//! WebAssembly policies: compiling, running and reloading them.
//!
//! The runtime half ([`engine`], [`component`], [`chain`], [`delivery`]) runs
//! components within limits; the lifecycle half finds, checks and swaps them.
//! The only crate that names wasmtime.

mod bindings;
pub mod component;
pub mod counters;
mod deadline;
pub mod engine;
pub mod error;
mod host;
mod instance;
pub mod judge;
pub mod kv;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod setup;
mod text;
