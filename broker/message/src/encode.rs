//! Writing a message. Only publishers, rewriting filters and routers do this.

/// One header: a name and its value, which is text when `text` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name, UTF-8.
    pub name: &'a str,
    /// Value: UTF-8 when `text`, else any bytes.
    pub value: &'a [u8],
    /// Whether the value is written as text (`str`) or as bytes (`bin`).
    pub text: bool,
}

/// Upper bound of what [`encode`] appends, bytes, headers not counted.
#[must_use]
pub const fn encoded_len_max(subject: usize, key: usize, headers: usize, payload: usize) -> usize {
    1 + 5 + subject + 5 + key + headers + 5 + payload
}

/// Appends a message to `out`. `headers` is an encoded MessagePack map, or empty
/// for none (see [`Header::encode_all`]).
#[inline]
pub fn encode(out: &mut Vec<u8>, subject: &str, key: &[u8], headers: &[u8], payload: &[u8]) {
    out.reserve(encoded_len_max(subject.len(), key.len(), headers.len().max(1), payload.len()));
    out.push(0x94);
    write_str(out, subject);
    if key.is_empty() {
        out.push(0xc0)
    } else {
        write_bin(out, key)
    }
    if headers.is_empty() {
        out.push(0xc0)
    } else {
        out.extend_from_slice(headers)
    }
    write_bin(out, payload);
}

impl Header<'_> {
    /// Appends headers as the MessagePack map that [`encode`] takes.
    pub fn encode_all(out: &mut Vec<u8>, headers: &[Header<'_>]) {
        match headers.len() {
            n @ 0..=15 => out.push(0x80 | n as u8),
            n => {
                out.push(0xde);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
        }
        for header in headers {
            write_str(out, header.name);
            if header.text {
                write_str_bytes(out, header.value);
            } else {
                write_bin(out, header.value);
            }
        }
    }
}

#[inline]
fn write_str(out: &mut Vec<u8>, text: &str) {
    write_str_bytes(out, text.as_bytes());
}

#[inline]
fn write_str_bytes(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=0xff => out.extend_from_slice(&[0xd9, n as u8]),
        n @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xdb);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

#[inline]
fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        n @ 0..=0xff => out.extend_from_slice(&[0xc4, n as u8]),
        n @ 0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xc6);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
