//! The keeper against a rest that keeps a model of every log.

#![allow(clippy::unwrap_used)]

mod crash;
mod harness;
mod rewrite;
mod rounds;
mod scrub;
mod space;
mod spread;
