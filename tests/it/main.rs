//! Tests of the whole: a broker on a real socket, real clients, real components.
//! One module a promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod channels;
