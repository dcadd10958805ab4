//! The limits: what disk and loopback do by themselves.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, Figures, SIZES};
use crate::driver::Case;
use crate::machine::{Resources, metered};
use crate::raw;

/// Name of the column.
pub(crate) const LIMIT: &str = "limit";
/// Sizes of synced writes, bytes: a sector, and a page.
const SYNC_BYTES: [usize; 2] = [512, 4096];

type Found = Vec<(String, f64, Resources)>;

/// All limits, for these repeats.
pub(crate) async fn run(bench: &mut Bench, repeats: Range<usize>) {
    for repeat in repeats {
        let (folder, window) = (bench.folder.clone(), bench.window.min(Duration::from_secs(1)));
        let found = tokio::task::spawn_blocking(move || all(folder, window)).await;
        match found.context("the thread ended").and_then(|it| it) {
            Ok(found) => {
                for (row, rate, resources) in found {
                    let (values, resources) = (vec![("rate", rate)], Some(resources));
                    let figures = Figures { values, resources, ..Figures::default() };
                    let place = ("limits", row.as_str());
                    bench.keep(place, LIMIT.to_owned(), Case::PubSub, repeat, figures);
                }
            }
            Err(error) => bench.results.failures.push(format!("limits: {error:#}")),
        }
    }
}

fn all(folder: PathBuf, window: Duration) -> Result<Found> {
    let folder = tempfile::tempdir_in(folder)?;
    let mut found = Vec::new();
    let mut keep = |row: String, work: &dyn Fn() -> Result<f64>| {
        let (rate, resources) = metered(work);
        found.push((row, rate?, resources));
        anyhow::Ok(())
    };
    for bytes in SYNC_BYTES {
        for (way, name) in raw::WAYS {
            let row = format!("{name}, {bytes} B, per s");
            keep(row, &|| raw::syncs(folder.path(), way, bytes, window))?;
        }
    }
    keep("sequential write, MB/s".to_owned(), &|| Ok(raw::writes(folder.path())? / 1e6))?;
    keep("loopback round trip, per s".to_owned(), &|| raw::round_trips(200, window))?;
    for size in SIZES {
        let row = format!("loopback, one hop, {size} B frames/s");
        keep(row, &|| Ok(raw::one_way(size, window)? / size as f64))?;
    }
    Ok(found)
}
