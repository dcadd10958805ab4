//! What a match costs by number of subscriptions and depth of the subject.
//!
//! `cargo bench -p weir-core --bench pattern_index`. One subscription in ten has
//! wildcards; each subject matches one literal subscription and a few wildcards,
//! whatever the number, so that the figures compare the search alone. Prints the
//! memory per subscription too, as the allocator was asked for it.

#![allow(missing_docs, clippy::print_stderr, reason = "a bench reports to a terminal")]
#![allow(unsafe_code, reason = "counting bytes takes a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_core::name::Pattern;
use weir_core::pattern_index::PatternIndex;

/// The system's allocator, which counts the bytes that are out.
struct Counting;

static BYTES_OUT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES_OUT.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as for the whole.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES_OUT.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as for the whole.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A subject `depth` tokens deep, one of `count`.
fn subject(number: usize, depth: usize) -> String {
    let mut tokens = vec![format!("t{}", number % 64)];
    tokens.resize(depth - 1, format!("area-{}", number % 16));
    tokens.push(format!("device-{number}"));
    tokens.join(".")
}

/// Every tenth subscription has a wildcard, of five forms.
fn pattern(number: usize, depth: usize) -> String {
    let plain = subject(number, depth);
    let (head, last) = plain.rsplit_once('.').expect("two tokens or more");
    let (first, rest) = plain.split_once('.').expect("two tokens or more");
    match number % 50 {
        0 => format!("*.{rest}"),
        10 => format!("{head}.{last}-*"),
        20 => format!("{head}.*-{number}"),
        30 => format!("{plain}.>"),
        40 => format!("{}*.{rest}", &first[..1]),
        _ => plain,
    }
}

fn filled(count: usize, depth: usize) -> PatternIndex<u32> {
    let mut index = PatternIndex::default();
    let before = BYTES_OUT.load(Ordering::Relaxed);
    for number in 0..count {
        let pattern = Pattern::parse(&pattern(number, depth)).expect("a pattern");
        index.insert(&pattern, number as u32);
    }
    let bytes = BYTES_OUT.load(Ordering::Relaxed) - before;
    eprintln!("{count} subscriptions, depth {depth}: {} bytes each", bytes / count);
    index
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for depth in [2, 4, 8] {
        for count in [1, 1_000, 100_000, 1_000_000] {
            let index = filled(count, depth);
            let subjects: Vec<_> =
                (0..1_000).map(|k| subject(k * 7_919 % count.max(1_000), depth)).collect();
            let mut at = 0;
            let id = BenchmarkId::new(format!("depth {depth}"), count);
            group.bench_with_input(id, &index, |bencher, index| {
                bencher.iter(|| {
                    at = (at + 1) % subjects.len();
                    let mut found = 0u64;
                    index.for_each_match(&subjects[at], |&value| found += u64::from(value));
                    black_box(found)
                });
            });
        }
    }
    group.finish();
}

fn coming_and_going(criterion: &mut Criterion) {
    let mut index = filled(1_000_000, 4);
    let patterns: Vec<_> = (1_000_000..1_001_000)
        .map(|number| Pattern::parse(&pattern(number, 4)).expect("a pattern"))
        .collect();
    let mut at = 0;
    criterion.bench_function("insert and remove among 1000000", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % patterns.len();
            let place = index.insert(&patterns[at], u32::MAX);
            index.remove(place, u32::MAX)
        });
    });
}

criterion_group!(benches, matching, coming_and_going);
criterion_main!(benches);
