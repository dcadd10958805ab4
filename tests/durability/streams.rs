//! S4: what readers and groups of a stream see over many lives: no gap, nothing
//! else at a known offset, nothing skipped, nothing out of order.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_client::{Client, ConsumeOptions, Error, Level, Start};
use weir_tests::Random;

use crate::broker::{Broker, Setup, block_on, check_folder, connect};
use crate::check::{self, Faults, History};
use crate::load::{Line, Load, Producing, pause};
use crate::message::{Id, identity};
use crate::proof::Proof;
use crate::readers::Readers;
use crate::story::{FLOW, PARTITIONS, read_again, stream};

/// Lives over one folder.
const LIVES_PER_FOLDER: u32 = 8;
/// The group that consumes the stream.
const GROUP: &str = "all";
/// How long a broker stands still when it is paused.
const STILL: Duration = Duration::from_millis(300);
/// Longest wait of a pull.
const PULL: Duration = Duration::from_millis(100);
/// Pulls that bring nothing before the group counts as stuck.
const PULLS_MAX: u32 = 100;

/// What the group's consumer saw.
#[derive(Default)]
struct Seen {
    delivered: HashSet<(u16, u64, Id)>,
    confirmed: HashSet<(u16, u64)>,
    faults: Faults,
}

#[test]
fn stream_checker() {
    let mut proof = Proof::begin("stream_checker", (8, 100));
    let folder = proof.folder();
    let (mut records, mut delivered, mut run) = (0, 0, 0);
    while run < proof.runs() {
        let data = folder.join(format!("data-{run}"));
        let setup = Setup::over(&data);
        let mut broker = Broker::start(&setup);
        broker.with(async |client| {
            client.create(stream(FLOW, Level::Disk)).await.unwrap();
            client.create_group(FLOW, GROUP, Start::Earliest).await.unwrap();
        });
        let mut histories = vec![History::default(); usize::from(PARTITIONS)];
        let mut lines: Vec<Line> = Vec::new();
        let seen = Arc::new(Mutex::new(Seen::default()));
        for _ in 0..LIVES_PER_FOLDER.min(proof.runs() - run) {
            let mut random = proof.random(run);
            let mut faults = Faults::default();
            lines.extend(life(
                broker,
                lines.len(),
                &seen,
                &mut random,
                &mut histories,
                &mut faults,
            ));
            broker = Broker::start(&setup);
            read_again(&broker, FLOW, &mut histories, &mut faults);
            check::stream(&lines.iter().collect::<Vec<_>>(), &histories, &mut faults);
            for complaint in lines.iter().flat_map(|line| &line.complaints) {
                faults.add(|| complaint.clone());
            }
            faults.none(&format!("run {run}"));
            run += 1;
        }
        broker.with(async |client| consume_rest(&client, &seen).await);
        broker.stop();
        check_folder(&data);
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        records += histories.iter().map(|history| history.records.len()).sum::<usize>();
        delivered += seen.delivered.len();
        skips_nothing(&mut seen, &histories);
        std::fs::remove_dir_all(&data).unwrap();
    }
    proof.figure(format!(
        "{records} records read again after each start, {delivered} delivered to a group; \
         0 anomalies"
    ));
}

/// One life: producers, readers and a group, a pause in the middle now and then,
/// and its sudden end.
fn life(
    broker: Broker,
    first: usize,
    seen: &Arc<Mutex<Seen>>,
    random: &mut Random,
    histories: &mut [History],
    faults: &mut Faults,
) -> Vec<Line> {
    let producers = (first as u32..).take(6).map(|it| Producing::to(it, FLOW, Level::Disk));
    let more = Random::seeded(random.number());
    let load = Load::start(&broker.address, producers.collect(), more);
    let readers = Readers::start(&broker.address, FLOW, PARTITIONS);
    let group = std::thread::spawn({
        let (address, seen) = (broker.address.clone(), seen.clone());
        move || {
            block_on(async {
                if let Ok(client) = connect(&address).await {
                    let _ = consume(&client, &seen, u32::MAX).await;
                }
            });
        }
    });
    let mark = 200 + random.below(4000) as u64;
    if random.below(4) == 0 {
        load.reach(mark / 2);
        broker.signal("STOP");
        pause(STILL);
        broker.signal("CONT");
    }
    load.reach(mark);
    broker.kill();
    for (known, seen) in histories.iter_mut().zip(readers.histories(faults)) {
        for (offset, id) in (0..).zip(&seen.records) {
            known.observe(offset, *id, faults);
        }
    }
    group.join().unwrap();
    load.lines()
}

/// Consumes the group until `vain_max` pulls in a row brought nothing.
async fn consume(client: &Client, seen: &Mutex<Seen>, vain_max: u32) -> Result<(), Error> {
    let mut consumer = client.consume_group(FLOW, GROUP, ConsumeOptions::credit(0)).await?;
    let mut vain = 0;
    while vain < vain_max {
        let Some(batch) = consumer.pull(200, PULL).await? else {
            vain += 1;
            continue;
        };
        vain = 0;
        let mut places = Vec::new();
        for delivery in batch {
            let mut seen = seen.lock().unwrap();
            let place = (delivery.partition, delivery.offset);
            if seen.confirmed.contains(&place) {
                seen.faults.add(|| format!("{place:?} comes again behind its confirmed ack"));
            }
            match identity(delivery.payload()) {
                Ok(id) => drop(seen.delivered.insert((place.0, place.1, id))),
                Err(wrong) => seen.faults.add(|| format!("{place:?}: {wrong}")),
            }
            places.push(place);
            delivery.ack();
        }
        if consumer.flush().await?.done == places.len() as u64 {
            seen.lock().unwrap().confirmed.extend(places);
        }
    }
    Ok(())
}

/// Consumes what is left, to the end.
async fn consume_rest(client: &Client, seen: &Mutex<Seen>) {
    for _ in 0..PULLS_MAX {
        consume(client, seen, 2).await.unwrap();
        if client.group_info(FLOW, GROUP).await.unwrap().delivery.lag == 0 {
            return;
        }
    }
    panic!("the group has a lag and is handed out nothing");
}

/// Whether the group was handed each record, and at each offset what readers found.
fn skips_nothing(seen: &mut Seen, histories: &[History]) {
    for (partition, history) in (0_u16..).zip(histories) {
        for (offset, id) in (0_u64..).zip(&history.records) {
            if !seen.delivered.remove(&(partition, offset, *id)) {
                seen.faults.add(|| format!("{partition}/{offset} {id:?} was skipped"));
            }
        }
    }
    for place in &seen.delivered {
        seen.faults.add(|| format!("{place:?} was handed out, and nobody can read it"));
    }
    seen.faults.none("what the group was handed");
}
