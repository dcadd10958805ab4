//! The state of the simulated disk, behind one lock.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};

use super::fault::{Effect, Faults, Operation};
use super::node::Node;
use super::tree::{Item, Op, Tree};
use super::{Seeded, error};

/// Room of a new disk, bytes.
const TOTAL_BYTES: u64 = 1 << 40;

/// See the file's head.
pub(super) struct State {
    pub(super) nodes: HashMap<u64, Node>,
    next_node: u64,
    /// Names as programs see them.
    pub(super) now: Tree,
    /// Names that are on disk for certain.
    pub(super) durable: Tree,
    /// Changes from the latter to the former, in order.
    pub(super) pending: Vec<Op>,
    pub(super) faults: Faults,
    pub(super) random: Seeded,
    /// Changing calls so far.
    pub(super) operations: u64,
    /// The changing call during which the power goes.
    pub(super) power_ends_at: Option<u64>,
    pub(super) has_power: bool,
    /// Changes when the process that uses the disk ends: its handles are dead.
    pub(super) process: u64,
    pub(super) is_locked: bool,
    pub(super) total_bytes: u64,
    pub(super) holds_syncs: bool,
    /// Syncs that are waiting to be let go.
    pub(super) syncs_held: usize,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: HashMap::new(),
            next_node: 1,
            now: Tree::new(),
            durable: Tree::new(),
            pending: Vec::new(),
            faults: Faults::default(),
            random: Seeded::new(seed),
            operations: 0,
            power_ends_at: None,
            has_power: true,
            process: 0,
            is_locked: false,
            total_bytes: TOTAL_BYTES,
            holds_syncs: false,
            syncs_held: 0,
        }
    }

    pub(super) fn fork(&self) -> Self {
        let nodes = self.nodes.iter().map(|(&number, node)| {
            let node = Node { handles: 0, ..node.clone() };
            (number, node)
        });
        Self {
            nodes: nodes.collect(),
            next_node: self.next_node,
            now: self.now.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            random: self.random.clone(),
            total_bytes: self.total_bytes,
            ..Self::new(0)
        }
    }

    /// Counts a call and lets the power go when its time has come. The outer
    /// error: nothing happens. The inner one: the change is made, as far as
    /// programs see, and then the call fails with it.
    #[allow(clippy::type_complexity, reason = "the two errors are the point")]
    pub(super) fn begin(&mut self, operation: Operation, path: &str) -> io::Result<io::Result<()>> {
        match self.meet(operation, path)? {
            Met::Clear => Ok(Ok(())),
            Met::PowerCut => Ok(Err(power_is_cut(path))),
            Met::Fault(_) => Err(input_output(operation, path)),
        }
    }

    /// As [`State::begin`], for those that treat faults each in its way.
    pub(super) fn meet(&mut self, operation: Operation, path: &str) -> io::Result<Met> {
        if !self.has_power {
            return Err(power_is_cut(path));
        }
        if operation.is_change() {
            self.operations += 1;
            if self.power_ends_at.is_some_and(|end| self.operations >= end) {
                self.has_power = false;
                return Ok(Met::PowerCut);
            }
        }
        Ok(self.faults.meet(operation, path).map_or(Met::Clear, Met::Fault))
    }

    /// Makes a change to names, as programs see it.
    pub(super) fn change(&mut self, op: Op) {
        op.apply(&mut self.now);
        self.pending.push(op);
    }

    pub(super) fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.begin(Operation::SyncFolder, folder)??;
        self.check_folder(Some(folder))?;
        for op in self.pending.extract_if(.., |op| op.folder() == folder) {
            op.apply(&mut self.durable);
        }
        Ok(())
    }

    pub(super) fn check_folder(&self, folder: Option<&str>) -> io::Result<()> {
        match folder {
            Some("") => Ok(()),
            Some(path) if self.now.get(path) == Some(&Item::Folder) => Ok(()),
            other => Err(error(ErrorKind::NotFound, "folder", other.unwrap_or_default())),
        }
    }

    pub(super) fn new_node(&mut self) -> u64 {
        let number = self.next_node;
        self.next_node += 1;
        self.nodes.insert(number, Node::default());
        number
    }

    pub(super) fn node_of(&mut self, path: &str) -> Option<&mut Node> {
        match self.now.get(path) {
            Some(Item::File(node)) => self.nodes.get_mut(node),
            _ => None,
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.now.values().filter_map(|item| match item {
            Item::File(node) => self.nodes.get(node),
            Item::Folder => None,
        });
        files.map(|node| node.current.len()).sum()
    }

    /// The process is gone: its handles are dead, the lock is free.
    pub(super) fn end_process(&mut self) {
        self.process += 1;
        self.is_locked = false;
        self.holds_syncs = false;
        self.nodes.values_mut().for_each(|node| node.handles = 0);
        self.collect();
    }

    /// Drops files that nobody can get at any more.
    pub(super) fn collect(&mut self) {
        let items = self.now.values().chain(self.durable.values());
        let named = items.filter_map(|item| match item {
            Item::File(node) => Some(*node),
            Item::Folder => None,
        });
        let named: HashSet<u64> = named.chain(self.pending.iter().filter_map(Op::node)).collect();
        self.nodes.retain(|number, node| node.handles > 0 || named.contains(number));
    }
}

/// What meets a call.
pub(super) enum Met {
    Clear,
    PowerCut,
    Fault(Effect),
}

pub(super) fn power_is_cut(path: &str) -> io::Error {
    io::Error::other(format!("{path}: the power is cut"))
}

pub(super) fn input_output(operation: Operation, path: &str) -> io::Error {
    io::Error::other(format!("{operation:?} {path}: input/output error"))
}
