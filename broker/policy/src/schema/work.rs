//! How much work a schema is, found out without doing it: a few lines can ask for
//! more steps than any machine ever takes, since a subschema is looked at once for
//! every way that leads to it.
//!
//! The ways are counted, not walked: what a schema takes on a value is remembered.
//! The counts are bounds from above, for a validator that remembers nothing itself:
//! every branch is taken, and where it may look twice (once to judge, once to
//! explain) both looks count. What no such count can be made of is refused.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{DEPTH_MAX, PATTERNS_MAX, STEPS_MAX, SchemaError};
use crate::text::shown;

/// Keywords that nobody knows the work of. The first two are compiled anew for every
/// way that leads to them, the others mean what the way to them says.
const UNBOUNDED: [&str; 4] =
    ["unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"];
/// Bytes of a text that count as one step.
const TEXT_BYTES_PER_STEP: usize = 64;
/// Stands for a name of a member: a value without parts.
static NAME: Value = Value::Null;

/// Steps that a schema takes on a value, at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// To say whether it is valid.
    pub(super) to_judge: u64,
    /// To name every mistake. Each step may leave one.
    pub(super) to_explain: u64,
}

/// Measures a check of `config` against `schema`, and what comes before: compiling
/// follows references as a check does.
///
/// # Errors
/// It takes too many steps, or nobody knows how many.
pub(super) fn measure(schema: &Value, config: &Value) -> Result<Steps, SchemaError> {
    let mut gauge = Gauge { root: schema, known: HashMap::new(), asked: 0, depth: 0 };
    gauge.survey()?;
    let steps = gauge.steps(schema, Some(config))?;
    if steps.to_judge > STEPS_MAX { Err(SchemaError::TooMuchWork) } else { Ok(steps) }
}

/// To what a subschema applies, seen from the value that its schema applies to.
#[derive(Clone, Copy)]
enum Place<'a> {
    Same,
    Member(&'a str),
    Members,
    /// Those that `properties` does not name.
    OtherMembers,
    Names,
    Element(usize),
    Elements,
}

impl Place<'_> {
    /// The values; none of a value that is not known, but for itself.
    fn of<'v>(
        self,
        keywords: &Map<String, Value>,
        value: Option<&'v Value>,
    ) -> Vec<Option<&'v Value>> {
        match (self, value) {
            (Self::Same, value) => vec![value],
            (Self::Member(name), Some(Value::Object(members))) => {
                members.get(name).into_iter().map(Some).collect()
            }
            (Self::Members, Some(Value::Object(members))) => members.values().map(Some).collect(),
            (Self::OtherMembers, Some(Value::Object(members))) => {
                let named = keywords.get("properties").and_then(Value::as_object);
                let is_named = |name: &str| named.is_some_and(|named| named.contains_key(name));
                let others = members.iter().filter(|(name, _)| !is_named(name));
                others.map(|(_, value)| Some(value)).collect()
            }
            (Self::Names, Some(Value::Object(members))) => vec![Some(&NAME); members.len()],
            (Self::Element(at), Some(Value::Array(list))) => {
                list.get(at).into_iter().map(Some).collect()
            }
            (Self::Elements, Some(Value::Array(list))) => list.iter().map(Some).collect(),
            _ => Vec::new(),
        }
    }
}

struct Gauge<'a> {
    root: &'a Value,
    /// By addresses of schema and value (0: not known); `None` while it is measured.
    known: HashMap<(usize, usize), Option<Steps>>,
    /// How often was asked. The validator takes at least as many steps.
    asked: u64,
    depth: usize,
}

impl<'a> Gauge<'a> {
    /// Measures every schema that can be reached by itself, whatever the value.
    fn survey(&mut self) -> Result<(), SchemaError> {
        let (mut waiting, mut seen) = (vec![self.root], HashSet::new());
        let (mut steps, mut patterns) = (0_u64, 0);
        while let Some(schema) = waiting.pop() {
            let Value::Object(keywords) = schema else { continue };
            if !seen.insert(address(schema)) {
                continue;
            }
            steps = steps.saturating_add(self.steps(schema, None)?.to_judge);
            if steps > STEPS_MAX {
                return Err(SchemaError::TooMuchWork);
            }
            patterns += usize::from(keywords.get("pattern").is_some_and(Value::is_string));
            let by_pattern = keywords.get("patternProperties").and_then(Value::as_object);
            patterns += by_pattern.map_or(0, Map::len);
            if patterns > PATTERNS_MAX {
                return Err(SchemaError::TooManyPatterns);
            }
            waiting.extend(self.parts(schema, keywords)?.into_iter().map(|(_, part)| part));
        }
        Ok(())
    }

    /// What `schema` takes on `value`, or on any by itself.
    fn steps(&mut self, schema: &'a Value, value: Option<&Value>) -> Result<Steps, SchemaError> {
        self.asked += 1;
        if self.asked > STEPS_MAX {
            return Err(SchemaError::TooMuchWork);
        }
        let Value::Object(keywords) = schema else {
            return Ok(Steps { to_judge: 1, to_explain: 1 });
        };
        let key = (address(schema), value.map_or(0, address));
        match self.known.get(&key) {
            Some(Some(steps)) => return Ok(*steps),
            Some(None) => return Err(SchemaError::Endless),
            None => {}
        }
        self.known.insert(key, None);
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SchemaError::TooDeep);
        }
        let own = own_steps(keywords, value);
        // To count takes as long: each part of the value is looked up.
        self.asked = self.asked.saturating_add(own);
        let mut sum = Steps { to_judge: own, to_explain: own };
        for (place, part) in self.parts(schema, keywords)? {
            for value in place.of(keywords, value) {
                let Steps { to_judge, to_explain } = self.steps(part, value)?;
                sum.to_judge = sum.to_judge.saturating_add(to_judge);
                let both = to_judge.saturating_add(to_explain);
                sum.to_explain = sum.to_explain.saturating_add(both);
            }
        }
        self.depth -= 1;
        self.known.insert(key, Some(sum));
        Ok(sum)
    }

    /// The subschemas of `schema`: by the keywords of every draft, since one too many
    /// does no harm.
    fn parts(
        &self,
        schema: &'a Value,
        keywords: &'a Map<String, Value>,
    ) -> Result<Vec<(Place<'a>, &'a Value)>, SchemaError> {
        if !std::ptr::eq(schema, self.root) {
            check_unnamed(keywords)?;
        }
        let mut parts = Vec::new();
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                    parts.extend(list.iter().map(|part| (Place::Same, part)));
                }
                ("prefixItems" | "items", Value::Array(list)) => {
                    let list = list.iter().enumerate();
                    parts.extend(list.map(|(at, part)| (Place::Element(at), part)));
                }
                ("dependentSchemas" | "dependencies", Value::Object(map)) => {
                    parts.extend(map.values().map(|part| (Place::Same, part)));
                }
                ("properties", Value::Object(map)) => {
                    parts.extend(map.iter().map(|(name, part)| (Place::Member(name), part)));
                }
                ("patternProperties", Value::Object(map)) => {
                    parts.extend(map.values().map(|part| (Place::Members, part)));
                }
                ("not" | "if" | "then" | "else", part) => parts.push((Place::Same, part)),
                ("items" | "additionalItems" | "contains", part) => {
                    parts.push((Place::Elements, part));
                }
                ("additionalProperties", part) => parts.push((Place::OtherMembers, part)),
                ("propertyNames", part) => parts.push((Place::Names, part)),
                ("$ref", Value::String(to)) => parts.push((Place::Same, self.target(to)?)),
                // Derived schemas say so, and it means nothing.
                ("unevaluatedProperties" | "unevaluatedItems", Value::Bool(true)) => {}
                (keyword, _) if UNBOUNDED.contains(&keyword) => {
                    return Err(SchemaError::Keyword(keyword.to_owned()));
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// What a reference means.
    fn target(&self, reference: &str) -> Result<&'a Value, SchemaError> {
        let unknown = || SchemaError::Reference(shown(reference).to_owned());
        // Escaped characters may be read in more than one way.
        let pointer = reference.strip_prefix('#').filter(|pointer| !pointer.contains('%'));
        let pointer = pointer.ok_or_else(unknown)?;
        if pointer.is_empty() {
            return Ok(self.root);
        }
        let mut target = self.root;
        for token in pointer.strip_prefix('/').ok_or_else(unknown)?.split('/') {
            let token = token.replace("~1", "/").replace("~0", "~");
            let next = match target {
                Value::Object(map) => map.get(&token),
                Value::Array(list) => token.parse().ok().and_then(|at: usize| list.get(at)),
                _ => None,
            };
            target = next.ok_or_else(unknown)?;
            if let Value::Object(keywords) = target {
                check_unnamed(keywords)?;
            }
        }
        Ok(target)
    }
}

/// References below a schema with a name of its own mean something else than above; one
/// that begins with `#` names a place in the same schema.
fn check_unnamed(keywords: &Map<String, Value>) -> Result<(), SchemaError> {
    let name = ["$id", "id"].iter().find_map(|keyword| keywords.get(*keyword)?.as_str());
    let name = name.filter(|name| !name.starts_with('#'));
    name.map_or(Ok(()), |name| Err(SchemaError::Named(shown(name).to_owned())))
}

/// What a schema takes but for its subschemas: it goes through what it lists
/// (`required`, `enum`), and through the value.
fn own_steps(keywords: &Map<String, Value>, value: Option<&Value>) -> u64 {
    let parts = |value: &Value| match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    let listed: usize = keywords.values().map(parts).sum();
    let text = value.and_then(Value::as_str).map_or(0, |text| text.len() / TEXT_BYTES_PER_STEP);
    1 + (listed + value.map_or(0, parts) + text) as u64
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value) as usize
}
