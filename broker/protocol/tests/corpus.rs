//! The corpus of the fuzz targets in `tests/fuzz`, run as a test: what was found
//! once stays found. The golden frames are part of it.
//!
//! `WEIR_BLESS=1 cargo test -p weir-protocol --test corpus` writes the seeds.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../../../tests/fuzz/src/checks.rs"]
mod checks;
#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use std::path::PathBuf;

fn folder(target: &str) -> PathBuf {
    common::folder().join("../fuzz/corpus").join(target)
}

/// Frames that once were, or could be, trouble.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("depth-bomb", [vec![0x93, 5, 1], vec![0x91; 100]].concat()),
        ("map-bomb", [vec![0x93, 5, 1], [0xdf, 0, 0, 0, 1].repeat(40)].concat()),
        ("huge-array", vec![0x93, 67, 1, 0xdd, 0xff, 0xff, 0xff, 0xff]),
        ("huge-publish", vec![0x94, 2, 1, 0xc0, 0xdd, 0, 0, 0x40, 0, 0x94]),
        ("huge-text", vec![0x93, 5, 1, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff]),
        ("extension", vec![0x93, 5, 1, 0xd4, 0, 0]),
        ("reserved", vec![0x93, 5, 1, 0xc1]),
        ("zero-ranges", vec![0x96, 3, 0, 5, 0, 0, 0x90]),
        ("all-tags", [&[0x96, 3, 0, 5, 0, 0, 0x92, 1, 0xcf][..], &[0xff; 8]].concat()),
        ("duplicate-kind", {
            let pair = b"\xa4kind\xa5queue";
            [&[0x93, 16, 1, 0x82][..], pair, pair].concat()
        }),
        ("float-label", {
            let head = b"\x93\x07\x01\x83\xa3sub\x01\xa5queue\xa1q\xa6labels\x81\xa1a\xcb";
            [&head[..], &f64::NAN.to_be_bytes()].concat()
        }),
    ]
}

fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut stream = vec![5];
    for golden in common::goldens() {
        let target = if golden.is_request() { "requests" } else { "responses" };
        seeds.push((target, format!("golden-{}", golden.name), golden.frame().to_vec()));
        stream.extend(golden.bytes);
    }
    seeds.push(("frames", "goldens".into(), stream));
    seeds.push(("frames", "huge-length".into(), vec![1, 0xff, 0xff, 0xff, 0xff, 0]));
    seeds.push(("frames", "empty-frame".into(), vec![2, 0, 0, 0, 1, 0x90, 0, 0, 0, 0]));
    for (name, bytes) in hostile() {
        seeds.push(("requests", format!("hostile-{name}"), bytes.clone()));
        seeds.push(("responses", format!("hostile-{name}"), bytes));
    }
    seeds
}

#[test]
fn the_seeds_are_in_the_corpus() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    for (target, name, bytes) in seeds() {
        let path = folder(target).join(name);
        if bless {
            std::fs::create_dir_all(folder(target)).unwrap();
            std::fs::write(&path, bytes).unwrap();
        } else {
            let found = std::fs::read(&path).unwrap_or_default();
            assert_eq!(found, bytes, "{}", path.display());
        }
    }
}

#[test]
fn the_corpus_does_no_harm() {
    over_corpus("frames", checks::frames);
    over_corpus("requests", checks::requests);
    over_corpus("responses", checks::responses);
}

fn over_corpus(target: &str, check: fn(&[u8])) {
    let mut runs = 0;
    for entry in std::fs::read_dir(folder(target)).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        runs += 1;
    }
    assert!(runs >= 3, "{target} has {runs} inputs");
}

/// The checks see more than the corpus: damaged copies of it, seeded.
#[test]
fn damaged_copies_of_the_corpus_do_no_harm() {
    let mut random = common::Random(0xf022);
    let seeds = seeds();
    for _ in 0..10_000 {
        let (target, _, bytes) = &seeds[random.below(seeds.len())];
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        match *target {
            "frames" => checks::frames(&bytes),
            "requests" => checks::requests(&bytes),
            _ => checks::responses(&bytes),
        }
    }
}
