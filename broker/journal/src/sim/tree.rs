//! Names: the folder entries of the simulated disk, and the changes to them that
//! are not on disk yet.

use std::collections::BTreeMap;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Folder,
    /// A file, by the number of its node.
    File(u64),
}

/// By path. The data folder itself, `""`, is not in it.
pub(super) type Tree = BTreeMap<String, Item>;

/// One change, which a power cut keeps as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Create { path: String, node: u64 },
    Rename { to: String, node: u64 },
    MoveFolder { from: String, to: String },
    Remove { path: String, node: u64 },
    MakeFolder { path: String },
    RemoveFolder { path: String },
}

/// The folder of a path; `None` for the data folder.
pub(super) fn parent_of(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((folder, _)) => Some(folder),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

impl Op {
    /// The folder whose sync brings it to disk.
    pub(super) fn folder(&self) -> &str {
        let (Self::Create { path, .. }
        | Self::Remove { path, .. }
        | Self::MakeFolder { path }
        | Self::RemoveFolder { path }
        | Self::Rename { to: path, .. }
        | Self::MoveFolder { to: path, .. }) = self;
        parent_of(path).unwrap_or_default()
    }

    /// The node it names.
    pub(super) fn node(&self) -> Option<u64> {
        match self {
            Self::Create { node, .. } | Self::Rename { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// Makes the change, also to a tree that lacks changes before it.
    pub(super) fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Create { path, node } => {
                tree.insert(path.clone(), Item::File(*node));
            }
            Self::Rename { to, node } => {
                // Wherever it is: a file never has two names.
                tree.retain(|_, item| *item != Item::File(*node));
                tree.insert(to.clone(), Item::File(*node));
            }
            Self::MoveFolder { from, to } => {
                let is_inside = |path: &str| {
                    path.strip_prefix(from.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                let moved: Vec<_> = tree.extract_if(.., |path, _| is_inside(path)).collect();
                tree.extend(
                    moved.into_iter().map(|(path, item)| (to.clone() + &path[from.len()..], item)),
                );
            }
            Self::Remove { path, node } => {
                if tree.get(path) == Some(&Item::File(*node)) {
                    tree.remove(path);
                }
            }
            Self::MakeFolder { path } => {
                tree.insert(path.clone(), Item::Folder);
            }
            Self::RemoveFolder { path } => {
                if tree.get(path) == Some(&Item::Folder) {
                    tree.remove(path);
                }
            }
        }
    }
}

/// Takes out what lies in folders that are not there.
pub(super) fn drop_orphans(tree: &mut Tree) {
    let mut kept = Tree::new();
    // Parents come before what they hold.
    for (path, item) in std::mem::take(tree) {
        let parent = parent_of(&path).unwrap_or_default();
        if parent.is_empty() || kept.get(parent) == Some(&Item::Folder) {
            kept.insert(path, item);
        }
    }
    *tree = kept;
}
