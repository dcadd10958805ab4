//! Cost of what a server puts into a connection's outbox beside whole deliver frames
//! (those are in `frames`), for 256 messages. `cargo bench -p weir-protocol --bench answers`.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_protocol::{
    DeliverBuilder, ErrorCode, Level, Refusal, RequestId, RunHeader, SubscriptionId, answer,
};

const MESSAGES: u32 = 256;

fn benches(criterion: &mut Criterion) {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "flights.short.late", b"LAX", &[], &[b'x'; 128]);
    let (subscription, mut out) = (SubscriptionId(5), Vec::new());
    let header = |row: u32, count: u32| RunHeader {
        tag: u64::from(row) + 1,
        offset: u64::from(row),
        time_ms: 1_700_000_000_000,
        attempt: 1,
        count,
        ..RunHeader::default()
    };

    let mut group = criterion.benchmark_group("answers about 256 messages");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    group.bench_function("deliver, one run, its messages not copied", |bencher| {
        bencher.iter(|| {
            out.clear();
            let length = MESSAGES as usize * message.len();
            answer::deliver_head(&mut out, subscription, &header(0, MESSAGES), length);
            black_box(&out);
        });
    });
    group.bench_function("deliver, a run for each", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut builder = DeliverBuilder::start(&mut out, subscription);
            for row in 0..MESSAGES {
                builder.run(&mut out, &header(row, 1), &message);
            }
            builder.finish(&mut out);
            black_box(&out);
        });
    });
    group.bench_function("published, a request for each", |bencher| {
        bencher.iter(|| {
            out.clear();
            for id in 1..=MESSAGES {
                answer::encode_published(&mut out, RequestId(id), Level::Disk, 1, 0, 0, &[]);
            }
            black_box(&out);
        });
    });
    group.bench_function("published, half refused one by one", |bencher| {
        let refusal = |row: u32| Refusal {
            row: 2 * row,
            count: 1,
            code: ErrorCode::QueueFull,
            message: "the queue is full".into(),
        };
        let refusals: Vec<Refusal> = (0..MESSAGES / 2).map(refusal).collect();
        let stored = u64::from(MESSAGES / 2);
        bencher.iter(|| {
            out.clear();
            let id = RequestId(1);
            answer::encode_published(&mut out, id, Level::Disk, stored, 0, 0, &refusals);
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(answers, benches);
criterion_main!(answers);
