//! The store that survives: a journal on disk, segments of what outlives it,
//! checkpoints, and recovery. It implements the core's ports `Store` and
//! `Catalogue`. Bytes and promises are written down in `docs/storage.md`.

pub mod files;
pub mod format;
pub mod limits;
pub mod sim;
