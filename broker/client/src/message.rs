//! A message to publish. It borrows its parts: sending one copies them once, into
//! the buffer that goes to the socket, and allocates only for headers.

use weir_message::{HEADER_NAME_BYTES_MAX, HEADERS_MAX, Header, KEY_BYTES_MAX, SUBJECT_BYTES_MAX};
use weir_protocol::PublishBuilder;
use weir_protocol::limits::DELAY_MS_MAX;

use crate::Error;

/// A message to publish.
///
/// ```
/// use weir_client::Message;
///
/// let message = Message::new("orders.eu.created")
///     .key("customer-7")
///     .header("content-type", "application/json")
///     .payload(r#"{"total": 12}"#);
/// assert_eq!(message.subject(), "orders.eu.created");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    subject: &'a str,
    key: &'a [u8],
    payload: &'a [u8],
    /// The encoded map of headers, empty for none.
    headers: Vec<u8>,
    header_count: usize,
    longest_name: usize,
    pub(crate) delay_ms: u32,
}

impl<'a> Message<'a> {
    /// A message for `subject`, without key, headers and payload.
    #[must_use]
    pub fn new(subject: &'a str) -> Self {
        Self { subject, ..Self::default() }
    }

    /// Sets the key: messages of one key keep their order, and share a partition
    /// of a stream.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = key.as_ref();
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload<P: AsRef<[u8]> + ?Sized>(mut self, payload: &'a P) -> Self {
        self.payload = payload.as_ref();
        self
    }

    /// Adds a header whose value is text.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.push_header(Header { name, value: value.as_bytes(), text: true })
    }

    /// Adds a header whose value is bytes.
    #[must_use]
    pub fn header_bytes(self, name: &str, value: &[u8]) -> Self {
        self.push_header(Header { name, value, text: false })
    }

    /// Asks queues to show the message to their consumers only after `delay_ms`, 7 days
    /// at most: a longer delay makes the message invalid.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: u32) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        self.subject
    }

    fn push_header(mut self, header: Header<'_>) -> Self {
        let start = self.headers.len();
        // `encode_all` writes a map of one; its length byte goes into our own.
        Header::encode_all(&mut self.headers, &[header]);
        self.header_count += 1;
        self.longest_name = self.longest_name.max(header.name.len());
        if self.header_count > 1 {
            self.headers.remove(start);
        }
        match self.header_count {
            count @ 1..=15 => self.headers[0] = 0x80 | count as u8,
            16 => {
                self.headers.splice(0..1, [0xde, 0, 16]);
            }
            count => self.headers[1..3].copy_from_slice(&(count as u16).to_be_bytes()),
        }
        self
    }

    /// Bytes that encoding appends at most.
    pub(crate) fn encoded_len_max(&self) -> usize {
        weir_message::encoded_len_max(
            self.subject.len(),
            self.key.len(),
            self.headers.len().max(1),
            self.payload.len(),
        )
    }

    /// Refuses what no broker would take, before it costs a round trip.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let reason = if self.subject.is_empty() {
            "the subject is empty"
        } else if self.subject.len() > SUBJECT_BYTES_MAX {
            "the subject is longer than 255 bytes"
        } else if self.key.len() > KEY_BYTES_MAX {
            "the key is longer than 1024 bytes"
        } else if self.header_count > HEADERS_MAX {
            "there are more than 64 headers"
        } else if self.longest_name > HEADER_NAME_BYTES_MAX {
            "a header's name is longer than 255 bytes"
        } else if self.delay_ms > DELAY_MS_MAX {
            "the delay is longer than 7 days"
        } else {
            return Ok(());
        };
        Err(Error::InvalidMessage(reason))
    }

    pub(crate) fn encode_into(&self, frame: &mut PublishBuilder, out: &mut Vec<u8>) {
        frame.push_parts(out, self.subject, self.key, &self.headers, self.payload);
    }
}

#[cfg(test)]
mod tests {
    use weir_message::{Headers, View};

    use super::*;

    #[test]
    fn headers_survive_the_step_from_short_to_long_maps() {
        for count in [0, 1, 2, 15, 16, 17, 64] {
            let mut message = Message::new("a.b").key("k").payload("p");
            for index in 0..count {
                message = message.header(&format!("name-{index}"), &format!("value-{index}"));
            }
            assert!(message.check().is_ok());
            let mut out = Vec::new();
            weir_message::encode(&mut out, "a.b", b"k", &message.headers, b"p");
            let view = View::of(&out).expect("well formed");
            let headers: Vec<_> = Headers::of(view.headers).collect();
            assert_eq!(headers.len(), count);
            for (index, (name, value)) in headers.iter().enumerate() {
                assert_eq!(*name, format!("name-{index}"));
                assert_eq!(*value, format!("value-{index}").as_bytes());
            }
        }
    }

    #[test]
    fn what_no_broker_takes_is_refused_here() {
        assert!(Message::new("").check().is_err());
        assert!(Message::new(&"s".repeat(256)).check().is_err());
        assert!(Message::new("s").key(&[0; 1025]).check().is_err());
        let many = (0..65).fold(Message::new("s"), |message, _| message.header("h", "v"));
        assert!(many.check().is_err());
        assert!(Message::new("s").header(&"n".repeat(256), "v").check().is_err());
        assert!(Message::new("s").delay_ms(DELAY_MS_MAX).check().is_ok());
        assert!(Message::new("s").delay_ms(DELAY_MS_MAX + 1).check().is_err());
    }
}
