//! D7: a sync fails once. Whatever it covered is not acknowledged, nothing behind
//! it either, and the process ends: what the kernel still holds cannot be trusted.

use weir_client::Level;
use weir_tests::Random;

use crate::broker::{Broker, STORE_FAILED, Setup, check_folder};
use crate::disk::Disk;
use crate::load::{Line, Load, Producing};
use crate::proof::Proof;
use crate::story::{FLOW, Story, WORK};
use crate::trace;

/// Megabytes that a thin disk claims to have.
const THIN_MIB: u32 = 512;

#[test]
fn fsync_fails_once() {
    // Of the full count, 50 are syncs that a tracer lets fail, and 10 write back to
    // room that is not there.
    let mut proof = Proof::begin("fsync_fails_once", (7, 60));
    if proof.needs(trace::available()).is_none() {
        return;
    }
    let genuine = proof.runs().div_ceil(6);
    let injected = proof.runs() - genuine;
    let Some(disk) = proof.needs(Disk::ext4("fsync_fails_once", 512)) else { return };
    let (mut acknowledged, mut at_start) = (0, 0);
    for run in 0..injected {
        // Each number once when all are asked for, else spread over them.
        let number = if injected >= 50 { run + 1 } else { 1 + run * 49 / (injected - 1).max(1) };
        let mut random = proof.random(run);
        let found = fails_at(&disk, number, &mut random);
        acknowledged += found.0;
        at_start += u32::from(found.1);
    }
    drop(disk);
    proof.figure(format!(
        "{injected} injected at the syncs 1 to 50, {at_start} of them during the start, which \
         ends with an error; {acknowledged} messages acknowledged before, 0 lost"
    ));
    let mut filled = 0;
    for run in 0..genuine {
        let mut random = proof.random(injected + run);
        let real_mib = 24 + random.below(24) as u32;
        let disk = Disk::thin("fsync_fails_once", THIN_MIB, real_mib);
        let Some(disk) = proof.needs(disk) else { return };
        filled += runs_out(&disk, &mut random);
    }
    proof.figure(format!("{genuine} genuine write-back failures, {filled} acknowledged, 0 lost"));
}

/// Lets one sync fail, then cuts the power: what was not synced is gone, so that an
/// acknowledgement of it would show.
fn fails_at(disk: &Disk, number: u32, random: &mut Random) -> (u64, bool) {
    let data = disk.path().join(format!("data-{number}"));
    let plain = Setup::over(&data);
    let log = data.with_extension("trace");
    let log = crate::proof::scratch("fsync_fails_once").join(log.file_name().unwrap());
    // A second start: the first one makes the folder, this one also recovers.
    let broker = Broker::start(&plain);
    let mut story = Story::begin(&broker, false);
    let load =
        Load::start(&broker.address, story.producers(random), Random::seeded(random.number()));
    load.reach(300);
    broker.kill();
    story.add(load.lines());

    let traced = Setup { under: trace::failing(trace::SYNCS, number, &log), ..plain.clone() };
    let at_start = match Broker::try_start(&traced) {
        Err(ended) => {
            assert_ne!(ended.code, 0, "it ends with an error: {ended:#?}");
            true
        }
        Ok(broker) => {
            let producers = story.producers(random);
            let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
            let ended = broker.ended();
            assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
            story.add(load.lines());
            false
        }
    };
    assert!(trace::failed(&log) > 0, "no sync has failed");
    disk.cut();
    disk.mount_again();

    let broker = Broker::start(&plain);
    story.check(&broker, &format!("sync {number} failed"));
    story.finish(&broker, &format!("the queues, where sync {number} failed"));
    broker.stop();
    check_folder(&data);
    std::fs::remove_dir_all(&data).unwrap();
    (story.acknowledged(), at_start)
}

/// Publishes until the disk has no room for what the file system promised.
fn runs_out(disk: &Disk, random: &mut Random) -> u64 {
    let setup = Setup::over(disk.path().join("data"));
    let broker = Broker::start(&setup);
    let mut story = Story::begin(&broker, false);
    let big = |mut producing: Producing| {
        producing.bytes_max = 32 << 10;
        producing
    };
    let producers = vec![
        big(Producing::to(0, WORK, Level::Disk)),
        big(Producing::to(1, FLOW, Level::Disk)),
        big(Producing::to(2, FLOW, Level::Disk)),
    ];
    let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
    let ended = broker.ended();
    assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
    let lines: Vec<Line> = load.lines();
    story.add(lines);
    disk.thicken(2 * THIN_MIB);
    disk.mount_again();

    let broker = Broker::start(&setup);
    story.check(&broker, "the disk had run out of room");
    story.finish(&broker, "the queues, where the disk had run out of room");
    broker.stop();
    check_folder(&setup.data);
    story.acknowledged()
}
