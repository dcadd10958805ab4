//! Many seeds, nothing of which is shared, on as many threads as there are processors.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;

/// What `run` makes of each seed, not in their order. A panic ends the test, and no further
/// seed is begun.
pub fn side_by_side<T: Send>(seeds: &[u64], run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    struct EndOnPanic<'a>(&'a AtomicUsize);
    impl Drop for EndOnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.store(usize::MAX / 2, Relaxed);
            }
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let _end = EndOnPanic(&next);
        let mut made = Vec::new();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Relaxed)) {
            made.push(run(seed));
        }
        made
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let whole = |thread: ScopedJoinHandle<'_, Vec<T>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(whole).collect()
    })
}
