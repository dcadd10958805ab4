//! A reply of the server in RESP, version 2, as far as publish and subscribe need it.
//!
//! It is read in place from the start of what has come: nothing is copied, and
//! nothing is kept between calls. One that is not whole yet is looked at again from
//! its start, which happens once in a read, not once a message.

use std::fmt;

use anyhow::{Result, bail};

/// What a message begins with, up to the name of its channel.
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
/// What the answer to `SUBSCRIBE` begins with.
const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n";
/// Digits of a length at most: the server takes no more than 512 MiB.
const DIGITS_MAX: usize = 9;
/// Bytes that are told of what is no reply.
const TOLD_BYTES_MAX: usize = 64;

/// See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// The payload of a message.
    Message(&'a [u8]),
    /// A subscription holds.
    Subscribed,
    /// An answer of one line with its sign: `+OK`, `:8`.
    Line(&'a [u8]),
}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(payload) => write!(f, "a message of {} bytes", payload.len()),
            Self::Subscribed => f.write_str("a subscription"),
            Self::Line(line) => write!(f, "{}", line.escape_ascii()),
        }
    }
}

/// The reply that `bytes` begin with, and its length; `None` while it is not whole.
/// An error of the server is an error here.
#[inline]
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    match reply(bytes) {
        Ok((Reply::Line(line), _)) if line.starts_with(b"-") => {
            bail!("the server answers {}", line.escape_ascii())
        }
        Ok((reply, rest)) => Ok(Some((reply, bytes.len() - rest.len()))),
        Err(Stop::Partial) => Ok(None),
        Err(Stop::Malformed) => {
            let told = &bytes[..bytes.len().min(TOLD_BYTES_MAX)];
            bail!("no reply that is known here: {}", told.escape_ascii())
        }
    }
}

/// Why there is no reply.
#[derive(Debug)]
enum Stop {
    /// Its end has not come yet.
    Partial,
    /// No reply goes on like this.
    Malformed,
}

/// What was asked for, and what stands behind it.
type Step<'a, T> = std::result::Result<(T, &'a [u8]), Stop>;

#[inline]
fn reply(bytes: &[u8]) -> Step<'_, Reply<'_>> {
    // Nearly all are messages, so they are looked for first.
    if let Some(rest) = bytes.strip_prefix(MESSAGE) {
        let (_channel, rest) = bulk(rest)?;
        let (payload, rest) = bulk(rest)?;
        return Ok((Reply::Message(payload), rest));
    }
    if MESSAGE.starts_with(bytes) {
        return Err(Stop::Partial);
    }
    if let Some(b'+' | b'-' | b':') = bytes.first() {
        let (line, rest) = line(bytes)?;
        return Ok((Reply::Line(line), rest));
    }
    let ((), rest) = exactly(SUBSCRIBED, bytes)?;
    let (_channel, rest) = bulk(rest)?;
    let ((), rest) = exactly(b":", rest)?;
    let (_subscriptions, rest) = line(rest)?;
    Ok((Reply::Subscribed, rest))
}

#[inline]
fn exactly<'a>(wanted: &[u8], bytes: &'a [u8]) -> Step<'a, ()> {
    match bytes.strip_prefix(wanted) {
        Some(rest) => Ok(((), rest)),
        None if wanted.starts_with(bytes) => Err(Stop::Partial),
        None => Err(Stop::Malformed),
    }
}

/// Bytes behind their length: `$5\r\nhello\r\n`.
#[inline]
fn bulk(bytes: &[u8]) -> Step<'_, &[u8]> {
    let ((), rest) = exactly(b"$", bytes)?;
    let (length, rest) = length(rest)?;
    let (inner, rest) = rest.split_at_checked(length).ok_or(Stop::Partial)?;
    let ((), rest) = exactly(b"\r\n", rest)?;
    Ok((inner, rest))
}

/// A length and the end of its line.
#[inline]
fn length(bytes: &[u8]) -> Step<'_, usize> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS_MAX {
        return Err(Stop::Malformed);
    }
    let (number, rest) = bytes.split_at(digits);
    if number.is_empty() && !rest.is_empty() {
        return Err(Stop::Malformed);
    }
    let length = number.iter().fold(0_usize, |sum, digit| sum * 10 + usize::from(*digit - b'0'));
    let ((), rest) = exactly(b"\r\n", rest)?;
    Ok((length, rest))
}

/// All up to the end of the line.
fn line(bytes: &[u8]) -> Step<'_, &[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\r').ok_or(Stop::Partial)?;
    let (line, rest) = bytes.split_at(end);
    let ((), rest) = exactly(b"\r\n", rest)?;
    Ok((line, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WHOLE: [(&[u8], Reply<'static>); 6] = [
        (b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n", Reply::Message(b"hello")),
        (b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$0\r\n\r\n", Reply::Message(b"")),
        (
            b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$11\r\nhello\r\n$1\r\n\r\n",
            Reply::Message(b"hello\r\n$1\r\n"),
        ),
        (b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n", Reply::Subscribed),
        (b"+OK\r\n", Reply::Line(b"+OK")),
        (b":8\r\n", Reply::Line(b":8")),
    ];

    #[test]
    fn a_reply_is_taken_whole_or_not_at_all() {
        for (bytes, wanted) in WHOLE {
            for cut in 0..bytes.len() {
                assert_eq!(first(&bytes[..cut]).unwrap(), None, "{wanted}, {cut} bytes of it");
            }
            for behind in WHOLE {
                let both = [bytes, behind.0].concat();
                assert_eq!(first(&both).unwrap(), Some((wanted, bytes.len())), "{wanted}");
            }
        }
    }

    #[test]
    fn an_error_of_the_server_is_told() {
        let text = b"-NOPERM no access to the channel\r\n";
        for cut in 0..text.len() {
            assert_eq!(first(&text[..cut]).unwrap(), None);
        }
        let error = first(text).unwrap_err().to_string();
        assert_eq!(error, "the server answers -NOPERM no access to the channel");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let garbage: [&[u8]; 13] = [
            b"x",
            b"\r\n",
            b"\0\xff",
            b"$-1\r\n",
            b"*2\r\n",
            b"*3\r\n$8\r\n",
            b"*3\r\n$7\r\nmassage",
            b"*3\r\n$7\r\nmessage\r\n:1\r\n",
            b"*3\r\n$7\r\nmessage\r\n$-1\r\n",
            b"*3\r\n$7\r\nmessage\r\n$\r\n",
            b"*3\r\n$7\r\nmessage\r\n$1234567890",
            b"*3\r\n$7\r\nmessage\r\n$4\r\nnews!",
            b"+OK\r+",
        ];
        for bytes in garbage {
            assert!(first(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn no_byte_makes_it_panic() {
        for (bytes, _) in WHOLE {
            for at in 0..bytes.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = bytes.to_vec();
                    changed[at] = byte;
                    if let Ok(Some((_, length))) = first(&changed) {
                        assert!(length <= changed.len());
                    }
                }
            }
        }
    }
}
