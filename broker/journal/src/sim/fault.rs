//! Faults that a test arms: which call goes wrong, and how.

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Making a file.
    Create,
    /// Opening one, or taking the lock.
    Open,
    /// Reading from one.
    Read,
    /// Writing to one, synced or not.
    Write,
    /// Setting its length.
    SetLen,
    /// Syncing one, synced writes included.
    Sync,
    /// Renaming; the path is the new one.
    Rename,
    /// Removing a file or a folder.
    Remove,
    /// Listing a folder.
    List,
    /// Making a folder.
    MakeFolder,
    /// Syncing a folder.
    SyncFolder,
}

impl Operation {
    /// Whether it may change what is on disk.
    pub(super) fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::List)
    }
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails with an input/output error.
    Error,
    /// A write that finds no room, where room was promised: as where what is written goes
    /// to a place of its own.
    NoRoom,
    /// A write that is reported done and never reaches the disk.
    Lost,
    /// A write that reaches the disk that many bytes further on.
    Misplaced(i64),
}

/// One call that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of call.
    pub operation: Operation,
    /// Only calls whose path starts with this count.
    pub under: String,
    /// Which of them, from now on; 1 is the next.
    pub nth: u64,
    /// What happens; all but `Error` are for writes.
    pub effect: Effect,
}

impl Fault {
    /// A fault on any path.
    #[must_use]
    pub fn new(operation: Operation, nth: u64, effect: Effect) -> Self {
        Self { operation, under: String::new(), nth, effect }
    }

    /// The same, only for paths that start with `under`.
    #[must_use]
    pub fn under(self, under: &str) -> Self {
        Self { under: under.to_owned(), ..self }
    }
}

/// The faults that are armed.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Counts a call. What happens to it.
    pub(super) fn meet(&mut self, operation: Operation, path: &str) -> Option<Effect> {
        let mut effect = None;
        self.0.retain_mut(|fault| {
            if fault.operation != operation || !path.starts_with(&fault.under) {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth == 0 {
                effect = Some(fault.effect);
            }
            fault.nth > 0
        });
        effect
    }
}
