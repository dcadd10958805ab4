//! A shard over a store, driven turn by turn: for tests of what a broker promises
//! with the journal below it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, Publish, QueueConfig, ReceiptId, RequestId, Rows,
    Settlement, Source, SubscriptionId, Verb,
};
use weir_core::effect::{Effect, Run};
use weir_core::env::{Clock, Now};
use weir_core::shard::Shard;
use weir_core::store::{Bounds, LogId, Records, Stamp, Store, StoreError};
use weir_journal::sim::SimFiles;
use weir_journal::{Journal, JournalConfig, JournalStore};
use weir_message::{Batch, BatchBuilder};

use crate::world::TestClock;

pub struct Driven {
    pub shard: Shard,
    /// What keeps its records, when it is a journal.
    pub journal: Option<Arc<Mutex<Journal>>>,
    pub now: Now,
}

/// A store whose writer has the disk to itself after every commit, so that what one
/// turn hands over lies in several blocks.
pub struct Eager {
    pub store: JournalStore,
    pub journal: Arc<Mutex<Journal>>,
}

impl Store for Eager {
    fn level_max(&self) -> Level {
        self.store.level_max()
    }

    fn has(&self, name: &str) -> bool {
        self.store.has(name)
    }

    fn open(&mut self, name: &str) -> Result<LogId, StoreError> {
        self.store.open(name)
    }

    fn remove(&mut self, log: LogId) -> Result<(), StoreError> {
        self.store.remove(log)
    }

    fn append(
        &mut self,
        log: LogId,
        expected: u64,
        stamp: Stamp,
        batch: Batch,
        level: Level,
    ) -> Result<(), StoreError> {
        self.store.append(log, expected, stamp, batch, level)
    }

    fn bounds(&self, log: LogId) -> Bounds {
        self.store.bounds(log)
    }

    fn read(
        &self,
        log: LogId,
        from: u64,
        bytes_max: usize,
        into: &mut Vec<Records>,
    ) -> Result<(), StoreError> {
        self.store.read(log, from, bytes_max, into)
    }

    fn offset_at(&self, log: LogId, time_ms: u64) -> u64 {
        self.store.offset_at(log, time_ms)
    }

    fn trim(&mut self, log: LogId, to: u64) {
        self.store.trim(log, to);
    }

    fn release(&mut self, log: LogId, from: u64, to: u64, level: Level) {
        self.store.release(log, from, to, level);
    }

    fn sync(&mut self, log: LogId, level: Level) {
        self.store.sync(log, level);
    }

    fn reset(&mut self, log: LogId, to: u64) {
        self.store.reset(log, to);
    }

    fn settled(&self, log: LogId, from: u64) -> Option<Range<u64>> {
        self.store.settled(log, from)
    }

    fn damage(&self, log: LogId) -> Option<Range<u64>> {
        self.store.damage(log)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.store.commit()?;
        let _more = self.journal.lock().unwrap().step_writer();
        Ok(())
    }

    fn take_moved(&mut self, into: &mut Vec<LogId>) {
        self.store.take_moved(into);
    }

    fn position(&self) -> u64 {
        self.store.position()
    }

    fn safe(&self, level: Level) -> u64 {
        self.store.safe(level)
    }

    fn put_snapshot(&mut self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.store.put_snapshot(name, bytes)
    }

    fn snapshot(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.snapshot(name)
    }
}

/// The queue that [`Driven::start`] makes.
pub const ORDERS: u32 = 1;
/// Its dead-letter queue, once there is one.
pub const DEAD: u32 = 2;

impl Driven {
    /// A broker over what is on the disk; `eager`: its writer writes at every chance.
    pub fn start(files: &SimFiles, config: JournalConfig, eager: bool) -> Self {
        let clock = Arc::new(TestClock::default());
        let now = clock.now();
        let journal = Journal::open_stepped(Arc::new(files.clone()), clock, config, 1).unwrap();
        let store = journal.store(Box::new(|| {}));
        let journal = Arc::new(Mutex::new(journal));
        let has_dead = store.has("queue/orders/dead");
        let store: Box<dyn Store> = match eager {
            true => Box::new(Eager { store, journal: journal.clone() }),
            false => Box::new(store),
        };
        let mut driven = Self { shard: Shard::new(store, 10..20), journal: Some(journal), now };
        let kept = QueueConfig { level: Level::Disk, ..QueueConfig::default() };
        let mut commands = vec![create_queue(ORDERS, "orders", kept.clone())];
        if has_dead {
            commands.push(create_queue(DEAD, "orders/dead", kept));
        }
        driven.hasty_turn(commands).unwrap();
        driven
    }

    /// Does what is asked, and goes on until nothing more comes of it.
    pub fn turn(&mut self, commands: Vec<Command>) -> Result<Vec<Effect>, StoreError> {
        let mut effects = Vec::new();
        for command in commands {
            self.shard.apply(self.now, command, &mut effects);
        }
        self.shard.commit(self.now, &mut effects)?;
        for _ in 0..3 {
            if let Some(journal) = &self.journal {
                journal.lock().unwrap().step()?;
            }
            self.shard.tick(self.now, &mut effects);
            self.shard.commit(self.now, &mut effects)?;
        }
        Ok(effects)
    }

    /// As `turn`, but what is handed over may wait for the disk.
    pub fn hasty_turn(&mut self, commands: Vec<Command>) -> Result<Vec<Effect>, StoreError> {
        let mut effects = Vec::new();
        for command in commands {
            self.shard.apply(self.now, command, &mut effects);
        }
        self.shard.commit(self.now, &mut effects)?;
        Ok(effects)
    }

    /// Lets time pass, with a tick at every deadline on the way.
    pub fn wait(&mut self, ms: u64) -> Result<Vec<Effect>, StoreError> {
        let until = self.now.steady_ms + ms;
        let mut effects = Vec::new();
        for _ in 0..10_000 {
            let next = self.shard.next_deadline().unwrap_or(u64::MAX);
            let to = next.clamp(self.now.steady_ms, until);
            self.now.wall_ms += to - self.now.steady_ms;
            self.now.steady_ms = to;
            effects.extend(self.turn(Vec::new())?);
            if to == until {
                return Ok(effects);
            }
        }
        panic!("it never gets to rest");
    }
}

pub fn create_queue(id: u32, name: &str, config: QueueConfig) -> Command {
    Command::CreateQueue { id: DestinationId(id), name: name.to_owned(), config }
}

pub fn consume(connection: u64, queue: u32, credit: u32) -> Command {
    Command::Attach {
        connection: ConnectionId(connection),
        subscription: SubscriptionId(1),
        request: RequestId(0),
        source: Source::Queue(DestinationId(queue)),
        credit,
        name: "consumer".to_owned(),
        labels: String::new(),
    }
}

pub fn publish(to: u32, receipt: u32, messages: &[Vec<u8>], delay_ms: u32) -> Command {
    let mut batch = BatchBuilder::default();
    messages.iter().for_each(|message| batch.push(message));
    Command::Publish(Publish {
        destination: DestinationId(to),
        connection: ConnectionId(1),
        receipt: Some(ReceiptId(receipt)),
        batch: batch.take(),
        rows: Rows::new(),
        delay_ms,
    })
}

pub fn settle(connection: u64, first: u64, last: u64, verb: Verb) -> Command {
    Command::Settle {
        connection: ConnectionId(connection),
        subscription: SubscriptionId(1),
        request: None,
        settlements: vec![Settlement { first, last, verb }],
    }
}

/// Asks for all that was settled without asking.
pub fn flush(connection: u64, request: u32) -> Command {
    Command::Settle {
        connection: ConnectionId(connection),
        subscription: SubscriptionId(1),
        request: Some(RequestId(request)),
        settlements: Vec::new(),
    }
}

pub fn message(key: &str, payload: &str) -> Vec<u8> {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "s", key.as_bytes(), &[], payload.as_bytes());
    message
}

/// One message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub tag: u64,
    pub partition: u16,
    pub offset: u64,
    pub attempt: u16,
    pub message: Vec<u8>,
}

impl Got {
    pub fn payload(&self) -> String {
        let view = weir_message::View::of(&self.message).unwrap();
        String::from_utf8(view.payload.to_vec()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let view = weir_message::View::of(&self.message).unwrap();
        view.header(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }
}

pub fn messages_of(run: &Run) -> Vec<Got> {
    let batch = Batch::from_bytes(run.bytes.clone()).unwrap();
    assert_eq!(batch.len(), run.count as usize);
    let rows = (0..).zip(batch.iter());
    let got = rows.map(|(row, message)| Got {
        tag: if run.tag == 0 { 0 } else { run.tag + row },
        partition: run.partition,
        offset: run.offset + row,
        attempt: run.attempt,
        message: message.to_vec(),
    });
    got.collect()
}

/// What each consumer got, in order.
pub fn delivered(effects: &[Effect]) -> BTreeMap<(u64, u32), Vec<Got>> {
    let mut got: BTreeMap<(u64, u32), Vec<Got>> = BTreeMap::new();
    for effect in effects {
        if let Effect::Deliver { connection, subscription, runs } = effect {
            let of_one = got.entry((connection.0, subscription.0)).or_default();
            of_one.extend(runs.iter().flat_map(messages_of));
        }
    }
    got
}
