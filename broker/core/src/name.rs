//! What things may be called: subjects, patterns over subjects, names of queues,
//! streams and groups, and the globs that bind policies to them.
//!
//! Texts are checked once, where they enter the broker; what holds a [`Pattern`]
//! or a [`Name`] need not check again. The errors are sentences for whoever
//! typed the text. First tokens that start with `_` are the broker's and its
//! clients' own (`_inbox.…`): a pattern that starts with a wildcard does not
//! match them, so that `>` does not overhear everybody's replies.

#[cfg(test)]
mod tests;

use std::fmt;

use weir_message::SUBJECT_BYTES_MAX;

use crate::limits::{NAME_BYTES_MAX, STARS_PER_TOKEN_MAX, TOKENS_MAX};

/// Why a text is not a subject, a pattern or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("is empty: give at least one character")]
    Empty,
    /// More bytes than allowed.
    #[error("is {len} bytes long: at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Two dots in a row, or one at an end.
    #[error("has an empty part between dots: remove the extra dot")]
    EmptyToken,
    /// More tokens than allowed.
    #[error("has more than {TOKENS_MAX} parts between dots: use fewer")]
    TooDeep,
    /// A character that may not be there.
    #[error("contains {0:?}: spaces and control characters are not allowed")]
    Character(char),
    /// `*` or `>` in a subject.
    #[error("contains {0:?}: wildcards belong in patterns, publish to a plain subject")]
    Wildcard(char),
    /// `>` somewhere else than at the end.
    #[error("has '>' elsewhere than as its last part: '>' stands alone, after the last dot")]
    RestNotLast,
    /// `**`.
    #[error("has '**': one '*' matches any number of characters already")]
    DoubleStar,
    /// More stars in one token than the index takes.
    #[error("has more than {STARS_PER_TOKEN_MAX} '*' between two dots: use fewer")]
    TooManyStars,
    /// A character that a name may not hold.
    #[error("contains {0:?}: names are made of a-z, 0-9, '.', '_', '-' and '/'")]
    NameCharacter(char),
    /// A part of a name starts or ends with a sign.
    #[error("has a part that does not start and end with a letter or a digit")]
    NameEdge,
    /// A name that starts with `_`.
    #[error("starts with '_': such names are the broker's own, choose another")]
    Reserved,
    /// A `/` in the name of a group.
    #[error("contains '/': a group's name has one part, its stream is named beside it")]
    GroupSlash,
}

/// Checks that `text` is a subject: dot-separated tokens, none of them empty,
/// no wildcards, no spaces.
///
/// # Errors
/// What is wrong with it.
pub fn check_subject(text: &str) -> Result<(), NameError> {
    check_tokens(text)?;
    match text.chars().find(|&c| c == '*' || c == '>') {
        Some(wildcard) => Err(NameError::Wildcard(wildcard)),
        None => Ok(()),
    }
}

/// True when the first token of `subject` starts with `_`: wildcards at the
/// start of a pattern do not match it.
#[must_use]
pub fn is_hidden(subject: &str) -> bool {
    subject.starts_with('_')
}

/// True for subjects that only the broker may publish to: those that start with
/// `_`, except clients' inboxes.
#[must_use]
pub fn is_reserved(subject: &str) -> bool {
    is_hidden(subject) && !subject.starts_with("_inbox.")
}

/// Selects subjects: `*` matches any run of characters inside one token, the
/// empty run too; a final `>` matches one or more tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_tokens(text)?;
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token.contains('>') && (token != ">" || tokens.peek().is_some()) {
                return Err(NameError::RestNotLast);
            }
            if token.contains("**") {
                return Err(NameError::DoubleStar);
            }
            if token.bytes().filter(|&byte| byte == b'*').count() > STARS_PER_TOKEN_MAX {
                return Err(NameError::TooManyStars);
            }
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when there is no wildcard in it: it matches one subject only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.bytes().any(|byte| byte == b'*' || byte == b'>')
    }

    /// Whether it matches `subject`, which is well formed. For one pattern;
    /// many are matched by a [`PatternIndex`](crate::pattern_index::PatternIndex).
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        if is_hidden(subject) && self.0.starts_with(['*', '>']) {
            return false;
        }
        let mut tokens = subject.split('.');
        for pattern in self.0.split('.') {
            let Some(token) = tokens.next() else { return false };
            if pattern == ">" {
                return true;
            }
            if !glob_matches(pattern, token, None) {
                return false;
            }
        }
        tokens.next().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A name of a queue, a stream or a group: parts of `[a-z0-9._-]` separated by
/// `/`. A name is a subject too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Checks the name of a queue or stream.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { len: text.len(), max: NAME_BYTES_MAX });
        }
        if text.starts_with('_') {
            return Err(NameError::Reserved);
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/');
        if let Some(other) = text.chars().find(|&c| !allowed(c)) {
            return Err(NameError::NameCharacter(other));
        }
        let is_plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        for part in text.split('/') {
            let bytes = part.as_bytes();
            if !is_plain(bytes.first()) || !is_plain(bytes.last()) {
                return Err(NameError::NameEdge);
            }
        }
        check_tokens(text)?;
        Ok(Self(text.into()))
    }

    /// Checks the name of a group, which has one part.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_group(text: &str) -> Result<Self, NameError> {
        if text.contains('/') { Err(NameError::GroupSlash) } else { Self::parse(text) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern that matches the subject of the same text: what a queue or
    /// stream listens on when nothing else is said.
    #[must_use]
    pub fn to_pattern(&self) -> Pattern {
        Pattern(self.0.clone())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The part of a name that decides which shard owns it: up to the first `/`.
#[must_use]
pub fn shard_part(name: &str) -> &str {
    name.split_once('/').map_or(name, |(part, _)| part)
}

/// Checks a glob that binds a policy to queues (`orders`, `mail-*`) or groups
/// (`flights/*`).
///
/// # Errors
/// What is wrong with it.
pub fn check_scope(glob: &str) -> Result<(), NameError> {
    if glob.is_empty() {
        return Err(NameError::Empty);
    }
    // A group in a scope is its stream's name, a slash and its own name.
    let max = 2 * NAME_BYTES_MAX + 1;
    if glob.len() > max {
        return Err(NameError::TooLong { len: glob.len(), max });
    }
    if glob.contains("**") {
        return Err(NameError::DoubleStar);
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' | '*');
    match glob.chars().find(|&c| !allowed(c)) {
        Some(other) => Err(NameError::NameCharacter(other)),
        None => Ok(()),
    }
}

/// Whether `glob` matches `name`; `*` matches any run of characters but `/`.
#[must_use]
pub fn scope_matches(glob: &str, name: &str) -> bool {
    glob_matches(glob, name, Some(b'/'))
}

/// Whether `glob` matches all of `text`; `*` matches any run of bytes that does
/// not hold `barrier`. Goes back to the last star only: an earlier star that took
/// more could not help, it would leave less to the later one.
fn glob_matches(glob: &str, text: &str, barrier: Option<u8>) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut to) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while to < text.len() {
        if glob.get(at) == Some(&b'*') {
            last_star = Some((at, to));
            at += 1;
        } else if glob.get(at) == Some(&text[to]) {
            at += 1;
            to += 1;
        } else {
            match last_star {
                Some((star, taken)) if Some(text[taken]) != barrier => {
                    last_star = Some((star, taken + 1));
                    (at, to) = (star + 1, taken + 1);
                }
                _ => return false,
            }
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}

/// What subjects and patterns have in common.
fn check_tokens(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(NameError::TooLong { len: text.len(), max: SUBJECT_BYTES_MAX });
    }
    if let Some(other) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(NameError::Character(other));
    }
    let mut tokens = 0;
    for token in text.split('.') {
        if token.is_empty() {
            return Err(NameError::EmptyToken);
        }
        tokens += 1;
    }
    if tokens > TOKENS_MAX { Err(NameError::TooDeep) } else { Ok(()) }
}
