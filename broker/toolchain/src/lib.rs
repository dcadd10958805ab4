//! Builds policies: finds a toolchain for WebAssembly ([`find`]), compiles a crate
//! and wraps it as a component ([`build()`]), starts new ones ([`new_policy`]).
//!
//! Used by the command line, by the test suite and by `weir-prebuild`, never by a
//! running broker: that one only loads components.

mod build;
mod component;
mod scaffold;
pub mod shipped;
mod toolchain;
mod wit;

pub use build::{BuildError, Built, build, build_many, build_module, write_whole};
pub use component::{ComponentError, componentize, componentize_with_imports};
pub use scaffold::{Role, ScaffoldError, build_project, new_policy};
pub use toolchain::{DEBIAN_ONLY, Kind, TARGET, ToolchainError, WasmToolchain, find};
pub use wit::WIT;
