//! The patterns with wildcards, as a trie by token.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{Spot, Values};
use crate::limits::{GLOB_WEIGHT, TOKENS_MAX, WIDE_GLOB_WEIGHT};
use crate::name::is_hidden;
use crate::paged_slab::PagedSlab;

pub(super) type NodeId = u32;

const ROOT: NodeId = 0;
const NONE: NodeId = u32::MAX;

/// Lengths of the literal pieces of a glob, bytes: `prefix*suffix` when `middle`
/// is 0, else `prefix*middle*suffix`. They and the pieces make the glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    prefix: u8,
    middle: u8,
    suffix: u8,
}

impl Shape {
    fn len(self) -> usize {
        usize::from(self.prefix) + usize::from(self.middle) + usize::from(self.suffix)
    }

    fn weight(self) -> u64 {
        if self.middle == 0 { GLOB_WEIGHT } else { WIDE_GLOB_WEIGHT }
    }
}

/// The literal pieces of a glob.
type Pieces<'a> = [&'a [u8]; 3];

#[derive(Debug)]
struct Node<T> {
    parent: NodeId,
    /// Number of nodes right below.
    children: u32,
    /// Child for a lone `*`, or `NONE`.
    star: NodeId,
    /// The token that leads here from the parent.
    token: Box<str>,
    /// Shapes of the globs right below, shortest first, with how many have each.
    shapes: Vec<(Shape, u32)>,
    here: Values<T>,
    rest: Values<T>,
}

#[derive(Debug)]
pub(super) struct Trie<T> {
    /// The root is node 0; it is there as soon as anything is.
    nodes: PagedSlab<Node<T>>,
    /// Children by parent and plain token.
    plain: HashTable<NodeId>,
    /// Children by parent and pieces of their glob.
    globs: HashTable<NodeId>,
    hasher: RandomState,
    /// Of the shapes of all nodes.
    weight: u64,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            nodes: PagedSlab::default(),
            plain: HashTable::new(),
            globs: HashTable::new(),
            hasher: RandomState::default(),
            weight: 0,
        }
    }
}

/// A subject cut into tokens, for one match.
struct Tokens<'a> {
    list: [&'a str; TOKENS_MAX],
    len: usize,
    hidden: bool,
}

impl<T: Copy + Eq + Hash> Trie<T> {
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(node as usize)
    }

    pub(super) fn here_mut(&mut self, node: NodeId) -> &mut Values<T> {
        &mut self.nodes[node as usize].here
    }

    pub(super) fn rest_mut(&mut self, node: NodeId) -> &mut Values<T> {
        &mut self.nodes[node as usize].rest
    }

    /// What the shapes of all globs weigh.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// What those of `pattern` would add to that.
    pub(super) fn weight_of(&self, pattern: &str) -> u64 {
        let mut node = if self.nodes.is_empty() { NONE } else { ROOT };
        let mut weight = 0;
        for token in pattern.split('.').filter(|token| *token != ">") {
            let child = if node == NONE { NONE } else { self.child(node, token) };
            if child == NONE && token != "*" && token.contains('*') {
                let new = shape(token);
                let is_there = node != NONE && self.nodes[node as usize].has_shape(new);
                weight += if is_there { 0 } else { new.weight() };
            }
            node = child;
        }
        weight
    }

    /// Where the values of `pattern` lie; makes the nodes that are missing.
    pub(super) fn spot(&mut self, pattern: &str) -> Spot {
        if self.nodes.is_empty() {
            self.nodes.insert(Node::new(NONE, ""));
        }
        let mut node = ROOT;
        for token in pattern.split('.') {
            if token == ">" {
                return Spot::Rest(node);
            }
            node = match self.child(node, token) {
                NONE => self.add_child(node, token),
                child => child,
            };
        }
        Spot::Here(node)
    }

    /// Removes `node` and what is above it as far as nothing needs them.
    pub(super) fn prune(&mut self, mut node: NodeId) {
        while node != ROOT && self.nodes[node as usize].is_idle() {
            let gone = self.nodes.remove(node as usize);
            self.unlink(node, &gone);
            node = gone.parent;
        }
        if self.nodes.len() == 1 && self.nodes[ROOT as usize].is_idle() {
            *self = Self::default();
        }
    }

    /// The tokens from the root to `node`.
    pub(super) fn path(&self, mut node: NodeId) -> String {
        let mut tokens = Vec::new();
        while node != ROOT {
            tokens.push(&*self.nodes[node as usize].token);
            node = self.nodes[node as usize].parent;
        }
        tokens.reverse();
        tokens.join(".")
    }

    pub(super) fn for_each_match(&self, subject: &str, found: &mut impl FnMut(&T)) {
        if self.nodes.is_empty() {
            return;
        }
        let mut tokens = Tokens { list: [""; TOKENS_MAX], len: 0, hidden: is_hidden(subject) };
        for token in subject.split('.') {
            if tokens.len == TOKENS_MAX {
                return; // deeper than any pattern, and no subject
            }
            tokens.list[tokens.len] = token;
            tokens.len += 1;
        }
        self.walk(ROOT, 0, &tokens, found);
    }

    /// Visits what matches the tokens from `depth` on below `at`. The recursion
    /// is as deep as a subject may be.
    fn walk(&self, at: NodeId, depth: usize, tokens: &Tokens<'_>, found: &mut impl FnMut(&T)) {
        let node = &self.nodes[at as usize];
        if depth == tokens.len {
            node.here.as_slice().iter().for_each(found);
            return;
        }
        let token = tokens.list[depth];
        // A wildcard at the very start does not match a hidden subject.
        let hidden = depth == 0 && tokens.hidden;
        if !hidden {
            node.rest.as_slice().iter().for_each(&mut *found);
        }
        if node.children == 0 {
            return;
        }
        if let Some(child) = self.plain_child(at, token) {
            self.walk(child, depth + 1, tokens, found);
        }
        if node.star != NONE && !hidden {
            self.walk(node.star, depth + 1, tokens, found);
        }
        for &(shape, _) in &node.shapes {
            if shape.len() > token.len() {
                break;
            }
            if !(hidden && shape.prefix == 0) {
                self.for_each_glob(at, shape, token.as_bytes(), &mut |child| {
                    self.walk(child, depth + 1, tokens, found);
                });
            }
        }
    }

    /// Calls `found` for every child of `parent` whose glob has `shape` and
    /// matches `token`, which is long enough.
    fn for_each_glob(
        &self,
        parent: NodeId,
        shape: Shape,
        token: &[u8],
        found: &mut dyn FnMut(NodeId),
    ) {
        let (prefix, rest) = token.split_at(usize::from(shape.prefix));
        let (inner, suffix) = rest.split_at(rest.len() - usize::from(shape.suffix));
        if shape.middle == 0 {
            if let Some(child) = self.glob_child(parent, [prefix, b"", suffix]) {
                found(child);
            }
            return;
        }
        let width = usize::from(shape.middle);
        for (at, middle) in inner.windows(width).enumerate() {
            let Some(child) = self.glob_child(parent, [prefix, middle, suffix]) else { continue };
            // The same piece further left has found the same child.
            if !inner[..at + width - 1].windows(width).any(|other| other == middle) {
                found(child);
            }
        }
    }

    fn child(&self, parent: NodeId, token: &str) -> NodeId {
        if token == "*" {
            self.nodes[parent as usize].star
        } else if token.contains('*') {
            self.glob_child(parent, pieces(token)).unwrap_or(NONE)
        } else {
            self.plain_child(parent, token).unwrap_or(NONE)
        }
    }

    fn plain_child(&self, parent: NodeId, token: &str) -> Option<NodeId> {
        self.plain
            .find(plain_hash(&self.hasher, parent, token), |&child| {
                let node = &self.nodes[child as usize];
                node.parent == parent && &*node.token == token
            })
            .copied()
    }

    fn glob_child(&self, parent: NodeId, wanted: Pieces<'_>) -> Option<NodeId> {
        self.globs
            .find(glob_hash(&self.hasher, parent, wanted), |&child| {
                let node = &self.nodes[child as usize];
                node.parent == parent && pieces(&node.token) == wanted
            })
            .copied()
    }

    fn add_child(&mut self, parent: NodeId, token: &str) -> NodeId {
        let child = self.nodes.insert(Node::new(parent, token));
        let child = u32::try_from(child).expect("fewer than 2^32 nodes");
        self.nodes[parent as usize].children += 1;
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        if token == "*" {
            self.nodes[parent as usize].star = child;
        } else if token.contains('*') {
            self.globs.insert_unique(glob_hash(hasher, parent, pieces(token)), child, |&node| {
                let node = &nodes[node as usize];
                glob_hash(hasher, node.parent, pieces(&node.token))
            });
            self.weight += self.nodes[parent as usize].add_shape(shape(token));
        } else {
            self.plain.insert_unique(plain_hash(hasher, parent, token), child, |&node| {
                let node = &nodes[node as usize];
                plain_hash(hasher, node.parent, &node.token)
            });
        }
        child
    }

    /// Makes the parent of `gone`, which was `node`, forget it.
    fn unlink(&mut self, node: NodeId, gone: &Node<T>) {
        let parent = &mut self.nodes[gone.parent as usize];
        parent.children -= 1;
        let (table, hash) = if &*gone.token == "*" {
            parent.star = NONE;
            return;
        } else if gone.token.contains('*') {
            self.weight -= parent.remove_shape(shape(&gone.token));
            (&mut self.globs, glob_hash(&self.hasher, gone.parent, pieces(&gone.token)))
        } else {
            (&mut self.plain, plain_hash(&self.hasher, gone.parent, &gone.token))
        };
        if let Ok(entry) = table.find_entry(hash, |&other| other == node) {
            entry.remove();
        }
    }
}

impl<T: Copy + Eq + Hash> Node<T> {
    fn new(parent: NodeId, token: &str) -> Self {
        Self {
            parent,
            children: 0,
            star: NONE,
            token: token.into(),
            shapes: Vec::new(),
            here: Values::None,
            rest: Values::None,
        }
    }

    fn is_idle(&self) -> bool {
        self.children == 0 && self.here.as_slice().is_empty() && self.rest.as_slice().is_empty()
    }

    fn has_shape(&self, shape: Shape) -> bool {
        self.shapes.iter().any(|(other, _)| *other == shape)
    }

    /// Returns what it weighs, if it is new.
    fn add_shape(&mut self, shape: Shape) -> u64 {
        if let Some((_, count)) = self.shapes.iter_mut().find(|(other, _)| *other == shape) {
            *count += 1;
            return 0;
        }
        let at = self.shapes.partition_point(|(other, _)| other.len() <= shape.len());
        self.shapes.insert(at, (shape, 1));
        shape.weight()
    }

    /// Returns what it weighed, if it is gone.
    fn remove_shape(&mut self, shape: Shape) -> u64 {
        let Some(at) = self.shapes.iter().position(|(other, _)| *other == shape) else { return 0 };
        self.shapes[at].1 -= 1;
        if self.shapes[at].1 > 0 {
            return 0;
        }
        self.shapes.remove(at);
        shape.weight()
    }
}

/// The pieces of `glob`, which has one or two stars, never side by side.
fn pieces(glob: &str) -> Pieces<'_> {
    let bytes = glob.as_bytes();
    let is_star = |byte: &u8| *byte == b'*';
    let first = bytes.iter().position(is_star).unwrap_or(bytes.len());
    let last = bytes.iter().rposition(is_star).unwrap_or(first);
    [&bytes[..first], bytes.get(first + 1..last).unwrap_or_default(), &bytes[last + 1..]]
}

fn shape(glob: &str) -> Shape {
    let [prefix, middle, suffix] = pieces(glob)
        .map(|piece| u8::try_from(piece.len()).expect("a pattern is 255 bytes at most"));
    Shape { prefix, middle, suffix }
}

fn plain_hash(hasher: &RandomState, parent: NodeId, token: &str) -> u64 {
    hasher.hash_one((parent, token))
}

fn glob_hash(hasher: &RandomState, parent: NodeId, pieces: Pieces<'_>) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    for piece in pieces {
        piece.hash(&mut hasher);
    }
    hasher.finish()
}
