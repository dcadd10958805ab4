//! W3: a stream. Appends of 1,000,000 messages (or as many as fit into some windows)
//! until all are acknowledged, then a replay by one reader from the start.
//!
//! One producer hands over 1,000 messages at a time and keeps four of these in
//! flight, except where a client takes one request at a time (Iggy).

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, Expected, Figures, SIZES, Shown, Stage, figures, receive_until};
use crate::driver::{Case, Driver, Pace, Sync};
use crate::machine::Meter;
use crate::stamp::{Batch, Layout};
use crate::tally::Tally;

/// What the producer keeps in flight.
const PACE: Pace = Pace { window: 4_000, batch: 1_000 };
/// Messages appended at most.
const MESSAGES: u64 = 1_000_000;
/// Windows of other workloads that an append may last: 9 s of the usual 1.5, which all
/// need less of but those that sync for each message.
const LONGER: u32 = 6;

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let drivers = std::mem::take(&mut bench.drivers);
    for sync in [Sync::Default, Sync::Synced] {
        for size in SIZES {
            rows(bench, &drivers, "W3", sync, size, Layout::Binary).await;
        }
    }
    bench.drivers = drivers;
}

/// One row of it.
pub(crate) async fn rows(
    bench: &mut Bench,
    drivers: &[Box<dyn Driver>],
    workload: &str,
    sync: Sync,
    size: usize,
    layout: Layout,
) {
    let (row, window) = (format!("stream {size} B"), bench.window * LONGER);
    bench
        .row(drivers, (workload, &row), Case::Stream(sync), |stage| {
            Box::pin(sample(stage, size, window, layout))
        })
        .await;
}

async fn sample(
    stage: &Stage,
    size: usize,
    window: Duration,
    layout: Layout,
) -> Result<Vec<(String, Figures)>> {
    let (broker, server) = (&stage.running.broker, stage.running.server.id());
    let stream = || "bench".to_owned();
    broker.make_stream(stream()).await?;
    let mut producer = broker.appender(stream(), PACE).await?;
    let mut batch = Batch::new(layout, 0, PACE.batch, size);
    let (mut meter, started) = (Meter::start(server), Instant::now());
    while started.elapsed() < window && batch.stamped() < MESSAGES {
        batch.renew(0);
        producer.produce(&batch).await?;
    }
    producer.settle().await?;
    let mut appended = figures(batch.stamped(), started.elapsed(), meter.stop());
    appended.values.push(("messages", batch.stamped() as f64));

    let mut shown = Shown::default();
    let tally = Tally::ordered(layout, shown.add());
    let (mut meter, started) = (Meter::start(server), Instant::now());
    let reader = broker.reader(stream()).await?;
    let (known, all) = (Expected::default(), batch.stamped());
    known.set(all);
    let tally = receive_until(reader, tally, known, |count, _| count >= all).await?;
    let mut replayed = figures(tally.count().max(1), started.elapsed(), meter.stop());
    replayed.faults = tally.faults;
    replayed.faults.lost = tally.missed(all);
    Ok(vec![(" append".to_owned(), appended), (" replay".to_owned(), replayed)])
}
