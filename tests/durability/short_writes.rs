//! D9: writes that take a part only, and calls that a signal interrupts. Both are
//! ordinary; neither may leave a gap, a duplicate, or an acknowledgement too early.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use weir_tests::Random;

use crate::broker::{Broker, Setup, check_folder};
use crate::disk::{Disk, run};
use crate::load::Load;
use crate::proof::Proof;
use crate::story::Story;

/// Makes the kernel do less than it was asked, and say so.
const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/durability/short_writes.py");

#[test]
fn short_write_eintr() {
    let mut proof = Proof::begin("short_write_eintr", (5, 100));
    let tool = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        run("python3", &[TOOL, "--available"])
    } else {
        Err("the tool knows the registers of x86-64 Linux only".into())
    };
    if proof.needs(tool).is_none() {
        return;
    }
    let Some(disk) = proof.needs(Disk::ext4("short_write_eintr", 512)) else { return };
    let (mut acknowledged, mut short, mut interrupted) = (0, 0, 0);
    for run in 0..proof.runs() {
        let mut random = proof.random(run);
        let data = disk.path().join(format!("data-{run}"));
        let setup = Setup::over(&data);
        let broker = Broker::start(&setup);
        let mut story = Story::begin(&broker, false);
        let tracer = Tracer::attach(broker.process_id(), &data, random.number());
        let producers = story.producers(&mut random);
        let load = Load::start(&broker.address, producers, Random::seeded(random.number()));
        load.reach(500 + random.below(2000) as u64);
        disk.cut();
        drop(broker.ended());
        story.add(load.lines());
        let counts = tracer.counts();
        short += counts.0;
        interrupted += counts.1;
        disk.mount_again();

        let broker = Broker::start(&setup);
        story.check(&broker, &format!("run {run}"));
        story.finish(&broker, &format!("the queues of run {run}"));
        broker.stop();
        check_folder(&data);
        acknowledged += story.acknowledged();
        std::fs::remove_dir_all(&data).unwrap();
    }
    assert!(short > 0 && interrupted > 0, "{short} short writes, {interrupted} interrupted calls");
    proof.figure(format!(
        "{short} short writes, {interrupted} interrupted calls, {acknowledged} messages \
         acknowledged, 0 lost, 0 doubled"
    ));
}

/// The tool, attached.
struct Tracer {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tracer {
    fn attach(process: u32, data: &Path, seed: u64) -> Self {
        let mut process = Command::new("python3")
            .args([TOOL, &process.to_string()])
            .arg(data)
            .arg(seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let attached = lines.next().expect("it says that it is attached").unwrap();
        assert_eq!(attached, "attached");
        Self { process, lines }
    }

    /// What it did, when the process has ended: short writes, interrupted calls.
    fn counts(mut self) -> (u64, u64) {
        let line = self.lines.next().expect("it says what it did").unwrap();
        assert!(self.process.wait().unwrap().success());
        let mut words = line.split_whitespace().map(|word| word.parse().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    }
}
