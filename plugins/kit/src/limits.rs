//! Bounds that the broker sets. What lies beyond them is refused, or cut, with the
//! configuration, and not message by message.

/// Longest subject, bytes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 255;
/// Deepest subject, tokens.
pub(crate) const SUBJECT_TOKENS_MAX: usize = 32;
/// Targets one message may be sent to.
pub(crate) const TARGETS_MAX: usize = 256;
/// Longest reason that is passed on, bytes; the rest is cut.
pub(crate) const REASON_BYTES_MAX: usize = 512;
/// Most tries of a message that are counted.
pub(crate) const ATTEMPTS_MAX: u32 = u16::MAX as u32;
/// Longest lease or pause, ms (7 days).
pub(crate) const TIMER_MS_MAX: u32 = 7 * 24 * 3_600 * 1_000;
