//! Segments and logs that hold nothing any more, until they can be deleted: when a
//! checkpoint that was captured later does not name them.
//!
//! Until then the newest checkpoint names them, and a segment may even get new
//! records: the keeper may be filing to it while its store empties it.

use std::collections::HashSet;
use std::io;

use super::checkpoint::remove_if_there;
use crate::files::Files;
use crate::format::CheckpointContent;
use crate::segment;

struct One {
    log: u64,
    /// The segment; without one, the whole log.
    base: Option<u64>,
    /// What emptied it is synced when this position is.
    position: u64,
    told_ms: u64,
    /// Told before the capture that is under way, or was the last.
    is_before_capture: bool,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Gone {
    all: Vec<One>,
}

impl Gone {
    /// Takes note of a segment, or of a whole log.
    pub(super) fn add(&mut self, log: u64, base: Option<u64>, position: u64, told_ms: u64) {
        self.all.push(One { log, base, position, told_ms, is_before_capture: false });
    }

    /// The logs that are gone as a whole.
    pub(super) fn logs(&self) -> HashSet<u64> {
        self.all.iter().filter(|one| one.base.is_none()).map(|one| one.log).collect()
    }

    /// Since when the one that waits longest waits.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.all.iter().map(|one| one.told_ms).min()
    }

    /// What is told from here on is newer than the next checkpoint.
    pub(super) fn begin_capture(&mut self) {
        self.all.iter_mut().for_each(|one| one.is_before_capture = true);
    }

    /// Takes what can be deleted, now that a checkpoint with this content, of this
    /// position, is in place. What it names still holds something, or again: it is
    /// told of anew when that changes.
    pub(super) fn take(
        &mut self,
        content: &CheckpointContent,
        position: u64,
        now_ms: u64,
    ) -> Vec<(u64, Option<u64>)> {
        let logs: HashSet<u64> = content.logs.iter().map(|log| log.log).collect();
        let segments: HashSet<(u64, u64)> =
            content.segments.iter().map(|state| (state.log, state.base)).collect();
        let mut deletable = Vec::new();
        self.all.retain_mut(|one| {
            if !one.is_before_capture {
                return true;
            }
            // What stays waits as long again.
            one.told_ms = now_ms;
            if one.position > position {
                return true;
            }
            let is_named = match one.base {
                Some(base) => segments.contains(&(one.log, base)),
                None => logs.contains(&one.log),
            };
            if !is_named {
                deletable.push((one.log, one.base));
            }
            is_named && one.base.is_none()
        });
        deletable
    }
}

/// Deletes a segment's file, or a log's folder with what is in it. As an error, with
/// what could not be deleted: it costs space, nothing else.
pub(super) fn delete(
    files: &dyn Files,
    log: u64,
    base: Option<u64>,
) -> Result<(), (String, io::Error)> {
    let folder = segment::folder(log);
    let named = |path: &str| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if let Some(base) = base {
        let path = segment::path(log, base);
        remove_if_there(files, &path).map_err(named(&path))?;
        // So that it does not come back and look like a stray.
        return match files.sync_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((folder, error)),
            _ => Ok(()),
        };
    }
    for entry in files.list(&folder).map_err(named(&folder))? {
        let path = format!("{folder}/{}", entry.name);
        remove_if_there(files, &path).map_err(named(&path))?;
    }
    match files.remove_folder(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((folder, error)),
        _ => {}
    }
    files.sync_folder("logs").map_err(named("logs"))
}
