//! Faults of single system calls, put into the running program by `strace`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::disk::run;
use crate::load::pause;
use crate::proof::DEADLINE;

/// The calls by which the broker makes anything durable.
pub(crate) const SYNCS: &str = "fdatasync,fsync,pwritev2";

/// Whether there is a tracer, and whether it may trace.
pub(crate) fn available() -> Result<(), String> {
    run("strace", &["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"])
}

/// Arguments of a tracer that lets the `number`-th of the calls fail in each thread
/// that makes so many, and writes them all to `log`. The tracer is the grandchild:
/// the program's exit code and process stay its own.
pub(crate) fn failing(calls: &str, number: u32, log: &Path) -> Vec<String> {
    let inject = format!("inject={calls}:error=EIO:when={number}");
    let log = log.to_str().unwrap();
    [
        "strace",
        "-D",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        log,
        "-e",
        &format!("trace={calls}"),
        "-e",
        &inject,
    ]
    .map(str::to_owned)
    .into()
}

/// How many of the calls in a log were made to fail.
pub(crate) fn failed(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().matches("(INJECTED)").count()
}

/// When a delayed call takes its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delay {
    /// Before it is begun.
    Before,
    /// Behind its work, before the caller learns of its end.
    Behind,
}

/// A tracer that makes calls of a running process take longer.
pub(crate) struct Delaying {
    tracer: Child,
    log: PathBuf,
}

impl Delaying {
    /// Attaches to a process: each of the calls ends `delay_ms` later than it would.
    pub(crate) fn attach(
        process: u32,
        calls: &str,
        (delay, delay_ms): (Delay, u64),
        log: PathBuf,
    ) -> Self {
        let side = match delay {
            Delay::Before => "delay_enter",
            Delay::Behind => "delay_exit",
        };
        let inject = format!("inject={calls}:{side}={}", delay_ms * 1000);
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&log)
            .args(["-e", &format!("trace={calls}"), "-e", &inject, "-p", &process.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let traced = || {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
            tasks.flatten().all(|task| {
                let status = std::fs::read_to_string(task.path().join("status"));
                status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
            })
        };
        let begun = std::time::Instant::now();
        while !traced() {
            assert!(begun.elapsed() < DEADLINE, "the tracer does not attach");
            pause(std::time::Duration::from_millis(5));
        }
        Self { tracer, log }
    }

    /// Calls that were delayed so far.
    pub(crate) fn delayed(&self) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().matches("(DELAYED)").count()
    }
}

impl Drop for Delaying {
    fn drop(&mut self) {
        // Asked to end, it lets go of the process; killed, it would take it along.
        crate::broker::send(self.tracer.id(), "TERM");
        let _ = self.tracer.wait();
    }
}
