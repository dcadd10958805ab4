//! What decoding allocates, measured: the worst frames known take a bounded
//! amount, whatever they promise. One test, because the counter is global.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unsafe_code,
    reason = "an allocator that counts can only be written with unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use weir_protocol::{decode_request, decode_response, limits};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call to the system's allocator and only counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peak_of(frame: &Bytes) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    drop(decode_request(frame));
    drop(decode_response(frame));
    PEAK.load(Ordering::Relaxed) - before
}

/// A consumer whose labels are `values` nested nowhere, one byte each.
fn labels(values: u16) -> Bytes {
    let mut bytes = vec![0x93, 7, 1, 0x83];
    bytes.extend_from_slice(b"\xa3sub\x01\xa5queue\xa1q\xa6labels\x81\xa1a\xdc");
    bytes.extend_from_slice(&values.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(values), 0xc0);
    Bytes::from(bytes)
}

/// A publish frame of as many messages as there may be, six bytes each.
fn small_messages() -> Bytes {
    let mut bytes = vec![0x94, 2, 1, 0xc0, 0xdc];
    bytes.extend_from_slice(&(limits::PUBLISH_MESSAGES_MAX as u16).to_be_bytes());
    bytes.extend([0x94, 0xa0, 0xc0, 0xc0, 0xc4, 0].repeat(limits::PUBLISH_MESSAGES_MAX));
    Bytes::from(bytes)
}

#[test]
fn decoding_allocates_under_a_mebibyte() {
    let settle: Vec<u8> =
        [&[0x96, 3, 1, 1, 0, 0, 0xdc, 0x80, 0x00][..], &[1, 1].repeat(limits::SETTLE_RANGES_MAX)]
            .concat();
    let mut promises = vec![0x94, 2, 1, 0xc0, 0xdd, 0, 0, 0x40, 0];
    promises.push(0x94);
    let frames = [
        ("labels", labels(3_000)),
        ("labels over a limit", labels(8_000)),
        ("labels over another", labels(20_000)),
        ("messages", small_messages()),
        ("settle", Bytes::from(settle)),
        ("promises", Bytes::from(promises)),
        ("depth", Bytes::from(vec![0x91; 1 << 20])),
        (
            "text",
            Bytes::from([&[0x93, 5, 1, 0xdb, 0, 0xf, 0xff, 0][..], &[b'a'; 1 << 20]].concat()),
        ),
    ];
    for (name, frame) in frames {
        let peak = peak_of(&frame);
        assert!(peak < 1 << 20, "{name}: {peak} bytes for a frame of {}", frame.len());
    }
    assert!(decode_request(&labels(3_000)).is_ok() && decode_request(&small_messages()).is_ok());
}
