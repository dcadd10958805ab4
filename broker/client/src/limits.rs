//! Every bound of the client, with units.

use std::time::Duration;

/// Bytes of messages that may wait for the socket before publishing waits.
pub const OUTGOING_BYTES_MAX: usize = 1024 * 1024;
/// Bytes published with confirmation and not yet confirmed, per publisher.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes after which a publish frame is closed and the next one begun. Smaller
/// than what a server takes, so that it can start before the last byte is here.
pub const FRAME_BYTES_TARGET: u32 = 128 * 1024;
/// Messages after which a publish frame is closed.
pub const FRAME_MESSAGES_MAX: u32 = 4096;
/// Bytes of deliveries a channel's subscription keeps for its reader; beyond it
/// messages are skipped and counted.
pub const INBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest that the reader waits for a channel's subscription that lags, before what
/// goes beyond [`INBOX_BYTES_MAX`] is skipped.
pub const LAG_WAIT: Duration = Duration::from_millis(50);
/// Stretches of lost messages kept apart until a consumer's owner takes them; more are joined
/// to the last one of their partition.
pub const LOST_STRETCHES_MAX: usize = 1024;
/// Ranges of delivery tags in one settle frame.
pub const SETTLE_RANGES_MAX: usize = 1024;
/// How long nothing must have been written before a caller that is no task of a runtime
/// writes itself: those that follow closer leave together.
pub const QUIET: Duration = Duration::from_micros(100);
/// Most that such a caller writes itself, bytes: others wait for the lock meanwhile.
pub const CALLER_BYTES_MAX: usize = 64 * 1024;
/// Bytes the reader asks the socket for at once.
pub const READ_BYTES: usize = 256 * 1024;
/// Deliveries in flight to one consumer when nothing else is asked for.
pub const CREDIT: u32 = 256;
/// Longest that the broker is asked to wait for a pull; a longer one asks again. The
/// protocol's limit.
pub const PULL_WAIT_MAX: Duration =
    Duration::from_millis(weir_protocol::limits::PULL_WAIT_MS_MAX as u64);
