//! Segments and logs that hold nothing any more, until they can be deleted: when a
//! checkpoint that was captured later does not name them.
//!
//! Until then the newest checkpoint names them, and a segment may even get new
//! records: the keeper may be filing to it while its store empties it. A file that
//! was written again goes when two checkpoints do without it: a start that has to
//! take the older one needs all that lives in it.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::files::{Files, remove_if_there};
use crate::format::{CheckpointContent, LogState, SegmentState};
use crate::segment;

/// What of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All of it.
    Log,
    /// The segment with this base, in all its revisions.
    Segment(u64),
    /// That revision of a segment, which another one stands for.
    Replaced(u64, u8),
}

impl What {
    /// Whether the file of the segment with that base and revision is meant.
    pub(super) fn covers(self, base: u64, revision: u8) -> bool {
        match self {
            Self::Log => true,
            Self::Segment(segment) => segment == base,
            Self::Replaced(segment, replaced) => (segment, replaced) == (base, revision),
        }
    }
}

struct One {
    log: u64,
    what: What,
    /// Checkpoints that must do without it.
    checkpoints: u8,
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
    /// The newest revision of segments that were written again, by log and base.
    revisions: HashMap<(u64, u64), u8>,
}

/// What can be deleted.
pub(super) struct Deletable {
    pub(super) log: u64,
    pub(super) what: What,
    /// The newest revision of the segment that there may be a file of.
    revision: u8,
}

impl Gone {
    /// Takes note of a segment, or of a whole log.
    pub(super) fn add(&mut self, log: u64, what: What, position: u64, told_ms: u64) {
        let checkpoints = if matches!(what, What::Replaced(..)) { 2 } else { 1 };
        let is_before_capture = false;
        self.all.push(One { log, what, checkpoints, position, told_ms, is_before_capture });
    }

    /// Takes note of what a start has found: of files that others stand for, which the
    /// checkpoint before the newest needs.
    pub(super) fn recover(
        &mut self,
        files: &dyn Files,
        logs: &[(LogState, Vec<SegmentState>)],
        now_ms: u64,
    ) {
        for (log, segments) in logs {
            let newest: HashMap<u64, u8> = segments
                .iter()
                .filter(|segment| segment.revision > 0)
                .map(|segment| (segment.base, segment.revision))
                .collect();
            for (&base, &revision) in &newest {
                self.note_revision(log.log, base, revision);
            }
            // Where something is lost all files stay as they are.
            if newest.is_empty() || !log.damage.is_empty() {
                continue;
            }
            // What cannot be listed now costs space until the next start.
            let entries = files.list(&segment::folder(log.log)).unwrap_or_default();
            for (base, revision) in entries.iter().filter_map(|e| segment::parse_name(&e.name)) {
                if newest.get(&base).is_some_and(|&newest| revision < newest) {
                    self.add(log.log, What::Replaced(base, revision), 0, now_ms);
                }
            }
        }
    }

    /// Takes note of a segment's newest revision.
    pub(super) fn note_revision(&mut self, log: u64, base: u64, revision: u8) {
        self.revisions.insert((log, base), revision);
    }

    /// The logs that are gone as a whole.
    pub(super) fn logs(&self) -> HashSet<u64> {
        self.all.iter().filter(|one| one.what == What::Log).map(|one| one.log).collect()
    }

    /// Whether the segment holds nothing any more, as far as was told.
    pub(super) fn has(&self, log: u64, base: u64) -> bool {
        let is_it = |one: &One| one.what == What::Log || one.what == What::Segment(base);
        self.all.iter().any(|one| one.log == log && is_it(one))
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
    ) -> Vec<Deletable> {
        let logs: HashSet<u64> = content.logs.iter().map(|log| log.log).collect();
        let segments: HashMap<(u64, u64), u8> =
            content.segments.iter().map(|one| ((one.log, one.base), one.revision)).collect();
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
            let is_named = match one.what {
                What::Log => logs.contains(&one.log),
                What::Segment(base) => segments.contains_key(&(one.log, base)),
                What::Replaced(base, revision) => segments.get(&(one.log, base)) == Some(&revision),
            };
            if is_named {
                return one.what == What::Log;
            }
            one.checkpoints -= 1;
            if one.checkpoints == 0 {
                let revision = match one.what {
                    What::Segment(base) => self.revisions.remove(&(one.log, base)),
                    _ => None,
                };
                let revision = revision.unwrap_or(0);
                deletable.push(Deletable { log: one.log, what: one.what, revision });
            }
            one.checkpoints > 0
        });
        for one in deletable.iter().filter(|one| one.what == What::Log) {
            self.revisions.retain(|(log, _), _| *log != one.log);
        }
        deletable
    }
}

/// Deletes files of a segment, or a log's folder with what is in it. As an error, with
/// what could not be deleted: it costs space, nothing else.
pub(super) fn delete(files: &dyn Files, one: &Deletable) -> Result<(), (String, io::Error)> {
    let folder = segment::folder(one.log);
    let named = |path: &str| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let paths: Vec<String> = match one.what {
        What::Log => {
            let entries = files.list(&folder).map_err(named(&folder))?;
            entries.into_iter().map(|entry| format!("{folder}/{}", entry.name)).collect()
        }
        What::Segment(base) => {
            (0..=one.revision).map(|revision| segment::path(one.log, base, revision)).collect()
        }
        What::Replaced(base, revision) => vec![segment::path(one.log, base, revision)],
    };
    for path in paths {
        remove_if_there(files, &path).map_err(named(&path))?;
    }
    if one.what != What::Log {
        // So that it does not come back and look like a stray.
        return match files.sync_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((folder, error)),
            _ => Ok(()),
        };
    }
    match files.remove_folder(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((folder, error)),
        _ => {}
    }
    files.sync_folder("logs").map_err(named("logs"))
}
