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
use crate::trace::{self, Delay, Delaying};

/// How much later the syncs of folders and of new files begin while a file is begun,
/// milliseconds: any of them makes the new name durable along with its own work, and
/// the power is cut before.
const DELAY_MS: u64 = 1000;
/// Publishers while a file is begun, one message each on its way.
const PUBLISHERS: u32 = 3;

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
    if proof.needs(trace::available()).is_none() {
        return;
    }
    for run in 0..proof.runs() {
        let kind = KINDS[run as usize % KINDS.len()];
        let mut random = proof.random(run);
        let setup = Setup::over(disk.path().join(format!("data-{run}")));
        match kind {
            Kind::RolledFile => rolls(&disk, &setup, &mut random),
            Kind::Checkpoint => grows(&disk, &setup, &mut random),
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

/// Publishes until a checkpoint is there that was not, cuts the power at once, and
/// looks for what was acknowledged.
fn grows(disk: &Disk, setup: &Setup, random: &mut Random) {
    let broker = Broker::start(setup);
    let story = Story::begin(&broker, false);
    let before = names(&setup.data, CHECKPOINT);
    let big = |producing| Producing { bytes_max: 16 << 10, ..producing };
    let producers = story.producers(random).into_iter().map(big).collect();
    let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
    wait_for_new(&setup.data, CHECKPOINT, &before);
    disk.cut();
    look_again(disk, setup, broker, story, load, CHECKPOINT);
}

/// Publishes until the journal goes on in a new file, and messages that lie in it are
/// acknowledged; cuts the power then, and looks for them.
fn rolls(disk: &Disk, setup: &Setup, random: &mut Random) {
    let broker = Broker::start(setup);
    let story = Story::begin(&broker, false);
    let journal = setup.data.join("journal");
    let before = names(&journal, JOURNAL);
    let log = disk.path().with_extension("trace");
    let delay = (Delay::Before, DELAY_MS);
    let delaying = Delaying::attach(broker.process_id(), "fsync,fdatasync", delay, log);
    let to = [WORK, FLOW].into_iter().cycle();
    let one =
        |(producer, to)| Producing { bytes_max: 16 << 10, ..Producing::one_by_one(producer, to) };
    let producers = (0..PUBLISHERS).zip(to).map(one).collect();
    let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
    wait_for_new(&journal, JOURNAL, &before);
    // Of those on their way some may lie in the file before.
    load.reach(load.acknowledged() + u64::from(PUBLISHERS) + 1);
    disk.cut();
    look_again(disk, setup, broker, story, load, JOURNAL);
    drop(delaying);
}

fn wait_for_new(folder: &Path, begins: &str, before: &[String]) {
    let begun = Instant::now();
    while names(folder, begins).iter().all(|name| before.contains(name)) {
        assert!(begun.elapsed() < DEADLINE, "no new {begins} in {}", folder.display());
        pause(std::time::Duration::from_micros(200));
    }
}

/// Behind a cut: all that was acknowledged must be there.
fn look_again(
    disk: &Disk,
    setup: &Setup,
    broker: Broker,
    mut story: Story,
    load: Load,
    moment: &str,
) {
    let ended = broker.ended();
    assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
    story.add(load.lines());
    disk.mount_again();
    let broker = Broker::start(setup);
    story.check(&broker, moment);
    story.finish(&broker, moment);
    broker.stop();
}

fn names(folder: &Path, begins: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(begins) && !name.ends_with(".tmp")).collect()
}

/// How names of journal files and of checkpoints begin.
const JOURNAL: &str = "j-";
const CHECKPOINT: &str = "checkpoint-";
/// A shipped policy for the queue's deliveries.
const BINDING: &str = "policy = \"at-least-once\"\nqueues = [\"work\"]\n";
