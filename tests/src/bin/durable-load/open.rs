//! `open`: how long a start takes with many sealed segments. They must cost next to
//! nothing: what is allowed beside is what a broker takes whose folder holds the journal's
//! tail and no segment, in proportion to the messages in the tail.

use crate::broker::{Broker, Place};
use crate::files;
use crate::load::{LONG_BYTES, fill, make_stream};
use crate::machine::{self, Cache};
use crate::verdict::verdict;

/// Bytes that the journal keeps to itself: fewer files than are filed at once.
const TAIL_BYTES: u64 = 448 << 20;
/// Seconds beside the tail's, less than.
const WANTED: f64 = 2.0;

/// A start.
#[derive(Clone, Copy, Debug)]
struct Opened {
    /// Seconds.
    ready: f64,
    /// Messages that it read from the journal.
    replayed: f64,
    /// Messages that the journal's files have room for: no tail is longer.
    tail_max: f64,
    segments: usize,
    all_there: bool,
    cache: Cache,
}

impl Opened {
    /// Messages in its tail. What a start reads beside is of segments, and has no allowance.
    fn tail(self) -> f64 {
        self.replayed.min(self.tail_max)
    }
}

pub(crate) async fn run(place: Place, gib: u64) -> bool {
    let tail = opened(&place, "tail", TAIL_BYTES).await;
    let full = opened(&place, "full", gib << 30).await;
    let allowed = allowed(tail, full);
    let is_all_there = tail.all_there && full.all_there;
    let cache = tail.cache.max(full.cache);
    let holds = [
        verdict(
            is_all_there,
            "all messages after the start",
            if is_all_there { "all" } else { "others" },
            "all",
        ),
        // Else there is nothing that could cost anything, or the tail's time has it too.
        verdict(
            tail.segments == 0 && full.segments > 0,
            "segments of the tail, and of the whole",
            format!("{} and {}", tail.segments, full.segments),
            "0 and more",
        ),
        verdict(
            full.ready < allowed && cache == Cache::Empty,
            &format!("ready with {gib} GiB in {} segments", full.segments),
            format!("{:.2} s{}", full.ready, cache.clause()),
            format!("< {WANTED} s + {:.2} s for the tail", allowed - WANTED),
        ),
    ];
    holds.into_iter().all(|holds| holds)
}

/// Seconds that the start with segments may take.
fn allowed(tail: Opened, full: Opened) -> f64 {
    let share = if tail.tail() > 0.0 { full.tail() / tail.tail() } else { 1.0 };
    WANTED + tail.ready * share
}

/// Fills a stream, waits until the broker has filed what it will, and starts it again with
/// nothing in the page cache.
async fn opened(place: &Place, name: &str, bytes: u64) -> Opened {
    let broker = Broker::start(place, name, "");
    let client = broker.client().await;
    make_stream(&client, "log").await;
    let messages = fill(&client, "log", bytes).await;
    files::settled(&place.data(name)).await;
    client.close().await;
    broker.stop();
    let files = files::list(&place.data(name));
    let cache = machine::drop_caches();
    let broker = Broker::start(place, name, "");
    let ready = broker.ready.as_secs_f64();
    let client = broker.client().await;
    let found = client.stream_info("log").await.unwrap().messages;
    let segments = files::segments(&files);
    println!(
        "  {name}: {found} messages, segments {segments}, journal files {}: ready in {ready:.2} s, \
         {:.0} MiB resident; the store: {}",
        files::journal(&files),
        broker.status_mib("VmRSS"),
        broker.opened
    );
    let replayed = broker.opened_figure("records");
    let tail_max = files::journal(&files).bytes as f64 / LONG_BYTES as f64;
    client.close().await;
    broker.stop();
    place.clear(name);
    let (segments, all_there) = (segments.files, found == messages);
    Opened { ready, replayed, tail_max, segments, all_there, cache }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_reads_segments_has_no_time_for_it() {
        let (all_there, cache) = (true, Cache::Empty);
        let opened = |ready, replayed, segments| {
            let tail_max = 500_000.0;
            Opened { ready, replayed, tail_max, segments, all_there, cache }
        };
        let tail = opened(1.0, 400_000.0, 0);
        assert!((allowed(tail, opened(1.5, 400_000.0, 60)) - 3.0).abs() < 1e-9);
        // All that was ever written, which the journal no longer has.
        assert!(allowed(tail, opened(9.0, 4_000_000.0, 60)) < 3.5);
    }
}
