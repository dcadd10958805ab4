//! W1: publish and subscribe, as fast as it goes. Delivered messages per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tokio::task::JoinHandle;

use super::{BATCH, Bench, Expected, Figures, SIZES, Shown, Stage, Timing, receive_until};
use crate::driver::{Case, Driver, Publish};
use crate::stamp::{Batch, Layout};
use crate::tally::Tally;

/// Bytes a publisher hands over at once at most.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Who publishes to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    name: &'static str,
    publishers: usize,
    /// Listeners of each publisher's subject.
    listeners: usize,
}

impl Shape {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

/// The shapes of the table.
pub(crate) const SHAPES: [Shape; 3] = [
    Shape { name: "1→1", publishers: 1, listeners: 1 },
    Shape { name: "1→8", publishers: 1, listeners: 8 },
    Shape { name: "4→4", publishers: 4, listeners: 1 },
];

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let drivers = std::mem::take(&mut bench.drivers);
    for size in SIZES {
        for shape in SHAPES {
            rows(bench, &drivers, "W1", shape, size, Layout::Binary).await;
        }
    }
    bench.drivers = drivers;
}

/// One row of it.
pub(crate) async fn rows(
    bench: &mut Bench,
    drivers: &[Box<dyn Driver>],
    workload: &str,
    shape: Shape,
    size: usize,
    layout: Layout,
) {
    let timing = Timing { layout, ..bench.timing() };
    let row = format!("{} {size} B", shape.name);
    bench
        .row(drivers, (workload, &row), Case::PubSub, |stage| {
            Box::pin(
                async move { Ok(vec![(String::new(), sample(stage, shape, size, timing).await?)]) },
            )
        })
        .await;
}

/// Publishes until told to stop. Messages published.
async fn publish(
    mut publisher: Box<dyn Publish>,
    mut batch: Batch,
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    while !stop.load(Ordering::Relaxed) {
        batch.renew(0);
        publisher.publish(&batch).await?;
    }
    publisher.flush().await?;
    Ok(batch.stamped())
}

/// Messages of a batch: the usual number, fewer where they are large.
fn batch(size: usize) -> usize {
    (BATCH_BYTES_MAX / size).clamp(1, BATCH)
}

/// One sample.
pub(crate) async fn sample(
    stage: &Stage,
    shape: Shape,
    size: usize,
    timing: Timing,
) -> Result<Figures> {
    let (broker, mut shown) = (&stage.running.broker, Shown::default());
    let mut lanes: Vec<(Expected, Vec<JoinHandle<Result<Tally>>>)> = Vec::new();
    for lane in 0..shape.publishers {
        let (expected, mut listeners) = (Expected::default(), Vec::new());
        for _ in 0..shape.listeners {
            let receiver = broker.listener(format!("bench.lane{lane}")).await?;
            let tally = Tally::ordered(timing.layout, shown.add());
            let (known, limit) = (expected.clone(), expected.clone());
            let done = move |count, _| count >= limit.get();
            listeners.push(tokio::spawn(receive_until(receiver, tally, known, done)));
        }
        lanes.push((expected, listeners));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = Vec::new();
    for lane in 0..shape.publishers {
        let publisher = broker.publisher(format!("bench.lane{lane}")).await?;
        let batch = Batch::new(timing.layout, lane as u16, batch(size), size);
        publishers.push(tokio::spawn(publish(publisher, batch, stop.clone())));
    }
    let figures = shown.window(timing, stage.running.server.id()).await;
    stop.store(true, Ordering::Relaxed);
    for ((expected, _), publisher) in lanes.iter().zip(publishers) {
        expected.set(publisher.await??);
    }
    let mut figures = figures?;
    for (expected, listeners) in lanes {
        for listener in listeners {
            let tally = listener.await??;
            figures.faults.add(tally.faults);
            figures.faults.lost += tally.missed(expected.get());
        }
    }
    Ok(figures)
}
