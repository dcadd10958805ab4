//! `weir-bench`: Weir and what a user would take instead, measured side by side.
//!
//! ```sh
//! tests/bench/install-peers.sh      # once
//! tests/bench/bench.sh              # everything, docs/performance.md with it
//! tests/bench/bench.sh --only w1 --peers weir,nats --seconds 1 --repeats 1
//! ```
//!
//! Clients and servers share the machine's cores: a client that is slow hides what
//! its broker could do, so CPU time per message is told beside every rate.

#![allow(clippy::print_stdout, reason = "a report for people")]

mod cores;
mod counts;
mod disk;
mod driver;
mod drivers;
mod machine;
mod pause;
mod plots;
mod profile;
mod raw;
mod relay;
mod report;
mod results;
mod server;
mod soak;
mod stamp;
mod table;
mod tally;
mod targets;
mod versions;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};

use machine::Machine;
use results::Results;
use workloads::Bench;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures Weir and its peers side by side", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run workloads, print tables, write a JSON file.
    Run(RunArgs),
    /// Write the page of documentation from the JSON file of a run, and its plots.
    Report(ReportArgs),
    /// Offer twice what goes through for a long time, and print the page that tells of it.
    Soak(SoakArgs),
    /// The floor, for the benchmark itself.
    #[command(hide = true)]
    Relay { address: std::net::SocketAddr },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Workloads: limits, w1 to w7; all when left out.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rows, by a part of their name: 128, queue, "1→8"; all when left out.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Brokers: raw-relay, weir, nats, redis, ...; all when left out.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Samples of each cell.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Length of a window, seconds.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// The broker's program.
    #[arg(long, default_value = "../../target/release/weir")]
    weir: PathBuf,
    /// Folder for the servers' data, on the disk to be measured.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// File for everything that was found.
    #[arg(long, default_value = "results.json")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// The JSON file of a run.
    results: PathBuf,
    /// Folder for the plots; none are drawn when it is left out.
    #[arg(long)]
    plots: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SoakArgs {
    /// Minutes of overload, a third of them in each arrangement; looks for the peak come on top.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// The broker's program.
    #[arg(long, default_value = "../../target/release/weir")]
    weir: PathBuf,
    /// Folder for the server's data, on the disk to be measured.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Tells the person who waits.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Tells the person who waits, apart from what was asked for.
fn eprint(line: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Relay { address } => relay::serve(address).await,
        Command::Report(args) => report(&args),
        Command::Soak(args) => {
            let folder = args.folder.unwrap_or_else(std::env::temp_dir);
            let work = tokio::spawn(soak::run(args.weir, folder, args.minutes));
            tokio::select! {
                page = work => say(page??.trim_end()),
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
            Ok(())
        }
        Command::Run(args) => {
            // A task: what `main` itself awaits is woken on a thread of its own, two changes
            // of threads for every answer.
            let work = tokio::spawn(run(args));
            tokio::select! {
                outcome = work => outcome?,
                // Servers end as their values are dropped.
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        }
    }
}

async fn run(args: RunArgs) -> Result<()> {
    const WORKLOADS: [&str; 8] = ["limits", "w1", "w2", "w3", "w4", "w5", "w6", "w7"];
    /// Each time for one repeat; those that are left are last.
    const LIMITS_BEFORE: [&str; 3] = ["limits", "w3", "w5"];
    for name in &args.only {
        ensure!(WORKLOADS.contains(&name.as_str()), "no workload {name}; {}", WORKLOADS.join(", "));
    }
    let window = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    ensure!(!window.is_zero() && args.repeats > 0, "--seconds and --repeats: more than 0");
    let all = drivers::all(&args.weir);
    are_known(&args.peers, &all.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let mut results = Results {
        started: date(),
        command: command(),
        machine: Machine::read(&folder.canonicalize()?),
        versions: versions::of_run(),
        repeats: args.repeats,
        seconds: args.seconds,
        ..Results::default()
    };
    let mut drivers = Vec::new();
    for (name, driver) in all {
        if !args.peers.is_empty() && !args.peers.iter().any(|it| it == name) {
            continue;
        }
        match driver.and_then(|it| Ok((it.version().map_err(|error| error.to_string())?, it))) {
            Ok((version, driver)) => {
                results.versions.insert(name.to_owned(), version);
                drivers.push(driver);
            }
            Err(reason) => {
                say(&format!("SKIPPED {name}: {reason}"));
                results.skipped.insert(name.to_owned(), reason);
            }
        }
    }
    let weir = args.weir.clone();
    let (repeats, rows) = (args.repeats, args.rows);
    let mut bench = Bench { drivers, weir, window, repeats, rows, folder, results };
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|it| it == name);
    // Not all at the beginning: what disk and memory do changes as they are used.
    let last = WORKLOADS.into_iter().rfind(|name| is_wanted(name));
    let mut limits = 0;
    for name in WORKLOADS {
        if is_wanted("limits") && LIMITS_BEFORE.contains(&name) && limits < repeats {
            workloads::physical::run(&mut bench, limits..limits + 1).await;
            limits += 1;
        }
        if !is_wanted(name) {
            continue;
        }
        match name {
            "limits" => {}
            "w1" => workloads::fanout::run(&mut bench).await,
            "w2" => workloads::queue::run(&mut bench).await,
            "w3" => workloads::stream::run(&mut bench).await,
            "w4" => workloads::latency::run(&mut bench).await,
            "w5" => workloads::durable::run(&mut bench).await,
            "w6" => workloads::policies::run(&mut bench).await,
            "w7" => workloads::growth::run(&mut bench).await,
            _ => continue,
        }
        if is_wanted("limits") && last == Some(name) {
            workloads::physical::run(&mut bench, limits..repeats).await;
        }
        // After each workload, so that a run that is broken off is not lost.
        std::fs::write(&args.out, serde_json::to_vec(&bench.results)?)?;
        if name != "limits" {
            say(&format!("\n{}", table::workload(&bench.results, &name.to_uppercase())));
        }
    }
    say(&format!("\n{}", table::workload(&bench.results, "limits")));
    for failure in &bench.results.failures {
        say(&format!("FAILED {failure}"));
    }
    Ok(())
}

/// Whether there is a driver of each name: without one that is misspelled, another would be
/// the best peer.
fn are_known(asked: &[String], known: &[&str]) -> Result<()> {
    for name in asked {
        ensure!(known.contains(&name.as_str()), "no broker {name}; {}", known.join(", "));
    }
    Ok(())
}

fn report(args: &ReportArgs) -> Result<()> {
    let results: Results = serde_json::from_slice(&std::fs::read(&args.results)?)?;
    let plots = match &args.plots {
        Some(folder) => plots::draw(&results, folder)?,
        None => Vec::new(),
    };
    for sample in report::damaged(&results) {
        eprint(&format!("damaged payloads: {}", table::line(sample)));
    }
    say(report::page(&results, &plots).trim_end());
    Ok(())
}

/// How this was called, without the folders of whoever called it.
fn command() -> String {
    let name = |arg: String| match Path::new(&arg).file_name() {
        Some(name) if arg.starts_with('/') => name.to_string_lossy().into_owned(),
        _ => arg,
    };
    std::env::args().skip(1).map(name).collect::<Vec<_>>().join(" ")
}

/// The time, as the system prints it.
fn date() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_misspelled_is_refused() {
        let known: Vec<&str> =
            drivers::all(Path::new("weir")).into_iter().map(|(name, _)| name).collect();
        assert!(are_known(&[], &known).is_ok());
        assert!(are_known(&["weir".to_owned(), "nats".to_owned()], &known).is_ok());
        let refused = are_known(&["weir".to_owned(), "nat".to_owned()], &known);
        assert!(refused.is_err_and(|why| why.to_string().contains("no broker nat; raw-relay,")));
    }
}
