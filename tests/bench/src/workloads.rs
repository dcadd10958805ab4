//! The workloads, and what they share: drivers taken in turns, a server of its own
//! for each sample, a window that is measured after a warm-up.

pub(crate) mod durable;
pub(crate) mod fanout;
pub(crate) mod growth;
pub(crate) mod latency;
pub(crate) mod physical;
pub(crate) mod policies;
pub(crate) mod queue;
pub(crate) mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::driver::{Answer, Case, Driver, Receive, Running};
use crate::machine::{Meter, Resources};
use crate::pause::pause;
use crate::results::{Results, Sample};
use crate::stamp::Layout;
use crate::tally::Tally;

/// Payloads of the table, bytes.
pub(crate) const SIZES: [usize; 2] = [128, 1024];
/// Messages a publisher hands over at once where nothing is confirmed.
pub(crate) const BATCH: usize = 128;
/// A listener that has got nothing for so long will get nothing more.
const IDLE: Duration = Duration::from_secs(2);

/// Longest a sample may take beyond its windows: making a million subscriptions.
const PATIENCE: Duration = Duration::from_secs(120);

/// What every workload is given.
pub(crate) struct Bench {
    /// Those that were asked for and found.
    pub(crate) drivers: Vec<Box<dyn Driver>>,
    /// The broker's program, for workloads that start it in their own way.
    pub(crate) weir: PathBuf,
    /// Length of a window.
    pub(crate) window: Duration,
    /// Samples of each cell.
    pub(crate) repeats: usize,
    /// Rows to be measured, by a part of their name; all when empty.
    pub(crate) rows: Vec<String>,
    /// Where servers keep their data; on the disk that is to be measured.
    pub(crate) folder: PathBuf,
    /// What was found so far.
    pub(crate) results: Results,
}

/// How one sample is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) layout: Layout,
}

/// One sample's figures, before they have a place in the table.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) values: Vec<(&'static str, f64)>,
    /// What the server did for a thousand messages, where that is counted.
    pub(crate) counts: Vec<(String, f64)>,
    pub(crate) resources: Option<Resources>,
    pub(crate) faults: crate::tally::Faults,
}

/// A server with its folder, which goes when this does.
pub(crate) struct Stage {
    pub(crate) running: Running,
    _folder: TempDir,
}

impl Bench {
    /// Warm-up and window of a sample.
    pub(crate) fn timing(&self) -> Timing {
        let warm_up = (self.window / 4).max(Duration::from_millis(250));
        Timing { warm_up, window: self.window, layout: Layout::default() }
    }

    /// Takes the samples of one row: all drivers in turns, as often as asked for.
    pub(crate) async fn row<F>(
        &mut self,
        drivers: &[Box<dyn Driver>],
        place: (&str, &str),
        case: Case,
        sample: F,
    ) where
        F: for<'a> Fn(&'a Stage) -> Answer<'a, Vec<(String, Figures)>>,
    {
        for repeat in 0..self.repeats {
            self.once(repeat, drivers, place, case, &sample).await;
        }
    }

    /// Takes one sample of each driver. A row that cannot be measured is told and
    /// kept as a failure; the run goes on.
    pub(crate) async fn once<F>(
        &mut self,
        repeat: usize,
        drivers: &[Box<dyn Driver>],
        (workload, row): (&str, &str),
        case: Case,
        sample: F,
    ) where
        F: for<'a> Fn(&'a Stage) -> Answer<'a, Vec<(String, Figures)>>,
    {
        if !self.rows.is_empty() && !self.rows.iter().any(|part| row.contains(part.as_str())) {
            return;
        }
        for driver in drivers {
            let Some(about) = driver.about(case) else { continue };
            let key = format!("{} ({})", driver.name(), case.label());
            self.results.configurations.insert(key, about);
            match self.sample(driver.as_ref(), case, &sample).await {
                Ok(found) => {
                    for (part, figures) in found {
                        let row = format!("{row}{part}");
                        self.keep((workload, &row), driver.name(), case, repeat, figures);
                    }
                }
                Err(error) => {
                    let (name, repeat) = (driver.name(), repeat + 1);
                    let text = format!(
                        "{workload} {row} {name} [{}] #{repeat}: {error:#}",
                        case.durability()
                    );
                    crate::say(&format!("FAILED {text}"));
                    self.results.failures.push(text);
                }
            }
        }
    }

    async fn sample<F>(
        &self,
        driver: &dyn Driver,
        case: Case,
        sample: F,
    ) -> Result<Vec<(String, Figures)>>
    where
        F: for<'a> Fn(&'a Stage) -> Answer<'a, Vec<(String, Figures)>>,
    {
        let stage = self.stage(driver, case).await?;
        let after = PATIENCE + self.window * 6;
        let outcome = tokio::time::timeout(after, sample(&stage)).await;
        match outcome.context("the sample took too long").and_then(|it| it) {
            Ok(found) => Ok(found),
            Err(error) => {
                bail!("{error:#}; the server said: {}", stage.running.server.last_lines())
            }
        }
    }

    /// Starts a server in a folder of its own.
    pub(crate) async fn stage(&self, driver: &dyn Driver, case: Case) -> Result<Stage> {
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir_in(&self.folder)?;
        let running = driver.start(case, folder.path()).await?;
        Ok(Stage { running, _folder: folder })
    }

    /// Puts figures into the results and tells them.
    pub(crate) fn keep(
        &mut self,
        (workload, row): (&str, &str),
        driver: String,
        case: Case,
        repeat: usize,
        figures: Figures,
    ) {
        let values = figures.values.into_iter().map(|(name, it)| (name.to_owned(), it));
        let sample = Sample {
            workload: workload.to_owned(),
            row: row.to_owned(),
            driver,
            durability: case.durability().to_owned(),
            repeat,
            values: values.chain(figures.counts).collect(),
            resources: figures.resources,
            faults: figures.faults,
        };
        crate::say(&crate::table::line(&sample));
        self.results.samples.push(sample);
    }
}

/// Counters that receivers show and a clock reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Vec<Arc<AtomicU64>>);

impl Shown {
    /// One more receiver's counter.
    pub(crate) fn add(&mut self) -> Arc<AtomicU64> {
        let counter = Arc::new(AtomicU64::new(0));
        self.0.push(counter.clone());
        counter
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|it| it.load(Ordering::Acquire)).sum()
    }

    /// Waits for the warm-up, then measures the window: figures with the rate.
    pub(crate) async fn window(&self, timing: Timing, server: u32) -> Result<Figures> {
        pause(timing.warm_up).await;
        let (mut meter, before, started) = (Meter::start(server), self.sum(), Instant::now());
        pause(timing.window).await;
        let (messages, took) = (self.sum() - before, started.elapsed());
        let used = meter.stop();
        ensure!(messages > 0, "no message arrived in the window");
        Ok(figures(messages, took, used))
    }
}

/// Figures of a window in which so many messages were done with.
pub(crate) fn figures(
    messages: u64,
    took: Duration,
    (resources, counts): (Resources, Vec<(String, f64)>),
) -> Figures {
    let each = |cores: f64| cores * resources.seconds * 1e6 / messages as f64;
    let values = vec![
        ("rate", messages as f64 / took.as_secs_f64()),
        ("server_us", each(resources.server_cores)),
        ("client_us", each(resources.client_cores)),
    ];
    let of_thousand = |count: f64| 1e3 * count / messages as f64;
    let counts = counts
        .into_iter()
        .map(|(name, it)| (format!("{name} per 1,000"), of_thousand(it)))
        .collect();
    Figures { values, counts, resources: Some(resources), ..Figures::default() }
}

/// How many messages there will be; unknown while publishers run.
#[derive(Clone, Debug)]
pub(crate) struct Expected(Arc<AtomicU64>);

impl Default for Expected {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Expected {
    pub(crate) fn set(&self, messages: u64) {
        self.0.store(messages, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Receives until `done` says so, or nothing comes any more although it is known how many
/// there are. It is told how many have come, those that came again counted once, and whether
/// the last look brought nothing.
pub(crate) async fn receive_until(
    mut receiver: Box<dyn Receive>,
    mut tally: Tally,
    known: Expected,
    done: impl Fn(u64, bool) -> bool,
) -> Result<Tally> {
    let mut last = Instant::now();
    let mut count = 0;
    loop {
        receiver.receive(&mut tally).await?;
        tally.show();
        let is_quiet = tally.count() == count;
        count = tally.count();
        if !is_quiet || known.get() == u64::MAX {
            last = Instant::now();
        }
        if done(tally.distinct(), is_quiet) || last.elapsed() > IDLE {
            tally.faults.told = receiver.told();
            return Ok(tally);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Batch;
    use crate::tally::settle;

    /// Brings a payload at a time, then nothing.
    struct Scripted(std::vec::IntoIter<Vec<u8>>);

    impl Receive for Scripted {
        fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
            if let Some(payload) = self.0.next() {
                tally.see(&payload);
            }
            Box::pin(async { Ok(()) })
        }
    }

    /// Of a publisher's messages these, in this order.
    fn bringing(numbers: &[usize]) -> Box<dyn Receive> {
        let mut batch = Batch::new(Layout::Binary, 0, 8, 64);
        batch.renew(0);
        let payloads: Vec<&[u8]> = batch.payloads().collect();
        let brought: Vec<Vec<u8>> = numbers.iter().map(|at| payloads[*at].to_vec()).collect();
        Box::new(Scripted(brought.into_iter()))
    }

    #[tokio::test]
    async fn what_comes_twice_leaves_nothing_behind() {
        let (mut shown, known) = (Shown::default(), Expected::default());
        known.set(3);
        let tally = Tally::ordered(Layout::Binary, shown.add());
        let receiver = bringing(&[0, 0, 1, 2]);
        let tally = receive_until(receiver, tally, known.clone(), |count, _| count >= 3).await;
        let tally = tally.expect("nothing fails");
        assert_eq!((tally.missed(3), tally.faults.duplicates), (0, 1), "a listener");

        let mut shown = Shown::default();
        let tally = Tally::collected(Layout::Binary, shown.add());
        let (receiver, all) = (bringing(&[0, 0, 1, 2]), shown.clone());
        let done = move |_, is_quiet| is_quiet && all.sum() >= 3;
        let tally = receive_until(receiver, tally, known, done).await.expect("nothing fails");
        let faults = settle(&[tally], &[3]);
        assert_eq!((faults.lost, faults.duplicates), (0, 1), "a consumer");
    }
}
