//! Checks a binding's `[config]` against the JSON Schema its policy brings, so
//! that a mistake is named by its path before the policy is even started.

use serde_json::Value;

use crate::text::sentence;

/// Validates `config`; `schema` is JSON text or "" for none.
///
/// # Errors
/// One sentence with the path of the first mistake.
pub(crate) fn validate(schema: &str, config: &Value) -> Result<(), String> {
    if schema.is_empty() {
        return Ok(());
    }
    let schema: Value = serde_json::from_str(schema)
        .map_err(|error| format!("the policy's configuration schema is not JSON: {error}"))?;
    // The schema comes with the plugin: it may not make the broker fetch files
    // or addresses. The crate is built without its resolvers, so it cannot.
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| format!("the policy's configuration schema is not valid: {error}"))?;
    let mut errors = validator.iter_errors(config);
    let Some(first) = errors.next() else { return Ok(()) };
    let path = path_sentence(&first.instance_path().to_string());
    let more = errors.count();
    let mut refusal = format!("{path}: {}", sentence(&first.to_string()));
    if more > 0 {
        refusal.push_str(&format!(" (and {more} more)"));
    }
    Err(refusal)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {
            "type": "object",
            "properties": {"to": {"type": "string"}},
            "required": ["to"],
            "additionalProperties": false
        }}},
        "additionalProperties": false
    }"#;

    #[test]
    fn a_mistake_is_named_by_its_path() {
        validate(SCHEMA, &json!({"rules": [{"to": "a"}]})).unwrap();
        let error = validate(SCHEMA, &json!({"rules": [{"to": "a"}, {"to": 5}]})).unwrap_err();
        assert!(error.starts_with("config.rules[1].to: "), "{error}");
        let error = validate(SCHEMA, &json!({"ruls": []})).unwrap_err();
        assert!(error.starts_with("config: ") && error.contains("ruls"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn no_schema_takes_anything_and_a_bad_one_is_the_policys_fault() {
        validate("", &json!({"x": 1})).unwrap();
        let error = validate("{", &json!({})).unwrap_err();
        assert!(error.contains("policy's configuration schema"), "{error}");
        let error = validate(r#"{"type": 7}"#, &json!({})).unwrap_err();
        assert!(error.contains("not valid"), "{error}");
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(5_000);
        let error = validate(r#"{"type": "object"}"#, &json!(long)).unwrap_err();
        assert!(error.len() < 700, "{}", error.len());
    }
}
