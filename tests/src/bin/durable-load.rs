//! What the durable store makes of a disk, seen by a client of the release binary,
//! beside what the disk and the loopback can do by themselves: both in one run, in
//! turns.
//!
//! ```sh
//! cargo build --release -p weir-server
//! cargo run --release -p weir-tests --bin durable-load -- target/release/weir DIR [PART ...]
//! ```
//!
//! DIR must lie on the disk to be measured. Parts: `one`, `window`, `spread`,
//! `stream`, `restart`, `memory`; all of them when none is named.

#![allow(clippy::print_stdout, reason = "a report for people")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_client::{
    Client, ConsumeOptions, Create, CreateQueue, CreateStream, Level, Message, Publisher,
    PublisherOptions, Start,
};

/// Rounds of each comparison.
const ROUNDS: usize = 3;
/// Length of one side of a round.
const SIDE: Duration = Duration::from_secs(3);

/// The broker as a process of its own.
struct Broker {
    process: Child,
    address: String,
    ready: Duration,
}

impl Broker {
    fn start(program: &Path, data: &Path, config: &str) -> Self {
        std::fs::create_dir_all(data).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let file = data.with_extension("toml");
        std::fs::write(&file, config).unwrap();
        let started = Instant::now();
        let mut process = Command::new(program)
            .args(["serve", "--listen", &address, "--data"])
            .arg(data)
            .arg("--config")
            .arg(&file)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The log goes to one of the two; the other stays silent.
        let (sender, lines) = std::sync::mpsc::sync_channel(1_024);
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    drop(sender.try_send(line));
                }
            });
        }
        drop(sender);
        for line in &lines {
            if line.contains(" ready ") {
                break;
            }
            if line.contains("WARN") || line.contains("ERROR") || line.contains("recover") {
                println!("  broker: {line}");
            }
        }
        let ready = started.elapsed();
        Self { process, address, ready }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.address).await.unwrap()
    }

    /// A figure of `/proc/PID/status`, MiB.
    fn status_mib(&self, key: &str) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Takes its samples in turns with others.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn zero_filled(folder: &Path) -> (PathBuf, std::fs::File) {
    let path = folder.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    (path, file)
}

/// Syncs a second: one write of 512 bytes into a zero-filled file, one fdatasync.
fn raw_syncs(folder: &Path) -> f64 {
    let (path, file) = zero_filled(folder);
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        file.write_all_at(&[7; 512], (count * 512) % (60 << 20)).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

/// Round trips a second over the loopback, one at a time, 200 bytes there and 50
/// back, between two plain threads.
fn raw_round_trips() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 200];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer[..50]).unwrap();
        }
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (started, mut count, mut buffer) = (Instant::now(), 0_u64, [0; 50]);
    while started.elapsed() < Duration::from_secs(1) {
        stream.write_all(&[1; 200]).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    drop(stream);
    echo.join().unwrap();
    rate
}

/// Bytes of all files in a folder and those below it.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(what) if what.is_dir() => bytes_in(&entry.path()),
            Ok(what) => what.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Lets the disk finish with what was written before, so that it does not count for what
/// comes next.
fn rest_disk() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// Bytes a second of a plain sequential write of `bytes` to a new file.
fn raw_write(folder: &Path, bytes: u64) -> f64 {
    rest_disk();
    let path = folder.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    let block = vec![7; 1 << 20];
    let started = Instant::now();
    for at in (0..bytes).step_by(block.len()) {
        file.write_all_at(&block, at).unwrap();
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

async fn make_queue(client: &Client, name: &str, level: Level) {
    let queue = CreateQueue { name: name.into(), level: Some(level), ..CreateQueue::default() };
    client.create(Create::Queue(queue)).await.unwrap();
}

async fn one_in_flight(client: &Client, subject: &str) -> f64 {
    let payload = [b'x'; 128];
    let message = Message::new(subject).payload(&payload);
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        let receipt = client.publish_confirmed(std::slice::from_ref(&message)).await.unwrap();
        assert_eq!((receipt.stored, receipt.level), (1, Level::Disk));
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Keeps `window` messages in flight, each with its own confirmation; `subject`
/// names where the next goes. Messages a second.
async fn windowed(client: &Client, window: usize, subject: impl Fn(u64) -> String) -> f64 {
    let payload = [b'x'; 128];
    let mut publisher = client.publisher();
    let mut open = VecDeque::new();
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        while open.len() < window {
            let subject = subject(count);
            publisher.send(&Message::new(&subject).payload(&payload)).await.unwrap();
            open.push_back(publisher.take());
            count += 1;
        }
        // Half of them at once: what a client with a window does.
        for _ in 0..window.div_ceil(2) {
            let receipt = open.pop_front().unwrap().await.unwrap();
            assert_eq!(receipt.stored, 1);
        }
    }
    let took = started.elapsed();
    for confirmation in open {
        confirmation.await.unwrap();
    }
    count as f64 / took.as_secs_f64()
}

async fn one(program: &Path, folder: &Path) {
    let broker = Broker::start(program, &folder.join("one"), "[log]\nlevel = 'info'\n");
    let client = broker.client().await;
    make_queue(&client, "one", Level::Disk).await;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (syncs, trips) = (raw_syncs(folder), raw_round_trips());
        let bound = 1.0 / (1.0 / syncs + 1.0 / trips);
        let rate = one_in_flight(&client, "one").await;
        println!(
            "  raw sync {syncs:.0}/s, raw round trip {trips:.0}/s: bound {bound:.0}/s; weir {rate:.0}/s, {:.2}",
            rate / bound
        );
        ratios.push(rate / bound);
        rates.push(rate);
    }
    println!(
        "one in flight, disk: {:.0}/s, {:.2} of the bound (medians)",
        median(rates),
        median(ratios)
    );
}

/// Syncs and synced writes of a process while `work` runs, by strace's count.
async fn counting_syncs<T>(process: u32, work: impl Future<Output = T>) -> (T, u64) {
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-e", "trace=fdatasync,fsync,pwritev2", "-p", &process.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("attached") {
        text.clear();
        assert!(said.read_line(&mut text).unwrap() > 0, "strace did not attach");
    }
    let result = work.await;
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    said.read_to_string(&mut text).unwrap();
    strace.wait().unwrap();
    let calls = text.lines().filter(|line| {
        ["fdatasync", "fsync", "pwritev2"].iter().any(|name| line.trim_end().ends_with(name))
    });
    let count = calls.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
    (result, count)
}

async fn window(program: &Path, folder: &Path) {
    let broker = Broker::start(program, &folder.join("window"), "");
    let client = broker.client().await;
    make_queue(&client, "window", Level::Disk).await;
    for size in [64, 512] {
        let rate = windowed(&client, size, |_| "window".to_owned()).await;
        let process = broker.process.id();
        let work = windowed(&client, size, |_| "window".to_owned());
        let (counted, syncs) = counting_syncs(process, work).await;
        let messages = counted * SIDE.as_secs_f64();
        println!(
            "{size} in flight, disk, 128 B: {rate:.0}/s; under strace {syncs} syncs for {messages:.0} messages, {:.5} each",
            syncs as f64 / messages
        );
    }
}

async fn spread(program: &Path, folder: &Path) {
    let broker = Broker::start(program, &folder.join("spread"), "");
    let client = broker.client().await;
    make_queue(&client, "single", Level::Disk).await;
    for number in 0..1_000 {
        make_queue(&client, &format!("many-{number}"), Level::Disk).await;
    }
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let single = windowed(&client, 512, |_| "single".to_owned()).await;
        let random = |count: u64| count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let many = windowed(&client, 512, |count| format!("many-{}", random(count) % 1_000)).await;
        println!("  1 queue {single:.0}/s, 1,000 queues {many:.0}/s, {:.2}", many / single);
        ratios.push(many / single);
    }
    println!("1,000 queues at random against one: {:.2} (median)", median(ratios));
}

async fn fill(publisher: &mut Publisher, subject: &str, payload: &[u8], bytes: u64) -> u64 {
    let mut sent = 0;
    let mut messages = 0;
    while sent < bytes {
        publisher.send(&Message::new(subject).payload(payload)).await.unwrap();
        sent += payload.len() as u64;
        messages += 1;
    }
    let receipt = publisher.flush().await.unwrap();
    assert_eq!(receipt.stored, messages, "{:?}", receipt.refusals.first());
    messages
}

fn wide() -> PublisherOptions {
    PublisherOptions { window_bytes_max: 8 << 20 }
}

async fn stream(program: &Path, folder: &Path) {
    let bytes = 1_u64 << 30;
    let (mut against_write, mut against_append) = (Vec::new(), Vec::new());
    let mut against_files = Vec::new();
    for round in 0..ROUNDS {
        let raw = raw_write(folder, bytes);
        let data = folder.join(format!("stream-{round}"));
        let config = "[store]\nmemory-mib = 64\n";
        let broker = Broker::start(program, &data, config);
        let client = broker.client().await;
        let stream = CreateStream {
            name: "log".into(),
            subjects: vec!["log".into()],
            partitions: 1,
            level: Some(Level::Os),
            ..CreateStream::default()
        };
        client.create(Create::Stream(stream)).await.unwrap();
        let mut publisher = client.publisher_with(wide());
        rest_disk();
        let started = Instant::now();
        let messages = fill(&mut publisher, "log", &[b'x'; 1024], bytes).await;
        let took = started.elapsed().as_secs_f64();
        let append = bytes as f64 / took;
        // Each message once in the journal, and once in a segment when it has come there.
        let all = bytes + bytes_in(&data.join("logs"));
        client.create_group("log", "reader", Start::Earliest).await.unwrap();
        let options = ConsumeOptions { auto_ack: true, ..ConsumeOptions::credit(8_192) };
        let mut consumer = client.consume_group("log", "reader", options).await.unwrap();
        let (started, mut read) = (Instant::now(), 0);
        while read < messages {
            read += consumer.next_batch().await.unwrap().unwrap().len() as u64;
        }
        let replay = bytes as f64 / started.elapsed().as_secs_f64();
        against_write.push(append / raw);
        against_append.push(replay / append);
        drop(broker);
        std::fs::remove_dir_all(&data).unwrap();
        let raw_all = raw_write(folder, all);
        println!(
            "  raw write {:.0} MB/s, append {:.0} MB/s ({:.2}), replay {:.0} MB/s ({:.2} of append); \
             the broker wrote at least {:.0} MB for it, raw {:.0} MB/s ({:.2})",
            raw / 1e6,
            append / 1e6,
            append / raw,
            replay / 1e6,
            replay / append,
            all as f64 / 1e6,
            raw_all / 1e6,
            all as f64 / took / raw_all
        );
        against_files.push(all as f64 / took / raw_all);
    }
    println!(
        "1 KiB to a stream at os: {:.2} of a plain write of the messages, {:.2} of one of journal \
         and segments; replay {:.2} of the append (medians)",
        median(against_write),
        median(against_files),
        median(against_append)
    );
}

async fn restart(program: &Path, folder: &Path) {
    let data = folder.join("restart");
    let (queues, messages) = (1_000, 5_000_000_u64);
    {
        let broker = Broker::start(program, &data, "");
        let client = broker.client().await;
        for number in 0..queues {
            make_queue(&client, &format!("q-{number}"), Level::Os).await;
        }
        let mut publisher = client.publisher_with(wide());
        let payload = [b'x'; 128];
        let started = Instant::now();
        for number in 0..messages {
            let subject = format!("q-{}", number.wrapping_mul(7_919) % queues);
            publisher.send(&Message::new(&subject).payload(&payload)).await.unwrap();
        }
        let receipt = publisher.flush().await.unwrap();
        assert_eq!(receipt.stored, messages, "{:?}", receipt.refusals.first());
        println!("  {messages} messages to {queues} queues in {:.1?}", started.elapsed());
        // Dropped: killed, without a clean stop.
    }
    let broker = Broker::start(program, &data, "");
    let client = broker.client().await;
    let mut left = 0;
    for number in 0..queues {
        left += client.queue_info(&format!("q-{number}")).await.unwrap().messages;
    }
    println!(
        "restart after kill -9: ready in {:.2?}, {left} messages in {queues} queues, {:.0} MiB resident",
        broker.ready,
        broker.status_mib("VmRSS")
    );
    assert_eq!(left, messages);
}

async fn memory(program: &Path, folder: &Path) {
    let data = folder.join("memory");
    let config = "[store]\nmemory-mib = 32\n";
    let broker = Broker::start(program, &data, config);
    let client = broker.client().await;
    make_queue(&client, "backlog", Level::Os).await;
    let mut publisher = client.publisher_with(wide());
    let bytes = 4_u64 << 30;
    let started = Instant::now();
    let messages = fill(&mut publisher, "backlog", &[b'x'; 1024], bytes).await;
    let (took, peak) = (started.elapsed(), broker.status_mib("VmHWM"));
    let options = ConsumeOptions { auto_ack: true, ..ConsumeOptions::credit(4_096) };
    let mut consumer = client.consume_with("backlog", options).await.unwrap();
    let (started, mut read) = (Instant::now(), 0);
    while read < messages {
        read += consumer.next_batch().await.unwrap().unwrap().len() as u64;
    }
    println!(
        "4 GiB of backlog: {messages} messages in {took:.1?}, peak {peak:.0} MiB; drained in {:.1?}, peak {:.0} MiB",
        started.elapsed(),
        broker.status_mib("VmHWM")
    );
}

#[tokio::main]
async fn main() {
    // In a task, as the work of a service is: what `main` itself awaits runs on a
    // thread of its own, and every answer would change threads.
    tokio::spawn(measure()).await.unwrap();
}

async fn measure() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, folder, parts @ ..] = &arguments[..] else {
        println!("durable-load WEIR DIR [one|window|spread|stream|restart|memory ...]");
        return;
    };
    let program = PathBuf::from(program);
    let folder = Path::new(folder).join(format!("weir-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|one| one == part);
    if wanted("one") {
        one(&program, &folder).await;
    }
    if wanted("window") {
        window(&program, &folder).await;
    }
    if wanted("spread") {
        spread(&program, &folder).await;
    }
    if wanted("stream") {
        stream(&program, &folder).await;
    }
    if wanted("restart") {
        restart(&program, &folder).await;
    }
    if wanted("memory") {
        memory(&program, &folder).await;
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
