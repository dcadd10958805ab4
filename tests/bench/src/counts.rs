//! What a message costs its server beside time: allocations, system calls, changes of
//! threads. Counted by `perf` while a window is measured, where [`EVENTS`] says what;
//! `counts.sh` sets it. `perf` needs some 30 ms until it counts: by that share of the
//! window the figures are too low.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Environment variable: `name=event+event,name=event`, events as `perf` calls them.
const EVENTS: &str = "WEIR_BENCH_COUNTS";

/// A count that goes on.
#[derive(Debug)]
pub(crate) struct Counting {
    perf: Child,
    /// What is counted, with its events.
    named: Vec<(String, Vec<String>)>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Has ended, unless nobody asked for the counts.
        drop(self.perf.kill());
        drop(self.perf.wait());
    }
}

impl Counting {
    /// Counts events of a process, where the environment says which.
    pub(crate) fn start(process: u32) -> Option<Self> {
        let wanted = std::env::var(EVENTS).ok()?;
        let named: Vec<(String, Vec<String>)> = wanted
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(name, events)| (name.to_owned(), events.split('+').map(str::to_owned).collect()))
            .collect();
        let all: Vec<&str> =
            named.iter().flat_map(|(_, events)| events).map(String::as_str).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x", ";", "-e", &all.join(","), "-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        Some(Self { perf, named })
    }

    /// What was counted, by name. Nothing when `perf` could not.
    pub(crate) fn stop(mut self) -> Vec<(String, f64)> {
        let mut told = String::new();
        let pid = Pid::from_raw(self.perf.id().cast_signed());
        let stopped = pid.is_some_and(|pid| kill_process(pid, Signal::INT).is_ok());
        if let (true, Some(mut output)) = (stopped, self.perf.stderr.take()) {
            // What cannot be read counts nothing.
            drop(output.read_to_string(&mut told));
        }
        let count = |event: &String| -> Option<f64> {
            let line = told.lines().find(|line| line.split(';').nth(2) == Some(event))?;
            line.split(';').next()?.parse().ok()
        };
        let sum = |events: &[String]| events.iter().map(count).sum::<Option<f64>>();
        self.named.iter().filter_map(|(name, events)| Some((name.clone(), sum(events)?))).collect()
    }
}
