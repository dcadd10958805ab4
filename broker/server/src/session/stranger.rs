//! Clients of other protocols that come to the wrong port: told so by name, since the
//! first bytes of theirs would else be read as the length of a frame.

use tracing::info;
use weir_protocol::{DecodeError, ErrorCode, WireError};

use super::{Ended, Session};

impl Session {
    /// What follows cannot be told apart any more.
    pub(super) fn refuse_rest(&self, error: &DecodeError) -> Ended {
        match protocol_of(error).filter(|_| !self.open) {
            None => {
                self.error(0, &error.wire());
                Ended("the client broke the protocol")
            }
            Some(protocol) => {
                info!(protocol, "refused: Weir speaks its own protocol on this port");
                self.error(0, &refusal(protocol));
                Ended("the client speaks another protocol")
            }
        }
    }
}

/// The protocol whose first bytes were taken for a length.
fn protocol_of(error: &DecodeError) -> Option<&'static str> {
    let DecodeError::FrameTooLarge { length, .. } = error else { return None };
    match &length.to_be_bytes() {
        [0x16, 3, ..] => Some("TLS"),
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            Some("HTTP")
        }
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}

/// What such a client is told, as far as it can read it.
fn refusal(protocol: &str) -> WireError {
    let text = format!("this looks like {protocol}; Weir speaks its own protocol on this port");
    let hint = "connect with a client of Weir's: weir version --server HOST:PORT; \
                docs/protocol.md tells how to write one";
    WireError { hint: hint.into(), ..WireError::new(ErrorCode::BadFrame, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        let of = |bytes: &[u8; 4]| {
            let length = u32::from_be_bytes(*bytes);
            protocol_of(&DecodeError::FrameTooLarge { length, limit: 4096 })
        };
        assert_eq!(of(b"GET "), Some("HTTP"));
        assert_eq!(of(&[0x16, 3, 1, 2]), Some("TLS"));
        assert_eq!(of(b"\0\x10\0\0"), None);
        assert_eq!(protocol_of(&DecodeError::NoHead), None);
    }
}
