//! The programs of the flights example (`docs/examples/flights`): a publisher, and
//! a worker that settles queues or a group and writes a line for every delivery.
//!
//! `docs/examples/flights/run.py` starts them as processes of their own and checks
//! what they wrote. Both work for other input as well:
//!
//! ```text
//! flights publish --subject flights.raw --file records.ndjson [--seconds 8 --parts 4]
//! flights work --name w1 --log w1.log --queue mail --queue orders [--nack-percent 5 --seed 7]
//! flights work --name m1 --log m1.log --stream flights-history --group audit
//! ```
//!
//! Both come back by themselves when the broker does. What was published and not
//! confirmed is then published again, by whole batches, and said on standard output.
//! With `--confirm yes` a worker waits for the broker's answer to each batch of acks
//! and writes a line for it as well.
//!
//! Invariant that the count rests on: a delivery's line is with the operating system
//! before its ack is handed to the client, so a line may be without its ack (the
//! process was killed in between), never an ack without its line.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to who started it"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use weir_client::{
    Client, Confirmation, ConnectOptions, ConsumeOptions, Consumer, DeliveryBatch, Error,
    ErrorCode, Message, Publisher, Receipt,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Records of one confirmed batch.
const BATCH_RECORDS: usize = 500;
/// Batches that may be unconfirmed at a time.
const BATCHES_OPEN: usize = 32;
/// Deliveries that may be with a worker per queue, unsettled.
const CREDIT: u32 = 1000;
/// Longest wait between two attempts to reach a broker that is away.
const RECONNECT_MAX: Duration = Duration::from_millis(200);
/// How often a batch is published before the program gives up, and the pause before
/// one that was refused is published again.
const TRIES_MAX: u32 = 50;
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What the command line said.
#[derive(Default)]
struct Arguments {
    command: String,
    server: String,
    subject: String,
    file: String,
    seconds: f64,
    parts: usize,
    name: String,
    log: String,
    queues: Vec<String>,
    stream: String,
    group: String,
    nack_percent: u64,
    seed: u64,
    ack_after_ms: u64,
    confirm: bool,
}

impl Arguments {
    fn read() -> Outcome<Self> {
        let mut words = std::env::args().skip(1);
        let command = words.next().ok_or("say `publish` or `work`")?;
        let server = std::env::var("WEIR_SERVER").unwrap_or_else(|_| "127.0.0.1".to_owned());
        let mut read = Self { command, server, parts: 1, ..Self::default() };
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--server" => read.server = value,
                "--subject" => read.subject = value,
                "--file" => read.file = value,
                "--seconds" => read.seconds = value.parse()?,
                "--parts" => read.parts = value.parse::<usize>()?.max(1),
                "--name" => read.name = value,
                "--log" => read.log = value,
                "--queue" => read.queues.push(value),
                "--stream" => read.stream = value,
                "--group" => read.group = value,
                "--nack-percent" => read.nack_percent = value.parse()?,
                "--seed" => read.seed = value.parse()?,
                "--ack-after-ms" => read.ack_after_ms = value.parse()?,
                "--confirm" => read.confirm = value == "yes",
                _ => return Err(format!("there is no option {option}").into()),
            }
        }
        Ok(read)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments = Arguments::read()?;
    match arguments.command.as_str() {
        "publish" => publish(&arguments).await,
        "work" => work(arguments).await,
        other => Err(format!("there is no command {other}: say `publish` or `work`").into()),
    }
}

async fn connect(arguments: &Arguments, name: &str) -> Result<Client, Error> {
    let mut options = ConnectOptions::default().named(name);
    options.reconnect.max = RECONNECT_MAX;
    Client::connect_with(&arguments.server, options).await
}

/// Publishes every line of the file, its row number as key, and says on standard
/// output how far it is: `published` rows sent, `confirmed` rows confirmed, and
/// `again` with first row and count for a batch that is published another time. With
/// several parts it waits after each but the last for a line on standard input; with
/// `--seconds` it spreads the records over that time.
async fn publish(arguments: &Arguments) -> Outcome<()> {
    let text = std::fs::read_to_string(&arguments.file)?;
    let records: Vec<&str> = text.lines().collect();
    let client = connect(arguments, "flights-publisher").await?;
    let mut orders = input_lines();
    let part_records = records.len().div_ceil(arguments.parts).max(1);
    let pause_s = arguments.seconds / records.len().max(1) as f64;
    let start = Instant::now();
    let mut batches = Batches {
        publisher: client.publisher(),
        subject: &arguments.subject,
        records: &records,
        open: VecDeque::new(),
        totals: Totals::default(),
    };
    for number in 0..records.len().div_ceil(part_records) {
        if number > 0 {
            orders.recv().await.ok_or("told to go no further")?;
        }
        let first = number * part_records;
        batches.publish(first, (first + part_records).min(records.len()), pause_s).await?;
    }
    let Totals { stored, unrouted, refused, .. } = batches.totals;
    let took_ms = start.elapsed().as_millis();
    println!(
        "done {} stored {stored} unrouted {unrouted} refused {refused} took_ms {took_ms}",
        records.len()
    );
    client.close().await;
    Ok(())
}

/// What receipts told: rows confirmed, copies stored, messages that reached nobody,
/// messages refused.
#[derive(Default)]
struct Totals {
    confirmed: usize,
    stored: u64,
    unrouted: u64,
    refused: u64,
}

/// A batch on its way.
struct Batch {
    first: usize,
    count: usize,
    tries: u32,
    confirmation: Confirmation,
}

/// Publishes records by batches. A batch is confirmed as a whole, or not at all.
struct Batches<'a> {
    publisher: Publisher,
    subject: &'a str,
    records: &'a [&'a str],
    open: VecDeque<Batch>,
    totals: Totals,
}

impl Batches<'_> {
    /// Publishes the rows `first..end`, and returns when all are confirmed.
    async fn publish(&mut self, first: usize, end: usize, pause_s: f64) -> Outcome<()> {
        let start = Instant::now();
        for row in (first..end).step_by(BATCH_RECORDS) {
            let due = Duration::from_secs_f64(pause_s * (row - first) as f64);
            if let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
                tokio::time::sleep(early).await;
            }
            let count = BATCH_RECORDS.min(end - row);
            self.send(row, count, 1).await?;
            // Paced: few are open, and what is printed is nearly what has happened.
            self.confirm(if pause_s > 0.0 { 1 } else { BATCHES_OPEN }).await?;
            println!("published {}", row + count);
        }
        self.confirm(0).await
    }

    async fn send(&mut self, first: usize, count: usize, tries: u32) -> Outcome<()> {
        for row in first..first + count {
            let key = row.to_string();
            let message = Message::new(self.subject).key(&key).payload(self.records[row]);
            self.publisher.send(&message).await?;
        }
        let confirmation = self.publisher.take();
        self.open.push_back(Batch { first, count, tries, confirmation });
        Ok(())
    }

    /// Waits for the oldest batches until only so many are open. A batch that nobody
    /// confirmed is published again, and is then the youngest.
    async fn confirm(&mut self, open_max: usize) -> Outcome<()> {
        while self.open.len() > open_max {
            let batch = self.open.pop_front().expect("longer than none");
            let (first, count) = (batch.first, batch.count);
            match batch.confirmation.await {
                Ok(receipt) if !may_pass(&receipt) => {
                    add(&mut self.totals, receipt);
                    self.totals.confirmed += count;
                    println!("confirmed {}", self.totals.confirmed);
                    continue;
                }
                Ok(receipt) => {
                    let refusal = &receipt.refusals[0];
                    eprintln!("{first}: refused: {} {}", refusal.code, refusal.message);
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                Err(Error::ConnectionLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if batch.tries == TRIES_MAX {
                return Err(format!("row {first} was published {TRIES_MAX} times in vain").into());
            }
            println!("again {first} {count}");
            self.send(first, count, batch.tries + 1).await?;
        }
        Ok(())
    }
}

/// Whether something of the batch was refused because the broker is ending.
fn may_pass(receipt: &Receipt) -> bool {
    let passing = [ErrorCode::ShuttingDown, ErrorCode::Internal];
    receipt.refusals.iter().any(|refusal| passing.contains(&refusal.code))
}

fn add(totals: &mut Totals, receipt: Receipt) {
    totals.stored += receipt.stored;
    totals.unrouted += receipt.unrouted;
    totals.refused += receipt.refused();
    for refusal in receipt.refusals {
        eprintln!("{} refused: {} {}", refusal.count, refusal.code, refusal.message);
    }
}

/// Settles what the named queues, or the stream's group, hand out, until standard
/// input ends.
async fn work(arguments: Arguments) -> Outcome<()> {
    let client = connect(&arguments, &arguments.name).await?;
    let consume = ConsumeOptions {
        credit: CREDIT,
        name: Some(arguments.name.clone()),
        ..ConsumeOptions::default()
    };
    let log = Arc::new(File::create(&arguments.log)?);
    let mut consumers = Vec::new();
    for queue in &arguments.queues {
        consumers.push((queue.clone(), client.consume_with(queue, consume.clone()).await?));
    }
    if !arguments.group.is_empty() {
        let (stream, group) = (&arguments.stream, &arguments.group);
        consumers.push((group.clone(), client.consume_group(stream, group, consume).await?));
    }
    println!("ready");
    let mut tasks = JoinSet::new();
    for (source, consumer) in consumers {
        let manners = Manners {
            nack: Nack { percent: arguments.nack_percent, seed: arguments.seed },
            pause: Duration::from_millis(arguments.ack_after_ms),
            confirm: arguments.confirm,
        };
        tasks.spawn(settle(source, consumer, log.clone(), manners));
    }
    let mut input = input_lines();
    tokio::select! {
        () = async { while input.recv().await.is_some() {} } => {}
        Some(ended) = tasks.join_next() => ended??,
    }
    tasks.shutdown().await;
    // Everything handed over before the answer: the last acks are with the broker.
    client.ping().await?;
    client.close().await;
    Ok(())
}

/// The lines of standard input, read by a thread of their own; it ends with them,
/// or with the program.
fn input_lines() -> Receiver<String> {
    let (sender, lines) = channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Which deliveries a worker gives back: some of those it sees for the first time.
#[derive(Clone, Copy)]
struct Nack {
    percent: u64,
    seed: u64,
}

impl Nack {
    fn chooses(self, row: u64, attempt: u16) -> bool {
        // SplitMix64: the same rows for the same seed, in whatever order they come.
        let mut mixed = row.wrapping_add(self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        attempt == 1 && (mixed ^ (mixed >> 31)) % 100 < self.percent
    }
}

/// How a worker settles.
#[derive(Clone, Copy)]
struct Manners {
    nack: Nack,
    /// Lies between the line and the ack: the time in which a kill makes a duplicate.
    pause: Duration,
    /// Whether to wait for the broker's answer to every batch.
    confirm: bool,
}

async fn settle(
    source: String,
    mut consumer: Consumer,
    log: Arc<File>,
    manners: Manners,
) -> Outcome<()> {
    let mut number = 0;
    while let Some(batch) = consumer.next_batch().await? {
        number += 1;
        let verdicts = write_lines(&source, number, &batch, &log, manners.nack)?;
        if !manners.pause.is_zero() {
            tokio::time::sleep(manners.pause).await;
        }
        if verdicts.contains(&true) {
            for (delivery, give_back) in batch.iter().zip(verdicts) {
                if give_back { delivery.nack(0) } else { delivery.ack() }
            }
        } else {
            batch.ack();
        }
        if manners.confirm && confirmed(&mut consumer, batch.len()).await? {
            let time_ms = unix_ms();
            (&*log)
                .write_all(format!("{source} 0 0 confirmed 0 0 {number} {time_ms}\n").as_bytes())?;
        }
    }
    Ok(())
}

/// Whether the broker answers that it has settled all of a batch. When the connection
/// broke, nobody knows.
async fn confirmed(consumer: &mut Consumer, count: usize) -> Outcome<bool> {
    match consumer.flush().await {
        Ok(settled) => Ok(settled.done == count as u64),
        Err(Error::ConnectionLost { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn unix_ms() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis())
}

/// Writes a line per delivery, in one call to the system, and tells which to nack:
/// source, row, attempt, verb, partition, offset, number of the batch, time in ms.
fn write_lines(
    source: &str,
    number: u64,
    batch: &DeliveryBatch,
    mut log: &File,
    nack: Nack,
) -> Outcome<Vec<bool>> {
    let mut lines = Vec::with_capacity(batch.len() * 64);
    let mut verdicts = Vec::with_capacity(batch.len());
    let time_ms = unix_ms();
    for delivery in batch {
        let key = std::str::from_utf8(delivery.view().key)?;
        let (row, attempt): (u64, u16) = (key.parse()?, delivery.attempt());
        let (partition, offset) = (delivery.to_owned().partition, delivery.offset());
        let give_back = nack.chooses(row, attempt);
        let verb = if give_back { "nack" } else { "ack" };
        writeln!(lines, "{source} {row} {attempt} {verb} {partition} {offset} {number} {time_ms}")?;
        verdicts.push(give_back);
    }
    log.write_all(&lines)?;
    Ok(verdicts)
}
