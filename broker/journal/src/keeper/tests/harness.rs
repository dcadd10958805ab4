//! Stores and a journal as simple as they can be, and a recovery of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::StoreError;
use weir_message::Batch;

use crate::files::{File, Files};
use crate::format::{
    BlockBuilder, BlockHead, CheckpointContent, EntryKind, FILE_HEAD_BYTES, FileHead, Found,
    Identity, Kind, LogState, SegmentState, read_block, store_tag,
};
use crate::keeper::{
    Ask, Collected, CollectedBody, CollectedChunk, FiledLog, Idle, Keeper, KeeperEvent,
    KeeperPolicy, KeeperStart, Rest, Told,
};
use crate::segment::{self, Handles, Segment, Sizes, Source};
use crate::sim::SimFiles;

pub(super) const STORE: u128 = 0x1234_5678_9abc_def0;

/// Live records by log and offset, with their bytes.
pub(super) type Contents = BTreeMap<u64, BTreeMap<u64, Vec<u8>>>;

#[derive(Default)]
pub(super) struct TestClock(Mutex<u64>);

impl TestClock {
    pub(super) fn advance(&self, ms: u64) {
        *self.0.lock().unwrap() += ms;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let ms = *self.0.lock().unwrap();
        Now { steady_ms: ms, wall_ms: 1_700_000_000_000 + ms }
    }
}

/// Bytes of a record: they tell where it belongs.
pub(super) fn record(log: u64, offset: u64) -> Vec<u8> {
    let filler = (log * 31 + offset * 17) % 90;
    format!("log {log} offset {offset} {}", "x".repeat(filler as usize)).into_bytes()
}

/// Where in `bytes` that record lies.
pub(super) fn place_of(bytes: &[u8], record: &[u8]) -> u64 {
    bytes.windows(record.len()).position(|window| window == record).unwrap() as u64
}

pub(super) fn batch(log: u64, base: u64, count: u64) -> Batch {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for offset in base..base + count {
        bytes.extend(record(log, offset));
        ends.push(bytes.len() as u32);
    }
    Batch { bytes: bytes.into(), ends: ends.into() }
}

#[derive(Clone)]
pub(super) struct Chunk {
    base: u64,
    count: u64,
    time_ms: u64,
    sequence: u64,
    at: u32,
    /// Kept in memory too.
    batch: Option<Batch>,
}

#[derive(Clone, Default)]
pub(super) struct FakeLog {
    pub(super) end: u64,
    pub(super) released: BTreeSet<u64>,
    pub(super) segments: Vec<Segment>,
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Default)]
pub(super) struct Model {
    /// Logs of each store; the last are those that nobody has opened.
    pub(super) stores: Vec<BTreeMap<u64, FakeLog>>,
    told: VecDeque<Told>,
    /// Asks wait here while `holds_asks`.
    asks: VecDeque<(usize, Ask)>,
    pub(super) holds_asks: bool,
    pub(super) synced: u64,
    position: u64,
    pub(super) recycled: Vec<u64>,
    pub(super) events: Vec<KeeperEvent>,
    pub(super) no_space: Vec<bool>,
    /// Files prepared for the writer.
    pub(super) spares: usize,
    pub(super) fence: Option<String>,
    sequence: u64,
    at: u64,
    number: u64,
    chain_crc: u32,
    /// Number of the first block, and the chain before it, by journal file.
    chain: BTreeMap<u64, (u64, u32)>,
    time_ms: u64,
}

pub(super) struct FakeRest {
    files: SimFiles,
    pub(super) model: Mutex<Model>,
    pub(super) handles: Mutex<Handles>,
}

impl FakeRest {
    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// Stores answer what they were asked.
    pub(super) fn answer(&self) {
        let mut model = self.model();
        while let Some((store, ask)) = model.asks.pop_front() {
            model.take(store, ask);
        }
    }
}

impl Model {
    fn unopened(&self) -> usize {
        self.stores.len() - 1
    }

    fn take(&mut self, store: usize, ask: Ask) {
        match ask {
            Ask::Collect { round, through } => {
                let logs = self.collect(store, through);
                self.told.push_back(Told::Collected { store, round, logs });
            }
            Ask::Filed { logs } => self.filed(store, &logs),
            Ask::Capture { round } => {
                let (position, logs) = (self.position, self.capture(store));
                self.told.push_back(Told::Captured { store, round, position, logs });
            }
        }
    }

    pub(super) fn collect(&self, store: usize, through: u64) -> Vec<Collected> {
        let mut all = Vec::new();
        for (&log, state) in &self.stores[store] {
            let chunks: Vec<CollectedChunk> = state
                .chunks
                .iter()
                .filter(|chunk| chunk.sequence <= through)
                .map(|chunk| CollectedChunk {
                    base: chunk.base,
                    count: chunk.count as u32,
                    bytes: 100 * chunk.count,
                    time_ms: chunk.time_ms,
                    due_ms: 0,
                    level: Level::Disk,
                    body: match &chunk.batch {
                        Some(batch) => CollectedBody::Memory(batch.clone()),
                        None => CollectedBody::Journal { sequence: chunk.sequence, at: chunk.at },
                    },
                    released: ranges(state.released.range(chunk.base..chunk.base + chunk.count)),
                })
                .collect();
            let active = state.segments.last().filter(|segment| !segment.sealed).cloned();
            if !chunks.is_empty() {
                all.push(Collected { log, active, chunks });
            }
        }
        all
    }

    fn filed(&mut self, store: usize, logs: &[FiledLog]) {
        for filed in logs {
            let Some(log) = self.stores[store].get_mut(&filed.log) else { continue };
            log.chunks.retain(|chunk| chunk.base >= filed.through);
            for new in filed.segments.iter().cloned() {
                match log.segments.iter_mut().find(|segment| segment.base == new.base) {
                    Some(known) if known.revision < new.revision => *known = new,
                    Some(known) => {
                        known.blocks.extend(new.blocks);
                        (known.end, known.len, known.sealed) = (new.end, new.len, new.sealed);
                    }
                    None if new.revision == 0 => log.segments.push(new),
                    None => {}
                }
            }
        }
    }

    fn capture(&self, store: usize) -> Vec<(LogState, Vec<SegmentState>)> {
        let capture = |(&log, state): (&u64, &FakeLog)| {
            let segments: Vec<SegmentState> = state
                .segments
                .iter()
                .map(|segment| SegmentState {
                    log,
                    base: segment.base,
                    revision: segment.revision,
                    end: segment.end,
                    len: segment.len,
                    is_sealed: segment.sealed,
                })
                .collect();
            let state = LogState {
                log,
                name: format!("log-{log}"),
                end: state.end,
                segments: segments.len() as u64,
                released: ranges(state.released.iter()),
                ..LogState::default()
            };
            (state, segments)
        };
        self.stores[store].iter().map(capture).collect()
    }

    pub(super) fn log(&mut self, log: u64) -> &mut FakeLog {
        self.stores.iter_mut().find_map(|logs| logs.get_mut(&log)).unwrap()
    }

    /// What is alive.
    pub(super) fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for (&log, state) in self.stores.iter().flatten() {
            let live = (0..state.end).filter(|offset| !state.released.contains(offset));
            contents.insert(log, live.map(|offset| (offset, record(log, offset))).collect());
        }
        contents
    }
}

fn ranges<'a>(offsets: impl Iterator<Item = &'a u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &offset in offsets {
        match ranges.last_mut() {
            Some((_, end)) if *end == offset => *end += 1,
            _ => ranges.push((offset, offset + 1)),
        }
    }
    ranges
}

pub(super) fn journal_path(sequence: u64) -> String {
    format!("journal/j-{sequence:016x}.wj")
}

impl Rest for FakeRest {
    fn stores(&self) -> usize {
        self.model().unopened()
    }

    fn ask(&self, store: usize, ask: Ask) {
        let mut model = self.model();
        if model.holds_asks {
            model.asks.push_back((store, ask));
        } else {
            model.take(store, ask);
        }
    }

    fn take_told(&self) -> Vec<Told> {
        self.model().told.drain(..).collect()
    }

    fn sync_through(&self, position: u64) -> Result<(), StoreError> {
        let mut model = self.model();
        model.synced = model.synced.max(position);
        Ok(())
    }

    fn journal_file(&self, sequence: u64) -> Option<Arc<dyn File>> {
        self.files.open(&journal_path(sequence)).ok()
    }

    fn collect_unopened(&self, through: u64) -> Vec<Collected> {
        let model = self.model();
        model.collect(model.unopened(), through)
    }

    fn filed_unopened(&self, logs: &[FiledLog]) {
        let mut model = self.model();
        let unopened = model.unopened();
        model.filed(unopened, logs);
    }

    fn capture_unopened(&self) -> Vec<(LogState, Vec<SegmentState>)> {
        let model = self.model();
        model.capture(model.unopened())
    }

    fn covered_block(&self) -> u64 {
        self.model().synced
    }

    fn capture_rest(&self, replay_from: u64) -> CheckpointContent {
        let (next_block, chain_crc) = self.model().chain[&replay_from];
        CheckpointContent { next_block, chain_crc, ..CheckpointContent::default() }
    }

    fn recycle(&self, sequence: u64) {
        self.model().recycled.push(sequence);
        // A power cut may end this as any other call.
        let _ = self.files.remove(&journal_path(sequence));
    }

    fn give_up_spare(&self, kept: usize) -> bool {
        let spares = &mut self.model().spares;
        let is_more = *spares > kept;
        *spares -= usize::from(is_more);
        is_more
    }

    fn set_no_space(&self, on: bool) {
        self.model().no_space.push(on);
    }

    fn fence(&self, why: String) {
        self.model().fence.get_or_insert(why);
    }

    fn report(&self, event: KeeperEvent) {
        self.model().events.push(event);
    }

    fn handles(&self) -> &Mutex<Handles> {
        &self.handles
    }
}

pub(super) struct Harness {
    pub(super) files: SimFiles,
    pub(super) clock: Arc<TestClock>,
    pub(super) rest: Arc<FakeRest>,
    pub(super) keeper: Keeper,
}

/// Small segments and blocks, and nothing that happens by itself.
pub(super) fn policy() -> KeeperPolicy {
    KeeperPolicy {
        kept_journal_files: 2,
        filed_at_once: 1,
        sizes: Sizes { block_bytes: 1_000, segment_bytes: 12_000 },
        free_bytes_min: 0,
        free_percent_min: 0,
        scrub_period_ms: 0,
        rewrite_bytes_per_second: 0,
        ..KeeperPolicy::default()
    }
}

impl Harness {
    /// Two stores; logs 1, 2, 3 and 4 are of the first, second, first, and nobody.
    pub(super) fn new(policy: KeeperPolicy) -> Self {
        let files = SimFiles::new(7);
        for folder in ["journal", "logs"] {
            files.make_folder(folder).unwrap();
        }
        let clock = Arc::new(TestClock::default());
        let mut stores = vec![BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
        for (log, store) in [(1, 0), (2, 1), (3, 0), (4, 2)] {
            stores[store].insert(log, FakeLog::default());
        }
        let model = Model { stores, number: 1, ..Model::default() };
        let rest = Arc::new(FakeRest {
            files: files.clone(),
            model: Mutex::new(model),
            handles: Mutex::default(),
        });
        let keeper = Keeper::new(KeeperStart {
            files: Arc::new(files.clone()),
            clock: clock.clone(),
            rest: rest.clone(),
            policy,
            store_id: STORE,
            checkpoint: 0,
            replay_from: 1,
            previous_replay_from: 1,
            sealed: Vec::new(),
        });
        let mut harness = Self { files, clock, rest, keeper };
        harness.begin_journal(1);
        harness
    }

    /// Another keeper over what is there, as after a clean stop: nobody has opened a
    /// log yet.
    pub(super) fn start_again(&mut self, policy: KeeperPolicy) {
        let mut model = self.rest.model();
        let mut logs = BTreeMap::new();
        model.stores.iter_mut().for_each(|store| logs.append(store));
        *model.stores.last_mut().unwrap() = logs;
        let newest = model.events.iter().rev().find_map(|event| match event {
            KeeperEvent::Checkpoint { number, replay_from } => Some((*number, *replay_from)),
            _ => None,
        });
        let (checkpoint, replay_from) = newest.unwrap_or((0, 1));
        model.events.clear();
        let sealed = (replay_from..model.sequence).collect();
        drop(model);
        self.keeper = Keeper::new(KeeperStart {
            files: Arc::new(self.files.clone()),
            clock: self.clock.clone(),
            rest: self.rest.clone(),
            policy,
            store_id: STORE,
            checkpoint,
            replay_from,
            previous_replay_from: replay_from,
            sealed,
        });
    }

    fn begin_journal(&mut self, sequence: u64) {
        let head = FileHead { kind: Kind::Journal, store: STORE, sequence, log: 0, created_ms: 0 };
        let file = self.files.create(&journal_path(sequence)).unwrap();
        file.write_at(&head.encode(), 0).unwrap();
        file.sync_data().unwrap();
        self.files.sync_folder("journal").unwrap();
        let mut model = self.rest.model();
        (model.sequence, model.at) = (sequence, FILE_HEAD_BYTES as u64);
        let start = (model.number, model.chain_crc);
        model.chain.insert(sequence, start);
    }

    fn write_block(&mut self, builder: &mut BlockBuilder) -> (u64, u32) {
        let mut model = self.rest.model();
        let head = BlockHead {
            store_tag: store_tag(STORE, Kind::Journal),
            number: model.number,
            file_sequence: model.sequence,
            durable: 0,
            previous_crc: model.chain_crc,
        };
        let mut bytes = Vec::new();
        let block = builder.finish(head, &mut bytes);
        let file = self.files.open(&journal_path(model.sequence)).unwrap();
        file.write_at(&bytes, model.at).unwrap();
        file.sync_data().unwrap();
        let place = (model.sequence, model.at as u32);
        model.at += block.len as u64;
        (model.number, model.chain_crc) = (model.number + 1, block.header_crc);
        model.position += 1;
        place
    }

    /// Appends to several logs in one block.
    pub(super) fn append(&mut self, logs: &[(u64, u64)]) {
        let mut builder = BlockBuilder::new();
        let mut model = self.rest.model();
        model.time_ms += 10;
        let time_ms = model.time_ms;
        let bases: Vec<u64> = logs.iter().map(|&(log, _)| model.log(log).end).collect();
        drop(model);
        for (&(log, count), &base) in logs.iter().zip(&bases) {
            builder.push_append(Level::Disk, log, base, time_ms, 0, batch(log, base, count));
        }
        let (sequence, at) = self.write_block(&mut builder);
        let mut model = self.rest.model();
        for (&(log, count), &base) in logs.iter().zip(&bases) {
            let state = model.log(log);
            // Every other chunk has left memory.
            let batch = base.is_multiple_of(2).then(|| batch(log, base, count));
            state.chunks.push(Chunk { base, count, time_ms, sequence, at, batch });
            state.end += count;
        }
    }

    /// Settles records; a store tells of segments that this empties.
    pub(super) fn release(&mut self, log: u64, from: u64, to: u64) {
        let mut builder = BlockBuilder::new();
        builder.push(EntryKind::Release, Level::Disk, log, [from, to, 0, 0], &[]);
        self.write_block(&mut builder);
        let mut model = self.rest.model();
        let position = model.position;
        let state = model.log(log);
        state.released.extend(from..to);
        let released = state.released.clone();
        let (gone, kept): (Vec<Segment>, Vec<Segment>) =
            std::mem::take(&mut state.segments).into_iter().partition(|segment| {
                (segment.base..segment.end).all(|offset| released.contains(&offset))
            });
        state.segments = kept;
        let segments: Vec<u64> = gone.iter().map(|segment| segment.base).collect();
        if !segments.is_empty() {
            model.told.push_back(Told::Trimmed { log, segments, position });
        }
    }

    /// Removes a log.
    pub(super) fn remove(&mut self, log: u64) {
        let mut builder = BlockBuilder::new();
        builder.push(EntryKind::RemoveLog, Level::Disk, log, [0; 4], &[]);
        self.write_block(&mut builder);
        let mut model = self.rest.model();
        model.stores.iter_mut().for_each(|logs| drop(logs.remove(&log)));
        let position = model.position;
        model.told.push_back(Told::Removed { log, position });
    }

    /// Goes on to the next journal file.
    pub(super) fn roll(&mut self) {
        let sequence = self.rest.model().sequence;
        self.begin_journal(sequence + 1);
        self.rest.model().told.push_back(Told::Sealed { sequence });
    }

    /// Fills `count` journal files.
    pub(super) fn fill(&mut self, count: u64) {
        for file in 0..count {
            for turn in 0..6 {
                self.append(&[(1, 5), (2, 3 + turn % 3), (4, 1)]);
                self.append_more(file + turn);
                let end = self.rest.model().log(2).end;
                self.release(2, end - 1, end);
            }
            self.roll();
        }
    }

    /// The same without log 2, which is gone.
    pub(super) fn fill_without(&mut self, count: u64) {
        for file in 0..count {
            for turn in 0..6 {
                self.append(&[(1, 5), (4, 1)]);
                self.append_more(file + turn);
            }
            self.roll();
        }
    }

    fn append_more(&mut self, turn: u64) {
        if turn.is_multiple_of(2) {
            self.append(&[(3, 9), (1, 2)]);
        }
        let end = self.rest.model().log(1).end;
        self.release(1, end - 4, end - 2);
    }

    pub(super) fn tell(&self, told: Told) {
        self.rest.model().told.push_back(told);
    }

    /// Steps until there is nothing to do. `Err`: the keeper has failed.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..1_000 {
            match self.keeper.step() {
                Ok(Idle::No) => {}
                Ok(Idle::For(_) | Idle::Stopped) => return Ok(()),
                Err(fault) => return Err(fault.0),
            }
        }
        panic!("the keeper never rests");
    }

    /// What the stores would read from segments and memory, checked against the
    /// model.
    pub(super) fn check_stores(&self) {
        let model = self.rest.model();
        let mut found = Contents::new();
        for (&log, state) in model.stores.iter().flatten() {
            let mut records = read_segments(&self.files, &self.rest.handles, log, &state.segments);
            for chunk in &state.chunks {
                let offsets = chunk.base..chunk.base + chunk.count;
                records.extend(offsets.map(|offset| (offset, record(log, offset))));
            }
            records.retain(|offset, _| !state.released.contains(offset));
            found.insert(log, records);
        }
        assert_eq!(found, model.contents());
    }
}

pub(super) fn read_segments(
    files: &dyn Files,
    handles: &Mutex<Handles>,
    log: u64,
    segments: &[Segment],
) -> BTreeMap<u64, Vec<u8>> {
    let source = Source { files, handles, store_id: STORE, log };
    let mut found = BTreeMap::new();
    for segment in segments {
        for block in &segment.blocks {
            let mut records = Vec::new();
            let wanted = block.base..block.end;
            segment::read_records(&source, segment, block, wanted, usize::MAX, true, &mut records)
                .unwrap();
            for run in records {
                for (row, bytes) in run.batch.iter().enumerate() {
                    found.insert(run.offset + row as u64, bytes.to_vec());
                }
            }
        }
    }
    found
}

/// A log as recovery finds it.
#[derive(Default)]
struct FoundLog {
    released: BTreeSet<u64>,
    filed_end: u64,
    records: BTreeMap<u64, Vec<u8>>,
}

/// What a start would find: the newest sound checkpoint, its segments, and the
/// journal from there. `skip_newest`: as if the newest checkpoint were damaged.
pub(super) fn recover(files: &SimFiles, skip_newest: bool) -> Contents {
    let mut checkpoints: Vec<CheckpointContent> = Vec::new();
    for entry in files.list("").unwrap() {
        if entry.name.starts_with("checkpoint-") && entry.name.ends_with(".wc") {
            let bytes = files.bytes(&entry.name).unwrap();
            checkpoints.push(CheckpointContent::decode(&bytes).unwrap().1);
        }
    }
    if skip_newest {
        checkpoints.pop();
    }
    let first = || CheckpointContent { replay_from: 1, next_block: 1, ..Default::default() };
    let content = checkpoints.pop().unwrap_or_else(first);
    let mut logs: BTreeMap<u64, FoundLog> = BTreeMap::new();
    for state in &content.logs {
        let log = logs.entry(state.log).or_default();
        log.released.extend(state.released.iter().flat_map(|&(from, to)| from..to));
    }
    for state in &content.segments {
        let log = logs.get_mut(&state.log).unwrap();
        log.filed_end = log.filed_end.max(state.end);
        let opened = segment::open_index(files, STORE, state, false).unwrap();
        for damage in &opened.damage {
            assert_eq!(damage.what, "the file is missing");
            // What is missing must be settled: looked at below.
            log.records.extend((damage.from..damage.to).map(|offset| (offset, Vec::new())));
        }
        let handles = Mutex::default();
        log.records.extend(read_segments(files, &handles, state.log, &[opened.segment]));
    }
    replay(files, &content, &mut logs);
    logs.into_iter()
        .map(|(number, mut log)| {
            log.records.retain(|offset, _| !log.released.contains(offset));
            (number, log.records)
        })
        .collect()
}

fn replay(files: &SimFiles, content: &CheckpointContent, logs: &mut BTreeMap<u64, FoundLog>) {
    let (mut number, mut chain_crc) = (content.next_block, content.chain_crc);
    for sequence in content.replay_from.. {
        let Some(bytes) = files.bytes(&journal_path(sequence)) else { break };
        let bytes = bytes::Bytes::from(bytes);
        let identity =
            Identity { store_tag: store_tag(STORE, Kind::Journal), file_sequence: sequence };
        let mut at = FILE_HEAD_BYTES;
        while let Found::Block(block) = read_block(&bytes, at, identity) {
            assert_eq!((block.head.number, block.head.previous_crc), (number, chain_crc));
            (number, chain_crc) = (number + 1, block.header_crc);
            for entry in &block.entries {
                let log = logs.entry(entry.log).or_default();
                match entry.kind {
                    EntryKind::Append => {
                        let batch = entry.append_batch(&bytes.slice(at..)).unwrap();
                        for (row, record) in batch.iter().enumerate() {
                            let offset = entry.a + row as u64;
                            if offset >= log.filed_end {
                                log.records.insert(offset, record.to_vec());
                            }
                        }
                    }
                    EntryKind::Release | EntryKind::ReleaseSome => {
                        log.released.extend(entry.settled().flatten());
                    }
                    EntryKind::RemoveLog => drop(logs.remove(&entry.log)),
                    _ => {}
                }
            }
            at += block.len;
        }
    }
}
