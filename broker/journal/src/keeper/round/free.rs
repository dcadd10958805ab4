//! What a round gives back, and what it does where there is no space: deletes what two
//! checkpoints, or one, do without, watches the disk, and tries again later.

use super::{Keeper, KeeperEvent};
use crate::files::remove_if_there;
use crate::format::CheckpointContent;
use crate::keeper::{checkpoint, gone};
use crate::limits::SPARES_PRESSED;

impl Keeper {
    /// Whether a checkpoint, or the one behind it, gives something back.
    pub(super) fn frees_something(&self) -> bool {
        self.gone.oldest_ms().is_some() || self.oldest_journal < self.replay_from
    }

    /// Gives back journal files and checkpoints that the two newest checkpoints do
    /// not need.
    pub(super) fn free(&mut self, number: u64, replay_from: u64) {
        for sequence in self.oldest_journal..self.checkpoint_replay_from {
            self.rest.recycle(sequence);
        }
        self.oldest_journal = self.oldest_journal.max(self.checkpoint_replay_from);
        self.checkpoint_replay_from = replay_from;
        self.checkpoint = number;
        if std::mem::replace(&mut self.has_checkpointed, true) {
            // Not before the second one: what was there may be damaged.
            let old = self.old_checkpoints(number - 1);
            for path in old {
                if let Err(error) = remove_if_there(&*self.files, &path) {
                    self.rest.report(KeeperEvent::NotDeleted { path, what: error.to_string() });
                }
            }
        }
    }

    /// Checkpoints before number `before`.
    fn old_checkpoints(&self, before: u64) -> Vec<String> {
        let entries = self.files.list("").unwrap_or_default();
        let names = entries.into_iter().map(|entry| entry.name);
        let end = checkpoint::path(before);
        // Names have a fixed width: they sort as their numbers do.
        names
            .filter(|name| name.starts_with("checkpoint-") && name.ends_with(".wc"))
            .filter(|name| name.len() == end.len() && *name < end)
            .collect()
    }

    pub(super) fn delete_gone(&mut self, content: &CheckpointContent, position: u64, now_ms: u64) {
        for one in self.gone.take(content, position, now_ms) {
            let (log, what) = (one.log, one.what);
            self.scrub.forget(log, what);
            let mut handles = self.rest.handles().lock().expect("no panic under this lock");
            handles.forget(log, |base, revision| what.covers(base, revision));
            drop(handles);
            if let Err((path, error)) = gone::delete(&*self.files, &one) {
                self.rest.report(KeeperEvent::NotDeleted { path, what: error.to_string() });
            }
        }
    }

    /// Gives the disk what the writer does not need to go on.
    pub(super) fn give_up_spares(&self) {
        while self.rest.give_up_spare(SPARES_PRESSED) {}
    }

    /// Tries again later.
    pub(super) fn wait_for_space(&mut self, what: String, now_ms: u64) {
        self.space.set_full(true);
        self.retry_ms = now_ms + self.policy.retry_ms;
        self.rest.report(KeeperEvent::NoSpace { what });
    }

    pub(super) fn watch_space(&mut self, now_ms: u64) {
        if self.space.is_due(now_ms)
            && let Ok(space) = self.files.free()
        {
            let room = self.space.look(space, &self.policy);
            self.rest.note_room(room);
            if self.space.presses() {
                self.give_up_spares();
            }
        }
        if let Some(on) = self.space.news() {
            self.rest.set_no_space(on);
        }
    }
}
