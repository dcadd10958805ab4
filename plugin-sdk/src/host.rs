//! What the broker offers: log, metrics, clock, kv. Natively, under `cargo test`,
//! the same functions work on in-memory stand-ins that a test can look into and
//! set; see [`test`](crate::test).

#[cfg(target_arch = "wasm32")]
use crate::bindings::weir::policy::{clock, kv as store, log, metrics};
#[cfg(not(target_arch = "wasm32"))]
use crate::native::{clock, log, metrics, store};

/// Urgency of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the usual five")]
#[repr(u8)]
pub enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
    Trace = 5,
}

/// Writes a line to the broker's log; rate-limited per binding.
pub fn write_log(level: Level, message: &str) {
    log::write(level as u8, message);
}

/// Whether lines of this level are kept; saves building them when not.
#[must_use]
pub fn log_enabled(level: Level) -> bool {
    log::enabled(level as u8)
}

/// Wall clock, milliseconds since the Unix epoch; frozen during a call. Traps in
/// a policy whose answers are remembered (`memo_by`).
#[must_use]
pub fn wall_ms() -> u64 {
    clock::wall_ms()
}

/// Microseconds that never run backwards; frozen during a call.
#[must_use]
pub fn steady_us() -> u64 {
    clock::steady_us()
}

/// Logs the panic's message: a panic in a component is a bare trap otherwise.
pub(crate) fn install_panic_hook() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| write_log(Level::Error, &panic.to_string())));
}

/// A number that only grows. Make it in `new`.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Shown with the binding's name in front.
    #[must_use]
    pub fn new(name: &str, help: &str) -> Self {
        Self(metrics::define(1, name, help))
    }

    /// Adds to it.
    pub fn add(self, by: u64) {
        metrics::add(self.0, by);
    }
}

/// A number that goes up and down. Make it in `new`.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Shown with the binding's name in front.
    #[must_use]
    pub fn new(name: &str, help: &str) -> Self {
        Self(metrics::define(2, name, help))
    }

    /// Sets it.
    pub fn set(self, value: f64) {
        metrics::put(self.0, value);
    }
}

/// Counts values by size. Make it in `new`.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Shown with the binding's name in front.
    #[must_use]
    pub fn new(name: &str, help: &str) -> Self {
        Self(metrics::define(3, name, help))
    }

    /// Takes a value in.
    pub fn record(self, value: f64) {
        metrics::put(self.0, value);
    }
}

/// Small state kept by the broker: per binding and shard, in memory, carried over
/// when a new generation of the same policy takes over.
pub mod kv {
    use super::store;

    /// The value of `key`.
    #[must_use]
    pub fn get(key: &str) -> Option<Vec<u8>> {
        store::get(key)
    }

    /// Sets `key`; false when a quota would be passed, the old value then stays.
    /// `ttl_ms` 0 keeps it for ever.
    #[must_use]
    pub fn put(key: &str, value: &[u8], ttl_ms: u64) -> bool {
        store::put(key, value, ttl_ms)
    }

    /// Removes `key`; whether it was there.
    pub fn remove(key: &str) -> bool {
        store::remove(key)
    }

    /// Adds to a counter (absent is 0) and returns the sum.
    pub fn add(key: &str, by: i64, ttl_ms: u64) -> i64 {
        store::add(key, by, ttl_ms)
    }

    /// Keys that start with `prefix`, in order: at most `limit`, and never more than 1,024.
    #[must_use]
    pub fn keys(prefix: &str, limit: u32) -> Vec<String> {
        store::keys(prefix, limit)
    }
}

/// Logs at level error: `log_error!("no rule {number}")`.
#[macro_export]
macro_rules! log_error {
    ($($part:tt)+) => { $crate::log_at!($crate::Level::Error, $($part)+) };
}

/// Logs at level warn.
#[macro_export]
macro_rules! log_warn {
    ($($part:tt)+) => { $crate::log_at!($crate::Level::Warn, $($part)+) };
}

/// Logs at level info.
#[macro_export]
macro_rules! log_info {
    ($($part:tt)+) => { $crate::log_at!($crate::Level::Info, $($part)+) };
}

/// Logs at level debug.
#[macro_export]
macro_rules! log_debug {
    ($($part:tt)+) => { $crate::log_at!($crate::Level::Debug, $($part)+) };
}

/// Logs at a level; the text is built only when somebody keeps it.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $($part:tt)+) => {
        if $crate::log_enabled($level) {
            $crate::write_log($level, &format!($($part)+));
        }
    };
}
