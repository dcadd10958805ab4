//! What lies in the folder and belongs to nothing: half of what was never finished, what
//! outlived its log, and what is not Weir's.
//!
//! Invariants: what Weir has not made is never deleted, nor put in the place of anything;
//! while damage is found, files of a log that nobody knows stay: what names it may be
//! what is damaged.

use std::collections::{HashMap, HashSet};

use super::{OpenError, io};
use crate::files::Files;
use crate::format::CheckpointContent;
use crate::log::Log;
use crate::segment;
use crate::spares;

/// Where it is put.
const QUARANTINE: &str = "quarantine";

/// Removes prepared files of an earlier start, and sets aside what is not Weir's; `others`
/// are the names in the journal's folder that are no journal file's.
pub(super) fn clear(files: &dyn Files, others: &[String]) -> Result<(), OpenError> {
    for name in others {
        let path = format!("journal/{name}");
        match spares::is_name(name) {
            true => files.remove(&path).map_err(io(&path))?,
            false => set_aside(files, "journal", name, name)?,
        }
    }
    Ok(())
}

/// Whether there are segments, of whatever log.
pub(super) fn has_segments(files: &dyn Files) -> Result<bool, OpenError> {
    for folder in files.list("logs").map_err(io("logs"))? {
        let path = format!("logs/{}", folder.name);
        if !folder.is_folder {
            continue;
        }
        let entries = files.list(&path).map_err(io(&path))?;
        if entries.iter().any(|entry| segment::parse_name(&entry.name).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes segments that no log has: of removed logs, or half filed.
/// A file that another revision stands for stays while one of the `checkpoints` names
/// it: the older may be needed when the newer turns out to be damaged.
pub(super) fn remove(
    files: &dyn Files,
    logs: &HashMap<u64, Log>,
    checkpoints: &[&CheckpointContent],
    is_damaged: bool,
) -> Result<(), OpenError> {
    let states = checkpoints.iter().flat_map(|content| &content.segments);
    let named: HashSet<(u64, u64, u8)> =
        states.map(|state| (state.log, state.base, state.revision)).collect();
    for folder in files.list("logs").map_err(io("logs"))? {
        let path = format!("logs/{}", folder.name);
        let number = u64::from_str_radix(&folder.name, 16).ok();
        let number = number.filter(|&number| folder.is_folder && segment::folder(number) == path);
        let Some(number) = number else {
            set_aside(files, "logs", &folder.name, &folder.name)?;
            continue;
        };
        let log = logs.get(&number);
        let mut left = 0;
        for entry in files.list(&path).map_err(io(&path))? {
            let parsed = segment::parse_name(&entry.name);
            let is_ours = parsed.is_some() || segment::is_temporary(&entry.name);
            if entry.is_folder || !is_ours {
                set_aside(files, &path, &entry.name, &format!("{}-{}", folder.name, entry.name))?;
                continue;
            }
            let is_needed = |log: &Log, base, revision| {
                let of_base = log.segments.iter().find(|one| one.base == base);
                of_base.is_some_and(|one| {
                    revision == one.revision
                        || revision < one.revision && named.contains(&(number, base, revision))
                })
            };
            let stays = match log {
                Some(log) => {
                    parsed.is_some_and(|(base, revision)| is_needed(log, base, revision))
                        || log.damage.len() > 0
                }
                None => is_damaged,
            };
            if stays {
                left += 1;
            } else {
                let file = format!("{path}/{}", entry.name);
                files.remove(&file).map_err(io(&file))?;
            }
        }
        if left == 0 {
            files.remove_folder(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

/// Moves what lies in `folder` under `name` to where it is in nobody's way, as `kept`, or
/// with a number behind that where there is one already.
fn set_aside(files: &dyn Files, folder: &str, name: &str, kept: &str) -> Result<(), OpenError> {
    files.make_folder(QUARANTINE).map_err(io(QUARANTINE))?;
    let there = files.list(QUARANTINE).map_err(io(QUARANTINE))?;
    let there: HashSet<String> = there.into_iter().map(|entry| entry.name).collect();
    let numbered = (2..).map(|number| format!("{kept}.{number}"));
    let mut names = std::iter::once(kept.to_owned()).chain(numbered);
    let free = names.find(|name| !there.contains(name)).expect("numbers do not end");
    let path = format!("{folder}/{name}");
    files.rename(&path, &format!("{QUARANTINE}/{free}")).map_err(io(&path))?;
    files.sync_folder(QUARANTINE).map_err(io(QUARANTINE))?;
    files.sync_folder(folder).map_err(io(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimFiles;

    fn with(paths: &[&str]) -> SimFiles {
        let files = SimFiles::new(1);
        for path in paths {
            let (folder, _) = path.rsplit_once('/').expect("it lies in a folder");
            files.make_folder(folder).expect("it can be made");
            let file = files.create(path).expect("it is new");
            file.write_at(path.as_bytes(), 0).expect("there is room");
        }
        files
    }

    /// What lies there now, and what it held: where it came from.
    fn origins(files: &SimFiles) -> Vec<(String, String)> {
        let text = |path: &String| String::from_utf8(files.bytes(path).expect("it is there"));
        files
            .paths()
            .into_iter()
            .map(|path| (path.clone(), text(&path).expect("it is text")))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(path, origin)| (path.to_owned(), origin.to_owned())).collect()
    }

    #[test]
    fn what_is_not_ours_is_set_aside_and_replaces_nothing() {
        let one = segment::folder(1);
        let (x, bak) = (format!("{one}/x"), format!("{one}/s-2.ws.bak"));
        let foreign = ["journal/notes.tmp", "journal/x", &x, &bak, "logs/x"];
        let files = with(&foreign);
        for turn in 0..2 {
            let others = ["notes.tmp", "x", "spare-00000001.tmp"].map(str::to_owned);
            if turn == 1 {
                for path in foreign {
                    if path.starts_with(&one) {
                        files.make_folder(&one).expect("it can be made");
                    }
                    let file = files.create(path).expect("it has gone");
                    file.write_at(format!("{path} again").as_bytes(), 0).expect("there is room");
                }
            }
            drop(files.create("journal/spare-00000001.tmp").expect("it is new"));
            clear(&files, &others).expect("it can be done");
            remove(&files, &HashMap::new(), &[], false).expect("it can be done");
        }
        let expected = pairs(&[
            ("quarantine/0000000000000001-s-2.ws.bak", &bak),
            ("quarantine/0000000000000001-s-2.ws.bak.2", &format!("{bak} again")),
            ("quarantine/0000000000000001-x", &x),
            ("quarantine/0000000000000001-x.2", &format!("{x} again")),
            ("quarantine/notes.tmp", "journal/notes.tmp"),
            ("quarantine/notes.tmp.2", "journal/notes.tmp again"),
            ("quarantine/x", "journal/x"),
            ("quarantine/x.2", "logs/x"),
            ("quarantine/x.3", "journal/x again"),
            ("quarantine/x.4", "logs/x again"),
        ]);
        assert_eq!(origins(&files), expected);
    }

    #[test]
    fn what_nobody_knows_stays_while_damage_is_found() {
        let (segment, half) = (segment::path(7, 0, 0), format!("{}.tmp", segment::path(7, 64, 0)));
        let files = with(&[&segment, &half]);
        remove(&files, &HashMap::new(), &[], true).expect("it can be done");
        let mut left = files.paths();
        left.sort();
        assert_eq!(left, [segment, half]);
        remove(&files, &HashMap::new(), &[], false).expect("it can be done");
        assert_eq!(files.paths(), Vec::<String>::new());
    }
}
