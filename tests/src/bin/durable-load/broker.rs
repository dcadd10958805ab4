//! The broker as a process of its own: started, stopped where it is, ended.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_client::Client;

/// Time between two looks at something that is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Lines of the log that wait to be read.
const LOG_LINES_MAX: usize = 1_024;

/// Which broker is measured, and where.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) program: PathBuf,
    /// On the disk that is measured; holds nothing else.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// The data folder of that name.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes it.
    pub(crate) fn clear(&self, name: &str) {
        std::fs::remove_dir_all(self.data(name)).unwrap();
    }
}

/// A running broker; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Child,
    address: String,
    /// From its start to its line that says so.
    pub(crate) ready: Duration,
    /// What it said of its store when that was open.
    pub(crate) opened: String,
}

impl Broker {
    /// Starts one over the data folder of that name, which is made if need be.
    pub(crate) fn start(place: &Place, name: &str, config: &str) -> Self {
        Self::start_under(&[], place, name, config)
    }

    /// The same, by a program that becomes the broker.
    pub(crate) fn start_under(by: &[String], place: &Place, name: &str, config: &str) -> Self {
        let data = place.data(name);
        std::fs::create_dir_all(&data).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let file = data.with_extension("toml");
        std::fs::write(&file, config).unwrap();
        let mut command = match by {
            [] => Command::new(&place.program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&place.program);
                command
            }
        };
        command.args(["serve", "--listen", &address, "--data"]).arg(data).arg("--config").arg(file);
        let started = Instant::now();
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The log goes to one of the two; the other stays silent.
        let (sender, lines) = std::sync::mpsc::sync_channel(LOG_LINES_MAX);
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if line.contains(" WARN ") || line.contains(" ERROR ") {
                        println!("  broker: {line}");
                    }
                    drop(sender.try_send(line));
                }
            });
        }
        drop(sender);
        let mut broker = Self { process, address, ready: Duration::ZERO, opened: String::new() };
        for line in &lines {
            if line.contains(" ready ") {
                broker.ready = started.elapsed();
                break;
            }
            if let Some((_, opened)) = line.split_once("the store is open") {
                broker.opened = opened.trim().to_owned();
            }
        }
        assert!(!broker.ready.is_zero(), "the broker did not become ready");
        broker
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address).await.unwrap()
    }

    /// A figure of `/proc/PID/status`, MiB.
    pub(crate) fn status_mib(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// A figure of what it said of its store; 0 when it did not.
    pub(crate) fn opened_figure(&self, key: &str) -> f64 {
        let mut fields = self.opened.split_whitespace().filter_map(|field| field.split_once('='));
        let found = fields.find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
    }

    /// Stops all of its threads where they are, until it is let go on.
    pub(crate) async fn freeze(&self) {
        signal(self.id(), "STOP");
        let mut looks = tokio::time::interval(LOOK);
        while !self.stands_still() {
            looks.tick().await;
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        signal(self.id(), "CONT");
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, figures)| figures.starts_with('T'))
        })
    }

    /// Stops it in good order.
    pub(crate) fn stop(mut self) {
        signal(self.id(), "TERM");
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the broker ended with {status}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Sends a process a signal by its name.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.unwrap().success(), "no signal {name} to {process}");
}
