//! Writing a checkpoint: whole, synced, and only then under its name.

use std::io;

use crate::files::Files;

/// Path of checkpoint `number`.
pub(crate) fn path(number: u64) -> String {
    format!("checkpoint-{number:016x}.wc")
}

/// Writes checkpoint `number`.
///
/// # Errors
/// What the disk says; then the checkpoint does not count.
pub(crate) fn write(files: &dyn Files, number: u64, bytes: &[u8]) -> io::Result<()> {
    let path = path(number);
    let temporary = format!("{path}.tmp");
    remove_if_there(files, &temporary)?;
    let file = files.create(&temporary)?;
    let written = file.write_at(bytes, 0).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A leftover costs space until the next one is written.
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files.rename(&temporary, &path)?;
    files.sync_folder("")
}

/// Removes a file, which may be gone already.
///
/// # Errors
/// What the disk says.
pub(super) fn remove_if_there(files: &dyn Files, path: &str) -> io::Result<()> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
