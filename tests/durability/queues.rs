//! S1 and S2: no message of a queue is lost or comes back, whatever dies.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_client::{ConsumeOptions, Level, Message};
use weir_tests::Random;

use crate::broker::{Broker, STORE_FAILED, Setup, check_folder};
use crate::check::{self, Faults};
use crate::consumers::{Book, Consumers, Manners};
use crate::disk::Disk;
use crate::load::{Line, Load, Producing};
use crate::message::{Id, identity, payload};
use crate::proof::Proof;
use crate::story::{QUICK, WORK, drain, queue};

/// Lives over one folder.
const LIVES_PER_FOLDER: u32 = 6;
/// Batches of level `os` that are settled between two syncs of their consumer's own.
const BATCHES_A_SYNC: u32 = 4;
/// Where rejected messages go.
const DEAD: &str = "work/dead";

/// Where a test's folders are, and how its brokers die there.
struct Place {
    disk: Option<Disk>,
    folder: PathBuf,
}

impl Place {
    /// On a disk that can lose its power, where that can be had.
    fn of(proof: &mut Proof, name: &'static str) -> Self {
        let disk = proof.prefers(Disk::ext4(name, 512), "power cuts");
        let folder = disk.as_ref().map(|disk| disk.path().to_owned());
        Self { folder: folder.unwrap_or_else(|| proof.folder()), disk }
    }

    /// Ends a broker: by `kill -9` in even runs, by a power cut in odd ones.
    fn crash(&self, broker: Broker, run: u32) {
        match &self.disk {
            Some(disk) if run % 2 == 1 => {
                disk.cut();
                let ended = broker.ended();
                assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
            }
            _ => broker.kill(),
        }
    }

    /// Behind everything that used it.
    fn recover(&self, run: u32) {
        if let Some(disk) = self.disk.as_ref().filter(|_| run % 2 == 1) {
            disk.mount_again();
        }
    }
}

#[test]
fn queue_conservation() {
    let mut proof = Proof::begin("queue_conservation", (8, 100));
    let place = Place::of(&mut proof, "queue_conservation");
    let manners = Manners { nack: 10, reject: 5, leave: 5, die: 3, confirm: 50 };
    let mut sums = Sums::default();
    let mut run = 0;
    while run < proof.runs() {
        let setup = Setup::over(place.folder.join(format!("data-{run}")));
        let (mut lines, mut book) = (Vec::new(), Book::default());
        let mut broker = Broker::start(&setup);
        broker.with(async |client| client.create(queue(WORK, Level::Disk)).await.unwrap());
        for _ in 0..LIVES_PER_FOLDER.min(proof.runs() - run) {
            let mut random = proof.random(run);
            let producers = (lines.len() as u32..).take(3);
            let producers =
                producers.map(|producer| Producing::to(producer, WORK, Level::Disk)).collect();
            let consumers = Consumers::start(
                &broker.address,
                WORK,
                3,
                manners,
                book,
                Random::seeded(random.number()),
            );
            let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
            load.reach(200 + random.below(4000) as u64);
            place.crash(broker, run);
            lines.extend(load.lines());
            book = consumers.book();
            place.recover(run);
            run += 1;
            broker = Broker::start(&setup);
        }
        sums.add(&lines, &book);
        conserved(&broker, &lines, &book, &format!("up to run {}", run - 1));
        broker.stop();
        check_folder(&setup.data);
        std::fs::remove_dir_all(&setup.data).unwrap();
    }
    proof.figure(format!("{sums}, 0 unaccounted"));
}

#[derive(Default)]
struct Sums {
    acknowledged: u64,
    consumed: usize,
    rejected: usize,
    died: u64,
}

impl Sums {
    fn add(&mut self, lines: &[Line], book: &Book) {
        let of = |line: &Line| line.of(crate::load::Fate::Acknowledged).count() as u64;
        self.acknowledged += lines.iter().map(of).sum::<u64>();
        self.consumed += book.settled.acked.len();
        self.rejected += book.settled.rejected.len();
        self.died += book.died;
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { acknowledged, consumed, rejected, died } = self;
        write!(
            out,
            "{acknowledged} acknowledged, {consumed} consumed, {rejected} rejected, \
             {died} consumers died"
        )
    }
}

/// Empties the queue and its dead letters, and judges.
#[track_caller]
fn conserved(broker: &Broker, lines: &[Line], book: &Book, moment: &str) {
    let (waiting, dead) = broker.with(async |client| {
        let waiting = drain(&client, WORK).await.unwrap();
        let has_dead = client.queue_info(DEAD).await.is_ok();
        (waiting, if has_dead { drain(&client, DEAD).await.unwrap() } else { Vec::new() })
    });
    let mut faults = Faults::default();
    for complaint in lines.iter().flat_map(|line| &line.complaints).chain(&book.complaints) {
        faults.add(|| complaint.clone());
    }
    let lines: Vec<&Line> = lines.iter().collect();
    check::queue(&lines, &book.settled, &waiting, &dead, &mut faults);
    faults.none(moment);
}

#[test]
fn confirmed_ack_final() {
    let mut proof = Proof::begin("confirmed_ack_final", (6, 100));
    let place = Place::of(&mut proof, "confirmed_ack_final");
    let (mut confirmed, mut again) = (0, 0);
    for run in 0..proof.runs() {
        let mut random = proof.random(run);
        let data = place.folder.join(format!("data-{run}"));
        let found = one_life(&place, &data, run, &mut random);
        confirmed += found.0;
        again += found.1;
        std::fs::remove_dir_all(&data).unwrap();
    }
    assert!(confirmed > 0, "no ack was confirmed: nothing could come again");
    proof.figure(format!("{confirmed} confirmed acks, 0 of them came again"));
    proof.figure(format!(
        "at level `os` {again} came again, all of them confirmed behind the last sync"
    ));
}

/// Fills two queues, consumes from both, ends the broker, and looks what comes
/// again. Confirmed acks, and those of level `os` that came again.
fn one_life(place: &Place, data: &Path, run: u32, random: &mut Random) -> (usize, usize) {
    let setup = Setup::over(data);
    let broker = Broker::start(&setup);
    broker.with(async |client| {
        client.create(queue(WORK, Level::Disk)).await.unwrap();
        client.create(queue(QUICK, Level::Os)).await.unwrap();
    });
    let producers = vec![
        Producing::to(0, WORK, Level::Disk),
        Producing::to(1, QUICK, Level::Os),
        Producing::to(2, WORK, Level::Disk),
    ];
    let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
    let manners = Manners { nack: 0, reject: 0, leave: 3, die: 1, confirm: 100 };
    let more = Random::seeded(random.number());
    let consumers = Consumers::start(&broker.address, WORK, 2, manners, Book::default(), more);
    let quick = std::thread::spawn({
        let address = broker.address.clone();
        move || crate::broker::block_on(consume_quick(&address))
    });
    load.reach(500 + random.below(4000) as u64);
    consumers.begin();
    place.crash(broker, run);
    let mut lines = load.lines();
    let book = consumers.book();
    let quick = quick.join().unwrap();
    place.recover(run);

    let broker = Broker::start(&setup);
    let (work, loose) = broker.with(async |client| {
        (drain(&client, WORK).await.unwrap(), drain(&client, QUICK).await.unwrap())
    });
    broker.stop();
    check_folder(data);
    let mut faults = Faults::default();
    for complaint in lines.iter().flat_map(|line| &line.complaints).chain(&book.complaints) {
        faults.add(|| complaint.clone());
    }
    lines.push(quick.line);
    let lines: Vec<&Line> = lines.iter().filter(|line| line.producing.subject == WORK).collect();
    check::queue(&lines, &book.settled, &work, &[], &mut faults);
    let order: HashMap<Id, usize> = quick.confirmed.iter().copied().zip(0..).collect();
    let places = loose.iter().filter_map(|id| Some((id, *order.get(id)?)));
    let places: Vec<(&Id, usize)> = places.collect();
    for (id, _) in places.iter().filter(|(_, place)| *place < quick.behind_a_sync) {
        faults.add(|| format!("{id:?} of level os comes again: its ack was behind a sync"));
    }
    let again = places.len();
    if place.disk.is_none() || run.is_multiple_of(2) {
        assert_eq!(again, 0, "kill -9 takes nothing back, level os or not");
    }
    faults.none(&format!("run {run}"));
    (book.settled.confirmed.len() + quick.behind_a_sync, again)
}

/// What the consumer of the queue of level `os` knows.
struct Quick {
    /// Acks that were confirmed.
    confirmed: Vec<Id>,
    /// How many of them lie before something of level `disk` that was acknowledged.
    behind_a_sync: usize,
    /// What it published to the other queue to get there.
    line: Line,
}

/// Acks messages of level `os`. There is one journal, so what is synced takes
/// everything before it along.
async fn consume_quick(address: &str) -> Quick {
    let producing = Producing::to(9, WORK, Level::Disk);
    let line = Line::silent(producing);
    let mut quick = Quick { confirmed: Vec::new(), behind_a_sync: 0, line };
    let Ok(client) = crate::broker::connect(address).await else { return quick };
    let Ok(mut consumer) = client.consume_with(QUICK, ConsumeOptions::credit(0)).await else {
        return quick;
    };
    let mut batches = 0;
    while let Ok(batch) = consumer.pull(32, Duration::from_millis(50)).await {
        let Some(batch) = batch else { continue };
        let ids: Vec<Id> =
            batch.iter().map(|delivery| identity(delivery.payload()).unwrap()).collect();
        batch.ack();
        let Ok(answer) = consumer.flush().await else { return quick };
        if answer.done == ids.len() as u64 {
            quick.confirmed.extend(ids);
        }
        batches += 1;
        if batches % BATCHES_A_SYNC != 0 {
            continue;
        }
        let id = Id { producer: 9, number: quick.line.fates.len() as u64 };
        quick.line.fates.push(crate::load::Fate::Unknown);
        let payload = payload(id, 100);
        let message = [Message::new(WORK).payload(&payload)];
        match client.publish_confirmed(&message).await {
            Ok(receipt) if receipt.stored == 1 && receipt.level == Level::Disk => {
                *quick.line.fates.last_mut().unwrap() = crate::load::Fate::Acknowledged;
                quick.behind_a_sync = quick.confirmed.len();
            }
            _ => return quick,
        }
    }
    quick
}
