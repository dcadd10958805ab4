//! A data folder opened to be looked at: nothing in it is made, changed or removed,
//! so that a read-only mount or a copy will do.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use weir_core::env::Random;
use weir_core::store::StoreError;
use weir_journal::files::{Files, OsFiles};
use weir_journal::tools::{Folder, ToolError};
use weir_journal::{JournalConfig, OpenError};

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::note;
use crate::cli::serve;
use crate::system::{SystemClock, SystemRandom};

/// A folder that is looked at, and the lock that keeps a broker from starting
/// meanwhile.
pub(super) struct Opened {
    pub(super) folder: Folder,
    _lock: Lock,
}

/// What became of taking the lock.
pub(in crate::cli) enum Lock {
    /// No broker starts while this lives.
    Held { _guard: Box<dyn Send> },
    /// There is none: no broker has used this folder, or it is a copy.
    None,
    /// It could not be tried; why.
    Unknown(String),
}

impl Opened {
    /// Opens a folder that is there. `is_silent`: people are told nothing beside.
    pub(super) fn of(path: &Path, is_silent: bool) -> Result<Self, Failure> {
        require_data_folder(path)?;
        let cannot = |error: OpenError| match error {
            OpenError::Locked => in_use(path),
            error => serve::cannot_open(&path.display().to_string(), &error),
        };
        let files = files(path);
        let lock = lock(&*files).map_err(cannot)?;
        if let Lock::Unknown(why) = &lock {
            note(is_silent, &format!("note: {why}; make sure that no broker uses the folder"));
        }
        let clock = Arc::new(SystemClock::default());
        let folder = Folder::open(files, clock).map_err(cannot)?;
        Ok(Self { folder, _lock: lock })
    }
}

/// The files of a folder, to be looked at.
pub(in crate::cli) fn files(path: &Path) -> Arc<dyn Files> {
    Arc::new(OsFiles::read_only(path))
}

/// Refuses what no broker has written to: "everything is sound" would say nothing.
pub(in crate::cli) fn require_data_folder(path: &Path) -> Result<(), Failure> {
    let hint = "name the folder that `weir serve` uses, its --data";
    let cannot = |error: std::io::Error| Failure::file(path, &error).hint(hint);
    let (mut has_lock, mut has_journal, mut has_state, mut has_segments) =
        (false, false, false, false);
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        match name.to_string_lossy().as_ref() {
            "lock" => has_lock = true,
            "last-recovery.json" => has_state = true,
            name if is_file(name, "checkpoint-", ".wc") => has_state = true,
            "journal" => {
                has_journal = true;
                has_state |= holds(&path.join("journal"), |name| is_file(name, "j-", ".wj"));
            }
            "logs" => has_segments = has_segments_in(&path.join("logs")),
            _ => {}
        }
    }
    if has_state || has_lock && has_journal {
        return Ok(());
    }
    let shown = path.display();
    if has_segments {
        let text = format!("{shown} has segments, but neither journal nor checkpoint");
        let hint = format!("restore all of {shown} from a copy");
        return Err(Failure::new(Exit::BadData, "bad_data", text, hint));
    }
    let text =
        format!("{shown} is no data folder of Weir's: it has neither journal nor checkpoint");
    Err(Failure::new(Exit::BadData, "bad_data", text, hint))
}

fn is_file(name: &str, start: &str, end: &str) -> bool {
    name.starts_with(start) && name.ends_with(end)
}

fn holds(path: &Path, wanted: impl Fn(&str) -> bool) -> bool {
    let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.any(|entry| wanted(&entry.file_name().to_string_lossy()))
}

fn has_segments_in(path: &Path) -> bool {
    let mut folders = std::fs::read_dir(path).into_iter().flatten().flatten();
    folders.any(|folder| holds(&folder.path(), |name| is_file(name, "s-", ".ws")))
}

/// Takes the folder's lock, where there is one.
pub(in crate::cli) fn lock(files: &dyn Files) -> Result<Lock, OpenError> {
    match files.lock() {
        Ok(guard) => Ok(Lock::Held { _guard: guard }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(OpenError::Locked),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Lock::None),
        // A network's file system may have none to give: a look is no harm to anybody.
        Err(error) => Ok(Lock::Unknown(error.to_string())),
    }
}

/// Of the journals that tools open to write.
pub(super) fn config() -> JournalConfig {
    let random = SystemRandom;
    JournalConfig::new(u128::from(random.next()) << 64 | u128::from(random.next()))
}

/// A broker has it.
fn in_use(path: &Path) -> Failure {
    let shown = path.display();
    let text = format!("{shown}: a broker uses this data folder (its `lock` is held)");
    let hint = format!(
        "stop the broker first, and start it again afterwards; while it runs: weir doctor {shown}"
    );
    Failure::new(Exit::Locked, "locked", text, hint)
}

/// What a tool says, as the command line does.
pub(super) fn failed(folder: &Path, error: ToolError) -> Failure {
    let shown = folder.display();
    match error {
        ToolError::Open(OpenError::Locked) => in_use(folder),
        ToolError::Open(OpenError::Io { error, .. }) if error.kind() == ErrorKind::StorageFull => {
            no_space()
        }
        ToolError::Open(error) => serve::cannot_open(&shown.to_string(), &error),
        ToolError::NotThere(what) => {
            let hint = format!("look: weir store check {shown}, weir store stats {shown}");
            Failure::new(Exit::NotFound, "not_found", what, hint)
        }
        ToolError::Input { .. } | ToolError::NotWhole(_) => {
            let hint = "nothing was read in; write it out once more (weir store export DIR FILE), \
                        and bring over all of the file";
            Failure::new(Exit::BadData, "bad_input", error.to_string(), hint)
        }
        ToolError::NotEmpty => not_empty(folder),
        ToolError::Store(StoreError::NoSpace) => no_space(),
        ToolError::Store(error) => {
            Failure::new(Exit::DiskFailed, "io", error.to_string(), serve::HINT_DISK)
        }
        ToolError::Io(error) if error.kind() == ErrorKind::BrokenPipe => Failure::broken_pipe(),
        ToolError::Io(error) => {
            Failure::new(Exit::DiskFailed, "io", error.to_string(), serve::HINT_DISK)
        }
    }
}

fn no_space() -> Failure {
    let text = "too little space is free on the disk";
    Failure::new(Exit::Refused, "no_space", text, "free some, or name a folder elsewhere")
}

/// Nothing is read into it.
pub(super) fn not_empty(folder: &Path) -> Failure {
    let text = format!("{} is not empty: nothing was read in", folder.display());
    let hint = "name a folder that does not exist yet; policies and bindings can be copied into \
                it afterwards";
    Failure::new(Exit::Usage, "exists", text, hint)
}
