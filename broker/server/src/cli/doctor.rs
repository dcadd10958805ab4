//! `weir doctor`: how a data folder is, in sentences, and what to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use weir_journal::files::Files;
use weir_journal::tools::Folder;
use weir_journal::{LostRange, OpenError, RecoveryReport};

use super::failure::Failure;
use super::output::{Output, note};
use super::store::folder::{self, Lock};
use super::{serve, store};
use crate::config::{Config, Overrides};
use crate::room;
use crate::system::SystemClock;

/// Arguments of `weir doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    weir doctor ./weir-data\n  weir doctor ./weir-data --json | jq .advice")]
pub struct DoctorArgs {
    /// Data folder; a broker may use it
    #[arg(value_name = "DIR", default_value = "./weir-data")]
    folder: PathBuf,
    /// Configuration of the broker: how much space must be free [default: as without one]
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Looks and tells; changes nothing. Waits for the disk.
pub(super) fn run(args: &DoctorArgs, mut out: Output) -> Result<(), Failure> {
    let path = &args.folder;
    folder::require_data_folder(path)?;
    let config = Config::load(args.config.as_deref(), Overrides::default())
        .map_err(|error| Failure::usage(format!("{error:#}"), "correct it and look again"))?;
    let files = folder::files(path);
    let mut advice = Vec::new();
    let lock = folder::lock(&*files);
    let running = match &lock {
        Err(_) => Some(true),
        Ok(Lock::Unknown(_)) => None,
        Ok(Lock::Held { .. } | Lock::None) => Some(false),
    };
    if let Ok(Lock::Unknown(why)) = &lock {
        note(out.json, &format!("note: {why}; whether a broker runs is not known"));
    }
    let last = last_recovery(path);
    let now = if running == Some(true) { None } else { Some(look(&files)) };
    if let Some(Err(error)) = &now {
        advice.push(format!("a broker would not start: {error}"));
        advice.push(serve::cannot_open(&path.display().to_string(), error).hint);
    }
    let found = match &now {
        Some(Ok(report)) => Some(report),
        // Nothing can be given up before it can be opened.
        Some(Err(_)) => None,
        None => last.as_ref(),
    };
    advice.extend(found.into_iter().flat_map(RecoveryReport::lost).map(|it| give_up(path, it)));
    if found.is_some_and(|report| report.damage.iter().any(|one| one.lost.is_empty())) {
        let shown = path.display();
        advice.push(format!(
            "changes may be lost with what is damaged: restore {shown}, or accept that: weir store \
             accept-loss {shown} --all"
        ));
    }
    let set_aside = set_aside(path);
    if set_aside > 0 {
        advice.push(format!(
            "{set_aside} files that are not the broker's were set aside in {}",
            path.join("quarantine").display()
        ));
    }
    let space = files.free().ok();
    if let Some(low) = space.and_then(|space| room::low(space, &config.store)) {
        let whose = if args.config.is_some() {
            ""
        } else {
            "; the mark is that of a broker without a configuration, --config FILE takes another"
        };
        advice.push(format!("free space on the disk of {}: {low}{whose}", path.display()));
    }
    if out.json {
        return out.value(&json!({
            "running": running, "last_start": last,
            "next_start": now.as_ref().and_then(|now| now.as_ref().ok()),
            "free_bytes": space.map(|space| space.free_bytes),
            "advice": advice,
        }));
    }
    out.line(match running {
        Some(true) => "a broker uses this folder",
        Some(false) => "no broker uses this folder",
        None => "whether a broker uses this folder is not known",
    })?;
    if let Some(space) = space {
        let (free, total) = (space.free_bytes >> 20, space.total_bytes >> 20);
        out.line(&format!("{free} MiB of {total} MiB are free on its disk"))?;
    }
    if let Some(last) = &last {
        section(&mut out, "what the last start found:", last)?;
    }
    if let Some(Ok(report)) = &now {
        section(&mut out, "what a start would find now:", report)?;
    }
    for line in &advice {
        out.line(&format!("to do: {line}"))?;
    }
    if advice.is_empty() {
        out.line("nothing needs to be done")?;
    }
    out.flush()
}

fn give_up(path: &Path, lost: &LostRange) -> String {
    let (folder, LostRange { log, from, to }) = (path.display(), lost);
    format!(
        "{log} takes no messages while {from}..{to} is lost: restore {folder}, or give it up: \
         weir store accept-loss {folder} {log}"
    )
}

fn section(out: &mut Output, head: &str, report: &RecoveryReport) -> Result<(), Failure> {
    out.line(head)?;
    store::explain(report).iter().try_for_each(|line| out.line(&format!("  {line}")))
}

/// What a start would find.
fn look(files: &Arc<dyn Files>) -> Result<RecoveryReport, OpenError> {
    let folder = Folder::open(files.clone(), Arc::new(SystemClock::default()))?;
    Ok(folder.report().clone())
}

fn last_recovery(path: &Path) -> Option<RecoveryReport> {
    let text = std::fs::read(path.join("last-recovery.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Files that recovery has set aside.
fn set_aside(path: &Path) -> usize {
    std::fs::read_dir(path.join("quarantine")).map_or(0, Iterator::count)
}
