//! Rules about the sources that a program can check.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Most lines of a source file, its tests left out.
const LINES_MAX: usize = 500;
/// Files among the tests that may let time pass, and why.
const MAY_SLEEP: [(&str, &str); 2] = [
    ("tests/src/bin/hostile-load.rs", "a load, not a test: it goes on for the time asked for"),
    ("tests/bench/src/pause.rs", "a load, not a test: it sends at a rate"),
];
/// Folders with sources.
const SOURCES: [&str; 5] = ["broker", "plugin-sdk", "plugins", "tests", "wit"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below `folder`, what is built or fetched left out.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || ["target", "node_modules", "data", "corpus"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources(extensions: &[&str], folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        files(&root().join(folder), &mut found);
    }
    found.sort();
    let read = |path: PathBuf| {
        let extension = path.extension()?.to_string_lossy().into_owned();
        if !extensions.contains(&extension.as_str()) {
            return None;
        }
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        Some((name, std::fs::read_to_string(&path).unwrap()))
    };
    let sources: Vec<(String, String)> = found.into_iter().filter_map(read).collect();
    assert!(!sources.is_empty());
    sources
}

/// The part of a source file before its own tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// Whether a file holds nothing but tests.
fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.starts_with("tests/")
}

fn check(complaints: &str) {
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn source_files_stay_short() {
    let mut complaints = String::new();
    for (name, text) in sources(&["rs"], &SOURCES) {
        let lines = without_tests(&text).lines().count();
        if lines > LINES_MAX && !is_test(&name) {
            writeln!(complaints, "{name} has {lines} lines: cut it into parts").unwrap();
        }
    }
    check(&complaints);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut complaints = String::new();
    for (name, text) in sources(&["rs"], &SOURCES) {
        if !text.starts_with("//!") {
            writeln!(complaints, "{name} does not begin with what it is for").unwrap();
        }
    }
    check(&complaints);
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not find itself.
    let leftovers =
        ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!")).into_iter().chain(
            ["FIX", "XX", "TO"].into_iter().zip(["ME", "X", "DO"]).map(|(a, b)| format!("{a}{b}")),
        );
    let leftovers: Vec<String> = leftovers.collect();
    let mut complaints = String::new();
    for (name, text) in sources(&["rs", "toml", "wit"], &SOURCES) {
        for (at, line) in text.lines().enumerate() {
            let found = leftovers.iter().find(|it| line.contains(it.as_str()));
            if let Some(found) = found.filter(|_| !line.contains("XXXX")) {
                writeln!(complaints, "{name}:{}: {found}", at + 1).unwrap();
            }
        }
    }
    check(&complaints);
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    let machine = ["home", "root", "Users", "work"].map(|name| format!("/{name}/"));
    let mut complaints = String::new();
    let folders = [&SOURCES[..], &["docs"]].concat();
    for (name, text) in sources(&["rs", "toml", "wit", "md", "py", "sh", "hex"], &folders) {
        for (at, line) in text.lines().enumerate() {
            let is_path = |path: &String| {
                line.match_indices(path.as_str()).any(|(at, _)| {
                    // `network/` and the like: a path of a machine begins at its root.
                    !line[..at].ends_with(|before: char| {
                        before.is_alphanumeric() || "._-~}*".contains(before)
                    })
                })
            };
            if let Some(path) = machine.iter().find(|path| is_path(path)) {
                writeln!(complaints, "{name}:{}: {path}", at + 1).unwrap();
            }
        }
    }
    check(&complaints);
}

#[test]
fn every_limit_has_its_unit() {
    let mut complaints = String::new();
    let mut limits = 0;
    for (name, text) in sources(&["rs"], &["broker"]) {
        if !name.ends_with("/limits.rs") {
            continue;
        }
        let mut comment = String::new();
        for line in text.lines() {
            if let Some(part) = line.trim_start().strip_prefix("///") {
                comment.push_str(part);
            } else if let Some(constant) = line.trim_start().strip_prefix("pub const ") {
                limits += 1;
                let constant = constant.split(':').next().unwrap();
                let told = comment.to_lowercase();
                let has_unit = match constant {
                    it if it.contains("BYTES") => told.contains("byte"),
                    it if it.contains("_MS") => {
                        ["ms", "millisecond"].iter().any(|unit| told.contains(unit))
                    }
                    _ => !told.is_empty(),
                };
                if !has_unit {
                    writeln!(complaints, "{name}: {constant} does not say its unit").unwrap();
                }
                comment.clear();
            } else {
                comment.clear();
            }
        }
    }
    assert!(limits > 50, "only {limits} limits were found");
    check(&complaints);
}

#[test]
fn tests_do_not_sleep_and_are_not_skipped_without_a_reason() {
    // Put together here, so that this file does not find itself.
    let waits = [["sleep", "("], ["park_", "timeout"], ["yield_", "now"]].map(|it| it.concat());
    let ignored = ["#[ig", "nore]"].concat();
    let mut complaints = String::new();
    for (name, text) in sources(&["rs"], &SOURCES) {
        for (at, line) in text.lines().enumerate() {
            if line.trim() == ignored {
                writeln!(complaints, "{name}:{}: skipped without a reason", at + 1).unwrap();
            }
        }
        if MAY_SLEEP.iter().any(|(file, _)| *file == name) {
            continue;
        }
        let plain = if is_test(&name) { "" } else { without_tests(&text) };
        for (at, line) in text.lines().enumerate().skip(plain.lines().count()) {
            if waits.iter().any(|wait| line.contains(wait)) {
                writeln!(complaints, "{name}:{}: wait for an event instead", at + 1).unwrap();
            }
        }
    }
    check(&complaints);
}

#[test]
fn the_protocol_page_names_every_code_and_every_operation() {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let mut complaints = String::new();
    for code in weir_protocol::ErrorCode::ALL {
        if !page.contains(&format!("| `{}` |", code.text())) {
            writeln!(complaints, "the code `{}` is missing", code.text()).unwrap();
        }
    }
    for operation in weir_protocol::Op::ALL {
        let number = operation as u8;
        if !page.contains(&format!("| {number} | `[{number}, ")) {
            writeln!(complaints, "operation {number} ({operation:?}) is missing").unwrap();
        }
    }
    check(&complaints);
}
