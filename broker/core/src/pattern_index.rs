//! Finds every value whose pattern matches a subject.
//!
//! Owned by the directory. Patterns without wildcards, by far the most, are
//! found by one hash of the whole subject. The others form a trie by token; a
//! node finds its child for a plain token by hash, and its children for globs
//! (`mail-*`, `*-eu`, `a*b*c`) by one hash per *shape* present at the node, a
//! shape being the lengths of the literal pieces. So a match costs by the depth
//! of the subject and the number of shapes, not by the number of patterns.
//!
//! Invariants: a node is kept while it has values or children, and no longer;
//! a value lies under a pattern once. Iteration never follows a hash table, so
//! the order of matches depends on the calls alone.

#[cfg(test)]
mod tests;
mod trie;
mod values;

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::limits::GLOB_WEIGHT_MAX;
use crate::name::Pattern;
use crate::paged_slab::PagedSlab;
use trie::{NodeId, Trie};
pub(crate) use values::Values;

/// Where a value lies in the index; needed to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Spot);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    /// Under a pattern without wildcards.
    Literal(u32),
    /// Under a pattern that ends at this node.
    Here(NodeId),
    /// Under a pattern that ends with `>` below this node.
    Rest(NodeId),
}

#[derive(Debug)]
struct Literal<T> {
    text: Box<str>,
    values: Values<T>,
}

/// Values by pattern.
#[derive(Debug)]
pub struct PatternIndex<T> {
    literals: PagedSlab<Literal<T>>,
    /// Keys into `literals`, by the hash of the text.
    by_text: HashTable<u32>,
    hasher: RandomState,
    trie: Trie<T>,
    len: usize,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        Self {
            literals: PagedSlab::default(),
            by_text: HashTable::new(),
            hasher: RandomState::default(),
            trie: Trie::default(),
            len: 0,
        }
    }
}

impl<T: Copy + Eq + Hash> PatternIndex<T> {
    /// Number of values, counted once per pattern they lie under.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of patterns and inner nodes kept; 0 when the index is empty.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.literals.len() + self.trie.nodes()
    }

    /// Whether values may be put under `patterns`: what their globs cost every match is
    /// bounded for all patterns together.
    #[must_use]
    pub fn has_room(&self, patterns: &[Pattern]) -> bool {
        let with_wildcards = patterns.iter().filter(|pattern| !pattern.is_literal());
        let more: u64 = with_wildcards.map(|pattern| self.trie.weight_of(pattern.as_str())).sum();
        more == 0 || self.trie.weight() + more <= GLOB_WEIGHT_MAX
    }

    /// Puts `value` under `pattern`, where it may lie already.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> Place {
        let spot = if pattern.is_literal() {
            Spot::Literal(self.literal(pattern.as_str()))
        } else {
            self.trie.spot(pattern.as_str())
        };
        if self.values_mut(spot).insert(value) {
            self.len += 1;
        }
        Place(spot)
    }

    /// Takes `value` from where it lies. False when it was not there.
    pub fn remove(&mut self, place: Place, value: T) -> bool {
        if !self.contains_spot(place.0) || !self.values_mut(place.0).remove(&value) {
            return false;
        }
        self.len -= 1;
        match place.0 {
            Spot::Literal(key) => self.prune_literal(key),
            Spot::Here(node) | Spot::Rest(node) => self.trie.prune(node),
        }
        true
    }

    /// The text of the pattern at `place`, where something lies.
    #[must_use]
    pub fn pattern(&self, place: Place) -> String {
        match place.0 {
            Spot::Literal(key) => self.literals[key as usize].text.to_string(),
            Spot::Here(node) => self.trie.path(node),
            Spot::Rest(node) => match self.trie.path(node) {
                path if path.is_empty() => ">".to_owned(),
                path => format!("{path}.>"),
            },
        }
    }

    /// Calls `found` for every value whose pattern matches `subject`, which is
    /// well formed. A value under several matching patterns is found as often.
    pub fn for_each_match(&self, subject: &str, mut found: impl FnMut(&T)) {
        let hash = self.hasher.hash_one(subject);
        let literal = self
            .by_text
            .find(hash, |&key| &*self.literals[key as usize].text == subject)
            .map(|&key| &self.literals[key as usize]);
        if let Some(literal) = literal {
            literal.values.as_slice().iter().for_each(&mut found);
        }
        self.trie.for_each_match(subject, &mut found);
    }

    fn literal(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        if let Some(&key) =
            self.by_text.find(hash, |&key| &*self.literals[key as usize].text == text)
        {
            return key;
        }
        let key = self.literals.insert(Literal { text: text.into(), values: Values::default() });
        let key = u32::try_from(key).expect("fewer than 2^32 patterns");
        let (literals, hasher) = (&self.literals, &self.hasher);
        self.by_text
            .insert_unique(hash, key, |&key| hasher.hash_one(&*literals[key as usize].text));
        key
    }

    fn prune_literal(&mut self, key: u32) {
        if !self.literals[key as usize].values.as_slice().is_empty() {
            return;
        }
        let literal = self.literals.remove(key as usize);
        let hash = self.hasher.hash_one(&*literal.text);
        if let Ok(entry) = self.by_text.find_entry(hash, |&other| other == key) {
            entry.remove();
        }
        if self.literals.is_empty() {
            self.literals = PagedSlab::default();
            self.by_text = HashTable::new();
        }
    }

    fn contains_spot(&self, spot: Spot) -> bool {
        match spot {
            Spot::Literal(key) => self.literals.contains(key as usize),
            Spot::Here(node) | Spot::Rest(node) => self.trie.contains(node),
        }
    }

    fn values_mut(&mut self, spot: Spot) -> &mut Values<T> {
        match spot {
            Spot::Literal(key) => &mut self.literals[key as usize].values,
            Spot::Here(node) => self.trie.here_mut(node),
            Spot::Rest(node) => self.trie.rest_mut(node),
        }
    }
}
