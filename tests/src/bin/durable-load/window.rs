//! `window`: 64 and 512 messages in flight at level `disk`, over one connection: how many
//! share a sync.

use weir_client::Level;

use crate::broker::{Broker, Place};
use crate::load::{Windowed, make_queue, windowed};
use crate::machine;
use crate::syncs::{Perf, Trace, now};
use crate::verdict::verdict;

/// Messages in flight; the last is judged.
const SIZES: [usize; 2] = [64, 512];
/// Messages for each sync, more than.
const WANTED: f64 = 100.0;

pub(crate) async fn run(place: Place) -> bool {
    let counts = [untraced(&place).await, traced(&place).await];
    let worse = counts.into_iter().flatten().reduce(f64::min);
    verdict(
        worse.is_some_and(|each| each > WANTED),
        "512 in flight at disk: syncs for each message, by the worse count",
        worse.map_or_else(|| "no count".to_owned(), |each| format!("1/{each:.0}")),
        format!("< 1/{WANTED}"),
    )
}

/// A broker that nobody stops. Messages for each sync of the largest window, where that
/// was counted.
async fn untraced(place: &Place) -> Option<f64> {
    let broker = Broker::start(place, "window", "");
    let client = broker.client().await;
    make_queue(&client, "window", Level::Disk).await;
    let mut last = None;
    for size in SIZES {
        machine::rest();
        let perf = Perf::attach(broker.id(), &place.folder).await;
        let load = windowed(&client, size, &["window".to_owned()]).await;
        let syncs = perf.and_then(Perf::count);
        match syncs {
            Some(syncs) => tell(size, "counted by the kernel", load, syncs),
            None => println!("  {size} in flight: {:.0}/s, no count", load.rate()),
        }
        last = syncs.map(|syncs| load.messages as f64 / syncs as f64);
    }
    client.close().await;
    broker.stop();
    last
}

/// The same of one that is stopped at each sync.
async fn traced(place: &Place) -> Option<f64> {
    let trace = Trace::new(&place.folder)?;
    let broker = Broker::start_under(&trace.by, place, "window-traced", "");
    let client = broker.client().await;
    make_queue(&client, "window", Level::Disk).await;
    let mut loads = Vec::new();
    for size in SIZES {
        machine::rest();
        let from = now();
        let load = windowed(&client, size, &["window".to_owned()]).await;
        loads.push((size, from, now(), load));
    }
    client.close().await;
    let process = broker.id();
    broker.stop();
    let traced = trace.ended(process).await;
    let mut last = None;
    for (size, from, to, load) in loads {
        let syncs = traced.syncs(from, to);
        tell(size, "traced", load, syncs);
        last = (syncs > 0).then(|| load.messages as f64 / syncs as f64);
    }
    last
}

fn tell(size: usize, how: &str, load: Windowed, syncs: u64) {
    println!(
        "  {size} in flight, {how}: {:.0}/s, {syncs} syncs for {} confirmed messages, 1/{:.1}",
        load.rate(),
        load.messages,
        load.messages as f64 / syncs as f64
    );
}
