//! `weir store export` and `import`.
//!
//! Invariant: what fails leaves nothing behind. An import fills a folder beside its
//! target, which gets the target's name when it is whole; an export removes the file
//! that it could not finish.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use weir_journal::RecoveryReport;
use weir_journal::files::{Files, OsFiles};
use weir_journal::tools::{self, ToolError};

use super::ExportArgs;
use super::folder::{Opened, config, failed, not_empty};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, note};
use crate::system::SystemClock;

/// Writes everything out.
pub(super) fn export(args: &ExportArgs, out: &mut Output) -> Result<(), Failure> {
    let path = &args.folder.folder;
    let opened = Opened::of(path, out.json)?;
    let Some(file) = &args.file else {
        let mut into = std::io::BufWriter::new(std::io::stdout().lock());
        let written = opened.folder.export(&mut into).and_then(|lost| {
            into.flush()?;
            Ok(lost)
        });
        let lost = written.map_err(|error| failed(path, error))?;
        if let Some(what) = left_out(path, lost, opened.folder.report()) {
            note(out.json, &format!("note: {what}"));
        }
        return Ok(());
    };
    let name = file.display().to_string();
    let made = fs::File::create_new(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let hint = format!("name another file, or remove this one first: rm {name}");
            Failure::new(Exit::Usage, "exists", format!("{name} is there already"), hint)
        }
        _ => Failure::file(file, &error),
    })?;
    let mut into = std::io::BufWriter::new(made);
    let written = opened.folder.export(&mut into).and_then(|lost| {
        into.flush()?;
        into.get_ref().sync_all()?;
        Ok(lost)
    });
    let lost = written.map_err(|error| {
        drop(fs::remove_file(file));
        match error {
            ToolError::Io(error) => Failure::file(file, &error),
            other => failed(path, other),
        }
    })?;
    let missing = left_out(path, lost, opened.folder.report());
    let text = match &missing {
        None => format!("everything is in {name}"),
        Some(what) => format!("everything that can be read is in {name}; {what}"),
    };
    let is_sound = missing.is_none();
    out.done(&text, &json!({ "exported": name, "lost": lost, "sound": is_sound }))
}

/// What is not in an export, if something is not.
fn left_out(path: &Path, lost: u64, report: &RecoveryReport) -> Option<String> {
    let mut what = Vec::new();
    if lost > 0 {
        let text = "stretches of messages that cannot be read, and are written as lost";
        what.push(format!("{text}: {lost}"));
    }
    if report.damage.iter().any(|damage| damage.lost.is_empty()) {
        what.push("changes of what there is may be lost".to_owned());
    }
    if what.is_empty() {
        return None;
    }
    Some(format!("{}; which, tells weir store check {}", what.join("; "), path.display()))
}

/// Reads everything in.
pub(super) fn import(args: &ExportArgs, out: &mut Output) -> Result<(), Failure> {
    let path = &args.folder.folder;
    let count = match &args.file {
        None => import_from(path, &mut BufReader::new(std::io::stdin().lock()))?,
        Some(file) => {
            let opened = fs::File::open(file).map_err(|error| Failure::file(file, &error))?;
            import_from(path, &mut BufReader::new(opened))?
        }
    };
    let text = format!("{count} messages are in {}", path.display());
    out.done(&text, &json!({ "messages": count }))
}

fn import_from(target: &Path, from: &mut dyn BufRead) -> Result<u64, Failure> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(not_empty(target)),
        Ok(false) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::file(target, &error)),
    }
    let beside = beside(target)?;
    let cannot = |error: std::io::Error| Failure::file(&beside, &error);
    clear(&beside)?;
    let files = Arc::new(OsFiles::new(&beside).map_err(cannot)?);
    let clock = Arc::new(SystemClock::default());
    let done = tools::import(files, clock, config(), from).map_err(|error| failed(target, error));
    let done = done.and_then(|count| {
        fs::rename(&beside, target).map_err(|error| misplaced(target, &error))?;
        Ok(count)
    });
    if done.is_err() {
        drop(fs::remove_dir_all(&beside));
    } else if let Some(parent) = beside.parent() {
        let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| Failure::file(parent, &error))?;
    }
    done
}

/// The folder that is filled: in the same one as the target, so that it can take the
/// target's name.
fn beside(target: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(target).map_err(|error| Failure::file(target, &error))?;
    match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) => {
            Ok(parent.join(format!(".{}.weir-import", name.to_string_lossy())))
        }
        _ => {
            let text = format!("{} cannot be a data folder", target.display());
            Err(Failure::usage(text, "name a folder that does not exist yet"))
        }
    }
}

/// Removes what an import that was killed has left; one that runs is left alone.
fn clear(beside: &Path) -> Result<(), Failure> {
    if !beside.exists() {
        return Ok(());
    }
    let lock = OsFiles::read_only(beside).lock();
    if lock.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        let text = format!("another import is filling {}", beside.display());
        return Err(Failure::new(Exit::Locked, "locked", text, "wait for it to end"));
    }
    fs::remove_dir_all(beside).map_err(|error| Failure::file(beside, &error))
}

/// It is whole, and cannot be where it should.
fn misplaced(target: &Path, error: &std::io::Error) -> Failure {
    let text = format!("{}: cannot be put in place: {error}", target.display());
    let hint = format!(
        "name a folder that does not exist yet; where this one is a disk of its own, one in it: \
         weir store import {}",
        target.join("data").display()
    );
    Failure::new(Exit::Failed, "io", text, hint)
}
