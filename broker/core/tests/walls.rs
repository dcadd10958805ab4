//! What the core does without: dependencies, and the operating system. The
//! lints in `clippy.toml` say the same of single calls; these tests need no
//! clippy.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};

/// Everything the core may depend on. A line more needs a reason.
const DEPENDENCIES: [&str; 7] =
    ["bytes", "foldhash", "hashbrown", "slab", "smallvec", "thiserror", "weir-message"];

/// What must not be named in the core's sources.
const FORBIDDEN: [&str; 14] = [
    "std::time",
    "std::thread",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::sync::mpsc",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "SystemTime",
    "async fn",
    "tokio",
    "wasmtime::",
    "rand::",
];

#[test]
fn depends_on_nothing_but_the_allow_list() {
    let manifest = include_str!("../Cargo.toml");
    let names: Vec<_> = section(manifest, "dependencies")
        .map(|line| line.split(['.', '=', ' ']).next().unwrap_or_default())
        .collect();
    assert!(!names.is_empty(), "the manifest has another form than this test expects");
    for name in &names {
        assert!(DEPENDENCIES.contains(name), "{name} is not on the core's list of dependencies");
    }
    for name in DEPENDENCIES {
        assert!(names.contains(&name), "{name} is not used any more: take it off the list");
    }
    let other = manifest
        .lines()
        .filter(|line| line.starts_with('[') && line.contains("dependencies"))
        .filter(|line| !matches!(*line, "[dependencies]" | "[dev-dependencies]"));
    assert_eq!(other.count(), 0, "dependencies hide in another section");
}

#[test]
fn names_nothing_of_the_operating_system() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 10, "the sources are elsewhere");
    for path in files {
        let text = fs::read_to_string(&path).expect("a source is readable");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            for name in FORBIDDEN {
                assert!(!line.contains(name), "{}: {name} in `{line}` ({number})", path.display());
            }
        }
    }
}

/// Lines of the section `[name]`, without comments and blank lines.
fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let header = format!("[{name}]");
    manifest
        .lines()
        .skip_while(move |line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Sources below `folder`, tests left out.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            into.push(path);
        }
    }
}
