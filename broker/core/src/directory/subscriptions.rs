//! Channel subscriptions and share groups.
//!
//! Made for a million: a subscription is one entry of a slab, found by a hash of
//! its connection and number, and linked with the others of its connection.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use super::{Listener, Resolved, Share, Subscriber, too_many_globs};
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
        if !index.has_room(std::slice::from_ref(pattern)) {
            return Err(too_many_globs());
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
        self.bring_together(matched);
        let name = |key: u32| &self.shares[key as usize].key.1;
        for of_one in matched.chunk_by(|&one, &other| name(one) == name(other)) {
            let start = members.len();
            for &key in of_one {
                let keys = self.shares[key as usize].members.as_slice();
                members.extend(keys.iter().map(|&member| self.subscriber(member)));
            }
            let turn = Arc::clone(&self.shares[of_one[0] as usize].turn);
            shares.push(Share { members: start..members.len(), turn });
        }
    }

    /// Puts share groups right behind the first of their name, else in the order in
    /// which they are. By a table: every subscription may be a group of its own, and
    /// so many are not compared with each other.
    fn bring_together(&self, matched: &mut [u32]) {
        if matched.len() < 2 {
            return;
        }
        let mut firsts: HashMap<&Name, usize> = HashMap::with_capacity(matched.len());
        let with_first = |(at, &key): (usize, &u32)| {
            let name = &self.shares[key as usize].key.1;
            (*firsts.entry(name).or_insert(at), key)
        };
        let mut keys: Vec<(usize, u32)> = matched.iter().enumerate().map(with_first).collect();
        keys.sort_by_key(|&(first, _)| first);
        for (place, (_, key)) in matched.iter_mut().zip(keys) {
            *place = key;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::SubscriptionId;
    use crate::directory::Directory;

    /// Every name with several patterns, every pattern with several names: as when each
    /// group is looked for among all others.
    #[test]
    fn groups_of_one_name_stand_where_the_first_of_them_was_found() {
        let mut directory = Directory::new(1);
        for number in 0..200 {
            let pattern = ["a.*", "a.>", ">", "a.b"][number as usize % 4];
            let pattern = Pattern::parse(pattern).expect("a pattern");
            let share = Name::parse(&format!("g{}", number * 7 % 30)).expect("a name");
            let connection = ConnectionId(number);
            let subscribed =
                directory.subscribe(connection, SubscriptionId(1), &pattern, Some(&share));
            subscribed.expect("subscribed");
        }
        let (subscriptions, mut naive) = (&directory.subscriptions, Vec::new());
        directory.index.for_each_match("a.b", |listener| {
            let Listener::Share(key) = *listener else { panic!("all are in groups") };
            let group = &subscriptions.shares[key as usize];
            let members = group.members.as_slice().iter();
            let members = members.map(|&member| subscriptions.subscriber(member));
            let same = |(name, _): &&mut (Name, Vec<Subscriber>)| *name == group.key.1;
            match naive.iter_mut().find(same) {
                Some((_, all)) => all.extend(members),
                None => naive.push((group.key.1.clone(), members.collect())),
            }
        });
        let mut resolved = Resolved::default();
        directory.resolve("a.b", &mut resolved);
        let found = resolved.shares.iter().map(|share| resolved.members(share).to_vec());
        let expected = naive.into_iter().map(|(_, members)| members);
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(resolved.shares.len(), 30);
    }
}
