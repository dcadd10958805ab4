//! Readers that follow a stream while it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::{block_on, connect};
use crate::check::{Faults, History};
use crate::story::read_on;

/// Time between two looks at the end of a partition.
const LOOK: Duration = Duration::from_millis(3);

/// One reader a partition, each from the first record on; they end with their
/// connection.
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(History, Faults)>>,
}

impl Readers {
    /// Starts them.
    pub(crate) fn start(address: &str, stream: &'static str, partitions: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..partitions).map(|partition| {
            let (address, stop) = (address.to_owned(), stop.clone());
            std::thread::spawn(move || block_on(follow(&address, stream, partition, &stop)))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Lets them end, and tells what they saw.
    pub(crate) fn histories(self, faults: &mut Faults) -> Vec<History> {
        self.stop.store(true, Ordering::Release);
        let ended = self.threads.into_iter().map(|thread| {
            let (history, found) = thread.join().unwrap();
            faults.join(found);
            history
        });
        ended.collect()
    }
}

async fn follow(
    address: &str,
    stream: &str,
    partition: u16,
    stop: &AtomicBool,
) -> (History, Faults) {
    let (mut history, mut faults) = (History::default(), Faults::default());
    let Ok(client) = connect(address).await else { return (history, faults) };
    let mut looks = tokio::time::interval(LOOK);
    let mut end = 0;
    while !stop.load(Ordering::Acquire) {
        let next = history.records.len() as u64;
        match read_on(&client, stream, partition, next, &mut history, &mut faults).await {
            Err(_) => break,
            Ok(now) if now < end => faults.add(|| format!("{partition} went from {end} to {now}")),
            Ok(now) => end = now,
        }
        looks.tick().await;
    }
    (history, faults)
}
