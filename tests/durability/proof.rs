//! What every test begins with: its turn, its seed, its number of runs; and what it
//! ends with: a row of the report.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use weir_tests::Random;

use crate::report::{self, Row};

/// Longest that a test waits for anything. Far above what anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::new(());

/// Whether the full counts were asked for.
pub(crate) fn is_full() -> bool {
    std::env::var("WEIR_DURABILITY").is_ok_and(|value| value == "full")
}

/// A test that runs.
pub(crate) struct Proof {
    name: &'static str,
    runs: u32,
    /// How many are wanted.
    full: u32,
    seed: u64,
    begun: Instant,
    figures: Vec<String>,
    skipped: Option<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Proof {
    /// Waits for its turn. `number` is the test's in the list of promises; `runs`
    /// are the trimmed and the full count.
    pub(crate) fn begin(name: &'static str, runs: (u32, u32)) -> Self {
        report::begin();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = match std::env::var("WEIR_DURABILITY_SEED") {
            Ok(seed) => seed.parse().expect("WEIR_DURABILITY_SEED is a number"),
            Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        };
        let asked = std::env::var("WEIR_DURABILITY_RUNS").ok();
        let asked = asked.map(|runs| runs.parse().expect("WEIR_DURABILITY_RUNS is a number"));
        let (trimmed, full) = runs;
        let runs = asked.unwrap_or(if is_full() { full } else { trimmed });
        say(&format!("SEED {name}: {seed}, {runs} runs"));
        let (begun, figures) = (Instant::now(), Vec::new());
        let proof = Self { name, runs, full, seed, begun, figures, skipped: None, _turn: turn };
        // What the report says if it is ended.
        proof.report("**did not finish**".to_owned());
        proof
    }

    /// How many runs.
    pub(crate) fn runs(&self) -> u32 {
        self.runs
    }

    /// Chance of one run: the same for the same seed and run.
    pub(crate) fn random(&self, run: u32) -> Random {
        Random::seeded(self.seed ^ (u64::from(run) << 40))
    }

    /// An empty folder of its own.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = scratch(self.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// What was made, or `None` when it cannot be made here: the test is skipped.
    pub(crate) fn needs<T>(&mut self, what: Result<T, String>) -> Option<T> {
        what.map_err(|why| {
            say(&format!("SKIPPED {}: {why}", self.name));
            self.skipped = Some(why);
        })
        .ok()
    }

    /// What was made, or `None` when it cannot be made here: the test goes on
    /// without it, and says so.
    pub(crate) fn prefers<T>(&mut self, what: Result<T, String>, part: &str) -> Option<T> {
        what.map_err(|why| {
            say(&format!("SKIPPED {} ({part}): {why}", self.name));
            self.figures.push(format!("without {part}: {why}"));
        })
        .ok()
    }

    /// A figure for the report.
    pub(crate) fn figure(&mut self, figure: String) {
        self.figures.push(figure);
    }

    /// Its row of the report, which says where fewer runs were made than are wanted.
    fn report(&self, outcome: String) {
        let mut runs = self.runs.to_string();
        if self.runs < self.full {
            runs += &format!(" of {} wanted", self.full);
        }
        let (name, seed, seconds) = (self.name, self.seed, self.begun.elapsed().as_secs());
        report::add(Row { name, runs, seed, seconds, outcome, figures: self.figures.join("; ") });
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let outcome = match &self.skipped {
            _ if std::thread::panicking() => "**not held**".to_owned(),
            Some(why) => format!("skipped: {why}"),
            None => "held".to_owned(),
        };
        let seconds = self.begun.elapsed().as_secs();
        say(&format!("PROOF {}: {outcome}, {} runs, {seconds} s", self.name, self.runs));
        for figure in &self.figures {
            say(&format!("      {figure}"));
        }
        self.report(outcome);
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(scratch(self.name));
        }
    }
}

/// Where a test keeps its files.
pub(crate) fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("durability").join(name)
}

/// A line that is seen also when the test passes: the harness keeps back only what
/// goes through the printing macros.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
