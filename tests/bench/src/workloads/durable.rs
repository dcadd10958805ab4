//! W5: acknowledged and synced, one message in flight at a time and 64 of them.
//!
//! Beside them stands a yardstick: one raw sync, the best of the ways to sync 512 bytes,
//! and one raw round trip, measured in turns with the brokers. And another: a round trip to
//! a plain thread that syncs before it answers, in that way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use super::{Bench, Figures, Stage, Timing, figures};
use crate::driver::{Case, Pace, Sync};
use crate::machine::{Meter, metered};
use crate::raw;
use crate::stamp::{Batch, Layout};

/// Name of the yardstick's column.
pub(crate) const YARDSTICK: &str = "raw sync + trip";
/// And of the other.
pub(crate) const ECHO: &str = "raw synced echo";

const CASE: Case = Case::Queue(Sync::Synced);
/// Payload, bytes.
const SIZE: usize = 128;
/// Messages in flight.
const WINDOWS: [usize; 2] = [1, 64];

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let drivers = std::mem::take(&mut bench.drivers);
    let timing = bench.timing();
    for window in WINDOWS {
        let row = format!("{window} in flight, {SIZE} B");
        for repeat in 0..bench.repeats {
            if window == 1 {
                yardstick(bench, &row, repeat).await;
            }
            bench
                .once(repeat, &drivers, ("W5", &row), CASE, |stage| {
                    Box::pin(async move {
                        Ok(vec![(String::new(), sample(stage, window, timing).await?)])
                    })
                })
                .await;
        }
    }
    bench.drivers = drivers;
}

async fn yardstick(bench: &mut Bench, row: &str, repeat: usize) {
    let (folder, window) = (bench.folder.clone(), bench.window.min(Duration::from_secs(1)));
    let work = move || -> Result<_> {
        let folder = tempfile::tempdir_in(folder)?;
        let (mut best, mut quickest) = (0.0, raw::WAYS[0].0);
        let (alone, resources) = metered(|| -> Result<f64> {
            for (way, _) in raw::WAYS {
                let rate = raw::syncs(folder.path(), way, 512, window)?;
                if rate > best {
                    (best, quickest) = (rate, way);
                }
            }
            raw::round_trips(200, window)
        });
        let both = metered(|| raw::synced_trips(folder.path(), quickest, 200, window));
        Ok((best, alone?, resources, both.0?, both.1))
    };
    let found = tokio::task::spawn_blocking(work).await;
    match found.context("the thread ended").and_then(|found| found) {
        Ok((syncs, trips, resources, both, resources_of_both)) => {
            let rate = 1.0 / (1.0 / syncs + 1.0 / trips);
            let values = vec![("rate", rate), ("syncs", syncs), ("round_trips", trips)];
            let columns =
                [(YARDSTICK, values, resources), (ECHO, vec![("rate", both)], resources_of_both)];
            for (column, values, resources) in columns {
                let resources = Some(resources);
                let figures = Figures { values, resources, ..Figures::default() };
                bench.keep(("W5", row), column.to_owned(), CASE, repeat, figures);
            }
        }
        Err(error) => bench.results.failures.push(format!("W5 yardstick: {error:#}")),
    }
}

async fn sample(stage: &Stage, window: usize, timing: Timing) -> Result<Figures> {
    let (broker, server) = (&stage.running.broker, stage.running.server.id());
    broker.make_queue("bench".to_owned()).await?;
    let pace = Pace { window, batch: 1 };
    let mut producer = broker.producer("bench".to_owned(), pace).await?;
    let mut batch = Batch::new(Layout::Binary, 0, 1, SIZE);
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let warm = Instant::now();
    let mut measured: Option<(Meter, Instant, u64)> = None;
    loop {
        match &measured {
            None if warm.elapsed() >= timing.warm_up => {
                producer.settle().await?;
                latencies.reset();
                measured = Some((Meter::start(server), Instant::now(), batch.stamped()));
            }
            Some((_, started, _)) if started.elapsed() >= timing.window => break,
            _ => {}
        }
        let sent = Instant::now();
        batch.renew(0);
        producer.produce(&batch).await?;
        if window == 1 {
            producer.settle().await?;
            latencies.saturating_record(sent.elapsed().as_nanos() as u64);
        }
    }
    producer.settle().await?;
    let (mut meter, started, before) = measured.context("nothing was measured")?;
    let mut figures = figures(batch.stamped() - before, started.elapsed(), meter.stop());
    if window == 1 {
        let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
        figures.values.extend([("p50", at(0.5)), ("p99", at(0.99))]);
    }
    Ok(figures)
}
