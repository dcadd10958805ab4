//! Scripts: what clients do, and what each of them sees of it.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types, reason = "a script keeps a hand in the policies it binds")]

mod chaos;
mod delivery;
mod failing;
mod hands;
mod model;
mod ordering;
mod policies;
mod queues;
mod script;
mod show;
mod streams;
