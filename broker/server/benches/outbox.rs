//! Cost of a connection's outbox: 256 messages of 128 bytes pushed and taken out again.
//! `cargo bench -p weir-server --bench outbox`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use weir_core::command::{ConnectionId, Level, RequestId};
use weir_server::outbox::{ListenerId, Outbox, Pieces};
use weir_server::receipt::{Receipt, Request};

const MESSAGES: u32 = 256;
const SUBSCRIPTION: weir_core::command::SubscriptionId = weir_core::command::SubscriptionId(5);

/// An outbox as a write task empties it.
struct Emptied {
    outbox: Arc<Outbox>,
    listener: ListenerId,
    pieces: Pieces,
}

impl Emptied {
    fn new() -> Self {
        let outbox = Arc::new(Outbox::new(ConnectionId(1)));
        let listener = outbox.open_channel(SUBSCRIPTION);
        Self { outbox, listener, pieces: Pieces::default() }
    }

    /// Takes out what is in it, as if it were written.
    fn empty(&mut self) {
        let taken = self.outbox.take(&mut self.pieces).now_or_never();
        assert_eq!(taken, Some(true), "there is something in it");
        let bytes: usize = self.pieces.slices().iter().map(|slice| slice.len()).sum();
        self.outbox.written(black_box(bytes));
    }
}

fn benches(criterion: &mut Criterion) {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "flights.short.late", b"LAX", &[], &[b'x'; 128]);
    let read = Bytes::from(message.repeat(MESSAGES as usize));
    let each: Vec<Bytes> = (0..MESSAGES as usize)
        .map(|row| read.slice(row * message.len()..).slice(..message.len()))
        .collect();

    let mut group = criterion.benchmark_group("outbox, 256 messages");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    group.bench_function("one run, shared with the read", |bencher| {
        let mut emptied = Emptied::new();
        bencher.iter(|| {
            let run = std::slice::from_ref(&read);
            black_box(emptied.outbox.push_run(emptied.listener, 1, MESSAGES, run));
            emptied.empty();
        });
    });
    group.bench_function("one run of pieces, which are copied", |bencher| {
        let mut emptied = Emptied::new();
        bencher.iter(|| {
            black_box(emptied.outbox.push_run(emptied.listener, 1, MESSAGES, &each));
            emptied.empty();
        });
    });
    group.bench_function("a run for each", |bencher| {
        let mut emptied = Emptied::new();
        bencher.iter(|| {
            for one in &each {
                let run = std::slice::from_ref(one);
                black_box(emptied.outbox.push_run(emptied.listener, 1, 1, run));
            }
            emptied.empty();
        });
    });
    group.bench_function("a receipt for all, noted and answered", |bencher| {
        let mut emptied = Emptied::new();
        bencher.iter(|| {
            let request = Request::new(RequestId(1), 0, MESSAGES);
            let receipt = Receipt { requests: vec![request], outstanding: MESSAGES };
            let mut open = None;
            emptied.outbox.push(|pen| open = Some(pen.open_receipt(receipt)));
            let id = open.expect("it is not closed");
            emptied.outbox.push(|pen| {
                pen.note(id, |receipt| {
                    receipt.outstanding = 0;
                    receipt.kept(MESSAGES, &[], Level::Disk);
                });
            });
            emptied.empty();
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
