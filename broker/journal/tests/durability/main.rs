//! The promises of the store on a simulated disk: what is said to be safe survives
//! whatever the disk does, and nothing else is ever made up.
//!
//! Counts are small here; `WEIR_DURABILITY=full` runs them in full,
//! `WEIR_DURABILITY_SEEDS` any other number, `WEIR_DURABILITY_SEED` one seed.
//! Every failure names its seed. `tests/durability/full.sh` runs them in full with
//! those on real disks, and reports of both.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]
#![allow(unreachable_pub, reason = "one target, many modules")]

mod allocated_files;
mod anatomy;
mod any_subset_survives;
mod bitrot_below_mark;
mod compaction_crash;
mod crash_in_recovery;
mod damaged_metadata;
mod dead_letter_atomic;
mod disk_full_simulated;
mod flush_final;
mod format_compat;
mod fsync_fails_once_simulated;
mod full_disk_roll;
#[path = "../common/hex.rs"]
mod hex;
mod index_is_derived;
mod lost_and_misplaced_writes;
mod missing_end;
mod model_equivalence;
mod proof;
mod retention_crash;
mod shard;
mod side_by_side;
mod slow_sync_simulated;
mod sparse_segments;
mod torn_tail_every_byte;
mod unsynced_island;
mod world;
