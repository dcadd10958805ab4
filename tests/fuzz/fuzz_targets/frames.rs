//! `cargo +nightly fuzz run frames`; see `checks.rs` for what must hold.

#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code, reason = "each target runs one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::frames(bytes));
