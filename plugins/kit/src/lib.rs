//! What the shipped policies share: a condition language over JSON fields and
//! headers ([`condition`]), a scanner that finds a few fields without parsing the
//! rest ([`json`]), targets with placeholders ([`template`]), tables of rules
//! ([`rules`], [`table`]), and the settings of filters ([`gate`]) and of trying
//! again ([`retrying`]).
//!
//! Plain functions over bytes: nothing here knows of WebAssembly, and every part
//! is tested natively.

pub mod condition;
pub mod gate;
pub mod json;
mod limits;
pub mod number;
pub mod retrying;
pub mod rules;
pub mod table;
pub mod template;
pub mod value;
