//! Binding files: which policy decides about what, with which configuration and
//! powers. Two stages: TOML as written, then a checked [`Binding`]. What depends
//! on the component (its roles) is checked later, by [`Binding::fit`].
//!
//! Called by the loader for every file, for the shipped defaults, and for the
//! bindings that development mode makes up for bare components.

use std::sync::Arc;

use serde_json::Value;
use weir_core::name::{NameError, Pattern, check_scope};
use weir_core::policy::Powers;

use crate::component::Roles;
use crate::fields::{Fields, did_you_mean};
use crate::settle::sha256_hex;
use crate::setup::{CallLimits, FailureRule, Role, Stage};

/// Rank of a binding that names none.
pub(crate) const ORDER_DEFAULT: i32 = 100;
/// Longest name of a binding or plugin, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Patterns of one binding.
const PATTERNS_MAX: usize = 1_000;

/// The bindings a broker has before anybody wrote one. A file of the same name
/// replaces one of them.
pub(crate) const DEFAULTS: [(&str, &str); 2] = [
    (
        "default-router",
        "policy = 'subject-router'\nrole = 'router'\nsubjects = ['>']\norder = 1000000\n",
    ),
    (
        "default-delivery",
        "policy = 'at-least-once'\nrole = 'delivery'\nqueues = ['*', '*/*', '*/*/*', '*/*/*/*']\n\
         groups = ['*/*', '*/*/*', '*/*/*/*']\norder = 1000000\npowers = ['dead-letter']\n",
    ),
];

/// Where a binding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A file in the bindings folder.
    File,
    /// Made up for a bare component (development mode).
    Automatic,
    /// Shipped with the broker.
    Default,
}

/// What the operator lets a policy do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// These.
    Listed(Powers),
    /// Whatever it wants (automatic bindings only).
    Wanted,
}

/// One policy, one configuration, one scope; checked.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) name: Arc<str>,
    pub(crate) origin: Origin,
    /// Name of the plugin or shipped policy.
    pub(crate) policy: String,
    pub(crate) role: Option<Role>,
    pub(crate) stage: Stage,
    pub(crate) subjects: Vec<Pattern>,
    pub(crate) queues: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) order: i32,
    pub(crate) on_failure: FailureRule,
    pub(crate) grant: Grant,
    pub(crate) limits: CallLimits,
    pub(crate) config: Value,
    /// Whether the policy's state outlives the process.
    pub(crate) keep_kv: bool,
    /// The file's text; "" where there is none.
    pub(crate) text: Arc<str>,
    /// Tells one content of the file from another.
    pub(crate) digest: Arc<str>,
}

impl Binding {
    /// Reads a binding file.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub(crate) fn parse(name: &str, origin: Origin, text: &str) -> Result<Self, String> {
        let mut fields = Fields::parse(text)?;
        let policy = fields.required_text("policy")?;
        check_name(&policy).map_err(|why| format!("`policy`: {why}"))?;
        let role = one_of(fields.text("role")?, "role", &ROLES)?;
        let stage_given = one_of(fields.text("stage")?, "stage", &STAGES)?;
        let subjects = patterns(&mut fields, "subjects", Pattern::parse)?;
        let scope = |glob: &str| check_scope(glob).map(|()| glob.to_owned());
        let queues = patterns(&mut fields, "queues", scope)?;
        let groups = patterns(&mut fields, "groups", scope)?;
        if let Some(group) = groups.iter().find(|group| !group.contains('/')) {
            return Err(format!(
                "`groups`: write \"{group}\" as stream/group, for example flights/*"
            ));
        }
        let order = fields.number("order", i32::MIN.into()..=i32::MAX.into())?;
        let on_failure = one_of(fields.text("on-failure")?, "on-failure", &FAILURE_RULES)?;
        let keep_kv = fields.flag("keep-kv")?.unwrap_or(false);
        let powers = powers(&fields.texts("powers")?.unwrap_or_default())?;
        let limits = limits(Fields::new(fields.table("limits")?, "limits."))?;
        let config = serde_json::to_value(fields.table("config")?)
            .map_err(|error| format!("`config` cannot be handed on as JSON: {error}"))?;
        fields.finish()?;

        let stage = stage_given.unwrap_or_default();
        if stage_given.is_some() && role.is_some_and(|role| role != Role::Filter) {
            return Err("`stage` is for filters only".to_owned());
        }
        let binding = Self {
            name: name.into(),
            origin,
            policy,
            role,
            stage,
            subjects,
            queues,
            groups,
            order: order.map_or(ORDER_DEFAULT, |order| order as i32),
            on_failure: on_failure.unwrap_or_default(),
            grant: Grant::Listed(powers),
            limits,
            config,
            keep_kv,
            text: text.into(),
            digest: sha256_hex(text.as_bytes()).into(),
        };
        if let Some(role) = role {
            binding.fit_scope(role)?;
        }
        Ok(binding)
    }

    /// The binding development mode makes up for a bare component: everything.
    pub(crate) fn automatic(name: &str) -> Self {
        let everything = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        Self {
            name: name.into(),
            origin: Origin::Automatic,
            policy: name.to_owned(),
            role: None,
            stage: Stage::Publish,
            subjects: vec![Pattern::parse(">").expect("a pattern")],
            queues: everything(&["*", "*/*", "*/*/*", "*/*/*/*"]),
            groups: everything(&["*/*", "*/*/*", "*/*/*/*"]),
            order: 0,
            // Its scope is everything: what it cannot judge goes on as if it had
            // not been dropped in.
            on_failure: FailureRule::Pass,
            grant: Grant::Wanted,
            limits: CallLimits::default(),
            config: Value::Object(serde_json::Map::new()),
            keep_kv: false,
            text: "".into(),
            digest: "automatic".into(),
        }
    }

    /// Fixes the role, now that the component's roles are known, and checks that
    /// the scope goes with it.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub(crate) fn fit(&self, roles: Roles) -> Result<Role, String> {
        let role = match (self.role, roles.only()) {
            (Some(role), _) if roles.has(role) => role,
            (Some(role), _) => {
                return Err(format!("`{}` is no {role}, it is a {roles}", self.policy));
            }
            (None, _) if self.stage == Stage::Deliver && roles.has(Role::Filter) => Role::Filter,
            (None, Some(role)) => role,
            (None, None) => {
                return Err(format!(
                    "`{}` is a {roles}; say which in bindings/{}.toml, for example \
                     role = \"{}\"",
                    self.policy,
                    self.name,
                    roles.iter().next().map_or("router", Role::as_str),
                ));
            }
        };
        if self.origin != Origin::Automatic {
            self.fit_scope(role)?;
        }
        Ok(role)
    }

    /// Whether `role` is judged where messages are published.
    pub(crate) fn at_publish(&self, role: Role) -> bool {
        role == Role::Router || (role == Role::Filter && self.stage == Stage::Publish)
    }

    fn fit_scope(&self, role: Role) -> Result<(), String> {
        let places = !self.queues.is_empty() || !self.groups.is_empty();
        let what = match role {
            Role::Router => "a router",
            Role::Filter if self.stage == Stage::Publish => "a filter of stage \"publish\"",
            Role::Filter => "a filter of stage \"deliver\"",
            Role::Delivery => "a delivery policy",
        };
        match (self.at_publish(role), self.subjects.is_empty(), places) {
            (true, _, true) => {
                Err(format!("{what} applies to `subjects`, not to `queues` or `groups`"))
            }
            (true, true, false) => {
                Err(format!("{what} needs `subjects`, for example subjects = [\">\"] for all"))
            }
            (false, false, _) => {
                Err(format!("{what} applies to `queues` and `groups`, not to `subjects`"))
            }
            (false, true, false) => {
                Err(format!("{what} needs `queues` or `groups`, for example queues = [\"*\"]"))
            }
            _ => Ok(()),
        }
    }
}

const ROLES: [(&str, Role); 3] =
    [("router", Role::Router), ("filter", Role::Filter), ("delivery", Role::Delivery)];
const STAGES: [(&str, Stage); 2] = [("publish", Stage::Publish), ("deliver", Stage::Deliver)];
const FAILURE_RULES: [(&str, FailureRule); 3] =
    [("refuse", FailureRule::Refuse), ("pass", FailureRule::Pass), ("hold", FailureRule::Hold)];

/// The words of `wit/types.wit`, with the field each stands for.
const POWERS: [&str; 5] = ["drop", "dead-letter", "rewrite", "retarget", "transient"];

/// The granted ones among [`POWERS`], as words.
pub(crate) fn power_words(powers: Powers) -> Vec<&'static str> {
    let granted =
        [powers.drop, powers.dead_letter, powers.rewrite, powers.retarget, powers.transient];
    POWERS.iter().zip(granted).filter(|(_, granted)| *granted).map(|(word, _)| *word).collect()
}

/// Powers from their words.
///
/// # Errors
/// Names an unknown word and the nearest known one.
pub(crate) fn powers(words: &[String]) -> Result<Powers, String> {
    let mut powers = Powers::default();
    for word in words {
        match word.as_str() {
            "drop" => powers.drop = true,
            "dead-letter" => powers.dead_letter = true,
            "rewrite" => powers.rewrite = true,
            "retarget" => powers.retarget = true,
            "transient" => powers.transient = true,
            other => {
                return Err(format!("unknown power `{other}`{}", did_you_mean(other, &POWERS)));
            }
        }
    }
    Ok(powers)
}

fn one_of<T: Copy>(
    word: Option<String>,
    key: &str,
    known: &[(&str, T)],
) -> Result<Option<T>, String> {
    let Some(word) = word else { return Ok(None) };
    match known.iter().find(|(known, _)| *known == word) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            Err(format!("`{key}` cannot be \"{word}\", only {}", words.join(", ")))
        }
    }
}

fn limits(mut fields: Fields) -> Result<CallLimits, String> {
    let mut limits = CallLimits::default();
    if let Some(budget_ms) = fields.number("budget-ms", 1..=10_000)? {
        limits.budget_ms = budget_ms as u32;
    }
    if let Some(mib) = fields.number("memory-mib", 1..=1_024)? {
        limits.memory_bytes = (mib as usize) << 20;
    }
    if let Some(kib) = fields.number("output-kib", 1..=65_536)? {
        limits.output_bytes = (kib as usize) << 10;
    }
    if let Some(rows) = fields.number("batch-rows", 1..=4_096)? {
        limits.batch_rows = rows as u32;
    }
    fields.finish()?;
    Ok(limits)
}

fn patterns<T>(
    fields: &mut Fields,
    key: &'static str,
    check: impl Fn(&str) -> Result<T, NameError>,
) -> Result<Vec<T>, String> {
    let patterns = fields.texts(key)?.unwrap_or_default();
    if patterns.len() > PATTERNS_MAX {
        return Err(format!("`{key}` has {} patterns, at most {PATTERNS_MAX}", patterns.len()));
    }
    let checked = patterns
        .iter()
        .map(|pattern| check(pattern).map_err(|error| format!("`{key}`: \"{pattern}\" {error}")));
    checked.collect()
}

/// Checks the name of a binding or plugin: a file name without surprises.
///
/// # Errors
/// One sentence.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(known)
        && !name.starts_with(['.', '-'])
    {
        return Ok(());
    }
    Err(format!(
        "\"{name}\" is no name: use letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROUTER: Roles = Roles { router: true, filter: false, delivery: false };
    const GATE: Roles = Roles { router: true, filter: true, delivery: false };
    const DELIVERY: Roles = Roles { router: false, filter: false, delivery: true };

    fn refusal(text: &str) -> String {
        Binding::parse("b", Origin::File, text).unwrap_err()
    }

    #[test]
    fn a_whole_file_is_understood() {
        let text = r#"
            policy = "json-router"
            role = "router"
            subjects = ["flights.>", "*.raw"]
            order = 7
            on-failure = "hold"
            powers = ["retarget", "rewrite"]
            [limits]
            budget-ms = 5
            memory-mib = 16
            output-kib = 64
            [config]
            rules = [{ field = "delay", above = 60 }]
        "#;
        let binding = Binding::parse("flights", Origin::File, text).unwrap();
        let subjects: Vec<&str> = binding.subjects.iter().map(Pattern::as_str).collect();
        assert_eq!(subjects, ["flights.>", "*.raw"]);
        assert_eq!((binding.order, binding.on_failure), (7, FailureRule::Hold));
        assert_eq!(binding.limits.budget_ms, 5);
        assert_eq!(binding.limits.memory_bytes, 16 << 20);
        assert_eq!(binding.limits.output_bytes, 64 << 10);
        assert_eq!(binding.config["rules"][0]["above"], 60);
        let Grant::Listed(powers) = binding.grant else { panic!("listed") };
        assert_eq!(power_words(powers), ["rewrite", "retarget"]);
        assert_eq!(binding.fit(ROUTER).unwrap(), Role::Router);
    }

    #[test]
    fn the_shipped_defaults_are_good() {
        for (name, text) in DEFAULTS {
            let binding = Binding::parse(name, Origin::Default, text).unwrap();
            assert_eq!(binding.order, 1_000_000);
            let all = Roles { router: true, filter: true, delivery: true };
            binding.fit(all).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(refusal(""), "`policy` is missing");
        let unknown = refusal("policy='p'\nsubject=['a']");
        assert_eq!(unknown, "unknown key `subject`, did you mean `subjects`?");
        let unknown = refusal("policy='p'\n[limits]\nbudget_ms=3");
        assert_eq!(unknown, "unknown key `limits.budget_ms`, did you mean `budget-ms`?");
        let role = refusal("policy='p'\nrole='ruter'");
        assert_eq!(role, "`role` cannot be \"ruter\", only router, filter, delivery");
        let power = refusal("policy='p'\npowers=['retargt']");
        assert_eq!(power, "unknown power `retargt`, did you mean `retarget`?");
        assert!(refusal("policy='../x'").contains("is no name"));
        assert!(refusal("policy='p'\nsubjects=['a..b']").contains("\"a..b\" has an empty part"));
        assert!(refusal("policy='p'\nsubjects=['a.>.b']").contains("its last part"));
        assert!(refusal("policy='p'\nqueues=['Orders']").contains("names are made of"));
        assert!(refusal("policy='p'\ngroups=['flights']").contains("stream/group"));
        assert!(refusal("policy='p'\n[limits]\nmemory-mib=9999").contains("between 1 and 1024"));
    }

    #[test]
    fn scope_goes_with_the_role() {
        assert!(refusal("policy='p'\nrole='router'").contains("needs `subjects`"));
        assert!(
            refusal("policy='p'\nrole='delivery'\nsubjects=['a']").contains("not to `subjects`")
        );
        assert!(refusal("policy='p'\nrole='router'\nstage='publish'").contains("filters only"));
        let text = "policy='p'\nstage='deliver'\nqueues=['*']";
        let binding = Binding::parse("b", Origin::File, text).unwrap();
        assert_eq!(binding.fit(GATE).unwrap(), Role::Filter);
        let error = binding.fit(ROUTER).unwrap_err();
        assert!(error.contains("applies to `subjects`"), "{error}");
        let automatic = Binding::automatic("gate");
        let error = automatic.fit(GATE).unwrap_err();
        assert!(error.contains("say which in bindings/gate.toml"), "{error}");
        assert_eq!(automatic.fit(DELIVERY).unwrap(), Role::Delivery);
    }
}
