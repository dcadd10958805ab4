//! An open file of the simulated disk.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::fault::{Effect, Operation};
use super::node::Node;
use super::state::{Met, State, input_output, power_is_cut};
use super::{Disk, error};
use crate::files::File;
use crate::limits::SECTOR_BYTES;

/// See the file's head.
pub(super) struct SimFile {
    disk: Arc<Disk>,
    node: u64,
    path: String,
    process: u64,
    /// Failed write-backs this handle was told of.
    errors_seen: AtomicU64,
}

impl SimFile {
    pub(super) fn new(disk: Arc<Disk>, state: &mut State, path: &str, node: u64) -> Self {
        let file = state.nodes.get_mut(&node).expect("a name leads to a node");
        file.handles += 1;
        let errors_seen = AtomicU64::new(file.errors);
        Self { disk, node, path: path.to_owned(), process: state.process, errors_seen }
    }

    /// The disk, unless this handle died with its process.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.process == self.process { Ok(state) } else { Err(power_is_cut(&self.path)) }
    }

    fn node<'a>(&self, state: &'a mut State) -> &'a mut Node {
        state.nodes.get_mut(&self.node).expect("a node lives as long as its handles")
    }

    fn write(&self, state: &mut State, bytes: &[u8], position: u64) -> io::Result<()> {
        let met = state.meet(Operation::Write, &self.path)?;
        let end = position + bytes.len() as u64;
        let len = self.node(state).current.len();
        let grows = end > len;
        let room = match grows {
            true => state.total_bytes.saturating_sub(state.used_bytes()) + len,
            false => u64::MAX,
        };
        let node = self.node(state);
        if end > room {
            // As the real thing: what fits is written.
            let fits = room.saturating_sub(position).min(bytes.len() as u64) as usize;
            node.write(&bytes[..fits / SECTOR_BYTES * SECTOR_BYTES], position);
            return Err(error(ErrorKind::StorageFull, "write", &self.path));
        }
        match met {
            Met::Clear => node.write(bytes, position),
            Met::PowerCut => {
                node.write(bytes, position);
                return Err(power_is_cut(&self.path));
            }
            Met::Fault(Effect::Error) => {
                node.write(&bytes[..bytes.len() / 2], position);
                return Err(input_output(Operation::Write, &self.path));
            }
            Met::Fault(Effect::NoRoom) => {
                return Err(error(ErrorKind::StorageFull, "write", &self.path));
            }
            Met::Fault(Effect::Lost) => node.write_lost(bytes, position),
            Met::Fault(Effect::Misplaced(by)) => node.write_misplaced(bytes, position, by),
        }
        Ok(())
    }

    /// Syncs all, or a part just written.
    fn sync(&self, mut state: MutexGuard<'_, State>, part: Option<(u64, usize)>) -> io::Result<()> {
        let met = state.meet(Operation::Sync, &self.path)?;
        let begun = self.node(&mut state).begin_sync(part);
        if state.holds_syncs {
            state.syncs_held += 1;
            self.disk.changed.notify_all();
            while state.holds_syncs && state.has_power && state.process == self.process {
                state = self.disk.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.syncs_held -= 1;
        }
        if state.process != self.process || !state.has_power || matches!(met, Met::PowerCut) {
            // As ext4 does: that what was allocated is written now could not be noted, and
            // this sync does not tell.
            let is_untold =
                matches!(met, Met::PowerCut) && self.node(&mut state).allocated.is_some();
            return if is_untold { Ok(()) } else { Err(power_is_cut(&self.path)) };
        }
        if matches!(met, Met::Fault(_)) {
            let State { nodes, random, .. } = &mut *state;
            let node = nodes.get_mut(&self.node);
            node.expect("a node lives as long as its handles").fail_sync(random);
        }
        let node = self.node(&mut state);
        let errors = node.errors;
        if self.errors_seen.swap(errors, Ordering::Relaxed) != errors {
            return Err(input_output(Operation::Sync, &self.path));
        }
        node.end_sync(&begun);
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.begin(Operation::Read, &self.path)??;
        Ok(self.node(&mut state).current.read(buffer, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.state()?;
        self.write(&mut state, bytes, position)
    }

    fn write_synced(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.state()?;
        self.write(&mut state, bytes, position)?;
        self.sync(state, Some((position, bytes.len())))
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = self.state()?;
        self.sync(state, None)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.set_len(len)?;
        self.node(&mut *self.state()?).allocated = Some(len);
        Ok(true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let end = state.begin(Operation::SetLen, &self.path)?;
        let used = state.used_bytes();
        let old = self.node(&mut state).current.len();
        if used.saturating_sub(old) + len > state.total_bytes && len > old {
            return Err(error(ErrorKind::StorageFull, "set the length of", &self.path));
        }
        self.node(&mut state).set_len(len);
        end
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        if !state.has_power {
            return Err(power_is_cut(&self.path));
        }
        Ok(self.node(&mut state).current.len())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.process != self.process {
            return;
        }
        let Some(node) = state.nodes.get_mut(&self.node) else { return };
        node.handles -= 1;
        if node.handles == 0 {
            state.collect();
        }
    }
}
