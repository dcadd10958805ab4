//! What hostile policies cost the others: confirmed and acknowledged traffic
//! through bindings of its own, first alone, then with five hostile components in
//! the folder whose subjects get messages all the time. Prints the throughput of
//! both stretches, their ratio, and what the broker says about each binding.
//!
//! ```sh
//! cargo run --release -p weir-tests --bin hostile-load -- 5 10
//! ```
//!
//! The numbers are the stretches' lengths in seconds. Ends with an error below
//! 80 %, when a message of the others is refused, or when a component is not named
//! with its reason.

#![allow(clippy::print_stdout, reason = "a report for people")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use weir_client::{BindingStatus, Client, ConsumeOptions, Message};
use weir_guests::Guests;
use weir_tests::{TestBroker, until};

/// Messages that may be published and not yet consumed: bounds the queue.
const OPEN_MAX: usize = 20_000;
/// Messages of one receipt.
const BATCH: usize = 500;
/// Receipts on their way.
const RECEIPTS: usize = 8;
/// Messages to each hostile subject per interval.
const HOSTILE_BATCH: usize = 20;
const HOSTILE_INTERVAL: Duration = Duration::from_millis(10);
/// The others keep at least so much of their throughput.
const RATIO_MIN: f64 = 0.80;

/// Where the others' messages go: a router of its own, asked about each message,
/// and a delivery policy of its own.
const STEADY: [(&str, &str); 2] = [
    (
        "steady",
        "policy = 'headers-router'\nsubjects = ['steady.>']\npowers = ['retarget']\n[config]\n\
         rules = [{ when = { header = 'kind', value = 'work' }, to = 'work' }]\n",
    ),
    ("steady-delivery", "policy = 'at-least-once'\nqueues = ['work']\n"),
];

/// Binding and plugin, and what the component does.
const HOSTILE: [(&str, &str); 3] =
    [("looping", "loop"), ("eating", "eat-memory"), ("panicking", "panic")];
const BROKEN: [&str; 2] = ["wrong-import", "garbage"];

/// Counted by the traffic's tasks, read by the measurement.
#[derive(Default)]
struct Figures {
    confirmed: AtomicU64,
    refused: AtomicU64,
    consumed: AtomicU64,
    hostile: AtomicU64,
    /// Rung when something was consumed.
    progress: Notify,
    stop: AtomicBool,
}

/// Messages per second, as publisher and consumer saw them.
struct Throughput {
    confirmed: f64,
    consumed: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut seconds = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let (before, after) = (seconds.next().unwrap_or(5), seconds.next().unwrap_or(10));
    // Built before the clock runs.
    let guests = tokio::task::spawn_blocking(Guests::get).await.unwrap();
    let broker = TestBroker::bound(&STEADY).await;
    let client = broker.client().await;
    client.create_queue("work").await.unwrap();

    let figures = Arc::new(Figures::default());
    let room = Arc::new(Semaphore::new(OPEN_MAX));
    tokio::spawn(consume(broker.client().await, figures.clone(), room.clone()));
    let publishing = tokio::spawn(publish(broker.client().await, figures.clone(), room));
    let disturbing = tokio::spawn(disturb(broker.client().await, figures.clone()));

    measure(&figures, 1).await;
    let alone = measure(&figures, before).await;
    println!("before  {}", alone.show());
    drop_in(&broker, guests);
    let beside = measure(&figures, after).await;
    println!("after   {}", beside.show());
    figures.stop.store(true, Relaxed);
    publishing.await.unwrap();
    disturbing.await.unwrap();
    until("everything confirmed is consumed", async || {
        figures.consumed.load(Relaxed) >= figures.confirmed.load(Relaxed)
    })
    .await;

    let ratio = beside.confirmed / alone.confirmed;
    println!("ratio   {ratio:.3}");
    let refused = figures.refused.load(Relaxed);
    println!(
        "refused {refused} of the others; {} to hostile subjects",
        figures.hostile.load(Relaxed)
    );
    let statuses = client.policy_status(None).await.unwrap();
    let all_named = report(&statuses);
    broker.stop().await;
    if ratio >= RATIO_MIN && refused == 0 && all_named {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Drops the five into the folders of a running broker.
fn drop_in(broker: &TestBroker, guests: &Guests) {
    let names = HOSTILE.iter().map(|(name, _)| name).chain(&BROKEN);
    for name in names {
        // Touching the default 64 MiB takes longer than a call may: with less, the
        // eater meets its own limit.
        let toml = format!(
            "policy = '{name}'\nrole = 'router'\nsubjects = ['hostile.{name}']\n\
             [limits]\nmemory-mib = 8\n"
        );
        broker.put_binding(name, &toml);
    }
    for (name, behaviour) in HOSTILE {
        broker.put_plugin(name, &guests.behaving(behaviour));
    }
    broker.put_plugin("wrong-import", &guests.wrong_import);
    broker.put_plugin("garbage", b"not at all a component");
}

/// Publishes to the steady subjects until it is stopped.
async fn publish(client: Client, figures: Arc<Figures>, room: Arc<Semaphore>) {
    let mut publisher = client.publisher();
    let mut receipts = VecDeque::new();
    let settle = |receipt: weir_client::Receipt| {
        figures.confirmed.fetch_add(receipt.stored, Relaxed);
        figures.refused.fetch_add(receipt.refused() + receipt.unrouted, Relaxed);
    };
    let subjects: Vec<String> = (0..64).map(|n| format!("steady.{n}")).collect();
    while !figures.stop.load(Relaxed) {
        room.acquire_many(BATCH as u32).await.unwrap().forget();
        for row in 0..BATCH {
            let subject = &subjects[row % subjects.len()];
            let message = Message::new(subject).header("kind", "work").payload(&[7; 128]);
            publisher.send(&message).await.unwrap();
        }
        receipts.push_back(publisher.take());
        if receipts.len() >= RECEIPTS
            && let Some(receipt) = receipts.pop_front()
        {
            settle(receipt.await.unwrap());
        }
    }
    for receipt in receipts {
        settle(receipt.await.unwrap());
    }
}

/// Consumes and acks what was published.
async fn consume(client: Client, figures: Arc<Figures>, room: Arc<Semaphore>) {
    let mut consumer = client.consume_with("work", ConsumeOptions::credit(4_000)).await.unwrap();
    while let Ok(Some(batch)) = consumer.next_batch().await {
        batch.ack();
        figures.consumed.fetch_add(batch.len() as u64, Relaxed);
        figures.progress.notify_one();
        room.add_permits(batch.len());
    }
}

/// Publishes to the subjects of the hostile components, at a pace, from the start.
async fn disturb(client: Client, figures: Arc<Figures>) {
    let names = HOSTILE.iter().map(|(name, _)| name).chain(&BROKEN);
    let subjects: Vec<String> = names.map(|name| format!("hostile.{name}")).collect();
    let mut pace = tokio::time::interval(HOSTILE_INTERVAL);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !figures.stop.load(Relaxed) {
        pace.tick().await;
        for subject in &subjects {
            let messages = vec![Message::new(subject).payload("x"); HOSTILE_BATCH];
            let receipt = client.publish_confirmed(&messages).await.unwrap();
            figures.hostile.fetch_add(receipt.messages, Relaxed);
        }
    }
}

/// Lets the traffic run for so long and counts, from one batch consumed to another.
async fn measure(figures: &Figures, seconds: u64) -> Throughput {
    figures.progress.notified().await;
    let started = Instant::now();
    let figure = || (figures.confirmed.load(Relaxed), figures.consumed.load(Relaxed));
    let (confirmed, consumed) = figure();
    while started.elapsed() < Duration::from_secs(seconds) {
        figures.progress.notified().await;
    }
    let (confirmed_now, consumed_now) = figure();
    let took = started.elapsed().as_secs_f64();
    Throughput {
        confirmed: (confirmed_now - confirmed) as f64 / took,
        consumed: (consumed_now - consumed) as f64 / took,
    }
}

impl Throughput {
    fn show(&self) -> String {
        format!("{:>9.0} confirmed/s  {:>9.0} consumed/s", self.confirmed, self.consumed)
    }
}

/// Prints what the broker says; whether each hostile component has a reason.
fn report(statuses: &[BindingStatus]) -> bool {
    for status in statuses {
        let reason = status.error.as_deref().unwrap_or("-");
        println!("{:<18} {:<11} traps {:<6} {reason}", status.binding, status.state, status.traps);
    }
    let has_reason = |name: &&str| {
        statuses.iter().any(|status| status.binding == **name && status.error.is_some())
    };
    HOSTILE.iter().map(|(name, _)| name).chain(&BROKEN).all(has_reason)
}
