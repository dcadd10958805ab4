//! Cutting a byte stream into frames. Called by the read loops of server and
//! client with whatever the socket gave.

use bytes::{Bytes, BytesMut};

use crate::limits::PREFIX_BYTES;
use crate::{DecodeError, limits};

/// Takes the next whole frame out of `buffer`, without its prefix and without a
/// copy; `None` when more bytes are needed. `limit` is the longest frame allowed
/// now, bytes: see [`limits`].
///
/// A reader must not reserve what a prefix promises before the bytes arrive; it
/// reserves a fixed amount per read and lets the buffer grow.
///
/// # Errors
/// [`DecodeError::FrameTooLarge`] and, for an empty frame, [`DecodeError::NoHead`].
/// After an error the stream cannot be read on.
pub fn next_frame(buffer: &mut BytesMut, limit: u32) -> Result<Option<Bytes>, DecodeError> {
    debug_assert!(limit <= limits::FRAME_BYTES_CEILING + limits::ANSWER_SLACK_BYTES);
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    if length > limit {
        return Err(DecodeError::FrameTooLarge { length, limit });
    }
    if length == 0 {
        return Err(DecodeError::NoHead);
    }
    let whole = PREFIX_BYTES + length as usize;
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut frame = buffer.split_to(whole).freeze();
    bytes::Buf::advance(&mut frame, PREFIX_BYTES);
    Ok(Some(frame))
}
