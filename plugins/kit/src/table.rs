//! A table of subject patterns and targets: what the routers by subject have in
//! common. A pattern's wildcards capture what they match, for the targets to use.

use crate::rules::{self, Mode, OneOrMany};
use crate::template::Template;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_plugin_sdk::hash::same_bytes;
use weir_plugin_sdk::{Random, Targets};

/// Most wildcards of one pattern, the final `>` included.
pub const CAPTURES_MAX: usize = 8;

/// The table as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
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

/// One rule: a pattern, and where the messages on it go. Exactly one of `to` and
/// `split` is given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Subjects: `*` is any run of characters inside a token, a final `>` one or
    /// more tokens.
    pub pattern: String,
    /// Where they go. `{1}` is what the first `*` matched, `{>}` what `>` matched,
    /// `{$subject}` the whole subject; a rule does not hold where a `*` that a target
    /// uses has matched nothing, or a target would be no subject, as one too long.
    pub to: Option<OneOrMany>,
    /// Shares: each message goes to one of these.
    pub split: Option<Vec<Share>>,
    /// How a split chooses.
    #[serde(default)]
    pub by: By,
}

/// A share of a split.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Target, with placeholders as in `to`.
    pub to: String,
    /// Its part of the sum of all weights.
    #[schemars(range(min = 1))]
    pub weight: u32,
}

/// How a split chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By the message's key: the same key goes the same way. Messages without a
    /// key take turns.
    #[default]
    Key,
    /// In turn, weights kept over every stretch of messages.
    Turn,
}

/// The table, ready to route.
#[derive(Clone, Debug)]
pub struct Table {
    mode: Mode,
    rules: Vec<Compiled>,
    otherwise: Option<Vec<Template>>,
    scratch: String,
}

#[derive(Clone, Debug)]
struct Compiled {
    pattern: Pattern,
    targets: Vec<Template>,
    /// Sum of the weights up to each target; empty where all get a copy.
    weights: Vec<u32>,
    by: By,
    turn: u32,
}

impl Subjects {
    /// Whether a rule splits, so that the subject alone does not decide.
    #[must_use]
    pub fn splits(&self) -> bool {
        self.rules.iter().any(|rule| rule.split.is_some())
    }

    /// Compiles the table.
    ///
    /// # Errors
    /// A sentence that names the rule by its place, counted from 1.
    pub fn compile(&self) -> Result<Table, String> {
        let rules = self.rules.iter().enumerate();
        let rules = rules
            .map(|(at, rule)| rule.compile().map_err(|why| format!("rule {}: {why}", at + 1)))
            .collect::<Result<_, _>>()?;
        let no_captures = Pattern::default();
        let otherwise = self.otherwise.as_ref();
        let otherwise = otherwise
            .map(|list| {
                let targets = list.compile(&mut |text| no_captures.template(text));
                targets.map_err(|why| format!("otherwise: {why}"))
            })
            .transpose()?;
        Ok(Table { mode: self.mode, rules, otherwise, scratch: String::new() })
    }
}

impl Rule {
    fn compile(&self) -> Result<Compiled, String> {
        let pattern = Pattern::parse(&self.pattern)?;
        let mut weights = Vec::new();
        let targets: Result<_, String> = match (&self.to, &self.split) {
            (Some(to), None) => to.compile(&mut |text| pattern.template(text)),
            (None, Some(shares)) if !shares.is_empty() => {
                let mut sum: u32 = 0;
                for share in shares {
                    let next = sum.checked_add(share.weight).filter(|_| share.weight > 0);
                    sum = next.ok_or("a weight is 0, or their sum is too large")?;
                    weights.push(sum);
                }
                shares.iter().map(|share| pattern.template(&share.to)).collect()
            }
            _ => return Err("give either `to` or a `split` with shares".to_owned()),
        };
        Ok(Compiled { pattern, targets: targets?, weights, by: self.by, turn: 0 })
    }
}

impl Table {
    /// Lets the turns of splits begin anywhere, by `seed`. Instances come and go, and there
    /// are several at a time: began all at one place, the shares that a turn reaches late
    /// would get too little.
    #[must_use]
    pub fn with_turns_from(mut self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        for rule in &mut self.rules {
            rule.turn = random.next_u64() as u32;
        }
        self
    }

    /// Sends a message where the table says. `key_hash` is asked only for splits
    /// by key; `None` means that the message has no key.
    pub fn route(
        &mut self,
        subject: &str,
        key_hash: impl Fn() -> Option<u32>,
        to: &mut Targets<'_>,
    ) {
        let Self { mode, rules, otherwise, scratch } = self;
        let mut sent = false;
        for rule in rules {
            let mut captures = Captures::default();
            if !rule.pattern.matches(subject, &mut captures) {
                continue;
            }
            let targets = match rule.weights.last() {
                None => rule.targets.as_slice(),
                Some(&sum) => {
                    let share = rule.share(sum, &key_hash);
                    std::slice::from_ref(&rule.targets[share])
                }
            };
            if send(targets, subject, &captures, scratch, to) {
                sent = true;
                if *mode == Mode::First {
                    return;
                }
            }
        }
        if sent {
            return;
        }
        let (other, nothing) = (otherwise.as_ref(), Captures::default());
        if !other.is_some_and(|targets| send(targets, subject, &nothing, scratch, to)) {
            to.send(subject);
        }
    }
}

impl Compiled {
    /// Number of the target that the next message goes to.
    fn share(&mut self, sum: u32, key_hash: &impl Fn() -> Option<u32>) -> usize {
        let hash = if self.by == By::Key { key_hash() } else { None };
        let point = match hash {
            Some(hash) => ((u64::from(hash) * u64::from(sum)) >> 32) as u32,
            None => {
                // The golden section spreads the shares evenly over any stretch.
                self.turn = self.turn.wrapping_add(0x9e37_79b9);
                ((u64::from(self.turn) * u64::from(sum)) >> 32) as u32
            }
        };
        self.weights.iter().position(|&upto| point < upto).expect("points lie below the sum")
    }
}

/// Sends to all targets, or to none where one of them cannot be filled; whether it did.
fn send(
    targets: &[Template],
    subject: &str,
    captures: &Captures<'_>,
    scratch: &mut String,
    to: &mut Targets<'_>,
) -> bool {
    let write = |number: usize, out: &mut String| {
        out.push_str(captures.0[number]);
        !captures.0[number].is_empty()
    };
    rules::send(targets, subject, scratch, &write, to)
}

/// What the wildcards of a pattern matched.
#[derive(Clone, Copy, Debug)]
struct Captures<'a>([&'a str; CAPTURES_MAX]);

impl Default for Captures<'_> {
    fn default() -> Self {
        Self([""; CAPTURES_MAX])
    }
}

/// A subject pattern that remembers what its wildcards matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pattern {
    tokens: Vec<Token>,
    /// It ends in `>`.
    rest: bool,
    wildcards: usize,
}

/// The fixed pieces of a token, with a `*` between each two.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    pieces: Vec<String>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("pattern {text:?} {what}"));
        if text.contains(|char: char| char.is_whitespace() || char.is_control()) {
            return wrong("contains a character that no subject has");
        }
        let mut pattern = Self::default();
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token.is_empty() {
                return wrong("has an empty token");
            }
            if token == ">" && tokens.peek().is_none() {
                pattern.rest = true;
                break;
            }
            if token.contains('>') {
                return wrong("has `>` elsewhere than as its last token");
            }
            if token.contains("**") {
                return wrong("has `**`: one `*` matches any run of characters");
            }
            let pieces: Vec<_> = token.split('*').map(str::to_owned).collect();
            pattern.wildcards += pieces.len() - 1;
            pattern.tokens.push(Token { pieces });
        }
        // The last capture is that of `>`, where there is one.
        if pattern.wildcards + usize::from(pattern.rest) > CAPTURES_MAX {
            return wrong(&format!("has more than {CAPTURES_MAX} wildcards"));
        }
        Ok(pattern)
    }

    /// A target that may use this pattern's wildcards.
    fn template(&self, text: &str) -> Result<Template, String> {
        Template::parse(text, &mut |name| match (name, name.parse::<usize>()) {
            (">", _) if self.rest => Ok(CAPTURES_MAX - 1),
            (_, Ok(number)) if (1..=self.wildcards).contains(&number) => Ok(number - 1),
            _ => Err(format!("uses {{{name}}}, which the pattern does not capture")),
        })
    }

    fn matches<'a>(&self, subject: &'a str, captures: &mut Captures<'a>) -> bool {
        let mut rest = Some(subject);
        let mut capture = 0;
        for token in &self.tokens {
            let Some(left) = rest else { return false };
            let (text, after) = match left.bytes().position(|byte| byte == b'.') {
                Some(dot) => (&left[..dot], Some(&left[dot + 1..])),
                None => (left, None),
            };
            if !token.matches(text, &mut captures.0[capture..]) {
                return false;
            }
            capture += token.pieces.len() - 1;
            rest = after;
        }
        match (self.rest, rest) {
            (true, Some(rest)) => {
                captures.0[CAPTURES_MAX - 1] = rest;
                true
            }
            (rest_wanted, rest) => !rest_wanted && rest.is_none(),
        }
    }
}

impl Token {
    /// Each `*` takes as little as possible, the last one what is left.
    fn matches<'a>(&self, text: &'a str, captures: &mut [&'a str]) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return same_bytes(self.pieces[0].as_bytes(), text.as_bytes());
        };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        for (at, piece) in middle.iter().enumerate() {
            let Some(found) = left.find(piece.as_str()) else { return false };
            captures[at] = &left[..found];
            left = &left[found + piece.len()..];
        }
        match left.strip_suffix(last.as_str()) {
            Some(taken) => {
                captures[middle.len()] = taken;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pattern: &str, subject: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).expect("pattern");
        let mut captures = Captures::default();
        let matches = pattern.matches(subject, &mut captures);
        let mut list: Vec<_> =
            captures.0[..pattern.wildcards].iter().map(|&text| text.to_owned()).collect();
        if pattern.rest {
            list.push(captures.0[CAPTURES_MAX - 1].to_owned());
        }
        matches.then_some(list)
    }

    #[test]
    fn wildcards_capture() {
        let list = |items: &[&str]| Some(items.iter().map(|&text| text.to_owned()).collect());
        assert_eq!(captured("a.b", "a.b"), list(&[]));
        assert_eq!(captured("a.b", "a.b.c"), None);
        assert_eq!(captured("a.b.c", "a.b"), None);
        assert_eq!(captured("a.*.c", "a.x.c"), list(&["x"]));
        assert_eq!(captured("a.>", "a.x.y"), list(&["x.y"]));
        assert_eq!(captured("a.>", "a"), None);
        assert_eq!(captured(">", "a"), list(&["a"]));
        assert_eq!(captured("mail-*.*", "mail-eu.x"), list(&["eu", "x"]));
        assert_eq!(captured("*-*-z", "a-b-c-z"), list(&["a", "b-c"]));
        assert_eq!(captured("*a", "aa"), list(&["a"]));
        assert_eq!(captured("a*a", "a"), None);
        let most = "*.*.*.*.*.*.*.*";
        assert_eq!(most.matches('*').count(), CAPTURES_MAX);
        let eight = ["1", "2", "3", "4", "5", "6", "7", "8"];
        assert_eq!(captured(most, "1.2.3.4.5.6.7.8"), list(&eight));
        assert_eq!(captured("*.*.*.*.*.*.*.>", "1.2.3.4.5.6.7.8"), list(&eight));
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "a..b", "a.>.b", "a>b", "**", "a b", "a\n"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        for text in ["*.*.*.*.*.*.*.*.*", "*.*.*.*.*.*.*.*.>"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        let pattern = Pattern::parse("a.*").expect("pattern");
        assert!(pattern.template("x.{1}").is_ok());
        assert!(pattern.template("x.{2}").is_err());
        assert!(pattern.template("x.{>}").is_err());
    }
}
