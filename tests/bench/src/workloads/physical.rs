//! The limits: what disk and loopback do by themselves.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, Figures, SIZES};
use crate::driver::Case;
use crate::raw;

/// Name of the column.
pub(crate) const LIMIT: &str = "limit";
/// Sizes of synced writes, bytes: a sector, and a page.
const SYNC_BYTES: [usize; 2] = [512, 4096];

type Found = Vec<(String, f64)>;

/// All limits, as often as asked for.
pub(crate) async fn run(bench: &mut Bench) {
    for repeat in 0..bench.repeats {
        let (folder, window) = (bench.folder.clone(), bench.window.min(Duration::from_secs(1)));
        let found = tokio::task::spawn_blocking(move || all(folder, window)).await;
        match found.context("the thread ended").and_then(|it| it) {
            Ok(found) => {
                for (row, rate) in found {
                    let figures = Figures { values: vec![("rate", rate)], ..Figures::default() };
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
    for bytes in SYNC_BYTES {
        for (way, name) in raw::WAYS {
            let rate = raw::syncs(folder.path(), way, bytes, window)?;
            found.push((format!("{name}, {bytes} B, per s"), rate));
        }
    }
    found.push(("sequential write, MB/s".to_owned(), raw::writes(folder.path())? / 1e6));
    found.push(("loopback round trip, per s".to_owned(), raw::round_trips(200, window)?));
    for size in SIZES {
        let rate = raw::one_way(size, window)? / size as f64;
        found.push((format!("loopback, one hop, {size} B frames/s"), rate));
    }
    Ok(found)
}
