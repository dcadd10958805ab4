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
/// Cores that others may take during a sample before its figures are in doubt: other
/// programs, and whoever shares the processors with this machine.
pub(crate) const TAKEN_CORES_MAX: f64 = 0.3;

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

/// CPU seconds so far: of the server with its children, of this process, of all; and those
/// that this machine wanted and did not get.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    at: Instant,
    server: f64,
    client: f64,
    all: f64,
    stolen: f64,
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

/// CPU seconds of the machine that were not idle, and those that were stolen, of
/// `/proc/stat`: a virtual machine's processor had work, and another machine had the core.
fn busy_and_stolen(stat: &str) -> (f64, f64) {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let used = ticks.iter().take(7).enumerate().filter(|(index, _)| ![3, 4].contains(index));
    let busy = used.map(|(_, it)| it).sum::<f64>();
    (busy / TICKS, ticks.get(7).copied().unwrap_or_default() / TICKS)
}

impl Cpu {
    fn read(server: u32) -> Self {
        let used = tree(server).iter().map(|(_, ticks)| ticks).sum::<u64>();
        // Children of this process that have ended are servers of earlier cells.
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = own.rsplit_once(')').map(|it| it.1).unwrap_or_default();
        let client =
            fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok());
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (all, stolen) = busy_and_stolen(&stat);
        Self {
            at: Instant::now(),
            server: used as f64 / TICKS,
            client: client.sum::<f64>() / TICKS,
            all,
            stolen,
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
    /// Cores that were wanted and that another machine had; 0 in files of runs that did not
    /// look.
    #[serde(default)]
    pub(crate) stolen_cores: f64,
    /// Most memory the server had resident, MiB.
    pub(crate) rss_peak_mib: f64,
}

impl Resources {
    /// Others took so much that the figures are in doubt.
    pub(crate) fn noisy(&self) -> bool {
        self.other_cores + self.stolen_cores > TAKEN_CORES_MAX
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
            stolen_cores: cores(self.start.stolen, end.stolen),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_not_used_time() {
        // user nice system idle iowait irq softirq steal guest guest_nice
        let stat = "cpu  100 200 300 4000 5000 10 20 70 90 90\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_and_stolen(stat), (6.3, 0.7));
        assert_eq!(busy_and_stolen("cpu  100 0 0 4000 5000 0 0\n"), (1.0, 0.0));
        assert_eq!(busy_and_stolen(""), (0.0, 0.0));
    }

    #[test]
    fn whoever_takes_the_cores_a_sample_is_noisy() {
        let taken = |other_cores, stolen_cores| {
            Resources { other_cores, stolen_cores, ..Resources::default() }.noisy()
        };
        let (half, more) = (TAKEN_CORES_MAX / 2.0, TAKEN_CORES_MAX * 0.75);
        assert!(!taken(0.0, 0.0));
        assert!(!taken(half, half), "as much as they may");
        assert!(taken(TAKEN_CORES_MAX * 1.01, 0.0), "other programs");
        assert!(taken(0.0, TAKEN_CORES_MAX * 1.01), "another machine");
        assert!(taken(half, more), "both together");
    }

    #[test]
    fn samples_of_before_are_read() {
        let before = r#"{"seconds":1.5,"server_cores":0.5,"client_cores":0.5,
            "other_cores":0.1,"rss_peak_mib":61.5}"#;
        let resources: Resources = serde_json::from_str(before).expect("it is one");
        assert_eq!((resources.other_cores, resources.stolen_cores), (0.1, 0.0));
    }
}
