//! Deliveries and records as text and as JSON.

use serde_json::{Map, Value};
use weir_client::{Delivery, Headers, View};

use super::failure::Failure;
use super::output::Output;
use super::printable::printable;
use super::time;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people: where it came from, then the payload.
    Text,
    /// One JSON object a line; `stored` messages have a time and an offset.
    Json {
        /// Whether they come from a queue or stream.
        stored: bool,
    },
    /// The payload and a line end, nothing else.
    Raw,
}

impl Form {
    pub(crate) fn of(json: bool, raw: bool, stored: bool) -> Self {
        match (raw, json) {
            (true, _) => Self::Raw,
            (false, true) => Self::Json { stored },
            (false, false) => Self::Text,
        }
    }
}

/// Writes one message.
pub(crate) fn write(out: &mut Output, form: Form, delivery: &Delivery) -> Result<(), Failure> {
    match form {
        Form::Raw => {
            out.bytes(delivery.payload())?;
            out.bytes(b"\n")
        }
        Form::Json { stored } => out.json_line(&json(delivery, stored)),
        Form::Text => {
            out.bytes(printable(delivery.subject().as_bytes()).as_bytes())?;
            if !delivery.key().is_empty() {
                out.bytes(b" (")?;
                out.bytes(printable(delivery.key()).as_bytes())?;
                out.bytes(b")")?;
            }
            if delivery.attempt > 1 {
                out.bytes(format!(" attempt {}", delivery.attempt).as_bytes())?;
            }
            out.bytes(b"  ")?;
            out.bytes(printable(delivery.payload()).as_bytes())?;
            out.bytes(b"\n")
        }
    }
}

/// One message as an object. Bytes that are not UTF-8 are written as base64 under
/// another name, so that nobody takes one for the other.
fn json(delivery: &Delivery, stored: bool) -> Value {
    let mut object = Map::new();
    put_message(&mut object, &delivery.view());
    if stored {
        object.insert("time".into(), time::text(delivery.time_ms).into());
        object.insert("partition".into(), delivery.partition.into());
        object.insert("offset".into(), delivery.offset.into());
        object.insert("attempt".into(), delivery.attempt.into());
    }
    object.into()
}

/// What a message says, as keys of an object.
pub(crate) fn put_message(object: &mut Map<String, Value>, view: &View<'_>) {
    object.insert("subject".into(), view.subject.into());
    if !view.key.is_empty() {
        put_bytes(object, "key", view.key);
    }
    let mut headers = Map::new();
    for (name, value) in Headers::of(view.headers) {
        put_bytes(&mut headers, name, value);
    }
    if !headers.is_empty() {
        object.insert("headers".into(), headers.into());
    }
    put_bytes(object, "payload", view.payload);
}

fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |group, &byte| group << 8 | u32::from(byte));
        let group = group << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_everywhere() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0]), "//4A");
    }

    #[test]
    fn bytes_that_are_no_text_have_another_name() {
        let mut object = Map::new();
        put_bytes(&mut object, "payload", b"caf\xc3\xa9");
        put_bytes(&mut object, "key", &[0xff]);
        let object = Value::from(object);
        assert_eq!(object["payload"], "café");
        assert_eq!(object["key_base64"], "/w==");
        assert_eq!(object.get("key"), None);
    }
}
