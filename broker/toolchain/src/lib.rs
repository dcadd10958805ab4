//! Builds policies: finds a toolchain for WebAssembly ([`find`]), compiles a crate
//! and wraps it as a component ([`build`]).
//!
//! Used by the command line, by the test suite and by `weir-prebuild`, never by a
//! running broker: that one only loads components.

mod build;
mod component;
mod toolchain;
mod wit;

pub use build::{BuildError, Built, build, write_whole};
pub use component::{ComponentError, componentize, componentize_with_imports};
pub use toolchain::{Kind, TARGET, ToolchainError, WasmToolchain, find};
pub use wit::WIT;
