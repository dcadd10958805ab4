//! Checks a binding's `[config]` against the JSON Schema its policy brings, so
//! that a mistake is named by its path before the policy is even started.
//!
//! The schema comes with the plugin, and the loader checks on the thread that
//! everything else of it waits for. So a schema is measured first, see [`work`]:
//! what is not sure to end soon is refused, not tried.

#[cfg(test)]
mod tests;
mod work;

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::text::sentence;

/// Longest schema, bytes. A few KiB are usual.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Most steps of one check: subschemas looked at, once for every way that leads to
/// one and every value it applies to, and what they list. A step takes about a
/// microsecond, a rule of a router some 250 of them, and 1 MiB holds 8,000 rules.
const STEPS_MAX: u64 = 4_000_000;
/// Most steps after which all mistakes are named: each may leave a few hundred bytes.
const ALL_STEPS_MAX: u64 = 1_000_000;
/// Most steps after which the first mistake is named. Counted as if everything were
/// wrong, which a mistake in thousands of rules is far from.
const FIRST_STEPS_MAX: u64 = 32_000_000;
/// Deepest nesting of subschemas, through references too: each takes some stack of
/// the loader's thread.
const DEPTH_MAX: usize = 128;
/// Regular expressions of a schema, and the largest when compiled, bytes.
const PATTERNS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Why a configuration is not taken: its fault, or the schema's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    /// The configuration is not as the schema wants it: the first mistake with its path.
    #[error("{0}")]
    Mistake(String),
    /// It has mistakes, and to name them would take too long.
    #[error(
        "config: it does not match the policy's configuration schema, and is too large to say \
         where; try it with a part of it"
    )]
    Somewhere,
    /// The schema is too long.
    #[error(
        "the policy's configuration schema is {0} bytes, at most {max} are allowed; its author \
         has to shorten it",
        max = SCHEMA_BYTES_MAX
    )]
    TooLong(usize),
    /// It is no JSON.
    #[error("the policy's configuration schema is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no schema.
    #[error("the policy's configuration schema is not valid: {0}")]
    Invalid(String),
    /// It refers to something that is not followed.
    #[error(
        "the policy's configuration schema refers to `{0}`, and only references of the form \
         `#/$defs/name` are followed; its author has to write it so"
    )]
    Reference(String),
    /// It uses a keyword whose work is not known beforehand.
    #[error(
        "the policy's configuration schema uses `{0}`, which is not supported; its author has to \
         do without (`additionalProperties` is supported)"
    )]
    Keyword(String),
    /// A part of it has a name of its own, which changes what references mean.
    #[error(
        "a part of the policy's configuration schema calls itself `{0}`; its author has to leave \
         `$id` out there"
    )]
    Named(String),
    /// It refers to itself for the same value.
    #[error(
        "the policy's configuration schema refers to itself without end; its author has to leave \
         that reference out"
    )]
    Endless,
    /// It is nested too deeply.
    #[error(
        "the policy's configuration schema goes more than {max} levels deep; its author has to \
         make it flatter, or this configuration has to be",
        max = DEPTH_MAX
    )]
    TooDeep,
    /// It has too many regular expressions.
    #[error(
        "the policy's configuration schema has more than {max} patterns; its author has to leave \
         some out",
        max = PATTERNS_MAX
    )]
    TooManyPatterns,
    /// To check the configuration would take too long.
    #[error(
        "to check this configuration against the policy's schema takes more than {max} steps; \
         make it smaller, or have the policy's author simplify the schema",
        max = STEPS_MAX
    )]
    TooMuchWork,
}

/// Validates `config`; `schema` is JSON text or "" for none.
///
/// # Errors
/// See [`SchemaError`]; each is one sentence for the operator.
pub(crate) fn validate(schema: &str, config: &Value) -> Result<(), SchemaError> {
    if schema.is_empty() {
        return Ok(());
    }
    if schema.len() > SCHEMA_BYTES_MAX {
        return Err(SchemaError::TooLong(schema.len()));
    }
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| SchemaError::NotJson(error.to_string()))?;
    let steps = work::measure(&schema, config)?;
    // The schema may not make the broker fetch files or addresses: the crate is built
    // without its resolvers, so it cannot. And its patterns may not look around or
    // back: only then is a match sure to end in time.
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
    let validator = jsonschema::options()
        .with_pattern_options(patterns)
        .build(&schema)
        .map_err(|error| SchemaError::Invalid(sentence(&error.to_string())))?;
    if validator.is_valid(config) {
        return Ok(());
    }
    if steps.to_explain > FIRST_STEPS_MAX {
        return Err(SchemaError::Somewhere);
    }
    if steps.to_explain > ALL_STEPS_MAX {
        let Err(first) = validator.validate(config) else { return Ok(()) };
        let path = path_sentence(&first.instance_path().to_string());
        return Err(SchemaError::Mistake(format!("{path}: {}", sentence(&first.to_string()))));
    }
    let mut errors = validator.iter_errors(config);
    let Some(first) = errors.next() else { return Ok(()) };
    let path = path_sentence(&first.instance_path().to_string());
    let more = errors.count();
    let mut refusal = format!("{path}: {}", sentence(&first.to_string()));
    if more > 0 {
        refusal.push_str(&format!(" (and {more} more)"));
    }
    Err(SchemaError::Mistake(refusal))
}

/// `/rules/0/to` becomes `config.rules[0].to`, the way it is written in TOML.
fn path_sentence(pointer: &str) -> String {
    let mut path = String::from("config");
    for token in pointer.split('/').skip(1) {
        if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{token}]"));
        } else {
            path.push('.');
            path.push_str(&token.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}
