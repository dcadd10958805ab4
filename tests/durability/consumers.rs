//! Consumers that write down what they settled: they ack, give back, reject, leave
//! lying, and die.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_client::{Client, ConsumeOptions, Consumer, DeliveryBatch, Error};
use weir_tests::Random;

use crate::broker::{block_on, connect};
use crate::check::Settled;
use crate::message::{Id, identity};
use crate::proof::DEADLINE;

/// Longest wait of a pull.
const PULL: Duration = Duration::from_millis(50);
/// Most deliveries of one pull.
const PULL_MAX: usize = 64;

/// What all consumers of a queue did.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) settled: Settled,
    /// What a broker must never do.
    pub(crate) complaints: Vec<String>,
    /// Consumers that died of themselves.
    pub(crate) died: u64,
}

/// The book, and whoever waits for it to move on.
#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    moved: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

/// How consumers behave, in parts of 100.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) nack: usize,
    pub(crate) reject: usize,
    pub(crate) leave: usize,
    /// Of batches: the connection is dropped behind it.
    pub(crate) die: usize,
    /// Of batches: the settlements are confirmed.
    pub(crate) confirm: usize,
}

/// Consumers that run.
pub(crate) struct Consumers {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Consumers {
    /// Starts so many, each over a connection of its own. They end with the broker.
    pub(crate) fn start(
        address: &str,
        queue: &'static str,
        count: usize,
        manners: Manners,
        book: Book,
        mut random: Random,
    ) -> Self {
        let ours = Arc::new(Shared { book: Mutex::new(book), moved: Condvar::new() });
        let (address, shared) = (address.to_owned(), ours.clone());
        // One thread for all: a settlement that was noted leaves with the request
        // that asks for its answer, because nobody runs in between.
        let thread = std::thread::spawn(move || {
            block_on(async {
                let tasks = (0..count).map(|_| {
                    let random = Random::seeded(random.number());
                    let (address, book) = (address.clone(), shared.clone());
                    tokio::spawn(async move { live(&address, queue, manners, &book, random).await })
                });
                for task in tasks.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
        });
        Self { shared: ours, thread }
    }

    /// Waits until a message was handed out.
    pub(crate) fn begin(&self) {
        let nothing = |book: &mut Book| book.settled.delivered == 0;
        let waited = self.shared.moved.wait_timeout_while(self.shared.lock(), DEADLINE, nothing);
        assert!(!waited.unwrap().1.timed_out(), "nothing was consumed");
    }

    /// Waits until the broker is gone. What they did.
    pub(crate) fn book(self) -> Book {
        self.thread.join().unwrap();
        let shared = Arc::into_inner(self.shared).expect("the consumers have ended");
        shared.book.into_inner().unwrap()
    }
}

/// One consumer after the other, until the broker is gone.
async fn live(address: &str, queue: &str, manners: Manners, book: &Shared, mut random: Random) {
    while let Ok(client) = connect(address).await {
        match consume(&client, queue, manners, book, &mut random).await {
            Ok(()) => book.lock().died += 1,
            Err(Error::Refused(refused)) => {
                book.lock().complaints.push(format!("a consumer was told {refused}"));
                return;
            }
            Err(_) => return,
        }
    }
}

async fn consume(
    client: &Client,
    queue: &str,
    manners: Manners,
    book: &Shared,
    random: &mut Random,
) -> Result<(), Error> {
    let mut consumer = client.consume_with(queue, ConsumeOptions::credit(0)).await?;
    loop {
        let wanted = 1 + random.below(PULL_MAX) as u32;
        let Some(batch) = consumer.pull(wanted, PULL).await? else { continue };
        let decided = settle(&batch, manners, book, random);
        if random.below(100) < manners.confirm {
            confirm(&mut consumer, &decided, book).await?;
        }
        if random.below(100) < manners.die {
            return Ok(());
        }
    }
}

/// What was decided about a batch.
struct Decided {
    acked: Vec<Id>,
    /// Settlements of any kind.
    count: u64,
}

/// Decides about each delivery. A message that is handed out is one whose earlier
/// settlements were void: the last word counts.
fn settle(batch: &DeliveryBatch, manners: Manners, book: &Shared, random: &mut Random) -> Decided {
    let shared = book;
    let mut book = shared.lock();
    let mut decided = Decided { acked: Vec::new(), count: 0 };
    for delivery in batch {
        let id = match identity(delivery.payload()) {
            Ok(id) => id,
            Err(wrong) => {
                book.complaints.push(wrong);
                continue;
            }
        };
        let settled = &mut book.settled;
        settled.delivered += 1;
        settled.acked.remove(&id);
        settled.rejected.remove(&id);
        if settled.confirmed.contains(&id) {
            let attempt = delivery.attempt();
            book.complaints.push(format!(
                "{id:?} comes again behind its confirmed ack (offset {}, attempt {attempt})",
                delivery.offset()
            ));
            continue;
        }
        let die = random.below(100);
        let Manners { nack, reject, leave, .. } = manners;
        decided.count += 1;
        if die < nack {
            delivery.nack(1 + random.below(20) as u32);
        } else if die < nack + reject {
            settled.rejected.insert(id);
            settled.rejected_once.insert(id);
            delivery.reject(7);
        } else if die < nack + reject + leave {
            decided.count -= 1;
        } else {
            settled.acked.insert(id);
            decided.acked.push(id);
            delivery.ack();
        }
    }
    shared.moved.notify_all();
    decided
}

/// Asks for the answer to what was settled; only what it tells is confirmed.
async fn confirm(consumer: &mut Consumer, decided: &Decided, book: &Shared) -> Result<(), Error> {
    let answer = consumer.flush().await?;
    if answer.done == decided.count && answer.unknown == 0 {
        book.lock().settled.confirmed.extend(&decided.acked);
    }
    Ok(())
}
