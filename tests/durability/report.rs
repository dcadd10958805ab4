//! The dated report of a full run, `docs/durability-report.md`. It is written anew at
//! the beginning and the end of each test, so that a run that was ended tells what it
//! did. `full.sh` runs the tests on the simulated disk before, and they leave their
//! rows in the folder `WEIR_DURABILITY_ROWS`, from which they are taken in.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::promises::PROMISES;
use crate::proof::{is_full, say};

/// One test.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) runs: String,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) outcome: String,
    pub(crate) figures: String,
}

impl Row {
    /// From the number of runs on: those of the simulated disk leave the same.
    fn cells(&self) -> String {
        let Self { runs, outcome, figures, seconds, seed, .. } = self;
        format!("{runs} | {outcome} | {figures} | {seconds} | {seed}")
    }
}

/// The commit at which the tests began; it may move on under them.
static COMMIT: OnceLock<String> = OnceLock::new();
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Notes what is tested.
pub(crate) fn begin() {
    COMMIT.get_or_init(|| said("git", &["describe", "--always", "--dirty"]));
}

/// Adds a row, in the place of one of the same test, and writes the report if there is
/// to be one.
pub(crate) fn add(row: Row) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.retain(|old| old.name != row.name);
    rows.push(row);
    // No panic: the row may be there because of one. `full.sh` misses the report.
    if let Some(path) = path()
        && let Err(error) = std::fs::write(&path, text(&rows))
    {
        say(&format!("{} cannot be written: {error}", path.display()));
    }
}

/// Where the report goes: `WEIR_DURABILITY_REPORT`, else its place in the repository
/// when the full counts were asked for.
fn path() -> Option<PathBuf> {
    // Of the release build only: a debug build would put another's figures in its place.
    if cfg!(debug_assertions) {
        return None;
    }
    if let Some(path) = std::env::var_os("WEIR_DURABILITY_REPORT") {
        return Some(path.into());
    }
    let has_own = |name: &str| std::env::var_os(name).is_some();
    let is_whole = is_full() && !has_own("WEIR_DURABILITY_RUNS") && !has_own("WEIR_BIN");
    is_whole.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/durability-report.md"))
}

/// What `full.sh`, or a test on the simulated disk, has left under that name.
fn left(name: &str) -> Option<String> {
    let folder = std::env::var_os("WEIR_DURABILITY_ROWS")?;
    let text = std::fs::read_to_string(Path::new(&folder).join(name)).ok()?;
    // An empty one could not be written.
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

/// What is known of that test, as the report has it.
fn cells(rows: &[Row], name: &str) -> Option<String> {
    let row = rows.iter().find(|row| row.name == name);
    row.map(Row::cells).or_else(|| left(name))
}

fn text(rows: &[Row]) -> String {
    let missing = PROMISES.iter().filter(|(_, name, _)| cells(rows, name).is_none());
    let mut missing: Vec<&str> = missing.map(|(number, ..)| *number).collect();
    missing.dedup();
    let whole = match &missing[..] {
        [] => String::new(),
        missing => format!("**Not all of it: {} have not run.**\n\n", missing.join(", ")),
    };
    let simulated = match left("begun") {
        Some(begun) => format!("the tests on the simulated disk: {begun}"),
        None => "the tests on the simulated disk were not run with it".to_owned(),
    };
    let mut text = format!(
        "# The proof of durability\n\n\
         Written by `tests/durability/full.sh`; for the real disks alone by `WEIR_DURABILITY=full \
         cargo test -p weir-tests --test durability --release`.\n\n\
         - {date}, commit {commit}, {program}\n\
         - Linux {kernel}, {cores} processors; D1, D15 and S4 on {disk}; D2, D7, D9, D10, S1 and \
         S2 on ext4 on a loop device over it; D8, and the write-back failures of D7, on a disk in \
         memory\n\
         - {simulated}\n\n\
         A test passes with no violation at all: there is no tolerance in any of them.\n\n\
         D1, D2, D7 to D10, D15, S1, S2 and S4 run the program over file systems of the machine. A \
         seed and a run give the same load and the same fault (`WEIR_DURABILITY_SEED`); the moment \
         at which the fault strikes is the machine's. The others run on a simulated disk, the \
         second of S7 over stores in memory: there a seed decides everything.\n\n\
         {whole}\
         | | test | what must hold | runs | result | figures | s | seed |\n\
         |---|---|---|---|---|---|---|---|\n",
        date = said("date", &["-u", "+%F"]),
        commit = COMMIT.get().map_or("?", String::as_str),
        program = tested(),
        kernel = said("uname", &["-r"]),
        cores = std::thread::available_parallelism().map_or(0, usize::from),
        disk = said("findmnt", &["-n", "-o", "FSTYPE", "-T", env!("CARGO_TARGET_TMPDIR")]),
    );
    for (number, name, what) in PROMISES {
        let cells = cells(rows, name);
        let cells = cells.unwrap_or_else(|| "0 | **has not run** | | | ".to_owned());
        let _ = writeln!(text, "| {number} | `{name}` | {what} | {cells} |");
    }
    text
}

/// The program that the tests start.
fn tested() -> String {
    match std::env::var_os("WEIR_BIN") {
        None => "the release build".to_owned(),
        Some(given) => format!("**another program**: {}", given.to_string_lossy()),
    }
}

/// What a command of the system says; "?" when it cannot be asked.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "?".into())
}
