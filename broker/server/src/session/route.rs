//! Where messages of one subject go, resolved once and remembered.
//!
//! Owned by one session, read per run of equal subjects. Thrown away whenever
//! the directory or the policy chain has changed, so an entry never outlives the
//! facts it was made from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use weir_core::directory::{Directory, Resolved, Share, Subscriber, Target};
use weir_core::memo::Memo;
use weir_policy::chain::SubjectRoute;

use crate::broker::Broker;
use crate::limits::{
    ROUTE_CACHE_STEP, ROUTE_CACHE_SUBJECTS, ROUTE_CACHE_SUBJECTS_SPARE, ROUTE_CACHE_TARGETS_MAX,
    ROUTE_CACHE_USED_SHARE, ROUTE_SEARCH_MS_MAX,
};
use crate::outbox::{ListenerId, Outbox};

/// One channel subscription.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its connection's outbox.
    pub outbox: Arc<Outbox>,
    /// Which of its subscriptions.
    pub id: ListenerId,
}

/// Everybody who gets messages of one subject.
#[derive(Debug, Default)]
pub struct Route {
    /// Channel subscriptions.
    pub listeners: Vec<Listener>,
    /// Share groups with their members: one of each gets a message.
    pub shares: Vec<(Share, Vec<Option<Listener>>)>,
    /// Queues and streams, with the shard that owns each.
    pub destinations: Vec<Target>,
}

impl Route {
    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.shares.is_empty() && self.destinations.is_empty()
    }

    /// The one queue or stream that gets its messages, where nobody else does.
    pub(super) fn only_destination(&self) -> Option<Target> {
        match self.destinations[..] {
            [one] if self.listeners.is_empty() && self.shares.is_empty() => Some(one),
            _ => None,
        }
    }
}

/// What is known of a subject before its messages are looked at.
#[derive(Debug)]
pub struct Planned {
    /// Where its messages go.
    pub plan: SubjectPlan,
    /// Whose answer that is: told of every run that follows it.
    pub judged_by: Option<SubjectRoute>,
}

/// Where messages of a subject go.
#[derive(Debug)]
pub enum SubjectPlan {
    /// To one queue or stream, and nobody else.
    Only(Target),
    /// To its own subject.
    Same(Arc<Route>),
    /// A router always sends this subject here.
    To(Vec<(Arc<str>, Arc<Route>)>),
    /// Policies want to see each message.
    PerMessage,
    /// Not a subject that clients may publish to; one sentence says why.
    Refused(Arc<str>),
}

/// The session's memory of routes.
#[derive(Debug)]
pub struct Routes {
    directory_version: u64,
    chain_number: u64,
    plans: Memo<Arc<Planned>>,
    routes: Memo<Arc<Route>>,
    /// What it may remember beyond what every session may.
    spare: Option<OwnedSemaphorePermit>,
    resolved: Resolved,
    /// Time that look-ups took which nobody has asked for.
    searched: Duration,
    /// Listeners, queues and streams in all routes, and in some that are forgotten.
    targets: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            directory_version: 0,
            chain_number: 0,
            plans: Memo::new(ROUTE_CACHE_SUBJECTS),
            routes: Memo::new(ROUTE_CACHE_SUBJECTS),
            spare: None,
            resolved: Resolved::default(),
            searched: Duration::ZERO,
            targets: 0,
        }
    }
}

impl Routes {
    /// Forgets everything when the world has changed since.
    pub fn refresh(&mut self, directory_version: u64, chain_number: u64) {
        if self.directory_version != directory_version || self.chain_number != chain_number {
            self.forget();
            self.directory_version = directory_version;
            self.chain_number = chain_number;
        }
    }

    /// The plan of a subject, when it is known.
    #[must_use]
    pub fn plan(&mut self, subject: &str) -> Option<Arc<Planned>> {
        self.plans.get(subject.as_bytes())
    }

    /// Remembers the plan of a subject.
    pub fn learn(&mut self, broker: &Broker, subject: &str, planned: Planned) -> Arc<Planned> {
        // Subjects that are written to once are not worth more room.
        let entries_max = self.plans.entries_max();
        let are_used = self.plans.used_again() >= entries_max / ROUTE_CACHE_USED_SHARE;
        if self.plans.is_full() && are_used && entries_max < ROUTE_CACHE_SUBJECTS_SPARE {
            self.widen(broker);
        }
        let planned = Arc::new(planned);
        self.plans.insert(subject.as_bytes().into(), planned.clone());
        planned
    }

    /// Plans are what a session needs for each subject it writes to; routes by
    /// themselves are those of targets and of messages that are judged.
    fn widen(&mut self, broker: &Broker) {
        let spare = broker.routes_spare.clone();
        // Refused: others have them all.
        let Ok(more) = spare.try_acquire_many_owned(ROUTE_CACHE_STEP as u32) else { return };
        match &mut self.spare {
            Some(spare) => spare.merge(more),
            spare => *spare = Some(more),
        }
        self.plans.widen(ROUTE_CACHE_STEP);
    }

    /// Who gets messages of `subject`, remembered.
    pub fn route(&mut self, broker: &Broker, subject: &str) -> Arc<Route> {
        if let Some(route) = self.routes.get(subject.as_bytes()) {
            return route;
        }
        let route = self.found(broker, subject);
        self.routes.insert(subject.as_bytes().into(), route.clone());
        route
    }

    /// Who gets messages of `subject`, for a plan that remembers it.
    pub fn found(&mut self, broker: &Broker, subject: &str) -> Arc<Route> {
        let route = Arc::new(self.resolve(broker, subject));
        let members: usize = route.shares.iter().map(|(_, members)| members.len()).sum();
        self.targets += route.listeners.len() + members + route.destinations.len();
        if self.targets > ROUTE_CACHE_TARGETS_MAX {
            self.forget();
        }
        route
    }

    /// Whether look-ups have taken long since it was last so: others should have their turn.
    pub(super) fn took_long(&mut self) -> bool {
        let took_long = self.searched >= Duration::from_millis(ROUTE_SEARCH_MS_MAX);
        if took_long {
            self.searched = Duration::ZERO;
        }
        took_long
    }

    fn forget(&mut self) {
        if self.spare.take().is_some() {
            // Its room goes back with the right to it.
            self.plans = Memo::new(ROUTE_CACHE_SUBJECTS);
        }
        self.plans.clear();
        self.routes.clear();
        self.targets = 0;
    }

    fn resolve(&mut self, broker: &Broker, subject: &str) -> Route {
        let started = Instant::now();
        {
            let directory: &Directory = &broker.directory();
            directory.resolve(subject, &mut self.resolved);
        }
        self.searched += started.elapsed();
        let listener = |&Subscriber { connection, subscription }: &Subscriber| {
            let outbox = broker.connections.get(connection)?;
            Some(Listener { outbox, id: ListenerId(subscription.0) })
        };
        let members = |share: &Share| {
            let members = self.resolved.members(share).iter().map(listener).collect();
            (share.clone(), members)
        };
        Route {
            listeners: self.resolved.subscribers.iter().filter_map(listener).collect(),
            shares: self.resolved.shares.iter().map(members).collect(),
            destinations: self.resolved.destinations.clone(),
        }
    }
}
