//! `weir store`: a data folder without a broker. Nothing is changed but by
//! `accept-loss` and `import`, which say so.

pub(super) mod folder;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use weir_journal::files::OsFiles;
use weir_journal::tools::{self, FolderFigures};
use weir_journal::{LostRange, RecoveryReport};

use super::failure::{Exit, Failure};
use super::output::{Output, note};
use super::printable::printable;
use super::{payload, time};
use crate::system::SystemClock;
use folder::{Opened, config, failed};

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything and say whether it is sound; exit code 3 when messages are lost
    #[command(after_help = "Examples:\n  \
        weir store check ./weir-data\n  weir store check ./weir-data --json | jq .damage")]
    Check(FolderArg),
    /// Write the messages of logs, or list what the catalogue keeps
    #[command(after_help = "Examples:\n  \
        weir store dump ./weir-data queue/orders\n  \
        weir store dump ./weir-data stream/flights/0 --json | jq .payload\n  \
        weir store dump ./weir-data --catalogue")]
    Dump(DumpArgs),
    /// Figures of each log
    #[command(after_help = "Example:\n  weir store stats ./weir-data")]
    Stats(FolderArg),
    /// Write everything as lines of JSON that `import` reads
    #[command(after_help = "Examples:\n  \
        weir store export ./weir-data everything.jsonl\n  \
        weir store export ./weir-data | zstd > everything.zst")]
    Export(ExportArgs),
    /// Make a data folder from what `export` wrote
    #[command(after_help = "Examples:\n  \
        weir store import ./new-data everything.jsonl\n  \
        zstdcat everything.zst | weir store import ./new-data")]
    Import(ExportArgs),
    /// Give up what is lost of a log: readers pass over it, and it takes messages again
    #[command(after_help = "Examples:\n  \
        weir store accept-loss ./weir-data queue/orders\n  \
        weir store accept-loss ./weir-data stream/flights/0 --from 100 --to 120\n  \
        weir store accept-loss ./weir-data --all")]
    AcceptLoss(LossArgs),
}

#[derive(Debug, Args)]
pub struct FolderArg {
    /// Data folder; no broker may use it now
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    folder: FolderArg,
    /// Names of logs, as `stats` shows them [default: all]
    #[arg(value_name = "LOG")]
    logs: Vec<String>,
    /// Write what the catalogue keeps, and no messages
    #[arg(long)]
    catalogue: bool,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    folder: FolderArg,
    /// File [default: standard output, or input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LossArgs {
    #[command(flatten)]
    folder: FolderArg,
    /// Name of the log, as `check` shows it
    #[arg(value_name = "LOG", required_unless_present = "all", conflicts_with = "all")]
    log: Option<String>,
    /// Give up everything that is lost, of all logs
    #[arg(long)]
    all: bool,
    /// First offset that may be given up
    #[arg(long, default_value_t = 0, hide_default_value = true, conflicts_with = "all")]
    from: u64,
    /// One past the last [default: all that is lost]
    #[arg(long, conflicts_with = "all")]
    to: Option<u64>,
}

/// Runs a command. Waits for the disk.
pub(super) fn run(command: StoreCommand, mut out: Output) -> Result<(), Failure> {
    match command {
        StoreCommand::Check(FolderArg { folder }) => check(&folder, &mut out),
        StoreCommand::Dump(args) => dump(&args, &mut out),
        StoreCommand::Stats(FolderArg { folder }) => {
            let opened = Opened::of(&folder, out.json)?;
            stats(&opened.folder.figures(), &mut out)
        }
        StoreCommand::Export(args) => transfer::export(&args, &mut out),
        StoreCommand::Import(args) => transfer::import(&args, &mut out),
        StoreCommand::AcceptLoss(args) => accept_loss(&args, &mut out),
    }
}

fn check(path: &Path, out: &mut Output) -> Result<(), Failure> {
    let opened = Opened::of(path, out.json)?;
    let (report, json) = (opened.folder.report().clone(), out.json);
    let (mut logs, mut messages) = (0_u64, 0);
    let bad = opened.folder.check(&mut |_, count| {
        logs += 1;
        messages += count;
    });
    // What recovery has lost is not read again.
    let mut lost: Vec<(String, u64, u64)> =
        report.lost().map(|it| (it.log.clone(), it.from, it.to)).collect();
    lost.extend(bad);
    let lost = merged(lost);
    let is_sound = report.damage.is_empty() && lost.is_empty();
    if json {
        let lost: Vec<_> = lost
            .iter()
            .map(|(log, from, to)| json!({ "log": log, "from": from, "to": to }))
            .collect();
        out.value(&json!({
            "sound": is_sound, "logs": logs, "messages": messages, "clean": report.clean,
            "torn": report.unfinished(), "damage": report.damage, "heads": report.heads, "lost": lost,
            "set_aside": report.set_aside,
        }))?;
    } else {
        out.line(&format!("{logs} logs with {messages} messages were read"))?;
        for line in explain(&report) {
            out.line(&line)?;
        }
        for (log, from, to) in &lost {
            out.line(&format!("lost: {log} {from}..{to}"))?;
        }
        if is_sound {
            out.line("everything is sound")?;
        }
        out.flush()?;
    }
    if is_sound {
        return Ok(());
    }
    let text = match lost.len() {
        0 => "changes of what there is may be lost".to_owned(),
        1 => "a stretch of messages is lost".to_owned(),
        count => format!("{count} stretches of messages are lost"),
    };
    let shown = path.display();
    let hint = match lost.first() {
        Some((log, ..)) => format!(
            "restore {shown} from a copy, or give it up: weir store accept-loss {shown} {log}"
        ),
        None => format!(
            "restore {shown} from a copy, or accept that: weir store accept-loss {shown} --all; \
             without `store.strict` a broker starts over it as it is"
        ),
    };
    Err(Failure::new(Exit::NotFound, "data_loss", text, hint))
}

/// Stretches by log and in order, as one where they touch: recovery and reading may tell of
/// the same.
fn merged(mut lost: Vec<(String, u64, u64)>) -> Vec<(String, u64, u64)> {
    lost.sort();
    let mut merged: Vec<(String, u64, u64)> = Vec::with_capacity(lost.len());
    for (log, from, to) in lost {
        match merged.last_mut() {
            Some((last, _, end)) if *last == log && from <= *end => *end = to.max(*end),
            _ => merged.push((log, from, to)),
        }
    }
    merged
}

/// What a start found, in sentences.
pub(super) fn explain(report: &RecoveryReport) -> Vec<String> {
    let mut lines = vec![if report.clean {
        "the last broker stopped in good order".to_owned()
    } else {
        "the last broker did not stop in good order: what was acknowledged is kept".to_owned()
    }];
    let (files, blocks, records) = (report.journal_files, report.blocks, report.records);
    lines.push(format!(
        "{} logs; {records} messages in {blocks} blocks of {files} journal files, behind \
         checkpoint {}",
        report.logs, report.checkpoint
    ));
    if let Some(why) = &report.checkpoint_fallback {
        lines.push(format!("{why}; the one before it did, nothing is lost by that"));
    }
    for head in &report.heads {
        lines.push(format!("damaged, and nothing is lost by that: {head}"));
    }
    for LostRange { log, from, to } in &report.set_aside {
        lines.push(format!(
            "given up as lost, and back: {log} {from}..{to}; it went on without them, so they are \
             not read"
        ));
    }
    if let Some(torn) = report.unfinished() {
        lines.push(format!(
            "an unfinished end: {} bytes of {} from byte {}; they were never acknowledged",
            torn.bytes, torn.file, torn.at
        ));
    }
    for damage in &report.damage {
        let (file, from, to) = (&damage.file, damage.from, damage.to);
        lines.push(format!("damage: {file}, bytes {from}..{to}: {}", damage.what));
        if damage.lost.is_empty() {
            lines.push("  no message is known to be lost by it, but changes may be".to_owned());
        }
        let lost = damage.lost.iter();
        lines.extend(lost.map(|it| format!("  lost by it: {} {}..{}", it.log, it.from, it.to)));
    }
    lines
}

fn stats(figures: &FolderFigures, out: &mut Output) -> Result<(), Failure> {
    if out.json {
        for log in &figures.logs {
            out.json_line(&json!({
                "log": log.name, "start": log.start, "end": log.end, "messages": log.live,
                "bytes": log.bytes, "settled_stretches": log.settled_stretches,
                "segments": log.segments, "lost": log.damage,
            }))?;
        }
        return out.flush();
    }
    let head = ["LOG", "START", "END", "MESSAGES", "BYTES", "SEGMENTS", "LOST"];
    let row = |log: &tools::LogFigures| {
        let lost: u64 = log.damage.iter().map(|(from, to)| to - from).sum();
        let numbers = [log.start, log.end, log.live, log.bytes, log.segments as u64, lost];
        let numbers = numbers.into_iter().map(|number| number.to_string());
        std::iter::once(log.name.clone()).chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = figures.logs.iter().map(row).collect();
    out.table(&head, &rows)?;
    let (keys, files) = (figures.catalogue_keys, figures.journal_files);
    note(false, &format!("{keys} entries in the catalogue, {files} journal files to replay"));
    Ok(())
}

fn dump(args: &DumpArgs, out: &mut Output) -> Result<(), Failure> {
    let opened = Opened::of(&args.folder.folder, out.json)?;
    if args.catalogue {
        for (key, value) in opened.folder.catalogue() {
            let text = String::from_utf8_lossy(&value).into_owned();
            if out.json {
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                out.json_line(&json!({ "key": key, "value": value }))?;
            } else {
                out.line(&format!("{key}  {}", printable(text.as_bytes())))?;
            }
        }
        return out.flush();
    }
    let names = opened.folder.names();
    if let Some(unknown) = args.logs.iter().find(|log| !names.contains(log)) {
        return Err(Failure::new(
            Exit::NotFound,
            "not_found",
            format!("there is no log {unknown}"),
            format!("list them: weir store stats {}", args.folder.folder.display()),
        ));
    }
    let wanted = if args.logs.is_empty() { &names } else { &args.logs };
    for log in wanted {
        let mut written = Ok(());
        opened.folder.records(log, &mut |records| {
            if written.is_ok() {
                written = match records {
                    Err((from, to)) => lost(out, log, from, to),
                    Ok(records) => {
                        (0..records.batch.len()).try_for_each(|row| message(out, log, records, row))
                    }
                };
            }
        });
        written?;
    }
    out.flush()
}

fn lost(out: &mut Output, log: &str, from: u64, to: u64) -> Result<(), Failure> {
    if out.json {
        return out.json_line(&json!({ "log": log, "lost": { "from": from, "to": to } }));
    }
    out.line(&format!("{log} {from}..{to}  lost"))
}

fn message(
    out: &mut Output,
    log: &str,
    records: &weir_core::store::Records,
    row: usize,
) -> Result<(), Failure> {
    let view = records.batch.view(row);
    let offset = records.offset + row as u64;
    if !out.json {
        let (subject, payload) = (printable(view.subject.as_bytes()), printable(view.payload));
        return out.line(&format!("{log} {offset}  {subject}  {payload}"));
    }
    let mut object = Map::new();
    object.insert("log".into(), log.into());
    object.insert("offset".into(), offset.into());
    object.insert("time".into(), time::text(records.time_ms).into());
    if records.due_ms > 0 {
        object.insert("due".into(), time::text(records.due_ms).into());
    }
    payload::put_message(&mut object, &view);
    out.json_line(&Value::from(object))
}

fn accept_loss(args: &LossArgs, out: &mut Output) -> Result<(), Failure> {
    let path = &args.folder.folder;
    folder::require_data_folder(path)?;
    let files = OsFiles::new(path).map_err(|error| Failure::file(path, &error))?;
    let (files, clock) = (Arc::new(files), Arc::new(SystemClock::default()));
    let Some(log) = &args.log else {
        let given_up = tools::accept_all_losses(files, clock, config());
        let given_up = given_up.map_err(|error| failed(path, error))?;
        let stretches: Vec<String> =
            given_up.iter().map(|one| format!("{} {}..{}", one.log, one.from, one.to)).collect();
        let text = match stretches.len() {
            0 => "what may be missing is accepted; no message is known to be lost".to_owned(),
            _ => format!("given up: {}", stretches.join(", ")),
        };
        return out.done(&text, &json!({ "given_up": given_up }));
    };
    let range = args.from..args.to.unwrap_or(u64::MAX);
    let given_up = tools::accept_loss(files, clock, config(), log, range);
    let given_up = given_up.map_err(|error| failed(path, error))?;
    let stretches: Vec<String> =
        given_up.iter().map(|(from, to)| format!("{from}..{to}")).collect();
    let text = format!("{} of {log} is given up", stretches.join(", "));
    out.done(&text, &json!({ "log": log, "given_up": given_up }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_twice_is_one_loss() {
        let one = |log: &str, from, to| (log.to_owned(), from, to);
        let told = vec![
            one("queue/b", 10, 20),
            one("queue/a", 8, 9),
            one("queue/b", 0, 10),
            one("queue/b", 0, 20),
            one("queue/a", 3, 5),
        ];
        let expected = [one("queue/a", 3, 5), one("queue/a", 8, 9), one("queue/b", 0, 20)];
        assert_eq!(merged(told), expected);
    }
}
