//! The messages of a batch in their present form: as published, or as a filter
//! before has changed them.

use weir_message::Parts;

use crate::columns::RowRef;
use crate::judge::JudgeInput;

/// Marks a row that no filter has changed.
pub(crate) const UNCHANGED: u32 = u32::MAX;

/// Messages that filters have written anew.
#[derive(Debug, Default)]
pub(crate) struct Edited {
    /// The messages, end to end.
    pub(crate) bytes: Vec<u8>,
    /// Where their parts lie in `bytes`.
    pub(crate) parts: Vec<Parts>,
    /// Per row of the batch its entry in `parts`, or [`UNCHANGED`]; empty while
    /// no filter works.
    pub(crate) of_row: Vec<u32>,
}

/// All rows of a batch, to be read.
#[derive(Clone, Copy)]
pub(crate) struct Messages<'a> {
    pub(crate) input: JudgeInput<'a>,
    pub(crate) edited: &'a Edited,
}

impl Edited {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
        self.of_row.clear();
    }

    /// The entry of `row` in `parts`, when it was changed.
    pub(crate) fn entry(&self, row: u32) -> Option<&Parts> {
        match self.of_row.get(row as usize) {
            None | Some(&UNCHANGED) => None,
            Some(&at) => Some(&self.parts[at as usize]),
        }
    }
}

impl<'a> Messages<'a> {
    pub(crate) fn row(&self, row: u32) -> RowRef<'a> {
        let (buffer, parts) = match self.edited.entry(row) {
            Some(parts) => (&*self.edited.bytes, parts),
            None => (self.input.buffer, &self.input.parts[row as usize]),
        };
        RowRef {
            buffer,
            parts,
            publisher: self.input.publisher,
            time_ms: self.input.now.wall_ms,
            sequence: 0,
        }
    }
}
