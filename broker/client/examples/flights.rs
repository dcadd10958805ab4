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
//! Invariant that the count rests on: a delivery's line is with the operating system
//! before its ack is handed to the client, so a line may be without its ack (the
//! process was killed in between), never an ack without its line.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to who started it"
)]

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use weir_client::{Client, ConnectOptions, ConsumeOptions, Consumer, DeliveryBatch, Message};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Records of one confirmed batch.
const BATCH_RECORDS: usize = 500;
/// Batches that may be unconfirmed at a time.
const BATCHES_OPEN: usize = 32;
/// Deliveries that may be with a worker per queue, unsettled.
const CREDIT: u32 = 1000;

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

/// Publishes every line of the file, its row number as key, and says on standard
/// output how far it is. With several parts it waits after each but the last for a
/// line on standard input; with `--seconds` it spreads the records over that time.
async fn publish(arguments: &Arguments) -> Outcome<()> {
    let text = std::fs::read_to_string(&arguments.file)?;
    let records: Vec<&str> = text.lines().collect();
    let client = Client::connect(&arguments.server).await?;
    let mut orders = input_lines();
    let pause = arguments.seconds / records.len().max(1) as f64;
    let part_records = records.len().div_ceil(arguments.parts).max(1);
    let start = Instant::now();
    let (mut stored, mut unrouted, mut refused) = (0, 0, 0);
    for (number, part) in records.chunks(part_records).enumerate() {
        if number > 0 {
            orders.recv().await.ok_or("told to go no further")?;
        }
        let first = number * part_records;
        let receipts = publish_part(&client, &arguments.subject, first, part, pause).await?;
        stored += receipts.0;
        unrouted += receipts.1;
        refused += receipts.2;
    }
    let took_ms = start.elapsed().as_millis();
    println!(
        "done {} stored {stored} unrouted {unrouted} refused {refused} took_ms {took_ms}",
        records.len()
    );
    client.close().await;
    Ok(())
}

/// Copies stored, messages that reached nobody, messages refused.
async fn publish_part(
    client: &Client,
    subject: &str,
    first: usize,
    records: &[&str],
    pause_s: f64,
) -> Outcome<(u64, u64, u64)> {
    let mut publisher = client.publisher();
    let mut open = std::collections::VecDeque::new();
    let mut totals = (0, 0, 0);
    let start = Instant::now();
    for (number, batch) in records.chunks(BATCH_RECORDS).enumerate() {
        let row = first + number * BATCH_RECORDS;
        let due = Duration::from_secs_f64(pause_s * (row - first) as f64);
        if let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
            tokio::time::sleep(early).await;
        }
        for (index, record) in batch.iter().enumerate() {
            let key = (row + index).to_string();
            publisher.send(&Message::new(subject).key(&key).payload(record)).await?;
        }
        open.push_back(publisher.take());
        // Paced: few are open, and what is printed is nearly what has happened.
        let open_max = if pause_s > 0.0 { 1 } else { BATCHES_OPEN };
        while open.len() > open_max {
            add(&mut totals, open.pop_front().expect("longer than none").await?);
        }
        println!("published {}", row + batch.len());
    }
    for confirmation in open {
        add(&mut totals, confirmation.await?);
    }
    Ok(totals)
}

fn add(totals: &mut (u64, u64, u64), receipt: weir_client::Receipt) {
    totals.0 += receipt.stored;
    totals.1 += receipt.unrouted;
    totals.2 += receipt.refused();
    for refusal in receipt.refusals {
        eprintln!("{} refused: {} {}", refusal.count, refusal.code, refusal.message);
    }
}

/// Settles what the named queues, or the stream's group, hand out, until standard
/// input ends.
async fn work(arguments: Arguments) -> Outcome<()> {
    let options = ConnectOptions::default().named(arguments.name.clone());
    let client = Client::connect_with(&arguments.server, options).await?;
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
        let nack = Nack { percent: arguments.nack_percent, seed: arguments.seed };
        let pause = Duration::from_millis(arguments.ack_after_ms);
        tasks.spawn(settle(source, consumer, log.clone(), nack, pause));
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

/// `pause` lies between the line and the ack: the time in which a kill makes a
/// duplicate.
async fn settle(
    source: String,
    mut consumer: Consumer,
    log: Arc<File>,
    nack: Nack,
    pause: Duration,
) -> Outcome<()> {
    while let Some(batch) = consumer.next_batch().await? {
        let verdicts = write_lines(&source, &batch, &log, nack)?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if verdicts.contains(&true) {
            for (delivery, give_back) in batch.iter().zip(verdicts) {
                if give_back { delivery.nack(0) } else { delivery.ack() }
            }
        } else {
            batch.ack();
        }
    }
    Ok(())
}

/// Writes a line per delivery, in one call to the system, and tells which to nack.
fn write_lines(
    source: &str,
    batch: &DeliveryBatch,
    mut log: &File,
    nack: Nack,
) -> Outcome<Vec<bool>> {
    let mut lines = Vec::with_capacity(batch.len() * 40);
    let mut verdicts = Vec::with_capacity(batch.len());
    for delivery in batch {
        let key = std::str::from_utf8(delivery.view().key)?;
        let (row, attempt) = (key.parse()?, delivery.attempt());
        let give_back = nack.chooses(row, attempt);
        let verb = if give_back { "nack" } else { "ack" };
        writeln!(lines, "{source} {row} {attempt} {verb}")?;
        verdicts.push(give_back);
    }
    log.write_all(&lines)?;
    Ok(verdicts)
}
