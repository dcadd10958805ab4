//! Hints from the operating system that a folder changed. What changed is found
//! out by looking: any event means rescan, none is believed.
//!
//! The loader arms the watch at the start of every pass, before it looks: what
//! changed before is seen by looking, what changes after gives an event. Arming
//! anew each time is what makes swapped and re-created folders work, because a
//! watch follows the folder it was set on, not the path.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Watches a changing set of folders, each without its subfolders.
pub(crate) struct FolderWatch {
    watcher: RecommendedWatcher,
    armed: BTreeSet<PathBuf>,
}

impl FolderWatch {
    /// Starts with nothing watched. `roots` are the folders that matter; a watch
    /// on a folder above one of them reports only the root itself. `changed` is
    /// called on the watcher's own thread and must not wait.
    ///
    /// # Errors
    /// One sentence, when the operating system offers no watches.
    pub(crate) fn start(
        roots: &[PathBuf],
        changed: impl Fn() + Send + 'static,
    ) -> Result<Self, String> {
        let roots = roots.to_vec();
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if !matters(&event, &roots) => {}
            // An error may hide an event (a full queue does), so it counts as one.
            Ok(_) | Err(_) => changed(),
        };
        let watcher = notify::recommended_watcher(handler)
            .map_err(|error| format!("folders cannot be watched: {error}"))?;
        Ok(Self { watcher, armed: BTreeSet::new() })
    }

    /// Watches exactly `folders` from now on. Returns those that refused: they
    /// are still covered by the rescan.
    pub(crate) fn arm(&mut self, folders: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        for folder in std::mem::take(&mut self.armed) {
            // Gone with its folder, most likely.
            let _ = self.watcher.unwatch(&folder);
        }
        let mut refused = Vec::new();
        for folder in folders {
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.armed.insert(folder.clone())),
                Err(_) => refused.push(folder.clone()),
            }
        }
        refused
    }
}

fn matters(event: &notify::Event, roots: &[PathBuf]) -> bool {
    match event.kind {
        // Our own reading raises these; only the end of a write is news.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ => {}
    }
    event.paths.is_empty() || event.paths.iter().any(|path| concerns(path, roots))
}

/// Whether `path` is a root or inside one. Links make other spellings possible,
/// so only what is surely a neighbour of a root is left out.
fn concerns(path: &Path, roots: &[PathBuf]) -> bool {
    let neighbour = roots.iter().any(|root| path.parent() == root.parent());
    !neighbour || roots.iter().any(|root| root == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind, RenameMode};

    fn event(kind: EventKind, path: &str) -> notify::Event {
        notify::Event::new(kind).add_path(PathBuf::from(path))
    }

    #[test]
    fn reading_is_no_news_and_neighbours_do_not_matter() {
        let roots = [PathBuf::from("/data/plugins"), PathBuf::from("/data/bindings")];
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let made = EventKind::Create(CreateKind::File);
        assert!(!matters(&event(read, "/data/plugins/a.wasm"), &roots));
        assert!(matters(&event(written, "/data/plugins/a.wasm"), &roots));
        assert!(matters(&event(renamed, "/data/plugins"), &roots));
        assert!(!matters(&event(made, "/data/journal"), &roots));
        assert!(matters(&event(made, "/data/plugins/geo/plugin.toml"), &roots));
    }
}
