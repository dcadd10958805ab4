//! How long the disk takes for what is written to it, by the kernel's own count: whether a
//! broker that waits for its disk was slow, or the disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The disk that a folder lies on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    major: u64,
    minor: u64,
}

/// What it has done since the machine was started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    flushes: u64,
    /// All writes and flushes, ms.
    took_ms: u64,
}

impl Disk {
    /// The disk of `folder`; `None` where the file system has no device of its own.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let device = folder.metadata().ok()?.dev();
        let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
        let minor = device & 0xff | (device >> 12) & !0xff;
        let disk = Self { major, minor };
        disk.done().map(|_| disk)
    }

    /// What the kernel has counted: `/proc/diskstats`, whose fields its documentation
    /// names in `admin-guide/iostats`.
    pub(crate) fn done(self) -> Option<Done> {
        let stats = std::fs::read_to_string("/proc/diskstats").ok()?;
        stats.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
            ((number(0)?, number(1)?) == (self.major, self.minor)).then_some(())?;
            // Milliseconds of writes and of flushes; the count of these.
            Some(Done { flushes: number(18)?, took_ms: number(10)? + number(19)? })
        })
    }
}

impl Done {
    /// How long a sync has taken since `before`, µs: one flush and the writes there were to
    /// each. `None` where none was counted: of partitions the kernel counts no flushes, and
    /// disks without a cache of their own get none.
    pub(crate) fn sync_us_since(self, before: Self) -> Option<f64> {
        let flushes = self.flushes.saturating_sub(before.flushes);
        let took_ms = self.took_ms.saturating_sub(before.took_ms);
        (flushes > 0).then(|| took_ms as f64 * 1e3 / flushes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_flush_there_is_no_time_of_a_sync() {
        let before = Done { flushes: 10, took_ms: 100 };
        let after = Done { flushes: 14, took_ms: 102 };
        assert_eq!(after.sync_us_since(before), Some(500.0));
        assert_eq!(Done { took_ms: 9_000, ..before }.sync_us_since(before), None);
    }
}
