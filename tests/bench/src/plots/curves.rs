//! The curves of W7: server CPU per message as something grows, relative to the
//! smallest of it.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::results::Results;

/// What grows, as the rows of W7 are named.
const GROWING: [(&str, RGBColor); 3] = [
    ("queues", RGBColor(0, 110, 180)),
    ("subscriptions", RGBColor(60, 160, 110)),
    ("connections", RGBColor(200, 70, 60)),
];

/// A line: its name, its colour, number and relative cost.
#[derive(Debug)]
pub(super) struct Curve {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The curves for which there are samples.
pub(super) fn of(results: &Results) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (name, colour) in GROWING {
        let mut points = Vec::new();
        for (row, durability) in results.rows("W7") {
            let Some(count) = row.strip_suffix(name).and_then(|it| it.trim().parse::<f64>().ok())
            else {
                continue;
            };
            if let Some(cost) = results.median(("W7", &row, &durability), "weir", "server_us") {
                points.push((count, cost));
            }
        }
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((_, smallest)) = points.first().copied().filter(|(_, cost)| *cost > 0.0) {
            let points = points.iter().map(|(count, cost)| (*count, cost / smallest)).collect();
            curves.push(Curve { name, colour, points });
        }
    }
    curves
}

/// Draws them on one pair of axes.
pub(super) fn draw(path: &Path, curves: &[Curve]) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let widest = points().map(|point| point.0).fold(10.0, f64::max);
    let highest = points().map(|point| point.1).fold(1.5, f64::max);
    let root = SVGBackend::new(path, (900, 420)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption("W7 server CPU per message, relative to the smallest", ("sans-serif", 18))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((1.0..widest).log_scale(), 0.0..highest * 1.1)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("number")
        .x_label_formatter(&|value| crate::table::short(*value))
        .draw()
        .map_err(|error| failed(&error))?;
    for curve in curves {
        let colour = curve.colour;
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|error| failed(&error))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        let dots = curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots).map_err(|error| failed(&error))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}
