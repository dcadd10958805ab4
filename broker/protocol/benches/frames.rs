//! Cost of the hot frames, per frame of 256 messages of 128 bytes payload.
//! `cargo bench -p weir-protocol`; criterion also prints messages per second.

#![allow(missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_protocol::{
    DeliverBuilder, PublishBuilder, RequestId, RunHeader, SubscriptionId, decode_publish_into,
    decode_request, decode_response, limits, next_frame,
};

const MESSAGES: usize = 256;
const PAYLOAD: [u8; 128] = [b'x'; 128];

fn publish_frame(out: &mut Vec<u8>) {
    let mut builder = PublishBuilder::start(out, 0);
    for _ in 0..MESSAGES {
        builder.push_parts(out, "flights.short.late", b"LAX", &[], &PAYLOAD);
    }
    builder.finish(out, RequestId(1));
}

fn benches(criterion: &mut Criterion) {
    let mut published = Vec::new();
    publish_frame(&mut published);
    let frame = Bytes::copy_from_slice(&published[limits::PREFIX_BYTES..]);
    let mut parts = Vec::new();
    decode_publish_into(&frame, 0..frame.len(), &mut parts).expect("our own frame");
    let messages = &frame[parts[0].start as usize..];
    let header = RunHeader { tag: 1, count: MESSAGES as u32, ..RunHeader::default() };
    let mut delivered = Vec::new();
    let mut builder = DeliverBuilder::start(&mut delivered, SubscriptionId(5));
    builder.run(&mut delivered, &header, messages);
    builder.finish(&mut delivered);
    let deliver = Bytes::copy_from_slice(&delivered[limits::PREFIX_BYTES..]);
    let settle = Bytes::from_static(&[0x96, 3, 0, 5, 0, 0, 0x92, 1, 0xcd, 1, 0]);

    let mut group = criterion.benchmark_group("256 messages of 128 B");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let mut out = Vec::new();
    group.bench_function("publish, encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            publish_frame(&mut out);
            black_box(&out);
        });
    });
    group.bench_function("publish, split and decode", |bencher| {
        let mut buffer = BytesMut::new();
        bencher.iter(|| {
            buffer.extend_from_slice(&published);
            let frame = next_frame(&mut buffer, limits::FRAME_BYTES_MAX);
            let frame = frame.expect("a good prefix").expect("a whole frame");
            parts.clear();
            black_box(decode_publish_into(&frame, 0..frame.len(), &mut parts))
                .expect("our own frame");
        });
    });
    group.bench_function("publish, decode", |bencher| {
        bencher.iter(|| {
            parts.clear();
            black_box(decode_publish_into(&frame, 0..frame.len(), &mut parts))
                .expect("our own frame");
        });
    });
    group.bench_function("deliver, encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut builder = DeliverBuilder::start(&mut out, SubscriptionId(5));
            builder.run(&mut out, &header, messages);
            builder.finish(&mut out);
            black_box(&out);
        });
    });
    group.bench_function("deliver, decode", |bencher| {
        bencher.iter(|| black_box(decode_response(&deliver)).expect("our own frame"));
    });
    group.bench_function("settle a range, decode", |bencher| {
        bencher.iter(|| black_box(decode_request(&settle)).expect("our own frame"));
    });
    group.finish();
}

criterion_group!(frames, benches);
criterion_main!(frames);
