//! How often the broker syncs. Two counts: by the kernel's trace points, which stop
//! nobody (`perf`), and by a tracer that sees each of these calls, and with a filter in
//! the kernel no other (`strace --seccomp-bpf`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::MissedTickBehavior;

use crate::broker::{LOOK, signal};

/// System calls with which the broker syncs; the last only ever with a sync.
const SYNCS: [&str; 3] = ["fdatasync", "fsync", "pwritev2"];
/// Looks at the tracer's file for its end.
const LOOKS_MAX: usize = 1_000;

/// `perf`, attached to a process.
#[derive(Debug)]
pub(crate) struct Perf {
    process: Child,
    file: PathBuf,
}

impl Perf {
    /// Begins to count; `None`, told, where that is not possible.
    pub(crate) async fn attach(process: u32, folder: &Path) -> Option<Self> {
        let file = folder.join("perf");
        let events = SYNCS.map(|name| format!("syscalls:sys_enter_{name}")).join(",");
        let spawned = Command::new("perf")
            .args(["stat", "-x", ",", "-e", &events, "-p", &process.to_string(), "-o"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            println!("  perf is not there: no count that stops nobody");
            return None;
        };
        let mut perf = Self { process, file };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It counts when it has opened all its events.
        let (mut before, mut events) = (0, 0);
        while events == 0 || events != before {
            if perf.process.try_wait().unwrap().is_some() {
                println!("  perf cannot count here: no count that stops nobody");
                return None;
            }
            looks.tick().await;
            before = events;
            events = perf.events();
        }
        Some(perf)
    }

    fn events(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        let is_event = |entry: &std::fs::DirEntry| {
            let to = std::fs::read_link(entry.path());
            to.is_ok_and(|to| to.to_string_lossy().contains("perf_event"))
        };
        open.into_iter().flatten().flatten().filter(is_event).count()
    }

    /// Syncs since it was attached; `None`: it saw none, which cannot be.
    pub(crate) fn count(mut self) -> Option<u64> {
        signal(self.process.id(), "INT");
        self.process.wait().unwrap();
        let text = std::fs::read_to_string(&self.file).unwrap();
        let lines = text.lines().filter(|line| line.contains("syscalls:"));
        let syncs: u64 = lines.filter_map(|line| line.split(',').next()?.parse::<u64>().ok()).sum();
        (syncs > 0).then_some(syncs)
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `strace`, around a broker that is to be started.
#[derive(Debug)]
pub(crate) struct Trace {
    /// What runs the broker.
    pub(crate) by: Vec<String>,
    file: PathBuf,
}

impl Trace {
    /// `None`, told, where nothing can be traced.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        let file = folder.join("strace");
        let nowhere = Path::new("/dev/null");
        if works(&tracer(true, nowhere)) {
            return Some(Self { by: tracer(true, &file), file });
        }
        if works(&tracer(false, nowhere)) {
            println!(
                "  strace has no --seccomp-bpf here: it stops the broker at every system call, \
                 which makes it slow"
            );
            return Some(Self { by: tracer(false, &file), file });
        }
        println!("  strace does not work here: no traced count");
        None
    }

    /// What was traced, once the process, which was told to stop, has ended.
    pub(crate) async fn ended(self, process: u32) -> Traced {
        let process = process.to_string();
        let is_end = |line: &str| {
            line.split_whitespace().next() == Some(process.as_str()) && line.contains("+++")
        };
        let mut looks = tokio::time::interval(LOOK);
        for _ in 0..LOOKS_MAX {
            let text = std::fs::read_to_string(&self.file).unwrap();
            if text.lines().rev().any(is_end) {
                return Traced(text);
            }
            looks.tick().await;
        }
        panic!("strace did not come to its end");
    }
}

/// What runs a program and writes down its syncs. Detached, so that the program is our
/// child and not the tracer's.
fn tracer(filters: bool, file: &Path) -> Vec<String> {
    let calls = format!("trace={}", SYNCS.join(","));
    let file = file.to_string_lossy().into_owned();
    let mut tracer = vec!["strace", "-D", "-f", "-q", "-ttt", "-o", file.as_str()];
    tracer.extend(["-e", "signal=none", "-e", "raw=all", "-e", calls.as_str()]);
    if filters {
        tracer.push("--seccomp-bpf");
    }
    tracer.into_iter().map(str::to_owned).collect()
}

fn works(tracer: &[String]) -> bool {
    let output = Command::new(&tracer[0]).args(&tracer[1..]).arg("true").output();
    output.is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

/// What a tracer wrote: process, time, call.
#[derive(Debug)]
pub(crate) struct Traced(String);

impl Traced {
    /// Syncs that began between two [moments](now).
    pub(crate) fn syncs(&self, from: f64, to: f64) -> u64 {
        let is_sync = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            let at = words.next().and_then(|word| word.parse::<f64>().ok());
            // The end of a call that was told in two lines begins with `<...`.
            let (call, _) = words.next().and_then(|word| word.split_once('(')).unwrap_or_default();
            at.is_some_and(|at| (from..=to).contains(&at)) && SYNCS.contains(&call)
        };
        self.0.lines().filter(is_sync).count() as u64
    }
}

/// The moment, as a tracer tells it: seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
