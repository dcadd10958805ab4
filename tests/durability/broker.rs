//! The program as an operator runs it: started in a folder, killed, stopped, asked
//! for its exit code and its memory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::SystemTime;

use weir_client::{Client, ConnectOptions};

use crate::proof::DEADLINE;

/// Exit code of a broker whose store has failed.
pub(crate) const STORE_FAILED: i32 = 74;
/// Lines of the log that are kept.
const LOG_LINES_MAX: usize = 400;

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// Megabytes of one journal file: small, so that a run rolls many.
    pub(crate) journal_file_mib: u32,
    /// Megabytes of bodies kept in memory.
    pub(crate) memory_mib: u32,
    /// Megabytes that must be free.
    pub(crate) free_mib_min: u32,
    /// What runs the program, with its arguments: nothing, or a tracer.
    pub(crate) under: Vec<String>,
}

impl Setup {
    /// A broker over `data`, with small files.
    pub(crate) fn over(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self { data, journal_file_mib: 1, memory_mib: 64, free_mib_min: 1, under: Vec::new() }
    }
}

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    /// Where it listens.
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// A broker that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Lines of its log.
    #[allow(dead_code, reason = "shown when a test fails")]
    pub(crate) log: Vec<String>,
}

impl Broker {
    /// Starts one, which must become ready.
    pub(crate) fn start(setup: &Setup) -> Self {
        match Self::try_start(setup) {
            Ok(broker) => broker,
            Err(ended) => panic!("the broker did not start: {ended:#?}"),
        }
    }

    /// Starts one; what it did when it ended before it was ready.
    pub(crate) fn try_start(setup: &Setup) -> Result<Self, Ended> {
        let mut process = command(setup).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (tell, ready) = sync_channel(1);
        let stderr = process.stderr.take().unwrap();
        let kept = log.clone();
        // Reads to the end, so that the broker never waits for its log.
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    let _ = tell.try_send(address);
                }
                let mut kept = kept.lock().unwrap();
                if kept.len() == LOG_LINES_MAX {
                    kept.remove(LOG_LINES_MAX / 2);
                }
                kept.push(line);
            }
        });
        let mut broker = Self { process, address: String::new(), log, reader: Some(reader) };
        match ready.recv_timeout(DEADLINE) {
            Ok(address) => {
                broker.address = address;
                Ok(broker)
            }
            Err(RecvTimeoutError::Disconnected) => Err(broker.ended()),
            Err(_) => {
                let log = broker.log.lock().unwrap().clone();
                panic!("the broker is not ready: {log:#?}")
            }
        }
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        send(self.process.id(), name);
    }

    /// Stops it as a service manager would; it must end well.
    pub(crate) fn stop(self) {
        self.signal("TERM");
        let ended = self.ended();
        assert_eq!(ended.code, 0, "{ended:#?}");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> Ended {
        let id = self.process.id();
        let (tell, told) = sync_channel(1);
        let process = &mut self.process;
        let code = std::thread::scope(|scope| {
            scope.spawn(move || tell.send(process.wait().unwrap()));
            match told.recv_timeout(DEADLINE) {
                Ok(status) => Some(status.code().unwrap_or(-1)),
                Err(_) => {
                    // So that the thread that waits for it ends too.
                    send(id, "KILL");
                    None
                }
            }
        });
        if let (Some(_), Some(reader)) = (code, self.reader.take()) {
            reader.join().unwrap();
        }
        let log = self.log.lock().unwrap().clone();
        let Some(code) = code else { panic!("the broker does not end: {log:#?}") };
        Ended { code, log }
    }

    /// Resident memory, bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Runs `work` with a client of its own connection.
    pub(crate) fn with<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        let address = self.address.clone();
        block_on(async {
            let client = connect(&address).await.expect("a connection");
            let outcome = work(client.clone()).await;
            client.close().await;
            outcome
        })
    }
}

/// Has the program read a folder that nobody uses: whatever happened to it, a crash
/// damages nothing.
#[track_caller]
pub(crate) fn check_folder(data: &Path) {
    let mut command = Command::new(program());
    let output = command.args(["store", "check"]).arg(data).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}: {text}", data.display());
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let from = log.len().saturating_sub(30);
            crate::proof::say(&format!("the broker's log ends with {:#?}", &log[from..]));
        }
    }
}

/// A client that does not come back when its connection is lost.
pub(crate) async fn connect(address: &str) -> Result<Client, weir_client::Error> {
    let mut options = ConnectOptions::default().without_reconnect();
    options.request_timeout = DEADLINE;
    options.keepalive = DEADLINE;
    Client::connect_with(address, options).await
}

/// Runs to the end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Sends a signal by its name.
pub(crate) fn send(process: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &process.to_string()]).status();
}

fn address_in(line: &str) -> Option<String> {
    if !line.contains("ready") {
        return None;
    }
    line.split_whitespace().find_map(|word| word.strip_prefix("address=")).map(str::to_owned)
}

fn command(setup: &Setup) -> Command {
    let config = setup.data.with_extension("toml");
    let text = format!(
        "shards = 2\n[store]\njournal-file-mib = {}\nmemory-mib = {}\nfree-mib-min = {}\n\
         free-percent-min = 0\n",
        setup.journal_file_mib, setup.memory_mib, setup.free_mib_min,
    );
    std::fs::write(&config, text).unwrap();
    let program = program().to_owned();
    let mut command = match setup.under.split_first() {
        None => Command::new(program),
        Some((tracer, arguments)) => {
            let mut command = Command::new(tracer);
            command.args(arguments).arg(program);
            command
        }
    };
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(config);
    command.arg("--data").arg(&setup.data).stdin(Stdio::null()).stdout(Stdio::null());
    // What the machine's user has set must not reach the tests.
    for name in ["WEIR_CONFIG", "WEIR_LISTEN", "WEIR_DATA", "WEIR_LOG", "WEIR_SHARDS"] {
        command.env_remove(name);
    }
    command
}

/// What the program is made from, in the repository.
const SOURCES: [&str; 5] = ["broker", "plugins", "wit", "Cargo.toml", "Cargo.lock"];

/// The program: `WEIR_BIN`, else that of this build, made anew when anything that it is made
/// from is younger.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("WEIR_BIN") {
            return given.into();
        }
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("weir");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = program.metadata().and_then(|metadata| metadata.modified()).ok();
        let changed = SOURCES.map(|source| youngest(&root.join(source))).into_iter().max();
        if made.is_none_or(|made| changed.is_some_and(|changed| made < changed)) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--workspace", "--bin", "weir"]);
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(cargo.status().unwrap().success(), "the program cannot be built");
        }
        program
    })
}

/// When a source, or the youngest below a folder, was written.
fn youngest(path: &Path) -> SystemTime {
    let never = SystemTime::UNIX_EPOCH;
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| youngest(&entry.path())).max().unwrap_or(never);
    }
    let kinds = ["rs", "toml", "lock", "wit", "wasm"];
    if path.extension().is_none_or(|it| kinds.iter().all(|kind| it != *kind)) {
        return never;
    }
    path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(never)
}
