//! Finds a few fields of a JSON text without parsing the rest: one pass, no
//! allocation per message, and an early end once everything asked for is found.
//! What lies behind that point is not looked at; text that is not JSON simply
//! has no fields. Where a key stands twice, the first counts, with all that is in it.
//!
//! What every message goes through is inlined by order: in WebAssembly a call costs a
//! look at the deadline and at the stack, and the compiler of components inlines nothing.

use crate::number::Number;
use crate::value::Value;
use weir_plugin_sdk::hash::same_bytes;

/// Most steps of a path, which bounds the recursion.
pub const PATH_STEPS_MAX: usize = 16;

/// The fields to look for, as a tree of their paths.
#[derive(Clone, Debug)]
pub struct Paths {
    nodes: Vec<Node>,
    fields: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: Vec<(String, usize)>,
    field: Option<usize>,
}

/// The values of one message that were looked for; kept and used again. A value
/// is read once, however many conditions ask for it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    slots: Vec<Slot>,
    /// Per node of the paths whether it was met: what stands there again is passed over.
    entered: Vec<bool>,
}

/// A value, or where its bytes lie in the message.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Absent,
    Null,
    Bool(bool),
    Number(Number),
    /// The inside of a string; the flag is set where it has escapes.
    Text(u32, u32, bool),
    Header(u32, u32),
    Compound(u32, u32),
}

impl Node {
    #[inline(always)]
    fn child(&self, key: &[u8]) -> Option<usize> {
        for (name, at) in &self.children {
            if same_bytes(name.as_bytes(), key) {
                return Some(*at);
            }
        }
        None
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], fields: Vec::new() }
    }
}

impl Paths {
    /// Adds the field at `path` (`customer.address.0.city`; numbers count into
    /// arrays) and returns its number, the same for the same path.
    ///
    /// # Errors
    /// When the path is empty, has an empty step or too many.
    pub fn add(&mut self, path: &str) -> Result<usize, String> {
        if path.split('.').any(str::is_empty) {
            return Err(format!("{path:?} is not a field: steps are divided by single dots"));
        }
        if path.split('.').count() > PATH_STEPS_MAX {
            return Err(format!("field {path:?} has more than {PATH_STEPS_MAX} steps"));
        }
        let mut at = 0;
        for step in path.split('.') {
            let known = self.nodes[at].children.iter().find(|(name, _)| name == step);
            at = match known {
                Some(&(_, child)) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.push((step.to_owned(), child));
                    child
                }
            };
        }
        let next = self.fields.len();
        let field = *self.nodes[at].field.get_or_insert(next);
        if field == next {
            self.fields.push(path.to_owned());
        }
        Ok(field)
    }

    /// The paths added, by number.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Looks the fields up in `text`.
    pub fn scan(&self, text: &[u8], found: &mut Found) {
        found.start(self.fields.len());
        found.entered.clear();
        found.entered.resize(self.nodes.len(), false);
        let cursor = Cursor { text, at: 0 };
        let mut scan = Scan { paths: self, cursor, found, missing: self.fields.len() };
        if scan.missing > 0 {
            // Both ends are the end: all found, or nothing more to be found.
            let _ = scan.value(0);
        }
    }
}

impl Found {
    /// Forgets what was found and makes room for `count` values.
    pub(crate) fn start(&mut self, count: usize) {
        self.slots.clear();
        self.slots.resize(count, Slot::Absent);
    }

    /// Remembers a header, unless it was found before; whether it was new.
    pub(crate) fn set_header(&mut self, number: usize, start: usize, end: usize) -> bool {
        self.set(number, Slot::Header(start as u32, end as u32))
    }

    fn set(&mut self, number: usize, slot: Slot) -> bool {
        let new = matches!(self.slots[number], Slot::Absent) && !matches!(slot, Slot::Absent);
        if new {
            self.slots[number] = slot;
        }
        new
    }

    /// Value `number` in the bytes that were scanned.
    #[inline]
    #[must_use]
    pub fn value<'a>(&self, text: &'a [u8], number: usize) -> Value<'a> {
        self.slots[number].value(text)
    }
}

impl Slot {
    /// The JSON value at `text[start..end]`, without space around it; `escaped` where
    /// it is a string with escapes.
    fn of(text: &[u8], start: usize, end: usize, escaped: bool) -> Self {
        match text.get(start) {
            Some(b'"') => Self::Text(start as u32 + 1, end as u32 - 1, escaped),
            Some(b'{' | b'[') => Self::Compound(start as u32, end as u32),
            Some(b'n' | b't' | b'f') => Self::word(&text[start..end]),
            _ => Number::of(&text[start..end]).map_or(Self::Absent, Self::Number),
        }
    }

    fn word(text: &[u8]) -> Self {
        match text {
            b"null" => Self::Null,
            b"true" => Self::Bool(true),
            b"false" => Self::Bool(false),
            _ => Self::Absent,
        }
    }

    #[inline]
    fn value(self, text: &[u8]) -> Value<'_> {
        let bytes = |start: u32, end: u32| &text[start as usize..end as usize];
        match self {
            Self::Absent => Value::Absent,
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(number) => Value::Number(number),
            Self::Text(start, end, escaped) => Value::Text(bytes(start, end), escaped),
            Self::Header(start, end) => Value::Header(bytes(start, end)),
            Self::Compound(start, end) => Value::Compound(bytes(start, end)),
        }
    }
}

/// The elements of a JSON array; ends early where the text is broken.
pub fn elements(array: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut at = 1;
    std::iter::from_fn(move || {
        let mut cursor = Cursor { text: array, at };
        cursor.space();
        if cursor.peek() == Some(b',') {
            cursor.at += 1;
            cursor.space();
        }
        let start = cursor.at;
        if matches!(cursor.peek(), None | Some(b']')) {
            return None;
        }
        let escaped = cursor.skip()?;
        at = cursor.at;
        Some(Slot::of(array, start, cursor.at, escaped).value(array))
    })
}

/// The text of a JSON string's inside, escapes resolved.
#[must_use]
pub fn unescape(inside: &[u8]) -> Option<Vec<u8>> {
    let mut quoted = Vec::with_capacity(inside.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inside);
    quoted.push(b'"');
    serde_json::from_slice::<String>(&quoted).ok().map(String::into_bytes)
}

struct Scan<'a, 'f> {
    paths: &'a Paths,
    cursor: Cursor<'a>,
    found: &'f mut Found,
    missing: usize,
}

impl<'a> Scan<'a, '_> {
    /// Reads one value that `node` stands for. `None` ends the scan.
    fn value(&mut self, node: usize) -> Option<()> {
        self.cursor.space();
        let start = self.cursor.at;
        let paths = self.paths;
        let inner = !paths.nodes[node].children.is_empty()
            && !std::mem::replace(&mut self.found.entered[node], true);
        let mut escaped = false;
        match self.cursor.peek()? {
            b'{' if inner => self.object(node)?,
            b'[' if inner => self.array(node)?,
            _ => escaped = self.cursor.skip()?,
        }
        if let Some(field) = paths.nodes[node].field
            && self.found.set(field, Slot::of(self.cursor.text, start, self.cursor.at, escaped))
        {
            self.missing -= 1;
            if self.missing == 0 {
                return None;
            }
        }
        Some(())
    }

    fn object(&mut self, node: usize) -> Option<()> {
        self.cursor.at += 1;
        self.cursor.space();
        if self.cursor.peek()? == b'}' {
            self.cursor.at += 1;
            return Some(());
        }
        loop {
            self.cursor.space();
            let start = self.cursor.at + 1;
            if self.cursor.peek()? != b'"' {
                return None;
            }
            let escaped = self.cursor.string()?;
            let child = self.child(node, &self.cursor.text[start..self.cursor.at - 1], escaped);
            self.cursor.space();
            if self.cursor.peek()? != b':' {
                return None;
            }
            self.cursor.at += 1;
            match child {
                Some(child) => self.value(child)?,
                None => {
                    self.cursor.space();
                    self.cursor.skip()?;
                }
            }
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn array(&mut self, node: usize) -> Option<()> {
        self.cursor.at += 1;
        self.cursor.space();
        if self.cursor.peek()? == b']' {
            self.cursor.at += 1;
            return Some(());
        }
        for index in 0_usize.. {
            let mut digits = [0; 20];
            let child = self.child(node, write_digits(index, &mut digits), false);
            match child {
                Some(child) => self.value(child)?,
                None => {
                    self.cursor.space();
                    self.cursor.skip()?;
                }
            }
            if self.ends(b']')? {
                return Some(());
            }
        }
        None
    }

    /// After a member: true at the closing bracket, false behind a comma.
    #[inline]
    fn ends(&mut self, bracket: u8) -> Option<bool> {
        self.cursor.space();
        let byte = self.cursor.peek()?;
        self.cursor.at += 1;
        match byte {
            b',' => Some(false),
            byte if byte == bracket => Some(true),
            _ => None,
        }
    }

    #[inline(always)]
    fn child(&self, node: usize, key: &[u8], escaped: bool) -> Option<usize> {
        let node = &self.paths.nodes[node];
        // An escape makes a key longer, never equal.
        if escaped { node.child(&unescape(key)?) } else { node.child(key) }
    }
}

fn write_digits(mut index: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (index % 10) as u8;
        index /= 10;
        if index == 0 {
            return &digits[at..];
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        // The frequent case first: none.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.skip_space();
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Past one value, whatever it is; whether it is a string with escapes. Brackets are
    /// counted, not matched.
    #[inline(always)]
    fn skip(&mut self) -> Option<bool> {
        if self.peek()? == b'"' { self.string() } else { self.skip_other().map(|()| false) }
    }

    fn skip_other(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E') = self.peek()
                {
                    self.at += 1;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Past a string; whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<bool> {
        let mut escaped = false;
        let mut at = self.at + 1;
        loop {
            at = quote_or_escape(self.text, at)?;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Some(escaped);
            }
            escaped = true;
            at += 2;
        }
    }
}

/// Where the next `"` or `\` stands, from `at` on. Eight bytes at a time: most of a
/// payload lies inside of strings, and every turn of a loop costs a look at the deadline.
#[inline]
fn quote_or_escape(text: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The lowest of the high bits set is the first byte that is 0; those above it may
    // be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    while let Some(eight) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("a slice of eight"));
        let hits = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|more| at + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_are_found_wherever_they_stand() {
        // Neighbours of the two, and their twins with the high bit.
        let others = [0x21, 0x23, 0x5b, 0x5d, 0xa2, 0xdc, 0x00, 0xff];
        for len in 0..40 {
            let plain: Vec<u8> = (0..len).map(|at| others[at % others.len()]).collect();
            assert_eq!(quote_or_escape(&plain, 0), None, "{len}");
            for at in 0..len {
                for byte in *b"\"\\" {
                    let mut text = plain.clone();
                    text[at] = byte;
                    text[len - 1] = if at + 1 < len { b'"' } else { byte };
                    assert_eq!(quote_or_escape(&text, 0), Some(at), "{len} {at}");
                    assert_eq!(quote_or_escape(&text, at), Some(at), "{len} {at}");
                }
            }
            assert_eq!(quote_or_escape(&plain, len + 2), None, "an escape at the end");
        }
    }

    fn look(text: &str, path: &str) -> String {
        let mut paths = Paths::default();
        let field = paths.add(path).expect("path");
        let mut found = Found::default();
        paths.scan(text.as_bytes(), &mut found);
        match found.value(text.as_bytes(), field) {
            Value::Text(..) => {
                let value = found.value(text.as_bytes(), field);
                String::from_utf8(value.text().expect("text").into_owned()).expect("UTF-8")
            }
            Value::Number(number) => format!("{:?}", number.as_float()),
            Value::Compound(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn finds_fields_anywhere() {
        let text = r#" { "a" : 1 , "b":{"c":[true,{"d":"x\"y\n"}],"e":null}, "f.g":2,
            "skipped": {"b": {"c": "}]"}}, "last": -2.5e1 } "#;
        assert_eq!(look(text, "a"), "1.0");
        assert_eq!(look(text, "b.c.0"), "Bool(true)");
        assert_eq!(look(text, "b.c.1.d"), "x\"y\n");
        assert_eq!(look(text, "b.e"), "Null");
        assert_eq!(look(text, "b.c"), r#"[true,{"d":"x\"y\n"}]"#);
        assert_eq!(look(text, "last"), "-25.0");
        assert_eq!(look(text, "nothing"), "Absent");
        assert_eq!(look(text, "a.b"), "Absent");
    }

    #[test]
    fn escaped_keys_and_repeated_keys() {
        assert_eq!(look(r#"{"\u0061b": 1}"#, "ab"), "1.0");
        assert_eq!(look(r#"{"a": 1, "a": 2}"#, "a"), "1.0");
    }

    #[test]
    fn of_a_repeated_key_only_the_first_is_looked_into() {
        for first in [r#"{"b": 1}"#, "[1]", "7", "null"] {
            let text = format!(r#"{{"a": {first}, "a": {{"c": 2}}, "d": 3}}"#);
            assert_eq!(look(&text, "a.c"), "Absent", "{text}");
            assert_eq!(look(&text, "d"), "3.0", "{text}");
        }
        // The same key in another place is another one.
        assert_eq!(look(r#"{"x": {"c": 1}, "a": {"c": 2}}"#, "a.c"), "2.0");
    }

    #[test]
    fn words_that_json_does_not_have_are_no_values() {
        for word in ["tru", "truely", "t", "fals", "falsee", "nil", "nulls", "never", "nan"] {
            let text = format!(r#"{{"a": {word}, "b": 1}}"#);
            assert_eq!(look(&text, "a"), "Absent", "{text}");
            assert_eq!(look(&text, "b"), "1.0", "{text}");
        }
    }

    #[test]
    fn agrees_with_a_full_parser_on_every_field() {
        let text = r#"{"id":"a1","n":[1,2,{"x":{"y":[[],{},"z"]}}],"o":{"p":{"q":0.125}},"t":""}"#;
        let parsed: serde_json::Value = serde_json::from_str(text).expect("JSON");
        for path in ["id", "n", "n.0", "n.2.x.y", "n.2.x.y.2", "o.p.q", "o", "t", "n.9", "o.x"] {
            let pointer = format!("/{}", path.replace('.', "/"));
            let expected = match parsed.pointer(&pointer) {
                None => "Absent".to_owned(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(serde_json::Value::Number(number)) => {
                    format!("{:?}", number.as_f64().expect("float"))
                }
                Some(other) => other.to_string(),
            };
            assert_eq!(look(text, path), expected, "{path}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let text = br#"{"a":{"b":[1,"x\\",{"c":true}]},"d":-1.5}"#;
        let mut paths = Paths::default();
        let fields = ["a.b.1", "a.b.2.c", "d", "a"].map(|path| paths.add(path).expect("path"));
        let mut found = Found::default();
        let mut try_one = |text: &[u8]| {
            paths.scan(text, &mut found);
            for field in fields {
                let _ = found.value(text, field).text();
            }
        };
        for cut in 0..text.len() {
            try_one(&text[..cut]);
            for byte in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', 0, 255] {
                let mut bent = text.to_vec();
                bent[cut] = byte;
                try_one(&bent);
            }
        }
    }

    #[test]
    fn elements_of_an_array() {
        let values: Vec<_> = elements(br#"[ 1 , "a", [2], null ]"#).collect();
        assert_eq!(values.len(), 4);
        assert_eq!(values[1], Value::Text(b"a", false));
        assert_eq!(elements(b"[]").count(), 0);
        assert_eq!(elements(b"[1,").count(), 1);
    }

    #[test]
    fn bad_paths_are_refused() {
        let mut paths = Paths::default();
        assert!(paths.add("").is_err());
        assert!(paths.add("a..b").is_err());
        assert!(paths.add(&vec!["a"; PATH_STEPS_MAX + 1].join(".")).is_err());
    }
}
