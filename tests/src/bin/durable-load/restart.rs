//! `restart`: millions of messages in many queues, the broker killed, and started again
//! with nothing in the page cache.

use std::time::Instant;

use weir_client::{Level, Message};

use crate::broker::{Broker, Place};
use crate::load::{make_queue, wide};
use crate::machine::{self, Cache};
use crate::verdict::verdict;

const QUEUES: usize = 1_000;
const MESSAGES: u64 = 5_000_000;
/// Seconds, less than.
const WANTED: f64 = 10.0;

pub(crate) async fn run(place: Place) -> bool {
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q-{number}")).collect();
    leave(&place, &names).await;
    let cache = machine::drop_caches();
    let broker = Broker::start(&place, "restart", "");
    let (resident, peak) = (broker.status_mib("VmRSS"), broker.status_mib("VmHWM"));
    let started = Instant::now();
    let client = broker.client().await;
    let mut left = 0;
    for name in &names {
        left += client.queue_info(name).await.unwrap().messages;
    }
    println!(
        "  ready in {:.2?}, {resident:.0} MiB resident then, {peak:.0} MiB at most; {left} messages \
         in {QUEUES} queues, told after {:.2?} more; the store: {}",
        broker.ready,
        started.elapsed(),
        broker.opened
    );
    let ready = broker.ready.as_secs_f64();
    client.close().await;
    broker.stop();
    let all_there = verdict(left == MESSAGES, "messages after kill -9 and a start", left, MESSAGES);
    all_there
        & verdict(
            ready < WANTED && cache == Cache::Empty,
            "ready after kill -9 with 5,000,000 messages in 1,000 queues, nothing in the page cache",
            format!("{ready:.2} s{}", cache.clause()),
            format!("< {WANTED} s"),
        )
}

/// Leaves a data folder with all of them, by a broker that was killed.
async fn leave(place: &Place, names: &[String]) {
    let broker = Broker::start(place, "restart", "");
    let client = broker.client().await;
    for name in names {
        make_queue(&client, name, Level::Os).await;
    }
    let mut publisher = client.publisher_with(wide());
    let payload = [b'x'; 128];
    let started = Instant::now();
    for number in 0..MESSAGES {
        let name = &names[(number.wrapping_mul(7_919) % QUEUES as u64) as usize];
        publisher.send(&Message::new(name).payload(&payload)).await.unwrap();
    }
    let receipt = publisher.flush().await.unwrap();
    assert_eq!(receipt.stored, MESSAGES, "{:?}", receipt.refusals.first());
    println!("  {MESSAGES} messages to {QUEUES} queues in {:.1?}", started.elapsed());
    // Before the broker, so that nothing tries to reach it again.
    drop((publisher, client));
    // Killed: no clean stop.
    drop(broker);
}
