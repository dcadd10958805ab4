//! What a test from the list of promises leaves: its row of the report that
//! `tests/durability/full.sh` makes.
//!
//! Each row is a file named for its test, in the folder `WEIR_DURABILITY_ROWS`: tests
//! run side by side. It is there from the beginning, so that a test that was ended
//! shows. Without the variable nothing is written.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use crate::world::{count, seeds};

/// A test that runs.
pub struct Proof {
    name: &'static str,
    /// How often it does what it does, and how often when it is run in full.
    runs: u64,
    full: u64,
    seeds: RangeInclusive<u64>,
    begun: Instant,
    figures: Vec<String>,
}

impl Proof {
    pub fn begin(name: &'static str, runs: u64, full: u64, seeds: RangeInclusive<u64>) -> Self {
        let (begun, figures) = (Instant::now(), Vec::new());
        let proof = Self { name, runs, full, seeds, begun, figures };
        proof.write("**did not finish**");
        proof
    }

    /// One run for each seed, `ci` of them or `full`; and the seeds.
    pub fn of_seeds(name: &'static str, ci: u64, full: u64) -> (Self, Vec<u64>) {
        let seeds = seeds(ci, full);
        let range = seeds[0]..=seeds[seeds.len() - 1];
        (Self::begin(name, seeds.len() as u64, full, range), seeds)
    }

    /// `ci` cases or `full`, the same number for each of `images` seeds, one at least; and
    /// how many for each.
    pub fn of_cases(name: &'static str, ci: u64, full: u64, images: u64) -> (Self, u64) {
        let each = (count(ci, full) / images).max(1);
        (Self::begin(name, each * images, full, 1..=images), each)
    }

    /// A figure for the report.
    pub fn figure(&mut self, figure: String) {
        self.figures.push(figure);
    }

    /// The row, from the number of runs on: the report knows what comes before. It says
    /// where fewer runs were made than are wanted.
    fn write(&self, outcome: &str) {
        let Some(folder) = std::env::var_os("WEIR_DURABILITY_ROWS") else { return };
        let mut runs = self.runs.to_string();
        if self.runs < self.full {
            runs += &format!(" of {} wanted", self.full);
        }
        let (first, last) = (self.seeds.start(), self.seeds.end());
        let seeds = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let (figures, seconds) = (self.figures.join("; "), self.begun.elapsed().as_secs());
        let row = format!("{runs} | {outcome} | {figures} | {seconds} | {seeds}\n");
        // No panic: it may be written because of one. What cannot be written is missing
        // in the report, or did not finish.
        if let Err(error) = std::fs::write(Path::new(&folder).join(self.name), row) {
            println!("{}: no row of the report: {error}", self.name);
        }
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { "**not held**" } else { "held" };
        println!("{}: {outcome}, {}", self.name, self.figures.join("; "));
        self.write(outcome);
    }
}
