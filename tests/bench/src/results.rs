//! What a run found: every sample as it was taken, and what it was taken on.
//! This is the JSON file; tables and plots are made from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, Resources};
use crate::tally::Faults;

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) started: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) repeats: usize,
    pub(crate) seconds: f64,
    /// Driver to version.
    pub(crate) versions: BTreeMap<String, String>,
    /// Driver and case to configuration.
    pub(crate) configurations: BTreeMap<String, String>,
    /// Driver to the reason why it was left out.
    pub(crate) skipped: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
    /// Cells that could not be measured, with the reason.
    pub(crate) failures: Vec<String>,
}

/// One driver, one cell, one repeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// `W1` to `W7`, or `limits`.
    pub(crate) workload: String,
    /// The row of the table, e.g. `1→8 128 B`.
    pub(crate) row: String,
    pub(crate) driver: String,
    pub(crate) durability: String,
    pub(crate) repeat: usize,
    /// Figures by name; `rate` is messages per second.
    pub(crate) values: BTreeMap<String, f64>,
    pub(crate) resources: Option<Resources>,
    pub(crate) faults: Faults,
}

/// Median and range of what the repeats of a cell gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Median, least and most; `None` of nothing.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread { median, least, most })
}

/// Samples of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) driver: &'a str,
    pub(crate) samples: Vec<&'a Sample>,
}

impl Cell<'_> {
    /// The spread of one figure.
    pub(crate) fn value(&self, name: &str) -> Option<Spread> {
        spread(self.samples.iter().filter_map(|it| it.values.get(name).copied()).collect())
    }

    /// The median of something about its resources.
    pub(crate) fn resource(&self, of: impl Fn(&Resources) -> f64) -> Option<f64> {
        let values = self.samples.iter().filter_map(|it| it.resources.as_ref().map(&of));
        spread(values.collect()).map(|it| it.median)
    }

    /// All faults of all repeats.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for sample in &self.samples {
            faults.add(sample.faults);
        }
        faults
    }

    /// Whether others took the machine's cores in the median repeat.
    pub(crate) fn noisy(&self) -> bool {
        self.resource(|it| f64::from(u8::from(it.noisy()))).is_some_and(|it| it >= 0.5)
    }
}

impl Results {
    /// Rows of a workload and durability, in the order in which they were measured.
    pub(crate) fn rows(&self, workload: &str) -> Vec<(String, String)> {
        let mut known = BTreeSet::new();
        let of = self.samples.iter().filter(|it| it.workload == workload);
        let keys = of.map(|it| (it.row.clone(), it.durability.clone()));
        keys.filter(|key| known.insert(key.clone())).collect()
    }

    /// Drivers of a workload, in the order in which they were measured.
    pub(crate) fn drivers(&self, workload: &str) -> Vec<String> {
        let mut known = BTreeSet::new();
        let of = self.samples.iter().filter(|it| it.workload == workload);
        of.map(|it| it.driver.clone()).filter(|it| known.insert(it.clone())).collect()
    }

    /// The cells of a row.
    pub(crate) fn cells(&self, workload: &str, row: &str, durability: &str) -> Vec<Cell<'_>> {
        let mut cells: Vec<Cell<'_>> = Vec::new();
        for sample in &self.samples {
            if (sample.workload.as_str(), sample.row.as_str(), sample.durability.as_str())
                != (workload, row, durability)
            {
                continue;
            }
            match cells.iter_mut().find(|cell| cell.driver == sample.driver) {
                Some(cell) => cell.samples.push(sample),
                None => cells.push(Cell { driver: &sample.driver, samples: vec![sample] }),
            }
        }
        cells
    }

    /// The median of a figure of one cell.
    pub(crate) fn median(
        &self,
        (workload, row, durability): (&str, &str, &str),
        driver: &str,
        value: &str,
    ) -> Option<f64> {
        let cells = self.cells(workload, row, durability);
        Some(cells.iter().find(|cell| cell.driver == driver)?.value(value)?.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let of = |values: &[f64]| spread(values.to_vec()).map(|it| (it.least, it.median, it.most));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
    }
}
