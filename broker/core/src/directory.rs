//! Who listens where: channel subscriptions, and the queues and streams with the
//! patterns they listen on.
//!
//! One per broker, behind a lock of the edge's: every publisher reads it, few
//! calls change it. [`Directory::version`] rises with every change, so that an
//! edge may keep what [`Directory::resolve`] found until then. The directory
//! numbers destinations and says which shard owns each; what a queue or stream
//! holds is the shard's own affair.
//!
//! Invariants: a subscription has one pattern; a share group is there while it
//! has members; a name belongs to one queue or stream.

mod destinations;
mod resolved;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::ops::Range;

use weir_message::key_hash;

use crate::command::{ConnectionId, DestinationId, GroupConfig, SubscriptionId};
use crate::limits::GLOB_WEIGHT_MAX;
use crate::name::{Name, Pattern, shard_part};
use crate::pattern_index::PatternIndex;
use crate::rejection::{Limit, Rejection};

use destinations::Destinations;
pub use destinations::{Created, Destination, Kind, Settings};
pub use resolved::{Resolved, Share, Subscriber, Target};
use subscriptions::Subscriptions;

/// Numbers from here on are given out by the shards, for dead-letter queues.
const SHARD_IDS_START: u32 = 1 << 31;

/// What lies in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Listener {
    /// A subscription, by its key.
    Subscription(u32),
    /// A share group, by its key.
    Share(u32),
    /// A queue or stream.
    Destination(DestinationId),
}

fn too_many_globs() -> Rejection {
    Rejection::OverLimit(&Limit {
        what: "weight of the patterns with a `*` beside other characters, by their shapes",
        name: "glob_weight",
        most: GLOB_WEIGHT_MAX,
    })
}

/// Who listens where.
#[derive(Debug)]
pub struct Directory {
    shards: u32,
    version: u64,
    index: PatternIndex<Listener>,
    subscriptions: Subscriptions,
    destinations: Destinations,
}

impl Directory {
    /// An empty directory for a broker of so many shards, at least one.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        assert!(shards > 0, "a broker has at least one shard");
        Self {
            shards,
            version: 0,
            index: PatternIndex::default(),
            subscriptions: Subscriptions::default(),
            destinations: Destinations::default(),
        }
    }

    /// Rises with every change: while it stays the same, so does every answer.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The shard that owns the queue or stream `name`, and its dead letters.
    #[must_use]
    pub fn shard_of(&self, name: &str) -> u32 {
        key_hash(shard_part(name).as_bytes()) % self.shards
    }

    /// Numbers that shard `shard` may give to queues it makes by itself.
    #[must_use]
    pub fn shard_ids(&self, shard: u32) -> Range<u32> {
        let share = (u32::MAX - SHARD_IDS_START) / self.shards;
        let start = SHARD_IDS_START + shard * share;
        start..start + share
    }

    // Channels.

    /// Number of channel subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Subscribes to the channels that `pattern` selects. Members of a share
    /// group, which is known by its name and pattern, get each message once
    /// between them.
    ///
    /// # Errors
    /// `SubscriptionTaken`, `OverLimit`.
    pub fn subscribe(
        &mut self,
        connection: ConnectionId,
        subscription: SubscriptionId,
        pattern: &Pattern,
        share: Option<&Name>,
    ) -> Result<(), Rejection> {
        let subscriber = Subscriber { connection, subscription };
        self.subscriptions.add(&mut self.index, subscriber, pattern, share)?;
        self.version += 1;
        Ok(())
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// `NoSubscription`.
    pub fn unsubscribe(
        &mut self,
        connection: ConnectionId,
        subscription: SubscriptionId,
    ) -> Result<(), Rejection> {
        let subscriber = Subscriber { connection, subscription };
        self.subscriptions.remove(&mut self.index, subscriber)?;
        self.version += 1;
        Ok(())
    }

    /// Ends every subscription of a connection. Returns how many there were.
    pub fn disconnect(&mut self, connection: ConnectionId) -> usize {
        let removed = self.subscriptions.remove_all(&mut self.index, connection);
        self.version += u64::from(removed > 0);
        removed
    }

    /// The pattern of a subscription.
    #[must_use]
    pub fn pattern_of(
        &self,
        connection: ConnectionId,
        subscription: SubscriptionId,
    ) -> Option<String> {
        let place = self.subscriptions.place(Subscriber { connection, subscription })?;
        Some(self.index.pattern(place))
    }

    // Queues and streams.

    /// Queues and streams, by name.
    pub fn list(&self) -> impl Iterator<Item = &Destination> {
        self.destinations.list()
    }

    /// The queue or stream of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Destination> {
        self.destinations.find(name)
    }

    /// The queue or stream of this number.
    #[must_use]
    pub fn by_id(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.by_id.get(&id)
    }

    /// Makes a queue or stream that listens on `subjects`, or finds the one
    /// there is when it has the same settings and subjects. A stream starts
    /// without groups, and those it has do not count as settings here.
    ///
    /// # Errors
    /// `Exists`, `WrongKind`, `OverLimit`.
    pub fn create(
        &mut self,
        name: &Name,
        subjects: Vec<Pattern>,
        settings: Settings,
    ) -> Result<Created, Rejection> {
        self.create_if(true, name, subjects, settings)
    }

    /// As [`Self::create`], however many there are: what was there before a restart, the
    /// broker's own queues beside those that clients may make, is there after it.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn restore(
        &mut self,
        name: &Name,
        subjects: Vec<Pattern>,
        settings: Settings,
    ) -> Result<Created, Rejection> {
        self.create_if(false, name, subjects, settings)
    }

    fn create_if(
        &mut self,
        is_bounded: bool,
        name: &Name,
        subjects: Vec<Pattern>,
        settings: Settings,
    ) -> Result<Created, Rejection> {
        let (shard, index) = (self.shard_of(name.as_str()), &mut self.index);
        let created =
            self.destinations.create(index, name, subjects, settings, shard, is_bounded)?;
        self.version += u64::from(created.is_new);
        Ok(created)
    }

    /// Changes settings, and subjects when there are some. A stream keeps its
    /// partitions and groups.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`, `OverLimit`.
    pub fn alter(
        &mut self,
        name: &str,
        subjects: Option<Vec<Pattern>>,
        settings: Settings,
    ) -> Result<&Destination, Rejection> {
        let id = self.destinations.alter(&mut self.index, name, subjects, settings)?;
        self.version += 1;
        Ok(&self.destinations.by_id[&id])
    }

    /// Removes a queue or stream with its groups.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn delete(&mut self, name: &str, kind: Kind) -> Result<Destination, Rejection> {
        let removed = self.destinations.delete(&mut self.index, name, kind)?;
        self.version += 1;
        Ok(removed)
    }

    /// Takes note of a queue that a shard made for dead letters. It listens on
    /// nothing, is kept as safely as what it serves, and has no other bound. When
    /// a client made a queue of that name at the same time, the shard's number
    /// holds from now on, since the messages lie there.
    ///
    /// # Errors
    /// `WrongKind` when the name is a stream's.
    pub fn adopt_queue(&mut self, name: &str, id: DestinationId) -> Result<(), Rejection> {
        let shard = self.shard_of(name);
        self.destinations.adopt_queue(&mut self.index, name, id, shard)?;
        self.version += 1;
        Ok(())
    }

    // Groups.

    /// Makes a group of a stream, or finds the one there is when it has the same
    /// order and options; where a group starts matters only when it is made.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`, `Exists`, `OverLimit`.
    pub fn create_group(
        &mut self,
        stream: &str,
        group: &Name,
        config: GroupConfig,
    ) -> Result<Created, Rejection> {
        let created = self.destinations.create_group(stream, group, config, true)?;
        self.version += u64::from(created.is_new);
        Ok(created)
    }

    /// As [`Self::create_group`], however many there are: see [`Self::restore`].
    ///
    /// # Errors
    /// As [`Self::create_group`].
    pub fn restore_group(
        &mut self,
        stream: &str,
        group: &Name,
        config: GroupConfig,
    ) -> Result<Created, Rejection> {
        let created = self.destinations.create_group(stream, group, config, false)?;
        self.version += u64::from(created.is_new);
        Ok(created)
    }

    /// Changes a group's order and options.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn alter_group(
        &mut self,
        stream: &str,
        group: &str,
        config: GroupConfig,
    ) -> Result<Created, Rejection> {
        let altered = self.destinations.alter_group(stream, group, config)?;
        self.version += 1;
        Ok(altered)
    }

    /// Removes a group.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`.
    pub fn delete_group(&mut self, stream: &str, group: &str) -> Result<Created, Rejection> {
        let removed = self.destinations.delete_group(stream, group)?;
        self.version += 1;
        Ok(removed)
    }

    // Publishing.

    /// Replaces what is in `into` by whoever listens on `subject`, which is well
    /// formed. Allocates only while `into` still grows, and where several share groups listen.
    pub fn resolve(&self, subject: &str, into: &mut Resolved) {
        into.clear();
        self.index.for_each_match(subject, |listener| match *listener {
            Listener::Subscription(key) => {
                into.subscribers.push(self.subscriptions.subscriber(key));
            }
            Listener::Share(key) => into.matched_shares.push(key),
            Listener::Destination(id) => {
                into.destinations.push(Target { id, shard: self.destinations.by_id[&id].shard });
            }
        });
        // By number, so that the order says nothing about patterns; a
        // destination may match through several of its patterns.
        into.destinations.sort_unstable_by_key(|target| target.id);
        into.destinations.dedup();
        self.subscriptions.collect_shares(into);
    }
}
