//! Metrics that policies define, one registry per binding, carried over
//! generations: a metric keeps its number and value as long as name and kind stay.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use crate::limits::{METRIC_HELP_BYTES_MAX, METRIC_NAME_BYTES_MAX, METRICS_MAX};

/// Upper bounds of a histogram's buckets: powers of four from 1; the last bucket
/// takes the rest.
pub const BUCKET_BOUNDS: [f64; 12] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// The last value counts.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric at one moment.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct MetricSnapshot {
    /// Its name, `[a-z_][a-z0-9_]*`.
    pub name: String,
    /// One line for people.
    pub help: String,
    /// What it is.
    pub kind: MetricKind,
    /// Counter: the count. Gauge: the value. Histogram: the sum.
    pub value: f64,
    /// Histogram: values per bucket of [`BUCKET_BOUNDS`], then the rest.
    pub buckets: Vec<u64>,
}

/// Metrics of one binding.
#[derive(Debug, Default)]
pub struct PolicyMetrics {
    metrics: RwLock<Vec<Arc<Metric>>>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    help: String,
    kind: MetricKind,
    /// Counter: the count. Otherwise the bits of an `f64`.
    value: AtomicU64,
    buckets: [AtomicU64; BUCKET_BOUNDS.len() + 1],
}

/// A write that waits for its call to succeed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MetricWrite {
    Add(u32, u64),
    Put(u32, f64),
}

impl PolicyMetrics {
    /// The metrics now, in the order they were defined.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetricSnapshot> {
        self.metrics.read().expect("no panic under this lock").iter().map(|m| m.get()).collect()
    }

    /// Number of the metric `name`, from 1; 0 when it is refused: bad name or
    /// kind, another kind before, or too many.
    pub(crate) fn define(&self, kind: u8, name: &str, help: &str) -> u32 {
        let kind = match kind {
            1 => MetricKind::Counter,
            2 => MetricKind::Gauge,
            3 => MetricKind::Histogram,
            _ => return 0,
        };
        if !name_is_good(name) {
            return 0;
        }
        let mut metrics = self.metrics.write().expect("no panic under this lock");
        if let Some(at) = metrics.iter().position(|metric| metric.name == name) {
            return if metrics[at].kind == kind { at as u32 + 1 } else { 0 };
        }
        if metrics.len() == METRICS_MAX {
            return 0;
        }
        let mut help = crate::text::sentence(help);
        crate::text::cut(&mut help, METRIC_HELP_BYTES_MAX);
        metrics.push(Arc::new(Metric {
            name: name.to_owned(),
            help,
            kind,
            value: AtomicU64::new(0),
            buckets: Default::default(),
        }));
        metrics.len() as u32
    }

    /// Applies the writes of one successful call; unknown numbers are skipped.
    pub(crate) fn apply(&self, writes: &[MetricWrite]) {
        let metrics = self.metrics.read().expect("no panic under this lock");
        let find = |id: u32| metrics.get((id as usize).wrapping_sub(1));
        for write in writes {
            match *write {
                MetricWrite::Add(id, by) => {
                    if let Some(metric) = find(id).filter(|m| m.kind == MetricKind::Counter) {
                        metric.value.fetch_add(by, Relaxed);
                    }
                }
                MetricWrite::Put(id, value) => {
                    if let Some(metric) = find(id) {
                        metric.put(value);
                    }
                }
            }
        }
    }
}

impl Metric {
    fn put(&self, value: f64) {
        match self.kind {
            MetricKind::Counter => {}
            MetricKind::Gauge => self.value.store(value.to_bits(), Relaxed),
            MetricKind::Histogram => {
                let bucket = BUCKET_BOUNDS.iter().position(|&bound| value <= bound);
                self.buckets[bucket.unwrap_or(BUCKET_BOUNDS.len())].fetch_add(1, Relaxed);
                let _ = self.value.fetch_update(Relaxed, Relaxed, |bits| {
                    Some((f64::from_bits(bits) + value).to_bits())
                });
            }
        }
    }

    fn get(&self) -> MetricSnapshot {
        let bits = self.value.load(Relaxed);
        let histogram = self.kind == MetricKind::Histogram;
        MetricSnapshot {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: self.kind,
            value: if self.kind == MetricKind::Counter {
                bits as f64
            } else {
                f64::from_bits(bits)
            },
            buckets: if histogram {
                self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect()
            } else {
                Vec::new()
            },
        }
    }
}

fn name_is_good(name: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    name.len() <= METRIC_NAME_BYTES_MAX
        && name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_keeps_its_number_and_value_over_generations() {
        let metrics = PolicyMetrics::default();
        let count = metrics.define(1, "seen", "rows seen");
        assert_eq!((count, metrics.define(2, "level", "")), (1, 2));
        metrics.apply(&[MetricWrite::Add(count, 3), MetricWrite::Put(2, 0.5)]);
        assert_eq!(metrics.define(1, "seen", "again"), count);
        metrics.apply(&[MetricWrite::Add(count, 2), MetricWrite::Add(99, 1)]);
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot[0].value, snapshot[1].value), (5.0, 0.5));
    }

    #[test]
    fn what_is_no_metric_is_refused() {
        let metrics = PolicyMetrics::default();
        assert_eq!(metrics.define(1, "Bad Name", ""), 0);
        assert_eq!(metrics.define(9, "seen", ""), 0);
        assert_eq!(metrics.define(1, "seen", ""), 1);
        assert_eq!(metrics.define(2, "seen", ""), 0);
    }

    #[test]
    fn a_histogram_counts_into_buckets() {
        let metrics = PolicyMetrics::default();
        let id = metrics.define(3, "size", "");
        metrics.apply(&[MetricWrite::Put(id, 3.0), MetricWrite::Put(id, 1e12)]);
        let snapshot = &metrics.snapshot()[0];
        assert_eq!((snapshot.buckets[1], snapshot.buckets[12]), (1, 1));
        assert_eq!(snapshot.value, 3.0 + 1e12);
    }
}
