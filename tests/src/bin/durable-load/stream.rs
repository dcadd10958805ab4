//! `stream`: so many GiB in messages of 1 KiB to a stream at level `os`, against a plain
//! write of the very files that this leaves behind; then the stream read back from disk,
//! against the append. One GiB stays in the page cache on both sides, more than that takes
//! goes at the pace of the disk. The raw side writes the same bytes where memory takes
//! them, else others.
//!
//! In every other round the raw side comes first; it then writes the files of the round
//! before, and what is compared is bytes a second, which for the same files is the raw
//! side's time over the append's.

use std::path::Path;
use std::time::Instant;

use crate::broker::{Broker, Place};
use crate::files::{self, Copied, Listed, Sum, Took};
use crate::load::{fill, make_stream, replay};
use crate::machine::{self, Cache};
use crate::verdict::{all, median, verdict};

/// Bytes of messages in all rounds, at least.
const ALL_BYTES: u64 = 4 << 30;
/// Little in memory beside what is on disk.
const CONFIG: &str = "[store]\nmemory-mib = 64\n";
/// Of the raw side's bytes a second, at least.
const APPEND_WANTED: f64 = 0.5;
/// Of the append's bytes a second, at least.
const REPLAY_WANTED: f64 = 1.0;

/// The broker's side of a round.
struct Appended {
    files: Vec<Listed>,
    took: Took,
    /// Seconds of reading all back.
    replayed: f64,
    /// What it was read from.
    cache: Cache,
}

/// The raw side.
struct Written {
    files: Sum,
    took: Took,
}

/// Of all rounds.
#[derive(Default)]
struct Ratios {
    /// Messages' bytes of an append.
    bytes: u64,
    written: Vec<f64>,
    synced: Vec<f64>,
    payload: Vec<f64>,
    replayed: Vec<f64>,
    /// The worse of all.
    cache: Cache,
}

pub(crate) async fn run(place: Place, gib: u64) -> bool {
    println!("  {gib} GiB in each append, with store.memory-mib = 64");
    let bytes = gib << 30;
    let mut ratios = Ratios { bytes, ..Ratios::default() };
    let mut copied = Vec::new();
    // Even: the orders take turns, broker and raw, raw and broker.
    for round in 0..(ALL_BYTES / bytes).max(2).next_multiple_of(2) {
        if round.is_multiple_of(2) {
            let appended = append(&place, bytes, Some(&mut copied)).await;
            ratios.add(&appended, &write(&place.folder, &copied));
        } else {
            let written = write(&place.folder, &copied);
            // The append has all of the memory.
            copied = Vec::new();
            ratios.add(&append(&place, bytes, None).await, &written);
        }
    }
    println!("  appended of raw, without a sync: {}", all(&ratios.written));
    println!("  appended of raw, through a sync: {}", all(&ratios.synced));
    println!("  only messages' bytes of raw, without a sync: {}", all(&ratios.payload));
    println!("  replayed of appended: {}", all(&ratios.replayed));
    let (appended, replayed) = (median(&ratios.written), median(&ratios.replayed));
    let holds = verdict(
        appended >= APPEND_WANTED,
        &format!("{gib} GiB to a stream at os, of a plain write of the same files"),
        format!("{appended:.3}"),
        format!(">= {APPEND_WANTED}"),
    );
    holds
        & verdict(
            replayed >= REPLAY_WANTED && ratios.cache == Cache::Empty,
            "the stream read from disk, of the append",
            format!("{replayed:.3}{}", ratios.cache.clause()),
            format!(">= {REPLAY_WANTED:.1}"),
        )
}

/// Appends, and reads back through a broker that was started anew. The files that were
/// there at the last receipt go into `copied`.
async fn append(place: &Place, bytes: u64, copied: Option<&mut Vec<Copied>>) -> Appended {
    machine::prepare(&place.folder);
    let data = place.data("stream");
    let broker = Broker::start(place, "stream", CONFIG);
    let client = broker.client().await;
    make_stream(&client, "log").await;
    let started = Instant::now();
    let messages = fill(&client, "log", bytes).await;
    let written = started.elapsed().as_secs_f64();
    // So that the files stay what they are while they are synced, listed and read.
    broker.freeze().await;
    machine::rest();
    let took = Took { written, synced: started.elapsed().as_secs_f64() };
    let files = files::list(&data);
    if let Some(copied) = copied {
        *copied = files::copied(&data, &files);
    }
    broker.thaw();
    client.close().await;
    broker.stop();
    let cache = machine::drop_caches();
    let broker = Broker::start(place, "stream", CONFIG);
    let client = broker.client().await;
    let replayed = replay(&client, "log", messages).await.as_secs_f64();
    client.close().await;
    broker.stop();
    place.clear("stream");
    Appended { files, took, replayed, cache }
}

/// Writes the same files without a broker.
fn write(folder: &Path, copied: &[Copied]) -> Written {
    machine::prepare(folder);
    let raw = folder.join("raw");
    let took = files::write_again(&raw, copied);
    std::fs::remove_dir_all(raw).unwrap();
    Written { files: Sum::of(copied.iter().map(|copied| &copied.file)), took }
}

impl Ratios {
    fn add(&mut self, appended: &Appended, raw: &Written) {
        let rate = |bytes: u64, seconds: f64| bytes as f64 / seconds;
        let bytes = Sum::of(&appended.files).bytes;
        let (append, append_synced) =
            (rate(bytes, appended.took.written), rate(bytes, appended.took.synced));
        let (write, write_synced) =
            (rate(raw.files.bytes, raw.took.written), rate(raw.files.bytes, raw.took.synced));
        let payload = rate(self.bytes, appended.took.written);
        let replayed = rate(self.bytes, appended.replayed);
        self.written.push(append / write);
        self.synced.push(append_synced / write_synced);
        self.payload.push(payload / write);
        self.replayed.push(replayed / payload);
        self.cache = self.cache.max(appended.cache);
        println!("  round {}", self.written.len());
        println!(
            "    append {:.2} s: messages {:.0} MB/s; left journal files {}, segments {}: {:.0} MB/s; \
             through a sync {:.2} s: {:.0} MB/s",
            appended.took.written,
            payload / 1e6,
            files::journal(&appended.files),
            files::segments(&appended.files),
            append / 1e6,
            appended.took.synced,
            append_synced / 1e6
        );
        println!(
            "    raw {:.2} s: files {}: {:.0} MB/s; through a sync {:.2} s: {:.0} MB/s",
            raw.took.written,
            raw.files,
            write / 1e6,
            raw.took.synced,
            write_synced / 1e6
        );
        println!(
            "    appended of raw {:.3}, through a sync {:.3}, only messages' bytes {:.3}; replay \
             {:.2} s: {:.0} MB/s, {:.3} of the append",
            append / write,
            append_synced / write_synced,
            payload / write,
            appended.replayed,
            replayed / 1e6,
            replayed / payload
        );
    }
}
