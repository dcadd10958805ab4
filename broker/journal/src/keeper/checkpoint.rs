//! Writing a checkpoint: whole, synced, and only then under its name.

use std::io;

use crate::files::{self, Files};

/// Path of checkpoint `number`.
pub(crate) fn path(number: u64) -> String {
    format!("checkpoint-{number:016x}.wc")
}

/// Writes checkpoint `number`.
///
/// # Errors
/// What the disk says; then the checkpoint does not count.
pub(crate) fn write(files: &dyn Files, number: u64, bytes: &[u8]) -> io::Result<()> {
    files::put_whole(files, "", &path(number), bytes)
}
