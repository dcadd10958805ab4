//! A message's one encoding: the publisher writes it, and the same bytes go
//! through the publish frame, the log record and every delivery frame.
//!
//! `[subject: str, key: bin | nil, headers: map<str, str | bin> | nil,
//! payload: bin]`, a MessagePack array of four. Whoever needs a part reads it
//! from the bytes; nobody encodes it again. Used by both the wire and the core,
//! which otherwise know nothing of each other.

mod batch;
mod encode;
mod hash;
mod parse;

pub use batch::{Batch, BatchBuilder, Ends};
pub use encode::{Header, encode, encoded_len_max};
pub use hash::key_hash;
pub use parse::{Headers, MessageError, Parts, View, parse, parse_after, same_bytes};

/// Longest subject, bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most headers of one message.
pub const HEADERS_MAX: usize = 64;
/// Longest header name, bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 255;
