//! Scripts: what clients do, and what each of them sees of it.
#![allow(clippy::unwrap_used)]

mod delivery;
mod failing;
mod model;
mod ordering;
mod policies;
mod queues;
mod script;
mod streams;
