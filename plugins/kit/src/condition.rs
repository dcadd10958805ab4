//! Conditions: what an operator writes to say which messages are meant, and the
//! compiled form that judges them. The same language serves JSON fields and
//! headers; a policy looks at one of the two.

use crate::json::{self, Found, Paths};
use crate::number::Number;
use crate::value::Value;
use schemars::JsonSchema;
use serde::Deserialize;
use std::cmp::Ordering;
use weir_plugin_sdk::Headers;
use weir_plugin_sdk::hash::same_bytes;

/// Longest escape in a JSON string, bytes; it stands for one byte at least.
const ESCAPE_BYTES_MAX: usize = 6;

/// A condition as written: one test, or several tied together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Condition {
    /// True when each of these is.
    All(All),
    /// True when one of these is.
    Any(Any),
    /// True when this is not.
    Not(Not),
    /// A single test.
    Test(Test),
}

/// Every condition must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct All {
    /// The conditions.
    pub all: Vec<Condition>,
}

/// One condition must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Any {
    /// The conditions.
    pub any: Vec<Condition>,
}

/// The condition must not hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Not {
    /// The condition.
    pub not: Box<Condition>,
}

/// Compares one value of the message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// A field of the JSON payload: `customer.city`, `items.0.price`.
    pub field: Option<String>,
    /// A header.
    pub header: Option<String>,
    /// How to compare; equality when left out.
    #[serde(default)]
    pub op: Op,
    /// What to compare with: text, number, true or false; a list for `in`;
    /// nothing for `exists` and `null`.
    pub value: Option<serde_json::Value>,
}

/// How to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Equal.
    #[default]
    Eq,
    /// Not equal; also when the value is absent.
    Ne,
    /// Less: numbers by size, texts by bytes.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal to one of a list.
    In,
    /// There at all; null counts as there.
    Exists,
    /// JSON null.
    Null,
    /// A text that contains this one, or an array with this element.
    Contains,
    /// A text that starts with this one.
    Prefix,
    /// A text that ends with this one.
    Suffix,
}

/// Which values a policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Fields of the JSON payload.
    Fields,
    /// Headers.
    Headers,
}

/// The values that conditions and templates use, numbered. Filled while they are
/// compiled, then read once per message.
#[derive(Clone, Debug)]
pub struct Names {
    source: Source,
    paths: Paths,
    headers: Vec<String>,
}

impl Names {
    /// None yet.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, paths: Paths::default(), headers: Vec::new() }
    }

    /// The number of a field or header, new or known.
    ///
    /// # Errors
    /// When it cannot be the name of one.
    pub fn number(&mut self, name: &str) -> Result<usize, String> {
        if self.source == Source::Fields {
            return self.paths.add(name);
        }
        if name.is_empty() {
            return Err("a header has a name".to_owned());
        }
        if let Some(at) = self.headers.iter().position(|known| known == name) {
            return Ok(at);
        }
        self.headers.push(name.to_owned());
        Ok(self.headers.len() - 1)
    }

    /// The paths of the fields.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Looks the headers up. Their values are then in `found`, to be read from the
    /// bytes returned.
    pub fn scan_headers<'a>(&self, mut headers: Headers<'a>, found: &mut Found) -> &'a [u8] {
        let text = headers.rest();
        found.start(self.headers.len());
        let mut missing = self.headers.len();
        while missing > 0
            && let Some((name, value)) = headers.next_bytes()
        {
            if let Some(at) =
                self.headers.iter().position(|known| same_bytes(known.as_bytes(), name))
            {
                let end = text.len() - headers.rest().len();
                missing -= usize::from(found.set_header(at, end - value.len(), end));
            }
        }
        text
    }
}

/// A condition, ready to judge.
#[derive(Clone, Debug)]
pub enum Judge {
    /// Each of these.
    All(Vec<Judge>),
    /// One of these.
    Any(Vec<Judge>),
    /// Not this.
    Not(Box<Judge>),
    /// One comparison.
    Test {
        /// Number of the value.
        name: usize,
        /// How.
        op: Op,
        /// With what: one operand, several for `in`, none for `exists` and `null`.
        with: Vec<Operand>,
    },
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
}

impl Condition {
    /// Compiles it; the names it uses are added to `names`.
    ///
    /// # Errors
    /// A sentence that names the test and what is wrong with it.
    pub fn compile(&self, names: &mut Names) -> Result<Judge, String> {
        let all = |list: &[Self], names: &mut Names| {
            list.iter().map(|one| one.compile(names)).collect::<Result<Vec<_>, _>>()
        };
        match self {
            Self::All(part) => all(&part.all, names).map(Judge::All),
            Self::Any(part) => all(&part.any, names).map(Judge::Any),
            Self::Not(part) => Ok(Judge::Not(Box::new(part.not.compile(names)?))),
            Self::Test(test) => test.compile(names),
        }
    }
}

impl Test {
    fn compile(&self, names: &mut Names) -> Result<Judge, String> {
        let name = match (names.source, &self.field, &self.header) {
            (Source::Fields, Some(field), None) => field,
            (Source::Headers, None, Some(header)) => header,
            (Source::Fields, ..) => {
                return Err("this policy looks at `field`s of the payload, one per test".to_owned());
            }
            (Source::Headers, ..) => {
                return Err("this policy looks at `header`s, one per test".to_owned());
            }
        };
        let wrong = |what: &str| Err(format!("{name}: {:?} {what}", self.op));
        let of_test = |why: String| format!("{name}: {why}");
        let with = match (self.op, &self.value) {
            (Op::Exists | Op::Null, None) => Vec::new(),
            (Op::Exists | Op::Null, Some(_)) => return wrong("takes no value"),
            (_, None) => return wrong("needs a value"),
            (Op::In, Some(serde_json::Value::Array(list))) => {
                list.iter().map(operand).collect::<Result<Vec<_>, _>>().map_err(of_test)?
            }
            (Op::In, Some(_)) => return wrong("needs a list"),
            (_, Some(value)) => vec![operand(value).map_err(of_test)?],
        };
        // No header is an array.
        let text_only = matches!(self.op, Op::Prefix | Op::Suffix)
            || (self.op == Op::Contains && names.source == Source::Headers);
        if text_only && !matches!(with[0], Operand::Text(_)) {
            return wrong("needs a text");
        }
        let ordered = matches!(self.op, Op::Lt | Op::Le | Op::Gt | Op::Ge);
        if ordered && !matches!(with[0], Operand::Text(_) | Operand::Number(_)) {
            return wrong("needs a number or a text");
        }
        Ok(Judge::Test { name: names.number(name)?, op: self.op, with })
    }
}

fn operand(value: &serde_json::Value) -> Result<Operand, String> {
    Ok(match value {
        serde_json::Value::Bool(value) => Operand::Bool(*value),
        serde_json::Value::String(text) => Operand::Text(text.clone()),
        serde_json::Value::Number(number) => {
            let text = number.to_string();
            let number = Number::of(text.as_bytes());
            Operand::Number(number.ok_or_else(|| format!("{text} is not a number"))?)
        }
        other => return Err(format!("{other} is neither text, number, true nor false")),
    })
}

impl Judge {
    /// Whether the condition holds; `value` gives the values by number.
    #[inline]
    pub fn holds<'a>(&self, value: &impl Fn(usize) -> Value<'a>) -> bool {
        match self {
            // The frequent case first, where the compiler may inline it.
            Self::Test { name, op, with } => test(&value(*name), *op, with),
            _ => self.holds_together(value),
        }
    }

    fn holds_together<'a>(&self, value: &impl Fn(usize) -> Value<'a>) -> bool {
        match self {
            Self::All(list) => list.iter().all(|one| one.holds(value)),
            Self::Any(list) => list.iter().any(|one| one.holds(value)),
            Self::Not(one) => !one.holds(value),
            Self::Test { .. } => self.holds(value),
        }
    }
}

#[inline]
fn test(value: &Value<'_>, op: Op, with: &[Operand]) -> bool {
    match op {
        Op::Exists => !matches!(value, Value::Absent),
        Op::Null => matches!(value, Value::Null),
        Op::Eq | Op::In => with.iter().any(|operand| equal(value, operand)),
        Op::Ne => !equal(value, &with[0]),
        Op::Lt => compare(value, &with[0]).is_some_and(Ordering::is_lt),
        Op::Le => compare(value, &with[0]).is_some_and(Ordering::is_le),
        Op::Gt => compare(value, &with[0]).is_some_and(Ordering::is_gt),
        Op::Ge => compare(value, &with[0]).is_some_and(Ordering::is_ge),
        Op::Contains => contains(value, &with[0]),
        Op::Prefix => on_text(value, &with[0], |text, part| text.starts_with(part)),
        Op::Suffix => on_text(value, &with[0], |text, part| text.ends_with(part)),
    }
}

#[inline]
fn equal(value: &Value<'_>, operand: &Operand) -> bool {
    match operand {
        Operand::Bool(expected) => match value {
            Value::Bool(value) => value == expected,
            Value::Header(text) => *text == expected.to_string().as_bytes(),
            _ => false,
        },
        Operand::Text(expected) => match value {
            Value::Header(text) | Value::Text(text, false) => same_bytes(text, expected.as_bytes()),
            // A table asks for one field often: a long text is not read for each rule.
            Value::Text(text, true) if text.len() > ESCAPE_BYTES_MAX * expected.len() => false,
            _ => on_text(value, operand, |text, part| text == part),
        },
        Operand::Number(_) => compare(value, operand) == Some(Ordering::Equal),
    }
}

fn compare(value: &Value<'_>, operand: &Operand) -> Option<Ordering> {
    match operand {
        Operand::Number(number) => value.number()?.compare(*number),
        Operand::Text(text) => Some(value.text()?.as_ref().cmp(text.as_bytes())),
        Operand::Bool(_) => None,
    }
}

fn contains(value: &Value<'_>, operand: &Operand) -> bool {
    match value {
        Value::Compound(array) if array.starts_with(b"[") => {
            json::elements(array).any(|element| equal(&element, operand))
        }
        _ => match operand {
            Operand::Text(part) => value.text().is_some_and(|text| has_part(&text, part)),
            Operand::Bool(_) | Operand::Number(_) => false,
        },
    }
}

/// Whether `part` stands in `text`. The library's search takes time by the length of the
/// text alone, whatever a publisher writes; what is not UTF-8 can be no piece of `part`.
fn has_part(text: &[u8], part: &str) -> bool {
    part.is_empty() || text.utf8_chunks().any(|chunk| chunk.valid().contains(part))
}

fn on_text(value: &Value<'_>, operand: &Operand, test: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let Operand::Text(part) = operand else { return false };
    value.text().is_some_and(|text| test(&text, part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Found;

    fn on_payload(condition: &str, payload: &str) -> bool {
        let condition: Condition = serde_json::from_str(condition).expect("condition");
        let mut names = Names::new(Source::Fields);
        let judge = condition.compile(&mut names).expect("compiles");
        let mut found = Found::default();
        names.paths().scan(payload.as_bytes(), &mut found);
        judge.holds(&|number| found.value(payload.as_bytes(), number))
    }

    #[test]
    fn each_operator_on_payloads() {
        let payload = r#"{"delay": 61, "city": "Ulm", "tags": ["a", 7], "x": null, "ok": true,
            "price": 9.5, "text": "a\tb"}"#;
        let cases = [
            (r#"{"field":"delay","op":"gt","value":60}"#, true),
            (r#"{"field":"delay","op":"gt","value":61}"#, false),
            (r#"{"field":"delay","op":"ge","value":61.0}"#, true),
            (r#"{"field":"price","op":"lt","value":10}"#, true),
            (r#"{"field":"price","op":"le","value":9.4}"#, false),
            (r#"{"field":"delay","value":61}"#, true),
            (r#"{"field":"delay","value":"61"}"#, false),
            (r#"{"field":"city","op":"in","value":["Bonn","Ulm"]}"#, true),
            (r#"{"field":"city","op":"lt","value":"V"}"#, true),
            (r#"{"field":"city","op":"prefix","value":"U"}"#, true),
            (r#"{"field":"city","op":"suffix","value":"n"}"#, false),
            (r#"{"field":"city","op":"contains","value":"l"}"#, true),
            (r#"{"field":"tags","op":"contains","value":7}"#, true),
            (r#"{"field":"tags","op":"contains","value":"b"}"#, false),
            (r#"{"field":"x","op":"exists"}"#, true),
            (r#"{"field":"y","op":"exists"}"#, false),
            (r#"{"field":"x","op":"null"}"#, true),
            (r#"{"field":"y","op":"null"}"#, false),
            (r#"{"field":"y","op":"ne","value":1}"#, true),
            (r#"{"field":"ok","value":true}"#, true),
            (r#"{"field":"text","value":"a\tb"}"#, true),
            (
                r#"{"all":[{"field":"ok","value":true},{"field":"delay","op":"lt","value":0}]}"#,
                false,
            ),
            (r#"{"any":[{"field":"ok","value":false},{"not":{"field":"y","op":"exists"}}]}"#, true),
        ];
        for (condition, expected) in cases {
            assert_eq!(on_payload(condition, payload), expected, "{condition}");
        }
    }

    #[test]
    fn ids_of_64_bits_are_told_apart() {
        let id = r#"{"id": 18446744073709551615}"#;
        assert!(on_payload(r#"{"field":"id","value":18446744073709551615}"#, id));
        assert!(!on_payload(r#"{"field":"id","value":18446744073709551614}"#, id));
        let id = r#"{"id": 9223372036854775808}"#;
        assert!(!on_payload(r#"{"field":"id","value":9223372036854775807}"#, id));
        assert!(on_payload(r#"{"field":"id","op":"gt","value":9223372036854775807}"#, id));
    }

    #[test]
    fn escaped_texts_are_equal_to_what_they_stand_for() {
        let is = |value: &str, payload: &str| {
            on_payload(&format!(r#"{{"field":"a","value":"{value}"}}"#), payload)
        };
        assert!(is("A", r#"{"a": "\u0041"}"#));
        assert!(is("AA", r#"{"a": "\u0041\u0041"}"#));
        assert!(!is("A", r#"{"a": "\u0041\u0041"}"#));
        assert!(!is("", r#"{"a": "\n"}"#));
        assert!(!is("A", r#"{"a": "\n\n\n\n\n\n\n"}"#));
    }

    #[test]
    fn parts_are_found_between_bytes_that_are_no_text() {
        let bytes = b"\xff\xe2\x82ab\xe2\x82\xacc\xffd";
        for part in ["", "a", "ab", "b\u{20ac}c", "\u{20ac}", "d"] {
            assert!(has_part(bytes, part), "{part}");
        }
        for part in ["ac", "cd", "ba", "dd"] {
            assert!(!has_part(bytes, part), "{part}");
        }
        assert!(has_part(b"", ""));
        assert!(!has_part(b"", "a"));
    }

    #[test]
    fn payloads_that_are_no_json_match_nothing() {
        assert!(!on_payload(r#"{"field":"a","op":"exists"}"#, "not json"));
        assert!(!on_payload(r#"{"field":"a","op":"exists"}"#, ""));
    }

    #[test]
    fn headers_read_as_what_they_are_compared_with() {
        let condition = r#"{"all":[{"header":"age","op":"ge","value":18},
            {"header":"age","value":"20"}, {"header":"empty","op":"exists"},
            {"not":{"header":"absent","op":"exists"}}]}"#;
        let condition: Condition = serde_json::from_str(condition).expect("condition");
        let mut names = Names::new(Source::Headers);
        let judge = condition.compile(&mut names).expect("compiles");
        let mut found = Found::default();
        let encoded = b"\x84\xa1x\xa11\xa3age\xa220\xa5empty\xa0\xa3age\xa19";
        let text = names.scan_headers(Headers::of(encoded), &mut found);
        assert!(judge.holds(&|number| found.value(text, number)), "the first of a name counts");
    }

    #[test]
    fn mistakes_are_named() {
        let compile = |text: &str| {
            let condition: Condition = serde_json::from_str(text).expect("condition");
            condition.compile(&mut Names::new(Source::Fields)).expect_err(text)
        };
        assert!(compile(r#"{"header":"a","value":1}"#).contains("field"));
        assert!(compile(r#"{"field":"a","op":"in","value":1}"#).contains("list"));
        assert!(compile(r#"{"field":"a","op":"lt"}"#).contains("needs a value"));
        assert!(compile(r#"{"field":"a","op":"prefix","value":1}"#).contains("text"));
        assert!(compile(r#"{"field":"a","value":[1]}"#).starts_with("a: "));
        assert!(compile(r#"{"field":"a","op":"in","value":[{}]}"#).starts_with("a: "));
    }

    #[test]
    fn a_header_contains_texts_only() {
        let compile = |text: &str| {
            let condition: Condition = serde_json::from_str(text).expect("condition");
            condition.compile(&mut Names::new(Source::Headers)).map(drop)
        };
        assert_eq!(compile(r#"{"header":"a","op":"contains","value":"7"}"#), Ok(()));
        let error = compile(r#"{"header":"a","op":"contains","value":7}"#).expect_err("a number");
        assert!(error.contains("needs a text"), "{error}");
    }
}
