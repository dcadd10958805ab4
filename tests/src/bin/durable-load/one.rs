//! `one`: a message at a time at level `disk`, against what one sync and one round trip
//! over the loopback allow.

use std::time::Instant;

use weir_client::{Client, Level, Message};

use crate::broker::{Broker, Place};
use crate::load::{SIDE, make_queue};
use crate::verdict::{all, median, verdict};
use crate::{machine, raw};

const ROUNDS: usize = 5;
/// Of the bound, at least.
const WANTED: f64 = 0.9;

pub(crate) async fn run(place: Place) -> bool {
    let broker = Broker::start(&place, "one", "");
    let client = broker.client().await;
    make_queue(&client, "one", Level::Disk).await;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // The other way round each time, so that neither is always the one that comes
        // behind the other.
        let is_broker_first = !round.is_multiple_of(2);
        machine::rest();
        let early = if is_broker_first { Some(one_in_flight(&client).await) } else { None };
        let (syncs, trips) = (raw::syncs(&place.folder), raw::round_trips());
        let rate = match early {
            Some(rate) => rate,
            None => one_in_flight(&client).await,
        };
        let bound = 1.0 / (1.0 / syncs + 1.0 / trips);
        println!(
            "  {}: raw sync {syncs:.0}/s, raw round trip {trips:.0}/s: bound {bound:.0}/s; weir \
             {rate:.0}/s, {:.3}",
            if is_broker_first { "weir first" } else { "raw first" },
            rate / bound
        );
        ratios.push(rate / bound);
        rates.push(rate);
    }
    println!("  {:.0}/s in the middle; of the bound: {}", median(&rates), all(&ratios));
    let found = median(&ratios);
    verdict(
        found >= WANTED,
        "one in flight at disk, of what a raw sync and a raw round trip allow",
        format!("{found:.3}"),
        format!(">= {WANTED}"),
    )
}

/// Messages a second.
async fn one_in_flight(client: &Client) -> f64 {
    let payload = [b'x'; 128];
    let message = Message::new("one").payload(&payload);
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        let receipt = client.publish_confirmed(std::slice::from_ref(&message)).await.unwrap();
        assert_eq!((receipt.stored, receipt.level), (1, Level::Disk));
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}
