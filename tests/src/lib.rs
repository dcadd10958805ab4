//! What the tests of the whole share: a broker in this process with folders of
//! its own, a connection below the client library, chance with a seed, and one
//! way to wait.
//!
//! Tests never sleep: they wait for an answer, a delivery, or with [`until`].

#[cfg(feature = "broker")]
mod broker;
mod random;
#[cfg(feature = "broker")]
mod raw;
#[cfg(feature = "broker")]
mod wait;

#[cfg(feature = "broker")]
pub use broker::{TestBroker, now_ms};
pub use random::Random;
#[cfg(feature = "broker")]
pub use raw::{Raw, encoded, publish_frame};
#[cfg(feature = "broker")]
pub use wait::{DEADLINE, at_hand, soon, until};
