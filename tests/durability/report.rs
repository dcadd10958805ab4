//! The dated report of a full run, `docs/durability-report.md`. It is written anew
//! behind each test, so that a run that was ended tells what it did.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::proof::is_full;

/// One test.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) runs: u32,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) outcome: String,
    pub(crate) figures: String,
}

/// Each test with what it holds, in the order of the report.
const TESTS: [(&str, &str, &str); 9] = [
    (
        "D1",
        "ack_survives_kill9",
        "what was acknowledged at `os` or `disk` is there after `kill -9`: same offset, same bytes",
    ),
    (
        "D2",
        "ack_survives_power_cut",
        "the same for `disk` after a power cut; `os` loses a suffix and nothing else",
    ),
    (
        "D7",
        "fsync_fails_once",
        "a failed sync: nothing it covered is acknowledged, the process ends with code 74, the next start is clean",
    ),
    (
        "D8",
        "disk_full_and_back",
        "a full disk: publishers are told `no_space`, consumers go on, publishing resumes within 5 s of room",
    ),
    ("D9", "short_write_eintr", "short writes and interrupted calls leave no gap and no duplicate"),
    (
        "D10",
        "dir_entry_durable",
        "queues, streams, groups, rolled files, checkpoints and bindings are there after a power cut right behind the answer",
    ),
    (
        "D15",
        "slow_sync",
        "syncs of 2 s: memory stays within its bound, order is kept, no acknowledgement comes before its sync",
    ),
    (
        "S1",
        "queue_conservation",
        "acknowledged = consumed + waiting + dead-lettered, whatever dies",
    ),
    ("S2", "confirmed_ack_final", "what a consumer's confirmed ack settled never comes again"),
];
/// The last of them.
const STREAMS: (&str, &str, &str) = (
    "S4",
    "stream_checker",
    "offsets have no gap, a replay is identical, no reader skips or goes back, each producer's order is kept",
);

/// The commit at which the tests began; it may move on under them.
static COMMIT: OnceLock<String> = OnceLock::new();
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Notes what is tested.
pub(crate) fn begin() {
    COMMIT.get_or_init(|| said("git", &["rev-parse", "--short", "HEAD"]));
}

/// Adds a row, and writes the report when the full counts were asked for.
pub(crate) fn add(row: Row) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    // Of the release build only: a debug build would put another's figures in its place.
    let is_release = !cfg!(debug_assertions);
    if is_release && is_full() && std::env::var_os("WEIR_DURABILITY_RUNS").is_none() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/durability-report.md");
        let _ = std::fs::write(path, text(&rows));
    }
}

fn text(rows: &[Row]) -> String {
    let all = || TESTS.iter().chain([&STREAMS]);
    let missing: Vec<&str> = all()
        .filter(|(_, name, _)| rows.iter().all(|row| row.name != *name))
        .map(|(number, ..)| *number)
        .collect();
    let whole = match &missing[..] {
        [] => String::new(),
        missing => format!("**Not all of it: {} have not run.**\n\n", missing.join(", ")),
    };
    let mut text = format!(
        "# The proof on real disks\n\n\
         Written by `WEIR_DURABILITY=full cargo test -p weir-tests --test durability --release`.\n\n\
         - {date}, commit {commit}, the release build\n\
         - Linux {kernel}, {cores} processors, ext4 on a loop device over {disk}\n\n\
         A test passes with no violation at all: there is no tolerance in any of them. A seed and \
         a run give the same load and the same fault (`WEIR_DURABILITY_SEED`); the moment at which \
         the fault strikes is the machine's.\n\n\
         D3 to D6, D11 to D14, D16, S3 and S7 run on a simulated disk, under seeds: `cargo test -p \
         weir-journal --test durability`, and S7 in `--test sim` of weir-tests; CONTRIBUTING.md \
         has their full counts.\n\n\
         {whole}\
         | | test | what must hold | runs | result | figures | s | seed |\n\
         |---|---|---|---|---|---|---|---|\n",
        date = said("date", &["-u", "+%F"]),
        commit = COMMIT.get().map_or("?", String::as_str),
        kernel = said("uname", &["-r"]),
        cores = std::thread::available_parallelism().map_or(0, usize::from),
        disk = said("findmnt", &["-n", "-o", "FSTYPE", "-T", env!("CARGO_TARGET_TMPDIR")]),
    );
    for (number, name, what) in all() {
        let Some(row) = rows.iter().rfind(|row| row.name == *name) else { continue };
        let Row { runs, outcome, figures, seconds, seed, .. } = row;
        let _ = writeln!(
            text,
            "| {number} | `{name}` | {what} | {runs} | {outcome} | {figures} | {seconds} | {seed} |"
        );
    }
    text
}

/// What a command of the system says; "?" when it cannot be asked.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "?".into())
}
