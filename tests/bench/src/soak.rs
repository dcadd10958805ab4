//! Overload: producers that want twice what goes through, for as long as is asked.
//!
//! First the peak is found: a queue at level `disk`, two producers, four consumers, as
//! in W2. Then the producers want to send twice that, by the clock; every few minutes the
//! peak is found anew, since disks change. In one arrangement they are pushed back (512
//! messages without an answer each), in the others the queue is bounded, and what does not
//! fit is refused: where the broker is the bottleneck, which has a core of its own, and
//! where the consumers are. What has to hold in all: the rate of what is consumed, the
//! memory of the broker, the time a message spends in it; and as many messages arrive as
//! were accepted (they are counted, not told apart).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::task::JoinHandle;
use weir_client::{
    Client, Confirmation, ConsumeOptions, Create, CreateQueue, DeliveryBatch, Level, Message,
    PublisherOptions,
};

use crate::cores::Cores;
use crate::disk::{Disk, Done};
use crate::driver::{Case, Driver as _, Sync};
use crate::drivers::{Weir, WeirConfig};
use crate::machine::{Machine, resident_mib};
use crate::pause::{let_others, pause};
use crate::results::{Spread, spread};
use crate::stamp::{Batch, Layout, now};

const PRODUCERS: u64 = 2;
const CONSUMERS: usize = 4;
/// Messages a producer hands over at once.
const BATCH: usize = 64;
/// Payload, bytes.
const SIZE: usize = 128;
/// Deliveries in flight to a consumer.
const CREDIT: u32 = 256;
/// What a slow consumer takes, messages a second: work of 40 µs each.
const CONSUMER_RATE: f64 = 25_000.0;
/// How much more is offered than goes through.
const OVERLOAD: f64 = 2.0;
/// Messages of a producer without an answer: pushed back, and refused.
const WINDOWS: [usize; 2] = [512, 16_384];
/// Messages in the bounded queue, most.
const BOUND: u64 = 20_000;
/// Messages in the unbounded one beyond which the search for the peak waits.
const PEAK_BACKLOG: u64 = 20_000;
/// How long the peak is looked for, and what is left out at its beginning.
const PEAK: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(5);
/// Longest time that is told from longer ones, ns.
const LONGEST_NS: u64 = 600_000_000_000;
/// Longest time between two looks for the peak.
const STRETCH: Duration = Duration::from_secs(300);
/// One line of the record.
const LINE: Duration = Duration::from_secs(10);
/// Longest wait for what is in the queue at the end.
const DRAIN: Duration = Duration::from_secs(120);

/// What is counted while it happens.
#[derive(Debug)]
struct Counts {
    /// Messages that may be sent from now on, by the clock.
    wanted: AtomicU64,
    sent: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    consumed: AtomicU64,
    stop: AtomicBool,
    /// From handing over to receiving, nanoseconds.
    latencies: Mutex<Histogram<u64>>,
}

impl Counts {
    fn new() -> Result<Self> {
        Ok(Self {
            wanted: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latencies: Mutex::new(Histogram::new_with_bounds(1, LONGEST_NS, 3)?),
        })
    }

    /// Notes how long each message of a batch took. How many there were.
    fn note(&self, batch: &DeliveryBatch) -> Result<u64> {
        let (at, mut count) = (now(), 0);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in batch {
            let stamp = Layout::Binary.read(delivery.payload()).context("a damaged payload")?;
            latencies.saturating_record(at.saturating_sub(stamp.intended));
            count += 1;
        }
        Ok(count)
    }

    /// Those since the last time.
    fn take_latencies(&self) -> Histogram<u64> {
        let mut held = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = held.clone();
        held.reset();
        taken
    }
}

/// Figures of one line.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// A second: wanted, accepted, refused, consumed.
    rates: [f64; 4],
    /// Of what was consumed, µs.
    p50: f64,
    p99: f64,
    max: f64,
    rss_mib: f64,
    /// What the disk took for a sync, µs, where that is known.
    sync_us: Option<f64>,
}

/// Overload between two looks for the peak.
struct Stretch {
    before: Peak,
    lines: Vec<Line>,
    after: Peak,
}

impl Stretch {
    /// What goes through without overload, messages a second: the mean of both looks.
    fn peak(&self) -> f64 {
        (self.before.rate + self.after.rate) / 2.0
    }
}

/// One arrangement.
struct Setting {
    title: &'static str,
    window: usize,
    messages_max: u64,
    /// What a consumer takes at most, messages a second.
    consumer_rate: Option<f64>,
}

/// Runs all arrangements, `minutes` of overload together; the page that tells of it.
///
/// # Errors
/// When the broker cannot be started or breaks a connection.
pub(crate) async fn run(weir: PathBuf, folder: PathBuf, minutes: f64) -> Result<String> {
    let machine = Machine::read(&folder.canonicalize()?);
    let cores = Cores::split()?;
    let who = match &cores {
        Some(cores) => {
            cores.keep_clients()?;
            "The broker has one core, the clients have the others"
        }
        None => "Clients and broker share the only core",
    };
    let core = cores.map(|cores| cores.broker);
    let [pushed, shed] = WINDOWS;
    let settings = [
        ("Pushed back", pushed, 0, None),
        ("Refused", shed, BOUND, None),
        ("Refused, consumers slower than the broker", shed, BOUND, Some(CONSUMER_RATE)),
    ];
    let seconds = minutes * 60.0 / settings.len() as f64;
    ensure!(seconds >= LINE.as_secs_f64(), "less than {LINE:?} for each arrangement");
    let mut page = format!(
        "# Overload\n\nTwo producers want twice what goes through a queue at level `disk`, by \
         the clock, for {seconds:.0} s in each arrangement: messages of {SIZE} B, {CONSUMERS} \
         consumers with a credit of {CREDIT} that acknowledge each. Before, behind, and at \
         least every {} s in between the peak is looked for during {} s, which are not counted. {who}. \
         Latency: from the moment a message is handed to the client until a consumer has it. \
         To do it again: `cargo build --release`, then in `tests/bench` `cargo run --release -- \
         soak --minutes {minutes}`.\n\n\
         {}: {} cores ({}), Linux {}, {}.\n",
        STRETCH.as_secs(),
        PEAK.as_secs(),
        crate::date(),
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.file_system,
    );
    for (title, window, messages_max, consumer_rate) in settings {
        let setting = Setting { title, window, messages_max, consumer_rate };
        let time = Duration::from_secs_f64(seconds);
        page += &arrangement((&weir, core), &folder, &setting, time).await?;
    }
    Ok(page)
}

async fn arrangement(
    (weir, core): (&Path, Option<usize>),
    folder: &Path,
    setting: &Setting,
    time: Duration,
) -> Result<String> {
    let home = tempfile::tempdir_in(folder)?;
    let driver = Weir::find(weir, WeirConfig { core, ..WeirConfig::default() })?;
    let running = driver.start(Case::Queue(Sync::Synced), home.path()).await?;
    let (server, address) = (running.server.id(), running.server.address().to_string());
    let name = || "soak".to_owned();
    let level = Some(Level::Disk);
    let messages_max = setting.messages_max;
    let queue = CreateQueue { name: name(), level, messages_max, ..CreateQueue::default() };
    Client::connect(&address).await?.create(Create::Queue(queue)).await?;
    let counts = Arc::new(Counts::new()?);
    let mut consumers: Vec<JoinHandle<Result<()>>> = Vec::new();
    for _ in 0..CONSUMERS {
        let rate = setting.consumer_rate;
        consumers.push(tokio::spawn(consume(address.clone(), rate, counts.clone())));
    }
    let mut producers: Vec<JoinHandle<Result<()>>> = Vec::new();
    for number in 0..PRODUCERS {
        let task = produce(address.clone(), number as u16, setting.window, counts.clone());
        producers.push(tokio::spawn(task));
    }
    let disk = Disk::of(home.path());
    let mut before = peak(&counts, disk).await;
    crate::eprint(&format!("{}: the peak is {}", setting.title, before.told()));
    let mut stretches = Vec::new();
    let many = time.as_secs_f64() / STRETCH.as_secs_f64();
    for _ in 0..many.ceil() as u32 {
        let (mut lines, started) = (Vec::new(), Instant::now());
        counts.wanted.store(counts.sent.load(Relaxed), Relaxed);
        while started.elapsed() < time.div_f64(many.ceil()) {
            lines.push(line(&counts, server, disk, before.rate * OVERLOAD).await);
            crate::eprint(&told(lines.last().expect("one was added"), before.rate));
            let mut clients = producers.iter_mut().chain(&mut consumers);
            if let Some(task) = clients.find(|it| it.is_finished()) {
                task.await??;
                bail!("a client has ended");
            }
        }
        let after = peak(&counts, disk).await;
        crate::eprint(&format!("{}: now the peak is {}", setting.title, after.told()));
        stretches.push(Stretch { before, lines, after });
        before = after;
    }
    counts.stop.store(true, Relaxed);
    for producer in producers {
        producer.await??;
    }
    let left = Instant::now();
    let accepted = counts.accepted.load(Relaxed);
    while counts.consumed.load(Relaxed) < accepted && left.elapsed() < DRAIN {
        pause(Duration::from_millis(50)).await;
    }
    let consumed = counts.consumed.load(Relaxed);
    for consumer in consumers {
        if consumer.is_finished() {
            consumer.await??;
        } else {
            consumer.abort();
        }
    }
    Ok(section(setting, &stretches, accepted, consumed))
}

/// What goes through while producers may send what fits.
#[derive(Clone, Copy, Debug)]
struct Peak {
    /// Consumed messages a second.
    rate: f64,
    /// What the disk took for a sync, µs, where that is known.
    sync_us: Option<f64>,
}

impl Peak {
    fn told(self) -> String {
        format!("{:.0} messages/s{}", self.rate, clause(self.sync_us))
    }
}

async fn peak(counts: &Counts, disk: Option<Disk>) -> Peak {
    let disk_before = disk.and_then(Disk::done);
    let (started, mut from) = (Instant::now(), None);
    while started.elapsed() < PEAK {
        let consumed = counts.consumed.load(Relaxed);
        let done = consumed + counts.refused.load(Relaxed);
        counts.wanted.store(done + PEAK_BACKLOG, Relaxed);
        if from.is_none() && started.elapsed() >= WARM_UP {
            from = Some((Instant::now(), consumed));
        }
        pause(Duration::from_millis(1)).await;
    }
    let (since, before) = from.unwrap_or((started, 0));
    drop(counts.take_latencies());
    let rate = (counts.consumed.load(Relaxed) - before) as f64 / since.elapsed().as_secs_f64();
    Peak { rate, sync_us: sync_us(disk, disk_before) }
}

/// Lets the clock of what is wanted run for the time of one line.
async fn line(counts: &Counts, server: u32, disk: Option<Disk>, rate: f64) -> Line {
    let disk_before = disk.and_then(Disk::done);
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let all = || [&counts.wanted, &counts.accepted, &counts.refused, &counts.consumed].map(read);
    let (before, started) = (all(), Instant::now());
    while started.elapsed() < LINE {
        let wanted = before[0] + (started.elapsed().as_secs_f64() * rate) as u64;
        counts.wanted.store(wanted, Relaxed);
        pause(Duration::from_millis(1)).await;
    }
    let (after, seconds) = (all(), started.elapsed().as_secs_f64());
    let latencies = counts.take_latencies();
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Line {
        rates: std::array::from_fn(|it| (after[it] - before[it]) as f64 / seconds),
        p50: at(0.5),
        p99: at(0.99),
        max: latencies.max() as f64 / 1e3,
        rss_mib: resident_mib(server, "VmRSS"),
        sync_us: sync_us(disk, disk_before),
    }
}

fn sync_us(disk: Option<Disk>, before: Option<Done>) -> Option<f64> {
    disk?.done()?.sync_us_since(before?)
}

/// What is said of the disk behind a figure.
fn clause(sync_us: Option<f64>) -> String {
    sync_us.map_or_else(String::new, |it| format!(", a sync of the disk {it:.0} µs"))
}

async fn produce(address: String, number: u16, window: usize, counts: Arc<Counts>) -> Result<()> {
    let client = Client::connect(&address).await?;
    let mut publisher = client.publisher_with(PublisherOptions { window_bytes_max: 64 << 20 });
    let mut batch = Batch::new(Layout::Binary, number, BATCH, SIZE);
    let mut open: VecDeque<Confirmation> = VecDeque::new();
    while !counts.stop.load(Relaxed) {
        if counts.sent.load(Relaxed) >= counts.wanted.load(Relaxed) {
            pause(Duration::from_millis(1)).await;
            continue;
        }
        counts.sent.fetch_add(BATCH as u64, Relaxed);
        batch.renew(now());
        let messages: Vec<Message<'_>> =
            batch.payloads().map(|payload| Message::new("soak").payload(payload)).collect();
        publisher.send_all(&messages).await?;
        open.push_back(publisher.take());
        while (open.len() + 1) * BATCH > window {
            answered(&mut open, &counts).await?;
        }
        // Consumers share this thread: what they are measured by must not wait until a
        // producer has filled its window.
        let_others().await;
    }
    while !open.is_empty() {
        answered(&mut open, &counts).await?;
    }
    Ok(())
}

async fn answered(open: &mut VecDeque<Confirmation>, counts: &Counts) -> Result<()> {
    let receipt = open.pop_front().context("nothing is open")?.await?;
    let (stored, refused) = (receipt.stored, receipt.refused());
    ensure!(stored + refused == BATCH as u64, "an answer for {stored} and {refused} messages");
    counts.accepted.fetch_add(stored, Relaxed);
    counts.refused.fetch_add(refused, Relaxed);
    Ok(())
}

async fn consume(address: String, rate: Option<f64>, counts: Arc<Counts>) -> Result<()> {
    let client = Client::connect(&address).await?;
    let mut consumer = client.consume_with("soak", ConsumeOptions::credit(CREDIT)).await?;
    while let Some(batch) = consumer.next_batch().await? {
        let count = counts.note(&batch)?;
        if let Some(rate) = rate {
            pause(Duration::from_secs_f64(count as f64 / rate)).await;
        }
        batch.ack();
        counts.consumed.fetch_add(count, Relaxed);
    }
    Ok(())
}

fn told(line: &Line, peak: f64) -> String {
    let [wanted, accepted, refused, consumed] = line.rates;
    format!(
        "wanted {wanted:.0}/s, accepted {accepted:.0}, refused {refused:.0}, consumed \
         {consumed:.0} ({:.2} of the peak before), p50 {:.0} us, p99 {:.0}, max {:.0}, {:.0} MiB{}",
        consumed / peak,
        line.p50,
        line.p99,
        line.max,
        line.rss_mib,
        clause(line.sync_us)
    )
}

fn section(setting: &Setting, stretches: &[Stretch], accepted: u64, consumed: u64) -> String {
    let lines: Vec<(&Line, &Stretch)> =
        stretches.iter().flat_map(|it| it.lines.iter().map(move |line| (line, it))).collect();
    let row = |name: &str, digits: usize, of: &dyn Fn(&Line, &Stretch) -> f64| {
        let all = lines.iter().map(|(line, stretch)| of(line, stretch)).collect();
        let found = spread(all);
        found.map_or_else(String::new, |Spread { median, least, most }| {
            format!("| {name} | {median:.digits$} | {least:.digits$} | {most:.digits$} |\n")
        })
    };
    let quarter = lines.len().div_ceil(4);
    let memory = |some: &[(&Line, &Stretch)]| {
        some.iter().map(|(it, _)| it.rss_mib).sum::<f64>() / some.len() as f64
    };
    let peaks = stretches.first().map(|first| first.before).into_iter();
    let peaks: Vec<String> =
        peaks.chain(stretches.iter().map(|it| it.after)).map(Peak::told).collect();
    let bound = match setting.messages_max {
        0 => format!("Each producer has {} messages without an answer at most.", setting.window),
        most => format!(
            "The queue takes {most} messages at most. What does not fit is refused, and a \
             producer that sends on regardless is read a little later: it has {} messages \
             without an answer at most, so that not all it wants is sent.",
            setting.window
        ),
    };
    let mut out = format!(
        "\n## {}\n\n{bound} Peak before the first stretch of overload, then behind each: {}. \
         Windows of {} s: {}.\n\n\
         | figure | median | least | most |\n| --- | ---: | ---: | ---: |\n",
        setting.title,
        peaks.join("; "),
        LINE.as_secs(),
        lines.len(),
    );
    let wanted = |it: &Line, of: &Stretch| it.rates[0] / of.before.rate;
    out += &row("wanted, of the peak before", 2, &wanted);
    let sent = |it: &Line, of: &Stretch| (it.rates[1] + it.rates[2]) / of.before.rate;
    out += &row("sent (accepted or refused), of the peak before", 2, &sent);
    let held = |it: &Line, of: &Stretch| it.rates[3] / of.peak();
    out += &row("consumed, of the mean of the peaks before and behind", 2, &held);
    for (name, at) in [("wanted", 0), ("accepted", 1), ("refused", 2), ("consumed", 3)] {
        out += &row(&format!("{name}, messages/s"), 0, &|it, _| it.rates[at]);
    }
    out += &row("p50, µs", 0, &|it, _| it.p50);
    out += &row("p99, µs", 0, &|it, _| it.p99);
    out += &row("longest, µs", 0, &|it, _| it.max);
    if lines.iter().all(|(it, _)| it.sync_us.is_some()) {
        out += &row("a sync of the disk, µs", 0, &|it, _| it.sync_us.unwrap_or_default());
    }
    out += &row("memory of the broker, MiB", 0, &|it, _| it.rss_mib);
    out += &format!(
        "\nMemory in the first quarter {:.0} MiB, in the last {:.0} MiB. Accepted {accepted}, \
         consumed {consumed}, which are counted, not told apart: a difference of {}.\n",
        memory(&lines[..quarter]),
        memory(&lines[lines.len() - quarter..]),
        i128::from(accepted) - i128::from(consumed),
    );
    out
}
