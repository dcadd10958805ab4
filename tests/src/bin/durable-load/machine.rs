//! The machine that is measured: what it is, how busy it was, and how it is brought to
//! the same state before each side of a comparison.

use std::ffi::OsStr;
use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Bytes of the file that is written and removed before a side.
const SCRATCH_BYTES: usize = 4 << 30;
/// Bytes of a plain write.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Microseconds of a tick in `/proc/PID/stat`: the same on all machines, whatever the
/// kernel's own clock does.
const TICK_US: u64 = 10_000;

/// Prints when, on what and with what this is measured.
pub(crate) fn tell(program: &Path, folder: &Path) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("?", |model| model.trim_start_matches([' ', '\t', ':']));
    let gib = memory_bytes("MemTotal:") as f64 / (1_u64 << 30) as f64;
    let folder = folder.to_string_lossy();
    let disk = said("df", &["--output=source,fstype,avail", "-BM", &folder]);
    let disk: Vec<&str> = disk.lines().last().unwrap_or("?").split_whitespace().collect();
    let tree = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    println!("durable-load, {}", said("date", &["-u", "+%F %T UTC"]));
    println!("machine: {cores} cores ({model}), {gib:.1} GiB, {}", said("uname", &["-sr"]));
    println!("disk: {} free at {folder}", disk.join(", "));
    println!("broker: {}; the tree is at {}", said(program, &["--version"]), said("git", &tree));
    println!("busy before: {}", read_to_string("/proc/loadavg").unwrap_or_default().trim());
    // Says at the beginning whether it can.
    drop_caches();
}

/// What a program says; `?` when it does not.
fn said(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let output = output.filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
}

/// Lets the disk finish with what was written before, so that it does not count for what
/// comes next.
pub(crate) fn rest() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// Whether what is read next comes from the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cache {
    #[default]
    Empty,
    /// The page cache could not be dropped: nothing is shown that hangs on it.
    Kept,
}

impl Cache {
    /// Behind a figure that was found so.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Kept => ", with the page cache not dropped",
        }
    }
}

/// Forgets all pages of files, which are written before.
pub(crate) fn drop_caches() -> Cache {
    rest();
    match std::fs::write("/proc/sys/vm/drop_caches", "3") {
        Ok(()) => Cache::Empty,
        Err(why) => {
            println!("  the page cache is NOT dropped ({why}): what comes next may be in memory");
            Cache::Kept
        }
    }
}

/// Brings the machine to where each side begins: pages that are taken next were used
/// before, nothing waits to be written, and no file is in memory.
pub(crate) fn prepare(folder: &Path) {
    let path = folder.join("scratch");
    let block = vec![7_u8; BLOCK_BYTES];
    let mut file = File::create(&path).unwrap();
    for _ in 0..SCRATCH_BYTES / BLOCK_BYTES {
        file.write_all(&block).unwrap();
    }
    drop(file);
    std::fs::remove_file(path).unwrap();
    drop_caches();
}

/// A figure of `/proc/meminfo`, bytes.
pub(crate) fn memory_bytes(key: &str) -> u64 {
    let text = read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Processor time that a process has taken so far, microseconds.
pub(crate) fn cpu_us(process: u32) -> u64 {
    let stat = read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything.
    let (_, figures) = stat.rsplit_once(')').unwrap();
    let figures: Vec<&str> = figures.split_whitespace().collect();
    let ticks = |at: usize| figures[at].parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * TICK_US
}

/// Time of all processors so far, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    idle: u64,
    all: u64,
}

impl Times {
    pub(crate) fn now() -> Self {
        let text = read_to_string("/proc/stat").unwrap();
        let line = text.lines().next().unwrap();
        // User, nice, system, idle, waiting for the disk, interrupts of two kinds, taken
        // by the host; what follows is part of the first two.
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map(|it| it.parse().unwrap()).collect();
        Self { idle: ticks[3] + ticks[4], all: ticks.iter().sum() }
    }

    /// Which part of the machine had nothing to do since then.
    pub(crate) fn idle_since(self, before: Self) -> f64 {
        let idle = self.idle.saturating_sub(before.idle);
        idle as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}
