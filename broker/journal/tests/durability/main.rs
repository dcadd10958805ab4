//! The promises of the store on a simulated disk: what is said to be safe survives
//! whatever the disk does, and nothing else is ever made up.
//!
//! Seeds: `WEIR_DURABILITY_SEEDS` (default in each test), a single one by
//! `WEIR_DURABILITY_SEED`. Every failure prints its seed.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod any_subset_survives;
mod world;
