//! What the journal makes of a disk, beside what the disk can do by itself: both
//! sides in one run, in turns. `cargo bench -p weir-journal --bench append -- [DIR]`;
//! the folder must be on the disk to be measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use weir_core::command::Level;
use weir_core::env::{Clock, Now};
use weir_core::store::{LogId, Stamp, Store};
use weir_journal::files::OsFiles;
use weir_journal::{Journal, JournalConfig, JournalStore};
use weir_message::{Batch, BatchBuilder};

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Now { steady_ms: self.0.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }
}

/// A journal with one store and the bell that its writer rings.
struct Rig {
    journal: Journal,
    store: JournalStore,
    bell: Arc<(Mutex<bool>, Condvar)>,
}

impl Rig {
    fn open(folder: &Path) -> Self {
        let files = Arc::new(OsFiles::new(folder).unwrap());
        let mut config = JournalConfig::new(7);
        config.free_bytes_min = 0;
        config.free_percent_min = 0;
        let clock = Arc::new(SystemClock(Instant::now()));
        let journal = Journal::open(files, clock, config, 1).unwrap();
        let bell = Arc::new((Mutex::new(false), Condvar::new()));
        let rung = bell.clone();
        let store = journal.store(Box::new(move || {
            *rung.0.lock().unwrap() = true;
            rung.1.notify_one();
        }));
        Self { journal, store, bell }
    }

    fn wait(&mut self, until: impl Fn(&JournalStore) -> bool) {
        loop {
            self.store.commit().unwrap();
            if until(&self.store) {
                return;
            }
            let mut rung = self.bell.0.lock().unwrap();
            while !*rung {
                rung = self.bell.1.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    fn append(&mut self, log: LogId, batch: &Batch, level: Level) {
        let end = self.store.bounds(log).end;
        let stamp = Stamp { time_ms: 1, due_ms: 0 };
        self.store.append(log, end, stamp, batch.clone(), level).unwrap();
    }
}

fn batch(messages: usize, payload: usize) -> Batch {
    let mut builder = BatchBuilder::default();
    let mut message = Vec::new();
    weir_message::encode(&mut message, "bench.subject", b"", &[], &vec![b'x'; payload]);
    (0..messages).for_each(|_| builder.push(&message));
    builder.take()
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Syncs a second of a zero-filled file: one write of `bytes`, one fdatasync.
fn raw_syncs(folder: &Path, bytes: usize, seconds: f64) -> f64 {
    let path = folder.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let block = vec![7; bytes.next_multiple_of(512)];
    let (started, mut at, mut count) = (Instant::now(), 0, 0);
    while started.elapsed().as_secs_f64() < seconds {
        file.write_all_at(&block, at).unwrap();
        file.sync_data().unwrap();
        at = (at + block.len() as u64) % (60 << 20);
        count += 1;
    }
    let rate = per_second(count, started.elapsed());
    std::fs::remove_file(&path).unwrap();
    rate
}

/// Bytes a second of a plain sequential write.
fn raw_write(folder: &Path, bytes: u64) -> f64 {
    let path = folder.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    let block = vec![7; 1 << 20];
    let started = Instant::now();
    for at in (0..bytes).step_by(block.len()) {
        file.write_all_at(&block, at).unwrap();
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    rate
}

fn in_flight(rig: &mut Rig, messages: usize, seconds: f64) -> (f64, f64) {
    let log = rig.store.open("bench/flight").unwrap();
    let batch = batch(messages, 128);
    let syncs = rig.journal.figures().syncs;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed().as_secs_f64() < seconds {
        rig.append(log, &batch, Level::Disk);
        let end = rig.store.bounds(log).end;
        rig.wait(|store| store.bounds(log).stable >= end);
        rig.store.release(log, end - messages as u64, end, Level::Os);
        count += messages;
    }
    let took = started.elapsed();
    let syncs = rig.journal.figures().syncs - syncs;
    (per_second(count, took), syncs as f64 / count as f64)
}

/// Appends to random logs, 512 messages in flight. Messages a second.
fn spread(rig: &mut Rig, logs: usize, seconds: f64) -> f64 {
    let logs: Vec<LogId> = (0..logs)
        .map(|number| rig.store.open(&format!("bench/spread-{logs}-{number}")).unwrap())
        .collect();
    let batch = batch(1, 128);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed().as_secs_f64() < seconds {
        for _ in 0..512 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let log = logs[(state % logs.len() as u64) as usize];
            rig.append(log, &batch, Level::Disk);
        }
        rig.store.commit().unwrap();
        let position = rig.store.position();
        rig.wait(|store| store.safe(Level::Disk) >= position);
        count += 512;
    }
    per_second(count, started.elapsed())
}

fn stream(rig: &mut Rig, bytes: u64) -> (f64, f64) {
    let log = rig.store.open("bench/stream").unwrap();
    let batch = batch(256, 1024);
    let (started, mut sent) = (Instant::now(), 0);
    while sent < bytes {
        rig.append(log, &batch, Level::Os);
        sent += batch.bytes.len() as u64;
        rig.store.commit().unwrap();
        if rig.store.is_congested() {
            rig.wait(|store| !store.is_congested());
        }
    }
    let position = rig.store.position();
    rig.wait(|store| store.safe(Level::Os) >= position);
    let append = sent as f64 / started.elapsed().as_secs_f64();
    let (started, mut at, mut read) = (Instant::now(), rig.store.bounds(log).start, 0);
    let end = rig.store.bounds(log).stable;
    let mut records = Vec::new();
    while at < end {
        records.clear();
        rig.store.read(log, at, 1 << 20, &mut records).unwrap();
        for piece in &records {
            at = piece.offset + piece.batch.len() as u64;
            read += piece.batch.bytes.len() as u64;
        }
    }
    (append, read as f64 / started.elapsed().as_secs_f64())
}

fn backlog(folder: &Path, logs: usize, messages: usize) {
    let mut rig = Rig::open(folder);
    let ids: Vec<LogId> = (0..logs)
        .map(|number| rig.store.open(&format!("bench/backlog-{number}")).unwrap())
        .collect();
    let batch = batch(10, 128);
    let started = Instant::now();
    for number in 0..messages / batch.len() {
        rig.append(ids[number.wrapping_mul(7919) % logs], &batch, Level::Os);
        if number % 100 == 0 {
            rig.store.commit().unwrap();
            if rig.store.is_congested() {
                rig.wait(|store| !store.is_congested());
            }
        }
    }
    rig.store.commit().unwrap();
    let position = rig.store.position();
    rig.wait(|store| store.safe(Level::Os) >= position);
    println!("backlog: {messages} messages in {logs} logs written in {:.1?}", started.elapsed());
    // No goodbye: the next start replays what is not filed.
    std::process::abort();
}

fn restart(folder: &Path, logs: usize) {
    let started = Instant::now();
    let mut rig = Rig::open(folder);
    let opened = started.elapsed();
    let mut records = Vec::new();
    let count: u64 = (0..logs)
        .map(|number| {
            let log = rig.store.open(&format!("bench/backlog-{number}")).unwrap();
            rig.store.read(log, 0, 1, &mut records).unwrap();
            let bounds = rig.store.bounds(log);
            bounds.end - bounds.start
        })
        .sum();
    println!(
        "restart: {count} messages in {logs} logs in {opened:.2?}, first read of each after \
         {:.2?}; {:.0} MiB resident; {:?}",
        started.elapsed(),
        resident_mib(),
        rig.journal.report()
    );
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [child, folder] = &arguments[..]
        && child == "backlog"
    {
        return backlog(Path::new(folder), 1_000, 5_000_000);
    }
    let root = arguments.first().map_or_else(std::env::temp_dir, Into::into);
    let folder = root.join(format!("weir-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    {
        let mut rig = Rig::open(&folder.join("one"));
        for _ in 0..3 {
            let raw = raw_syncs(&folder, 256, 2.0);
            let (one, _) = in_flight(&mut rig, 1, 2.0);
            println!(
                "1 in flight: {one:.0}/s, raw write + fdatasync {raw:.0}/s, ratio {:.2}",
                one / raw
            );
        }
        let (rate, per_message) = in_flight(&mut rig, 512, 2.0);
        println!("512 in flight: {rate:.0}/s, {per_message:.5} syncs a message");
        for _ in 0..3 {
            let (one, thousand) = (spread(&mut rig, 1, 2.0), spread(&mut rig, 1_000, 2.0));
            println!("1,000 logs: {thousand:.0}/s, 1 log {one:.0}/s, ratio {:.2}", thousand / one);
        }
        for _ in 0..2 {
            let raw = raw_write(&folder, 512 << 20);
            let (append, replay) = stream(&mut rig, 512 << 20);
            println!(
                "stream of 1 KiB at os: append {:.0} MB/s, raw write {:.0} MB/s, ratio {:.2}; replay {:.0} MB/s",
                append / 1e6,
                raw / 1e6,
                append / raw,
                replay / 1e6
            );
        }
    }
    let backlog = folder.join("backlog");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.arg("backlog").arg(&backlog).status().unwrap();
    restart(&backlog, 1_000);
    std::fs::remove_dir_all(&folder).unwrap();
}
