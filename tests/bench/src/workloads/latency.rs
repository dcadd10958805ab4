//! W4: from publish to receive at 5,000 messages a second, for publish and
//! subscribe and for a queue.
//!
//! A latency counts from the moment the message was meant to leave, so that a
//! publisher that is held up cannot hide what that costs (coordinated omission).
//! The publisher is a thread of its own that sleeps between messages: two cores
//! leave no room for one that spins.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use super::{Bench, Expected, Figures, SIZES, Shown, Stage, Timing, receive_until};
use crate::driver::{Broker, Case, Pace, Produce, Publish, Sync};
use crate::pause;
use crate::stamp::{Batch, Layout, now};
use crate::tally::Tally;

/// Messages a second.
const RATE: u64 = 5_000;
/// Windows of other workloads that one of these lasts: 10 s of the usual 1.5.
const LONGER: f64 = 10.0 / 1.5;
/// In flight at most: a tenth of a second's messages, so that none has to wait.
const PACE: Pace = Pace { window: 512, batch: 1 };
const CREDIT: usize = 256;

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let drivers = std::mem::take(&mut bench.drivers);
    let usual = bench.timing();
    let timing = Timing { window: usual.window.mul_f64(LONGER), ..usual };
    for size in SIZES {
        for case in [Case::PubSub, Case::Queue(Sync::Default), Case::Queue(Sync::Synced)] {
            let row = match case {
                Case::PubSub => format!("pub/sub {size} B"),
                _ => format!("queue {size} B"),
            };
            bench
                .row(&drivers, ("W4", &row), case, |stage| {
                    Box::pin(async move {
                        Ok(vec![(String::new(), sample(stage, case, size, timing).await?)])
                    })
                })
                .await;
        }
    }
    bench.drivers = drivers;
}

/// Either way to publish.
enum Sender {
    Channel(Box<dyn Publish>),
    Queue(Box<dyn Produce>),
}

impl Sender {
    async fn send(&mut self, batch: &Batch) -> Result<()> {
        match self {
            Self::Channel(publisher) => publisher.publish(batch).await,
            Self::Queue(producer) => producer.produce(batch).await,
        }
    }

    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Channel(publisher) => publisher.flush().await,
            Self::Queue(producer) => producer.settle().await,
        }
    }
}

/// Sends `messages` at the rate from `start` on; how many it came to. Runs on a
/// thread of its own.
fn paced(
    runtime: &Handle,
    mut sender: Sender,
    mut batch: Batch,
    start: u64,
    messages: u64,
) -> Result<u64> {
    // A broker that cannot keep up would hold the run for long; a second is enough
    // to tell.
    let end = start + messages * 1_000_000_000 / RATE + 1_000_000_000;

    pause::exactly();
    for number in 0..messages {
        let intended = start + number * 1_000_000_000 / RATE;
        let at = now();
        if at > end {
            break;
        }
        let early = intended.saturating_sub(at);
        if early > 0 {
            pause::pause_thread(Duration::from_nanos(early));
        }
        batch.renew(intended);
        runtime.block_on(sender.send(&batch))?;
    }
    runtime.block_on(sender.finish())?;
    Ok(batch.stamped())
}

async fn open(
    broker: &dyn Broker,
    case: Case,
) -> Result<(Sender, Box<dyn crate::driver::Receive>)> {
    let name = || "bench".to_owned();
    if case == Case::PubSub {
        let receiver = broker.listener(name()).await?;
        return Ok((Sender::Channel(broker.publisher(name()).await?), receiver));
    }
    broker.make_queue(name()).await?;
    let receiver = broker.consumer(name(), CREDIT).await?;
    Ok((Sender::Queue(broker.producer(name(), PACE).await?), receiver))
}

async fn sample(stage: &Stage, case: Case, size: usize, timing: Timing) -> Result<Figures> {
    let (sender, receiver) = open(stage.running.broker.as_ref(), case).await?;
    let mut shown = Shown::default();
    let start = now() + 10_000_000;
    let counts_from = start + timing.warm_up.as_nanos() as u64;
    let tally = Tally::ordered(Layout::Binary, shown.add()).timed(counts_from);
    let messages = ((timing.warm_up + timing.window).as_secs_f64() * RATE as f64) as u64;
    let expected = Expected::default();
    let (known, limit) = (expected.clone(), expected.clone());
    let receiver =
        tokio::spawn(receive_until(receiver, tally, known, move |count, _| count >= limit.get()));
    let (runtime, batch) = (Handle::current(), Batch::new(Layout::Binary, 0, 1, size));
    let thread = std::thread::spawn(move || paced(&runtime, sender, batch, start, messages));
    let figures = shown.window(timing, stage.running.server.id()).await;
    let sent = tokio::task::spawn_blocking(move || thread.join()).await?;
    let messages = sent.map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    expected.set(messages);
    let tally = receiver.await??;
    let mut figures = figures?;
    let latencies = tally.latencies().context("no latencies")?;
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    figures.values.extend([
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("max", latencies.max() as f64 / 1e3),
    ]);
    figures.faults = tally.faults;
    figures.faults.lost = tally.missed(messages);
    Ok(figures)
}
