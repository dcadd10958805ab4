//! `spread`: 512 in flight over 1,000 queues at random, against one queue, at level `disk`
//! over one connection. Each side has a broker of its own with all these queues.

use weir_client::Level;

use crate::broker::{Broker, Place};
use crate::files;
use crate::load::{make_queue, windowed};
use crate::machine::{self, Times};
use crate::verdict::{all, median, verdict};

const ROUNDS: usize = 5;
const QUEUES: usize = 1_000;
const WINDOW: usize = 512;
/// Of the rate with one queue, at least.
const WANTED: f64 = 0.80;

pub(crate) async fn run(place: Place) -> bool {
    let single = vec!["single".to_owned()];
    let many: Vec<String> = (0..QUEUES).map(|number| format!("many-{number}")).collect();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let is_single_first = round.is_multiple_of(2);
        println!("  round {}", round + 1);
        let order = if is_single_first { [&single, &many] } else { [&many, &single] };
        let first = side(&place, &many, order[0]).await;
        let second = side(&place, &many, order[1]).await;
        let ratio = if is_single_first { second / first } else { first / second };
        println!("    1,000 queues against one: {ratio:.3}");
        ratios.push(ratio);
    }
    println!("  1,000 queues against one: {}", all(&ratios));
    let found = median(&ratios);
    verdict(
        found >= WANTED,
        "512 in flight at disk, 1,000 queues at random against one",
        format!("{found:.3}"),
        format!(">= {WANTED:.2}"),
    )
}

/// Messages a second to the queues of these names, of all that there are.
async fn side(place: &Place, many: &[String], names: &[String]) -> f64 {
    let broker = Broker::start(place, "spread", "");
    let client = broker.client().await;
    make_queue(&client, "single", Level::Disk).await;
    for name in many {
        make_queue(&client, name, Level::Disk).await;
    }
    files::settled(&place.data("spread")).await;
    machine::rest();
    let spent = || (machine::cpu_us(broker.id()), machine::cpu_us(std::process::id()));
    let (times, (broker_us, client_us)) = (Times::now(), spent());
    let load = windowed(&client, WINDOW, names).await;
    let (idle, spent) = (Times::now().idle_since(times), spent());
    let each = |us: u64| us as f64 / load.messages as f64;
    println!(
        "    {} queues: {:.0}/s; us of processors a message: broker {:.2}, client {:.2}; {:.0} % \
         of the machine idle",
        names.len(),
        load.rate(),
        each(spent.0 - broker_us),
        each(spent.1 - client_us),
        idle * 100.0
    );
    client.close().await;
    broker.stop();
    place.clear("spread");
    load.rate()
}
