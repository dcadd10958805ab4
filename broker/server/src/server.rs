//! Start, run and stop: binds the address, spawns every task and thread, joins
//! them. The only file of the server that spawns.
//!
//! A start opens the store, makes anew what it holds, and only then listens.
//! Shutdown follows the message: accept no more, read no more, let shards finish
//! and outboxes empty until a deadline, join, close the store.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};
use weir_core::command::Command;
use weir_core::env::Clock;
use weir_core::shard::Shard;
use weir_core::store::{Store, StoreError};
use weir_policy::archive::Archive;
use weir_policy::{HostConfig, HostEnv, PolicyHost, ShippedComponent};
use weir_protocol::{ErrorCode, WireError};

use crate::books::{Books, OnFault};
use crate::broker::Broker;
use crate::config::Config;
use crate::connection;
use crate::connections::Connections;
use crate::descriptors;
use crate::limits::{
    DRAIN_MS_MAX, NEWS_LOOK_MS, NO_SPACE_TOLD_MS, OUTBOX_BYTES_SOFT, TURN_BYTES_MAX,
};
use crate::restore::{Beginning, restore};
use crate::room::Room;
use crate::shard::{Notice, ShardTask};
use crate::shards::Shards;
use crate::socket;
use crate::storage::{SharedJournal, Storage};
use crate::system::{SystemClock, SystemDisk, SystemRandom};
use crate::wire;

/// Notices of shards that wait to be acted on.
const NOTICES_MAX: usize = 1_024;

/// A running broker.
pub struct Server {
    address: SocketAddr,
    broker: Arc<Broker>,
    stop_accepting: CancellationToken,
    stop_reading: CancellationToken,
    accepting: JoinSet<()>,
    shards: JoinSet<Result<(), StoreError>>,
    noticing: JoinSet<()>,
    /// Gives queues that the broker made their entries, until the last has one.
    listing: JoinSet<()>,
    keeping: JoinSet<()>,
    journal: SharedJournal,
}

impl Server {
    /// Opens the store, loads the policies, binds the address and starts to serve.
    ///
    /// # Errors
    /// When the data folder cannot be used (an [`OpenError`](weir_journal::OpenError)), the address is taken,
    /// or another folder cannot be used.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_guarded(config, Arc::new(|_| {})).await
    }

    /// As [`Server::start`]. `on_fault` is called at once when the store fails: what
    /// ends the process there keeps every later answer from leaving.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_guarded(config: Config, on_fault: OnFault) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let opening = (config.clone(), clock.clone());
        let open = move || Storage::open(&opening.0, &opening.1);
        let storage = tokio::task::spawn_blocking(open).await??;
        Self::start_with(config, storage, clock, on_fault).await
    }

    /// As [`Server::start`], over stores of the caller's: one for each shard.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_over(config: Config, stores: Vec<Box<dyn Store>>) -> anyhow::Result<Self> {
        anyhow::ensure!(stores.len() == config.shards as usize, "each shard needs a store");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Self::start_with(config, Storage::over(stores), clock, Arc::new(|_| {})).await
    }

    async fn start_with(
        config: Config,
        storage: Storage,
        clock: Arc<dyn Clock>,
        on_fault: OnFault,
    ) -> anyhow::Result<Self> {
        let level_max = storage.level_max();
        let level_default = config.store.default_level.unwrap_or(level_max);
        let restoring = move || {
            let mut storage = storage;
            restore(&mut storage).map(|beginning| (storage, beginning))
        };
        let (mut storage, beginning) = tokio::task::spawn_blocking(restoring).await??;
        let listener = match TcpListener::bind(config.listen).await {
            Ok(listener) => listener,
            Err(error) => {
                storage.close()?;
                let text = format!("cannot listen on {}", config.listen);
                return Err(anyhow::Error::new(error).context(text));
            }
        };
        let address = listener.local_addr()?;
        let (shards, inboxes) = Shards::new(config.shards);
        let shards = Arc::new(shards);
        let connections = Arc::new(Connections::default());
        let (notices, notice_inbox) = mpsc::channel(NOTICES_MAX);
        let room = Arc::new(Room::new(&config, storage.journal.is_some(), clock.clone()));
        let Beginning { directory, commands } = beginning;
        let stores = std::mem::take(&mut storage.stores);
        let turn_bytes = (TURN_BYTES_MAX / inboxes.len()).min(OUTBOX_BYTES_SOFT);
        let mut tasks = Vec::new();
        for (number, (inbox, shard)) in inboxes.into_iter().zip(stores).enumerate() {
            let number = number as u32;
            let mut machine = Shard::new(shard.store, directory.shard_ids(number));
            machine.bound_turns(turn_bytes as u64);
            tasks.push(ShardTask {
                number,
                machine,
                inbox,
                bell: shard.bell,
                on_fault: on_fault.clone(),
                connections: connections.clone(),
                resumed: Arc::default(),
                notices: notices.clone(),
                room: room.clone(),
                pressed: shards.pressed(number),
                clock: clock.clone(),
                stop: shards.stop(),
            });
        }
        drop(notices);
        let tasks = spawn_shards(tasks, commands).await?;
        let books = Books::new(storage.catalogue, on_fault, room.clone());
        let archive = Arc::new(books.policy_archive());
        let policies = start_policies(&config, shards.clone(), clock.clone(), archive).await?;
        let broker = Arc::new(Broker::new(
            shards,
            connections,
            policies,
            clock,
            (level_max, level_default),
            books,
            directory,
        ));
        let journal: SharedJournal = Arc::new(Mutex::new(storage.journal));
        let mut noticing = JoinSet::new();
        noticing.spawn(notice_loop(notice_inbox, broker.clone()));
        let mut listing = JoinSet::new();
        let lister = broker.clone();
        listing.spawn(async move { lister.list_unlisted().await });
        let mut keeping = JoinSet::new();
        keeping.spawn(news_loop(journal.clone(), room));
        let stop_accepting = CancellationToken::new();
        let stop_reading = CancellationToken::new();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept_loop(
            listener,
            broker.clone(),
            descriptors::make_room_for(config.connections_max),
            stop_accepting.clone(),
            stop_reading.clone(),
        ));
        if !address.ip().is_loopback() {
            warn!(%address, "no authentication: whoever reaches this address may do everything");
        }
        info!(%address, data = %config.data.display(), shards = config.shards, "ready");
        Ok(Self {
            address,
            broker,
            stop_accepting,
            stop_reading,
            accepting,
            shards: tasks,
            noticing,
            listing,
            keeping,
            journal,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What all connections share.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Waits for a failure that ends the process: a store that cannot keep its
    /// promises any more.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.shards.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => return anyhow::Error::new(failure),
                Some(Err(panic)) => return anyhow::Error::new(panic).context("a shard panicked"),
                None => std::future::pending().await,
            }
        }
    }

    /// Stops: what was taken is finished, clients are told, everything is joined.
    pub async fn stop(mut self) {
        info!("stopping: no new connections, finishing what was taken");
        self.stop_accepting.cancel();
        self.stop_reading.cancel();
        let drain = Duration::from_millis(DRAIN_MS_MAX);
        let joined = async { while self.accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, joined).await.is_err() {
            warn!(after_ms = DRAIN_MS_MAX, "some connections did not take their last answers");
            self.accepting.shutdown().await;
        }
        self.broker.shards.close();
        let joined = async {
            while let Some(ended) = self.shards.join_next().await {
                if let Ok(Err(failure)) = ended {
                    error!(%failure, "a shard ended with a failed store");
                }
            }
            while self.noticing.join_next().await.is_some() {}
            // No shard is left that makes a queue.
            self.broker.books.end_unlisted();
            while self.listing.join_next().await.is_some() {}
        };
        if tokio::time::timeout(drain, joined).await.is_err() {
            warn!(
                after_ms = DRAIN_MS_MAX,
                "a shard or the entries of new queues did not finish in time"
            );
        }
        // One that is late must not use the store when that is closed. Policies come last: what
        // shards still had was theirs to decide, and their loader may have waited for an inbox,
        // of which none is open any more.
        self.shards.shutdown().await;
        let policies = self.broker.policies.clone();
        let stopped = tokio::task::spawn_blocking(move || policies.shutdown());
        match tokio::time::timeout(drain, stopped).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => error!(%failure, "the policies could not be stopped"),
            // It waits for the disk, perhaps, to which closing the store puts an end.
            Err(_) => warn!(after_ms = DRAIN_MS_MAX, "the policies' loader did not end in time"),
        }
        self.listing.shutdown().await;
        self.keeping.shutdown().await;
        let journal = self.journal.lock().expect("nothing panics under this lock").take();
        if let Some(journal) = journal {
            match tokio::task::spawn_blocking(move || journal.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => error!(%failure, "the store could not be closed"),
                Err(failure) => error!(%failure, "the store could not be closed"),
            }
        }
        info!("stopped");
    }
}

/// Makes anew in each shard what there is, then lets them run.
async fn spawn_shards(
    mut tasks: Vec<ShardTask>,
    commands: Vec<Vec<Command>>,
) -> anyhow::Result<JoinSet<Result<(), StoreError>>> {
    // With many queues and much in them it takes its time, in every shard at once.
    let mut beginning = JoinSet::new();
    for (mut task, commands) in tasks.drain(..).zip(commands) {
        beginning.spawn_blocking(move || task.begin(commands).map(|()| task));
    }
    let mut running = JoinSet::new();
    while let Some(begun) = beginning.join_next().await {
        let task = begun??;
        let span = info_span!("shard", number = task.number);
        running.spawn(task.run().instrument(span));
    }
    Ok(running)
}

async fn start_policies(
    config: &Config,
    shards: Arc<Shards>,
    clock: Arc<dyn Clock>,
    archive: Arc<dyn Archive>,
) -> anyhow::Result<PolicyHost> {
    let host = HostConfig {
        plugins: config.plugins.clone(),
        bindings: config.bindings.clone(),
        development: config.development,
        shards: config.shards,
        watch: config.watch,
        shipped: weir_shipped::SHIPPED.iter().map(shipped).collect(),
    };
    let (random, disk) = (Arc::new(SystemRandom), Arc::new(SystemDisk));
    let env = HostEnv { clock, random, disk, archive };
    let install = move |shard: u32, command| {
        if shards.send_blocking(shard, command).is_err() {
            debug!(shard, "a policy came too late, the broker stops");
        }
    };
    // Compiles components, which takes tens of milliseconds each.
    tokio::task::spawn_blocking(move || PolicyHost::start(host, env, Box::new(install)))
        .await?
        .context("cannot start the policies")
}

fn shipped((name, bytes): &(&str, &'static [u8])) -> ShippedComponent {
    ShippedComponent { name: (*name).to_owned(), bytes: Bytes::from_static(bytes) }
}

async fn notice_loop(mut inbox: mpsc::Receiver<Notice>, broker: Arc<Broker>) {
    while let Some(notice) = inbox.recv().await {
        broker.notice(notice);
    }
}

/// Logs what the store has to tell while it runs.
async fn news_loop(journal: SharedJournal, room: Arc<Room>) {
    let mut looks = tokio::time::interval(Duration::from_millis(NEWS_LOOK_MS));
    let (mut is_refusing, mut told) = (false, tokio::time::Instant::now());
    loop {
        looks.tick().await;
        let (news, has_no_space) =
            match journal.lock().expect("nothing panics under this lock").as_ref() {
                Some(journal) => (journal.take_news(), journal.figures().has_no_space),
                None => return,
            };
        for line in news {
            warn!("store: {line}");
        }
        let is_news = has_no_space != is_refusing;
        if has_no_space && (is_news || told.elapsed() >= Duration::from_millis(NO_SPACE_TOLD_MS)) {
            warn!("store: no space, publishes are refused: {}", room.clause());
            told = tokio::time::Instant::now();
        } else if is_news {
            info!("store: there is space again, publishes are taken");
        }
        is_refusing = has_no_space;
    }
}

async fn accept_loop(
    listener: TcpListener,
    broker: Arc<Broker>,
    connections_max: usize,
    stop_accepting: CancellationToken,
    stop_reading: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    spawn_connection(&mut connections, socket, peer, &broker, connections_max, &stop_reading);
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must finish first.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(failure) = ended {
                    error!(%failure, "a connection's task failed");
                }
            }
            () = stop_accepting.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn spawn_connection(
    connections: &mut JoinSet<()>,
    socket: TcpStream,
    peer: SocketAddr,
    broker: &Arc<Broker>,
    connections_max: usize,
    stop_reading: &CancellationToken,
) {
    let Some((outbox, slot)) = broker.connections.open(connections_max) else {
        warn!(%peer, connections_max, "refused: too many connections");
        turn_away(socket, connections_max);
        return;
    };
    socket::prepare(&socket, peer);
    let slot = Arc::new(slot);
    let span = info_span!("connection", id = outbox.connection.0, %peer);
    let (read, write) = socket.into_split();
    let reading = connection::read_loop(
        slot.clone(),
        read,
        broker.clone(),
        outbox.clone(),
        stop_reading.clone(),
    );
    connections.spawn(reading.instrument(span.clone()));
    connections.spawn(connection::write_loop(slot, write, outbox).instrument(span));
}

/// Tells a client that there is no room for it. What does not fit into the empty
/// buffer of a new socket is not waited for.
fn turn_away(socket: TcpStream, connections_max: usize) {
    let text = format!("this broker serves {connections_max} connections, and has them");
    let mut frame = Vec::new();
    wire::error(&mut frame, 0, &WireError::new(ErrorCode::LimitReached, text));
    let told = socket.into_std().and_then(|mut socket| socket.write(&frame));
    if let Err(error) = told {
        debug!(%error, "cannot tell a client that it is turned away");
    }
}
