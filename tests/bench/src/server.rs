//! A server as a child process: on a free port of the loopback, in a folder of its
//! own, in a process group of its own that ends with this value.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// Longest wait for a server to listen.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `command` with its output in `folder`, and waits until it listens.
    pub(crate) async fn start(
        mut command: Command,
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
        let log = folder.join("server.log");
        let output = File::create(&log)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            // Meant for the clients, see `bench.sh`.
            .env_remove("MIMALLOC_PURGE_DELAY")
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut server = Self { process, address, log };
        server.wait_until_it_listens().await?;
        Ok(server)
    }

    async fn wait_until_it_listens(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended with {status}: {}", self.last_lines());
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            crate::pause::pause(Duration::from_millis(10)).await;
        }
        bail!("the server does not listen on {}: {}", self.address, self.last_lines())
    }

    /// The end of what it has said.
    pub(crate) fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An address of the loopback that nobody uses.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A program by its environment variable, among some well-known places, or on the
/// path.
pub(crate) fn program(variable: &str, places: &[&str], name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let tools = std::env::var_os("WEIR_BENCH_TOOLS")
        .map_or_else(|| home.join(".cache/weir-bench"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let known = places.iter().map(PathBuf::from);
    let mut candidates = known
        .chain([tools.join("venv/bin").join(name)])
        .chain(folders.map(|folder| folder.join(name)));
    candidates.find(|path| path.is_file()).with_context(|| {
        format!("{name} is not installed: run tests/bench/install-peers.sh, or set {variable}")
    })
}

/// What `program` prints of its version, first line.
pub(crate) fn version(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("?").trim().to_owned())
}
