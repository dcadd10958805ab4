//! What a start makes anew: queues, streams and groups as the catalogue has them, in
//! the directory and in the shards, before anybody can connect.
//!
//! A queue that the broker made by itself, for dead letters or for what a filter could
//! not judge, may have no entry yet: the process ended just then, or there was no space
//! for it. Its log says that it is there, so it gets one. Other logs without an entry are
//! left from what was being removed. They go too, unless something was lost or could not
//! be made anew: then nobody can say whose they are, and they stay for good.

use std::collections::HashSet;

use bytes::Bytes;
use tracing::{error, info, warn};
use weir_core::command::{Command, QueueConfig};
use weir_core::directory::{Directory, Settings};
use weir_core::name::Name;
use weir_core::store::StoreError;
use weir_journal::OpenError;

use crate::kept::{HELD, Kept, KeptGroup, Restored, is_made_by_broker};
use crate::storage::Storage;

/// What a start goes on with.
pub struct Beginning {
    /// Everything there is.
    pub directory: Directory,
    /// For each shard what makes it anew.
    pub commands: Vec<Vec<Command>>,
}

/// Reads the catalogue and clears up behind an end that was not a clean one. Waits
/// for the disk.
///
/// # Errors
/// [`OpenError`] when the catalogue cannot be read, or the store fails.
pub fn restore(storage: &mut Storage) -> Result<Beginning, OpenError> {
    let shards = u32::try_from(storage.stores.len()).expect("shards are counted in 32 bits");
    let mut restoring = Restoring {
        directory: Directory::new(shards),
        commands: (0..shards).map(|_| Vec::new()).collect(),
        logs: HashSet::new(),
        is_whole: storage.journal.as_ref().is_none_or(|it| it.report().damage.is_empty()),
    };
    // Groups last: they need their streams.
    for prefix in ["queue/", "stream/", "group/"] {
        for (key, entry) in storage.catalogue.list(prefix) {
            let kept = Kept::decode(&entry.value).map_err(|error| unreadable(&key, &error))?;
            restoring.take(storage, &key, entry.revision, &kept)?;
        }
    }
    restoring.clear_up(storage)?;
    Ok(Beginning { directory: restoring.directory, commands: restoring.commands })
}

fn unreadable(key: &str, why: &dyn std::fmt::Display) -> OpenError {
    OpenError::Metadata { what: format!("the catalogue's entry {key} cannot be read: {why}") }
}

fn failed(error: StoreError) -> OpenError {
    let error = std::io::Error::other(error);
    OpenError::Io { path: "journal".into(), error }
}

struct Restoring {
    directory: Directory,
    commands: Vec<Vec<Command>>,
    /// Names of the logs of all there is.
    logs: HashSet<String>,
    /// Whether the catalogue lacks nothing, and everything in it is there again.
    is_whole: bool,
}

impl Restoring {
    fn take(
        &mut self,
        storage: &mut Storage,
        key: &str,
        revision: u64,
        kept: &Kept,
    ) -> Result<(), OpenError> {
        match kept {
            Kept::Queue(queue) => match queue.restored() {
                Ok(restored) => self.add(restored),
                // Earlier versions made such queues of long names; no client can name them.
                Err(wrong) if is_of_broker(key) => {
                    error!(%key, %wrong, "cannot be made anew; its messages stay on disk");
                    self.is_whole = false;
                }
                Err(wrong) => return Err(unreadable(key, &wrong)),
            },
            Kept::Stream(stream) => {
                let restored = stream.restored().map_err(|error| unreadable(key, &error))?;
                self.add(restored);
            }
            Kept::Group(group) => {
                if !self.add_group(key, group)? && self.is_whole {
                    // The stream was being removed.
                    info!(%key, "removed: its stream is gone");
                    storage.catalogue.put(key, None, revision).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, restored: Restored) {
        let Restored { name, subjects, settings } = restored;
        let made = match self.directory.restore(&name, subjects, settings.clone()) {
            Ok(made) => made,
            Err(rejection) => {
                error!(name = name.as_str(), %rejection, "cannot be made anew; its messages stay");
                self.is_whole = false;
                return;
            }
        };
        let (id, name) = (made.id, name.as_str().to_owned());
        let command = match settings {
            Settings::Queue(config) => {
                self.logs.insert(format!("queue/{name}"));
                Command::CreateQueue { id, name, config }
            }
            Settings::Stream(config) => {
                let logs = 0..config.partitions;
                self.logs.extend(logs.map(|partition| format!("stream/{name}/{partition}")));
                Command::CreateStream { id, name, config }
            }
        };
        self.commands[made.shard as usize].push(command);
    }

    /// False when there is no such stream.
    fn add_group(&mut self, key: &str, kept: &KeptGroup) -> Result<bool, OpenError> {
        let restored = kept.restored().map_err(|error| unreadable(key, &error))?;
        let (stream, name, config) = (restored.stream, restored.name, restored.config);
        let Some(found) = self.directory.find(&stream) else { return Ok(false) };
        let Settings::Stream(settings) = &found.settings else { return Ok(false) };
        let partitions = settings.partitions;
        match self.directory.restore_group(&stream, &name, config.clone()) {
            Ok(made) => {
                let logs = 0..partitions;
                let group = name.as_str().to_owned();
                self.logs.extend(logs.map(|it| format!("group/{stream}/{group}/{it}")));
                let command = Command::PutGroup { stream: made.id, group, config };
                self.commands[made.shard as usize].push(command);
            }
            Err(rejection) => {
                error!(%key, %rejection, "cannot be made anew; where it was is kept");
                self.is_whole = false;
            }
        }
        Ok(true)
    }

    /// Deals with logs that belong to nothing in the catalogue.
    fn clear_up(&mut self, storage: &mut Storage) -> Result<(), OpenError> {
        let Some(journal) = &storage.journal else { return Ok(()) };
        let mut unknown = journal.unopened();
        unknown.retain(|log| !self.logs.contains(log));
        // `orders/dead` before what could be taken for its own.
        for log in unknown {
            match own_queue(&log) {
                Some(name) => self.adopt(storage, &name)?,
                None if self.is_whole && !is_of_broker(&log) && !is_left(storage, &log) => {
                    remove(storage, &log)?;
                }
                None => leave(storage, &log)?,
            }
        }
        Ok(())
    }

    /// Lists a queue that the broker made, and that has a log and no entry, as it made it.
    fn adopt(&mut self, storage: &mut Storage, name: &Name) -> Result<(), OpenError> {
        let text = name.as_str();
        let mut serves = text.rmatch_indices('/').map(|(at, _)| &text[..at]);
        let serves = serves.find_map(|source| self.directory.find(source));
        // What is held belongs to a binding, whatever else has that name.
        let serves = serves.filter(|_| !text.ends_with(HELD));
        let level = serves.map_or(storage.level_max(), |found| found.settings.level());
        let settings = Settings::Queue(QueueConfig { level, ..QueueConfig::default() });
        info!(queue = text, "found without an entry: it was made for dead or held messages");
        let kept = Kept::destination(text, &[], &settings);
        match storage.catalogue.put(&kept.key(), Some(kept.encode()), 0) {
            Ok(_) => {}
            // It has its messages; the next start sees to it again.
            Err(StoreError::NoSpace) => warn!(queue = text, "no space to list it"),
            Err(failure) => return Err(failed(failure)),
        }
        self.add(Restored { name: name.clone(), subjects: Vec::new(), settings });
        Ok(())
    }
}

/// Whether it is the log of a queue that the broker made by itself.
fn is_of_broker(log: &str) -> bool {
    log.strip_prefix("queue/").is_some_and(is_made_by_broker)
}

/// The queue whose log this is, if that is one that the broker makes by itself.
fn own_queue(log: &str) -> Option<Name> {
    let name = log.strip_prefix("queue/").filter(|_| is_of_broker(log))?;
    Name::parse(name).ok()
}

fn left_key(log: &str) -> String {
    format!("left/{log}")
}

/// Whether an earlier start has left it alone: what was lost then is still lost.
fn is_left(storage: &Storage, log: &str) -> bool {
    storage.catalogue.get(&left_key(log)).is_some()
}

fn leave(storage: &mut Storage, log: &str) -> Result<(), OpenError> {
    warn!(%log, "belongs to nothing that is known; it is left alone");
    if is_left(storage, log) {
        return Ok(());
    }
    match storage.catalogue.put(&left_key(log), Some(Bytes::new()), 0) {
        // Without space nothing is removed either, now.
        Ok(_) | Err(StoreError::NoSpace) => Ok(()),
        Err(failure) => Err(failed(failure)),
    }
}

fn remove(storage: &mut Storage, log: &str) -> Result<(), OpenError> {
    info!(%log, "removed: it belongs to nothing that there is");
    let store = &mut storage.stores[0].store;
    let opened = store.open(log).map_err(failed)?;
    store.remove(opened).map_err(failed)?;
    store.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use weir_core::command::{GroupConfig, Level, StreamConfig};
    use weir_core::store::Stamp;
    use weir_journal::sim::SimFiles;
    use weir_journal::{Journal, JournalConfig};
    use weir_message::BatchBuilder;

    use super::*;
    use crate::storage::ShardStore;
    use crate::system::SystemClock;

    fn opened(files: &SimFiles) -> Storage {
        let config = JournalConfig {
            journal_file_bytes: 1 << 20,
            free_bytes_min: 0,
            free_percent_min: 0,
            ..JournalConfig::new(7)
        };
        let (files, clock) = (Arc::new(files.clone()), Arc::new(SystemClock::default()));
        let journal = Journal::open(files, clock, config, 1).unwrap();
        let store = Box::new(journal.store(Box::new(|| {})));
        Storage {
            stores: vec![ShardStore { store, bell: Arc::default() }],
            catalogue: Box::new(journal.catalogue()),
            journal: Some(journal),
        }
    }

    #[test]
    fn what_the_broker_made_is_there_again_without_an_entry_and_nothing_else_is() {
        let files = SimFiles::new(1);
        let mut storage = opened(&files);
        // Made by a client, less safe than what the broker makes.
        for name in ["orders", "guard"] {
            let config = QueueConfig { level: Level::Os, ..QueueConfig::default() };
            let kept = Kept::destination(name, &[], &Settings::Queue(config));
            storage.catalogue.put(&kept.key(), Some(kept.encode()), 0).unwrap();
        }
        for log in ["queue/guard/held", "queue/orders/dead", "queue/guard/gone"] {
            let store = &mut storage.stores[0].store;
            let opened = store.open(log).unwrap();
            let mut batch = BatchBuilder::default();
            batch.push(b"acknowledged");
            let stamp = Stamp { time_ms: 1, due_ms: 0 };
            store.append(opened, 0, stamp, batch.take(), Level::Disk).unwrap();
            store.commit().unwrap();
        }
        storage.close().unwrap();
        let mut storage = opened(&files);
        let Beginning { directory, commands } = restore(&mut storage).unwrap();
        let settings = |name: &str| directory.find(name).map(|found| found.settings.clone());
        let made = |level| Some(Settings::Queue(QueueConfig { level, ..QueueConfig::default() }));
        assert_eq!(settings("guard/held"), made(Level::Disk), "as it is made for a binding");
        assert_eq!(settings("orders/dead"), made(Level::Os), "as safe as what it serves");
        assert_eq!(settings("guard/gone"), None);
        assert_eq!(commands[0].len(), 4);
        for (key, is_there) in
            [("queue/guard/held", true), ("queue/orders/dead", true), ("queue/guard/gone", false)]
        {
            assert_eq!(storage.catalogue.get(key).is_some(), is_there, "{key}");
            assert_eq!(storage.stores[0].store.has(key), is_there, "{key}");
        }
        storage.close().unwrap();
    }

    #[test]
    fn a_queue_of_the_broker_s_own_that_nobody_can_name_stops_no_start() {
        let files = SimFiles::new(1);
        let mut storage = opened(&files);
        let long = format!("{}/dead", "q".repeat(weir_core::limits::NAME_BYTES_MAX));
        let settings = Settings::Queue(QueueConfig::default());
        for name in ["orders", &long] {
            let kept = Kept::destination(name, &[], &settings);
            storage.catalogue.put(&kept.key(), Some(kept.encode()), 0).unwrap();
        }
        // Of another one, its log is all there is.
        let logs = [&long, &format!("b{long}")].map(|name| format!("queue/{name}"));
        for log in &logs {
            storage.stores[0].store.open(log).unwrap();
            storage.stores[0].store.commit().unwrap();
        }
        storage.close().unwrap();
        let mut storage = opened(&files);
        let Beginning { directory, .. } = restore(&mut storage).unwrap();
        assert!(directory.find("orders").is_some() && directory.find(&long).is_none());
        for log in &logs {
            assert!(storage.stores[0].store.has(log), "{log}");
        }
        storage.close().unwrap();
    }

    #[test]
    fn groups_stay_while_the_entry_of_their_stream_may_be_lost() {
        let files = SimFiles::new(1);
        let mut storage = opened(&files);
        let stream = Settings::Stream(StreamConfig::default());
        let entries = [
            Kept::destination("news", &[], &stream),
            Kept::group("news", "readers", &GroupConfig::default()),
        ];
        for kept in &entries {
            storage.catalogue.put(&kept.key(), Some(kept.encode()), 0).unwrap();
        }
        storage.close().unwrap();
        let lost = entries[0].encode();
        let damaged = files.paths().into_iter().filter(|path| path.starts_with("journal/"));
        for path in damaged {
            let bytes = files.bytes(&path).unwrap();
            if let Some(at) = bytes.windows(lost.len()).position(|part| part == lost) {
                files.damage(&path, b"?", at as u64);
            }
        }
        let mut storage = opened(&files);
        assert!(!storage.journal.as_ref().unwrap().report().damage.is_empty());
        restore(&mut storage).unwrap();
        let [stream, group] = entries.map(|kept| storage.catalogue.get(&kept.key()).is_some());
        assert!(!stream && group, "stream {stream}, group {group}");
        storage.close().unwrap();
    }
}
