//! Targets with placeholders: `late.{origin}`, `audit.{$subject}`.

use crate::limits::{SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX};

/// Writes the value of a placeholder; false when there is none to write.
pub type Write<'w> = &'w dyn Fn(usize, &mut String) -> bool;

/// The placeholder for the message's own subject.
pub const OWN_SUBJECT: &str = "$subject";

/// A target: fixed text and placeholders in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// The whole text where there is no placeholder: the frequent case.
    fixed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    OwnSubject,
    Value(usize),
}

impl Template {
    /// Reads a template. `number` gives the number of a placeholder's value.
    ///
    /// # Errors
    /// A sentence that names the template and what is wrong with it.
    pub fn parse(
        text: &str,
        number: &mut dyn FnMut(&str) -> Result<usize, String>,
    ) -> Result<Self, String> {
        let wrong = |what: &str| format!("target {text:?} {what}");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, after) = after.split_once('}').ok_or_else(|| wrong("has no closing }"))?;
            parts.push(match name {
                OWN_SUBJECT => Part::OwnSubject,
                name => Part::Value(number(name).map_err(|why| wrong(&why))?),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let fixed_text = || {
            parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            })
        };
        let foreign = |char: char| {
            matches!(char, '}' | '*' | '>') || char.is_whitespace() || char.is_control()
        };
        if fixed_text().any(|text| text.contains(foreign)) {
            return Err(wrong("contains a character that no subject has"));
        }
        let fixed = parts.iter().all(|part| matches!(part, Part::Text(_)));
        let fixed = fixed.then(|| fixed_text().collect::<String>());
        match &fixed {
            Some(subject) if !is_subject(subject) => Err(wrong("is no subject")),
            _ => Ok(Self { parts, fixed }),
        }
    }

    /// The subject it stands for, in `scratch` unless it needs no writing. `None`
    /// when a placeholder has no value, or the result is no subject or one of the
    /// broker's own by what a value begins with.
    #[inline]
    pub fn render<'t>(
        &'t self,
        own_subject: &'t str,
        scratch: &'t mut String,
        value: Write<'_>,
    ) -> Option<&'t str> {
        if let Some(fixed) = &self.fixed {
            return Some(fixed);
        }
        if let [Part::OwnSubject] = *self.parts {
            return Some(own_subject);
        }
        self.fill(own_subject, scratch, value)
    }

    fn fill<'t>(
        &'t self,
        own_subject: &'t str,
        scratch: &'t mut String,
        value: Write<'_>,
    ) -> Option<&'t str> {
        scratch.clear();
        for part in &self.parts {
            match part {
                Part::Text(text) => scratch.push_str(text),
                Part::OwnSubject => scratch.push_str(own_subject),
                Part::Value(number) => {
                    if !value(*number, scratch) {
                        return None;
                    }
                }
            }
        }
        let by_value = matches!(self.parts.first(), Some(Part::Value(_)));
        let good = is_subject(scratch) && !(by_value && is_reserved(scratch));
        good.then_some(scratch.as_str())
    }
}

/// Whether the broker takes it for a subject, as far as its characters are right.
fn is_subject(text: &str) -> bool {
    text.len() <= SUBJECT_BYTES_MAX
        && !text.split('.').any(str::is_empty)
        && text.split('.').count() <= SUBJECT_TOKENS_MAX
}

/// Whether it is a subject that clients may not publish to: they shall not get there by
/// what they write into a message either.
fn is_reserved(subject: &str) -> bool {
    subject.starts_with('_') && !subject.starts_with("_inbox.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<Option<String>, String> {
        let template = Template::parse(text, &mut |name| match name {
            "a" => Ok(0),
            "none" => Ok(1),
            other => Err(format!("knows no {other}")),
        })?;
        let mut scratch = String::new();
        let value = |number: usize, out: &mut String| {
            out.push('A');
            number == 0
        };
        Ok(template.render("own.one", &mut scratch, &value).map(str::to_owned))
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(render("fixed.one"), Ok(Some("fixed.one".to_owned())));
        assert_eq!(render("x.{a}.y{a}"), Ok(Some("x.A.yA".to_owned())));
        assert_eq!(render("{$subject}"), Ok(Some("own.one".to_owned())));
        assert_eq!(render("audit.{$subject}"), Ok(Some("audit.own.one".to_owned())));
        assert_eq!(render("x.{none}"), Ok(None));
    }

    #[test]
    fn what_the_broker_takes_for_no_subject_is_none() {
        let long = |bytes: usize| "x".repeat(bytes);
        assert_eq!(render(&long(255)), Ok(Some(long(255))));
        assert!(render(&long(256)).is_err());
        let filled = format!("A{}", long(254));
        assert_eq!(render(&format!("{{a}}{}", long(254))), Ok(Some(filled)));
        assert_eq!(render(&format!("{{a}}{}", long(255))), Ok(None));
        let deep = |tokens: usize| vec!["x"; tokens].join(".");
        assert_eq!(render(&deep(32)), Ok(Some(deep(32))));
        assert!(render(&deep(33)).is_err());
        // Its own subject has two.
        let filled = format!("own.one.{}", deep(30));
        assert_eq!(render(&format!("{{$subject}}.{}", deep(30))), Ok(Some(filled)));
        assert_eq!(render(&format!("{{$subject}}.{}", deep(31))), Ok(None));
    }

    #[test]
    fn values_do_not_lead_to_reserved_subjects() {
        let render = |text: &str, filling: &str| {
            let template = Template::parse(text, &mut |_| Ok(0)).expect(text);
            let mut scratch = String::new();
            let value = |_: usize, out: &mut String| {
                out.push_str(filling);
                true
            };
            template.render("own", &mut scratch, &value).map(str::to_owned)
        };
        assert_eq!(render("{a}", "_b"), None);
        assert_eq!(render("{a}.x", "_b"), None);
        assert_eq!(render("{a}x", "_inbox"), None);
        let good = [
            ("{a}.x", "_inbox", "_inbox.x"),
            ("x.{a}", "_b", "x._b"),
            // The operator's own wish.
            ("_x.{a}", "b", "_x.b"),
        ];
        for (text, filling, subject) in good {
            assert_eq!(render(text, filling).as_deref(), Some(subject));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "a..b", "a.{a", "a.*", "a b", "x.{b}", ".a", "a}"] {
            assert!(render(text).is_err(), "{text}");
        }
        for text in ["a\u{7}b", "a\u{7f}.{a}"] {
            assert!(render(text).is_err(), "{text:?}");
        }
    }
}
