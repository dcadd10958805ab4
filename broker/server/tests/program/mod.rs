//! The program `weir` as a user runs it: a broker in a process of its own, and
//! commands against it.

#![allow(dead_code, reason = "shared by several test programs, none of which uses all")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest that a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program with these arguments.
pub(crate) fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).stdin(Stdio::null());
    // What the machine's user has set must not reach the tests.
    for name in ["WEIR_SERVER", "WEIR_TOKEN", "WEIR_CONFIG", "WEIR_LISTEN", "WEIR_DATA", "WEIR_LOG"]
    {
        command.env_remove(name);
    }
    command
}

/// A running `weir serve`.
pub(crate) struct Broker {
    process: Child,
    /// Where it listens.
    pub(crate) address: String,
    data: PathBuf,
    /// Whether the folder outlives this.
    is_kept: bool,
    log: Receiver<String>,
    /// What it wrote up to the line that says that it is ready.
    start: Vec<String>,
    reader: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts one on a free port, with a folder named after the test.
    pub(crate) fn start(test: &str) -> Self {
        Self::over(&folder(test), &[])
    }

    /// Starts one over a folder that may have been used before.
    pub(crate) fn over(data: &Path, arguments: &[&str]) -> Self {
        let mut process = serve(data, arguments).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, log) = sync_channel(10_000);
        let stderr = process.stderr.take().unwrap();
        // Reads on to the end, so that the broker never waits for its log.
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = tell.try_send(line);
            }
        });
        let mut broker = Self {
            process,
            address: String::new(),
            data: data.to_owned(),
            is_kept: false,
            log,
            start: Vec::new(),
            reader: Some(reader),
        };
        let mut start = Vec::new();
        let ready = broker.line_behind("ready", &mut start);
        broker.start = start;
        let address = ready.split_whitespace().find_map(|word| word.strip_prefix("address="));
        broker.address = address.unwrap_or_else(|| panic!("no address in {ready:?}")).to_owned();
        broker
    }

    /// Kills it as nothing but a power cut is worse, and leaves its folder.
    pub(crate) fn kill(mut self) -> PathBuf {
        self.is_kept = true;
        signal(&self.process, "KILL");
        wait(&mut self.process);
        self.data.clone()
    }

    /// As [`Broker::stop`], and leaves its folder.
    pub(crate) fn stop_and_keep(mut self) -> PathBuf {
        self.is_kept = true;
        let data = self.data.clone();
        assert_eq!(self.stop(), 0);
        data
    }

    /// Its folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The next line of its log that holds `word`, since it is ready.
    pub(crate) fn line(&mut self, word: &str) -> String {
        self.line_behind(word, &mut Vec::new())
    }

    /// As [`Broker::line`], or one of its start: what its threads find is told when they
    /// find it, which may be before it is ready.
    pub(crate) fn line_since_start(&mut self, word: &str) -> String {
        let found = self.start.iter().find(|line| line.contains(word)).cloned();
        found.unwrap_or_else(|| self.line(word))
    }

    /// The next line that holds `word`; those before it go into `before`.
    fn line_behind(&mut self, word: &str, before: &mut Vec<String>) -> String {
        loop {
            match self.log.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(word) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("the broker did not write {word:?}"),
            }
        }
    }

    /// A command against this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weir(arguments);
        command.args(["--server", &self.address]);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command to its end with `input` on its standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Resident memory of the broker, bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// Asks it to stop, as a service manager would, and waits for its end.
    pub(crate) fn stop(mut self) -> i32 {
        signal(&self.process, "TERM");
        let code = wait(&mut self.process);
        self.reader.take().unwrap().join().unwrap();
        code
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// An empty folder named after the test.
pub(crate) fn folder(test: &str) -> PathBuf {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data).unwrap();
    // Small files, and whatever else is on the disk is not looked at.
    let config = "[store]\njournal-file-mib = 4\nfree-mib-min = 0\nfree-percent-min = 0\n";
    std::fs::write(data.join("weir.toml"), config).unwrap();
    data
}

/// The program that serves a folder on a free port.
pub(crate) fn serve(data: &Path, arguments: &[&str]) -> Command {
    let mut command = weir(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
    command.arg("--data").arg(data).args(arguments);
    if !arguments.contains(&"--config") {
        command.arg("--config").arg(data.join("weir.toml"));
    }
    command
}

/// Sends a signal by its name.
pub(crate) fn signal(process: &Child, name: &str) {
    signal_to(process.id(), name);
}

fn signal_to(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end of a process; its exit code.
pub(crate) fn wait(process: &mut Child) -> i32 {
    let id = process.id();
    let (tell, ended) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || tell.send(process.wait().unwrap()));
        match ended.recv_timeout(DEADLINE) {
            Ok(status) => status.code().unwrap_or(-1),
            Err(_) => {
                // So that the thread that waits for it ends too.
                signal_to(id, "KILL");
                panic!("the process does not end")
            }
        }
    })
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its results.
    pub(crate) out: String,
    /// Notes and errors.
    pub(crate) err: String,
}

impl Ran {
    /// Of a command that has ended.
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, which must have gone well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Its only line, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Its lines, each as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
