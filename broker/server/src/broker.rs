//! What all connections share: the directory, the shards, the policies, the
//! time. No state of its own beyond them.
//!
//! The directory is read under a short lock, once per unknown subject or control
//! request; its version is read without one, once per batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Semaphore;
use tracing::{info, warn};
use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, QueueConfig, SubscriptionId,
};
use weir_core::directory::{Created, Directory, Kind, Settings, Target};
use weir_core::env::Clock;
use weir_core::name::{Name, NameError, Pattern};
use weir_policy::PolicyHost;
use weir_protocol::{ErrorCode, HelloAnswer, HelloLimits, WireError};

use crate::books::Books;
use crate::connections::Connections;
use crate::kept::Kept;
use crate::limits::ROUTE_CACHE_SUBJECTS_SPARE;
use crate::outbox::{Freed, ListenerId, Outbox};
use crate::shard::Notice;
use crate::shards::Shards;
use crate::wire;

/// Every level, the least safe first.
const LEVELS: [Level; 3] = [Level::Memory, Level::Os, Level::Disk];

/// What all connections share.
pub struct Broker {
    /// The way to the shards.
    pub shards: Arc<Shards>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// The policies in force.
    pub policies: PolicyHost,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The safest level that every shard's store reaches.
    pub level_max: Level,
    /// Level of queues and streams that name none.
    pub level_default: Level,
    /// What there is, as it is kept; changes of queues, streams and groups take
    /// turns on it.
    pub books: Books,
    /// Subjects that sessions may remember beyond what each may.
    pub routes_spare: Arc<Semaphore>,
    directory: RwLock<Directory>,
    directory_version: AtomicU64,
}

impl Broker {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        shards: Arc<Shards>,
        connections: Arc<Connections>,
        policies: PolicyHost,
        clock: Arc<dyn Clock>,
        (level_max, level_default): (Level, Level),
        books: Books,
        directory: Directory,
    ) -> Self {
        Self {
            shards,
            connections,
            policies,
            clock,
            level_max,
            level_default,
            books,
            routes_spare: Arc::new(Semaphore::new(ROUTE_CACHE_SUBJECTS_SPARE)),
            directory_version: AtomicU64::new(directory.version()),
            directory: RwLock::new(directory),
        }
    }

    /// Who listens where.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().expect("nothing panics under the directory's lock")
    }

    /// Changes with every change of the directory.
    #[must_use]
    pub fn directory_version(&self) -> u64 {
        self.directory_version.load(Ordering::Acquire)
    }

    /// Changes the directory.
    pub fn change<T>(&self, change: impl FnOnce(&mut Directory) -> T) -> T {
        let mut directory: RwLockWriteGuard<'_, Directory> =
            self.directory.write().expect("nothing panics under the directory's lock");
        let result = change(&mut directory);
        self.directory_version.store(directory.version(), Ordering::Release);
        result
    }

    /// What a client is told when it says hello.
    #[must_use]
    pub fn hello_answer(&self, connection: ConnectionId) -> HelloAnswer {
        HelloAnswer {
            version: 1,
            server: format!("weir {}", env!("CARGO_PKG_VERSION")),
            connection: connection.0,
            limits: HelloLimits::default(),
            levels: LEVELS
                .into_iter()
                .filter(|it| *it <= self.level_max)
                .map(wire::level)
                .collect(),
        }
    }

    /// Adds a channel subscription. The directory knows it by its listener's number.
    ///
    /// # Errors
    /// When the pattern or the share group's name is not well formed.
    pub fn subscribe(
        &self,
        connection: ConnectionId,
        listener: ListenerId,
        pattern: &str,
        share: Option<&str>,
    ) -> Result<(), WireError> {
        let bad = |what: &str, error: NameError| {
            WireError::new(ErrorCode::BadRequest, format!("{what} {error}"))
        };
        let parsed = Pattern::parse(pattern).map_err(|error| bad("the pattern", error))?;
        let share = share
            .map(Name::parse)
            .transpose()
            .map_err(|error| bad("the share group's name", error))?;
        self.change(|directory| {
            directory.subscribe(connection, SubscriptionId(listener.0), &parsed, share.as_ref())
        })
        .map_err(|rejection| wire::rejected(rejection, "the subscription"))
    }

    /// Removes a channel subscription.
    pub fn unsubscribe(&self, outbox: &Outbox, listener: ListenerId) {
        outbox.close_channel(listener);
        let id = SubscriptionId(listener.0);
        // Not there: it was cut off a moment ago.
        let _ = self.change(|directory| directory.unsubscribe(outbox.connection, id));
    }

    /// Removes everything of a connection.
    pub fn disconnect(&self, connection: ConnectionId) {
        self.connections.remove(connection);
        self.change(|directory| directory.disconnect(connection));
    }

    /// Ends a subscription whose listener missed too much.
    pub fn cut_off(&self, outbox: &Arc<Outbox>, listener: ListenerId) {
        let text = format!(
            "the listener missed {} messages; subscribe again and read faster",
            crate::limits::SKIPPED_MESSAGES_MAX
        );
        let error = WireError::new(ErrorCode::LimitReached, text);
        let mut cut = None;
        let ring = outbox.push(|pen| {
            // Gone already: the client gave it up, or another publisher was here.
            cut = pen.end_channel(listener);
            if let Some(number) = cut {
                wire::ended(pen.buffer(), number, &error);
                pen.free(Freed::CutOff(number, listener));
            }
        });
        if ring {
            outbox.ring();
        }
        if let Some(SubscriptionId(subscription)) = cut {
            let connection = outbox.connection.0;
            warn!(connection, subscription, "a listener fell too far behind, it is cut off");
        }
        self.unsubscribe(outbox, listener);
    }

    /// Number and shard of a queue.
    ///
    /// # Errors
    /// `not_found`, with what to do.
    pub fn find_queue(&self, name: &str) -> Result<(DestinationId, u32), WireError> {
        let directory = self.directory();
        match directory.find(name) {
            Some(found) if found.kind() == Kind::Queue => Ok((found.id, found.shard)),
            Some(_) => {
                let text = format!("`{name}` is a stream; consume it through a group");
                Err(WireError::new(ErrorCode::WrongKind, text))
            }
            None => Err(WireError {
                code: ErrorCode::NotFound,
                message: format!("there is no queue `{name}`").into(),
                hint: format!("create it: weir queue create {name}").into(),
                lost: None,
            }),
        }
    }

    /// Number and shard of a stream.
    ///
    /// # Errors
    /// `not_found`, with what to do.
    pub fn find_stream(&self, name: &str) -> Result<(DestinationId, u32), WireError> {
        let directory = self.directory();
        match directory.find(name) {
            Some(found) if found.kind() == Kind::Stream => Ok((found.id, found.shard)),
            Some(_) => {
                let text = format!("`{name}` is a queue, not a stream");
                Err(WireError::new(ErrorCode::WrongKind, text))
            }
            None => Err(WireError {
                code: ErrorCode::NotFound,
                message: format!("there is no stream `{name}`").into(),
                hint: format!("create it: weir stream create {name}").into(),
                lost: None,
            }),
        }
    }

    /// Number and shard of a stream that has this group.
    ///
    /// # Errors
    /// `not_found`, with what to do.
    pub fn find_group(&self, stream: &str, group: &str) -> Result<(DestinationId, u32), WireError> {
        let found = self.find_stream(stream)?;
        if self.directory().find(stream).is_some_and(|it| it.groups.contains_key(group)) {
            return Ok(found);
        }
        Err(WireError {
            code: ErrorCode::NotFound,
            message: format!("stream `{stream}` has no group `{group}`").into(),
            hint: format!("create it: weir group create {stream} {group}").into(),
            lost: None,
        })
    }

    /// The queue that diverted messages go to, made when it is first needed.
    /// `None` when its shard is too busy to make it now.
    #[must_use]
    pub fn dead_letter_queue(&self, name: &str) -> Option<Target> {
        if let Some(found) = self.directory().find(name) {
            return Some(Target { id: found.id, shard: found.shard });
        }
        let parsed = Name::parse(name).ok()?;
        self.change(|directory| {
            let place = self.shards.try_reserve(directory.shard_of(name))?;
            let config = QueueConfig { level: self.level_max, ..QueueConfig::default() };
            let settings = Settings::Queue(config.clone());
            let Created { id, shard, is_new } =
                directory.create(&parsed, Vec::new(), settings).ok()?;
            if is_new {
                info!(queue = name, "made for messages that a filter diverts");
                self.books.note_unlisted(name);
                place.send(Command::CreateQueue { id, name: name.to_owned(), config });
            }
            Some(Target { id, shard })
        })
    }

    /// Acts on what a shard has to tell.
    pub fn notice(&self, notice: Notice) {
        match notice {
            Notice::QueueMade { name, id } => {
                let adopted = self.change(|directory| directory.adopt_queue(&name, id));
                match adopted {
                    Ok(()) => {
                        info!(queue = name, "made for dead letters");
                        self.books.note_unlisted(&name);
                    }
                    Err(rejection) => {
                        warn!(queue = name, %rejection, "cannot list a dead-letter queue")
                    }
                }
            }
            Notice::PolicyFailed { binding, generation, reason } => {
                self.policies.policy_failed(&binding, generation.number, &reason);
            }
        }
    }

    /// Gives queues that the broker made by itself their entry in the catalogue, until no
    /// more come. (A start makes those anew that have none.)
    pub async fn list_unlisted(&self) {
        let entry = |name: &str| {
            let directory = self.directory();
            let found = directory.find(name)?;
            Some(Kept::destination(&found.name, &found.subjects, &found.settings))
        };
        self.books.list_unlisted(entry).await;
    }
}
