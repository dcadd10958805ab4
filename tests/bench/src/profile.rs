//! Where a server's CPU time goes while a window is measured: samples of its threads that
//! `perf` takes, a file for each window, where [`FOLDER`] names a folder; `profiles.sh` sets
//! it and makes texts of the files. What a server does before and after is in none of them.
//!
//! A line tells of each window which file is its own, `window 001`, ahead of the lines of
//! its sample: some samples have two windows or none, and one that fails loses its lines.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::block_in_place;

/// Environment variable: a folder that exists.
const FOLDER: &str = "WEIR_BENCH_PROFILE";
/// Samples for each second of CPU time: a prime, so that they do not keep step with what
/// runs by the clock. `profiles.sh` reckons with it too.
const RATE: &str = "4999";

/// Windows so far.
static WINDOWS: AtomicU32 = AtomicU32::new(0);

/// Samples that are being taken.
#[derive(Debug)]
pub(crate) struct Profiling {
    perf: Child,
    window: u32,
}

impl Drop for Profiling {
    fn drop(&mut self) {
        // Has ended, unless the sample failed.
        drop(self.perf.kill());
        drop(self.perf.wait());
    }
}

impl Profiling {
    /// Takes samples of a process from now on, where the environment says so. Returns when
    /// `perf` is at work, after some tenths of a second, in which other tasks go on.
    pub(crate) fn start(process: u32) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        // What has no server is measured under a number that no process has.
        if !Path::new(&format!("/proc/{process}")).exists() {
            return None;
        }
        let window = WINDOWS.fetch_add(1, Ordering::Relaxed) + 1;
        let file = folder.join(format!("{window:03}.data"));
        match block_in_place(|| Self::attach(window, &file, process)) {
            Ok(profiling) => Some(profiling),
            Err(error) => {
                say_none(window, &error);
                None
            }
        }
    }

    fn attach(window: u32, file: &Path, process: u32) -> Result<Self> {
        // Without `-B` it reads all samples again at its end, and keeps a copy of the
        // program; telling of the kernel's small programs took most of a second there. No
        // stacks: the server is built without frame pointers.
        let perf = Command::new("perf")
            .args(["record", "-B", "--no-bpf-event", "-F", RATE, "--control", "fd:0,1"])
            .args(["-p", &process.to_string(), "-o"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start perf")?;
        let mut profiling = Self { perf, window };
        // It answers once it has attached.
        let asked = profiling.perf.stdin.as_mut().map(|it| it.write_all(b"ping\n"));
        let answer = profiling.perf.stdout.as_mut().map(|it| it.read(&mut [0; 8]));
        if !matches!((asked, answer), (Some(Ok(())), Some(Ok(1..)))) {
            // Or else has ended; a wait for one that has not would be for ever.
            drop(profiling.perf.kill());
            bail!("perf does not answer: {}", profiling.told());
        }
        Ok(profiling)
    }

    /// Takes no more of them, and tells where they are. A window without samples is told
    /// as well, and spoils nothing.
    pub(crate) fn stop(mut self) {
        let window = self.window;
        match block_in_place(|| self.end()) {
            Ok(()) => crate::say(&format!("window {window:03}")),
            Err(error) => say_none(window, &error),
        }
    }

    fn end(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.perf.id().cast_signed()).context("perf has no number")?;
        kill_process(pid, Signal::INT).context("cannot stop perf")?;
        let told = self.told();
        let status = self.perf.wait()?;
        // Once its file is complete it ends by the signal that it was sent.
        let is_complete = status.success() || status.signal() == Some(Signal::INT.as_raw());
        ensure!(is_complete, "perf ended with {status}: {told}");
        Ok(())
    }

    /// What it has said, on one line. Waits for its end.
    fn told(&mut self) -> String {
        let mut told = String::new();
        if let Some(mut output) = self.perf.stderr.take() {
            // What cannot be read is not told.
            drop(output.read_to_string(&mut told));
        }
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// As of any window, so that lines and windows stay together.
fn say_none(window: u32, error: &anyhow::Error) {
    crate::say(&format!("window {window:03}: no profile: {error:#}"));
}
