//! The store that survives: a journal on disk, segments of what outlives it,
//! checkpoints, and recovery. It implements the core's ports `Store` and
//! `Catalogue`. Bytes and promises are written down in `docs/storage.md`.

mod catalogue;
pub mod files;
pub mod format;
mod journal;
mod keeper;
pub mod limits;
mod log;
mod order;
mod ranges;
mod read;
mod recovery;
mod rest;
mod sabotage;
mod segment;
mod shared;
pub mod sim;
mod spares;
mod store;
pub mod tools;
mod waits;
mod writer;

pub use catalogue::JournalCatalogue;
pub use journal::{Journal, JournalConfig, JournalFigures};
pub use recovery::{Damage, LostRange, OpenError, RecoveryReport, Torn};
pub use store::JournalStore;
