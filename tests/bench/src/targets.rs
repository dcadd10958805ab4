//! What Weir is to reach, and whether a run shows it: the table that heads
//! `docs/performance.md`.
//!
//! Each line holds Weir's median against a bound that hangs on the same run: on the
//! best peer, the relay, a raw sync. What has no bound in this run is not measured.

use crate::drivers::RELAY;
use crate::results::Results;
use crate::table::{PLAIN, best_peer, doubts, markdown, short};
use crate::workloads::SIZES;
use crate::workloads::durable::YARDSTICK;

/// How many times as many messages a second as Apache Iggy: bytes, appended without a sync,
/// with one, replayed of either.
const TIMES_IGGY: [(usize, [f64; 3]); 2] = [(128, [2.0, 2.0, 2.0]), (1_024, [1.2, 1.5, 1.2])];

/// One target.
struct Target {
    what: String,
    wanted: String,
    /// Weir's figure in the unit of `bound`.
    found: Option<f64>,
    bound: f64,
    is_lowest_best: bool,
}

impl Target {
    fn holds(&self) -> Option<bool> {
        let found = self.found?;
        Some(if self.is_lowest_best { found <= self.bound } else { found >= self.bound })
    }
}

/// The table; "" when the run has nothing of it.
pub(crate) fn table(results: &Results) -> String {
    let mut targets = Vec::new();
    fan_out(results, &mut targets);
    queue(results, &mut targets);
    stream(results, &mut targets);
    latency(results, &mut targets);
    synced(results, &mut targets);
    policies(results, &mut targets);
    growth(results, &mut targets);
    if targets.iter().all(|target| target.found.is_none()) {
        return String::new();
    }
    let held = targets.iter().filter(|target| target.holds() == Some(true)).count();
    let rows: Vec<Vec<String>> = targets
        .iter()
        .map(|target| {
            let text = |found| found_text(found, target.bound);
            let found = target.found.map_or_else(|| "not measured".to_owned(), text);
            let verdict = match target.holds() {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            vec![target.what.clone(), target.wanted.clone(), found, verdict.to_owned()]
        })
        .collect();
    let head = ["target", "wanted", "found", "held"].map(str::to_owned);
    let table = markdown(&head, &rows);
    format!("\n## Targets: {held} of {} held\n\n{table}{}", targets.len(), in_doubt(results))
}

/// Cells of Weir of which samples failed, or messages did not arrive: what they hold is held
/// by the samples that are left. "" where there are none.
fn in_doubt(results: &Results) -> String {
    let mut known = Vec::new();
    for sample in results.samples.iter().filter(|it| it.driver.starts_with("weir")) {
        let place = (&sample.workload, &sample.row, &sample.durability, &sample.driver);
        if !known.contains(&place) {
            known.push(place);
        }
    }
    let doubt = |(workload, row, durability, driver): (&String, &String, &String, &String)| {
        let cells = results.cells(workload, row, durability);
        let cell = cells.iter().find(|cell| cell.driver == driver)?;
        let doubts = doubts(cell, results.repeats);
        (!doubts.is_empty()).then(|| format!("{workload} {row} {driver} [{durability}]{doubts}"))
    };
    let doubts: Vec<String> = known.into_iter().filter_map(doubt).collect();
    if doubts.is_empty() {
        return String::new();
    }
    format!("\n**In doubt**, as samples failed or messages were lost: {}.\n", doubts.join("; "))
}

/// As [`short`], with more digits where it would read as the bound does and is another.
fn found_text(found: f64, bound: f64) -> String {
    let text = short(found);
    if text != short(bound) {
        return text;
    }
    let differs = |digits: &usize| {
        let digits = *digits;
        format!("{found:.digits$}") != format!("{bound:.digits$}")
    };
    let digits = (3..9).find(differs).unwrap_or(3);
    format!("{found:.digits$}")
}

fn at_least(what: String, found: Option<f64>, bound: f64, of: &str) -> Target {
    let wanted = format!("at least {}{of}", short(bound));
    Target { what, wanted, found, bound, is_lowest_best: false }
}

fn at_most(what: String, found: Option<f64>, bound: f64, of: &str) -> Target {
    let wanted = format!("at most {}{of}", short(bound));
    Target { what, wanted, found, bound, is_lowest_best: true }
}

fn ratio(found: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(found? / other?)
}

/// The best peer's figure in one row.
fn peer(results: &Results, of: (&str, &str, &str), value: &str, lowest: bool) -> Option<f64> {
    best_peer(&results.cells(of.0, of.1, of.2), value, lowest)
}

fn fan_out(results: &Results, targets: &mut Vec<Target>) {
    for (size, best, relay) in [(128, 5.0, 0.5), (1_024, 1.8, 0.75)] {
        for shape in ["1→1", "1→8", "4→4"] {
            let row = format!("{shape} {size} B");
            let of = ("W1", row.as_str(), "none");
            let weir = results.median(of, "weir", "rate");
            let peer = peer(results, of, "rate", false);
            let floor = results.median(of, RELAY, "rate");
            let what = format!("W1 {row}, to the best peer");
            targets.push(at_least(what, ratio(weir, peer), best, "× the best peer"));
            let what = format!("W1 {row}, to the relay");
            targets.push(at_least(what, ratio(weir, floor), relay, " of the raw relay"));
        }
    }
    let cpu = results.median(("W1", "1→8 128 B", "none"), "weir", "server_us");
    targets.push(at_most("W1 1→8 128 B, server CPU".to_owned(), cpu, 0.08, " µs a message"));
}

fn queue(results: &Results, targets: &mut Vec<Target>) {
    let row = "queue 128 B";
    let weir = results.median(("W2", row, "synced"), "weir", "rate");
    let peer = peer(results, ("W2", row, "default"), "rate", false);
    let of = "× the best peer without a sync";
    targets.push(at_least(format!("W2 {row}, synced"), ratio(weir, peer), 3.0, of));
    let cpu = results.median(("W2", row, "synced"), "weir", "server_us");
    targets.push(at_most(format!("W2 {row}, server CPU"), cpu, 2.0, " µs a message"));
}

fn stream(results: &Results, targets: &mut Vec<Target>) {
    for (size, [append, synced, replay]) in TIMES_IGGY {
        let kinds = [
            ("append", "default", append),
            ("append", "synced", synced),
            ("replay", "default", replay),
            ("replay", "synced", replay),
        ];
        for (kind, durability, times) in kinds {
            let row = format!("stream {size} B {kind}");
            let weir = results.median(("W3", &row, durability), "weir", "rate");
            let of = |driver| results.median(("W3", &row, durability), driver, "rate");
            let iggy = of("iggy").into_iter().chain(of("iggy-4")).reduce(f64::max);
            let rate = iggy.map_or_else(String::new, |rate| format!(", {}", short(rate)));
            let (found, of) = (ratio(weir, iggy), format!("× Iggy's best{rate}"));
            targets.push(at_least(format!("W3 {row}, {durability}"), found, times, &of));
        }
    }
}

fn latency(results: &Results, targets: &mut Vec<Target>) {
    for size in SIZES {
        let row = format!("pub/sub {size} B");
        let of = ("W4", row.as_str(), "none");
        for value in ["p50", "p99"] {
            let relay = results.median(of, RELAY, value);
            let found = ratio(results.median(of, "weir", value), relay);
            targets.push(at_most(format!("W4 {row}, {value}"), found, 1.2, "× the raw relay"));
        }
        let name = format!("queue {size} B");
        let queue = ("W4", name.as_str(), "synced");
        let redis = |driver| results.median(("W4", &name, "default"), driver, "p99");
        // Lists or streams, whichever is quicker.
        let best = redis("redis").into_iter().chain(redis("redis-lists")).reduce(f64::min);
        let found = ratio(results.median(queue, "weir", "p99"), best);
        let what = format!("W4 {name}, synced, p99");
        targets.push(at_most(what, found, 1.0, "× Redis without a sync"));
        let syncs = results.median(("W5", "1 in flight, 128 B", "synced"), YARDSTICK, "syncs");
        let p50 = results.median(of, "weir", "p50");
        let floor = syncs.zip(p50).map(|(syncs, p50)| 1e6 / syncs + p50);
        let found = ratio(results.median(queue, "weir", "p50"), floor);
        let what = format!("W4 {name}, synced, p50");
        targets.push(at_most(what, found, 1.2, "× one raw sync and the publish/subscribe p50"));
    }
}

fn synced(results: &Results, targets: &mut Vec<Target>) {
    let of = ("W5", "1 in flight, 128 B", "synced");
    let found = ratio(results.median(of, "weir", "rate"), results.median(of, YARDSTICK, "rate"));
    let what = "W5 1 in flight".to_owned();
    targets.push(at_least(what, found, 0.95, " of one raw sync and one raw round trip"));
    let of = ("W5", "64 in flight, 128 B", "synced");
    let found = ratio(results.median(of, "weir", "rate"), peer(results, of, "rate", false));
    targets.push(at_least("W5 64 in flight".to_owned(), found, 3.0, "× the best peer"));
}

fn policies(results: &Results, targets: &mut Vec<Target>) {
    let bounds = [("weir (b)", 0.97), ("weir (c)", 0.85), ("weir (d)", 0.85)];
    for (row, durability) in results.rows("W6") {
        let cells = results.cells("W6", &row, &durability);
        for (name, bound) in bounds {
            // Channels have no delivery policy. Nobody publishes in a replay, and no group is
            // there in an append.
            let is_dispatcher = name == "weir (d)";
            let idle = if is_dispatcher { " append" } else { " replay" };
            if row.ends_with(idle) || is_dispatcher && durability == "none" {
                continue;
            }
            // What was left out or has failed is a target all the same.
            let cell = cells.iter().find(|cell| cell.driver.starts_with(name));
            let plain = results.median(("W6", &row, &durability), PLAIN, "rate");
            let rate = cell.and_then(|cell| cell.value("rate")).map(|it| it.median);
            let name = cell.map_or(name, |cell| cell.driver).trim_start_matches("weir ");
            let what = format!("W6 {row}, {name}");
            targets.push(at_least(what, ratio(rate, plain), bound, " of (a)"));
        }
    }
}

fn growth(results: &Results, targets: &mut Vec<Target>) {
    let rows = results.rows("W7");
    let value = |row: &str, driver: &str, value: &str| {
        let durability = &rows.iter().find(|(name, _)| name == row)?.1;
        results.median(("W7", row, durability), driver, value)
    };
    let kinds = [
        ("queues", "100000", 2_048.0),
        ("subscriptions", "1000000", 200.0),
        ("connections", "10000", 20_480.0),
    ];
    for (kind, most, bytes) in kinds {
        let (one, largest) = (format!("1 {kind}"), format!("{most} {kind}"));
        let cost = |row: &str| value(row, "weir", "server_us");
        let found = ratio(cost(&largest), cost(&one));
        let what = format!("W7 {largest}, server CPU a message");
        targets.push(at_most(what, found, 1.3, "× that of one"));
        let idle = value(&largest, "weir", "idle_bytes");
        targets.push(at_most(format!("W7 {largest}, memory of each"), idle, bytes, " bytes"));
    }
    for (row, _) in rows.iter().filter(|(row, _)| row.starts_with("workers ")) {
        let of = |count: u32| value(row, &format!("weir {count} workers"), "rate");
        targets.push(at_least(format!("W7 {row}, 2"), ratio(of(2), of(1)), 1.6, "× 1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    fn sample(driver: &str, rate: f64) -> Sample {
        Sample {
            workload: "W1".to_owned(),
            row: "1→1 128 B".to_owned(),
            driver: driver.to_owned(),
            durability: "none".to_owned(),
            values: [("rate".to_owned(), rate)].into(),
            ..Sample::default()
        }
    }

    #[test]
    fn a_target_is_held_against_the_best_peer_of_the_run() {
        let samples = vec![sample("weir", 50.0), sample("nats", 10.0), sample("redis", 4.0)];
        let mut results = Results { samples, ..Results::default() };
        let text = table(&results);
        assert!(text.contains("Targets: 1 of "), "{text}");
        assert!(text.contains("| not measured | – |"), "{text}");
        assert!(text.contains("| 5.000 | yes |"), "as the bound would read: {text}");
        results.samples.push(sample("rabbitmq", 11.0));
        assert!(table(&results).contains("| 4.55 | **no** |"), "{}", table(&results));
    }

    #[test]
    fn what_is_nearly_held_does_not_read_as_held() {
        assert_eq!(found_text(0.949_8, 0.95), "0.9498");
        assert_eq!(found_text(0.95, 0.95), "0.950");
        assert_eq!(found_text(0.9, 0.95), "0.90");
    }

    #[test]
    fn a_policy_that_was_left_out_is_a_target_that_is_not_held() {
        let of = |driver: &str, rate| Sample {
            workload: "W6".to_owned(),
            row: "queue 128 B".to_owned(),
            durability: "synced".to_owned(),
            ..sample(driver, rate)
        };
        let samples = vec![of(PLAIN, 10.0), of("weir (b) remembered", 9.9)];
        let text = table(&Results { samples, ..Results::default() });
        assert!(text.contains("Targets: 1 of "), "{text}");
        assert!(text.contains("| W6 queue 128 B, (b) remembered |"), "{text}");
        assert!(text.contains("| W6 queue 128 B, (d) | at least 0.85 of (a) | not measured | – |"));
    }

    #[test]
    fn a_target_of_fewer_samples_is_in_doubt() {
        let samples = vec![sample("weir", 50.0), sample("nats", 10.0)];
        let mut results = Results { samples, repeats: 1, ..Results::default() };
        assert!(!table(&results).contains("In doubt"));
        results.repeats = 3;
        let text = table(&results);
        assert!(text.contains("W1 1→1 128 B weir [none] (1 of 3 samples)."), "{text}");
        assert!(!text.contains("nats ["), "of Weir only: {text}");
    }

    #[test]
    fn a_run_without_figures_has_no_targets() {
        assert_eq!(table(&Results::default()), "");
    }
}
