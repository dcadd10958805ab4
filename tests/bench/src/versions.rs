//! What was measured with: the clients that this program is built with, of which commit the
//! broker is, and the state of the tree while it is measured.

use std::collections::BTreeMap;
use std::process::Command;

/// Every crate of this program, with its version.
const LOCK: &str = include_str!("../Cargo.lock");
/// The peers' clients.
const CLIENTS: [&str; 4] = ["async-nats", "redis", "lapin", "iggy"];

/// Environment variable: the commit that the broker's program was built from. `bench.sh`
/// sets it where it has built the program.
const COMMIT: &str = "WEIR_BENCH_COMMIT";

/// By name, as a page tells them.
pub(crate) fn of_run() -> BTreeMap<String, String> {
    let of_client = |name: &str| Some((format!("client {name}"), version(LOCK, name)?));
    let commits = commit().into_iter().chain([of_broker(std::env::var(COMMIT).ok())]);
    CLIENTS.into_iter().filter_map(of_client).chain(commits).collect()
}

/// The version of a crate in a lock file.
fn version(lock: &str, name: &str) -> Option<String> {
    let of_crate = lock.split("[[package]]").find(|part| {
        part.lines().any(|line| line.strip_prefix("name = ") == Some(&format!("\"{name}\"")))
    })?;
    let version = of_crate.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').to_owned())
}

/// The broker's commit, which only whoever built the program can tell: it may be of another
/// tree, or this tree may have gone on since.
fn of_broker(told: Option<String>) -> (String, String) {
    let commit = told.filter(|it| !it.is_empty()).unwrap_or_else(|| "not known".to_owned());
    ("the broker's commit".to_owned(), commit)
}

/// The tree's, which says nothing of the program. Nothing where there is no repository.
fn commit() -> Option<(String, String)> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then(|| ("the tree's commit".to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_version() {
        for name in CLIENTS {
            assert!(version(LOCK, name).is_some_and(|it| it.contains('.')), "{name}");
        }
        assert_eq!(version(LOCK, "none"), None);
    }

    #[test]
    fn the_tree_does_not_stand_for_the_broker() {
        let told = |commit: Option<&str>| of_broker(commit.map(str::to_owned)).1;
        assert_eq!(told(Some("a3c372c-dirty")), "a3c372c-dirty");
        assert_eq!(told(None), "not known");
        assert_eq!(told(Some("")), "not known");
    }
}
