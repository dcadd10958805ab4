//! Records read from the store during one turn, so that neighbours are read once.
//!
//! Owned by the shard and emptied when a group's turn is over: a group never
//! pins the bodies of messages that wait.

use crate::store::{LogId, Records, Store, StoreError};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Pieces kept before the oldest are let go.
const PIECES_MAX: usize = 512;

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Index of the piece; see [`Reader::piece`].
    pub(crate) piece: usize,
    /// Row in its batch.
    pub(crate) row: usize,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pieces: Vec<(LogId, Records)>,
    last: usize,
    fresh: Vec<Records>,
}

impl Reader {
    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.last = 0;
    }

    /// Finds the message at `offset` of `log`, or the first one kept after it
    /// (compare [`Reader::offset`]); `None` at the stable end.
    ///
    /// # Errors
    /// `StoreError::Damaged`.
    pub(crate) fn seek(
        &mut self,
        store: &dyn Store,
        log: LogId,
        offset: u64,
    ) -> Result<Option<Found>, StoreError> {
        if let Some(found) = self.kept(log, offset) {
            return Ok(Some(found));
        }
        if self.pieces.len() > PIECES_MAX {
            self.clear();
        }
        store.read(log, offset, READ_BYTES, &mut self.fresh)?;
        let first = self.pieces.len();
        self.pieces.extend(self.fresh.drain(..).map(|records| (log, records)));
        if self.pieces.len() == first {
            return Ok(None);
        }
        let records = &self.pieces[first].1;
        let row = offset.saturating_sub(records.offset) as usize;
        self.last = first;
        Ok((row < records.batch.len()).then_some(Found { piece: first, row }))
    }

    /// As [`Reader::seek`], past what is damaged.
    pub(crate) fn seek_behind_damage(
        &mut self,
        store: &dyn Store,
        log: LogId,
        mut offset: u64,
    ) -> Option<Found> {
        loop {
            match self.seek(store, log, offset) {
                Err(StoreError::Damaged { to, .. }) if to > offset => offset = to,
                found => return found.ok().flatten(),
            }
        }
    }

    /// As [`Reader::seek`], for exactly this message.
    ///
    /// # Errors
    /// `StoreError::Damaged`.
    pub(crate) fn find(
        &mut self,
        store: &dyn Store,
        log: LogId,
        offset: u64,
    ) -> Result<Option<Found>, StoreError> {
        let found = self.seek(store, log, offset)?;
        Ok(found.filter(|found| self.offset(*found) == offset))
    }

    /// The neighbouring records of which `found` is one.
    pub(crate) fn piece(&self, found: Found) -> &Records {
        &self.pieces[found.piece].1
    }

    /// Offset of what was found.
    pub(crate) fn offset(&self, found: Found) -> u64 {
        self.piece(found).offset + found.row as u64
    }

    /// Encoded bytes of what was found.
    pub(crate) fn bytes(&self, found: Found) -> &[u8] {
        self.piece(found).batch.message(found.row)
    }

    fn kept(&mut self, log: LogId, offset: u64) -> Option<Found> {
        let holds = |(of, records): &(LogId, Records)| {
            *of == log
                && offset >= records.offset
                && offset < records.offset + records.batch.len() as u64
        };
        let near = self.last..self.pieces.len().min(self.last + 2);
        let piece = near
            .into_iter()
            .find(|&piece| holds(&self.pieces[piece]))
            .or_else(|| self.pieces.iter().position(holds))?;
        self.last = piece;
        let row = (offset - self.pieces[piece].1.offset) as usize;
        Some(Found { piece, row })
    }
}
