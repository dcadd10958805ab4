//! The shipped policies: their sources in `plugins/`, and the prebuilt copies that
//! the broker embeds. Each copy carries a digest of all it was built from; a copy
//! that no longer fits is stale, and a test says so.

use crate::build::{BuildError, Built, PROFILE, build_many, write_whole};
use crate::toolchain::{TARGET, WasmToolchain};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The shipped policies: each the name of a crate, of its folder in `plugins/`
/// and of its component.
pub const NAMES: [&str; 9] = [
    "at-least-once",
    "at-most-once",
    "header-filter",
    "headers-router",
    "json-filter",
    "json-router",
    "per-group",
    "split-router",
    "subject-router",
];

/// The command that refreshes the prebuilt copies.
pub const REFRESH: &str = "cargo run -p weir-toolchain --bin weir-prebuild";

/// Folders that every shipped policy is built from, besides its own.
const SHARED: [&str; 3] = ["plugins/kit", "plugin-sdk", "wit"];
/// Parts of the SDK that exist natively only.
const NATIVE_ONLY: [&str; 3] =
    ["plugin-sdk/src/test.rs", "plugin-sdk/src/test", "plugin-sdk/src/native.rs"];

/// What is recorded beside a prebuilt copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Hex SHA-256 of the component.
    pub component: String,
    /// Hex SHA-256 of everything it was built from.
    pub sources: String,
}

/// A prebuilt copy that does not fit its sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugins/prebuilt/{name}.wasm {reason}; refresh with: {REFRESH}")]
pub struct Stale {
    /// Name of the policy.
    pub name: String,
    /// What is wrong with the copy.
    pub reason: String,
}

/// Folder of the prebuilt copies.
#[must_use]
pub fn folder(root: &Path) -> PathBuf {
    root.join("plugins/prebuilt")
}

/// Checks that every prebuilt copy fits its record, and every record its sources.
/// `root` is the workspace.
///
/// # Errors
/// The copies that do not.
pub fn verify(root: &Path) -> Result<(), Vec<Stale>> {
    let records = read_records(root);
    let stale: Vec<_> = NAMES
        .iter()
        .filter_map(|&name| {
            let reason = staleness(root, name, records.get(name))?;
            Some(Stale { name: name.to_owned(), reason })
        })
        .collect();
    if stale.is_empty() { Ok(()) } else { Err(stale) }
}

fn staleness(root: &Path, name: &str, record: Option<&Record>) -> Option<String> {
    let Some(record) = record else { return Some("has no digests on record".to_owned()) };
    let component = match std::fs::read(folder(root).join(format!("{name}.wasm"))) {
        Ok(component) => component,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    if hex(&Sha256::digest(&component)) != record.component {
        return Some("is not the file that was built".to_owned());
    }
    match source_digest(root, name) {
        Ok(digest) if digest == record.sources => None,
        Ok(_) => Some("is older than its sources".to_owned()),
        Err(error) => Some(format!("has sources that cannot be read: {error}")),
    }
}

/// Builds these shipped policies from source into `out`, in one go.
///
/// # Errors
/// See [`BuildError`].
pub fn rebuild(
    root: &Path,
    names: &[&str],
    toolchain: &WasmToolchain,
    target: &Path,
    out: &Path,
) -> Result<Vec<Built>, BuildError> {
    let folders: Vec<_> = names.iter().map(|name| root.join("plugins").join(name)).collect();
    build_many(&folders, toolchain, target, out)
}

/// Rebuilds the prebuilt copies of `names` and records what they were built from.
///
/// # Errors
/// See [`BuildError`]; then nothing is recorded.
pub fn refresh(
    root: &Path,
    names: &[&str],
    toolchain: &WasmToolchain,
    target: &Path,
) -> Result<Vec<Built>, BuildError> {
    // Before the build: what is edited while it runs is in no component.
    let digest = |name: &&str| {
        source_digest(root, name)
            .map_err(|source| BuildError::File { path: root.to_owned(), source })
    };
    let sources: Vec<String> = names.iter().map(digest).collect::<Result<_, _>>()?;
    let built = rebuild(root, names, toolchain, target, &folder(root))?;
    let mut records = read_records(root);
    records.retain(|name, _| NAMES.contains(&name.as_str()));
    for (one, sources) in built.iter().zip(sources) {
        let component = hex(&Sha256::digest(&one.component));
        records.insert(one.package.clone(), Record { component, sources });
    }
    let mut text = format!("# What each component was built from. Written by `{REFRESH}`.\n");
    for (name, Record { component, sources }) in &records {
        let _ = write!(text, "\n[{name}]\ncomponent = \"{component}\"\nsources = \"{sources}\"\n");
    }
    write_whole(&folder(root).join("digests.toml"), text.as_bytes())?;
    Ok(built)
}

fn read_records(root: &Path) -> BTreeMap<String, Record> {
    let text = std::fs::read_to_string(folder(root).join("digests.toml")).unwrap_or_default();
    toml::from_str(&text).unwrap_or_default()
}

/// Hex SHA-256 over everything that the component of `name` depends on: its
/// sources, the kit's, the SDK's, the contract, the profile, the versions and
/// checksums of all crates in its part of the lock file, and what they take from the
/// workspace.
///
/// # Errors
/// When a file cannot be read.
pub fn source_digest(root: &Path, name: &str) -> std::io::Result<String> {
    let mut files = BTreeSet::new();
    for part in SHARED.iter().map(|part| root.join(part)).chain([root.join("plugins").join(name)]) {
        collect(&part, &mut files)?;
    }
    let mut hash = Sha256::new();
    let mut feed = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    feed(TARGET.as_bytes());
    PROFILE.iter().for_each(|setting| feed(setting.as_bytes()));
    for path in files {
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let relative = relative.to_string_lossy().replace('\\', "/");
        let native = NATIVE_ONLY.iter().any(|part| {
            relative.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !native {
            feed(relative.as_bytes());
            feed(&std::fs::read(&path)?);
        }
    }
    let crates = locked(root, name)?;
    let inherited = inherited(root, &crates)?;
    for line in crates.iter().chain(&inherited) {
        feed(line.as_bytes());
    }
    Ok(hex(&hash.finalize()))
}

/// All files below `part` that may be sources.
fn collect(part: &Path, files: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(part)? {
        let path = entry?.path();
        if is_left(&path) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// Whether `path` is what `weir policy build` leaves beside a `Cargo.toml`, or what an
/// editor hides: no copy is older for it.
fn is_left(path: &Path) -> bool {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else { return false };
    let is_built = name == "target" || name.ends_with(".wasm");
    name.starts_with('.') || (is_built && path.with_file_name("Cargo.toml").is_file())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The crates that `name` depends on, as the lock file has them, in order.
fn locked(root: &Path, name: &str) -> std::io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root.join("Cargo.lock"))?;
    let lock: Lock = toml::from_str(&text).map_err(std::io::Error::other)?;
    let mut lines = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(wanted) = open.pop() {
        // "name", "name version" where there are several, and "name version (source)"
        // where the version does not tell them apart: then all of them count.
        let mut parts = wanted.split(' ');
        let name = parts.next().unwrap_or_default();
        let version = parts.next();
        let fits = |one: &&Locked| one.name == name && version.is_none_or(|v| v == one.version);
        for found in lock.package.iter().filter(fits) {
            let checksum = found.checksum.as_deref().unwrap_or("");
            if lines.insert(format!("{} {} {checksum}", found.name, found.version)) {
                open.extend(found.dependencies.iter().cloned());
            }
        }
    }
    Ok(lines)
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    #[serde(default)]
    package: toml::Table,
    #[serde(default)]
    dependencies: toml::Table,
}

/// What `crates`, lines of [`locked`], take from the workspace's `Cargo.toml` and the
/// lock file does not say: the edition, and features of dependencies.
fn inherited(root: &Path, crates: &BTreeSet<String>) -> std::io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let manifest: Manifest = toml::from_str(&text).map_err(std::io::Error::other)?;
    let Workspace { package, dependencies } = manifest.workspace;
    let mut lines = BTreeSet::new();
    if let Some(edition) = package.get("edition") {
        lines.insert(format!("edition = {edition}"));
    }
    for (key, dependency) in &dependencies {
        let package = dependency.get("package").and_then(toml::Value::as_str).unwrap_or(key);
        if crates.iter().any(|line| line.split(' ').next() == Some(package)) {
            lines.insert(format!("{key} = {dependency}"));
        }
    }
    Ok(lines)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// The broker embeds these copies: they must be what the sources say.
    #[test]
    fn prebuilt_components_are_fresh() {
        if let Err(stale) = verify(&root()) {
            let lines: Vec<_> = stale.iter().map(Stale::to_string).collect();
            panic!("{}", lines.join("\n"));
        }
    }

    #[test]
    fn the_digest_depends_on_sources_and_locked_crates() {
        let one = source_digest(&root(), "at-least-once").expect("digest");
        let two = source_digest(&root(), "at-most-once").expect("digest");
        assert_ne!(one, two);
        let crates = locked(&root(), "json-router").expect("lock");
        for needed in ["weir-plugin-sdk ", "serde_json ", "wit-bindgen "] {
            assert!(crates.iter().any(|line| line.starts_with(needed)), "{needed}");
        }
    }

    #[test]
    fn a_crate_that_is_locked_with_its_source_counts() {
        let folder = tempfile::tempdir().expect("folder");
        let lock = "[[package]]\nname = \"mine\"\nversion = \"1.0.0\"\n\
            dependencies = [\"twin 2.0.0 (registry+https://one)\"]\n\
            [[package]]\nname = \"twin\"\nversion = \"2.0.0\"\nchecksum = \"aa\"\n";
        std::fs::write(folder.path().join("Cargo.lock"), lock).expect("written");
        let crates = locked(folder.path(), "mine").expect("lock");
        assert!(crates.contains("twin 2.0.0 aa"), "{crates:?}");
    }

    /// A workspace with one policy, `mine`, which depends on `json` and not on `other`.
    fn workspace(dependencies: &str) -> tempfile::TempDir {
        let lock = "[[package]]\nname = \"mine\"\nversion = \"1.0.0\"\n\
            dependencies = [\"json\"]\n\
            [[package]]\nname = \"json\"\nversion = \"1.0.0\"\nchecksum = \"aa\"\n\
            [[package]]\nname = \"other\"\nversion = \"1.0.0\"\nchecksum = \"bb\"\n";
        let manifest = format!(
            "[workspace.package]\nedition = \"2024\"\n[workspace.dependencies]\n{dependencies}"
        );
        let folder = tempfile::tempdir().expect("folder");
        let write = |path: &str, text: &str| {
            write_whole(&folder.path().join(path), text.as_bytes()).expect("written");
        };
        write("Cargo.lock", lock);
        write("Cargo.toml", &manifest);
        for source in ["plugins/mine/Cargo.toml", "plugins/mine/src/lib.rs"] {
            write(source, "");
        }
        for shared in SHARED {
            write(&format!("{shared}/src/lib.rs"), "");
        }
        folder
    }

    fn digest_of_mine(root: &Path) -> String {
        source_digest(root, "mine").expect("digest")
    }

    /// Neither the lock file nor the policy's own folder tells of them.
    #[test]
    fn features_that_the_workspace_chooses_count() {
        let digest = |dependencies: &str| digest_of_mine(workspace(dependencies).path());
        let plain = digest("json = \"1\"\nother = \"1\"\n");
        let features = "{ version = \"1\", features = [\"exact\"] }";
        assert_ne!(digest(&format!("json = {features}\nother = \"1\"\n")), plain);
        assert_eq!(digest(&format!("json = \"1\"\nother = {features}\n")), plain);
    }

    #[test]
    fn what_a_build_leaves_is_no_source() {
        let folder = workspace("");
        let before = digest_of_mine(folder.path());
        let write = |path: &str| {
            let path = folder.path().join("plugins/mine").join(path);
            write_whole(&path, b"text").expect("written");
        };
        for left in ["target/policies/a.d", "mine.wasm", "src/.lib.rs.swp"] {
            write(left);
        }
        assert_eq!(digest_of_mine(folder.path()), before);
        write("src/target/mod.rs");
        assert_ne!(digest_of_mine(folder.path()), before);
    }
}
