//! A table of conditions and targets: what the routers by JSON fields and by
//! headers have in common.

use crate::condition::{Condition, Judge, Names, Source};
use crate::limits::TARGETS_MAX;
use crate::template::Template;
use crate::value::Value;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::Targets;

/// The table as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Whether the first rule that holds decides, or all that hold.
    #[serde(default, rename = "match")]
    pub mode: Mode,
    /// The rules, in order.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Where a message goes that no rule holds for. Left out, or where it cannot be
    /// filled: its own subject; an empty list: nowhere.
    pub otherwise: Option<OneOrMany>,
}

/// Whether one rule decides, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The first rule that holds.
    #[default]
    First,
    /// Every rule that holds.
    All,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which messages.
    pub when: Condition,
    /// Where they go. `{name}` stands for the value of a field or header,
    /// `{$subject}` for the message's own subject; a rule does not hold where a
    /// placeholder has no value, or a target would be no subject, as one too long.
    pub to: OneOrMany,
}

/// A target, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several: each gets a copy.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// All of them as `template` compiles them.
    ///
    /// # Errors
    /// When they are more than one message may go to, or `template` refuses one.
    pub(crate) fn compile(
        &self,
        template: &mut dyn FnMut(&str) -> Result<Template, String>,
    ) -> Result<Vec<Template>, String> {
        let list = self.list();
        if list.len() > TARGETS_MAX {
            return Err(format!("{} targets: a message goes to {TARGETS_MAX} at most", list.len()));
        }
        list.iter().map(|text| template(text)).collect()
    }
}

/// The table, ready to judge.
#[derive(Clone, Debug)]
pub struct Table {
    mode: Mode,
    rules: Vec<(Judge, Vec<Template>)>,
    otherwise: Option<Vec<Template>>,
    scratch: String,
}

impl Rules {
    /// Compiles the table; `names` then knows the values to look up per message.
    ///
    /// # Errors
    /// A sentence that names the rule by its place, counted from 1.
    pub fn compile(&self, source: Source) -> Result<(Table, Names), String> {
        let mut names = Names::new(source);
        let mut rules = Vec::with_capacity(self.rules.len());
        for (at, rule) in self.rules.iter().enumerate() {
            let place = |why: String| format!("rule {}: {why}", at + 1);
            let judge = rule.when.compile(&mut names).map_err(place)?;
            rules.push((judge, templates(&rule.to, &mut names).map_err(place)?));
        }
        let otherwise = self.otherwise.as_ref();
        let otherwise = otherwise
            .map(|list| templates(list, &mut names).map_err(|why| format!("otherwise: {why}")))
            .transpose()?;
        Ok((Table { mode: self.mode, rules, otherwise, scratch: String::new() }, names))
    }
}

fn templates(list: &OneOrMany, names: &mut Names) -> Result<Vec<Template>, String> {
    list.compile(&mut |text| Template::parse(text, &mut |name| names.number(name)))
}

impl Table {
    /// Sends a message where the table says; `value` gives its values by number.
    #[inline]
    pub fn route<'a>(
        &mut self,
        subject: &str,
        value: &impl Fn(usize) -> Value<'a>,
        to: &mut Targets<'_>,
    ) {
        let Self { mode, rules, otherwise, scratch } = self;
        let write = |number: usize, out: &mut String| value(number).write_token(out);
        let mut sent = false;
        for (judge, targets) in rules.iter() {
            if judge.holds(value) && send(targets, subject, scratch, &write, to) {
                sent = true;
                if *mode == Mode::First {
                    return;
                }
            }
        }
        if sent {
            return;
        }
        let other = otherwise.as_ref();
        if !other.is_some_and(|targets| send(targets, subject, scratch, &write, to)) {
            to.send(subject);
        }
    }
}

/// Sends to all targets, or to none where one of them cannot be filled; whether it did.
#[inline]
pub(crate) fn send(
    targets: &[Template],
    subject: &str,
    scratch: &mut String,
    write: &dyn Fn(usize, &mut String) -> bool,
    to: &mut Targets<'_>,
) -> bool {
    if let [target] = targets {
        return match target.render(subject, scratch, write) {
            Some(target) => {
                to.send(target);
                true
            }
            None => false,
        };
    }
    send_to_several(targets, subject, scratch, write, to)
}

fn send_to_several(
    targets: &[Template],
    subject: &str,
    scratch: &mut String,
    write: &dyn Fn(usize, &mut String) -> bool,
    to: &mut Targets<'_>,
) -> bool {
    let whole = targets.iter().all(|target| target.render(subject, scratch, write).is_some());
    if whole {
        for target in targets {
            if let Some(target) = target.render(subject, scratch, write) {
                to.send(target);
            }
        }
    }
    whole
}
