//! What a batch of published messages is asked and answered, as the server sees
//! it. Filled by [`PublishChain::judge`](crate::chain::PublishChain::judge).

use std::sync::Arc;

use weir_core::env::Now;
use weir_core::rejection::Rejection;
use weir_message::Parts;

/// Messages to judge: neighbours in one read buffer.
#[derive(Clone, Copy, Debug)]
pub struct JudgeInput<'a> {
    /// What `parts` point into.
    pub buffer: &'a [u8],
    /// One per message, checked by `weir_message::parse`.
    pub parts: &'a [Parts],
    /// The connection that published, as policies see it.
    pub publisher: u32,
    /// The moment of the batch.
    pub now: Now,
}

/// Where the bytes of a message to be kept or handed on lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As published: the row's own bytes in the input buffer.
    Input,
    /// `judged.rewritten[start..end]`; neighbours there are neighbours in order.
    Rewritten {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
}

/// One copy of a message, to one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The subject: index into [`Judged::targets`].
    pub target: u32,
    /// Its bytes; they carry that subject.
    pub place: Place,
    /// Delay before it is delivered, ms.
    pub delay_ms: u32,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowVerdict<'a> {
    /// To its own subject, as published.
    Same,
    /// To these subjects; none at all when the router sends it nowhere, which the
    /// publisher is told as "unrouted".
    Picks(&'a [Pick]),
    /// The publisher gets an error.
    Refused(&'a Refusal),
    /// Taken and gone, by a filter with the power to.
    Dropped,
    /// Into the queue named, with the reason.
    Diverted {
        /// Name of the queue: `<binding>/dead`, or `<binding>/held` where the
        /// failure rule is to hold.
        queue: &'a Arc<str>,
        /// Why, one sentence.
        reason: &'a Arc<str>,
        /// Its bytes.
        place: Place,
    },
}

/// Why a row was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `PolicyRefused`, or `PolicyFailed` where the policy could not judge it.
    pub code: Rejection,
    /// One sentence.
    pub reason: Arc<str>,
    /// The binding that refused.
    pub binding: Arc<str>,
    /// Its generation.
    pub generation: u64,
}

/// Verdicts over a batch. Kept by the caller and filled anew per batch, so that
/// its buffers are used again.
#[derive(Debug, Default)]
pub struct Judged {
    pub(crate) rows: Vec<Row>,
    pub(crate) picks: Vec<Pick>,
    pub(crate) targets: Vec<Arc<str>>,
    pub(crate) rewritten: Vec<u8>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) diversions: Vec<Diversion>,
    /// The chain that judged.
    pub(crate) generation: u64,
}

/// Verdict on one row, as numbers into the lists of [`Judged`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Row {
    #[default]
    Same,
    Picks {
        start: u32,
        end: u32,
    },
    Refused(u32),
    Dropped,
    Diverted(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Diversion {
    pub(crate) queue: Arc<str>,
    pub(crate) reason: Arc<str>,
    pub(crate) place: Place,
}

impl Judged {
    /// Rows judged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when no row was judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The verdict on `row`.
    #[must_use]
    pub fn row(&self, row: usize) -> RowVerdict<'_> {
        match self.rows[row] {
            Row::Same => RowVerdict::Same,
            Row::Picks { start, end } => {
                RowVerdict::Picks(&self.picks[start as usize..end as usize])
            }
            Row::Refused(at) => RowVerdict::Refused(&self.refusals[at as usize]),
            Row::Dropped => RowVerdict::Dropped,
            Row::Diverted(at) => {
                let Diversion { queue, reason, place } = &self.diversions[at as usize];
                RowVerdict::Diverted { queue, reason, place: *place }
            }
        }
    }

    /// The verdicts in row order.
    pub fn iter(&self) -> impl Iterator<Item = RowVerdict<'_>> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// The different subjects of all picks; each once per batch, so a caller
    /// resolves them once.
    #[must_use]
    pub fn targets(&self) -> &[Arc<str>] {
        &self.targets
    }

    /// Messages that had to be written anew.
    #[must_use]
    pub fn rewritten(&self) -> &[u8] {
        &self.rewritten
    }

    /// Takes the messages that had to be written anew, to share them.
    #[must_use]
    pub fn take_rewritten(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rewritten)
    }

    /// Generation of the chain that judged.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn clear(&mut self, rows: usize, generation: u64) {
        self.rows.clear();
        self.rows.resize(rows, Row::Same);
        self.picks.clear();
        self.targets.clear();
        self.rewritten.clear();
        self.refusals.clear();
        self.diversions.clear();
        self.generation = generation;
    }
}
