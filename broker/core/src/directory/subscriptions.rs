//! Channel subscriptions and share groups.
//!
//! Made for a million: a subscription is one entry of a slab, found by a hash of
//! its connection and number, and linked with the others of its connection.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use super::{Listener, Resolved, Share, Subscriber};
use crate::command::ConnectionId;
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::name::{Name, Pattern};
use crate::paged_slab::PagedSlab;
use crate::pattern_index::{PatternIndex, Place, Values};
use crate::rejection::{Limit, Rejection};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Subscription {
    subscriber: Subscriber,
    place: Place,
    /// Its share group, or `NONE`.
    share: u32,
    /// Neighbours among the connection's subscriptions, or `NONE`.
    previous: u32,
    next: u32,
}

#[derive(Debug)]
struct ShareGroup {
    key: (Pattern, Name),
    place: Place,
    members: Values<u32>,
    turn: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    slab: PagedSlab<Subscription>,
    /// Keys into `slab`, by the hash of the subscriber.
    by_subscriber: HashTable<u32>,
    hasher: RandomState,
    /// The latest subscription of each connection.
    heads: HashMap<ConnectionId, u32>,
    shares: PagedSlab<ShareGroup>,
    share_keys: HashMap<(Pattern, Name), u32>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn subscriber(&self, key: u32) -> Subscriber {
        self.slab[key as usize].subscriber
    }

    pub(super) fn place(&self, subscriber: Subscriber) -> Option<Place> {
        self.key(subscriber).map(|key| self.slab[key as usize].place)
    }

    pub(super) fn add(
        &mut self,
        index: &mut PatternIndex<Listener>,
        subscriber: Subscriber,
        pattern: &Pattern,
        share: Option<&Name>,
    ) -> Result<(), Rejection> {
        if self.key(subscriber).is_some() {
            return Err(Rejection::SubscriptionTaken);
        }
        if self.slab.len() >= SUBSCRIPTIONS_MAX {
            return Err(Rejection::OverLimit(&Limit {
                what: "channel subscriptions of this broker",
                name: "subscriptions",
                most: SUBSCRIPTIONS_MAX as u64,
            }));
        }
        let key = u32::try_from(self.slab.vacant_key()).expect("bounded by SUBSCRIPTIONS_MAX");
        let (place, share) = match share {
            None => (index.insert(pattern, Listener::Subscription(key)), NONE),
            Some(name) => self.join(index, pattern, name, key),
        };
        let next = self.heads.insert(subscriber.connection, key).unwrap_or(NONE);
        if next != NONE {
            self.slab[next as usize].previous = key;
        }
        self.slab.insert(Subscription { subscriber, place, share, previous: NONE, next });
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_subscriber.insert_unique(hasher.hash_one(subscriber), key, |&key| {
            hasher.hash_one(slab[key as usize].subscriber)
        });
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        index: &mut PatternIndex<Listener>,
        subscriber: Subscriber,
    ) -> Result<(), Rejection> {
        let key = self.key(subscriber).ok_or(Rejection::NoSubscription)?;
        self.take(index, key);
        Ok(())
    }

    pub(super) fn remove_all(
        &mut self,
        index: &mut PatternIndex<Listener>,
        connection: ConnectionId,
    ) -> usize {
        let mut removed = 0;
        while let Some(&key) = self.heads.get(&connection) {
            self.take(index, key);
            removed += 1;
        }
        removed
    }

    /// Fills `into.shares` from the groups that matched. Groups of one name
    /// are one group here, so that overlapping patterns of its members do not
    /// give it a message twice.
    pub(super) fn collect_shares(&self, into: &mut Resolved) {
        let Resolved { shares, members, matched_shares: matched, .. } = into;
        for at in 0..matched.len() {
            let group = &self.shares[matched[at] as usize];
            let is_same = |key: &u32| self.shares[*key as usize].key.1 == group.key.1;
            if matched[..at].iter().any(is_same) {
                continue;
            }
            let start = members.len();
            for key in matched[at..].iter().filter(|key| is_same(key)) {
                let keys = self.shares[*key as usize].members.as_slice();
                members.extend(keys.iter().map(|&member| self.subscriber(member)));
            }
            let turn = Arc::clone(&group.turn);
            shares.push(Share { members: start..members.len(), turn });
        }
    }

    fn key(&self, subscriber: Subscriber) -> Option<u32> {
        self.by_subscriber
            .find(self.hasher.hash_one(subscriber), |&key| {
                self.slab[key as usize].subscriber == subscriber
            })
            .copied()
    }

    fn join(
        &mut self,
        index: &mut PatternIndex<Listener>,
        pattern: &Pattern,
        name: &Name,
        member: u32,
    ) -> (Place, u32) {
        let key = (pattern.clone(), name.clone());
        let share = match self.share_keys.get(&key) {
            Some(&share) => share,
            None => {
                let share = u32::try_from(self.shares.vacant_key())
                    .expect("fewer groups than subscriptions");
                self.shares.insert(ShareGroup {
                    key: key.clone(),
                    place: index.insert(pattern, Listener::Share(share)),
                    members: Values::default(),
                    turn: Arc::default(),
                });
                self.share_keys.insert(key, share);
                share
            }
        };
        let group = &mut self.shares[share as usize];
        group.members.insert(member);
        (group.place, share)
    }

    fn take(&mut self, index: &mut PatternIndex<Listener>, key: u32) {
        let gone = self.slab.remove(key as usize);
        if gone.share == NONE {
            index.remove(gone.place, Listener::Subscription(key));
        } else {
            self.leave(index, gone.share, key);
        }
        if gone.next != NONE {
            self.slab[gone.next as usize].previous = gone.previous;
        }
        match (gone.previous, gone.next) {
            (NONE, NONE) => {
                self.heads.remove(&gone.subscriber.connection);
            }
            (NONE, next) => {
                self.heads.insert(gone.subscriber.connection, next);
            }
            (previous, next) => self.slab[previous as usize].next = next,
        }
        let hash = self.hasher.hash_one(gone.subscriber);
        if let Ok(entry) = self.by_subscriber.find_entry(hash, |&other| other == key) {
            entry.remove();
        }
    }

    fn leave(&mut self, index: &mut PatternIndex<Listener>, share: u32, member: u32) {
        let group = &mut self.shares[share as usize];
        group.members.remove(&member);
        if group.members.as_slice().is_empty() {
            index.remove(group.place, Listener::Share(share));
            let gone = self.shares.remove(share as usize);
            self.share_keys.remove(&gone.key);
        }
    }
}
