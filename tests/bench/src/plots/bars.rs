//! Horizontal bars in groups, each with its figure.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::table::short;

/// Pixels of one line: a bar, or the name of a group.
const LINE: u32 = 17;
const WIDTH: u32 = 900;

/// The cells of one row.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// Driver and median.
    pub(super) bars: Vec<(String, f64)>,
}

/// One colour per driver, the same in every plot.
fn colour(driver: &str) -> RGBColor {
    match driver {
        "raw-relay" => RGBColor(170, 170, 170),
        "weir" | "weir (a) default" => RGBColor(0, 110, 180),
        "nats" | "weir (b) remembered" => RGBColor(60, 160, 110),
        "nats-batch" => RGBColor(140, 200, 160),
        "redis" | "weir (c) payload" => RGBColor(200, 70, 60),
        "redis-lists" | "weir (d) dispatcher" => RGBColor(225, 140, 120),
        "rabbitmq" => RGBColor(230, 150, 40),
        _ => RGBColor(130, 90, 170),
    }
}

/// Draws the groups below each other.
pub(super) fn draw(path: &Path, title: &str, groups: &[Group]) -> Result<()> {
    let lines: usize = groups.iter().map(|group| group.bars.len() + 1).sum();
    let values = || groups.iter().flat_map(|group| group.bars.iter().map(|(_, value)| *value));
    let positive = || values().filter(|value| *value > 0.0);
    let least = positive().fold(f64::MAX, f64::min);
    let most = positive().fold(0.0, f64::max);
    let from = 10_f64.powf(least.log10().floor());
    // Room for the figure behind the longest bar.
    let to = 10_f64.powf(most.log10() + (most.log10() - from.log10()) * 0.22);

    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let height = lines as u32 * LINE + 80;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .margin_left(30)
        .x_label_area_size(30)
        .build_cartesian_2d((from..to).log_scale(), 0.0..lines as f64)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_y_axis()
        .disable_y_mesh()
        .x_label_formatter(&|value| short(*value))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;

    let mut top = lines as f64;
    for group in groups {
        let name = Text::new(group.name.clone(), (from, top - 0.2), ("sans-serif", 13));
        chart.draw_series([name]).map_err(|error| failed(&error))?;
        top -= 1.0;
        for (driver, value) in &group.bars {
            let corners = [(from, top - 0.1), (value.max(from), top - 0.9)];
            let bar = Rectangle::new(corners, colour(driver).filled());
            chart.draw_series([bar]).map_err(|error| failed(&error))?;
            let text = format!(" {driver} {}", short(*value));
            let label = Text::new(text, (value.max(from), top - 0.2), ("sans-serif", 12));
            chart.draw_series([label]).map_err(|error| failed(&error))?;
            top -= 1.0;
        }
    }
    root.present().map_err(|error| failed(&error))
}
