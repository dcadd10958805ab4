//! Cutting a byte stream into frames. Called by the read loops of server and
//! client with whatever the socket gave.

use bytes::{Bytes, BytesMut};

use crate::limits::PREFIX_BYTES;
use crate::{DecodeError, limits};

/// Finds whole frames at the start of `buffer` without cutting them out, at most
/// `frames_max`: appends where each lies, its prefix left out. For a reader that
/// cuts all of them off at once and shares one reference count.
///
/// # Errors
/// As [`next_frame`]; what was found before is in `frames` all the same.
pub fn whole_frames(
    buffer: &[u8],
    limit: u32,
    frames_max: usize,
    frames: &mut Vec<(usize, usize)>,
) -> Result<(), DecodeError> {
    let mut at = 0;
    while frames.len() < frames_max {
        let Some(prefix) = buffer[at..].first_chunk::<PREFIX_BYTES>() else { break };
        let length = u32::from_be_bytes(*prefix);
        if length > limit {
            return Err(DecodeError::FrameTooLarge { length, limit });
        }
        if length == 0 {
            return Err(DecodeError::NoHead);
        }
        let (start, end) = (at + PREFIX_BYTES, at + PREFIX_BYTES + length as usize);
        if buffer.len() < end {
            break;
        }
        frames.push((start, end));
        at = end;
    }
    Ok(())
}

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
