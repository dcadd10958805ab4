//! The sources of new policies, compiled and tested here as they stand.

#![allow(unreachable_pub, reason = "in a project of their own they are reachable")]

#[path = "../templates/delivery.rs"]
mod delivery;
#[path = "../templates/filter.rs"]
mod filter;
#[path = "../templates/router.rs"]
mod router;
