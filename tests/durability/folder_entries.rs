//! D10: what was made is there after a power cut right behind the answer. Each cut
//! strikes a folder that is new, so that every entry of it must have been synced.

use std::path::Path;
use std::time::Instant;

use weir_client::{Client, ErrorCode, Level, Message, Start};
use weir_tests::Random;

use crate::broker::{Broker, STORE_FAILED, Setup, check_folder};
use crate::disk::Disk;
use crate::load::{Load, Producing, pause};
use crate::proof::{DEADLINE, Proof};
use crate::story::{FLOW, Story, WORK, drain, queue, stream};

/// What is made, and then cut.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Queue,
    Stream,
    Group,
    RolledFile,
    Checkpoint,
    Binding,
}

const KINDS: [Kind; 6] =
    [Kind::Queue, Kind::Stream, Kind::Group, Kind::RolledFile, Kind::Checkpoint, Kind::Binding];

#[test]
fn dir_entry_durable() {
    let mut proof = Proof::begin("dir_entry_durable", (12, 300));
    let Some(disk) = proof.needs(Disk::ext4("dir_entry_durable", 512)) else { return };
    for run in 0..proof.runs() {
        let kind = KINDS[run as usize % KINDS.len()];
        let mut random = proof.random(run);
        let setup = Setup::over(disk.path().join(format!("data-{run}")));
        match kind {
            Kind::RolledFile => grows(&disk, &setup, &mut random, "journal", "j-"),
            Kind::Checkpoint => grows(&disk, &setup, &mut random, "", "checkpoint-"),
            _ => is_made(&disk, &setup, kind),
        }
        check_folder(&setup.data);
        std::fs::remove_dir_all(&setup.data).unwrap();
    }
    proof.figure(format!("{} cuts, behind each of {KINDS:?} in turn", proof.runs()));
}

fn cut(disk: &Disk, broker: Broker) {
    disk.cut();
    // It may have nothing to write, and then does not notice.
    broker.kill();
    disk.mount_again();
}

/// Makes something, cuts the power behind the answer, looks for it.
fn is_made(disk: &Disk, setup: &Setup, kind: Kind) {
    let broker = Broker::start(setup);
    let bindings = setup.data.join("bindings");
    let generation = broker.with(async |client| make(&client, kind, &bindings).await);
    cut(disk, broker);
    let broker = Broker::start(setup);
    broker.with(async |client| match kind {
        Kind::Queue => {
            let found = drain(&client, WORK).await.expect("the queue is there");
            assert_eq!(found.len(), 1, "the message is there");
        }
        Kind::Stream => {
            client.stream_info(FLOW).await.expect("the stream is there");
        }
        Kind::Group => {
            client.group_info(FLOW, "audit").await.expect("the group is there");
        }
        Kind::Binding => {
            let status = client.policy_status(Some("rule")).await.expect("the binding is there");
            assert!(status[0].generation >= generation, "{status:?} behind {generation}");
        }
        Kind::RolledFile | Kind::Checkpoint => unreachable!("not made by a request"),
    });
    broker.stop();
}

/// Makes it. The generation, of a binding.
async fn make(client: &Client, kind: Kind, bindings: &Path) -> u64 {
    match kind {
        Kind::Queue => {
            client.create(queue(WORK, Level::Disk)).await.unwrap();
            let payload =
                crate::message::payload(crate::message::Id { producer: 0, number: 0 }, 64);
            let message = [Message::new(WORK).payload(&payload)];
            let receipt = client.publish_confirmed(&message).await.unwrap();
            assert_eq!((receipt.stored, receipt.level), (1, Level::Disk));
        }
        Kind::Stream => client.create(stream(FLOW, Level::Disk)).await.unwrap(),
        Kind::Group => {
            client.create(stream(FLOW, Level::Disk)).await.unwrap();
            client.create_group(FLOW, "audit", Start::Earliest).await.unwrap();
        }
        Kind::Binding => return bind(client, bindings).await,
        Kind::RolledFile | Kind::Checkpoint => unreachable!("not made by a request"),
    }
    0
}

/// Puts a binding in place, as an operator does who wants it to last, and waits
/// until the broker says that it is in force.
async fn bind(client: &Client, bindings: &Path) -> u64 {
    client.create(queue(WORK, Level::Disk)).await.unwrap();
    let aside = bindings.join(".rule.new");
    std::fs::write(&aside, BINDING).unwrap();
    std::fs::File::open(&aside).unwrap().sync_all().unwrap();
    std::fs::rename(&aside, bindings.join("rule.toml")).unwrap();
    std::fs::File::open(bindings).unwrap().sync_all().unwrap();
    let begun = Instant::now();
    loop {
        match client.policy_status(Some("rule")).await {
            Ok(status) if status[0].state == "active" => return status[0].generation,
            Ok(_) => {}
            Err(weir_client::Error::Refused(error)) if error.code == ErrorCode::NotFound => {}
            Err(error) => panic!("{error}"),
        }
        assert!(begun.elapsed() < DEADLINE, "the binding is not in force");
        pause(std::time::Duration::from_millis(2));
    }
}

/// Publishes until there is a file that was not there, cuts the power at once, and
/// looks for what was acknowledged.
fn grows(disk: &Disk, setup: &Setup, random: &mut Random, folder: &str, begins: &str) {
    let broker = Broker::start(setup);
    let mut story = Story::begin(&broker, false);
    let folder = setup.data.join(folder);
    let before = names(&folder, begins);
    let big = |producing| Producing { bytes_max: 16 << 10, ..producing };
    let producers = story.producers(random).into_iter().map(big).collect();
    let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
    let begun = Instant::now();
    while names(&folder, begins).iter().all(|name| before.contains(name)) {
        assert!(begun.elapsed() < DEADLINE, "no new {begins} in {}", folder.display());
        pause(std::time::Duration::from_micros(200));
    }
    disk.cut();
    let ended = broker.ended();
    assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
    story.add(load.lines());
    disk.mount_again();
    let broker = Broker::start(setup);
    story.check(&broker, begins);
    story.finish(&broker, begins);
    broker.stop();
}

fn names(folder: &Path, begins: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(begins) && !name.ends_with(".tmp")).collect()
}

/// A shipped policy for the queue's deliveries.
const BINDING: &str = "policy = \"at-least-once\"\nqueues = [\"work\"]\n";
