//! Tables for people: a line per sample while a run goes on, and the whole at its
//! end, with ratios to the best peer and to the floor.

use crate::drivers::RELAY;
use crate::results::{Cell, Results, Sample};
use crate::workloads::durable::{ECHO, YARDSTICK};
use crate::workloads::physical::LIMIT;

/// Figures with three digits and a letter for thousands.
pub(crate) fn short(value: f64) -> String {
    let (value, letter) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        size if size >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{letter}")
}

/// One sample.
pub(crate) fn line(sample: &Sample) -> String {
    let values: Vec<String> =
        sample.values.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    let resources = sample.resources.map_or_else(String::new, |it| {
        format!(
            " | cores: server {:.2} client {:.2} other {:.2} stolen {:.2}{}, peak {:.0} MiB",
            it.server_cores,
            it.client_cores,
            it.other_cores,
            it.stolen_cores,
            if it.noisy() { " NOISY" } else { "" },
            it.rss_peak_mib
        )
    });
    let faults = if sample.faults == crate::tally::Faults::default() {
        String::new()
    } else {
        format!(" | {:?}", sample.faults)
    };
    format!(
        "{} {} {} [{}] #{}: {}{resources}{faults}",
        sample.workload,
        sample.row,
        sample.driver,
        sample.durability,
        sample.repeat + 1,
        values.join(", ")
    )
}

/// Whether a driver is a peer: neither Weir in any form nor the machine by itself.
pub(crate) fn is_peer(driver: &str) -> bool {
    !driver.starts_with("weir") && ![RELAY, LIMIT, YARDSTICK, ECHO].contains(&driver)
}

/// What the variants of W6 are held against.
pub(crate) const PLAIN: &str = "weir (a) default";

/// The best median among the peers of a row: the highest, or the lowest for times.
/// Where there are no peers, that of Weir without policies.
pub(crate) fn best_peer(cells: &[Cell<'_>], value: &str, lowest: bool) -> Option<f64> {
    let any = cells.iter().any(|cell| is_peer(cell.driver));
    let counts = |driver| if any { is_peer(driver) } else { driver == PLAIN };
    let peers = cells.iter().filter(|cell| counts(cell.driver));
    let medians = peers.filter_map(|cell| Some(cell.value(value)?.median));
    medians.reduce(if lowest { f64::min } else { f64::max })
}

/// What a cell's figures must not be read without: samples that failed, messages that did
/// not arrive, or not whole; "" where there is nothing of that.
pub(crate) fn doubts(cell: &Cell<'_>, repeats: usize) -> String {
    let (samples, faults) = (cell.samples.len(), cell.faults());
    let mut text = String::new();
    if samples < repeats {
        text += &format!(" ({samples} of {repeats} samples)");
    }
    for (count, word) in [(faults.lost, "LOST"), (faults.damaged, "DAMAGED")] {
        if count > 0 {
            text += &format!(" {word} {count}");
        }
    }
    text
}

/// A cell's text: median, range, ratio to the best peer and to the floor, and its doubts.
pub(crate) fn cell(
    cells: &[Cell<'_>],
    driver: &str,
    (value, lowest): (&str, bool),
    repeats: usize,
) -> String {
    let find = |name: &str| cells.iter().find(|cell| cell.driver == name);
    let Some(spread) = find(driver).and_then(|cell| cell.value(value)) else {
        return "–".to_owned();
    };
    let mut text = short(spread.median);
    if spread.least < spread.most {
        text += &format!(" ({}–{})", short(spread.least), short(spread.most));
    }
    if let Some(best) = best_peer(cells, value, lowest) {
        text += &format!(" {:.2}×", spread.median / best);
    }
    if driver.starts_with("weir")
        && let Some(floor) = find(RELAY).and_then(|cell| cell.value(value))
    {
        text += &format!(" [{:.2} of the relay]", spread.median / floor.median);
    }
    if driver.starts_with("weir")
        && let Some(raw) = find(YARDSTICK).and_then(|cell| cell.value(value))
    {
        text += &format!(" [{:.2} of raw sync + trip]", spread.median / raw.median);
    }
    if let Some(cell) = find(driver) {
        if cell.noisy() {
            text += " NOISY";
        }
        text += &doubts(cell, repeats);
    }
    text
}

/// A table in Markdown, which is read as plain text too.
pub(crate) fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    let mut out = format!("| {} |\n|", head.join(" | "));
    for index in 0..head.len() {
        out += if index == 0 { " --- |" } else { " ---: |" };
    }
    out.push('\n');
    for row in rows {
        out += &format!("| {} |\n", row.join(" | "));
    }
    out
}

/// Figures of a workload in the order of its table, with their headings, and
/// whether the lowest is the best.
pub(crate) fn figures_of(workload: &str) -> &'static [(&'static str, &'static str, bool)] {
    match workload {
        "W4" => &[
            ("p50", "p50 µs", true),
            ("p99", "p99 µs", true),
            ("p99.9", "p99.9 µs", true),
            ("max", "max µs", true),
        ],
        "W5" => &[("rate", "messages/s", false), ("p99", "p99 µs", true)],
        "W7" => &[
            ("rate", "messages/s", false),
            ("server_us", "server CPU µs/msg", true),
            ("idle_bytes", "bytes of each idle one", true),
        ],
        "limits" => &[("rate", "", false)],
        _ => &[("rate", "messages/s", false)],
    }
}

/// The tables of one workload.
pub(crate) fn workload(results: &Results, workload: &str) -> String {
    let drivers = results.drivers(workload);
    let mut head = vec!["cell".to_owned()];
    head.extend(drivers.iter().cloned());
    let mut rows = Vec::new();
    for (row, durability) in results.rows(workload) {
        let cells = results.cells(workload, &row, &durability);
        for (value, heading, lowest) in figures_of(workload) {
            if !cells.iter().any(|cell| cell.value(value).is_some()) {
                continue;
            }
            let parts = [row.as_str(), durability.as_str(), heading];
            let parts = parts.iter().filter(|it| !it.is_empty() && **it != "none");
            let mut line = vec![parts.copied().collect::<Vec<_>>().join(", ")];
            let text = |driver: &String| cell(&cells, driver, (*value, *lowest), results.repeats);
            line.extend(drivers.iter().map(text));
            rows.push(line);
        }
    }
    markdown(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Faults;

    fn sample(repeat: usize, faults: Faults) -> Sample {
        Sample {
            workload: "W2".to_owned(),
            row: "queue 128 B".to_owned(),
            driver: "weir".to_owned(),
            durability: "synced".to_owned(),
            repeat,
            values: [("rate".to_owned(), 10.0)].into(),
            faults,
            ..Sample::default()
        }
    }

    #[test]
    fn a_figure_stands_beside_what_makes_it_doubtful() {
        let lost = Faults { lost: 3, damaged: 1, ..Faults::default() };
        let samples = vec![sample(0, Faults::default()), sample(2, lost)];
        let mut results = Results { samples, repeats: 3, ..Results::default() };
        let text = workload(&results, "W2");
        assert!(text.contains("| 10.0 (2 of 3 samples) LOST 3 DAMAGED 1 |"), "{text}");
        results.samples = (0..3).map(|repeat| sample(repeat, Faults::default())).collect();
        assert!(workload(&results, "W2").contains("| 10.0 |"), "{}", workload(&results, "W2"));
    }
}
