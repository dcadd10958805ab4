//! The client against a broker whose every answer is scripted.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs, unreachable_pub)]

mod consuming;
mod losing;
mod peer;
mod publishing;
