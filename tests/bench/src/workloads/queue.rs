//! W2: a work queue, end to end. Messages acknowledged by consumers per second.
//!
//! Two producers with confirmations, 512 in flight each, handed over 64 at a time;
//! four consumers with a credit of 256 that acknowledge explicitly. Producers wait
//! while more than [`BACKLOG_MAX`] messages wait in the queue: what is measured is
//! what goes through, not how much a broker can pile up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::{Bench, Expected, Figures, SIZES, Shown, Stage, Timing, receive_until};
use crate::driver::{Case, Driver, Pace, Produce, Sync};
use crate::pause::pause;
use crate::stamp::{Batch, Layout};
use crate::tally::{Tally, settle};

/// Producers, and what each keeps in flight.
const PRODUCERS: usize = 2;
const PACE: Pace = Pace { window: 512, batch: 64 };
/// Consumers, and what each may hold.
const CONSUMERS: usize = 4;
const CREDIT: usize = 256;
/// Messages in the queue beyond which producers wait.
const BACKLOG_MAX: u64 = 20_000;

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let drivers = std::mem::take(&mut bench.drivers);
    for sync in [Sync::Default, Sync::Synced] {
        for size in SIZES {
            rows(bench, &drivers, "W2", sync, size, Layout::Binary).await;
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
    let timing = Timing { layout, ..bench.timing() };
    let row = format!("queue {size} B");
    bench
        .row(drivers, (workload, &row), Case::Queue(sync), |stage| {
            Box::pin(async move { Ok(vec![(String::new(), sample(stage, size, timing).await?)]) })
        })
        .await;
}

async fn produce(
    mut producer: Box<dyn Produce>,
    mut batch: Batch,
    stop: Arc<AtomicBool>,
    produced: Arc<AtomicU64>,
    consumed: Shown,
) -> Result<u64> {
    while !stop.load(Ordering::Relaxed) {
        if produced.load(Ordering::Relaxed) > consumed.sum() + BACKLOG_MAX {
            pause(Duration::from_millis(1)).await;
            continue;
        }
        batch.renew(0);
        producer.produce(&batch).await?;
        produced.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
    producer.settle().await?;
    Ok(batch.stamped())
}

/// One sample.
pub(crate) async fn sample(stage: &Stage, size: usize, timing: Timing) -> Result<Figures> {
    let (broker, mut shown) = (&stage.running.broker, Shown::default());
    let queue = || "bench".to_owned();
    broker.make_queue(queue()).await?;
    let expected = Expected::default();
    let (mut receivers, mut consumers) = (Vec::new(), Vec::new());
    for _ in 0..CONSUMERS {
        let tally = Tally::collected(timing.layout, shown.add());
        receivers.push((broker.consumer(queue(), CREDIT).await?, tally));
    }
    for (receiver, tally) in receivers {
        let (known, limit, all) = (expected.clone(), expected.clone(), shown.clone());
        // The sum counts what came twice; a last look is for what that would leave behind.
        let done = move |_, is_quiet| is_quiet && all.sum() >= limit.get();
        consumers.push(tokio::spawn(receive_until(receiver, tally, known, done)));
    }
    let (stop, produced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        let producer = broker.producer(queue(), PACE).await?;
        let batch = Batch::new(timing.layout, number as u16, PACE.batch, size);
        let task = produce(producer, batch, stop.clone(), produced.clone(), shown.clone());
        producers.push(tokio::spawn(task));
    }
    let figures = shown.window(timing, stage.running.server.id()).await;
    stop.store(true, Ordering::Relaxed);
    let mut published = Vec::new();
    for producer in producers {
        published.push(producer.await??);
    }
    expected.set(published.iter().sum());
    let mut tallies = Vec::new();
    for consumer in consumers {
        tallies.push(consumer.await??);
    }
    let mut figures = figures?;
    figures.faults = settle(&tallies, &published);
    Ok(figures)
}
