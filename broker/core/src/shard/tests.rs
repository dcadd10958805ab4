//! Scripts: what clients do, and what each of them sees of it.
#![allow(clippy::unwrap_used)]
#![allow(clippy::manual_is_multiple_of, reason = "dice read better as remainders")]
#![allow(clippy::disallowed_methods, reason = "the number of cases comes from outside")]
#![allow(clippy::disallowed_types, reason = "a script keeps a hand in the policies it binds")]

mod chaos;
mod compaction;
mod compaction_model;
mod delivery;
mod failing;
mod hands;
mod lines;
mod model;
mod ordering;
mod policies;
mod queues;
mod restarts;
mod script;
mod show;
mod streams;
