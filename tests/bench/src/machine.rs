//! What the machine says of itself, and the CPU time of processes: all from /proc.
//!
//! Times come in ticks of 10 ms: 0.7 % of a window of 1.5 s, and an eighth of a replay
//! that takes 80 ms.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::counts::Counting;
use crate::profile::Profiling;

/// Ticks a second, as /proc counts: fixed on Linux.
const TICKS: f64 = 100.0;

/// The machine of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
    pub(crate) file_system: String,
}

impl Machine {
    /// This one; `folder` is where the servers keep their data.
    pub(crate) fn read(folder: &std::path::Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        let kib = memory.split_whitespace().next().and_then(|it| it.parse::<u64>().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: value(&text("/proc/cpuinfo"), "model name"),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: kib.unwrap_or(0) / 1024,
            file_system: file_system(&text("/proc/mounts"), folder),
        }
    }
}

fn file_system(mounts: &str, folder: &std::path::Path) -> String {
    let mut best = (0, String::new());
    for line in mounts.lines() {
        let mut parts = line.split_whitespace().skip(1);
        if let (Some(at), Some(kind)) = (parts.next(), parts.next())
            && folder.starts_with(at)
            && at.len() >= best.0
        {
            best = (at.len(), kind.to_owned());
        }
    }
    best.1
}

/// CPU seconds so far: of the server with its children, of this process, of all.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    at: Instant,
    server: f64,
    client: f64,
    all: f64,
}

/// Parent, and CPU ticks with those of children that have ended.
fn stat(process: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold blanks; what follows the last bracket may not.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some((number(1)? as u32, ticks))
}

/// A process and everything below it.
fn tree(root: u32) -> Vec<(u32, u64)> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((parent, used)) = stat(process) {
            children.entry(parent).or_default().push(process);
            ticks.insert(process, used);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(process) = open.pop() {
        if let Some(used) = ticks.get(&process) {
            found.push((process, *used));
        }
        open.extend(children.remove(&process).unwrap_or_default());
    }
    found
}

/// CPU seconds of the machine that were not idle.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(index, _)| ![3, 4, 7].contains(index))
        .map(|(_, it)| it)
        .sum::<f64>()
        / TICKS
}

impl Cpu {
    fn read(server: u32) -> Self {
        let used = tree(server).iter().map(|(_, ticks)| ticks).sum::<u64>();
        // Children of this process that have ended are servers of earlier cells.
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = own.rsplit_once(')').map(|it| it.1).unwrap_or_default();
        let client =
            fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok());
        Self {
            at: Instant::now(),
            server: used as f64 / TICKS,
            client: client.sum::<f64>() / TICKS,
            all: busy(),
        }
    }
}

/// Who used the cores during a window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// Length of the window, seconds.
    pub(crate) seconds: f64,
    /// Cores used by the server.
    pub(crate) server_cores: f64,
    /// Cores used by the clients: this process.
    pub(crate) client_cores: f64,
    /// Cores used by anything else.
    pub(crate) other_cores: f64,
    /// Most memory the server had resident, MiB.
    pub(crate) rss_peak_mib: f64,
}

impl Resources {
    /// Others used so much that the figures are in doubt.
    pub(crate) fn noisy(&self) -> bool {
        self.other_cores > 0.3
    }
}

/// Measures a window of a server's life.
#[derive(Debug)]
pub(crate) struct Meter {
    server: u32,
    start: Cpu,
    counting: Option<Counting>,
    profiling: Option<Profiling>,
}

impl Meter {
    pub(crate) fn start(server: u32) -> Self {
        let counting = Counting::start(server);
        // Comes back when samples are taken; only then the window begins.
        let profiling = Profiling::start(server);
        Self { server, start: Cpu::read(server), counting, profiling }
    }

    /// Who used the cores, and what the server did where that is counted.
    pub(crate) fn stop(&mut self) -> (Resources, Vec<(String, f64)>) {
        let end = Cpu::read(self.server);
        let counts = self.counting.take().map(Counting::stop).unwrap_or_default();
        if let Some(profiling) = self.profiling.take() {
            profiling.stop();
        }
        let seconds = end.at.duration_since(self.start.at).as_secs_f64();
        let cores = |from: f64, to: f64| (to - from).max(0.0) / seconds;
        let server_cores = cores(self.start.server, end.server);
        let client_cores = cores(self.start.client, end.client);
        let all = cores(self.start.all, end.all);
        let resources = Resources {
            seconds,
            server_cores,
            client_cores,
            other_cores: (all - server_cores - client_cores).max(0.0),
            rss_peak_mib: resident_mib(self.server, "VmHWM"),
        };
        (resources, counts)
    }
}

/// Does something that has no server, and tells who else used the cores meanwhile:
/// a sync that is done waits for a busy core until the next tick of the scheduler.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> (T, Resources) {
    // No process has this number, so that everything counts as the client's.
    let mut meter = Meter::start(u32::MAX);
    let done = work();
    (done, meter.stop().0)
}

/// A figure of the process and everything below it, MiB: `VmHWM` or `VmRSS`.
pub(crate) fn resident_mib(server: u32, key: &str) -> f64 {
    let of = |process: u32| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    tree(server).iter().filter_map(|(process, _)| of(*process)).sum::<f64>() / 1024.0
}
