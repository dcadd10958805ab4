//! Publishes that are acknowledged once the store is as safe as they were promised.
//!
//! Owned by the shard. What one turn keeps at one level becomes safe at one moment,
//! so the messages of a publisher's read are acknowledged together, however many
//! queues they went to. Invariants: pledges of a level are kept in the order in which
//! they were made; none is kept before the commit that handed its messages over.

use std::collections::VecDeque;

use crate::command::{ConnectionId, DestinationId, Level, ReceiptId};
use crate::effect::Effect;
use crate::rejection::Rejection;
use crate::store::Store;

#[derive(Debug)]
struct Pledge {
    connection: ConnectionId,
    receipt: ReceiptId,
    /// What the store must have made safe; `None` until the turn commits.
    position: Option<u64>,
    /// Rows in the publisher's request; empty means `0..count`.
    rows: Vec<u32>,
    count: u32,
    /// Where they were kept: so many rows, one destination after the other.
    kept_in: Vec<(DestinationId, u32)>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Pledges {
    by_level: [VecDeque<Pledge>; 3],
}

impl Pledges {
    /// Promises an acknowledgement of `count` messages that this turn keeps in
    /// `destination`. `rows` are theirs in the request; empty means `0..count`.
    pub(super) fn make(
        &mut self,
        level: Level,
        (connection, receipt): (ConnectionId, ReceiptId),
        destination: DestinationId,
        count: u32,
        rows: &[u32],
    ) {
        let pledges = &mut self.by_level[level as usize];
        let joins = |last: &&mut Pledge| {
            last.position.is_none() && (last.connection, last.receipt) == (connection, receipt)
        };
        if let Some(last) = pledges.back_mut().filter(joins) {
            last.join(destination, count, rows);
            return;
        }
        pledges.push_back(Pledge {
            connection,
            receipt,
            position: None,
            rows: rows.to_vec(),
            count,
            kept_in: vec![(destination, count)],
        });
    }

    /// The store has committed: keeps what is safe.
    pub(super) fn keep(&mut self, store: &dyn Store, effects: &mut Vec<Effect>) {
        for level in [Level::Memory, Level::Os, Level::Disk] {
            let pledges = &mut self.by_level[level as usize];
            let position = store.position();
            // Those of this turn are the last.
            let fresh = pledges.iter_mut().rev().take_while(|one| one.position.is_none());
            fresh.for_each(|one| one.position = Some(position));
            let safe = store.safe(level);
            let is_safe = |one: &mut Pledge| one.position.is_some_and(|position| position <= safe);
            while let Some(Pledge { connection, receipt, count, rows, .. }) =
                pledges.pop_front_if(is_safe)
            {
                let outcome = Ok(level);
                effects.push(Effect::Published { connection, receipt, count, rows, outcome });
            }
        }
    }

    /// The destination is gone before its messages were safe: their publishers hear
    /// that instead.
    pub(super) fn withdraw(&mut self, destination: DestinationId, effects: &mut Vec<Effect>) {
        for pledges in &mut self.by_level {
            for pledge in &mut *pledges {
                let (connection, receipt) = (pledge.connection, pledge.receipt);
                let rows = pledge.take_rows_of(destination);
                if rows.is_empty() {
                    continue;
                }
                let (count, outcome) = (rows.len() as u32, Err(Rejection::Deleted));
                effects.push(Effect::Published { connection, receipt, count, rows, outcome });
            }
            pledges.retain(|pledge| pledge.count > 0);
        }
    }
}

impl Pledge {
    fn join(&mut self, destination: DestinationId, count: u32, rows: &[u32]) {
        self.spell_out();
        if rows.is_empty() {
            self.rows.extend(0..count);
        } else {
            self.rows.extend_from_slice(rows);
        }
        self.count += count;
        match self.kept_in.last_mut() {
            Some((last, rows)) if *last == destination => *rows += count,
            _ => self.kept_in.push((destination, count)),
        }
    }

    fn spell_out(&mut self) {
        if self.rows.is_empty() {
            self.rows.extend(0..self.count);
        }
    }

    fn take_rows_of(&mut self, destination: DestinationId) -> Vec<u32> {
        if self.kept_in.iter().all(|&(one, _)| one != destination) {
            return Vec::new();
        }
        self.spell_out();
        let (mut taken, mut left, mut at) = (Vec::new(), Vec::new(), 0);
        for &(one, count) in &self.kept_in {
            let rows = &self.rows[at..at + count as usize];
            at += count as usize;
            let into = if one == destination { &mut taken } else { &mut left };
            into.extend_from_slice(rows);
        }
        self.kept_in.retain(|&(one, _)| one != destination);
        self.count = left.len() as u32;
        self.rows = left;
        taken
    }
}
