//! The mark: the file `synced`, which says up to which block the journal was synced
//! when a process started or stopped. Blocks say it of those before them; nothing
//! would say it of the last ones.
//!
//! Written where no block is on its way. It only ever tells too little: a mark that
//! could not be written, or cannot be read, takes nothing away.

use super::{Mode, OpenError, io};
use crate::files::{self, Files};
use crate::format::{self, FILE_HEAD_BYTES, FileHead, HeadError, Kind};

/// Name of the file.
const NAME: &str = "synced";

/// Whose journal it is, and the number of its last block that is synced. Names a mark
/// that is `damaged`.
///
/// # Errors
/// [`OpenError`]: made by a newer version, or the operating system says no.
pub(super) fn read(
    files: &dyn Files,
    mode: Mode,
    damaged: &mut Vec<String>,
) -> Result<Option<(u128, u64)>, OpenError> {
    let file = match files.open(NAME) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io(NAME))?,
    };
    let bytes = match format::load(&*file, 0, FILE_HEAD_BYTES) {
        Ok(bytes) => bytes,
        // Without it what was synced last may be taken for torn.
        Err(error) if mode == Mode::ReadWrite => return Err(io(NAME)(error)),
        Err(error) => {
            damaged.push(format!("{NAME}: {error}"));
            return Ok(None);
        }
    };
    match FileHead::decode(&bytes, Kind::Mark) {
        Ok(head) => Ok(Some((head.store, head.sequence))),
        Err(HeadError::Newer(version)) => {
            Err(OpenError::Newer { path: NAME.into(), version, known: format::FORMAT_VERSION })
        }
        Err(error) => {
            damaged.push(format!("{NAME}: {error}"));
            Ok(None)
        }
    }
}

/// Says that everything up to block `number` is synced. A full disk is no error.
///
/// # Errors
/// As the operating system says.
pub(crate) fn write(
    files: &dyn Files,
    store: u128,
    number: u64,
    created_ms: u64,
) -> std::io::Result<()> {
    let head = FileHead { kind: Kind::Mark, store, sequence: number, log: 0, created_ms };
    match files::put_whole(files, "", NAME, &head.encode()) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        done => done,
    }
}
