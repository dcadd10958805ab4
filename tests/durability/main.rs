//! The proof on real disks: the program `weir` in a process of its own is killed,
//! loses its power, its syncs, its room on disk, its network, in the middle of a load. What it
//! had acknowledged must be there afterwards, once, in order, byte for byte.
//!
//! The power cut is a real one: an ext4 file system on a loop device is shut down
//! under the running broker, so that what was not synced is gone.
//!
//! `cargo test` runs a trimmed set; `WEIR_DURABILITY=full` the whole, which also
//! writes `docs/durability-report.md`. A test that cannot run here writes one line
//! `SKIPPED <name>: <why>`. `full.sh` runs the whole, here and on the simulated disk,
//! into one report. `bite.sh` shows that each guard is needed.
//!
//! Tests take turns: each has the machine for itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod broker;
mod check;
mod consumers;
mod disk;
mod disk_full;
mod folder_entries;
mod kill9;
mod load;
mod message;
mod network;
mod power_cut;
mod promises;
mod proof;
mod queues;
mod readers;
mod report;
mod short_writes;
mod slow_sync;
mod story;
mod streams;
mod sync_fails;
mod trace;
