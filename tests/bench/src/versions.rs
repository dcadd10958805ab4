//! What was measured with: the clients that this program is built with, and the state of
//! the tree that it was built from.

use std::collections::BTreeMap;
use std::process::Command;

/// Every crate of this program, with its version.
const LOCK: &str = include_str!("../Cargo.lock");
/// The peers' clients.
const CLIENTS: [&str; 4] = ["async-nats", "redis", "lapin", "iggy"];

/// By name, as a page tells them.
pub(crate) fn of_clients() -> BTreeMap<String, String> {
    let of_client = |name: &str| Some((format!("client {name}"), version(LOCK, name)?));
    CLIENTS.into_iter().filter_map(of_client).chain(commit()).collect()
}

/// The version of a crate in a lock file.
fn version(lock: &str, name: &str) -> Option<String> {
    let of_crate = lock.split("[[package]]").find(|part| {
        part.lines().any(|line| line.strip_prefix("name = ") == Some(&format!("\"{name}\"")))
    })?;
    let version = of_crate.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').to_owned())
}

/// Nothing where there is no repository.
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
}
