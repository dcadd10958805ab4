//! Tests of the whole: a broker on a real socket, real clients, real components.
//! One module a promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod channels;
mod compaction;
mod durable;
mod first_policy;
mod full_queue;
mod hostile_bytes;
mod hostile_policies;
mod judged_runs;
mod large_answers;
mod limits;
mod numbers;
mod queues;
mod reload;
mod request_reply;
mod room;
mod scattered;
mod shipped_policies;
mod shutdown_drains;
mod slow_listener;
mod streams;
mod tidy;
mod traffic;
