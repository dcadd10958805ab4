//! The rest of the journal as the keeper sees it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use weir_core::store::StoreError;

use crate::catalogue::CatalogueState;
use crate::files::File;
use crate::format::{CheckpointContent, LogState, SegmentState};
use crate::keeper::{Ask, Collected, FiledLog, KeeperEvent, Rest, Told};
use crate::limits;
use crate::log::{Freed, Log};
use crate::segment::Handles;
use crate::shared::Shared;
use crate::spares;
use crate::writer;

/// What the keeper had to tell, the newest of it.
#[derive(Debug, Default)]
pub(crate) struct KeeperNews {
    lines: Mutex<VecDeque<String>>,
}

impl KeeperNews {
    pub(crate) fn take(&self) -> Vec<String> {
        Shared::lock(&self.lines).drain(..).collect()
    }

    fn add(&self, line: String) {
        let mut lines = Shared::lock(&self.lines);
        if lines.len() == limits::NEWS_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// See the file's head.
pub(crate) struct Link {
    shared: Arc<Shared>,
    news: Arc<KeeperNews>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>, news: Arc<KeeperNews>) -> Self {
        Self { shared, news }
    }
}

/// The catalogue, but not while it lacks a put that is synced: what says so may lie in a
/// journal file that no start reads behind the next checkpoint. One that is not lies in the
/// last file or behind it, and is not waited for: it may wait for room that a checkpoint makes.
fn catalogue(shared: &Shared) -> MutexGuard<'_, CatalogueState> {
    loop {
        let state = Shared::lock(&shared.catalogue);
        let is_synced = (1..=shared.synced()).contains(&state.on_its_way);
        if !is_synced || shared.is_fenced() {
            return state;
        }
        drop(state);
        // It is added as soon as the one who waited for it runs.
        std::thread::yield_now();
    }
}

impl Rest for Link {
    fn stores(&self) -> usize {
        self.shared.inboxes().len()
    }

    fn ask(&self, store: usize, ask: Ask) {
        let inboxes = self.shared.inboxes();
        Shared::lock(&inboxes[store].asks).push(ask);
        inboxes[store].wake();
    }

    fn take_told(&self) -> Vec<Told> {
        self.shared.take_told()
    }

    fn sync_through(&self, position: u64) -> Result<(), StoreError> {
        self.shared.sync_through(position)
    }

    fn journal_file(&self, sequence: u64) -> Option<Arc<dyn File>> {
        let files = Shared::lock(&self.shared.journal_files);
        files.get(&sequence).map(|journal| journal.file.clone())
    }

    fn collect_unopened(&self, through: u64) -> Vec<Collected> {
        let unopened = Shared::lock(&self.shared.recovered);
        unopened.values().filter_map(|log| log.collect(through)).collect()
    }

    fn filed_unopened(&self, logs: &[FiledLog]) {
        let mut emptied = Vec::new();
        for log in Shared::lock(&self.shared.recovered).values_mut() {
            if let Some(filed) = logs.iter().find(|filed| filed.log == log.number) {
                // Nothing of an unopened log is in memory.
                let Freed { segments, .. } = log.filed(filed.segments.clone(), filed.through);
                emptied.push((log.number, segments));
            }
        }
        for (log, segments) in emptied.into_iter().filter(|(_, segments)| !segments.is_empty()) {
            self.shared.tell(Told::Trimmed { log, segments, position: 0 });
        }
    }

    fn capture_unopened(&self) -> Vec<(LogState, Vec<SegmentState>)> {
        Shared::lock(&self.shared.recovered).values().map(Log::capture).collect()
    }

    fn covered_block(&self) -> u64 {
        // Logs change before what changes them is handed over.
        self.shared.durable_block()
    }

    fn capture_rest(&self, replay_from: u64) -> CheckpointContent {
        let shared = &self.shared;
        let (next_block, chain_crc) = {
            let files = Shared::lock(&shared.journal_files);
            files.get(&replay_from).map_or((1, 0), |file| (file.first_block, file.chain_crc))
        };
        let catalogue = catalogue(shared);
        let entries = catalogue
            .entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.revision, entry.value.clone()));
        CheckpointContent {
            catalogue: entries.collect(),
            snapshots: Shared::lock(&shared.snapshots).clone().into_iter().collect(),
            replay_from,
            durable: shared.durable_block(),
            next_block,
            chain_crc,
            next_log: shared.next_log.load(std::sync::atomic::Ordering::Relaxed),
            revision: catalogue.revision,
            ..CheckpointContent::default()
        }
    }

    fn recycle(&self, sequence: u64) {
        let shared = &self.shared;
        Shared::lock(&shared.journal_files).remove(&sequence);
        let path = writer::path(sequence);
        let Ok(file) = shared.files.open(&path) else {
            // An earlier process has used it again.
            return;
        };
        let (spares, is_pressed) = (&shared.spares, shared.has_no_space());
        let is_whole = spares::is_whole(&*file, shared.config.journal_file_bytes)
            || spares.make_whole_if_short(&*shared.files, &*file, is_pressed);
        if is_whole && spares.give(path.clone(), is_pressed) {
            shared.ring_held();
            return;
        }
        // The next start removes what is left over.
        drop(shared.files.remove(&path));
    }

    fn give_up_spare(&self, kept: usize) -> bool {
        self.shared.spares.give_up(&*self.shared.files, kept)
    }

    fn lacks_spare(&self) -> bool {
        self.shared.spares.is_lacking()
    }

    fn set_no_space(&self, on: bool) {
        self.shared.set_no_space(on);
    }

    fn note_room(&self, bytes: u64) {
        self.shared.note_room(bytes);
    }

    fn fence(&self, why: String) {
        self.shared.fence(why);
    }

    fn report(&self, event: KeeperEvent) {
        match event {
            KeeperEvent::Damage(damage) => self.news.add(damage.to_string()),
            KeeperEvent::NoSpace { what } => {
                self.news.add(format!("no space left: {what}"));
            }
            KeeperEvent::NotDeleted { path, what } => {
                self.news.add(format!("{path} could not be deleted: {what}"));
            }
            KeeperEvent::Filed { .. }
            | KeeperEvent::Rewritten { .. }
            | KeeperEvent::Checkpoint { .. }
            | KeeperEvent::Scrubbed { .. } => {}
        }
    }

    fn handles(&self) -> &Mutex<Handles> {
        &self.shared.handles
    }
}
