//! What can be chosen when connecting, publishing, subscribing and consuming.

use std::time::Duration;

use crate::limits;

/// How to connect, and what to do when the connection is lost.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Name of this program, shown in the broker's lists and logs.
    pub name: String,
    /// Token handed over in the hello, when the broker asks for one.
    pub token: Option<String>,
    /// Longest wait for the connection and the hello.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to a request.
    pub request_timeout: Duration,
    /// Silence after which the broker is asked whether it lives; after a second
    /// silence of that length the connection counts as lost.
    pub keepalive: Duration,
    /// Whether to reconnect, and how.
    pub reconnect: Reconnect,
    /// Whether messages that were published with confirmation and are unconfirmed
    /// when the connection breaks are published again after it is back. They may
    /// then arrive twice. Without it their receipt fails with
    /// [`Error::ConnectionLost`](crate::Error::ConnectionLost), and the caller decides.
    pub resend_unconfirmed: bool,
    /// Bytes of messages that may wait for the socket before publishing waits.
    pub outgoing_bytes_max: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            name: concat!("weir-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(15),
            reconnect: Reconnect::default(),
            resend_unconfirmed: false,
            outgoing_bytes_max: limits::OUTGOING_BYTES_MAX,
        }
    }
}

impl ConnectOptions {
    /// The same options under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same options without reconnecting: the first loss ends everything.
    #[must_use]
    pub fn without_reconnect(mut self) -> Self {
        self.reconnect.attempts_max = Some(0);
        self
    }
}

/// Waits between attempts to reconnect: doubled each time up to a cap, and spread
/// at random over the upper half, so that a thousand clients do not come back at
/// the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Wait before the second attempt; the first is made at once.
    pub first: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Attempts before giving up; `None` for never, `Some(0)` for none at all.
    pub attempts_max: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(5), attempts_max: None }
    }
}

impl Reconnect {
    /// Wait before attempt `attempt` (0 is the first); `random` chooses where in
    /// the upper half of the interval it lies.
    #[must_use]
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let full = self.first.saturating_mul(1 << (attempt - 1).min(20)).min(self.max);
        let half = full / 2;
        half + half.mul_f64((random % 1024) as f64 / 1024.0)
    }
}

/// How to publish with confirmation.
#[derive(Clone, Copy, Debug)]
pub struct PublisherOptions {
    /// Bytes that may be unconfirmed before
    /// [`Publisher::send`](crate::Publisher::send) waits.
    pub window_bytes_max: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self { window_bytes_max: limits::WINDOW_BYTES_MAX }
    }
}

/// How to subscribe to channels.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// Share group: of its members, one gets each message.
    pub share: Option<String>,
    /// Bytes kept for the reader; beyond it messages are skipped and counted.
    pub inbox_bytes_max: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { share: None, inbox_bytes_max: limits::INBOX_BYTES_MAX }
    }
}

/// How to consume a queue or a group.
#[derive(Clone, Debug)]
pub struct ConsumeOptions {
    /// Deliveries that may be in flight to this consumer, up to 65,536. 0 for a consumer
    /// that only [pulls](crate::Consumer::pull).
    pub credit: u32,
    /// Name of this consumer, shown in lists and handed to the delivery policy.
    pub name: Option<String>,
    /// Labels, handed to the delivery policy.
    pub labels: Vec<(String, String)>,
    /// Whether deliveries are acked by asking for the next ones, rather than by
    /// calling [`ack`](crate::Delivery::ack).
    pub auto_ack: bool,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self { credit: limits::CREDIT, name: None, labels: Vec::new(), auto_ack: false }
    }
}

impl ConsumeOptions {
    /// Default options with this credit.
    #[must_use]
    pub fn credit(credit: u32) -> Self {
        Self { credit, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_stay_in_the_upper_half() {
        let reconnect = Reconnect::default();
        assert_eq!(reconnect.wait(0, 7), Duration::ZERO);
        for attempt in 1..40 {
            let full = (50_u128 << (attempt - 1).min(20)).min(5000);
            for random in [0, 1, 500, 1023, u64::MAX] {
                let wait = reconnect.wait(attempt, random).as_millis();
                assert!(wait >= full / 2 && wait <= full, "attempt {attempt}: {wait} of {full}");
            }
        }
    }
}
