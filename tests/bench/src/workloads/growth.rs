//! W7: what grows with what, on Weir only: queues, subscriptions, idle connections,
//! workers, the size of messages; and what an idle one of each costs in memory.
//!
//! Workers: `--shards` and the runtime's own `TOKIO_WORKER_THREADS`.

mod idle;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_client::{Client, Confirmation, Message};

use super::{Bench, Figures, Stage, Timing, fanout, figures, queue};
use crate::driver::{Case, Driver, Sync};
use crate::drivers::{Weir, WeirConfig};
use crate::machine::{Meter, resident_mib};
use crate::pause::pause;

const QUEUES: [usize; 3] = [1, 1_000, 100_000];
const SUBSCRIPTIONS: [usize; 3] = [1, 1_000, 1_000_000];
const CONNECTIONS: [usize; 3] = [1, 1_000, 10_000];
const WORKERS: [usize; 2] = [1, 2];
/// Payloads, bytes. A message of 1 MiB with its head is over the limit of a frame,
/// so the last is a little less.
const MESSAGE_BYTES: [usize; 6] = [64, 256, 1_024, 16_384, 131_072, (1 << 20) - 512];
/// Payload where the size is not what grows, bytes.
const SIZE: usize = 128;
/// Fewest idle ones from which the memory of each is told.
const COUNTED_FROM: usize = 1_000;
/// Readings of the memory until it counts as settled, whatever it does.
const SETTLE_READINGS: usize = 20;
/// Messages in flight to many queues, and how many share a receipt.
const WINDOW: usize = 512;
const BATCH: usize = 64;

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let weir = |config| Weir::find(&bench.weir, config).map(|it| Box::new(it) as Box<dyn Driver>);
    let plain = match weir(WeirConfig::default()) {
        Ok(plain) => [plain],
        Err(error) => return crate::say(&format!("SKIPPED W7: {error:#}")),
    };
    let mut workers = Vec::new();
    for count in WORKERS {
        let name = Some(format!("weir {count} workers"));
        let config = WeirConfig { name, workers: Some(count), ..WeirConfig::default() };
        workers.extend(weir(config));
    }
    let timing = bench.timing();
    for repeat in 0..bench.repeats {
        for count in QUEUES {
            let case = Case::Queue(Sync::Synced);
            let row = format!("{count} queues");
            bench
                .once(repeat, &plain, ("W7", &row), case, |stage| {
                    Box::pin(one(queues(stage, count, timing)))
                })
                .await;
        }
        for count in SUBSCRIPTIONS {
            let row = format!("{count} subscriptions");
            bench
                .once(repeat, &plain, ("W7", &row), Case::PubSub, |stage| {
                    Box::pin(one(beside(stage, idle::Kind::Subscriptions, count, timing)))
                })
                .await;
        }
        for count in CONNECTIONS {
            let row = format!("{count} connections");
            bench
                .once(repeat, &plain, ("W7", &row), Case::PubSub, |stage| {
                    Box::pin(one(beside(stage, idle::Kind::Connections, count, timing)))
                })
                .await;
        }
        for bytes in MESSAGE_BYTES {
            let row = format!("{bytes} B messages");
            bench
                .once(repeat, &plain, ("W7", &row), Case::PubSub, |stage| {
                    Box::pin(one(fanout::sample(stage, fanout::SHAPES[0], bytes, timing)))
                })
                .await;
        }
        for shape in fanout::SHAPES {
            let row = format!("workers {}", shape.name());
            bench
                .once(repeat, &workers, ("W7", &row), Case::PubSub, |stage| {
                    Box::pin(one(fanout::sample(stage, shape, SIZE, timing)))
                })
                .await;
        }
        bench
            .once(repeat, &workers, ("W7", "workers queue"), Case::Queue(Sync::Synced), |stage| {
                Box::pin(one(queue::sample(stage, SIZE, timing)))
            })
            .await;
    }
}

/// A sample that is one row.
async fn one(figures: impl Future<Output = Result<Figures>>) -> Result<Vec<(String, Figures)>> {
    Ok(vec![(String::new(), figures.await?)])
}

async fn client(stage: &Stage) -> Result<Client> {
    Ok(Client::connect(&stage.running.server.address().to_string()).await?)
}

/// Resident memory once it no longer changes: a broker that has just started still
/// touches what it will need anyway.
async fn settled_mib(server: u32) -> f64 {
    let mut last = resident_mib(server, "VmRSS");
    for _ in 0..SETTLE_READINGS {
        pause(Duration::from_millis(200)).await;
        let now = resident_mib(server, "VmRSS");
        if (now - last).abs() < 0.05 {
            return now;
        }
        last = now;
    }
    last
}

/// What one of `count` takes, from what all of them took, bytes. Of a few it would
/// be a share of what the first of them makes grow.
fn each(before_mib: f64, after_mib: f64, count: usize) -> Option<f64> {
    let bytes = (after_mib - before_mib) * (1 << 20) as f64;
    (count >= COUNTED_FROM).then(|| bytes / count as f64)
}

/// Writes to `count` queues, picked at random.
async fn queues(stage: &Stage, count: usize, timing: Timing) -> Result<Figures> {
    let (client, server) = (client(stage).await?, stage.running.server.id());
    let before = settled_mib(server).await;
    idle::queues(&client, count).await?;
    let idle_bytes = each(before, settled_mib(server).await, count);

    let names: Vec<String> = (0..count).map(idle::queue_name).collect();
    let payload = [b'x'; SIZE];
    let mut publisher = client.publisher();
    let mut open: VecDeque<Confirmation> = VecDeque::new();
    let (warm, mut sent, mut random) = (Instant::now(), 0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    let mut measured: Option<(Meter, Instant, u64)> = None;
    loop {
        match &mut measured {
            None if warm.elapsed() >= timing.warm_up => {
                measured = Some((Meter::start(server), Instant::now(), sent));
            }
            Some((meter, started, before)) if started.elapsed() >= timing.window => {
                let mut figures = figures(sent - *before, started.elapsed(), meter.stop());
                figures.values.extend(idle_bytes.map(|bytes| ("idle_bytes", bytes)));
                for confirmation in open {
                    confirmation.await?;
                }
                return Ok(figures);
            }
            _ => {}
        }
        for _ in 0..BATCH {
            // xorshift: enough to spread, and the same in every run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let name = &names[(random % count as u64) as usize];
            publisher.send(&Message::new(name).payload(&payload)).await?;
        }
        open.push_back(publisher.take());
        sent += BATCH as u64;
        while (open.len() + 1) * BATCH > WINDOW {
            if let Some(oldest) = open.pop_front() {
                let receipt = oldest.await?;
                ensure!(receipt.stored == BATCH as u64, "{:?}", receipt.refusals.first());
            }
        }
    }
}

/// A fan-out 1→1 beside `count` idle subscriptions or connections.
async fn beside(stage: &Stage, kind: idle::Kind, count: usize, timing: Timing) -> Result<Figures> {
    let server = stage.running.server.id();
    let before = settled_mib(server).await;
    let idle = idle::Idle::open(stage.running.server.address(), kind, count).await?;
    let after = settled_mib(server).await;
    let mut figures = fanout::sample(stage, fanout::SHAPES[0], SIZE, timing).await?;
    figures.values.extend(each(before, after, count).map(|bytes| ("idle_bytes", bytes)));
    drop(idle);
    Ok(figures)
}
