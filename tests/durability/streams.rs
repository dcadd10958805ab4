//! S4: what readers and groups of a stream see over many lives, and over networks that
//! fail: no gap, nothing else at a known offset, nothing skipped, nothing out of order.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_client::{Client, ConsumeOptions, Error, Level, Start};
use weir_tests::Random;

use crate::broker::{Broker, Setup, block_on, check_folder, connect};
use crate::check::{self, Faults, History};
use crate::load::{Line, Load, Producing, pause};
use crate::message::{Id, identity};
use crate::network::{Network, Silent};
use crate::proof::Proof;
use crate::readers::Readers;
use crate::story::{FLOW, PARTITIONS, read_again, stream};

/// Lives over one folder.
const LIVES_PER_FOLDER: u32 = 8;
/// The group that consumes the stream.
const GROUP: &str = "all";
/// Times in one life that the network fails, at most.
const CUTS_MAX: usize = 3;
/// How long a broker stands still when it is paused, and one side of a network is silent.
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
    let (mut records, mut delivered, mut cuts, mut run) = (0, 0, 0, 0);
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
            for _ in 0..random.below(CUTS_MAX + 1) {
                let first = lines.len();
                let cut = cut_off(&broker, first, &seen, &mut random, &mut histories, &mut faults);
                lines.extend(cut);
                cuts += 1;
            }
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
        "{records} records read again after each start, {delivered} delivered to a group, \
         {cuts} cuts of the network; 0 anomalies"
    ));
}

/// Everybody's connections over a network that fails in the middle, mostly one side of it a
/// while before the other.
fn cut_off(
    broker: &Broker,
    first: usize,
    seen: &Arc<Mutex<Seen>>,
    random: &mut Random,
    histories: &mut [History],
    faults: &mut Faults,
) -> Vec<Line> {
    let network = Network::to(&broker.address);
    let traffic = Traffic::start(&network.address, first, seen, random);
    let mark = 1 + random.below(1_500) as u64;
    traffic.load.reach(mark);
    assert!(traffic.load.acknowledged() >= mark, "nothing gets through the network");
    let side = [Silent::Neither, Silent::Clients, Silent::Broker][random.below(3)];
    network.silence(side);
    if side != Silent::Neither {
        pause(STILL);
    }
    network.cut();
    traffic.ended(histories, faults)
}

/// One life: a pause in the middle now and then, and its sudden end.
fn life(
    broker: Broker,
    first: usize,
    seen: &Arc<Mutex<Seen>>,
    random: &mut Random,
    histories: &mut [History],
    faults: &mut Faults,
) -> Vec<Line> {
    let traffic = Traffic::start(&broker.address, first, seen, random);
    let mark = 200 + random.below(4000) as u64;
    if random.below(4) == 0 {
        traffic.load.reach(mark / 2);
        broker.signal("STOP");
        pause(STILL);
        broker.signal("CONT");
    }
    traffic.load.reach(mark);
    broker.kill();
    traffic.ended(histories, faults)
}

/// Producers that nobody has seen yet, readers, and a consumer of the group.
struct Traffic {
    load: Load,
    readers: Readers,
    group: JoinHandle<()>,
}

impl Traffic {
    fn start(address: &str, first: usize, seen: &Arc<Mutex<Seen>>, random: &mut Random) -> Self {
        let producers = (first as u32..).take(6).map(|it| Producing::to(it, FLOW, Level::Disk));
        let more = Random::seeded(random.number());
        let load = Load::start(address, producers.collect(), more);
        let readers = Readers::start(address, FLOW, PARTITIONS);
        let group = std::thread::spawn({
            let (address, seen) = (address.to_owned(), seen.clone());
            move || {
                block_on(async {
                    if let Ok(client) = connect(&address).await {
                        let _ = consume(&client, &seen, u32::MAX).await;
                    }
                });
            }
        });
        Self { load, readers, group }
    }

    /// What they know once their connections are lost.
    fn ended(self, histories: &mut [History], faults: &mut Faults) -> Vec<Line> {
        for (known, seen) in histories.iter_mut().zip(self.readers.histories(faults)) {
            for (offset, id) in (0..).zip(&seen.records) {
                known.observe(offset, *id, faults);
            }
        }
        self.group.join().unwrap();
        self.load.lines()
    }
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
