//! What is refused of schemas and configurations, and in which words.

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

fn refusal(schema: &str, config: &Value) -> String {
    validate(schema, config).unwrap_err().to_string()
}

fn check(schema: &Value, config: &Value) -> Result<(), SchemaError> {
    validate(&schema.to_string(), config)
}

/// Definitions `a0` to `a49`; each is `tie`d of the next twice. The last is empty.
fn doubling(tie: &str) -> Value {
    let next = |at: usize| json!({"$ref": format!("#/$defs/a{}", at + 1)});
    let mut definitions: serde_json::Map<_, _> =
        (0..49).map(|at| (format!("a{at}"), json!({tie: [next(at), next(at)]}))).collect();
    definitions.insert("a49".to_owned(), json!({}));
    json!(definitions)
}

#[test]
fn a_mistake_is_named_by_its_path() {
    validate(SCHEMA, &json!({"rules": [{"to": "a"}]})).unwrap();
    let error = refusal(SCHEMA, &json!({"rules": [{"to": "a"}, {"to": 5}]}));
    assert!(error.starts_with("config.rules[1].to: "), "{error}");
    let error = refusal(SCHEMA, &json!({"ruls": []}));
    assert!(error.starts_with("config: ") && error.contains("ruls"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn no_schema_takes_anything_and_a_bad_one_is_the_policys_fault() {
    validate("", &json!({"x": 1})).unwrap();
    let error = refusal("{", &json!({}));
    assert!(error.contains("policy's configuration schema"), "{error}");
    let error = refusal(r#"{"type": 7}"#, &json!({}));
    assert!(error.contains("not valid"), "{error}");
}

#[test]
fn long_values_are_cut() {
    let error = refusal(r#"{"type": "object"}"#, &json!("x".repeat(5_000)));
    assert!(error.len() < 700, "{}", error.len());
}

#[test]
fn a_schema_that_doubles_with_every_line_is_refused() {
    for tie in ["allOf", "anyOf", "oneOf"] {
        let schema = json!({"$defs": doubling(tie), "$ref": "#/$defs/a0"});
        assert!(schema.to_string().len() < 5_000);
        assert_eq!(check(&schema, &json!({})), Err(SchemaError::TooMuchWork), "{tie}");
    }
    // Also where no value of the configuration leads to it: it is compiled all the same.
    let schema = json!({
        "$defs": doubling("allOf"),
        "properties": {"x": {"$ref": "#/$defs/a0"}},
    });
    assert_eq!(check(&schema, &json!({})), Err(SchemaError::TooMuchWork));
}

#[test]
fn a_schema_that_doubles_with_every_level_is_refused_where_there_are_many() {
    let twice = json!([{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/t"}]);
    let schema = json!({
        "$defs": {"t": {"properties": {"in": {"allOf": twice}}}},
        "$ref": "#/$defs/t",
    });
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"in": inner}));
    check(&schema, &nested(5)).unwrap();
    assert_eq!(check(&schema, &nested(30)), Err(SchemaError::TooMuchWork));
}

#[test]
fn a_schema_may_refer_to_itself_for_smaller_values() {
    let schema = json!({
        "$defs": {"condition": {"anyOf": [
            {"type": "object", "required": ["all"], "additionalProperties": false,
             "properties": {"all": {"type": "array", "items": {"$ref": "#/$defs/condition"}}}},
            {"type": "object", "required": ["field"], "additionalProperties": false,
             "properties": {"field": {"type": "string"}}},
        ]}},
        "type": "object",
        "properties": {"when": {"$ref": "#/$defs/condition"}},
    });
    let nested = |leaf: Value| (0..10).fold(leaf, |inner, _| json!({"all": [inner]}));
    check(&schema, &json!({"when": nested(json!({"field": "a"}))})).unwrap();
    let error = check(&schema, &json!({"when": nested(json!({"field": 7}))})).unwrap_err();
    assert!(error.to_string().starts_with("config.when: "), "{error}");
    let endless = json!({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"});
    assert_eq!(check(&endless, &json!({})), Err(SchemaError::Endless));
}

#[test]
fn a_large_configuration_is_checked_and_of_a_huge_one_the_first_mistake_is_named() {
    let rules = |count: usize| vec![json!({"to": "a"}); count];
    validate(SCHEMA, &json!({"rules": rules(20_000)})).unwrap();
    let with_mistake = |count: usize| {
        let mut rules = rules(count);
        rules.push(json!({"to": 5}));
        json!({"rules": rules})
    };
    let error = refusal(SCHEMA, &with_mistake(5_000));
    assert!(error.starts_with("config.rules[5000].to: "), "{error}");
    let mut huge = with_mistake(60_000);
    huge["rules"][0]["to"] = json!(5);
    let error = refusal(SCHEMA, &huge);
    assert!(error.starts_with("config.rules[0].to: "), "{error}");
    assert!(!error.contains("more"), "not all of them were looked for: {error}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let schema = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
    let foreign = check(&schema, &json!({})).unwrap_err();
    assert!(foreign.to_string().contains("#/$defs/name"), "{foreign}");
    let schema = json!({"properties": {"a": {"unevaluatedProperties": false}}});
    let keyword = SchemaError::Keyword("unevaluatedProperties".to_owned());
    assert_eq!(check(&schema, &json!({})), Err(keyword));
    let schema = json!({"properties": {"a": {"$id": "inner"}}});
    assert_eq!(check(&schema, &json!({})), Err(SchemaError::Named("inner".to_owned())));
    // As names of settings they are as good as any.
    let schema = json!({"properties": {"$id": {"type": "string"}, "id": {"type": "string"}}});
    check(&schema, &json!({"id": "a"})).unwrap();
    let long = json!({"description": "x".repeat(SCHEMA_BYTES_MAX)});
    assert!(matches!(check(&long, &json!({})), Err(SchemaError::TooLong(_))));
    let next = |at: usize| json!({"allOf": [{"$ref": format!("#/$defs/a{}", at + 1)}]});
    let mut chain: serde_json::Map<_, _> =
        (0..DEPTH_MAX).map(|at| (format!("a{at}"), next(at))).collect();
    chain.insert(format!("a{DEPTH_MAX}"), json!({}));
    let chain = json!({"$defs": chain, "$ref": "#/$defs/a0"});
    assert_eq!(check(&chain, &json!({})), Err(SchemaError::TooDeep));
}

#[test]
fn patterns_are_few_and_look_neither_around_nor_back() {
    let schema = |pattern: &str| json!({"properties": {"name": {"pattern": pattern}}});
    let error = check(&schema("^[a-z]+([.-][a-z]+)*$"), &json!({"name": "a..b"})).unwrap_err();
    assert!(error.to_string().starts_with("config.name: "), "{error}");
    for slow in ["^(a+)+\\1$", "^(?=(a+)+$)"] {
        assert!(matches!(check(&schema(slow), &json!({})), Err(SchemaError::Invalid(_))));
    }
    let many: serde_json::Map<_, _> =
        (0..=PATTERNS_MAX).map(|at| (format!("^{at}[a-z]"), json!(true))).collect();
    let many = json!({"patternProperties": many});
    assert_eq!(check(&many, &json!({})), Err(SchemaError::TooManyPatterns));
}

/// As the shipped routers have it: conditions tied together, and one of twelve operators.
#[test]
fn thousands_of_rules_are_checked_and_the_wrong_one_is_named() {
    let tied = |by: &str| {
        json!({
            "type": "object",
            "properties": {by: {"type": "array", "items": {"$ref": "#/$defs/when"}}},
            "required": [by],
            "additionalProperties": false
        })
    };
    let operators: Vec<Value> =
        (0..12).map(|number| json!({"const": format!("op{number}")})).collect();
    let schema = json!({
        "$defs": {
            "test": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "op": {"oneOf": operators},
                    "value": {}
                },
                "required": ["field"],
                "additionalProperties": false
            },
            "when": {"anyOf": [
                tied("all"),
                tied("any"),
                {
                    "type": "object",
                    "properties": {"not": {"$ref": "#/$defs/when"}},
                    "required": ["not"],
                    "additionalProperties": false
                },
                {"$ref": "#/$defs/test"}
            ]}
        },
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {
            "type": "object",
            "properties": {"when": {"$ref": "#/$defs/when"}, "to": {"type": "string"}},
            "required": ["to"],
            "additionalProperties": false
        }}},
        "additionalProperties": false
    });
    let test = |field: &str| json!({"field": field, "op": "op3", "value": 60});
    let rule = json!({"when": {"all": [test("delay"), test("distance")]}, "to": "late"});
    let mut rules = vec![rule; 6_000];
    check(&schema, &json!({ "rules": rules })).unwrap();
    rules[5_999]["to"] = json!(7);
    let error = refusal(&schema.to_string(), &json!({ "rules": rules }));
    assert!(error.starts_with("config.rules[5999].to: "), "{error}");
}
