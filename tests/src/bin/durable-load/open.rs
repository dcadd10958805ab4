//! `open`: how long a start takes with many sealed segments. They must cost next to
//! nothing: what is allowed beside is what a broker takes whose folder holds the journal's
//! tail and no segment, in proportion to the messages in the tail.

use crate::broker::{Broker, Place};
use crate::files;
use crate::load::{fill, make_stream};
use crate::machine;
use crate::verdict::verdict;

/// Bytes that the journal keeps to itself: fewer files than are filed at once.
const TAIL_BYTES: u64 = 448 << 20;
/// Seconds beside the tail's, less than.
const WANTED: f64 = 2.0;

/// A start.
struct Opened {
    /// Seconds.
    ready: f64,
    /// Messages that it read from the journal.
    replayed: f64,
    segments: usize,
    all_there: bool,
}

pub(crate) async fn run(place: Place, gib: u64) -> bool {
    let tail = opened(&place, "tail", TAIL_BYTES).await;
    let full = opened(&place, "full", gib << 30).await;
    if tail.segments > 0 {
        println!("  the tail is not alone: {} segments", tail.segments);
    }
    let share = if tail.replayed > 0.0 { full.replayed / tail.replayed } else { 1.0 };
    let wanted = WANTED + tail.ready * share;
    let there = verdict(
        tail.all_there && full.all_there,
        "all messages after the start",
        if tail.all_there && full.all_there { "all" } else { "others" },
        "all",
    );
    there
        & verdict(
            full.ready < wanted,
            &format!("ready with {gib} GiB in {} segments", full.segments),
            format!("{:.2} s", full.ready),
            format!("< {WANTED} s + {:.2} s for the tail", wanted - WANTED),
        )
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
    machine::drop_caches();
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
    client.close().await;
    broker.stop();
    place.clear(name);
    Opened { ready, replayed, segments: segments.files, all_there: found == messages }
}
