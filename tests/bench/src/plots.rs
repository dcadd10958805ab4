//! The plots of `docs/performance.md`, as SVG: bars on a logarithmic scale, because
//! the figures of one plot lie two or three powers of ten apart, and the curves of
//! W7, relative to the smallest size.

mod bars;
mod curves;

use std::path::Path;

use anyhow::Result;

use crate::results::Results;
use crate::table;
use bars::Group;

/// Draws whatever there are samples for. What each shows, and its file.
pub(crate) fn draw(results: &Results, folder: &Path) -> Result<Vec<(String, String)>> {
    std::fs::create_dir_all(folder)?;
    let mut drawn = Vec::new();
    let wanted = [
        ("W1", "w1.svg", "W1 fan-out, messages/s delivered"),
        ("W2+W3", "w2-w3.svg", "W2 queue and W3 stream, messages/s"),
        ("W4", "w4.svg", "W4 latency at 5,000 messages/s, µs"),
        ("W6", "w6.svg", "W6 policies, messages/s"),
    ];
    for (of, file, title) in wanted {
        let groups: Vec<Group> = of.split('+').flat_map(|it| groups(results, it)).collect();
        if !groups.is_empty() {
            bars::draw(&folder.join(file), title, &groups)?;
            drawn.push((of.to_owned(), file.to_owned()));
        }
    }
    let curves = curves::of(results);
    if !curves.is_empty() {
        curves::draw(&folder.join("w7.svg"), &curves)?;
        drawn.push(("W7".to_owned(), "w7.svg".to_owned()));
    }
    Ok(drawn)
}

fn groups(results: &Results, workload: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for (row, durability) in results.rows(workload) {
        let cells = results.cells(workload, &row, &durability);
        for (value, heading, _) in table::figures_of(workload) {
            if *value == "max" || *value == "p99.9" {
                continue;
            }
            let bars = cells
                .iter()
                .filter_map(|cell| Some((cell.driver.to_owned(), cell.value(value)?.median)));
            let parts = [row.as_str(), durability.as_str(), heading];
            let parts = parts.iter().filter(|it| **it != "none");
            let name = parts.copied().collect::<Vec<_>>().join(", ");
            groups.push(Group { name, bars: bars.collect() });
        }
    }
    groups
}
