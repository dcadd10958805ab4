//! What policies cost: per message, at several batch sizes, through the whole
//! publish stage; per event of a delivery step. `cargo bench -p weir-policy`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;

use common::{Bench, Messages, TestClock};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Throughput, criterion_group, criterion_main};
use weir_core::env::Clock;
use weir_core::policy::{DeliveryPolicy, Event, event};
use weir_message::Header;
use weir_policy::chain::PublishChain;
use weir_policy::delivery::WasmDelivery;
use weir_policy::judge::Judged;
use weir_policy::setup::Role;

const BATCHES: [usize; 4] = [1, 8, 32, 256];
/// Payload of messages that nobody looks into.
const PLAIN: [u8; 100] = [b'x'; 100];

/// Counts the time the thread ran, not the time that passed: other work on the
/// machine does not show. Falls back to wall time where the system does not tell.
struct ThreadTime;

type Criterion = criterion::Criterion<ThreadTime>;

impl ThreadTime {
    fn now() -> u64 {
        static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let told = told.and_then(|text| text.split(' ').next()?.parse().ok());
        told.unwrap_or_else(|| {
            STARTED.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
        })
    }
}

impl Measurement for ThreadTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        Self::now()
    }

    fn end(&self, started: u64) -> u64 {
        // The system's count moves in ticks: never nothing.
        (Self::now() - started).max(1)
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// What the border costs: a router that does next to nothing itself, asked about
/// every message.
fn border(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let router = bench.router(&bench.guest("lean"), "{}");
    let chain = PublishChain::new(Vec::new(), vec![router], 1);
    run(criterion, "router/border", &chain, &bench, (&[], &PLAIN), |n| {
        format!("flights.{}", n % 8)
    });
}

/// A router that looks at every message: a header decides between two subjects.
fn router(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let config = r#"{"rules": [
        {"when": {"all": [{"header": "class", "value": "late"}]}, "to": "late"}
    ]}"#;
    let router = bench.router(&bench.shipped("headers-router"), config);
    let chain = PublishChain::new(Vec::new(), vec![router], 1);
    let mut headers = Vec::new();
    Header::encode_all(&mut headers, &[Header { name: "class", value: b"soon", text: true }]);
    run(criterion, "router/asked", &chain, &bench, (&headers, &PLAIN), |n| {
        format!("flights.{}", n % 8)
    });
}

/// A router that is asked about every message and sends all of them elsewhere,
/// by a split that a key decides.
fn split(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let config = r#"{"rules": [{"pattern": "flights.>", "split": [
        {"to": "left", "weight": 1}, {"to": "right", "weight": 1}
    ]}]}"#;
    let router = bench.router(&bench.shipped("split-router"), config);
    let chain = PublishChain::new(Vec::new(), vec![router], 1);
    run(criterion, "router/split", &chain, &bench, (&[], &PLAIN), |n| format!("flights.{}", n % 8));
}

/// A router and a filter that look into every payload, for a field each.
fn json(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let rules = r#"{"rules": [{"when": {"field": "s", "op": "exists"}, "to": "{$subject}"}]}"#;
    let keep = r#"{"keep": {"field": "p", "op": "prefix", "value": "00"}}"#;
    let router = bench.router(&bench.shipped("json-router"), rules);
    let filter = bench.filter(&bench.shipped("json-filter"), keep);
    for bytes in [128, 1024] {
        let pad = ".".repeat(bytes - 72);
        let payload = format!(
            r#"{{"p":"0000","s":"0123456789abcdef","t":"0123456789abcdef","pad":"{pad}"}}"#
        );
        let message = (&[][..], payload.as_bytes());
        let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
        run(criterion, &format!("router/json/{bytes}"), &chain, &bench, message, |_| {
            "bench".into()
        });
        let chain = PublishChain::new(vec![filter.clone()], Vec::new(), 1);
        run(criterion, &format!("filter/json/{bytes}"), &chain, &bench, message, |_| {
            "bench".into()
        });
    }
}

/// The same work, with an answer that hangs on the subject alone.
fn remembered(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let config = r#"{"rules": [{"pattern": "flights.*", "to": "sorted.{1}"}]}"#;
    let component = bench.shipped("subject-router");
    let router = bench.router(&component, config);
    let chain = PublishChain::new(Vec::new(), vec![router], 1);
    run(criterion, "router/remembered", &chain, &bench, (&[], &PLAIN), |n| {
        format!("flights.{}", n % 64)
    });
    let chain = PublishChain::new(Vec::new(), vec![bench.router(&component, "{}")], 1);
    run(criterion, "router/identity", &chain, &bench, (&[], &PLAIN), |n| {
        format!("flights.{}", n % 64)
    });
}

fn run(
    criterion: &mut Criterion,
    name: &str,
    chain: &PublishChain,
    bench: &Bench,
    message: (&[u8], &[u8]),
    subject: impl Fn(usize) -> String,
) {
    let mut group = criterion.benchmark_group(name);
    let (headers, payload) = message;
    for rows in BATCHES {
        let mut messages = Messages::default();
        for row in 0..rows {
            messages.push_with(&subject(row), b"", headers, payload);
        }
        let (now, mut judged) = (bench.clock.now(), Judged::default());
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter(|| {
                chain.judge(black_box(messages.input(now)), &mut judged);
                black_box(judged.len())
            });
        });
    }
    group.finish();
}

/// Events of a delivery policy that wants to hear of everything.
fn step(criterion: &mut Criterion) {
    let bench = Bench::new(TestClock::manual(0));
    let component = bench.shipped("at-least-once");
    let setup = bench.setup(Role::Delivery, 1, "{}");
    let mut policy = WasmDelivery::start(Arc::clone(&component), setup).unwrap();
    let mut group = criterion.benchmark_group("delivery/step");
    for count in BATCHES {
        let event = |n: usize| Event {
            kind: event::ACKED,
            group: 1,
            consumer: 1,
            message: n as u64,
            ..Event::default()
        };
        let events: Vec<Event> = (0..count).map(event).collect();
        let mut actions = Vec::new();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                actions.clear();
                policy.step(1, black_box(&events), &[], &mut actions).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion::Criterion::default().with_measurement(ThreadTime);
    targets = border, router, split, json, remembered, step
}
criterion_main!(benches);
