//! The cases behind the golden files: what each shows, and the calls that write
//! it.

mod answers;
mod requests;

/// One golden frame.
pub struct Case {
    /// File name without `.hex`: operation, dash, case.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// The frame in a notation like JSON; `h'..'` is a byte string.
    pub shows: &'static str,
    /// The frame with its prefix.
    pub bytes: Vec<u8>,
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut all = requests::cases();
    all.extend(answers::cases());
    all
}

/// An encoded message.
pub fn message(subject: &str, key: &[u8], headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    weir_message::encode(&mut out, subject, key, headers, payload);
    out
}
